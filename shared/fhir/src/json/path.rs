//! Where in a resource a table points to: `participant[].actor<Patient>`, `telecom[?system=email].value`, `entry[0]`.

use crate::json::Json;

/// A path of member names from a resource's root, compiled.
///
/// Arrays and single values are walked alike. `[0]` takes the first item only, `[?name=word]` the items whose member
/// `name` is that string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
    /// `<Patient>` at the end: only references to this type count.
    pub target: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    name: &'static str,
    takes: Takes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Each,
    First,
    Where(&'static str, &'static str),
}

impl Path {
    /// Reads a path as the tables write it; the empty one is the resource itself.
    pub fn parse(text: &'static str) -> Self {
        let (text, target) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
            Some((text, target)) => (text, Some(target)),
            None => (text, None),
        };
        let mut is_within = false;
        // A dot within brackets is part of a word.
        let at_dots = |c: char| {
            is_within = (is_within || c == '[') && c != ']';
            c == '.' && !is_within
        };
        let steps = text.split(at_dots).filter(|step| !step.is_empty()).map(|step| {
            let (name, rest) = step.split_once('[').unwrap_or((step, ""));
            let takes = match rest.trim_end_matches(']') {
                "0" => Takes::First,
                inner => match inner.strip_prefix('?').and_then(|test| test.split_once('=')) {
                    Some((name, word)) => Takes::Where(name, word),
                    None => Takes::Each,
                },
            };
            Step { name, takes }
        });
        Self { steps: steps.collect(), target }
    }

    /// The root member that it begins with; `None` for the resource itself.
    pub fn root(&self) -> Option<&'static str> {
        self.steps.first().map(|step| step.name)
    }

    /// Gives every value that the path leads to from `base` to `visit`, until that says `true`; whether it did.
    pub fn any<'a>(&self, base: Json<'a>, visit: &mut impl FnMut(Json<'a>) -> bool) -> bool {
        walk(&self.steps, base, visit)
    }

    /// Like [`Self::any`], from the value (or values) of the root member on.
    pub fn any_below_root<'a>(&self, root: Json<'a>, visit: &mut impl FnMut(Json<'a>) -> bool) -> bool {
        match self.steps.split_first() {
            Some((first, rest)) => enter(first, rest, root, visit),
            None => visit(root),
        }
    }
}

fn walk<'a>(steps: &[Step], base: Json<'a>, visit: &mut impl FnMut(Json<'a>) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else { return visit(base) };
    base.member(step.name).is_some_and(|value| enter(step, rest, value, visit))
}

fn enter<'a>(step: &Step, rest: &[Step], value: Json<'a>, visit: &mut impl FnMut(Json<'a>) -> bool) -> bool {
    let mut items = value.items();
    match step.takes {
        Takes::Each => items.any(|item| walk(rest, item, visit)),
        Takes::First => items.next().is_some_and(|item| walk(rest, item, visit)),
        Takes::Where(name, word) => items.any(|item| {
            let is_so = item.member(name).and_then(Json::text).is_some_and(|text| text == word);
            is_so && walk(rest, item, visit)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &'static str) -> Vec<&'static str> {
        let line = r#"{"a":{"b":[{"c":1},{"c":[2,3]},{"d":9}]},"telecom":[{"system":"phone","value":"1"},{"system":"email","value":"2"}]}"#;
        let mut values = Vec::new();
        Path::parse(path).any(Json::of_valid(line), &mut |value| {
            values.push(value.as_str());
            false
        });
        values
    }

    #[test]
    fn a_path_leads_to_every_value_that_it_names() {
        assert_eq!(found("a.b[].c"), ["1", "2", "3"]);
        assert_eq!(found("a.b[0].c"), ["1"]);
        assert_eq!(found("telecom[?system=email].value"), ["\"2\""]);
        assert_eq!(found("a.x.c"), Vec::<&str>::new());
        assert_eq!(found("").len(), 1);
    }

    #[test]
    fn a_dot_within_brackets_is_part_of_a_word() {
        let path = Path::parse("extension[?url=http://hl7.org/fhir/x].valueString");
        assert_eq!((path.root(), path.steps.len()), (Some("extension"), 2));
        assert_eq!(path.steps[0].takes, Takes::Where("url", "http://hl7.org/fhir/x"));
    }

    #[test]
    fn a_target_is_no_step() {
        let path = Path::parse("participant[].actor<Patient>");
        assert_eq!((path.root(), path.target, path.steps.len()), (Some("participant"), Some("Patient"), 2));
    }
}
