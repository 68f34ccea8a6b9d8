//! The cheapest test first: can this line concern one of these patients at all?

use std::sync::LazyLock;

use memchr::memchr3;
use memchr::memmem::Finder;

static PATIENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("Patient"));
static ID: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"id\""));
static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\\u00"));

/// Whether a raw line may be in the compartment of one of the patients whose ids `is_member` knows.
///
/// `false` is certain: no reference of the line names one of them and it is none of them, in any version of FHIR and
/// under any base. `true` means perhaps. The line is not parsed; of a line that is no JSON the answer says nothing.
///
/// `is_member` is asked for ids as they stand in the line.
pub fn may_mention_patient(line: &[u8], is_member: &impl Fn(&[u8]) -> bool) -> bool {
    let mut may_be_patient = false;
    for at in PATIENT.find_iter(line) {
        let behind = line.get(at + "Patient".len()..).unwrap_or_default();
        may_be_patient |= behind.starts_with(b"\"");
        let id = behind.strip_prefix(b"/").or_else(|| behind.strip_prefix(b"\\/"));
        if id.is_some_and(|id| may_be_member(id, is_member)) {
            return true;
        }
    }
    (may_be_patient && may_have_id(line, is_member)) || may_hide_letters(line)
}

/// Whether the text begins with a member's id, or with one that is spelled with escapes.
fn may_be_member(text: &[u8], is_member: &impl Fn(&[u8]) -> bool) -> bool {
    let Some(end) = memchr3(b'"', b'/', b'\\', text) else { return true };
    let (id, behind) = text.split_at(end);
    let is_escaped = behind.starts_with(b"\\") && !behind.starts_with(b"\\/");
    is_escaped || is_member(id)
}

/// Whether an `id` at any depth is a member's.
fn may_have_id(line: &[u8], is_member: &impl Fn(&[u8]) -> bool) -> bool {
    ID.find_iter(line).any(|at| {
        let behind = line.get(at + "\"id\"".len()..).unwrap_or_default().trim_ascii_start();
        let value = behind.strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        value.and_then(|value| value.strip_prefix(b"\"")).is_some_and(|id| may_be_member(id, is_member))
    })
}

/// Whether one of the letters that are looked for, those of `Patient/` and of `id`, is spelled as an escape. Other
/// escapes are common (some writers escape every `<`) and hide nothing.
fn may_hide_letters(line: &[u8]) -> bool {
    ESCAPE.find_iter(line).any(|at| {
        let digits = line.get(at + "\\u00".len()..).and_then(<[u8]>::first_chunk::<2>);
        digits.is_none_or(|digits| matches!(digits, b"50" | b"61" | b"74" | b"69" | b"65" | b"6e" | b"6E" | b"2f" | b"2F" | b"64"))
    })
}

#[cfg(test)]
mod tests;
