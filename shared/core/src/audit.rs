//! What is recorded for auditors: who did what, when, from where, and how it ended. Never a patient's data.
//!
//! A record is made in the job table, in the transaction that does what it tells of, or before the answer that gives
//! something away. From there the reaper seals it: it becomes a line of a file, an AuditEvent, chained to the line before
//! it ([`chain`]).

pub mod chain;
pub mod event;
mod log;
mod order;
pub mod verify;

use serde::{Deserialize, Serialize};

use crate::access::Agent;
use crate::job::{Job, JobState, Reason};
use crate::output::file::{OutputFileName, Part};
use crate::vocab::clock::Millis;
use crate::vocab::ids::{Caller, JobId};
use crate::vocab::outcome::IssueCode;
use crate::vocab::text::stored_as_text;

pub use log::LOG_TARGET;
pub use order::{Order, OrderLevel};

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
    pub file: Option<OutputFileName>,
    /// The file's size, where it was handed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The group concerned. No patient is ever named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What an export was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Why it was refused, or why the export failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<IssueCode>,
}

/// What was done, or tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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
    /// Every deed.
    pub const ALL: [Self; 11] = [
        Self::Token,
        Self::KickOff,
        Self::Begin,
        Self::Complete,
        Self::Fail,
        Self::Cancel,
        Self::Expire,
        Self::Poll,
        Self::List,
        Self::HandOut,
        Self::Groups,
    ];

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

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|deed| deed.as_str() == name)
    }
}

stored_as_text!(Deed, Self::named, "not a deed");

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was done.
    Done,
    /// It was refused, with this HTTP status.
    Refused(u16),
}

impl AuditEntry {
    /// Something that somebody did, or tried; about nothing in particular yet.
    pub fn new(id: String, at: Millis, deed: Deed, agent: Agent, verdict: Verdict) -> Self {
        Self { id, at, deed, agent, verdict, job: None, owner: None, file: None, size_bytes: None, group: None, order: None, issue: None }
    }

    /// Something that happens to an export once.
    pub fn of_job(at: Millis, deed: Deed, agent: Agent, (job, owner): (&JobId, &Caller)) -> Self {
        let id = format!("{job}-{}", deed.as_str());
        Self { job: Some(job.clone()), owner: Some(owner.clone()), ..Self::new(id, at, deed, agent, Verdict::Done) }
    }

    /// An export that was accepted.
    pub fn of_kick_off(agent: Agent, job: &Job) -> Self {
        let about = Self::of_job(job.created_at, Deed::KickOff, agent, (&job.id, &job.owner));
        Self { order: Some(Order::of(&job.request)), group: order::group(&job.request.level), ..about }
    }

    /// An export's end in `state`, and why; `None` if that is no end.
    pub fn of_end(at: Millis, state: JobState, agent: Agent, job: &Job, reason: Option<&Reason>) -> Option<Self> {
        let deed = match state {
            JobState::Complete => Deed::Complete,
            JobState::Failed => Deed::Fail,
            JobState::Cancelled => Deed::Cancel,
            JobState::Expired => Deed::Expire,
            JobState::Queued | JobState::Accepted | JobState::Running => return None,
        };
        let issue = reason.map(|reason| reason.kind.code());
        Some(Self { issue, ..Self::of_job(at, deed, agent, (&job.id, &job.owner)) })
    }

    /// That it is about this part of the export.
    pub fn about_part(&mut self, (job, owner): (&JobId, &Caller), part: &Part) {
        self.job = Some(job.clone());
        self.owner = Some(owner.clone());
        self.file = Some(part.name);
        self.size_bytes = Some(part.content.bytes);
    }
}

#[cfg(test)]
mod tests;
