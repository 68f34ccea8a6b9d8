//! Checks of the expressions in conditions and cases against the types of the elements that they use.

mod functions;
mod items;
mod names;
mod operators;
mod remarks;

use super::constants::{integer, is_constant};
use super::{ConfigLinter, error};
use crate::definitions::TypeKind;
use crate::deid::config::{Method, Rule, RuleTarget};
use crate::deid::error::{DeidRemark, DeidRemarkCode};
use crate::deid::fhirpath::{Expr, Function};
use crate::deid::plan::TypedElement;
use items::{Items, ValueKind, kind_of_value};

/// A checker of the expressions of one rule.
struct ExpressionChecker<'l, 'c> {
    linter: &'l ConfigLinter<'c>,
    root: Items,
    /// True in conditions and arguments. The path outside of them is checked by what it selects.
    is_in_condition: bool,
    /// True in the argument of `aggregate()`, where `$total` has a value.
    is_in_aggregate: bool,
    remarks: Vec<DeidRemark>,
}

impl ConfigLinter<'_> {
    /// Returns the remarks about the conditions in a rule's path, and about the cases of `generalize`.
    pub(super) fn expression_remarks(&self, rule: &Rule) -> Vec<DeidRemark> {
        let is_root = |name: &str| rule.resource_type.as_deref().is_none_or(|own_type| own_type == name);
        let roots = self.resource_definitions().map(|definition| TypedElement { definition, name: self.type_name(definition) });
        let root = Items::of_elements(roots.filter(|root| is_root(root.name)));
        let mut checker =
            ExpressionChecker { linter: self, root: root.clone(), is_in_condition: false, is_in_aggregate: false, remarks: Vec::new() };
        if let RuleTarget::Expression(expr) = &rule.target {
            checker.check(expr, &root);
        }
        if let Method::Generalize(settings) = &rule.method {
            checker.is_in_condition = true;
            let this = Items::of_elements(
                self.selected_elements(rule).into_iter().filter(|element| self.kind(element.definition) == TypeKind::Primitive),
            );
            for (condition, value) in &settings.cases {
                checker.check(condition, &this);
                let value = checker.check(value, &this);
                checker.expect_single(&value);
            }
        }
        checker.remarks.dedup();
        checker.remarks
    }
}

impl ExpressionChecker<'_, '_> {
    /// Checks an expression and returns what it can yield.
    fn check(&mut self, expr: &Expr, this: &Items) -> Items {
        match expr {
            Expr::This => this.clone(),
            Expr::Index => Items::of_kind(ValueKind::Number),
            Expr::Total => {
                if !self.is_in_aggregate {
                    let reason = "`$total` has a value only in aggregate(), so that the expression never has a result";
                    self.report_always(error(DeidRemarkCode::Condition, reason, "use count(), or aggregate()"));
                }
                Items::open()
            }
            Expr::RootResource => Items::open(),
            Expr::Resource => self.root.clone(),
            Expr::Empty => Items::default(),
            Expr::Literal(value) => Items::of_kind(kind_of_value(value)),
            Expr::Member(focus, name) if name.starts_with(|c: char| c.is_ascii_uppercase()) => self.check_type_filter(focus, name, this),
            Expr::Member(focus, name) => {
                let focus = self.check(focus, this);
                self.check_member(&focus, name)
            }
            Expr::OfType(focus, name) => self.check_type_filter(focus, name, this),
            Expr::Is(focus, name) => {
                let tested = self.check_type_filter(focus, name, this);
                self.expect_single(&tested);
                Items::of_kind(ValueKind::Boolean)
            }
            Expr::Indexer(focus, index) => {
                self.check_operand(index, this);
                let items = self.check(focus, this);
                if let Some(number) = integer(index).filter(|number| *number != 0) {
                    self.expect_several(&items, &format!("[{number}]"));
                }
                items.single()
            }
            Expr::Negate(operand) => {
                let items = self.check_operand(operand, this);
                let negated = self.samples(operand, &items).into_iter().map(|sample| Expr::Negate(sample.into()));
                self.report_failure(negated.collect());
                items
            }
            Expr::Binary(operator, left, right) => self.check_operator(*operator, left, right, this),
            Expr::Call(focus, function, arguments) => {
                let items = self.check(focus, this);
                if *function == Function::Exclude && arguments.first().is_some_and(|argument| is_same_path(focus, argument)) {
                    let reason = "`exclude()` of the same elements selects nothing; the expression never has a result";
                    self.report_always(error(DeidRemarkCode::Condition, reason, "name the elements that remain"));
                }
                if matches!(function, Function::OnValue(_)) && arguments.iter().all(|argument| is_constant(argument, true)) {
                    let samples = self.samples(focus, &items).into_iter();
                    let calls = samples.map(|sample| Expr::Call(sample.into(), function.clone(), arguments.clone()));
                    self.report_failure(calls.collect());
                }
                self.check_call(items, function, arguments, this)
            }
        }
    }

    /// Checks an argument or an operand. It yields a value, so its names are checked like those of a condition.
    fn check_argument(&mut self, expr: &Expr, this: &Items) -> Items {
        let outer = std::mem::replace(&mut self.is_in_condition, true);
        let items = self.check(expr, this);
        self.is_in_condition = outer;
        items
    }

    /// Checks an argument or operand that must be a single value.
    fn check_operand(&mut self, expr: &Expr, this: &Items) -> Items {
        let items = self.check_argument(expr, this);
        self.expect_single(&items);
        items
    }
}

/// Returns true if two expressions are the same path from `$this`. One can begin with the type of the resource.
fn is_same_path(left: &Expr, right: &Expr) -> bool {
    match (left, right) {
        (Expr::Member(left, left_name), Expr::Member(right, right_name)) if left_name == right_name => is_same_path(left, right),
        (left, right) => is_start(left) && is_start(right),
    }
}

/// Returns true for `$this`, also with the name of a type.
fn is_start(expr: &Expr) -> bool {
    let is_type = |name: &str| name.starts_with(|c: char| c.is_ascii_uppercase());
    matches!(expr, Expr::This) || matches!(expr, Expr::Member(focus, name) if is_type(name) && **focus == Expr::This)
}
