//! Operators: operands that cannot be compared, and operands that must be single values.

use std::collections::BTreeSet;

use super::ExpressionChecker;
use super::items::{Items, ValueKind};
use crate::definitions::TypeKind;
use crate::deid::error::DeidRemarkCode;
use crate::deid::fhirpath::{Expr, Operator};
use crate::deid::plan::TypedElement;
use crate::deid::tools::lint::{error, warning};

impl ExpressionChecker<'_, '_> {
    /// Checks the operands of an operator.
    pub(super) fn check_operator(&mut self, operator: Operator, left: &Expr, right: &Expr, this: &Items) -> Items {
        if operator == Operator::Union {
            return self.check(left, this).and(self.check(right, this)).several();
        }
        let operands = (left, right);
        let (left, right) = (self.check_argument(left, this), self.check_argument(right, this));
        match operator {
            Operator::In => self.expect_single(&left),
            Operator::Contains => self.expect_single(&right),
            Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::Concatenate
            | Operator::Arithmetic(_) => [&left, &right].into_iter().for_each(|operand| self.expect_single(operand)),
            Operator::Logic(_)
            | Operator::Equal
            | Operator::NotEqual
            | Operator::Equivalent
            | Operator::NotEquivalent
            | Operator::Union => {}
        }
        let outer = std::mem::replace(&mut self.is_in_condition, true);
        let result = match operator {
            Operator::Equal | Operator::Equivalent | Operator::In | Operator::Contains => {
                if let Some((left, right)) = self.incompatible(&left, &right) {
                    let reason = format!("a condition compares {left} with {right}, so it is never true");
                    self.report(error(DeidRemarkCode::Condition, reason, "compare values of the same type, and write dates with @"));
                }
                Items::of_kind(ValueKind::Boolean)
            }
            Operator::NotEqual | Operator::NotEquivalent => {
                if let Some((left, right)) = self.incompatible(&left, &right) {
                    let reason = format!("a condition compares {left} with {right}, so it is true whenever both exist");
                    self.report(error(DeidRemarkCode::Condition, reason, "compare values of the same type, and write dates with @"));
                }
                Items::of_kind(ValueKind::Boolean)
            }
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                if let Some((left, right)) = self.incompatible(&left, &right) {
                    let reason = format!("a condition compares {left} with {right}; resources with both fail");
                    self.report(warning(DeidRemarkCode::MayFail, reason, "compare values of the same type, and write dates with @"));
                }
                Items::of_kind(ValueKind::Boolean)
            }
            Operator::Logic(_) => Items::of_kind(ValueKind::Boolean),
            Operator::Concatenate => Items::of_kind(ValueKind::Text),
            Operator::Arithmetic(_) => {
                let (left_samples, right_samples) = (self.samples(operands.0, &left), self.samples(operands.1, &right));
                let with_left = |left: &Expr| {
                    let binary = |right: &Expr| Expr::Binary(operator, left.clone().into(), right.clone().into());
                    right_samples.iter().map(binary).collect::<Vec<_>>()
                };
                self.report_failure(left_samples.iter().flat_map(with_left).collect());
                let kinds = self.kinds(&left);
                Items { values: kinds.unwrap_or_default(), ..Items::default() }
            }
            Operator::Union => Items::open(),
        };
        self.is_in_condition = outer;
        result
    }

    /// Returns the descriptions of two operands if no value of one can be compared with one of the other.
    fn incompatible(&self, left: &Items, right: &Items) -> Option<(&'static str, &'static str)> {
        let (left, right) = (self.kinds(left)?, self.kinds(right)?);
        let is_complex = |kinds: &BTreeSet<ValueKind>| kinds.contains(&ValueKind::Complex);
        // Elements with members are equal if their members are.
        let can_be = left.intersection(&right).next().is_some() || (is_complex(&left) && is_complex(&right));
        if can_be { None } else { Some((left.first()?.as_str(), right.first()?.as_str())) }
    }

    /// Returns the kinds of values that items can have, or `None` if they are unknown.
    pub(super) fn kinds(&self, items: &Items) -> Option<BTreeSet<ValueKind>> {
        if items.is_unknown() {
            return None;
        }
        let of_elements = items.elements.iter().map(|element| self.kind_of_element(element));
        Some(of_elements.chain(items.values.iter().copied()).collect())
    }

    /// Returns the kind of an element's value.
    fn kind_of_element(&self, element: &TypedElement) -> ValueKind {
        match self.linter.type_name(element.definition) {
            "boolean" => ValueKind::Boolean,
            "integer" | "positiveInt" | "unsignedInt" | "integer64" | "decimal" | "Quantity" => ValueKind::Number,
            "date" | "dateTime" | "instant" => ValueKind::Date,
            "time" => ValueKind::Time,
            _ if self.linter.kind(element.definition) == TypeKind::Primitive => ValueKind::Text,
            _ => ValueKind::Complex,
        }
    }
}
