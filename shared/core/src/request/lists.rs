//! Parameters with lists: types, queries, elements and associated data.
//!
//! Under `handling=lenient`, unsupported values are ignored. Malformed values are always rejected.

use std::collections::BTreeSet;

use headrace_fhir::definitions::{FhirVersion, ResourceType};
use headrace_fhir::instant::Instant;
use headrace_fhir::search::{Query, QueryError, split_queries};
use headrace_fhir::semantics::elements::{Elements, ElementsError};

use super::error::{Handling, to_quotable};
use super::raw::RawParameters;
use super::{AssociatedData, Parameter, RequestError};
use crate::vocab::level::Level;
use crate::vocab::outcome::IssueCode;

/// The maximum number of types in `_type`. FHIR has fewer.
const MAX_TYPES: usize = 1_000;

/// The maximum number of queries in `_typeFilter`. Each query is matched against each resource of its type.
const MAX_QUERIES: usize = 200;

/// The maximum size of all queries together, in bytes. They are stored in the job's item, which is read whenever a task
/// completes.
const MAX_QUERIES_BYTES: usize = 32 << 10;

/// The maximum number of elements in `_elements`.
const MAX_ELEMENTS: usize = 200;

/// The maximum number of values of `includeAssociatedData`.
const MAX_ASSOCIATED_DATA: usize = 20;

/// The types other than Patient that a Group can have as members (R4 to R5, `Group.member.entity`). A group-level export
/// includes these members.
const MEMBER_TYPES: [&str; 11] = [
    "CareTeam",
    "Device",
    "HealthcareService",
    "Location",
    "Medication",
    "Organization",
    "Practitioner",
    "PractitionerRole",
    "RelatedPerson",
    "Specimen",
    "Substance",
];

/// Parses `_type`. Ignored types never widen the export: if no type remains, nothing is exported.
pub(super) fn types(
    raw: &RawParameters<'_>,
    (version, level): (FhirVersion, &Level),
    handling: &mut Handling,
) -> Result<Option<BTreeSet<ResourceType>>, RequestError> {
    if !raw.has(Parameter::Type) {
        return Ok(None);
    }
    let error = |code, text| RequestError::new(400, code, Parameter::Type.as_str(), text);
    let known = version.types();
    let mut types = BTreeSet::new();
    for name in raw.items(Parameter::Type, MAX_TYPES)? {
        match ResourceType::parse(name).filter(|kind| known.contains(*kind)) {
            Some(kind) => drop(types.insert(kind)),
            None if name.is_empty() => {
                let text = "_type contains an empty name: list types as `Patient,Observation`";
                return Err(error(IssueCode::Value, text.to_owned()));
            }
            None => {
                let name = to_quotable(name);
                let text = format!("_type contains `{name}`, which is not a resource type of FHIR {version}; names are case-sensitive");
                handling.ignore_or_reject(error(IssueCode::NotSupported, text))?;
            }
        }
    }
    if !types.is_empty() && !types.iter().any(|kind| is_exportable(*kind, version, level)) {
        let names: Vec<_> = types.iter().map(|kind| kind.as_str()).collect();
        let text = format!(
            "_type contains only {}, whose resources are in no patient's compartment: add other types, or export the whole system",
            to_quotable(&names.join(", "))
        );
        handling.ignore_or_reject(error(IssueCode::NotSupported, text))?;
    }
    Ok(Some(types))
}

/// Returns true if an export of this level can contain resources of the type, other than as referenced resources. A request
/// needs only one such type (Bulk Data Access, "`_type`").
pub(super) fn is_exportable(kind: ResourceType, version: FhirVersion, level: &Level) -> bool {
    let is_in_compartment = || kind == ResourceType::PATIENT || version.patient_compartment(kind).is_some();
    match level {
        Level::System => true,
        Level::AllPatients | Level::OnePatient(_) => is_in_compartment(),
        Level::Group(_) => is_in_compartment() || MEMBER_TYPES.contains(&kind.as_str()),
    }
}

/// Parses `_typeFilter` into its queries. If all queries of a type are ignored, the type is exported without a filter, as the
/// standard requires, and the client is informed.
pub(super) fn type_filters(
    raw: &RawParameters<'_>,
    (version, now): (FhirVersion, Instant),
    types: Option<&BTreeSet<ResourceType>>,
    handling: &mut Handling,
) -> Result<Vec<String>, RequestError> {
    let error = |code, text| RequestError::new(400, code, Parameter::TypeFilter.as_str(), text);
    let values = raw.values(Parameter::TypeFilter);
    let queries = || values.iter().flat_map(|value| split_queries(value));
    if values.iter().map(|value| value.len()).sum::<usize>() > MAX_QUERIES_BYTES || queries().count() > MAX_QUERIES {
        let text =
            format!("_typeFilter contains more than {MAX_QUERIES} queries or {MAX_QUERIES_BYTES} bytes: send fewer or shorter queries");
        return Err(error(IssueCode::TooCostly, text));
    }
    let mut filters = Vec::new();
    for query in queries() {
        match Query::parse(query, version, now) {
            Ok(parsed) if types.is_some_and(|types| !types.contains(&parsed.resource_type)) => {
                let text =
                    format!("_typeFilter contains a query on {0}, which _type does not list: add {0} to _type", parsed.resource_type);
                handling.ignore_or_reject(error(IssueCode::Invalid, text))?;
            }
            Ok(_) => filters.push(query.to_owned()),
            Err(query_error) => {
                let error = error(issue_code(&query_error), format!("_typeFilter: {query_error}"));
                if error.code != IssueCode::NotSupported {
                    return Err(error);
                }
                handling.ignore_or_reject(error)?;
            }
        }
    }
    Ok(filters)
}

