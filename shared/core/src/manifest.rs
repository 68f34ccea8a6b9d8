//! The answer of a finished job (Bulk Data Access, "Bulk Data Output Manifest").

use serde::Serialize;

use crate::job::Job;
use crate::part::{Part, PartKind};

/// The largest manifest that is handed out, in bytes: a Lambda function answers at most 6 MB, headers included.
pub const MANIFEST_LIMIT_BYTES: usize = 5_900_000;

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
    #[serde(rename = "type")]
    kind: &'static str,
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
        self.json().is_ok_and(|json| json.len() <= MANIFEST_LIMIT_BYTES)
    }
}
