//! Compiles the text of a query into clauses.

use super::clause::{Clause, Matcher};
use super::date::{DateElementKind, DateTest};
use super::error::{QueryError, QuotedName, ValueError};
use super::grammar::{percent_decode, split_unescaped, unescape};
use super::matcher::{ElementMatcher, SearchedPath};
use super::modifier::{Condition, ValueType};
use super::number::{NumberElementKind, NumberTest};
use super::quantity::{QuantityElementKind, QuantityTest};
use super::reference::{ReferenceElementKind, ReferenceTest};
use super::string::{FoldedText, StringElementKind, StringTest};
use super::token::{OfType, TokenElementKind, TokenTest};
use super::uri::{UriElementKind, UriTest};
use super::{MAX_CLAUSES, MAX_VALUES};
use crate::definitions::{
    CompositeComponent, FhirVersion, ParameterPath, ParameterSupport, ResourceType, SearchParamType, SearchParameter,
};
use crate::instant::Instant;
use crate::json::ElementPath;

/// Parameters that control the page of results. A filter has no page.
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

/// Parameters that a single resource cannot answer: they need a text index, lists, stored queries or geographic positions.
const UNSUPPORTED_PARAMETERS: [&str; 8] = ["_content", "_filter", "_in", "_list", "_query", "_text", "_type", "near"];

/// The context that a query is compiled in.
pub(super) struct QueryContext {
    pub(super) resource_type: ResourceType,
    pub(super) version: FhirVersion,
    pub(super) now: Instant,
}

/// Returns true if queries can use the parameter.
pub(super) fn is_supported(parameter: &SearchParameter) -> bool {
    let can_be_compared = match parameter.support {
        ParameterSupport::Deceased => true,
        ParameterSupport::Unsupported => false,
        ParameterSupport::Paths if parameter.param_type == SearchParamType::Composite => {
            parameter.components.iter().all(|component| has_comparable_path(component.param_type, &component.paths))
        }
        ParameterSupport::Paths => has_comparable_path(parameter.param_type, &parameter.paths),
    };
    can_be_compared && !UNSUPPORTED_PARAMETERS.contains(&parameter.code) && !RESULT_PARAMETERS.contains(&parameter.code)
}

/// Compiles the part of a query behind the question mark.
pub(super) fn compile_clauses(query: &str, context: &QueryContext) -> Result<Vec<Clause>, QueryError> {
    let resource_type = context.resource_type;
    let (mut clauses, mut value_count) = (Vec::new(), 0);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        if clauses.len() == MAX_CLAUSES {
            return Err(QueryError::TooManyClauses);
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let decoded_name = percent_decode(name);
        let name = decoded_name.as_deref().unwrap_or(name);
        if name.is_empty() || value.is_empty() {
            return Err(QueryError::Form { resource_type, name: QuotedName::new(name) });
        }
        let (code, modifier) = name.split_once(':').map_or((name, None), |(code, modifier)| (code, Some(modifier)));
        let parameter = find_parameter(context, name, code, modifier)?;
        let value_error = |(position, error)| QueryError::Value { resource_type, name: parameter.code, position, error };
        let value = percent_decode(value).ok_or_else(|| value_error((1, ValueError::NotUtf8)))?;
        // A comma separates alternatives. All of them share one clause.
        let alternatives: Vec<_> = split_unescaped(&value, ',').collect();
        value_count += alternatives.len();
        if value_count > MAX_VALUES {
            return Err(QueryError::TooManyValues);
        }
        if let Some(index) = alternatives.iter().position(|alternative| alternative.is_empty()) {
            return Err(value_error((index + 1, ValueError::Empty)));
        }
        let condition = Condition::from_modifier(resource_type, &parameter, modifier)?;
        clauses.push(compile_clause(&parameter, condition, &alternatives, context.now).map_err(value_error)?);
    }
    Ok(clauses)
}

/// Returns the parameter with this code, or the error why a filter cannot use it.
fn find_parameter(context: &QueryContext, name: &str, code: &str, modifier: Option<&str>) -> Result<SearchParameter, QueryError> {
    let (resource_type, version) = (context.resource_type, context.version);
    let name = || QuotedName::new(name);
    if code == "_has" {
        return Err(QueryError::Has { resource_type });
    }
    if RESULT_PARAMETERS.contains(&code) {
        return Err(QueryError::ResultParameter { resource_type, name: name() });
    }
    if UNSUPPORTED_PARAMETERS.contains(&code) {
        return Err(QueryError::NotSupported { resource_type, name: name() });
    }
    if code.contains('.') || modifier.is_some_and(|modifier| modifier.contains('.')) {
        return Err(QueryError::Chained { resource_type, name: name() });
    }
    match version.search_parameter(resource_type, code) {
        Some(parameter) if is_supported(&parameter) => Ok(parameter),
        Some(_) => Err(QueryError::NotSupported { resource_type, name: name() }),
        None => {
            let supported = super::supported_parameters(version, resource_type);
            let similar = super::similar::similar_names(code, supported.iter().map(|parameter| parameter.code));
            Err(QueryError::UnknownParameter { resource_type, name: QuotedName::new(code), version, similar })
        }
    }
}

