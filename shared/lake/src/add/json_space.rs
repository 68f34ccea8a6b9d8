//! Removes the white space between the tokens of a JSON text.

use std::borrow::Cow;

use memchr::{memchr2, memchr3};

/// Returns a JSON text that fits into one line. A text without line breaks and tabs is unchanged. From others all white space outside
/// strings is removed, and every other byte stays.
pub(super) fn in_one_line(text: &str) -> Cow<'_, str> {
    if memchr3(b'\n', b'\r', b'\t', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'"', rest.as_bytes()) {
        let (before, string) = rest.split_at(at);
        push_without_space(before, &mut out);
        let (string, behind) = string.split_at(string_length(string.as_bytes()));
        out.push_str(string);
        rest = behind;
    }
    push_without_space(rest, &mut out);
    Cow::Owned(out)
}

/// Appends a text outside strings without its white space.
fn push_without_space(text: &str, out: &mut String) {
    out.extend(text.split([' ', '\t', '\r', '\n']));
}

/// Returns the length of the string at the start of a text, with its quotes.
fn string_length(text: &[u8]) -> usize {
    let mut position = 1;
    while let Some(at) = text.get(position..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        position += at;
        if text.get(position) == Some(&b'"') {
            return position + 1;
        }
        position += 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn only_white_space_outside_strings_is_removed() {
        let text = "{\r\n\t\"a b\" : [ 1.10 , \"x\\\" \\\\\" ],\n \"é\":\"\u{2028} \"\n}";
        assert_eq!(in_one_line(text), "{\"a b\":[1.10,\"x\\\" \\\\\"],\"é\":\"\u{2028} \"}");
        assert_eq!(in_one_line("{ \"a\" : 1.10 }"), "{ \"a\" : 1.10 }", "a text of one line is copied");
    }

    proptest! {
        #[test]
        fn the_json_tree_stays_the_same(texts in prop::collection::vec("[ \"\\\\{}a\n\t]{0,6}", 0..6)) {
            let tree = serde_json::json!({ "texts": texts, "n": 1.5 });
            let pretty = format!("{tree:#}");
            let line = in_one_line(&pretty);
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), tree);
        }
    }
}
