//! Strings, compared without regard to case and accents.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::place::Accept;
use crate::json::Json;

/// An element that strings are looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StringElement {
    Text,
    /// A HumanName or an Address.
    Parts,
}

impl StringElement {
    /// By the FHIR type at the end of a path; `None` where no string can stand.
    pub(super) fn of(ends_in: &str) -> Option<Self> {
        match ends_in {
            "HumanName" | "Address" => Some(Self::Parts),
            "string" | "markdown" | "code" | "id" | "uri" | "url" | "canonical" | "oid" | "uuid" => Some(Self::Text),
            _ => None,
        }
    }
}

/// A text as it is compared: without case, without accents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folded(Box<str>);

impl Folded {
    pub(super) fn of(text: &str) -> Self {
        Self(folded(text).collect())
    }

    /// Whether `text`, folded, begins with it.
    pub(super) fn begins(&self, text: &str) -> bool {
        let wanted = self.0.as_bytes();
        // Nearly every text is plain ASCII as far as it matters: no characters need be looked up.
        match text.as_bytes().get(..wanted.len()) {
            Some(head) if head.is_ascii() => head.eq_ignore_ascii_case(wanted),
            None if text.is_ascii() => false,
            _ => {
                let mut folded = folded(text);
                self.0.chars().all(|wanted| folded.next() == Some(wanted))
            }
        }
    }

    /// Whether it stands anywhere in `text`, folded.
    fn is_within(&self, text: &str) -> bool {
        folded(text).collect::<String>().contains(&*self.0)
    }
}

/// Lower case, canonical decomposition, no marks; `ß` is `ss` and a final sigma is a sigma, as in full case folding.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase).nfd().filter(|c| !is_combining_mark(*c)).flat_map(|c| {
        let (first, second) = match c {
            'ß' => ('s', Some('s')),
            'ς' => ('σ', None),
            _ => (c, None),
        };
        std::iter::once(first).chain(second)
    })
}

/// A string of a query.
#[derive(Clone, Debug)]
pub(super) enum StringTest {
    Begins(Folded),
    Contains(Folded),
    Exact(Box<str>),
}

impl StringTest {
    fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Begins(wanted) => wanted.begins(text),
            Self::Contains(wanted) => wanted.is_within(text),
            Self::Exact(wanted) => **wanted == *text,
        }
    }
}

impl Accept<StringElement> for StringTest {
    fn any_accepts(tests: &[Self], element: StringElement, value: Json<'_>) -> bool {
        let is_wanted = |value: Json<'_>| value.text().is_some_and(|text| tests.iter().any(|test| test.accepts(&text)));
        match element {
            StringElement::Text => is_wanted(value),
            StringElement::Parts => value.raw_members().any(|(name, value)| PARTS.contains(&name) && value.items().any(is_wanted)),
        }
    }
}

/// What a search looks at of a HumanName or an Address.
const PARTS: [&str; 11] = ["text", "family", "given", "prefix", "suffix", "line", "city", "district", "state", "postalCode", "country"];
