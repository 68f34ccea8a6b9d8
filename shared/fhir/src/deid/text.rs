//! Texts as JSON strings.

/// A text between quotes, escaped as JSON wants it.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    put_quoted(text, &mut quoted);
    quoted
}

/// Appends a text between quotes.
pub(super) fn put_quoted(text: &str, out: &mut String) {
    let is_plain = text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    if is_plain {
        out.extend(["\"", text, "\""]);
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}