/// The position of an invalid value, counted from 1, and its error.
type InvalidValue = (usize, ValueError);

/// Compiles one clause from its alternative values.
fn compile_clause(parameter: &SearchParameter, condition: Condition, values: &[&str], now: Instant) -> Result<Clause, InvalidValue> {
    let deceased = |is_negated| Ok(Clause::Deceased { tests: parse_each(values, parse_boolean)?, is_negated });
    let is_deceased = parameter.support == ParameterSupport::Deceased;
    match condition {
        Condition::Any(_) if is_deceased => deceased(false),
        Condition::NotAny(_) if is_deceased => deceased(true),
        Condition::Any(value_type) => Ok(Clause::Any(compile_matcher(value_type, &parameter.paths, values, now)?)),
        Condition::NotAny(value_type) => Ok(Clause::NotAny(compile_matcher(value_type, &parameter.paths, values, now)?)),
        Condition::Composite => {
            let alternatives = parse_each(values, |value| compile_composite_value(&parameter.components, value, now))?;
            Ok(Clause::Composite { base_paths: parse_paths(&parameter.paths), alternatives })
        }
        Condition::Missing => {
            let is_missing = match values {
                ["true"] => true,
                ["false"] => false,
                [_] => return Err((1, ValueError::NotABoolean)),
                _ => return Err((2, ValueError::OneTooMany)),
            };
            let paths = match is_deceased {
                true => vec![ElementPath::parse("deceasedBoolean"), ElementPath::parse("deceasedDateTime")],
                // All paths count, also those to elements that no value can be compared with.
                false => parse_paths(&parameter.paths),
            };
            Ok(Clause::Missing { paths, is_missing })
        }
    }
}

/// Compiles one value of a composite: one matcher for each component.
fn compile_composite_value(components: &[CompositeComponent], value: &str, now: Instant) -> Result<Vec<Matcher>, ValueError> {
    let parts: Vec<_> = split_unescaped(value, '$').collect();
    if parts.len() != components.len() {
        return Err(ValueError::Parts(components.len()));
    }
    let compile_part = |(component, part): (&CompositeComponent, &str)| {
        if part.is_empty() {
            return Err(ValueError::Parts(components.len()));
        }
        let value_type = ValueType::without_modifier(component.param_type).ok_or(ValueError::Parts(components.len()))?;
        compile_matcher(value_type, &component.paths, &[part], now).map_err(|(_, error)| error)
    };
    components.iter().zip(parts).map(compile_part).collect()
}

/// Returns true if a path leads to an element that values of this type can be compared with.
fn has_comparable_path(param_type: SearchParamType, paths: &[ParameterPath]) -> bool {
    let Some(value_type) = ValueType::without_modifier(param_type) else { return false };
    paths.iter().any(|path| match value_type {
        ValueType::Token | ValueType::TokenText | ValueType::OfType => {
            TokenElementKind::from_type(path.element_type, path.system).is_some()
        }
        ValueType::StringPrefix | ValueType::StringContains | ValueType::StringExact => {
            StringElementKind::from_type(path.element_type).is_some()
        }
        ValueType::Reference(_) | ValueType::ReferenceIdentifier => ReferenceElementKind::from_type(path.element_type).is_some(),
        ValueType::Date => DateElementKind::from_type(path.element_type).is_some(),
        ValueType::Number => NumberElementKind::from_type(path.element_type).is_some(),
        ValueType::Quantity => QuantityElementKind::from_type(path.element_type).is_some(),
        ValueType::Uri(_) => UriElementKind::from_type(path.element_type).is_some(),
    })
}

