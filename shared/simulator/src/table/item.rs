//! Items and their sizes.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The attributes of an item, or its key alone.
pub(super) type Item = BTreeMap<String, AttributeValue>;

/// A value, in DynamoDB's JSON: `{"S": "text"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum AttributeValue {
    /// A text.
    S(String),
    /// A number, as decimal digits.
    N(String),
    /// Bytes in base64.
    B(String),
    /// A truth value.
    #[serde(rename = "BOOL")]
    Bool(bool),
    /// The null value.
    #[serde(rename = "NULL")]
    Null(bool),
    /// A set of texts.
    #[serde(rename = "SS")]
    Texts(Vec<String>),
    /// A set of numbers.
    #[serde(rename = "NS")]
    Numbers(Vec<String>),
    /// A list.
    L(Vec<AttributeValue>),
    /// A map.
    M(BTreeMap<String, AttributeValue>),
}

impl AttributeValue {
    /// Returns the text. `None` for other values.
    pub(super) fn as_text(&self) -> Option<&str> {
        if let Self::S(text) = self { Some(text) } else { None }
    }

    /// Returns the number. `None` for other values, and for numbers that are not whole.
    pub(super) fn as_number(&self) -> Option<i128> {
        if let Self::N(digits) = self { digits.parse().ok() } else { None }
    }

    /// Compares two values of the same type. `None` for others.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self.as_number(), other.as_number(), self.as_text(), other.as_text()) {
            (Some(one), Some(other), ..) => Some(one.cmp(&other)),
            (_, _, Some(one), Some(other)) => Some(one.cmp(other)),
            _ => (self == other).then_some(Ordering::Equal),
        }
    }

    /// Returns the size in bytes that DynamoDB charges for the value.
    fn size(&self) -> usize {
        match self {
            Self::S(text) => text.len(),
            Self::N(digits) => number_size(digits),
            Self::B(base64) => base64.trim_end_matches('=').len() * 3 / 4,
            Self::Bool(_) | Self::Null(_) => 1,
            Self::Texts(texts) => texts.iter().map(String::len).sum(),
            Self::Numbers(numbers) => numbers.iter().map(|digits| number_size(digits)).sum(),
            Self::L(values) => 3 + values.iter().map(|value| value.size() + 1).sum::<usize>(),
            Self::M(values) => 3 + values.iter().map(|(name, value)| name.len() + value.size() + 1).sum::<usize>(),
        }
    }
}

/// Returns the size of a whole number: a byte for two significant digits, one more, and one for a sign.
fn number_size(digits: &str) -> usize {
    let (sign, magnitude) = digits.strip_prefix('-').map_or((0, digits), |magnitude| (1, magnitude));
    let significant = magnitude.trim_start_matches('0');
    // Trailing zeros are part of the exponent, which has base 100.
    let zeros = significant.len() - significant.trim_end_matches('0').len();
    (significant.len() - zeros).div_ceil(2) + 1 + if significant.is_empty() { 0 } else { sign }
}

/// Returns the size of an item in bytes.
pub(super) fn item_size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value.size()).sum()
}
