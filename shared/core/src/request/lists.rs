//! Parameters that list what is wanted: types, queries, elements, what comes along.
//!
//! Under `handling=lenient` a value that this server does not support is left out; one that it cannot read never is.

use std::collections::BTreeSet;

use headrace_fhir::{Elements, ElementsError, FhirVersion, Instant, Query, QueryError, ResourceType, split_queries};

use super::given::RawParameters;
use super::refusal::{Handling, shown};
use super::{Associated, Level, Parameter, Refusal};
use crate::vocab::outcome::IssueCode;

/// More than FHIR has types.
const TYPES_LIMIT: usize = 1_000;

/// The most queries of one request: each is matched against every resource of its type.
const QUERIES_LIMIT: usize = 200;

/// All queries of one request together: the job's record keeps them, and is read with every task that closes.
const QUERIES_BYTES: usize = 32 << 10;

/// The most elements of one request.
const ELEMENTS_LIMIT: usize = 200;

/// The most values of `includeAssociatedData`.
const ASSOCIATED_LIMIT: usize = 20;

/// What a Group may hold beside patients (R4 to R5, `Group.member.entity`): its export is about them as well.
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

/// `_type`. Types that are left out never widen the export: where none remains, nothing is exported.
pub(super) fn types(
    given: &RawParameters<'_>,
    (version, level): (FhirVersion, &Level),
    handling: &mut Handling,
) -> Result<Option<BTreeSet<ResourceType>>, Refusal> {
    if !given.has(Parameter::Type) {
        return Ok(None);
    }
    let refuse = |code, text| Refusal::of(400, code, Parameter::Type.as_str(), text);
    let known = version.types();
    let mut types = BTreeSet::new();
    for name in given.items(Parameter::Type, TYPES_LIMIT)? {
        match ResourceType::named(name).filter(|kind| known.contains(*kind)) {
            Some(kind) => drop(types.insert(kind)),
            None if name.is_empty() => {
                let text = "_type holds an empty name: list types as `Patient,Observation`";
                return Err(refuse(IssueCode::Value, text.to_owned()));
            }
            None => {
                let text = format!("_type names `{}`, which is no resource type of FHIR {version}; names are case-sensitive", shown(name));
                handling.leave_out(refuse(IssueCode::NotSupported, text))?;
            }
        }
    }
    if !types.is_empty() && !types.iter().any(|kind| is_within(*kind, version, level)) {
        let names: Vec<_> = types.iter().map(|kind| kind.as_str()).collect();
        let text = format!(
            "_type names {} only, and no resource of these is in a patient's compartment: add types that are, or export the whole system",
            shown(&names.join(", "))
        );
        handling.leave_out(refuse(IssueCode::NotSupported, text))?;
    }
    Ok(Some(types))
}

/// Whether an export of this level can hold resources of the type. A request needs one such type only (Bulk Data Access,
/// "`_type`"): the others may come along as referenced resources.
pub(super) fn is_within(kind: ResourceType, version: FhirVersion, level: &Level) -> bool {
    let in_compartment = || kind.as_str() == "Patient" || version.patient_compartment(kind).is_some();
    match level {
        Level::System => true,
        Level::AllPatients | Level::OnePatient(_) => in_compartment(),
        Level::Group(_) => in_compartment() || MEMBER_TYPES.contains(&kind.as_str()),
    }
}

