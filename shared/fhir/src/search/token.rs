//! Tokens: a code, alone or with the system that it belongs to.

use super::error::Fault;
use super::grammar::{pieces, unescaped};
use super::place::Accept;
use super::string::Folded;
use crate::json::Json;

/// The system of `true` and `false`.
const SPECIAL_VALUES: &str = "http://terminology.hl7.org/CodeSystem/special-values";

/// An element that tokens are looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenElement {
    Coding,
    CodeableConcept,
    Identifier,
    ContactPoint,
    /// A code, and the only system that it can be of.
    Code(Option<&'static str>),
    Boolean,
    /// Text that people write: its case does not count.
    Text,
    /// An id or a URI.
    Exact,
    /// The identifier of a Reference.
    ReferenceIdentifier,
}

impl TokenElement {
    /// By the FHIR type at the end of a path; `None` where no token can stand.
    pub(super) fn of(ends_in: &str, implied: Option<&'static str>) -> Option<Self> {
        match ends_in {
            "Coding" => Some(Self::Coding),
            "CodeableConcept" => Some(Self::CodeableConcept),
            "Identifier" => Some(Self::Identifier),
            "ContactPoint" => Some(Self::ContactPoint),
            "code" => Some(Self::Code(implied)),
            "boolean" => Some(Self::Boolean),
            "string" | "markdown" => Some(Self::Text),
            "id" | "uri" | "url" | "canonical" | "oid" | "uuid" => Some(Self::Exact),
            _ => None,
        }
    }

    /// Whether people's words for a token stand in it.
    pub(super) fn has_text(self) -> bool {
        matches!(self, Self::Coding | Self::CodeableConcept | Self::Identifier)
    }
}

/// A token of a query.
#[derive(Clone, Debug)]
pub(super) enum TokenTest {
    /// `code`: of any system or none.
    Code(Box<str>),
    /// `system|code`
    Both(Box<str>, Box<str>),
    /// `|code`: of no system.
    Bare(Box<str>),
    /// `system|`: any code of it.
    System(Box<str>),
}

/// What an element holds, as far as a token is compared with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) system: System<'a>,
    pub(super) code: Option<&'a str>,
    pub(super) has_case: bool,
}

/// The system that a code in a resource belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum System<'a> {
    Named(&'a str),
    None,
    /// A `code`'s system follows from its definition; this is the only one it can be.
    Implied(&'a str),
    /// A `code` whose definition allows codes of several systems: whichever is asked for may be it.
    Unknown,
}

impl System<'_> {
    fn is(self, wanted: &str) -> bool {
        match self {
            Self::Named(system) | Self::Implied(system) => system == wanted,
            Self::None => false,
            Self::Unknown => true,
        }
    }

    fn is_absent(self) -> bool {
        match self {
            Self::Named(_) => false,
            // Nothing in the resource names a system.
            Self::None | Self::Implied(_) | Self::Unknown => true,
        }
    }
}

impl TokenTest {
    pub(super) fn parse(value: &str) -> Result<Self, Fault> {
        let mut parts = pieces(value, '|').map(unescaped);
        let first = parts.next().ok_or(Fault::NotAToken)??;
        let Some(second) = parts.next() else {
            return if first.is_empty() { Err(Fault::Empty) } else { Ok(Self::Code(first)) };
        };
        let second = second?;
        match (first.is_empty(), second.is_empty(), parts.next()) {
            (false, false, None) => Ok(Self::Both(first, second)),
            (true, false, None) => Ok(Self::Bare(second)),
            (false, true, None) => Ok(Self::System(first)),
            (true, true, _) | (_, _, Some(_)) => Err(Fault::NotAToken),
        }
    }

    /// The code that is asked for, if one is.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Code(code) | Self::Both(_, code) | Self::Bare(code) => Some(code),
            Self::System(_) => None,
        }
    }

    pub(super) fn accepts(&self, found: Token<'_>) -> bool {
        let is = |wanted: &str| match found.code {
            Some(code) if found.has_case => code == wanted,
            Some(code) => code.chars().flat_map(char::to_lowercase).eq(wanted.chars().flat_map(char::to_lowercase)),
            None => false,
        };
        match self {
            Self::Code(code) => is(code),
            Self::Both(system, code) => is(code) && found.system.is(system),
            Self::Bare(code) => is(code) && found.system.is_absent(),
            Self::System(system) => found.system.is(system),
        }
    }
}

