//! Represents an export as a FHIR Task, without patient data: of named patients, only the count.

use headrace_core::flow::client::status::progress;
use headrace_core::job::{Job, JobState};
use headrace_core::output::usage_report::UsageReport;
use headrace_core::request::ExportRequest;
use headrace_core::vocab::level::Level;
use headrace_core::vocab::plural::counted;
use headrace_fhir::definitions::FhirVersion;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Creates the Bundle entry of a job.
pub(crate) fn entry(job: &Job) -> Value {
    json!({ "fullUrl": urn(job.id.as_str()), "resource": task(job), "search": { "mode": "match" } })
}

/// Returns the job id as a UUID URN. There is no `[base]/Task` that a URL could name.
fn urn(hex: &str) -> String {
    let group = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("urn:uuid:{}-{}-{}-{}-{}", group(0, 8), group(8, 12), group(12, 16), group(16, 20), group(20, 32))
}

/// Represents a job as a Task, without the Bundle entry around it.
fn task(job: &Job) -> Value {
    let modified = job.ended_at.or(job.planned.map(|planned| planned.time.planned_at)).unwrap_or(job.created_at);
    let mut task = json!({
        "resourceType": "Task",
        "id": job.id.as_str(),
        "status": task_status(job.state),
        "businessStatus": text(&business_status(job)),
        "intent": "order",
        "code": text("Bulk Data Export"),
        "description": level_description(&job.request),
        "authoredOn": job.created_at.instant(),
        "lastModified": modified.instant(),
        "output": outputs(job),
    });
    let Some(members) = task.as_object_mut() else { return task };
    if let Some(schedule) = &job.schedule {
        members.insert("requester".to_owned(), json!({ "display": format!("schedule {}", schedule.name) }));
    }
    if let Some(reason) = &job.reason {
        let concept = text(&reason.text);
        let reason = match job.request.version {
            FhirVersion::R4 | FhirVersion::R4b => concept,
            // R5 has a CodeableReference here.
            FhirVersion::R5 => json!({ "concept": concept }),
        };
        members.insert("statusReason".to_owned(), reason);
    }
    let inputs = task_inputs(&job.request);
    if !inputs.is_empty() {
        members.insert("input".to_owned(), inputs.into());
    }
    task
}

/// Creates a CodeableConcept with this text.
fn text(text: &str) -> Value {
    json!({ "text": text })
}

/// Returns `Task.status` for the state of a job.
fn task_status(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "requested",
        JobState::Accepted => "accepted",
        JobState::Running => "in-progress",
        JobState::Complete => "completed",
        JobState::Failed => "failed",
        // Lists leave these jobs out.
        JobState::Cancelled | JobState::Expired => "cancelled",
    }
}

/// Returns `Task.businessStatus`: the state of the job in words, with the progress of a running one.
fn business_status(job: &Job) -> String {
    match job.state {
        JobState::Queued => "queued behind earlier exports".to_owned(),
        JobState::Accepted | JobState::Running => progress(job),
        JobState::Complete => {
            let left_out = match job.counters.lines_rejected {
                0 => String::new(),
                lines => format!(", {}", counted(lines, "line left out", "lines left out")),
            };
            format!("complete, {}{left_out}", counted(job.counters.resources, "resource", "resources"))
        }
        JobState::Failed | JobState::Cancelled | JobState::Expired => job.state.as_str().to_owned(),
    }
}

/// Returns the elements of `Task.output`: the status URL and, once the export is planned, its `transactionTime` with the rule that gave
/// it, and what the export has used so far, as JSON.
fn outputs(job: &Job) -> Vec<Value> {
    let status = json!({ "type": text(output_type(job.state)), "valueUrl": job.status_url() });
    let time = job.planned.map(|planned| planned.time);
    let time = time.map(|time| {
        [
            json!({ "type": text("transactionTime"), "valueInstant": time.transaction_time.instant() }),
            json!({ "type": text("watermark"), "valueCode": time.watermark.as_str() }),
        ]
    });
    let usage = UsageReport::from_usage(job.counters.usage).and_then(|usage| serde_json::to_string(&usage).ok());
    let usage = usage.map(|usage| json!({ "type": text("usage"), "valueString": usage }));
    [status].into_iter().chain(time.into_iter().flatten()).chain(usage).collect()
}

