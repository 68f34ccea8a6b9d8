//! Texts as JSON strings.

/// A text between quotes, escaped as JSON wants it.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    put_quoted(text, &mut quoted);
    quoted
}

/// Appends a text between quotes.
pub(super) fn put_quoted(text: &str, out: &mut String) {
    // To the end in any case: so the compiler looks at many bytes at a time.
    let is_plain = text.bytes().fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\'));
    if is_plain {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}
