//! What is recorded for auditors: who did what, when, from where, and how it ended. Never a patient's data.

use serde::{Deserialize, Serialize};

use crate::access::Agent;
use crate::clock::Millis;
use crate::ids::{Caller, JobId};
use crate::job::{Job, JobState};
use crate::part::PartName;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its name. What happens to a job once is named after both, so that it is recorded once.
    pub id: String,
    /// When.
    pub at: Millis,
    /// What.
    pub deed: Deed,
    /// Who.
    pub agent: Agent,
    /// How it ended.
    pub verdict: Verdict,
    /// The export concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Whose export that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Caller>,
    /// The file concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PartName>,
}

/// What was done, or tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// An access token was asked for.
    Token,
    /// An export was asked for.
    KickOff,
    /// An export began, after it had waited for its turn.
    Begin,
    /// An export came to its end.
    Complete,
    /// An export failed.
    Fail,
    /// An export was taken back and its files deleted.
    Cancel,
    /// An export's time was over and its files were deleted.
    Expire,
    /// An export's status was asked for.
    Poll,
    /// The caller's exports were asked for.
    List,
    /// A file was handed out.
    HandOut,
    /// Groups were read or searched.
    Groups,
}

impl Deed {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::KickOff => "kick-off",
            Self::Begin => "begin",
            Self::Complete => "complete",
            Self::Fail => "fail",
            Self::Cancel => "cancel",
            Self::Expire => "expire",
            Self::Poll => "poll",
            Self::List => "list",
            Self::HandOut => "hand-out",
            Self::Groups => "groups",
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was done.
    Done,
    /// It was refused, with this HTTP status.
    Refused(u16),
}

impl AuditEntry {
    /// Something that happens to an export once.
    pub fn of_job(at: Millis, deed: Deed, agent: Agent, (job, owner): (&JobId, &Caller)) -> Self {
        let id = format!("{job}-{}", deed.as_str());
        Self { id, at, deed, agent, verdict: Verdict::Done, job: Some(job.clone()), owner: Some(owner.clone()), file: None }
    }

    /// An export's end in `state`; `None` if that is no end.
    pub fn of_end(at: Millis, state: JobState, agent: Agent, job: &Job) -> Option<Self> {
        let deed = match state {
            JobState::Complete => Deed::Complete,
            JobState::Failed => Deed::Fail,
            JobState::Cancelled => Deed::Cancel,
            JobState::Expired => Deed::Expire,
            JobState::Queued | JobState::Accepted | JobState::Running => return None,
        };
        Some(Self::of_job(at, deed, agent, (&job.id, &job.owner)))
    }
}
