//! The comparison of a query's values with one element.

use crate::json::JsonValue;

/// A value of a query that can be compared with elements of the kinds `K`.
pub(super) trait ElementTest<K>: Sized {
    /// Returns true if one of `tests` matches `value`, the value of an element of this kind.
    fn any_matches(tests: &[Self], kind: K, value: JsonValue<'_>) -> bool;
}
