use std::collections::BTreeSet;
use std::time::Duration;

use headrace_core::job::{Counters, ExportTime, FailureKind, FailureReason, OmittedSubjects, Planned, ReadMode, Watermark};
use headrace_core::request::{AnonymizationConfig, AssociatedData, ConfigName, EncryptionKey};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::container::Container;
use headrace_core::vocab::ids::{Caller, JobId};
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::instant::Instant;

use super::*;

/// 2026-01-31T08:00:00.000Z
const T0: Millis = Millis(1_769_846_400_000);

fn job(state: JobState) -> Job {
    let caller = Caller("arn:aws:iam::111122223333:user/ann".into());
    let base = "https://example.org/fhir".to_owned();
    Job { state, base, ..Job::accepted(JobId::from_random([0xab; 16]), caller, ExportRequest::default(), T0) }
}

#[test]
fn an_export_is_represented_as_a_task() {
    let mut job = job(JobState::Running);
    job.planned = Some(Planned {
        time: ExportTime::new(T0 + Duration::from_secs(60), Watermark::Object(T0)),
        tasks: 4,
        source_bytes: 1_000,
        read_mode: ReadMode::SinglePass,
        patient_set: None,
        omitted: OmittedSubjects::default(),
        group_patients: 0,
    });
    (job.open_tasks, job.counters) = (3, Counters { source_bytes: 250, resources: 12, ..Counters::default() });
    let expected = json!({
        "fullUrl": "urn:uuid:abababab-abab-abab-abab-abababababab",
        "resource": {
            "resourceType": "Task",
            "id": "abababababababababababababababab",
            "status": "in-progress",
            "businessStatus": { "text": "25 % done, 12 resources, 3 of 4 tasks left, as of 2026-01-31T08:00:00.000Z" },
            "intent": "order",
            "code": { "text": "Bulk Data Export" },
            "description": "Export of the whole system",
            "authoredOn": "2026-01-31T08:00:00.000Z",
            "lastModified": "2026-01-31T08:01:00.000Z",
            "output": [{
                "type": { "text": "status" },
                "valueUrl": "https://example.org/fhir/_operations/export/abababababababababababababababab"
            }, {
                "type": { "text": "transactionTime" },
                "valueInstant": "2026-01-31T08:00:00.000Z"
            }, {
                "type": { "text": "watermark" },
                "valueCode": "object"
            }]
        },
        "search": { "mode": "match" }
    });
    assert_eq!(entry(&job), expected);
}

#[test]
fn every_state_maps_to_a_task_status() {
    for (state, status, business_status) in [
        (JobState::Queued, "requested", "queued behind earlier exports"),
        (JobState::Accepted, "accepted", "planning the export"),
        (JobState::Complete, "completed", "complete, 0 resources"),
        (JobState::Failed, "failed", "failed"),
    ] {
        let task = task(&job(state));
        assert_eq!((&task["status"], &task["businessStatus"]["text"]), (&json!(status), &json!(business_status)));
    }
    let mut left_out = job(JobState::Complete);
    left_out.counters = Counters { resources: 1, lines_rejected: 2, ..Counters::default() };
    assert_eq!(task(&left_out)["businessStatus"]["text"], "complete, 1 resource, 2 lines left out");
    assert_eq!(task(&job(JobState::Complete))["output"][0]["type"]["text"], "manifest");
}

#[test]
fn a_failure_has_its_reason_in_the_shape_of_each_version() {
    let mut job = job(JobState::Failed);
    job.ended_at = Some(T0 + Duration::from_secs(3_600));
    job.reason = Some(FailureReason { kind: FailureKind::Deadline, text: "too late".into() });
    for (version, reason) in [
        (FhirVersion::R4, json!({ "text": "too late" })),
        (FhirVersion::R4b, json!({ "text": "too late" })),
        (FhirVersion::R5, json!({ "concept": { "text": "too late" } })),
    ] {
        job.request.version = version;
        let task = task(&job);
        assert_eq!((&task["statusReason"], &task["lastModified"]), (&reason, &json!("2026-01-31T09:00:00.000Z")));
    }
}

#[test]
fn the_parameters_are_listed_without_patient_data() {
    let mut job = job(JobState::Accepted);
    job.request_url = "https://example.org/fhir/Patient/CANARY/$export?patient=Patient/CANARY".into();
    job.request = ExportRequest {
        level: Level::OnePatient("CANARY".into()),
        types: Some(["Patient", "Observation"].into_iter().filter_map(ResourceType::parse).collect()),
        since: Instant::parse("2025-01").ok(),
        until: Instant::parse("2026-01-01T00:00:00Z").ok(),
        type_filters: vec!["Observation?subject=Patient/CANARY&code:in=CANARY".into(), "Patient".into()],
        elements: vec!["id".into(), "Patient.name".into()],
        patients: Some(2),
        associated_data: BTreeSet::from([AssociatedData::LatestProvenanceResources, AssociatedData::History]),
        is_organized_by_patient: true,
        container: Container::parse("my-place"),
        anonymization: Some(AnonymizationConfig { name: ConfigName::parse("study.json").unwrap(), etag: None, resolved: None }),
        encryption_key: Some(EncryptionKey { name: "trial".into(), arn: "arn:aws:kms:CANARY".into() }),
        ..ExportRequest::default()
    };
    let task = task(&job);
    assert!(!task.to_string().contains("CANARY"), "{task}");
    assert_eq!(task["description"], "Export of one patient");
    let input = |name: &str, kind: &str, value: &str| json!({ "type": { "text": name }, kind: value });
    let expected = [
        input("_type", "valueString", "Observation,Patient"),
        input("_since", "valueInstant", "2025-01-01T00:00:00Z"),
        input("_until", "valueInstant", "2026-01-01T00:00:00Z"),
        input("_elements", "valueString", "id,Patient.name"),
        input("patient", "valueString", "2 patients"),
        input("includeAssociatedData", "valueString", "LatestProvenanceResources,_history"),
        input("organizeOutputBy", "valueString", "Patient"),
        input("_container", "valueString", "my-place"),
        input("_anonymizationConfig", "valueString", "study.json"),
        input("_encryptionKey", "valueString", "trial"),
        input("_typeFilter", "valueString", "Observation?subject=…&code:in=…"),
        input("_typeFilter", "valueString", "Patient"),
    ];
    assert_eq!(task["input"], json!(expected));
}

#[test]
fn a_deidentified_export_does_not_name_its_group() {
    let mut job = job(JobState::Complete);
    job.request.level = Level::Group("CANARY".into());
    assert_eq!(task(&job)["description"], "Export of Group/CANARY");
    job.request.anonymization = Some(AnonymizationConfig { name: ConfigName::parse("study.json").unwrap(), etag: None, resolved: None });
    let task = task(&job);
    assert_eq!(task["description"], "Export of one group");
    assert!(!task.to_string().contains("CANARY"), "{task}");
}
