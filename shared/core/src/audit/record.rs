//! The records of the audit trail.

use serde::{Deserialize, Serialize};

use super::summary::{ExportSummary, valid_group_id};
use crate::access::{Actor, Agent, Origin};
use crate::job::file::{OutputFile, OutputFileName};
use crate::job::{ExportTime, FailureReason, Job, JobState};
use crate::request::ExportRequest;
use crate::vocab::clock::Millis;
use crate::vocab::ids::{Caller, JobId};
use crate::vocab::outcome::IssueCode;
use crate::vocab::text::stored_as_text;

/// A record of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Unique id. An action that happens to a job only once has the id `job-action`, so that it is recorded only once.
    pub id: String,
    /// Time of the action.
    pub at: Millis,
    /// Action that was performed or attempted.
    pub action: AuditAction,
    /// Agent that performed or attempted it.
    pub agent: Agent,
    /// Outcome of the action.
    pub outcome: AuditOutcome,
    /// Export concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Owner of that export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Caller>,
    /// Output file concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<OutputFileName>,
    /// Size of the file, if access to it was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Id of the Group concerned. A patient's id is never recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Requested export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportSummary>,
    /// Reason of the rejection, or of the export's failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<IssueCode>,
    /// Time of the completed export: the moment whose state of the lake it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_time: Option<ExportTime>,
    /// Number of requests that the record stands for: the described one, and those before it that have no record of their own. `None`
    /// means one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
}

/// Beginning of the ids of records about callers that were not authenticated. These records are stored apart from the others, so that
/// they cannot slow them down.
const UNKNOWN_CALLER_ID: &str = "unknown-";

/// An action that was performed or attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AuditAction {
    /// Request for an access token.
    Token,
    /// Request to start an export.
    KickOff,
    /// Request for the estimate of an export.
    Estimate,
    /// Start of an export that was queued.
    Start,
    /// Completion of an export.
    Complete,
    /// Failure of an export.
    Fail,
    /// Cancellation of an export and deletion of its files.
    Cancel,
    /// Deletion of an export's files at the end of their retention.
    Expire,
    /// Request for an export's status.
    Poll,
    /// Request for the list of the caller's exports.
    List,
    /// Request for an output file.
    Download,
    /// Read or search of Groups.
    Groups,
}

impl AuditAction {
    /// The list of all actions.
    pub const ALL: [Self; 12] = [
        Self::Token,
        Self::KickOff,
        Self::Estimate,
        Self::Start,
        Self::Complete,
        Self::Fail,
        Self::Cancel,
        Self::Expire,
        Self::Poll,
        Self::List,
        Self::Download,
        Self::Groups,
    ];

    /// Returns the code of the action, as stored and as shown in AuditEvents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::KickOff => "kick-off",
            Self::Estimate => "estimate",
            Self::Start => "start",
            Self::Complete => "complete",
            Self::Fail => "fail",
            Self::Cancel => "cancel",
            Self::Expire => "expire",
            Self::Poll => "poll",
            Self::List => "list",
            Self::Download => "download",
            Self::Groups => "groups",
        }
    }

    /// Parses the stored code of an action. Returns `None` for an unknown code.
    fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == code)
    }
}

stored_as_text!(AuditAction, Self::parse, "not an audit action");

/// The outcome of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditOutcome {
    /// The action was performed.
    Succeeded,
    /// The action was rejected with this HTTP status.
    Rejected(u16),
}

impl AuditRecord {
    /// Creates a record that names no export, file or group yet.
    pub fn new(id: String, at: Millis, action: AuditAction, agent: Agent, outcome: AuditOutcome) -> Self {
        Self {
            id,
            at,
            action,
            agent,
            outcome,
            job: None,
            owner: None,
            file: None,
            size_bytes: None,
            group: None,
            export: None,
            issue: None,
            export_time: None,
            requests: None,
        }
    }

    /// Creates the record of `requests` rejected requests of callers that were not authenticated. It describes the last one.
    pub fn from_unknown_callers(id: &str, at: Millis, action: AuditAction, origin: Origin, (status, requests): (u16, u64)) -> Self {
        let agent = Agent { actor: Actor::Unknown, origin };
        let record = Self::new(format!("{UNKNOWN_CALLER_ID}{id}"), at, action, agent, AuditOutcome::Rejected(status));
        Self { requests: (requests > 1).then_some(requests), ..record }
    }

    /// Creates the record of an action that happens to an export only once.
    pub fn from_job_action(at: Millis, action: AuditAction, agent: Agent, (job, owner): (&JobId, &Caller)) -> Self {
        let id = format!("{job}-{}", action.as_str());
        let record = Self::new(id, at, action, agent, AuditOutcome::Succeeded);
        Self { job: Some(job.clone()), owner: Some(owner.clone()), ..record }
    }

    /// Creates the record of an accepted kick-off.
    pub fn from_kick_off(agent: Agent, job: &Job) -> Self {
        let record = Self::from_job_action(job.created_at, AuditAction::KickOff, agent, (&job.id, &job.owner));
        Self { export: Some(ExportSummary::from_request(&job.request)), group: valid_group_id(&job.request.level), ..record }
    }

    /// Creates the record of an export that ended in `state` for `reason`. Returns `None` if `state` is not a final state.
    pub fn from_job_end(at: Millis, state: JobState, agent: Agent, job: &Job, reason: Option<&FailureReason>) -> Option<Self> {
        let action = match state {
            JobState::Complete => AuditAction::Complete,
            JobState::Failed => AuditAction::Fail,
            JobState::Cancelled => AuditAction::Cancel,
            JobState::Expired => AuditAction::Expire,
            JobState::Queued | JobState::Accepted | JobState::Running => return None,
        };
        let issue = reason.map(|reason| reason.kind.code());
        let export_time = job.planned.map(|planned| planned.time).filter(|_| state == JobState::Complete);
        Some(Self { issue, export_time, ..Self::from_job_action(at, action, agent, (&job.id, &job.owner)) })
    }

    /// Sets the requested export that was estimated. No export was started.
    pub fn set_estimate(&mut self, request: &ExportRequest) {
        self.export = Some(ExportSummary::from_request(request));
        self.group = valid_group_id(&request.level);
    }

    /// Sets the output file that the record is about, with its export.
    pub fn set_output_file(&mut self, (job, owner): (&JobId, &Caller), file: &OutputFile) {
        self.job = Some(job.clone());
        self.owner = Some(owner.clone());
        self.file = Some(file.name);
        self.size_bytes = Some(file.summary.bytes);
    }

    /// Returns the storage key of the record: its time and id.
    pub fn key(&self) -> AuditRecordKey {
        AuditRecordKey { at: self.at, id: self.id.clone() }
    }
}

impl AuditRecordKey {
    /// Returns true if the record is about a caller that was not authenticated.
    pub fn is_of_unknown_caller(&self) -> bool {
        self.id.starts_with(UNKNOWN_CALLER_ID)
    }
}

/// The key of a record that is not sealed yet. Keys sort by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AuditRecordKey {
    /// Time of the record.
    pub at: Millis,
    /// Id of the record.
    pub id: String,
}
