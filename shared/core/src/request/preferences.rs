//! The preferences of a kick-off.

/// The preferences of a kick-off: the header `Prefer` (RFC 7240; Bulk Data Access, "Headers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Preferences {
    /// True for `handling=lenient`. The default is strict.
    pub is_lenient: bool,
    /// True for `separate-export-status`.
    pub separates_status: bool,
}
