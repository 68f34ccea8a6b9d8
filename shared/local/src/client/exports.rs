//! The exports of a server: the list, and the status of each.

use std::collections::BTreeSet;

use headrace_core::output::usage_report::UsageReport;
use reqwest::header::ACCEPT;
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::client::body::read_bounded;
use crate::client::bulk::{BulkClient, Manifest, PollAnswer, too_much};
use crate::client::error::{ClientError, Failure, RequestFailure, TransportError, shown_url};
use crate::client::login::LoginError;
use crate::client::origin::parse_http_url;
use crate::client::patience::{Patience, SHORT_OUTAGE};
use crate::client::timer::Timer;
use crate::client::transport::Call;
use crate::terminal::shorten;

/// Name of a request for the list of exports in messages.
pub(crate) const LIST: &str = "the request for the list of exports";

/// Path of the list of exports, below the base URL.
const LIST_PATH: &str = "_operations/export";

/// Number of exports on a page of the list, the largest that Headrace accepts.
const PAGE_SIZE: u32 = 100;

/// State of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportState {
    /// The export waits for others to end.
    Queued,
    /// The export is accepted.
    Accepted,
    /// The export runs.
    Running,
    /// The export is complete.
    Complete,
    /// The export has failed.
    Failed,
    /// The server gave another state.
    Unknown,
}

impl ExportState {
    /// Returns the word for the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Returns true if the export has not ended.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Accepted | Self::Running)
    }

    /// Returns the state for `Task.status`.
    fn from_task_status(status: &str) -> Self {
        match status {
            "requested" | "received" | "on-hold" => Self::Queued,
            "accepted" | "ready" => Self::Accepted,
            "in-progress" => Self::Running,
            "completed" => Self::Complete,
            "failed" | "rejected" | "cancelled" => Self::Failed,
            _ => Self::Unknown,
        }
    }
}

/// An export in the list of a server. Texts are as the server sent them.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedExport {
    /// Id.
    pub id: String,
    /// State.
    pub state: ExportState,
    /// The data that is exported, such as `Export of all patients`.
    pub level: String,
    /// Progress, or the outcome in a few words.
    pub progress: String,
    /// Reason of a failure.
    pub reason: Option<String>,
    /// Time of the kick-off.
    pub started: String,
    /// Time of the last change.
    pub changed: String,
    /// Names and values of the request's parameters.
    pub parameters: Vec<(String, String)>,
    /// The schedule that has started the export, such as `schedule nightly`.
    pub requester: Option<String>,
    /// The moment whose state of the data is exported, once it is known.
    pub transaction_time: Option<String>,
    /// Usage so far, if the server tells it.
    pub usage: Option<UsageReport>,
}

/// A page of the list: a Bundle of Tasks.
#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    entry: Vec<BundleEntry>,
    #[serde(default)]
    link: Vec<BundleLink>,
}

/// An entry of the list of exports.
#[derive(Deserialize)]
struct BundleEntry {
    resource: Task,
}

/// A link of the list of exports.
#[derive(Deserialize)]
struct BundleLink {
    relation: String,
    url: String,
}

/// An export as a FHIR Task.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    id: String,
    status: String,
    #[serde(default)]
    description: String,
    business_status: Option<Concept>,
    status_reason: Option<Reason>,
    requester: Option<Requester>,
    #[serde(default)]
    authored_on: String,
    #[serde(default)]
    last_modified: String,
    #[serde(default)]
    input: Vec<NamedValue>,
    #[serde(default)]
    output: Vec<NamedValue>,
}

/// Reference to the client or the schedule that has asked for an export.
#[derive(Deserialize)]
struct Requester {
    display: Option<String>,
}

#[derive(Deserialize)]
struct Concept {
    text: Option<String>,
}

/// The reason of a status: a CodeableConcept, or in R5 a CodeableReference.
#[derive(Deserialize)]
struct Reason {
    text: Option<String>,
    concept: Option<Concept>,
}

