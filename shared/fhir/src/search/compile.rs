//! From the text of a clause to what is matched.

use super::clause::{Clause, Values};
use super::date::{DateElement, DateTest};
use super::error::{Fault, QueryError, Word};
use super::grammar::{percent_decoded, pieces, unescaped};
use super::number::{NumberElement, NumberTest};
use super::place::{Lookup, Place};
use super::quantity::{QuantityElement, QuantityTest};
use super::reading::{Asked, Reading};
use super::reference::{ReferenceElement, ReferenceTest};
use super::string::{Folded, StringElement, StringTest};
use super::token::{OfType, TokenElement, TokenTest};
use super::uri::{UriElement, UriTest};
use super::{CLAUSES, VALUES};
use crate::{Component, FhirVersion, Instant, ParameterKind, Path, ResourceType, SearchParameter, Support, TypedPath};

/// Parameters that shape a page of results; a filter has none.
const RESULT_PARAMETERS: [&str; 16] = [
    "_contained",
    "_containedType",
    "_count",
    "_elements",
    "_format",
    "_graph",
    "_include",
    "_maxresults",
    "_page",
    "_pretty",
    "_revinclude",
    "_score",
    "_since",
    "_sort",
    "_summary",
    "_total",
];

/// Parameters that no single resource can answer: they need a text index, lists, stored queries, places on earth.
const OTHER_PARAMETERS: [&str; 8] = ["_content", "_filter", "_in", "_list", "_query", "_text", "_type", "near"];

/// What a query is read for.
pub(super) struct Scope {
    pub(super) kind: ResourceType,
    pub(super) version: FhirVersion,
    pub(super) now: Instant,
}

/// Whether there is something to match it with.
pub(super) fn is_supported(parameter: &SearchParameter) -> bool {
    let is_answered = match parameter.support {
        Support::Deceased => true,
        Support::NotCompiled => false,
        Support::Compiled if parameter.kind == ParameterKind::Composite => {
            parameter.components.iter().all(|component| is_readable(component.kind, &component.paths))
        }
        Support::Compiled => is_readable(parameter.kind, &parameter.paths),
    };
    is_answered && !OTHER_PARAMETERS.contains(&parameter.code) && !RESULT_PARAMETERS.contains(&parameter.code)
}

/// Reads what stands behind the question mark.
pub(super) fn clauses(query: &str, scope: &Scope) -> Result<Vec<Clause>, QueryError> {
    let (mut clauses, mut values) = (Vec::new(), 0);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        if clauses.len() == CLAUSES {
            return Err(QueryError::TooManyClauses);
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let decoded_name = percent_decoded(name);
        let name = decoded_name.as_deref().unwrap_or(name);
        if name.is_empty() || value.is_empty() {
            return Err(QueryError::Form { kind: scope.kind, name: Word::of(name) });
        }
        let (code, modifier) = name.split_once(':').map_or((name, None), |(code, modifier)| (code, Some(modifier)));
        let parameter = parameter(scope, name, code, modifier)?;
        let refuse = |(place, fault)| QueryError::Value { kind: scope.kind, name: parameter.code, place, fault };
        let value = percent_decoded(value).ok_or_else(|| refuse((1, Fault::NotUtf8)))?;
        let pieces: Vec<_> = pieces(&value, ',').collect();
        values += pieces.len();
        if values > VALUES {
            return Err(QueryError::TooManyValues);
        }
        if let Some(place) = pieces.iter().position(|piece| piece.is_empty()) {
            return Err(refuse((place + 1, Fault::Empty)));
        }
        let asked = Asked::read(scope.kind, &parameter, modifier)?;
        clauses.push(clause(&parameter, asked, &pieces, scope.now).map_err(refuse)?);
    }
    Ok(clauses)
}

