//! JSON string literals.

/// Returns a text as a JSON string literal.
pub(super) fn to_json_string(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    write_json_string(text, &mut literal);
    literal
}

/// Appends a text as a JSON string literal.
pub(super) fn write_json_string(text: &str, out: &mut String) {
    // The fold has no early exit, so that the compiler can vectorize it.
    let needs_no_escape = text.bytes().fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\'));
    if needs_no_escape {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}