/// An element of `Task.input` or `Task.output`.
#[derive(Deserialize)]
struct NamedValue {
    #[serde(rename = "type")]
    name: Concept,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl NamedValue {
    /// Returns the name and the value of any type as texts.
    fn to_texts(&self) -> Option<(String, String)> {
        let (_, value) = self.other.iter().find(|(name, _)| name.starts_with("value"))?;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some((self.name.text.clone()?, value))
    }
}

impl From<Task> for ListedExport {
    fn from(task: Task) -> Self {
        let output: Vec<(String, String)> = task.output.iter().filter_map(NamedValue::to_texts).collect();
        let output_value = |wanted: &str| output.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let reason = task.status_reason.and_then(|reason| reason.text.or_else(|| reason.concept?.text));
        Self {
            id: task.id,
            state: ExportState::from_task_status(&task.status),
            level: task.description,
            progress: task.business_status.and_then(|status| status.text).unwrap_or_default(),
            reason,
            started: task.authored_on,
            changed: task.last_modified,
            requester: task.requester.and_then(|requester| requester.display),
            parameters: task.input.iter().filter_map(NamedValue::to_texts).collect(),
            transaction_time: output_value("transactionTime").map(str::to_owned),
            usage: output_value("usage").and_then(|usage| serde_json::from_str(usage).ok()),
        }
    }
}

/// The status of one export.
#[derive(Debug)]
pub enum ExportAnswer {
    /// The export runs, with the text of `X-Progress`.
    Running(Option<String>),
    /// The export is complete.
    Complete(Box<Manifest>),
}

/// Returns true if nothing answers at the address of the server.
pub(crate) fn is_unreachable(error: &ClientError) -> bool {
    let (ClientError::Http(failure) | ClientError::Login(LoginError::Http(failure))) = error else { return false };
    matches!(&failure.cause, TransportError::Connection(error) if error.is_connect())
}

/// Returns the status URL of the export with this id.
pub fn status_url(base: &str, id: &str) -> Result<Url, ClientError> {
    Ok(parse_http_url(&format!("{}/{LIST_PATH}/{id}", base.trim_end_matches('/')))?)
}

impl<T: Timer> BulkClient<T> {
    /// Lists the client's own exports, newest first, until `take` returns false.
    pub async fn list_exports(&self, base: &str, mut take: impl FnMut(ListedExport) -> bool) -> Result<(), ClientError> {
        let mut url = parse_http_url(&format!("{}/{LIST_PATH}?_count={PAGE_SIZE}", base.trim_end_matches('/')))?;
        let mut visited = BTreeSet::from([url.clone()]);
        loop {
            let (exports, next) = self.list_page(&url).await?;
            for export in exports {
                if !take(export) {
                    return Ok(());
                }
            }
            let Some(next) = next else { return Ok(()) };
            if visited.len() >= self.session.limits.pages {
                return Err(too_much("the number of pages of its list of exports", format!("{} pages", self.session.limits.pages)));
            }
            if !visited.insert(next.clone()) {
                return Err(ClientError::NotConformant(format!("the pages of its list of exports form a circle at {}", shown_url(&next))));
            }
            url = next;
        }
    }

    /// Reads a page of the list, and the URL of the next page.
    async fn list_page(&self, url: &Url) -> Result<(Vec<ListedExport>, Option<Url>), ClientError> {
        let response = self.get_list_page(url).await?;
        let from = response.url().clone();
        let limits = &self.session.limits;
        let body = read_bounded(response, limits.idle, limits.manifest_bytes).await;
        let body = body.map_err(|cause| RequestFailure::new(LIST, url, cause))?;
        let bundle: Bundle = serde_json::from_slice(&body).map_err(|error| {
            ClientError::NotConformant(format!("its list of exports is not a Bundle of Tasks: {}", shorten(&error.to_string(), 300)))
        })?;
        let next = bundle.link.iter().find(|link| link.relation == "next");
        let next = next.map(|link| self.session.resolve(&from, &link.url)).transpose()?;
        Ok((bundle.entry.into_iter().map(|entry| entry.resource.into()).collect(), next))
    }

    /// Requests a page of the list, and tries again for a short time after a passing failure.
    async fn get_list_page(&self, url: &Url) -> Result<Response, ClientError> {
        let call = Call::new(LIST, Method::GET).header(ACCEPT, "application/fhir+json");
        let mut patience = Patience::new(SHORT_OUTAGE, SHORT_OUTAGE);
        loop {
            let failure = match self.session.send(&call, url).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => self.failure(LIST, response).await,
                Err(error) => error.into(),
            };
            self.pause(&mut patience, failure).await?;
        }
    }

