use super::*;
use crate::job::anonymization::ConfigName;

mod headers;
mod lenient;
mod levels;
mod lists;
mod never_panics;
mod reach;
mod single;

/// 2026-01-31T08:00:00Z.
const NOW: Millis = Millis(1_769_846_400_000);

fn ask(level: Level, prefer: &str, parameters: &[(&str, &str)]) -> Asked {
    Asked {
        level,
        accept: vec!["application/fhir+json".into()],
        prefer: vec![prefer.into()],
        parameters: parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
    }
}

fn anonymization() -> Anonymization {
    Anonymization { config: ConfigName::parse("safe.json").unwrap(), etag: Some("\"abc\"".into()) }
}

fn asked(parameters: &[(&str, &str)]) -> Asked {
    ask(Level::System, "respond-async", parameters)
}

fn resolve(asked: &Asked) -> Result<Resolved, Refusal> {
    ExportRequest::resolve(asked, &Policy::default(), &Reach::default(), NOW)
}

fn accepted(parameters: &[(&str, &str)]) -> ExportRequest {
    resolve(&asked(parameters)).unwrap().request
}

/// Accepted although something is left out: the request, and what it says is left out.
fn lenient(level: Level, parameters: &[(&str, &str)]) -> (ExportRequest, Vec<String>) {
    let request = resolve(&ask(level, "respond-async, handling=lenient", parameters)).unwrap().request;
    let ignored = request.ignored.iter().map(|ignored| ignored.parameter.clone()).collect();
    (request, ignored)
}

/// Status, and the parameter or header at fault.
fn refused(asked: &Asked) -> (u16, String) {
    let refusal = resolve(asked).unwrap_err();
    (refusal.status, refusal.expression.unwrap_or_default())
}

fn refused_with(parameters: &[(&str, &str)]) -> (u16, String) {
    refused(&asked(parameters))
}

fn by(name: &str) -> (u16, String) {
    (400, name.to_owned())
}

fn kinds(names: &[&str]) -> BTreeSet<ResourceType> {
    names.iter().map(|name| ResourceType::named(name).unwrap()).collect()
}

fn group() -> Level {
    Level::Group("g-1".into())
}

#[test]
fn a_bare_request_asks_for_everything() {
    assert_eq!(resolve(&asked(&[])), Ok(Resolved::default()));
}

#[test]
fn every_parameter_survives_its_name() {
    for parameter in Parameter::ALL {
        assert_eq!(Parameter::named(parameter.as_str()), Some(parameter));
    }
    for value in Associated::ALL {
        assert_eq!(Associated::named(value.as_str()), Some(value));
    }
}

#[test]
fn everything_at_once_is_resolved() {
    let policy = Policy {
        layouts: Layout::parse_named("daily=<timestamp>/<id>").unwrap(),
        keys: JobKey::parse_named("trial=arn:aws:kms:eu-central-1:111122223333:key/k-1").unwrap(),
        ..Policy::default()
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
    ];
    assert!(Parameter::ALL.iter().all(|parameter| parameters.iter().any(|(name, _)| *name == parameter.as_str())));
    let resolved =
        ExportRequest::resolve(&ask(group(), "respond-async, separate-export-status", &parameters), &policy, &Reach::default(), NOW)
            .unwrap();
    let expected = ExportRequest {
        version: FhirVersion::R4,
        level: group(),
        types: Some(kinds(&["Observation", "Patient"])),
        since: Instant::parse("2025-01-01").ok(),
        until: Instant::parse("2025-06-01").ok(),
        type_filters: vec!["Observation?status=final".into()],
        limits: vec![],
        elements: vec!["id".into(), "Observation.status".into()],
        patients: Some(2),
        associated: [Associated::LatestProvenanceResources].into(),
        is_organized: true,
        allows_partial_manifests: true,
        separates_status: true,
        container: Container::parse("nightly"),
        layout: Layout::parse("<timestamp>/<id>"),
        encryption_key: Some(JobKey { name: "trial".into(), arn: "arn:aws:kms:eu-central-1:111122223333:key/k-1".into() }),
        anonymization: Some(anonymization()),
        ignored: vec![],
    };
    assert_eq!(resolved, Resolved { request: expected.clone(), patients: vec!["a".into(), "b".into()], is_lenient: false });
    let stored = serde_json::to_string(&expected).unwrap();
    assert_eq!(serde_json::from_str::<ExportRequest>(&stored).unwrap(), expected);
}