/// `_typeFilter`, one query each. Where every query of a type is left out, the standard has the type exported as if there
/// had been none; the client is told.
pub(super) fn type_filters(
    given: &RawParameters<'_>,
    (version, now): (FhirVersion, Instant),
    types: Option<&BTreeSet<ResourceType>>,
    handling: &mut Handling,
) -> Result<Vec<String>, Refusal> {
    let refuse = |code, text| Refusal::of(400, code, Parameter::TypeFilter.as_str(), text);
    let values = given.all(Parameter::TypeFilter);
    let queries = || values.iter().flat_map(|value| split_queries(value));
    if values.iter().map(|value| value.len()).sum::<usize>() > QUERIES_BYTES || queries().count() > QUERIES_LIMIT {
        let text = format!("_typeFilter holds more than {QUERIES_LIMIT} queries or {QUERIES_BYTES} bytes: send fewer or shorter queries");
        return Err(refuse(IssueCode::TooCostly, text));
    }
    let mut kept = Vec::new();
    for query in queries() {
        match Query::parse(query, version, now) {
            Ok(read) if types.is_some_and(|types| !types.contains(&read.kind)) => {
                let text = format!("_typeFilter has a query on {0}, which _type does not list: add {0} to _type", read.kind);
                handling.leave_out(refuse(IssueCode::Invalid, text))?;
            }
            Ok(_) => kept.push(query.to_owned()),
            Err(error) => {
                let refusal = refuse(query_code(&error), format!("_typeFilter: {error}"));
                if refusal.code != IssueCode::NotSupported {
                    return Err(refusal);
                }
                handling.leave_out(refusal)?;
            }
        }
    }
    Ok(kept)
}

/// Whether a query is one that cannot be read, costs too much, or asks for what is not supported.
fn query_code(error: &QueryError) -> IssueCode {
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

/// `_elements`, one each. Where every element is left out, resources come whole; the client is told.
pub(super) fn elements(given: &RawParameters<'_>, version: FhirVersion, handling: &mut Handling) -> Result<Vec<String>, Refusal> {
    let refuse = |error: &ElementsError| {
        let code = match error {
            ElementsError::Empty => IssueCode::Value,
            ElementsError::Nested(_) | ElementsError::UnknownType { .. } | ElementsError::UnknownElement { .. } => IssueCode::NotSupported,
        };
        Refusal::of(400, code, Parameter::Elements.as_str(), error.to_string())
    };
    let names: Vec<String> = given.items(Parameter::Elements, ELEMENTS_LIMIT)?.into_iter().map(str::to_owned).collect();
    if names.is_empty() {
        return Ok(names);
    }
    match Elements::parse(&names, version) {
        Ok(_) => return Ok(names),
        Err(error) if !handling.is_lenient || error == ElementsError::Empty => return Err(refuse(&error)),
        Err(_) => {}
    }
    let mut kept = Vec::new();
    for name in names {
        match Elements::parse(std::slice::from_ref(&name), version) {
            Ok(_) => kept.push(name),
            Err(ElementsError::Empty) => return Err(refuse(&ElementsError::Empty)),
            Err(error) => handling.leave_out(refuse(&error))?,
        }
    }
    Ok(kept)
}

/// `includeAssociatedData`.
pub(super) fn associated(
    given: &RawParameters<'_>,
    level: &Level,
    has_filters: bool,
    handling: &mut Handling,
) -> Result<BTreeSet<Associated>, Refusal> {
    let refuse = |code, text| Refusal::of(400, code, Parameter::IncludeAssociatedData.as_str(), text);
    let mut associated = BTreeSet::new();
    for name in given.items(Parameter::IncludeAssociatedData, ASSOCIATED_LIMIT)? {
        let refusal = match Associated::named(name) {
            Some(value @ (Associated::History | Associated::Deleted)) if *level != Level::System => {
                let text = format!("includeAssociatedData={} is for exports of the whole system only", value.as_str());
                refuse(IssueCode::NotSupported, text)
            }
            Some(Associated::History) if has_filters => {
                let text = "includeAssociatedData=_history and _typeFilter exclude each other: send one of them";
                refuse(IssueCode::NotSupported, text.to_owned())
            }
            Some(value) => {
                associated.insert(value);
                continue;
            }
            None if name.is_empty() => {
                return Err(refuse(IssueCode::Value, "includeAssociatedData holds an empty value: leave it out".to_owned()));
            }
            None => {
                let known: Vec<_> = Associated::ALL.into_iter().map(Associated::as_str).collect();
                refuse(IssueCode::NotSupported, format!("includeAssociatedData takes {}, not `{}`", known.join(", "), shown(name)))
            }
        };
        handling.leave_out(refusal)?;
    }
    Ok(associated)
}
