//! The comparison of a query's values with one element.

use crate::json::JsonValue;

/// A value of a query that can be compared with elements of the kinds `E`.
pub(super) trait ElementTest<E>: Sized {
    /// Returns true if one of `tests` matches the value of an element.
    fn any_matches(tests: &[Self], element: E, value: JsonValue<'_>) -> bool;
}