    /// Waits before the next attempt. Returns the error if someone waits for the answer, and another attempt would be in vain.
    async fn pause(&self, patience: &mut Patience, failure: Failure) -> Result<(), ClientError> {
        if is_unreachable(&failure.error) {
            return Err(failure.error);
        }
        let (delay, _) = patience.next_delay(failure, self.timer.now())?;
        self.timer.sleep(delay).await;
        Ok(())
    }

    /// Requests the list of exports, to check that the server accepts this client's credentials, or accepts it without any. Returns the
    /// error if it does not.
    pub async fn check_access(&self, base: &Url) -> Result<(), ClientError> {
        let url = parse_http_url(&format!("{}/{LIST_PATH}?_count=1", base.as_str().trim_end_matches('/')))?;
        self.get_list_page(&url).await.map(drop)
    }

    /// Asks once for the status of an export, and again for a short time after a passing failure. A manifest has the files of all its
    /// pages.
    pub async fn export_status(&self, status_url: &Url) -> Result<ExportAnswer, ClientError> {
        let mut patience = Patience::new(SHORT_OUTAGE, SHORT_OUTAGE);
        loop {
            match self.poll_once(status_url).await {
                Ok(PollAnswer::Running { progress, .. }) => return Ok(ExportAnswer::Running(progress)),
                Ok(PollAnswer::Complete(manifest)) => {
                    let deadline = self.timer.now() + self.session.limits.outage;
                    let manifest = self.add_pages(*manifest, status_url, deadline, &mut |_| {}).await?;
                    return Ok(ExportAnswer::Complete(Box::new(manifest)));
                }
                Err(failure) => self.pause(&mut patience, failure).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses the Task of an export.
    fn export(json: &str) -> ListedExport {
        serde_json::from_str::<Task>(json).unwrap().into()
    }

    #[test]
    fn a_task_of_any_version_is_read() {
        let read = export(
            r#"{"resourceType":"Task","id":"a1","status":"failed","businessStatus":{"text":"failed"},"intent":"order",
            "requester":{"display":"schedule nightly"},
            "description":"Export of Group/7","authoredOn":"2026-01-31T08:00:00.000Z","lastModified":"2026-01-31T08:01:00.000Z",
            "statusReason":{"text":"the lake changed"},"input":[{"type":{"text":"_type"},"valueString":"Patient"},
            {"type":{"text":"allowPartialManifests"},"valueBoolean":true}],"output":[{"type":{"text":"status"},"valueUrl":"https://h/1"},
            {"type":{"text":"transactionTime"},"valueInstant":"2026-01-31T07:59:00.000Z"}]}"#,
        );
        assert_eq!((read.id.as_str(), read.state, read.level.as_str()), ("a1", ExportState::Failed, "Export of Group/7"));
        assert_eq!((read.reason.as_deref(), read.requester.as_deref()), (Some("the lake changed"), Some("schedule nightly")));
        let parameters: Vec<String> = read.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(parameters, ["_type=Patient", "allowPartialManifests=true"]);
        assert_eq!(read.transaction_time.as_deref(), Some("2026-01-31T07:59:00.000Z"));
        let r5 = export(r#"{"id":"a","status":"failed","statusReason":{"concept":{"text":"because"}}}"#);
        assert_eq!((r5.reason.as_deref(), r5.started.as_str()), (Some("because"), ""));
    }

    #[test]
    fn only_exports_that_wait_or_run_are_open() {
        for (status, word, is_open) in [
            ("requested", "queued", true),
            ("accepted", "accepted", true),
            ("in-progress", "running", true),
            ("completed", "complete", false),
            ("failed", "failed", false),
            ("entered-in-error", "unknown", false),
        ] {
            let state = ExportState::from_task_status(status);
            assert_eq!((state.as_str(), state.is_open()), (word, is_open), "{status}");
        }
    }

    #[test]
    fn a_status_url_is_below_the_base_url() {
        for base in ["https://h.example/r4", "https://h.example/r4/"] {
            assert_eq!(status_url(base, "0a").unwrap().as_str(), "https://h.example/r4/_operations/export/0a");
        }
        assert!(status_url("s3://bucket", "0a").is_err());
    }
}
