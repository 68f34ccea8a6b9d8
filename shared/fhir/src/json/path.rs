//! Paths to elements of a resource: `participant[].actor<Patient>`, `telecom[?system=email].value`, `entry[0]`.

use crate::json::JsonValue;

/// A compiled path of member names that starts at the root of a resource.
///
/// An array and a single value are treated alike. `[0]` selects only the first item, `[?name=word]` the items whose member
/// `name` is that string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementPath {
    steps: Vec<Step>,
    /// The type of `<Patient>` at the end: only references to this type match.
    pub target_type: Option<&'static str>,
}

/// A member name of a path, with the items that the path selects in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    name: &'static str,
    filter: ItemFilter,
}

/// The items of an array that a step selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemFilter {
    All,
    First,
    /// Items whose member of this name is this string.
    MemberEquals(&'static str, &'static str),
}

impl ElementPath {
    /// Parses a path in the notation of the definition files. The empty path is the resource itself.
    pub fn parse(text: &'static str) -> Self {
        let (text, target_type) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
            Some((text, target_type)) => (text, Some(target_type)),
            None => (text, None),
        };
        let mut is_in_brackets = false;
        // A dot within brackets belongs to a value such as a URL.
        let at_dots = |c: char| {
            is_in_brackets = (is_in_brackets || c == '[') && c != ']';
            c == '.' && !is_in_brackets
        };
        let steps = text.split(at_dots).filter(|step| !step.is_empty()).map(|step| {
            let (name, rest) = step.split_once('[').unwrap_or((step, ""));
            let filter = match rest.trim_end_matches(']') {
                "0" => ItemFilter::First,
                condition => match condition.strip_prefix('?').and_then(|condition| condition.split_once('=')) {
                    Some((name, value)) => ItemFilter::MemberEquals(name, value),
                    None => ItemFilter::All,
                },
            };
            Step { name, filter }
        });
        Self { steps: steps.collect(), target_type }
    }

    /// Returns the name of the root member that the path starts with; `None` for the resource itself.
    pub fn root(&self) -> Option<&'static str> {
        self.steps.first().map(|step| step.name)
    }

    /// Passes every value that the path selects from `base` to `visit`, until `visit` returns true. Returns true if it did.
    pub fn visit<'a>(&self, base: JsonValue<'a>, visit: &mut impl FnMut(JsonValue<'a>) -> bool) -> bool {
        visit_steps(&self.steps, base, visit)
    }

    /// Visits values like [`Self::visit`], but starts from the value of the root member.
    pub fn visit_below_root<'a>(&self, root: JsonValue<'a>, visit: &mut impl FnMut(JsonValue<'a>) -> bool) -> bool {
        match self.steps.split_first() {
            Some((first, rest)) => visit_items(first, rest, root, visit),
            None => visit(root),
        }
    }
}

/// Follows `steps` from the object `base`.
fn visit_steps<'a>(steps: &[Step], base: JsonValue<'a>, visit: &mut impl FnMut(JsonValue<'a>) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else { return visit(base) };
    base.member(step.name).is_some_and(|value| visit_items(step, rest, value, visit))
}

/// Follows the steps of `rest` from those items of `value` that `step` selects.
fn visit_items<'a>(step: &Step, rest: &[Step], value: JsonValue<'a>, visit: &mut impl FnMut(JsonValue<'a>) -> bool) -> bool {
    let mut items = value.items();
    match step.filter {
        ItemFilter::All => items.any(|item| visit_steps(rest, item, visit)),
        ItemFilter::First => items.next().is_some_and(|item| visit_steps(rest, item, visit)),
        ItemFilter::MemberEquals(name, expected) => items.any(|item| {
            let is_equal = item.member(name).and_then(JsonValue::text).is_some_and(|text| text == expected);
            is_equal && visit_steps(rest, item, visit)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the JSON of the values that a path selects from a sample object.
    fn select(path: &'static str) -> Vec<&'static str> {
        let line = r#"{"a":{"b":[{"c":1},{"c":[2,3]},{"d":9}]},"telecom":[{"system":"phone","value":"1"},{"system":"email","value":"2"}]}"#;
        let mut values = Vec::new();
        ElementPath::parse(path).visit(JsonValue::from_valid(line), &mut |value| {
            values.push(value.as_str());
            false
        });
        values
    }

    #[test]
    fn a_path_selects_every_matching_value() {
        assert_eq!(select("a.b[].c"), ["1", "2", "3"]);
        assert_eq!(select("a.b[0].c"), ["1"]);
        assert_eq!(select("telecom[?system=email].value"), ["\"2\""]);
        assert_eq!(select("a.x.c"), Vec::<&str>::new());
        assert_eq!(select("").len(), 1);
    }

    #[test]
    fn a_dot_within_brackets_does_not_end_a_step() {
        let path = ElementPath::parse("extension[?url=http://hl7.org/fhir/x].valueString");
        assert_eq!((path.root(), path.steps.len()), (Some("extension"), 2));
        assert_eq!(path.steps[0].filter, ItemFilter::MemberEquals("url", "http://hl7.org/fhir/x"));
    }

    #[test]
    fn a_target_type_is_not_a_step() {
        let path = ElementPath::parse("participant[].actor<Patient>");
        assert_eq!((path.root(), path.target_type, path.steps.len()), (Some("participant"), Some("Patient"), 2));
    }
}
