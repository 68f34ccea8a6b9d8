//! The type `id` of FHIR.

/// Returns true for an id of FHIR: 1 to 64 letters, digits, hyphens and dots.
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}
