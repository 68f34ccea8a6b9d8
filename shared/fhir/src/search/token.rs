//! Tokens: a code, with or without its code system.

use super::element_test::ElementTest;
use super::error::ValueError;
use super::grammar::{split_unescaped, unescape};
use super::string::FoldedText;
use crate::json::JsonValue;

/// The code system of `true` and `false`.
const SPECIAL_VALUES: &str = "http://terminology.hl7.org/CodeSystem/special-values";

/// The kind of an element that a token search parameter searches. It decides how the element is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenElementKind {
    Coding,
    CodeableConcept,
    Identifier,
    ContactPoint,
    /// A `code`, and its code system if the binding has only one.
    Code(Option<&'static str>),
    Boolean,
    /// Human-readable text, compared without case.
    Text,
    /// An id or a URI, compared exactly.
    Exact,
    /// The identifier of a Reference.
    ReferenceIdentifier,
}

impl TokenElementKind {
    /// Returns how a token search parameter is compared with elements of a FHIR type. `None` if it cannot search that type.
    /// `system` is the code system of a `code`.
    pub(super) fn from_type(element_type: &str, system: Option<&'static str>) -> Option<Self> {
        match element_type {
            "Coding" => Some(Self::Coding),
            "CodeableConcept" => Some(Self::CodeableConcept),
            "Identifier" => Some(Self::Identifier),
            "ContactPoint" => Some(Self::ContactPoint),
            "code" => Some(Self::Code(system)),
            "boolean" => Some(Self::Boolean),
            "string" | "markdown" => Some(Self::Text),
            "id" | "uri" | "url" | "canonical" | "oid" | "uuid" => Some(Self::Exact),
            _ => None,
        }
    }

    /// Returns true if elements of this kind can hold a human-readable text, such as `display`.
    pub(super) fn has_text(self) -> bool {
        matches!(self, Self::Coding | Self::CodeableConcept | Self::Identifier)
    }
}

/// A token of a query.
#[derive(Clone, Debug)]
pub(super) enum TokenTest {
    /// `code`: with any system or none.
    Code(Box<str>),
    /// `system|code`
    SystemAndCode(Box<str>, Box<str>),
    /// `|code`: without a system.
    CodeWithoutSystem(Box<str>),
    /// `system|`: any code of the system.
    System(Box<str>),
}

/// The token of an element, for comparison with those of a query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) system: CodeSystem<'a>,
    pub(super) code: Option<&'a str>,
    pub(super) is_case_sensitive: bool,
}

/// The code system of a code in a resource.
#[derive(Clone, Copy, Debug)]
pub(super) enum CodeSystem<'a> {
    Given(&'a str),
    None,
    /// The only system in the binding of a `code`.
    Implied(&'a str),
    /// The system of a `code` whose binding has several systems. It matches any.
    Unknown,
}

impl CodeSystem<'_> {
    /// Returns true if the system may be `expected`.
    fn is(self, expected: &str) -> bool {
        match self {
            Self::Given(system) | Self::Implied(system) => system == expected,
            Self::None => false,
            Self::Unknown => true,
        }
    }

    /// Returns true if the resource does not name a system.
    fn is_absent(self) -> bool {
        match self {
            Self::Given(_) => false,
            Self::None | Self::Implied(_) | Self::Unknown => true,
        }
    }
}

impl TokenTest {
    /// Parses `code`, `system|code`, `|code` or `system|`.
    pub(super) fn parse(value: &str) -> Result<Self, ValueError> {
        let mut parts = split_unescaped(value, '|').map(unescape);
        let first = parts.next().ok_or(ValueError::NotAToken)??;
        let Some(second) = parts.next() else {
            return if first.is_empty() { Err(ValueError::Empty) } else { Ok(Self::Code(first)) };
        };
        let second = second?;
        match (first.is_empty(), second.is_empty(), parts.next()) {
            (false, false, None) => Ok(Self::SystemAndCode(first, second)),
            (true, false, None) => Ok(Self::CodeWithoutSystem(second)),
            (false, true, None) => Ok(Self::System(first)),
            (true, true, _) | (_, _, Some(_)) => Err(ValueError::NotAToken),
        }
    }

    /// Returns the code, if the token has one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Code(code) | Self::SystemAndCode(_, code) | Self::CodeWithoutSystem(code) => Some(code),
            Self::System(_) => None,
        }
    }

    /// Returns true if the token of an element matches.
    pub(super) fn matches(&self, token: Token<'_>) -> bool {
        let is_code = |expected: &str| match token.code {
            Some(code) if token.is_case_sensitive => code == expected,
            Some(code) => code.chars().flat_map(char::to_lowercase).eq(expected.chars().flat_map(char::to_lowercase)),
            None => false,
        };
        match self {
            Self::Code(code) => is_code(code),
            Self::SystemAndCode(system, code) => is_code(code) && token.system.is(system),
            Self::CodeWithoutSystem(code) => is_code(code) && token.system.is_absent(),
            Self::System(system) => token.system.is(system),
        }
    }
}