/// `:of-type`: a type of identifiers and the value of one.
#[derive(Clone, Debug)]
pub(super) struct OfType {
    kind: TokenTest,
    value: Box<str>,
}

impl OfType {
    pub(super) fn parse(value: &str) -> Result<Self, Fault> {
        let parts = pieces(value, '|').map(unescaped).collect::<Result<Vec<_>, _>>()?;
        match <[Box<str>; 3]>::try_from(parts) {
            Ok([system, code, value]) if !system.is_empty() && !code.is_empty() && !value.is_empty() => {
                Ok(Self { kind: TokenTest::Both(system, code), value })
            }
            _ => Err(Fault::NotOfType),
        }
    }

    fn accepts(&self, identifier: Json<'_>) -> bool {
        let is_valued = identifier.member("value").and_then(Json::text).is_some_and(|value| *value == *self.value);
        is_valued && identifier.member("type").is_some_and(|kind| any_coding(kind, &|token| self.kind.accepts(token)))
    }
}

impl Accept<TokenElement> for TokenTest {
    fn any_accepts(tests: &[Self], element: TokenElement, value: Json<'_>) -> bool {
        let is_wanted = |token: Token<'_>| tests.iter().any(|test| test.accepts(token));
        let is_text_wanted = |system, has_case| {
            let text = value.text();
            text.is_some_and(|code| is_wanted(Token { system, code: Some(&code), has_case }))
        };
        match element {
            TokenElement::Coding => is_wanted_coded(value, "code", &is_wanted),
            TokenElement::CodeableConcept => any_coding(value, &is_wanted),
            // A contact point's system is a word such as `phone`; clients write it as if it were a code's.
            TokenElement::Identifier | TokenElement::ContactPoint => is_wanted_coded(value, "value", &is_wanted),
            TokenElement::ReferenceIdentifier => {
                value.member("identifier").is_some_and(|identifier| is_wanted_coded(identifier, "value", &is_wanted))
            }
            TokenElement::Code(implied) => is_text_wanted(implied.map_or(System::Unknown, System::Implied), true),
            TokenElement::Text => is_text_wanted(System::None, false),
            TokenElement::Exact => is_text_wanted(System::None, true),
            TokenElement::Boolean => value.bool().is_some_and(|value| is_wanted(boolean(value))),
        }
    }
}

impl Accept<TokenElement> for OfType {
    fn any_accepts(tests: &[Self], _: TokenElement, value: Json<'_>) -> bool {
        tests.iter().any(|test| test.accepts(value))
    }
}

impl Accept<TokenElement> for Folded {
    fn any_accepts(tests: &[Self], _: TokenElement, value: Json<'_>) -> bool {
        any_text(value, tests)
    }
}

/// A boolean as a token.
pub(super) fn boolean(value: bool) -> Token<'static> {
    Token { system: System::Implied(SPECIAL_VALUES), code: Some(if value { "true" } else { "false" }), has_case: true }
}

/// A Coding or an Identifier; `code_name` is the member that counts as the code.
fn is_wanted_coded(json: Json<'_>, code_name: &str, is_wanted: &impl Fn(Token<'_>) -> bool) -> bool {
    let (mut system, mut code) = (None, None);
    for (name, value) in json.raw_members() {
        if name == "system" {
            system = value.text();
        } else if name == code_name {
            code = value.text();
        }
    }
    is_wanted(Token { system: system.as_deref().map_or(System::None, System::Named), code: code.as_deref(), has_case: true })
}

fn any_coding(concept: Json<'_>, is_wanted: &impl Fn(Token<'_>) -> bool) -> bool {
    concept.member("coding").is_some_and(|codings| codings.items().any(|coding| is_wanted_coded(coding, "code", is_wanted)))
}

/// Whether a text that belongs to a token begins as wanted: `Coding.display`, `CodeableConcept.text`, `Identifier.type.text`.
fn any_text(json: Json<'_>, wanted: &[Folded]) -> bool {
    json.raw_members().any(|(name, value)| match name {
        "text" | "display" => value.text().is_some_and(|text| wanted.iter().any(|wanted| wanted.begins(&text))),
        "coding" => value.items().any(|coding| any_text(coding, wanted)),
        "type" => any_text(value, wanted),
        _ => false,
    })
}