/// Returns the type of the Task's first output: what the status URL of a job in this state answers with.
fn output_type(state: JobState) -> &'static str {
    match state {
        JobState::Complete => "manifest",
        JobState::Queued | JobState::Accepted | JobState::Running | JobState::Failed | JobState::Cancelled | JobState::Expired => "status",
    }
}

/// Returns `Task.description`: the level of the export, with the id of a group but not of a patient. A de-identified export shows no id, as in
/// its manifest: the operator may have selected the group for a client that must not see it.
fn level_description(request: &ExportRequest) -> String {
    match &request.level {
        Level::System => "Export of the whole system".to_owned(),
        Level::AllPatients => "Export of all patients".to_owned(),
        Level::OnePatient(_) => "Export of one patient".to_owned(),
        Level::Group(_) if request.anonymization.is_some() => "Export of one group".to_owned(),
        Level::Group(id) => format!("Export of Group/{id}"),
    }
}

/// Returns the request's parameters as the elements of `Task.input`. Of a filter, only the parameter names are shown: its values
/// may disclose patient data.
fn task_inputs(request: &ExportRequest) -> Vec<Value> {
    let list = |texts: Vec<String>| (!texts.is_empty()).then(|| json!(texts.join(",")));
    let types = request.types.iter().flatten().map(ToString::to_string).collect();
    let associated = request.associated_data.iter().filter_map(serialized_text).collect();
    let patients = request.patients.map(|number| json!(counted(number.into(), "patient", "patients")));
    let container = request.container.as_ref().map(|container| json!(container.as_str()));
    let single = [
        ("_type", "valueString", list(types)),
        ("_since", "valueInstant", request.since.map(|since| json!(since.to_string()))),
        ("_until", "valueInstant", request.until.map(|until| json!(until.to_string()))),
        ("_elements", "valueString", list(request.elements.clone())),
        ("patient", "valueString", patients),
        ("includeAssociatedData", "valueString", list(associated)),
        ("organizeOutputBy", "valueString", request.is_organized_by_patient.then(|| json!("Patient"))),
        ("allowPartialManifests", "valueBoolean", request.allows_partial_manifests.then_some(Value::Bool(true))),
        ("_container", "valueString", container),
        ("_anonymizationConfig", "valueString", request.anonymization.as_ref().map(|config| json!(config.name.as_str()))),
        ("_format", "valueString", request.layout.as_ref().and_then(serialized_text).map(Value::from)),
        ("_encryptionKey", "valueString", request.encryption_key.as_ref().map(|key| json!(key.name))),
    ];
    let filters = request.type_filters.iter().map(|filter| ("_typeFilter", "valueString", Some(json!(without_values(filter)))));
    let inputs = single.into_iter().chain(filters).filter_map(|(name, kind, value)| {
        let members = [("type".to_owned(), text(name)), (kind.to_owned(), value?)];
        Some(Value::Object(Map::from_iter(members)))
    });
    inputs.collect()
}

/// Returns the text that a value serializes to. `None` if it does not serialize to a JSON string.
fn serialized_text(value: &impl Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

/// Replaces the values of a query of `_typeFilter`: `Observation?code=1234-5&date=gt2020` becomes `Observation?code=…&date=…`.
fn without_values(filter: &str) -> String {
    let (kind, query) = filter.split_once('?').unwrap_or((filter, ""));
    let names: Vec<&str> =
        query.split('&').map(|pair| pair.split_once('=').map_or("", |(name, _)| name)).filter(|name| !name.is_empty()).collect();
    let names: Vec<String> = names.iter().map(|name| format!("{name}=…")).collect();
    if names.is_empty() { kind.to_owned() } else { format!("{kind}?{}", names.join("&")) }
}

#[cfg(test)]
mod tests;