/// A value of `:of-type`: the type and the value of an identifier.
#[derive(Clone, Debug)]
pub(super) struct OfType {
    identifier_type: TokenTest,
    value: Box<str>,
}

impl OfType {
    /// Parses `system|code|value`.
    pub(super) fn parse(value: &str) -> Result<Self, ValueError> {
        let parts = split_unescaped(value, '|').map(unescape).collect::<Result<Vec<_>, _>>()?;
        match <[Box<str>; 3]>::try_from(parts) {
            Ok([system, code, value]) if !system.is_empty() && !code.is_empty() && !value.is_empty() => {
                Ok(Self { identifier_type: TokenTest::SystemAndCode(system, code), value })
            }
            _ => Err(ValueError::NotOfType),
        }
    }

    /// Returns true if an Identifier matches.
    fn matches(&self, identifier: JsonValue<'_>) -> bool {
        let has_value = identifier.member("value").and_then(JsonValue::text).is_some_and(|value| *value == *self.value);
        has_value && identifier.member("type").is_some_and(|concept| any_coding(concept, &|token| self.identifier_type.matches(token)))
    }
}

impl ElementTest<TokenElementKind> for TokenTest {
    fn any_matches(tests: &[Self], kind: TokenElementKind, value: JsonValue<'_>) -> bool {
        let matches_any = |token: Token<'_>| tests.iter().any(|test| test.matches(token));
        let matches_text = |system, is_case_sensitive| {
            let text = value.text();
            text.is_some_and(|code| matches_any(Token { system, code: Some(&code), is_case_sensitive }))
        };
        match kind {
            TokenElementKind::Coding => matches_coded(value, "code", &matches_any),
            TokenElementKind::CodeableConcept => any_coding(value, &matches_any),
            // The system of a ContactPoint is a code such as `phone`. Clients write it like the system of a code.
            TokenElementKind::Identifier | TokenElementKind::ContactPoint => matches_coded(value, "value", &matches_any),
            TokenElementKind::ReferenceIdentifier => {
                value.member("identifier").is_some_and(|identifier| matches_coded(identifier, "value", &matches_any))
            }
            TokenElementKind::Code(implied) => matches_text(implied.map_or(CodeSystem::Unknown, CodeSystem::Implied), true),
            TokenElementKind::Text => matches_text(CodeSystem::None, false),
            TokenElementKind::Exact => matches_text(CodeSystem::None, true),
            TokenElementKind::Boolean => value.bool().is_some_and(|value| matches_any(boolean_token(value))),
        }
    }
}

impl ElementTest<TokenElementKind> for OfType {
    fn any_matches(tests: &[Self], _: TokenElementKind, value: JsonValue<'_>) -> bool {
        tests.iter().any(|test| test.matches(value))
    }
}

impl ElementTest<TokenElementKind> for FoldedText {
    fn any_matches(tests: &[Self], _: TokenElementKind, value: JsonValue<'_>) -> bool {
        any_text(value, tests)
    }
}

/// Returns the token of a boolean.
pub(super) fn boolean_token(value: bool) -> Token<'static> {
    Token { system: CodeSystem::Implied(SPECIAL_VALUES), code: Some(if value { "true" } else { "false" }), is_case_sensitive: true }
}

/// Returns true if the token of a Coding, an Identifier or a ContactPoint matches. `code_name` is the name of the member that holds
/// the code.
fn matches_coded(json: JsonValue<'_>, code_name: &str, matches: &impl Fn(Token<'_>) -> bool) -> bool {
    let (mut system, mut code) = (None, None);
    for (name, value) in json.members() {
        if name == "system" {
            system = value.text();
        } else if name == code_name {
            code = value.text();
        }
    }
    matches(Token { system: system.as_deref().map_or(CodeSystem::None, CodeSystem::Given), code: code.as_deref(), is_case_sensitive: true })
}

/// Returns true if the token of one of the codings matches.
fn any_coding(concept: JsonValue<'_>, matches: &impl Fn(Token<'_>) -> bool) -> bool {
    concept.member("coding").is_some_and(|codings| codings.items().any(|coding| matches_coded(coding, "code", matches)))
}

/// Returns true if a text of the token starts with one of `texts`: `Coding.display`, `CodeableConcept.text` or
/// `Identifier.type.text`.
fn any_text(json: JsonValue<'_>, texts: &[FoldedText]) -> bool {
    json.members().any(|(name, value)| match &*name {
        "text" | "display" => value.text().is_some_and(|text| texts.iter().any(|prefix| prefix.is_prefix_of(&text))),
        "coding" => value.items().any(|coding| any_text(coding, texts)),
        "type" => any_text(value, texts),
        _ => false,
    })
}
