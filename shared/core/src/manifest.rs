//! The answer of a finished job (Bulk Data Access, "Bulk Data Output Manifest").

use serde::Serialize;

use crate::job::Job;
use crate::part::{Part, PartKind};

/// The largest manifest that is handed out, in bytes as it travels: within a Lambda function's answer it is a JSON
/// string, with a backslash before each quote. The answer has at most 6 MiB, headers included.
pub const MANIFEST_LIMIT_BYTES: usize = 6_000_000;

/// The manifest of a complete job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    transaction_time: String,
    request: String,
    requires_access_token: bool,
    output: Vec<Entry>,
    /// Always there when `_since` was given: an empty list says that no deletion is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<Vec<Entry>>,
    error: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Entry {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    url: String,
    count: u64,
}

impl Manifest {
    /// The manifest of `job` with these recorded parts (rule P4: from records, never from a listing).
    pub fn of(job: &Job, mut parts: Vec<Part>) -> Self {
        parts.sort_by_key(|part| part.name);
        let entry = |part: &Part| Entry {
            kind: part.name.kind.manifest_type(),
            url: format!("{}/_operations/files/{}/{}", job.base, job.id, part.name),
            count: part.content.lines,
        };
        let (errors, output): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|part| part.name.kind == PartKind::Error);
        Self {
            transaction_time: job.planned.map(|planned| planned.transaction_time.instant()).unwrap_or_default(),
            request: job.request_url.clone(),
            requires_access_token: job.requires_access_token,
            output: output.iter().map(entry).collect(),
            deleted: job.request.since.map(|_| Vec::new()),
            error: errors.iter().map(entry).collect(),
        }
    }

    /// As JSON text.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Whether it can be handed out in one response.
    pub fn fits(&self) -> bool {
        let travelling = self.json().and_then(|json| serde_json::to_string(&json));
        travelling.is_ok_and(|text| text.len() <= MANIFEST_LIMIT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use headrace_fhir::ResourceType;

    use super::*;
    use crate::clock::Millis;
    use crate::ids::{Caller, JobId};
    use crate::job::{JobState, Pass, Planned};
    use crate::part::{Content, PartName};
    use crate::request::ExportRequest;
    use crate::roster::LeftOut;

    fn job() -> Job {
        Job {
            state: JobState::Complete,
            request_url: "https://h/fhir/$export".into(),
            base: "https://h/fhir".into(),
            requires_access_token: true,
            planned: Some(Planned {
                transaction_time: Millis(1_769_846_400_000),
                tasks: 1,
                source_bytes: 1,
                pass: Pass::Direct,
                roster: None,
                left_out: LeftOut::default(),
            }),
            ended_at: Some(Millis(1)),
            ..Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), ExportRequest::default(), Millis(0))
        }
    }

    fn part(kind: PartKind, number: u32) -> Part {
        Part { name: PartName { kind, number }, content: Content { bytes: 1, lines: u64::from(number), crc64: 0 } }
    }

    #[test]
    fn parts_are_listed_by_type_and_number_and_errors_apart() {
        let kind = |name| PartKind::Output(ResourceType::named(name).unwrap());
        let parts = vec![part(kind("Patient"), 10), part(PartKind::Error, 1), part(kind("Patient"), 2), part(kind("Account"), 1)];
        let manifest = Manifest::of(&job(), parts);
        let files = |entries: &[Entry]| -> Vec<String> {
            entries
                .iter()
                .map(|entry| format!("{} {} {}", entry.kind.unwrap_or_default(), entry.url.rsplit('/').next().unwrap(), entry.count))
                .collect()
        };
        assert_eq!(files(&manifest.output), ["Account Account-1.ndjson 1", "Patient Patient-2.ndjson 2", "Patient Patient-10.ndjson 10"]);
        assert_eq!(files(&manifest.error), ["OperationOutcome error-1.ndjson 1"]);
        assert!(manifest.output.iter().all(|entry| entry.url.starts_with("https://h/fhir/_operations/files/0707")));
    }

    #[test]
    fn an_export_without_resources_lists_empty_arrays() {
        let json = Manifest::of(&job(), Vec::new()).json().unwrap();
        assert_eq!(
            json,
            r#"{"transactionTime":"2026-01-31T08:00:00.000Z","request":"https://h/fhir/$export","requiresAccessToken":true,"output":[],"error":[]}"#
        );
    }

    #[test]
    fn the_largest_manifest_still_fits_into_a_lambda_response() {
        let kind = PartKind::Output(ResourceType::named("MedicinalProductUndesirableEffect").unwrap());
        let manifest = |count| Manifest::of(&job(), (1..=count).map(|number| part(kind, number)).collect());
        let length = |count| serde_json::to_string(&manifest(count).json().unwrap()).unwrap().len();
        assert!(manifest(25_000).fits() && length(25_000) > 4_000_000);
        // Somewhat over the limit by its escaped quotes alone.
        let over = (25_000..50_000).step_by(2_500).find(|count| length(*count) > MANIFEST_LIMIT_BYTES).unwrap();
        assert!(!manifest(over).fits() && manifest(over).json().unwrap().len() < MANIFEST_LIMIT_BYTES);
    }
}