/// The parameter of this code, unless a filter cannot answer it.
fn parameter(scope: &Scope, name: &str, code: &str, modifier: Option<&str>) -> Result<SearchParameter, QueryError> {
    let (kind, version) = (scope.kind, scope.version);
    let name = || Word::of(name);
    if code == "_has" {
        return Err(QueryError::Has { kind });
    }
    if RESULT_PARAMETERS.contains(&code) {
        return Err(QueryError::ResultParameter { kind, name: name() });
    }
    if OTHER_PARAMETERS.contains(&code) {
        return Err(QueryError::NotSupported { kind, name: name() });
    }
    if code.contains('.') || modifier.is_some_and(|modifier| modifier.contains('.')) {
        return Err(QueryError::Chained { kind, name: name() });
    }
    match version.search_parameter(kind, code) {
        Some(parameter) if is_supported(&parameter) => Ok(parameter),
        Some(_) => Err(QueryError::NotSupported { kind, name: name() }),
        None => {
            let supported = super::supported_parameters(version, kind);
            let nearest = super::nearest::nearest(code, supported.iter().map(|parameter| parameter.code));
            Err(QueryError::UnknownParameter { kind, name: Word::of(code), version, nearest })
        }
    }
}

/// Which value cannot be read, counted from 1, and why.
type Refusal = (usize, Fault);

fn clause(parameter: &SearchParameter, asked: Asked, pieces: &[&str], now: Instant) -> Result<Clause, Refusal> {
    let deceased = |is_negated| Ok(Clause::Deceased { wanted: each(pieces, boolean)?, is_negated });
    let is_deceased = parameter.support == Support::Deceased;
    match asked {
        Asked::Any(_) if is_deceased => deceased(false),
        Asked::NotAny(_) if is_deceased => deceased(true),
        Asked::Any(reading) => Ok(Clause::Any(values(reading, &parameter.paths, pieces, now)?)),
        Asked::NotAny(reading) => Ok(Clause::None(values(reading, &parameter.paths, pieces, now)?)),
        Asked::Composite => {
            let values = each(pieces, |piece| parts(&parameter.components, piece, now))?;
            Ok(Clause::Composite { bases: compiled(&parameter.paths), values })
        }
        Asked::Missing => {
            let is_missing = match pieces {
                ["true"] => true,
                ["false"] => false,
                [_] => return Err((1, Fault::NotABoolean)),
                _ => return Err((2, Fault::OneTooMany)),
            };
            let paths = match is_deceased {
                true => vec![Path::parse("deceasedBoolean"), Path::parse("deceasedDateTime")],
                // Those too where nothing can be compared: something stands there.
                false => compiled(&parameter.paths),
            };
            Ok(Clause::Missing { paths, is_missing })
        }
    }
}

/// One value of a composite: a part for each component.
fn parts(components: &[Component], value: &str, now: Instant) -> Result<Vec<Values>, Fault> {
    let texts: Vec<_> = pieces(value, '$').collect();
    if texts.len() != components.len() {
        return Err(Fault::Parts(components.len()));
    }
    let part = |(component, text): (&Component, &str)| {
        if text.is_empty() {
            return Err(Fault::Parts(components.len()));
        }
        let reading = Reading::plain(component.kind).ok_or(Fault::Parts(components.len()))?;
        values(reading, &component.paths, &[text], now).map_err(|(_, fault)| fault)
    };
    components.iter().zip(texts).map(part).collect()
}

/// Whether a path leads to something that values of this kind can be compared with.
fn is_readable(kind: ParameterKind, paths: &[TypedPath]) -> bool {
    let Some(reading) = Reading::plain(kind) else { return false };
    paths.iter().any(|path| match reading {
        Reading::Token | Reading::TokenText | Reading::OfType => TokenElement::of(path.ends_in, path.system).is_some(),
        Reading::Begins | Reading::Contains | Reading::Exact => StringElement::of(path.ends_in).is_some(),
        Reading::Reference(_) | Reading::ReferenceIdentifier => ReferenceElement::of(path.ends_in).is_some(),
        Reading::Date => DateElement::of(path.ends_in).is_some(),
        Reading::Number => NumberElement::of(path.ends_in).is_some(),
        Reading::Quantity => QuantityElement::of(path.ends_in).is_some(),
        Reading::Uri(_) => UriElement::of(path.ends_in).is_some(),
    })
}

