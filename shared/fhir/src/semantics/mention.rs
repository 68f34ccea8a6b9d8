//! The cheapest test of a line: can it belong to one of these patients at all?

use std::sync::LazyLock;

use memchr::memchr3;
use memchr::memmem::Finder;

static PATIENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("Patient"));
static ID: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"id\""));
static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\\u00"));

/// Returns true if a raw line may be in the compartment of one of the patients whose ids `is_member` accepts.
///
/// `false` is certain: the line neither is one of these patients nor refers to one, in any version of FHIR and with any base
/// URL. `true` means "perhaps". The line is not parsed; for a line that is not JSON, the result has no meaning.
///
/// `is_member` receives ids as they are written in the line.
pub fn may_mention_patient(line: &[u8], is_member: &impl Fn(&[u8]) -> bool) -> bool {
    let mut may_be_patient = false;
    for position in PATIENT.find_iter(line) {
        let behind = line.get(position + "Patient".len()..).unwrap_or_default();
        may_be_patient |= behind.starts_with(b"\"");
        let id = behind.strip_prefix(b"/").or_else(|| behind.strip_prefix(b"\\/"));
        if id.is_some_and(|id| may_start_with_member_id(id, is_member)) {
            return true;
        }
    }
    (may_be_patient && may_have_member_id(line, is_member)) || may_escape_letters(line)
}

/// Returns true if the text starts with the id of a member, or with an id that has escapes.
fn may_start_with_member_id(text: &[u8], is_member: &impl Fn(&[u8]) -> bool) -> bool {
    let Some(end) = memchr3(b'"', b'/', b'\\', text) else { return true };
    let (id, behind) = text.split_at(end);
    let is_escaped = behind.starts_with(b"\\") && !behind.starts_with(b"\\/");
    is_escaped || is_member(without_trailing_whitespace(id))
}

/// Removes whitespace behind an id, which a reference to a patient may have.
fn without_trailing_whitespace(id: &[u8]) -> &[u8] {
    // Nearly every id ends with a letter or a digit.
    let is_graphic = id.last().is_some_and(u8::is_ascii_graphic);
    if is_graphic { id } else { std::str::from_utf8(id).map_or(id, |id| id.trim_end().as_bytes()) }
}

/// Returns true if an `id` at any depth may be that of a member.
fn may_have_member_id(line: &[u8], is_member: &impl Fn(&[u8]) -> bool) -> bool {
    ID.find_iter(line).any(|position| {
        let behind = line.get(position + "\"id\"".len()..).unwrap_or_default().trim_ascii_start();
        let value = behind.strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        value.and_then(|value| value.strip_prefix(b"\"")).is_some_and(|id| may_start_with_member_id(id, is_member))
    })
}

/// Returns true if the line writes a character of `Patient/` or `id` as a `\u00XX` escape, which hides the word from a search for
/// its bytes. Other escapes are common (some writers escape every `<`) and cannot hide these words.
fn may_escape_letters(line: &[u8]) -> bool {
    ESCAPE.find_iter(line).any(|position| {
        let digits = line.get(position + "\\u00".len()..).and_then(<[u8]>::first_chunk::<2>);
        digits.is_none_or(|digits| matches!(digits, b"50" | b"61" | b"74" | b"69" | b"65" | b"6e" | b"6E" | b"2f" | b"2F" | b"64"))
    })
}

#[cfg(test)]
mod tests;
