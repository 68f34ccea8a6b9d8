//! The grammar of a query: percent-encoding, then the separators `,`, `$` and `|`, which a backslash escapes.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::error::ValueError;

/// Decodes percent-encoding. A `%` without two hexadecimal digits stays. Returns `None` if the result is not UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

/// Splits a text at separators that are not escaped. Escapes remain in the parts.
pub(super) fn split_unescaped(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_escaped = false;
    text.split(move |c: char| {
        let is_separator = c == separator && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_separator
    })
}

/// Replaces the escapes `\,`, `\$`, `\|` and `\\`. Any other use of a backslash is an error.
pub(super) fn unescape(part: &str) -> Result<Box<str>, ValueError> {
    let mut text = String::with_capacity(part.len());
    let mut chars = part.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ (',' | '$' | '|' | '\\')) => text.push(escaped),
                _ => return Err(ValueError::Backslash),
            },
            _ => text.push(c),
        }
    }
    Ok(text.into_boxed_str())
}

/// Returns the name before the question mark if the text starts like `Observation?`.
pub(super) fn type_before_query(text: &str) -> Option<&str> {
    let (name, _) = text.split_once('?')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_name.then_some(name)
}
