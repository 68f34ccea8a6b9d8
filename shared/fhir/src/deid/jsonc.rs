//! JSON as people write it: with comments, commas behind the last item, and a byte order mark.

use serde::de::IgnoredAny;

use crate::json::{Json, Shape};

/// The text as plain JSON: comments and superfluous commas are blanks, so that lines and columns stay what they were.
///
/// Fails with what is wrong and where. A member that stands twice in an object is a fault: nobody knows which was meant.
pub(super) fn plain_json(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("it is not UTF-8 after {} bytes", error.valid_up_to()))?;
    let mut plain = without_comments(text.strip_prefix('\u{feff}').unwrap_or(text))?.into_bytes();
    blank_last_commas(&mut plain);
    let plain = String::from_utf8(plain).map_err(|_| "it is not UTF-8".to_owned())?;
    serde_json::from_str::<IgnoredAny>(&plain).map_err(|error| format!("it is not valid JSON: {error}"))?;
    no_member_twice(Json::of_valid(&plain))?;
    Ok(plain)
}

fn without_comments(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let Some(at) = rest.find(['"', '/']) else {
            plain.push_str(rest);
            return Ok(plain);
        };
        let (before, found) = rest.split_at_checked(at).unwrap_or((rest, ""));
        plain.push_str(before);
        let length = match found {
            _ if found.starts_with("//") => found.find('\n').unwrap_or(found.len()),
            _ if found.starts_with("/*") => found.get(2..).and_then(|comment| comment.find("*/")).ok_or("a comment has no end")? + 4,
            _ => text_length(found),
        };
        let (taken, after) = found.split_at_checked(length).unwrap_or((found, ""));
        match taken.starts_with('/') {
            true if taken.len() > 1 => plain.extend(taken.chars().map(|c| if c == '\n' { c } else { ' ' })),
            true | false => plain.push_str(taken),
        }
        rest = after;
    }
}

/// The length of the string that stands at the beginning; 1 of a slash that begins no comment.
fn text_length(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let is_end = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_end
    });
    if text.starts_with('/') { 1 } else { end.map_or(text.len(), |(at, _)| at + 1) }
}

/// Makes blanks of commas behind which an object or an array ends.
fn blank_last_commas(plain: &mut [u8]) {
    let (mut comma, mut before, mut is_text, mut is_escaped) = (None, b',', false, false);
    let mut blanks = Vec::new();
    for (at, byte) in plain.iter().enumerate() {
        if is_text {
            is_text = *byte != b'"' || is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'}' | b']' => blanks.extend(comma),
            b'"' => is_text = true,
            _ => {}
        }
        // Only behind an item: `[,]` stays what it is.
        comma = (*byte == b',' && !matches!(before, b',' | b'{' | b'[')).then_some(at);
        before = *byte;
    }
    for at in blanks {
        if let Some(byte) = plain.get_mut(at) {
            *byte = b' ';
        }
    }
}

fn no_member_twice(json: Json<'_>) -> Result<(), String> {
    match json.shape() {
        Shape::Object => {
            let mut names: Vec<_> = json.members().map(|(name, _)| name).collect();
            names.sort_unstable();
            if names.is_sorted_by(|one, other| one < other) {
                return json.members().try_for_each(|(_, value)| no_member_twice(value));
            }
            let twice = names.windows(2).find_map(|pair| match pair {
                [one, other] if one == other => Some(one.chars().take(64).collect::<String>()),
                _ => None,
            });
            Err(format!("the member \"{}\" stands twice in one object", twice.unwrap_or_default().escape_debug()))
        }
        Shape::Array => json.items().try_for_each(no_member_twice),
        Shape::Text | Shape::Number | Shape::Bool | Shape::Null => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_last_commas_and_a_mark_are_let_through() {
        let text = "\u{feff}{ // é \"\n \"a\": [1, 2, /* ] */ ],\n \"u\": \"http://x/*y*/, ]\\\"\", }";
        let plain = plain_json(text.as_bytes()).unwrap();
        let read: serde_json::Value = serde_json::from_str(&plain).unwrap();
        assert_eq!(read, serde_json::json!({ "a": [1, 2], "u": "http://x/*y*/, ]\"" }));
    }

    #[test]
    fn what_else_is_wrong_is_said() {
        for (text, reason) in [
            (&b"{\"a\":1,\"b\":{\"c\":1,\"c\":2}}"[..], "the member \"c\" stands twice in one object"),
            (b"{\"a\":1 \"b\":2}", "line 1 column 8"),
            (b"{ /*/ }", "a comment has no end"),
            (b"{\"a\": / 1}", "not valid JSON"),
            (b"{\"a\": [,]}", "not valid JSON"),
            (b"\xff", "not UTF-8 after 0 bytes"),
            (b"", "not valid JSON"),
        ] {
            let error = plain_json(text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
