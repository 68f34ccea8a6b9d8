//! One clause of a query, compiled, and how a resource meets it.

use super::date::{DateElement, DateTest};
use super::number::{NumberElement, NumberTest};
use super::place::{Base, Lookup};
use super::quantity::{QuantityElement, QuantityTest};
use super::reference::{ReferenceElement, ReferenceTest};
use super::string::{Folded, StringElement, StringTest};
use super::token::{OfType, TokenElement, TokenTest, boolean};
use super::uri::{UriElement, UriTest};
use crate::json::Json;
use crate::{Path, Resource};

/// The values of a clause, one of which has to be found.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Token(Lookup<TokenElement, TokenTest>),
    TokenText(Lookup<TokenElement, Folded>),
    OfType(Lookup<TokenElement, OfType>),
    String(Lookup<StringElement, StringTest>),
    Reference(Lookup<ReferenceElement, ReferenceTest>),
    Date(Lookup<DateElement, DateTest>),
    Number(Lookup<NumberElement, NumberTest>),
    Quantity(Lookup<QuantityElement, QuantityTest>),
    Uri(Lookup<UriElement, UriTest>),
}

impl Values {
    fn are_found(&self, base: Base<'_, '_>) -> bool {
        match self {
            Self::Token(lookup) => lookup.finds(base),
            Self::TokenText(lookup) => lookup.finds(base),
            Self::OfType(lookup) => lookup.finds(base),
            Self::String(lookup) => lookup.finds(base),
            Self::Reference(lookup) => lookup.finds(base),
            Self::Date(lookup) => lookup.finds(base),
            Self::Number(lookup) => lookup.finds(base),
            Self::Quantity(lookup) => lookup.finds(base),
            Self::Uri(lookup) => lookup.finds(base),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Clause {
    /// One of the values is there.
    Any(Values),
    /// None of them is, be it that nothing is: `:not`.
    None(Values),
    /// Whether anything stands at any of the paths: `:missing`.
    Missing { paths: Vec<Path>, is_missing: bool },
    /// One instance of a base that has all parts of one of the values.
    Composite { bases: Vec<Path>, values: Vec<Vec<Values>> },
    /// `deceased`: a date of death says it as well as `true` does, and nothing says that one lives.
    Deceased { wanted: Vec<TokenTest>, is_negated: bool },
}

impl Clause {
    pub(super) fn matches(&self, resource: &Resource<'_>) -> bool {
        let root = Base::Root(resource);
        match self {
            Self::Any(values) => values.are_found(root),
            Self::None(values) => !values.are_found(root),
            Self::Missing { paths, is_missing } => paths.iter().any(|path| root.any(path, &mut |_| true)) != *is_missing,
            Self::Composite { bases, values } => {
                let has_all = |base: Base<'_, '_>| values.iter().any(|parts| parts.iter().all(|part| part.are_found(base)));
                bases.iter().any(|path| match path.root() {
                    None => has_all(root),
                    Some(_) => root.any(path, &mut |base| has_all(Base::Below(base))),
                })
            }
            Self::Deceased { wanted, is_negated } => {
                let is_deceased = resource.member("deceasedDateTime").is_some()
                    || resource.member("deceasedBoolean").and_then(Json::bool).unwrap_or_default();
                wanted.iter().any(|wanted| wanted.accepts(boolean(is_deceased))) != *is_negated
            }
        }
    }
}
