//! How a query is cut: percent-encoding first, then `,`, `$` and `|`, each unless a backslash stands before it.

use std::borrow::Cow;

use super::error::Fault;

/// Undoes percent-encoding; a `%` without two hexadecimal digits behind it is itself. `None`: what comes out is not UTF-8.
pub(super) fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let code = match (byte, behind) {
            (b'%', [high, low, ..]) => nibble(*high).zip(nibble(*low)),
            _ => None,
        };
        if let Some((high, low)) = code {
            decoded.push(high << 4 | low);
            rest = behind.get(2..).unwrap_or_default();
        } else {
            decoded.push(byte);
            rest = behind;
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The pieces between separators that no backslash stands before; escapes stay.
pub(super) fn pieces(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_escaped = false;
    text.split(move |c: char| {
        let is_cut = c == separator && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_cut
    })
}

/// A piece's own text: `\,`, `\$`, `\|` and `\\` undone, which are the only uses of a backslash.
pub(super) fn unescaped(piece: &str) -> Result<Box<str>, Fault> {
    let mut text = String::with_capacity(piece.len());
    let mut chars = piece.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ (',' | '$' | '|' | '\\')) => text.push(escaped),
                _ => return Err(Fault::Backslash),
            },
            _ => text.push(c),
        }
    }
    Ok(text.into_boxed_str())
}

/// `Observation?` and the like at the beginning of a text: the name before the question mark.
pub(super) fn type_before_query(text: &str) -> Option<&str> {
    let (name, _) = text.split_once('?')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_name.then_some(name)
}
