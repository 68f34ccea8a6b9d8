//! JSON with comments, trailing commas and a byte order mark.

use serde::de::IgnoredAny;

use crate::json::duplicate_member;

/// Returns the text as plain JSON. Comments and trailing commas become spaces, so that lines and columns stay the same.
///
/// Fails with the error and its position. A duplicate member is an error, because its meaning is ambiguous.
pub(super) fn to_plain_json(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("the text is not UTF-8 after {} bytes", error.valid_up_to()))?;
    let mut plain = blank_comments(text.strip_prefix('\u{feff}').unwrap_or(text))?.into_bytes();
    blank_trailing_commas(&mut plain);
    let plain = String::from_utf8(plain).map_err(|_| "the text is not UTF-8".to_owned())?;
    serde_json::from_str::<IgnoredAny>(&plain).map_err(|error| format!("the text is not valid JSON: {error}"))?;
    if let Some(duplicate) = duplicate_member(&plain) {
        let name: String = duplicate.name.chars().take(64).collect();
        return Err(format!("the member \"{}\" occurs twice in one object", name.escape_debug()));
    }
    Ok(plain)
}

/// Returns the text with the characters of comments replaced by spaces, except for newlines.
fn blank_comments(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        // Strings are skipped as a whole, because they can contain slashes.
        let Some(at) = rest.find(['"', '/']) else {
            plain.push_str(rest);
            return Ok(plain);
        };
        let (before, from_match) = rest.split_at_checked(at).unwrap_or((rest, ""));
        plain.push_str(before);
        let length = match from_match {
            _ if from_match.starts_with("//") => from_match.find('\n').unwrap_or(from_match.len()),
            _ if from_match.starts_with("/*") => {
                from_match.get(2..).and_then(|comment| comment.find("*/")).ok_or("a comment is not closed")? + 4
            }
            _ => string_length(from_match),
        };
        let (matched, after) = from_match.split_at_checked(length).unwrap_or((from_match, ""));
        match matched.starts_with('/') {
            true if matched.len() > 1 => plain.extend(matched.chars().map(|c| if c == '\n' { c } else { ' ' })),
            true | false => plain.push_str(matched),
        }
        rest = after;
    }
}

/// Returns the length of the string at the beginning of the text, or 1 for a slash that begins no comment.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let is_end = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_end
    });
    if text.starts_with('/') { 1 } else { end.map_or(text.len(), |(at, _)| at + 1) }
}

/// Replaces commas before the end of an object or an array by spaces.
fn blank_trailing_commas(plain: &mut [u8]) {
    let (mut comma, mut previous, mut is_in_string, mut is_escaped) = (None, b',', false, false);
    let mut trailing = Vec::new();
    for (at, byte) in plain.iter().enumerate() {
        if is_in_string {
            is_in_string = *byte != b'"' || is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'}' | b']' => trailing.extend(comma),
            b'"' => is_in_string = true,
            _ => {}
        }
        // A comma is trailing only after an item: `[,]` stays invalid.
        comma = (*byte == b',' && !matches!(previous, b',' | b'{' | b'[')).then_some(at);
        previous = *byte;
    }
    for at in trailing {
        if let Some(byte) = plain.get_mut(at) {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_trailing_commas_and_a_byte_order_mark_are_accepted() {
        let text = "\u{feff}{ // é \"\n \"a\": [1, 2, /* ] */ ],\n \"u\": \"http://x/*y*/, ]\\\"\", }";
        let plain = to_plain_json(text.as_bytes()).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&plain).unwrap();
        assert_eq!(parsed, serde_json::json!({ "a": [1, 2], "u": "http://x/*y*/, ]\"" }));
    }

    #[test]
    fn other_errors_are_reported() {
        for (text, reason) in [
            (&b"{\"a\":1,\"b\":{\"c\":1,\"c\":2}}"[..], "the member \"c\" occurs twice in one object"),
            (b"{\"a\":1 \"b\":2}", "line 1 column 8"),
            (b"{ /*/ }", "a comment is not closed"),
            (b"{\"a\": / 1}", "not valid JSON"),
            (b"{\"a\": [,]}", "not valid JSON"),
            (b"\xff", "not UTF-8 after 0 bytes"),
            (b"", "not valid JSON"),
            ([vec![b'['; 400_000], vec![b']'; 400_000], b"{\"c\":1,\"c\":2}".to_vec()].concat().as_slice(), "not valid JSON"),
        ] {
            let error = to_plain_json(text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
