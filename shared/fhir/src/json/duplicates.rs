//! The search for a member that occurs twice in one object.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{is_whitespace, string_length, unescape_name};

/// A member whose object already has one with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DuplicateMember<'a> {
    /// The offset of the second occurrence in the text.
    pub(crate) offset: usize,
    /// The unescaped name.
    pub(crate) name: Cow<'a, str>,
}

/// Returns the first duplicate member at any depth of a valid JSON text. Names are compared unescaped.
///
/// FHIR demands unique names (R5, "JSON Representation of Resources"). Parsers disagree about other objects: some take the first
/// member, most the last. A filter and a client could then see different values.
pub(crate) fn duplicate_member(text: &str) -> Option<DuplicateMember<'_>> {
    // The names of every open container. The set of an array stays empty, which allocates nothing.
    let mut open: Vec<HashSet<Cow<'_, str>>> = Vec::new();
    let mut position = 0;
    while let Some(byte) = text.as_bytes().get(position) {
        match byte {
            b'"' => {
                let end = position + string_length(text.as_bytes().get(position..)?)?;
                let is_name = text.get(end..)?.trim_start_matches(is_whitespace).starts_with(':');
                if is_name {
                    let (names, name) = (open.last_mut()?, unescape_name(text.get(position + 1..end - 1)?));
                    if names.contains(&name) {
                        return Some(DuplicateMember { offset: position, name });
                    }
                    names.insert(name);
                }
                position = end;
                continue;
            }
            b'{' | b'[' => open.push(HashSet::new()),
            b'}' | b']' => drop(open.pop()),
            _ => {}
        }
        position += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_member_of_the_same_name_is_found_at_any_depth() {
        for (text, duplicate) in [
            (r#"{"a":1,"b":{"a":[{"a":2},{"a":"\"a\":"}]},"c":"a"}"#, None),
            (r#"{"a":1,"b":2,"a":3}"#, Some((13, "a"))),
            (r#"{"a":1,"\u0061":3}"#, Some((7, "a"))),
            (r#"{"x":[{"a":1},{"b":{},"b" : 2}]}"#, Some((22, "b"))),
            (r#"[[{"a":{"b":1}},{"a":{"b":1,"b":1}}]]"#, Some((28, "b"))),
            (r#"{"a":{},"a":{}}"#, Some((8, "a"))),
            (r#""a""#, None),
        ] {
            let duplicate = duplicate.map(|(offset, name)| DuplicateMember { offset, name: name.into() });
            assert_eq!(duplicate_member(text), duplicate, "{text}");
        }
    }

    #[test]
    fn text_that_is_not_json_causes_no_panic() {
        for text in ["", "\"", "\"a\":", "}", "{\"a", "{\"\\", "{\"\\u12\":1,\"\\u12\":2}"] {
            duplicate_member(text);
        }
    }
}
