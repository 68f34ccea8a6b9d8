//! The clauses of a query.

use super::date::{DateElementKind, DateTest};
use super::matcher::{ElementMatcher, PathRoot};
use super::number::{NumberElementKind, NumberTest};
use super::quantity::{QuantityElementKind, QuantityTest};
use super::reference::{ReferenceElementKind, ReferenceTest};
use super::string::{FoldedText, StringElementKind, StringTest};
use super::token::{OfType, TokenElementKind, TokenTest, boolean_token};
use super::uri::{UriElementKind, UriTest};
use crate::head::Resource;
use crate::json::{ElementPath, JsonValue};

/// The values of a clause, by search parameter type. One of them has to match.
#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Token(ElementMatcher<TokenElementKind, TokenTest>),
    TokenText(ElementMatcher<TokenElementKind, FoldedText>),
    OfType(ElementMatcher<TokenElementKind, OfType>),
    String(ElementMatcher<StringElementKind, StringTest>),
    Reference(ElementMatcher<ReferenceElementKind, ReferenceTest>),
    Date(ElementMatcher<DateElementKind, DateTest>),
    Number(ElementMatcher<NumberElementKind, NumberTest>),
    Quantity(ElementMatcher<QuantityElementKind, QuantityTest>),
    Uri(ElementMatcher<UriElementKind, UriTest>),
}

impl Matcher {
    /// Returns true if one of the values matches an element below `root`.
    fn matches(&self, root: PathRoot<'_, '_>) -> bool {
        match self {
            Self::Token(matcher) => matcher.matches(root),
            Self::TokenText(matcher) => matcher.matches(root),
            Self::OfType(matcher) => matcher.matches(root),
            Self::String(matcher) => matcher.matches(root),
            Self::Reference(matcher) => matcher.matches(root),
            Self::Date(matcher) => matcher.matches(root),
            Self::Number(matcher) => matcher.matches(root),
            Self::Quantity(matcher) => matcher.matches(root),
            Self::Uri(matcher) => matcher.matches(root),
        }
    }
}

/// A compiled clause of a query.
#[derive(Clone, Debug)]
pub(super) enum Clause {
    /// Matches if one of the values matches.
    Any(Matcher),
    /// `:not`: none of the values matches. An absent element matches too.
    NotAny(Matcher),
    /// `:missing`: whether there is an element at any of the paths.
    Missing { paths: Vec<ElementPath>, is_missing: bool },
    /// A single element at a base path matches all components of one of the alternatives.
    Composite { base_paths: Vec<ElementPath>, alternatives: Vec<Vec<Matcher>> },
    /// `deceased`: a date of death counts as true, and the absence of both elements as false.
    Deceased { tests: Vec<TokenTest>, is_negated: bool },
}

impl Clause {
    /// Returns true if the resource matches the clause.
    pub(super) fn matches(&self, resource: &Resource<'_>) -> bool {
        let root = PathRoot::Resource(resource);
        match self {
            Self::Any(matcher) => matcher.matches(root),
            Self::NotAny(matcher) => !matcher.matches(root),
            Self::Missing { paths, is_missing } => paths.iter().any(|path| root.visit(path, &mut |_| true)) != *is_missing,
            Self::Composite { base_paths, alternatives } => {
                let matches_all = |base: PathRoot<'_, '_>| {
                    alternatives.iter().any(|components| components.iter().all(|component| component.matches(base)))
                };
                base_paths.iter().any(|path| match path.root() {
                    None => matches_all(root),
                    Some(_) => root.visit(path, &mut |base| matches_all(PathRoot::Value(base))),
                })
            }
            Self::Deceased { tests, is_negated } => {
                let is_deceased = resource.member("deceasedDateTime").is_some()
                    || resource.member("deceasedBoolean").and_then(JsonValue::bool).unwrap_or_default();
                tests.iter().any(|test| test.matches(boolean_token(is_deceased))) != *is_negated
            }
        }
    }
}
