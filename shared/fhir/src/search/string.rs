//! Strings, compared without regard to case and accents.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::element_test::ElementTest;
use crate::json::JsonValue;

/// The kind of an element that a string search parameter searches. It decides how the element is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StringElementKind {
    Text,
    /// A HumanName or an Address.
    Parts,
}

impl StringElementKind {
    /// Returns how a string search parameter is compared with elements of a FHIR type. `None` if it cannot search that type.
    pub(super) fn from_type(element_type: &str) -> Option<Self> {
        match element_type {
            "HumanName" | "Address" => Some(Self::Parts),
            "string" | "markdown" | "code" | "id" | "uri" | "url" | "canonical" | "oid" | "uuid" => Some(Self::Text),
            _ => None,
        }
    }
}

/// A text without case and accents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoldedText(Box<str>);

impl FoldedText {
    /// Folds a text.
    pub(super) fn new(text: &str) -> Self {
        Self(fold(text).collect())
    }

    /// Returns true if `text`, folded, starts with this text.
    pub(super) fn is_prefix_of(&self, text: &str) -> bool {
        let prefix = self.0.as_bytes();
        // Nearly every text is ASCII up to the length of the prefix. Then folding is not needed.
        match text.as_bytes().get(..prefix.len()) {
            Some(start) if start.is_ascii() => start.eq_ignore_ascii_case(prefix),
            None if text.is_ascii() => false,
            _ => {
                let mut folded = fold(text);
                self.0.chars().all(|c| folded.next() == Some(c))
            }
        }
    }

    /// Returns true if `text`, folded, contains this text.
    fn is_contained_in(&self, text: &str) -> bool {
        fold(text).collect::<String>().contains(&*self.0)
    }
}

/// Converts to lower case and canonical decomposition and removes combining marks. As in full case folding, `ß` becomes `ss` and
/// a final sigma becomes a sigma.
fn fold(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase).nfd().filter(|c| !is_combining_mark(*c)).flat_map(|c| {
        let (first, second) = match c {
            'ß' => ('s', Some('s')),
            'ς' => ('σ', None),
            _ => (c, None),
        };
        std::iter::once(first).chain(second)
    })
}

/// A string of a query, with the kind of match.
#[derive(Clone, Debug)]
pub(super) enum StringTest {
    StartsWith(FoldedText),
    Contains(FoldedText),
    Exact(Box<str>),
}

impl StringTest {
    /// Returns true if a string of a resource matches.
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::StartsWith(expected) => expected.is_prefix_of(text),
            Self::Contains(expected) => expected.is_contained_in(text),
            Self::Exact(expected) => **expected == *text,
        }
    }
}

impl ElementTest<StringElementKind> for StringTest {
    fn any_matches(tests: &[Self], kind: StringElementKind, value: JsonValue<'_>) -> bool {
        let matches_text = |value: JsonValue<'_>| value.text().is_some_and(|text| tests.iter().any(|test| test.matches(&text)));
        match kind {
            StringElementKind::Text => matches_text(value),
            StringElementKind::Parts => value.members().any(|(name, value)| PARTS.contains(&&*name) && value.items().any(matches_text)),
        }
    }
}

/// The members of a HumanName or an Address that are searched.
const PARTS: [&str; 11] = ["text", "family", "given", "prefix", "suffix", "line", "city", "district", "state", "postalCode", "country"];
