use std::collections::BTreeSet;

use headrace_fhir::definitions::{FhirVersion, ResourceType};
use headrace_fhir::instant::Instant;
use headrace_fhir::semantics::reference::BaseUrls;

use super::*;
use crate::access::Permissions;
use crate::vocab::clock::Millis;
use crate::vocab::container::Container;
use crate::vocab::level::Level;
use crate::vocab::outcome::IssueCode;

mod fixed_configuration;
mod lenient;
mod levels;
mod lists;
mod never_panics;
mod permissions;
mod single;

/// 2026-01-31T08:00:00Z.
const NOW: Millis = Millis(1_769_846_400_000);

const STRICT: Preferences = Preferences { is_lenient: false, separates_status: false };
const LENIENT: Preferences = Preferences { is_lenient: true, ..STRICT };

fn kick_off_at(level: Level, preferences: Preferences, parameters: &[(&str, &str)]) -> RawKickOff {
    RawKickOff { level, preferences, parameters: parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect() }
}

fn anonymization() -> AnonymizationConfig {
    AnonymizationConfig::new(ConfigName::parse("safe.json").unwrap(), Some("\"abc\"".into()))
}

fn kick_off(parameters: &[(&str, &str)]) -> RawKickOff {
    kick_off_at(Level::System, STRICT, parameters)
}

fn resolve(kick_off: &RawKickOff) -> Result<ResolvedRequest, RequestError> {
    ExportRequest::resolve(kick_off, &ExportPolicy::default(), &Permissions::default(), NOW)
}

fn resolved(parameters: &[(&str, &str)]) -> ExportRequest {
    resolve(&kick_off(parameters)).unwrap().request
}

/// Resolves a kick-off under lenient handling. Returns the request and the names of its ignored parameters.
fn lenient(level: Level, parameters: &[(&str, &str)]) -> (ExportRequest, Vec<String>) {
    let request = resolve(&kick_off_at(level, LENIENT, parameters)).unwrap().request;
    let ignored = request.ignored.iter().map(|ignored| ignored.parameter.clone()).collect();
    (request, ignored)
}

/// Returns the status of a rejection and the parameter or header at fault.
fn rejection(kick_off: &RawKickOff) -> (u16, String) {
    let error = resolve(kick_off).unwrap_err();
    (error.status, error.expression.unwrap_or_default())
}

fn rejection_of(parameters: &[(&str, &str)]) -> (u16, String) {
    rejection(&kick_off(parameters))
}

fn bad_request(name: &str) -> (u16, String) {
    (400, name.to_owned())
}

fn types(names: &[&str]) -> BTreeSet<ResourceType> {
    names.iter().map(|name| ResourceType::parse(name).unwrap()).collect()
}

fn group_level() -> Level {
    Level::Group("g-1".into())
}

#[test]
fn a_request_without_parameters_exports_everything() {
    assert_eq!(resolve(&kick_off(&[])), Ok(ResolvedRequest::default()));
}

#[test]
fn every_parameter_and_value_round_trips_through_text() {
    for parameter in Parameter::ALL {
        assert_eq!(Parameter::parse(parameter.as_str()), Some(parameter));
    }
    for value in AssociatedData::ALL {
        assert_eq!(AssociatedData::parse(value.as_str()), Some(value));
    }
}

#[test]
fn a_request_with_all_parameters_is_resolved() {
    let policy = ExportPolicy {
        layouts: FolderLayout::parse_list("daily=<timestamp>/<id>").unwrap(),
        keys: EncryptionKey::parse_list("trial=arn:aws:kms:eu-central-1:111122223333:key/k-1").unwrap(),
        ..ExportPolicy::default()
    };
    let parameters = [
        ("_type", "Patient,Observation"),
        ("_typeFilter", "Observation?status=final"),
        ("_elements", "id,Observation.status"),
        ("_since", "2025-01-01T00:00:00Z"),
        ("_until", "2025-06-01T00:00:00Z"),
        ("_till", "2025-06-01T02:00:00+02:00"),
        ("patient", "Patient/b,a"),
        ("includeAssociatedData", "LatestProvenanceResources"),
        ("organizeOutputBy", "Patient"),
        ("allowPartialManifests", "true"),
        ("_outputFormat", "ndjson"),
        ("_container", "nightly"),
        ("_format", "daily"),
        ("_encryptionKey", "trial"),
        ("_anonymizationConfig", "safe.json"),
        ("_anonymizationConfigEtag", "abc"),
        ("_maxCount", "10000"),
        ("_isParallel", "false"),
        ("_estimate", "false"),
    ];
    assert!(Parameter::ALL.iter().all(|parameter| parameters.iter().any(|(name, _)| *name == parameter.as_str())));
    let resolved = ExportRequest::resolve(
        &kick_off_at(group_level(), Preferences { separates_status: true, ..STRICT }, &parameters),
        &policy,
        &Permissions::default(),
        NOW,
    )
    .unwrap();
    let expected = ExportRequest {
        version: FhirVersion::R4,
        level: group_level(),
        types: Some(types(&["Observation", "Patient"])),
        since: Instant::parse("2025-01-01").ok(),
        until: Instant::parse("2025-06-01").ok(),
        type_filters: vec!["Observation?status=final".into()],
        scope_queries: vec![],
        elements: vec!["id".into(), "Observation.status".into()],
        patients: Some(2),
        associated_data: [AssociatedData::LatestProvenanceResources].into(),
        is_organized_by_patient: true,
        allows_partial_manifests: true,
        separates_status: true,
        container: Container::parse("nightly"),
        layout: FolderLayout::parse("<timestamp>/<id>"),
        encryption_key: Some(EncryptionKey { name: "trial".into(), arn: "arn:aws:kms:eu-central-1:111122223333:key/k-1".into() }),
        anonymization: Some(anonymization()),
        ignored: vec![],
    };
    assert_eq!(resolved, ResolvedRequest { request: expected.clone(), patients: vec!["a".into(), "b".into()], is_lenient: false });
    let stored = serde_json::to_string(&expected).unwrap();
    assert_eq!(serde_json::from_str::<ExportRequest>(&stored).unwrap(), expected);
}