/// Returns the issue code of a query error: malformed, too costly or unsupported.
fn issue_code(error: &QueryError) -> IssueCode {
    use QueryError as E;
    match error {
        E::TooLong | E::TooManyClauses | E::TooManyValues => IssueCode::TooCostly,
        E::NoType | E::Form { .. } | E::Value { .. } => IssueCode::Value,
        E::UnknownType { .. }
        | E::UnknownParameter { .. }
        | E::ResultParameter { .. }
        | E::Chained { .. }
        | E::Has { .. }
        | E::NotSupported { .. }
        | E::NeedsTerminology { .. }
        | E::Modifier { .. } => IssueCode::NotSupported,
    }
}

/// Parses `_elements`. If all elements are ignored, resources are exported whole, and the client is informed.
pub(super) fn elements(raw: &RawParameters<'_>, version: FhirVersion, handling: &mut Handling) -> Result<Vec<String>, RequestError> {
    let to_request_error = |error: &ElementsError| {
        let code = match error {
            ElementsError::Empty => IssueCode::Value,
            ElementsError::Nested(_) | ElementsError::UnknownType { .. } | ElementsError::UnknownElement { .. } => IssueCode::NotSupported,
        };
        RequestError::new(400, code, Parameter::Elements.as_str(), error.to_string())
    };
    let names: Vec<String> = raw.items(Parameter::Elements, MAX_ELEMENTS)?.into_iter().map(str::to_owned).collect();
    if names.is_empty() {
        return Ok(names);
    }
    match Elements::parse(&names, version) {
        Ok(_) => return Ok(names),
        Err(error) if !handling.is_lenient || error == ElementsError::Empty => return Err(to_request_error(&error)),
        Err(_) => {}
    }
    // Lenient handling: parse the elements one by one and keep the supported ones.
    let mut kept = Vec::new();
    for name in names {
        match Elements::parse(std::slice::from_ref(&name), version) {
            Ok(_) => kept.push(name),
            Err(ElementsError::Empty) => return Err(to_request_error(&ElementsError::Empty)),
            Err(error) => handling.ignore_or_reject(to_request_error(&error))?,
        }
    }
    Ok(kept)
}

/// Parses `includeAssociatedData`. Unknown and unsupported values are ignored or rejected, as `handling` says. An empty value is
/// always rejected.
///
/// * `has_type_filters`: true if the request has queries of `_typeFilter`, which exclude `_history`.
pub(super) fn associated_data(
    raw: &RawParameters<'_>,
    level: &Level,
    has_type_filters: bool,
    handling: &mut Handling,
) -> Result<BTreeSet<AssociatedData>, RequestError> {
    let error = |code, text| RequestError::new(400, code, Parameter::IncludeAssociatedData.as_str(), text);
    let mut values = BTreeSet::new();
    for name in raw.items(Parameter::IncludeAssociatedData, MAX_ASSOCIATED_DATA)? {
        let unsupported = match AssociatedData::parse(name) {
            Some(value @ (AssociatedData::History | AssociatedData::Deleted)) if *level != Level::System => {
                let text = format!("includeAssociatedData={} is supported for exports of the whole system only", value.as_str());
                error(IssueCode::NotSupported, text)
            }
            Some(AssociatedData::History) if has_type_filters => {
                let text = "includeAssociatedData=_history and _typeFilter exclude each other: send one of them";
                error(IssueCode::NotSupported, text.to_owned())
            }
            Some(value) => {
                values.insert(value);
                continue;
            }
            None if name.is_empty() => {
                return Err(error(IssueCode::Value, "includeAssociatedData contains an empty value: remove it".to_owned()));
            }
            None => {
                let supported: Vec<_> = AssociatedData::ALL.into_iter().map(AssociatedData::as_str).collect();
                let text = format!("includeAssociatedData supports {}, not `{}`", supported.join(", "), to_quotable(name));
                error(IssueCode::NotSupported, text)
            }
        };
        handling.ignore_or_reject(unsupported)?;
    }
    Ok(values)
}
