//! Conditions about a code of the resource itself, which can be decided before the resource is de-identified.

use super::functions::Function;
use super::{Expr, Operator, Value};
use crate::json::JsonValue;

/// A condition such as `status in ('planned' | 'arrived')` or `status = 'planned'`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) struct CodeCondition {
    element: Box<str>,
    codes: Vec<Box<str>>,
}

impl CodeCondition {
    /// Returns the condition of a path `where(…)` that selects all elements behind it if the condition is true, and otherwise none; `None` for any
    /// other path.
    pub(in crate::deid) fn from_path(path: &Expr) -> Option<Self> {
        match path {
            Expr::Call(focus, Function::Where, arguments) if **focus == Expr::This => Self::from_condition(arguments.first()?),
            Expr::Member(focus, _)
            | Expr::OfType(focus, _)
            | Expr::Call(focus, Function::Children | Function::NodesByType(_) | Function::NodesByName(_), _) => Self::from_path(focus),
            Expr::This
            | Expr::Index
            | Expr::Total
            | Expr::Resource
            | Expr::RootResource
            | Expr::Empty
            | Expr::Literal(_)
            | Expr::Call(..)
            | Expr::Indexer(..)
            | Expr::Is(..)
            | Expr::Negate(_)
            | Expr::Binary(..) => None,
        }
    }

    /// Parses the condition.
    fn from_condition(condition: &Expr) -> Option<Self> {
        let Expr::Binary(operator, left, right) = condition else { return None };
        let Expr::Member(focus, element) = &**left else { return None };
        // A list of several codes equals no single one.
        let is_equal = *operator == Operator::Equal && matches!(**right, Expr::Literal(_));
        if **focus != Expr::This || !(is_equal || *operator == Operator::In) {
            return None;
        }
        let mut codes = Vec::new();
        collect_codes(right, &mut codes)?;
        Some(Self { element: element.clone(), codes })
    }

    /// Returns the name of the element with the code.
    pub(in crate::deid) fn element(&self) -> &str {
        &self.element
    }

    /// Returns true if the condition is true for a resource, which `resource` begins with. Returns `None` if the member is no string.
    pub(in crate::deid) fn is_true(&self, resource: JsonValue<'_>) -> Option<bool> {
        let Some(value) = resource.member(&self.element) else { return Some(false) };
        let text = value.text()?;
        Some(self.codes.iter().any(|code| **code == *text.trim()))
    }
}

/// Collects the strings of a union; `None` if it contains anything else.
fn collect_codes(expr: &Expr, codes: &mut Vec<Box<str>>) -> Option<()> {
    match expr {
        Expr::Literal(Value::String(code)) => codes.push(Box::from(&**code)),
        Expr::Binary(Operator::Union, left, right) => {
            collect_codes(left, codes)?;
            collect_codes(right, codes)?;
        }
        Expr::This
        | Expr::Index
        | Expr::Total
        | Expr::Resource
        | Expr::RootResource
        | Expr::Empty
        | Expr::Literal(_)
        | Expr::Member(..)
        | Expr::Call(..)
        | Expr::Indexer(..)
        | Expr::Is(..)
        | Expr::OfType(..)
        | Expr::Negate(_)
        | Expr::Binary(..) => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn a_condition_about_a_code_is_decided_by_its_text() {
        let resource = |status: &str| format!(r#"{{"resourceType":"Encounter","period":{{"status":"planned"}}{status}}}"#);
        let path = parse("where(status in ('planned' | 'arrived')).nodesByType('dateTime')").unwrap();
        let condition = CodeCondition::from_path(&path).unwrap();
        for (status, expected) in [
            (r#","status":"planned""#, Some(true)),
            (r#","status":" arrived\n""#, Some(true)),
            (r#","status":"pl\u0061nned""#, Some(true)),
            (r#","status":"finished""#, Some(false)),
            ("", Some(false)),
            (r#","status":["planned"]"#, None),
            (r#","status":null"#, None),
        ] {
            assert_eq!(condition.is_true(JsonValue::from_valid(&resource(status))), expected, "{status}");
        }
    }

    #[test]
    fn a_condition_about_anything_else_is_left_to_the_tree() {
        for (path, is_decidable) in [
            ("where(status = 'planned').period.start", true),
            ("where('planned' = status)", false),
            ("where(status = ('planned' | 'arrived'))", false),
            ("where(status in ('planned' | 1))", false),
            ("where(status in ('planned' | code))", false),
            ("where(status != 'planned')", false),
            ("where(period.status = 'planned')", false),
            ("where(status in ('planned')).period.where(end.exists()).start", false),
            ("where(status in ('planned')).period.first()", false),
            ("where(status in ('planned')).period | participant", false),
            ("period.where(status in ('planned'))", false),
            ("period", false),
        ] {
            assert_eq!(CodeCondition::from_path(&parse(path).unwrap()).is_some(), is_decidable, "{path}");
        }
    }
}
