//! An export as a FHIR Task: no patient's data, and of patients that were named only how many.

use headrace_core::flow::client::status::progress;
use headrace_core::job::{Job, JobState};
use headrace_core::request::{ExportRequest, Level};
use headrace_fhir::FhirVersion;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The Bundle's entry of a job.
pub(crate) fn entry(job: &Job) -> Value {
    json!({ "fullUrl": urn(job.id.as_str()), "resource": task(job), "search": { "mode": "match" } })
}

/// There is no `[base]/Task`, so its name there is one that needs none.
fn urn(hex: &str) -> String {
    let group = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("urn:uuid:{}-{}-{}-{}-{}", group(0, 8), group(8, 12), group(12, 16), group(16, 20), group(20, 32))
}

fn task(job: &Job) -> Value {
    let modified = job.ended_at.or(job.planned.as_ref().map(|planned| planned.transaction_time)).unwrap_or(job.created_at);
    let mut task = json!({
        "resourceType": "Task",
        "id": job.id.as_str(),
        "status": status(job.state),
        "businessStatus": text(&standing(job)),
        "intent": "order",
        "code": text("Bulk Data Export"),
        "description": description(&job.request.level),
        "authoredOn": job.created_at.instant(),
        "lastModified": modified.instant(),
        "output": [{ "type": text(output(job.state)), "valueUrl": job.status_url() }],
    });
    let Some(members) = task.as_object_mut() else { return task };
    if let Some(reason) = &job.reason {
        let said = text(&reason.text);
        let said = match job.request.version {
            FhirVersion::R4 | FhirVersion::R4b => said,
            // A CodeableReference since.
            FhirVersion::R5 => json!({ "concept": said }),
        };
        members.insert("statusReason".to_owned(), said);
    }
    let inputs = inputs(&job.request);
    if !inputs.is_empty() {
        members.insert("input".to_owned(), inputs.into());
    }
    task
}

fn text(said: &str) -> Value {
    json!({ "text": said })
}

fn status(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "requested",
        JobState::Accepted => "accepted",
        JobState::Running => "in-progress",
        JobState::Complete => "completed",
        JobState::Failed => "failed",
        // Not listed; if they were, this is what they are.
        JobState::Cancelled | JobState::Expired => "cancelled",
    }
}

fn standing(job: &Job) -> String {
    match job.state {
        JobState::Queued => "waiting for earlier exports".to_owned(),
        JobState::Accepted | JobState::Running => progress(job),
        JobState::Complete => format!("complete, {} resources", job.tally.resources),
        JobState::Failed | JobState::Cancelled | JobState::Expired => job.state.as_str().to_owned(),
    }
}

fn output(state: JobState) -> &'static str {
    match state {
        JobState::Complete => "manifest",
        JobState::Queued | JobState::Accepted | JobState::Running | JobState::Failed | JobState::Cancelled | JobState::Expired => "status",
    }
}

fn description(level: &Level) -> String {
    match level {
        Level::System => "Export of the whole system".to_owned(),
        Level::AllPatients => "Export of all patients".to_owned(),
        Level::OnePatient(_) => "Export of one patient".to_owned(),
        Level::Group(id) => format!("Export of Group/{id}"),
    }
}

/// The request's parameters. A filter shows what it looks at and not the values, for those may tell of a patient.
fn inputs(request: &ExportRequest) -> Vec<Value> {
    let list = |texts: Vec<String>| (!texts.is_empty()).then(|| json!(texts.join(",")));
    let types = request.types.iter().flatten().map(ToString::to_string).collect();
    let associated = request.associated.iter().filter_map(name_of).collect();
    let patients = request.patients.map(|number| json!(format!("{number} patients")));
    let container = request.container.as_ref().map(|container| json!(container.as_str()));
    let single = [
        ("_type", "valueString", list(types)),
        ("_since", "valueInstant", request.since.map(|since| json!(since.to_string()))),
        ("_until", "valueInstant", request.until.map(|until| json!(until.to_string()))),
        ("_elements", "valueString", list(request.elements.clone())),
        ("patient", "valueString", patients),
        ("includeAssociatedData", "valueString", list(associated)),
        ("organizeOutputBy", "valueString", request.is_organized.then(|| json!("Patient"))),
        ("allowPartialManifests", "valueBoolean", request.allows_partial_manifests.then_some(Value::Bool(true))),
        ("_container", "valueString", container),
        ("_format", "valueString", request.layout.as_ref().and_then(name_of).map(Value::from)),
        ("_encryptionKey", "valueString", request.encryption_key.as_ref().map(|key| json!(key.name))),
    ];
    let filters = request.type_filters.iter().map(|filter| ("_typeFilter", "valueString", Some(json!(without_values(filter)))));
    let given = single.into_iter().chain(filters).filter_map(|(name, kind, value)| {
        let members = [("type".to_owned(), text(name)), (kind.to_owned(), value?)];
        Some(Value::Object(Map::from_iter(members)))
    });
    given.collect()
}

/// The text as which a value is stored.
fn name_of(value: &impl Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

/// `Observation?code=1234-5&date=gt2020` as `Observation?code&date`.
fn without_values(filter: &str) -> String {
    let (kind, query) = filter.split_once('?').unwrap_or((filter, ""));
    let names: Vec<&str> =
        query.split('&').map(|pair| pair.split_once('=').map_or("", |(name, _)| name)).filter(|name| !name.is_empty()).collect();
    if names.is_empty() { kind.to_owned() } else { format!("{kind}?{}", names.join("&")) }
}

#[cfg(test)]
mod tests;
