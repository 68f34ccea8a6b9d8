//! Remarks about expressions: those that fail, and conditions that are never true, or always.

use super::ExpressionChecker;
use super::items::{Items, ValueKind};
use crate::deid::error::{DeidRemark, DeidRemarkCode};
use crate::deid::fhirpath::{Expr, Value, parse};
use crate::deid::plan::TypedElement;
use crate::deid::tools::lint::constants::{ConstantResult, constant_result, is_constant, is_valid_constant, type_failure};
use crate::deid::tools::lint::{error, warning};

impl ExpressionChecker<'_, '_> {
    /// Adds a remark if the expression is a condition or part of one.
    pub(super) fn report(&mut self, remark: DeidRemark) {
        if self.is_in_condition && !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    /// Reports an expression that fails for values of any type that it can have.
    pub(super) fn report_failure(&mut self, candidates: Vec<Expr>) {
        let Some(failure) = type_failure(candidates) else { return };
        let outer = std::mem::replace(&mut self.is_in_condition, true);
        let reason = format!("an expression {failure}; it fails for each resource with values");
        self.report(error(DeidRemarkCode::MayFail, reason, "use values of other types; write units of time as in `90 years`"));
        self.is_in_condition = outer;
    }

    /// Reports a condition that is never true, or always.
    pub(super) fn report_constant_condition(&mut self, condition: &Expr) {
        let remark = match constant_result(condition) {
            ConstantResult::True => warning(DeidRemarkCode::Condition, "a condition is always true", "leave it out"),
            ConstantResult::False | ConstantResult::Unknown | ConstantResult::NeverTrue => {
                error(DeidRemarkCode::Condition, "a condition is never true", "remove it, or compare elements of the resource")
            }
            ConstantResult::Varies => return,
        };
        self.report_always(remark);
    }

    /// Adds a remark, also about the path outside of conditions.
    pub(super) fn report_always(&mut self, remark: DeidRemark) {
        let outer = std::mem::replace(&mut self.is_in_condition, true);
        self.report(remark);
        self.is_in_condition = outer;
    }

    /// Reports a selection among items of which a resource has one at most.
    ///
    /// * `part`: what is selected, such as `tail()`.
    pub(super) fn expect_several(&mut self, items: &Items, part: &str) {
        // A resource can have several extensions with one URL.
        let is_extension = |element: &TypedElement| self.linter.type_name(element.definition) == "Extension";
        let Some(element) = items.elements.first().filter(|_| !items.is_many && !items.is_open) else { return };
        if items.elements.iter().any(is_extension) {
            return;
        }
        let reason =
            format!("`{part}` selects nothing, because there is one `{}` at most; the expression never has a result", element.name);
        self.report_always(error(DeidRemarkCode::Condition, reason, "remove it, or select the element itself"));
    }

    /// Reports items of which a resource can have several where a single value is needed.
    pub(super) fn expect_single(&mut self, items: &Items) {
        if !items.is_many || items.is_unknown() {
            return;
        }
        let name = items.elements.first().map(|element| format!(" of `{}`", element.name)).unwrap_or_default();
        let reason = format!("an expression needs a single value{name}, and a resource can have several; resources with several fail");
        let outer = std::mem::replace(&mut self.is_in_condition, true);
        self.report(warning(DeidRemarkCode::MayFail, reason, "test each value with exists(), or select one with first()"));
        self.is_in_condition = outer;
    }

    /// Checks a condition of items, which should be a boolean or tell whether elements exist.
    pub(super) fn check_condition(&mut self, condition: &Expr, items: &Items) {
        let result = self.check_argument(condition, items);
        let is_literal = matches!(condition, Expr::Literal(value) if !matches!(value, Value::Boolean(_)));
        if is_literal || (!result.is_unknown() && result.elements.is_empty() && !result.values.contains(&ValueKind::Boolean)) {
            let outer = std::mem::replace(&mut self.is_in_condition, true);
            let reason = "a condition is a value that is not a boolean; it counts as true whenever it has a result";
            self.report(warning(DeidRemarkCode::Condition, reason, "compare the value, or use exists()"));
            self.is_in_condition = outer;
        } else {
            self.report_constant_condition(condition);
        }
    }

    /// Returns expressions with a value of each type that an expression can yield. Returns none if that is unknown, or if the expression
    /// itself fails.
    pub(super) fn samples(&self, expr: &Expr, items: &Items) -> Vec<Expr> {
        if is_constant(expr, true) {
            return if is_valid_constant(expr) { vec![expr.clone()] } else { Vec::new() };
        }
        let kinds = self.kinds(items).filter(|kinds| !kinds.contains(&ValueKind::Complex)).unwrap_or_default();
        kinds.iter().flat_map(|kind| kind.samples()).filter_map(|sample| parse(sample).ok()).collect()
    }
}