fn values(reading: Reading, paths: &[TypedPath], pieces: &[&str], now: Instant) -> Result<Values, Refusal> {
    let tokens = || places(paths, |path| TokenElement::of(path.ends_in, path.system));
    let strings = || places(paths, |path| StringElement::of(path.ends_in));
    Ok(match reading {
        Reading::Token => {
            let places = tokens();
            let is_boolean = places.iter().all(|place| place.element == TokenElement::Boolean);
            let tests = if is_boolean { each(pieces, boolean)? } else { each(pieces, TokenTest::parse)? };
            Values::Token(Lookup { places, tests })
        }
        Reading::TokenText => {
            let places = tokens().into_iter().filter(|place| place.element.has_text()).collect();
            Values::TokenText(Lookup { places, tests: each(pieces, folded)? })
        }
        Reading::OfType => {
            let places = tokens().into_iter().filter(|place| place.element == TokenElement::Identifier).collect();
            Values::OfType(Lookup { places, tests: each(pieces, OfType::parse)? })
        }
        Reading::Begins => {
            Values::String(Lookup { places: strings(), tests: each(pieces, |piece| folded(piece).map(StringTest::Begins))? })
        }
        Reading::Contains => {
            Values::String(Lookup { places: strings(), tests: each(pieces, |piece| folded(piece).map(StringTest::Contains))? })
        }
        Reading::Exact => {
            Values::String(Lookup { places: strings(), tests: each(pieces, |piece| unescaped(piece).map(StringTest::Exact))? })
        }
        Reading::Reference(target) => {
            let places = places(paths, |path| ReferenceElement::of(path.ends_in));
            Values::Reference(Lookup { places, tests: each(pieces, |piece| ReferenceTest::parse(piece, target))? })
        }
        Reading::ReferenceIdentifier => {
            let places = places(paths, |path| (path.ends_in == "Reference").then_some(TokenElement::ReferenceIdentifier));
            Values::Token(Lookup { places, tests: each(pieces, TokenTest::parse)? })
        }
        Reading::Date => {
            let places = places(paths, |path| DateElement::of(path.ends_in));
            Values::Date(Lookup { places, tests: each(pieces, |piece| DateTest::parse(piece, now))? })
        }
        Reading::Number => {
            let places = places(paths, |path| NumberElement::of(path.ends_in));
            Values::Number(Lookup { places, tests: each(pieces, NumberTest::parse)? })
        }
        Reading::Quantity => {
            let places = places(paths, |path| QuantityElement::of(path.ends_in));
            Values::Quantity(Lookup { places, tests: each(pieces, QuantityTest::parse)? })
        }
        Reading::Uri(relation) => {
            let places = places(paths, |path| UriElement::of(path.ends_in));
            Values::Uri(Lookup { places, tests: each(pieces, |piece| UriTest::parse(relation, piece))? })
        }
    })
}

fn places<E>(paths: &[TypedPath], element_of: impl Fn(&TypedPath) -> Option<E>) -> Vec<Place<E>> {
    paths.iter().filter_map(|path| Some(Place { path: Path::parse(path.path), element: element_of(path)? })).collect()
}

fn compiled(paths: &[TypedPath]) -> Vec<Path> {
    paths.iter().map(|path| Path::parse(path.path)).collect()
}

fn each<T>(pieces: &[&str], parse: impl Fn(&str) -> Result<T, Fault>) -> Result<Vec<T>, Refusal> {
    pieces.iter().enumerate().map(|(index, piece)| parse(piece).map_err(|fault| (index + 1, fault))).collect()
}

fn folded(piece: &str) -> Result<Folded, Fault> {
    unescaped(piece).map(|text| Folded::of(&text))
}

/// A token that only `true` or `false` can be.
fn boolean(piece: &str) -> Result<TokenTest, Fault> {
    let test = TokenTest::parse(piece)?;
    match test.code() {
        None | Some("true" | "false") => Ok(test),
        Some(_) => Err(Fault::NotABoolean),
    }
}
