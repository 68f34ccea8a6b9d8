//! The type `id` of FHIR.

/// Returns true for an id of FHIR: 1 to 64 letters, digits, hyphens and dots.
pub fn is_id(text: &str) -> bool {
    // The fold has no early exit, so that the compiler can vectorize it.
    let has_only_allowed = || text.bytes().fold(true, |valid, byte| valid & (byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'.')));
    (1..=64).contains(&text.len()) && has_only_allowed()
}
