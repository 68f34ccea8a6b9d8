//! Comparison of JSON values by their content, whatever their formatting.

use std::borrow::Cow;

use super::{JsonType, JsonValue};

impl JsonValue<'_> {
    /// Returns true if both values have the same content. White space, the order of members and escapes do not count. The digits of numbers do, because
    /// `1.0` and `1.00` differ in precision.
    pub(crate) fn is_equivalent_to(self, other: JsonValue<'_>) -> bool {
        if self.json_type() != other.json_type() {
            return false;
        }
        match self.json_type() {
            JsonType::Object => have_same_members(self, other),
            JsonType::Array => have_same_items(self, other),
            JsonType::String => self.0 == other.0 || have_same_text(self, other),
            JsonType::Number | JsonType::Boolean | JsonType::Null => self.0 == other.0,
        }
    }
}

/// Returns true if two objects have the same members in any order.
fn have_same_members(left: JsonValue<'_>, right: JsonValue<'_>) -> bool {
    let (left, right) = (sorted_members(left), sorted_members(right));
    let is_same =
        |((left_name, left), (right_name, right)): (&Member<'_>, &Member<'_>)| left_name == right_name && left.is_equivalent_to(*right);
    left.len() == right.len() && left.iter().zip(&right).all(is_same)
}

/// A member with its unescaped name.
type Member<'a> = (Cow<'a, str>, JsonValue<'a>);

/// Returns the members of an object, sorted by their names.
fn sorted_members(object: JsonValue<'_>) -> Vec<Member<'_>> {
    let mut members: Vec<_> = object.members().collect();
    members.sort_by(|(left, _), (right, _)| left.cmp(right));
    members
}

/// Returns true if two arrays have the same items in the same order.
fn have_same_items(left: JsonValue<'_>, right: JsonValue<'_>) -> bool {
    let (left, right): (Vec<_>, Vec<_>) = (left.items().collect(), right.items().collect());
    left.len() == right.len() && left.iter().zip(&right).all(|(left, right)| left.is_equivalent_to(*right))
}

/// Returns true if two strings are the same without their escapes. A string with half of a surrogate pair has no text.
fn have_same_text(left: JsonValue<'_>, right: JsonValue<'_>) -> bool {
    left.text().zip(right.text()).is_some_and(|(left, right)| left == right)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares two texts in both directions.
    fn is_same(left: &str, right: &str) -> bool {
        let [left, right] = [left, right].map(JsonValue::from_valid);
        let is_same = left.is_equivalent_to(right);
        assert_eq!(right.is_equivalent_to(left), is_same);
        is_same
    }

    #[test]
    fn formatting_is_no_difference() {
        for (left, right) in [
            (r#"{"a":1,"b":[true,null,{}]}"#, " { \"b\" : [ true ,\n null , { } ] ,\t\"a\" : 1 } "),
            (r#"{"a":"é/\""}"#, r#"{"\u0061":"\u00e9\/\u0022"}"#),
            (r#"["\ud83d\ude00","\ud800"]"#, r#"["😀" , "\ud800"]"#),
            (r#"{"a":[[1.50,1E2]],"b":{"c":"","d":false}}"#, r#"{"b":{"d":false,"c":""},"a":[ [1.50,1E2] ]}"#),
        ] {
            assert!(is_same(left, right), "{left} {right}");
        }
    }

    #[test]
    fn everything_else_is_a_difference() {
        for (left, right) in [
            (r#"{"a":1}"#, r#"{"a":2}"#),
            (r#"{"a":1.0}"#, r#"{"a":1.00}"#),
            (r#"{"a":"1"}"#, r#"{"a":1}"#),
            (r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
            (r#"{"a":1}"#, r#"{"b":1}"#),
            (r#"{"a":1,"a":1}"#, r#"{"a":1,"b":1}"#),
            ("[1,2]", "[2,1]"),
            ("[1]", "[1,1]"),
            ("[1]", "1"),
            (r#"{"a":{"b":"x "}}"#, r#"{"a":{"b":"x"}}"#),
            (r#""\ud800""#, r#""\ud801""#),
            ("null", "{}"),
            ("true", "false"),
        ] {
            assert!(!is_same(left, right), "{left} {right}");
        }
    }
}