/// Compiles the matcher of alternative values. It ignores paths to elements that the values cannot be compared with.
fn compile_matcher(value_type: ValueType, paths: &[ParameterPath], values: &[&str], now: Instant) -> Result<Matcher, InvalidValue> {
    let token_paths = || searched_paths(paths, |path| TokenElementKind::from_type(path.element_type, path.system));
    let string_paths = || searched_paths(paths, |path| StringElementKind::from_type(path.element_type));
    Ok(match value_type {
        ValueType::Token => {
            let paths = token_paths();
            let is_boolean = paths.iter().all(|path| path.kind == TokenElementKind::Boolean);
            let tests = if is_boolean { parse_each(values, parse_boolean)? } else { parse_each(values, TokenTest::parse)? };
            Matcher::Token(ElementMatcher { paths, tests })
        }
        ValueType::TokenText => {
            let paths = token_paths().into_iter().filter(|path| path.kind.has_text()).collect();
            Matcher::TokenText(ElementMatcher { paths, tests: parse_each(values, parse_folded)? })
        }
        ValueType::OfType => {
            let paths = token_paths().into_iter().filter(|path| path.kind == TokenElementKind::Identifier).collect();
            Matcher::OfType(ElementMatcher { paths, tests: parse_each(values, OfType::parse)? })
        }
        ValueType::StringPrefix => {
            let tests = parse_each(values, |value| parse_folded(value).map(StringTest::StartsWith))?;
            Matcher::String(ElementMatcher { paths: string_paths(), tests })
        }
        ValueType::StringContains => {
            let tests = parse_each(values, |value| parse_folded(value).map(StringTest::Contains))?;
            Matcher::String(ElementMatcher { paths: string_paths(), tests })
        }
        ValueType::StringExact => {
            let tests = parse_each(values, |value| unescape(value).map(StringTest::Exact))?;
            Matcher::String(ElementMatcher { paths: string_paths(), tests })
        }
        ValueType::Reference(target_type) => {
            let paths = searched_paths(paths, |path| ReferenceElementKind::from_type(path.element_type));
            Matcher::Reference(ElementMatcher { paths, tests: parse_each(values, |value| ReferenceTest::parse(value, target_type))? })
        }
        ValueType::ReferenceIdentifier => {
            let paths = searched_paths(paths, |path| (path.element_type == "Reference").then_some(TokenElementKind::ReferenceIdentifier));
            Matcher::Token(ElementMatcher { paths, tests: parse_each(values, TokenTest::parse)? })
        }
        ValueType::Date => {
            let paths = searched_paths(paths, |path| DateElementKind::from_type(path.element_type));
            Matcher::Date(ElementMatcher { paths, tests: parse_each(values, |value| DateTest::parse(value, now))? })
        }
        ValueType::Number => {
            let paths = searched_paths(paths, |path| NumberElementKind::from_type(path.element_type));
            Matcher::Number(ElementMatcher { paths, tests: parse_each(values, NumberTest::parse)? })
        }
        ValueType::Quantity => {
            let paths = searched_paths(paths, |path| QuantityElementKind::from_type(path.element_type));
            Matcher::Quantity(ElementMatcher { paths, tests: parse_each(values, QuantityTest::parse)? })
        }
        ValueType::Uri(relation) => {
            let paths = searched_paths(paths, |path| UriElementKind::from_type(path.element_type));
            Matcher::Uri(ElementMatcher { paths, tests: parse_each(values, |value| UriTest::parse(relation, value))? })
        }
    })
}

/// Compiles the paths for which `kind_of` returns a kind. Other paths are left out.
fn searched_paths<K>(paths: &[ParameterPath], kind_of: impl Fn(&ParameterPath) -> Option<K>) -> Vec<SearchedPath<K>> {
    paths.iter().filter_map(|path| Some(SearchedPath { path: ElementPath::parse(path.path), kind: kind_of(path)? })).collect()
}

/// Compiles all paths.
fn parse_paths(paths: &[ParameterPath]) -> Vec<ElementPath> {
    paths.iter().map(|path| ElementPath::parse(path.path)).collect()
}

/// Parses each value. Fails with the position and the error of the first invalid value.
fn parse_each<T>(values: &[&str], parse: impl Fn(&str) -> Result<T, ValueError>) -> Result<Vec<T>, InvalidValue> {
    values.iter().enumerate().map(|(index, value)| parse(value).map_err(|error| (index + 1, error))).collect()
}

/// Parses a text that is compared without case and accents.
fn parse_folded(value: &str) -> Result<FoldedText, ValueError> {
    unescape(value).map(|text| FoldedText::new(&text))
}

/// Parses a token that is compared with booleans only.
fn parse_boolean(value: &str) -> Result<TokenTest, ValueError> {
    let test = TokenTest::parse(value)?;
    match test.code() {
        None | Some("true" | "false") => Ok(test),
        Some(_) => Err(ValueError::NotABoolean),
    }
}
