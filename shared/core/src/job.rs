//! One export and the moves it can make.

pub mod anonymization;
pub mod folder;
pub mod task;

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod idempotency;
mod quota;
mod state;

pub use idempotency::IdempotencyKey;
pub use quota::{Conditions, Limit, Quotas, Recorded};
pub use state::{IllegalStep, JobEvent, JobState, Step};

use crate::access::Principal;
use crate::cohort::LeftOut;
use crate::job::anonymization::Pinned;
use crate::job::folder::Folder;
use crate::output::file::Tail;
use crate::request::ExportRequest;
use crate::vocab::clock::Millis;
use crate::vocab::ids::{Caller, JobId};
use crate::vocab::outcome::IssueCode;

/// Why a job failed, for the client's eyes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What kind of failure.
    pub kind: ReasonKind,
    /// What happened and what to do; never data, tokens or presigned URLs.
    pub text: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonKind {
    /// An object of the lake changed or vanished after it was pinned.
    SourceChanged,
    /// An object of the lake cannot be read as what its name says.
    SourceUnreadable,
    /// The service lacks a permission, or a setting is wrong.
    Misconfigured,
    /// A task used up its attempts.
    Exhausted,
    /// The job outlived its deadline.
    Deadline,
    /// The manifest would not fit into one response.
    TooLarge,
    /// The lake has no such group or patient.
    NotFound,
    /// Who the export is about cannot be told from the lake.
    NotSupported,
    /// A resource cannot be de-identified, or the configuration was changed meanwhile.
    NotDeidentified,
}

impl ReasonKind {
    /// The FHIR issue type.
    pub fn code(self) -> IssueCode {
        match self {
            Self::SourceChanged => IssueCode::Conflict,
            Self::SourceUnreadable | Self::Misconfigured | Self::Exhausted => IssueCode::Exception,
            Self::Deadline => IssueCode::Timeout,
            Self::TooLarge => IssueCode::TooCostly,
            Self::NotFound => IssueCode::NotFound,
            Self::NotSupported => IssueCode::NotSupported,
            Self::NotDeidentified => IssueCode::Processing,
        }
    }
}

/// What the tasks of the current round do; what the finish does next follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Read the lake.
    Read,
    /// Find which version of each resource counts.
    Resolve,
    /// Find which resources are exported because of others.
    Link,
    /// Read the lake again, with findings.
    Reread,
    /// Put resources into their patients' blocks.
    Organize,
    /// Gather tails.
    Gather,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 6] = [Self::Read, Self::Resolve, Self::Link, Self::Reread, Self::Organize, Self::Gather];

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Resolve => "resolve",
            Self::Link => "link",
            Self::Reread => "reread",
            Self::Organize => "organize",
            Self::Gather => "gather",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == name)
    }
}

/// What the first reading of the lake does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pass {
    /// Writes what is selected: each line speaks for itself.
    #[default]
    Direct,
    /// Writes what is selected and notes what it met. Where notes show that a line spoke wrongly, the lake is read again.
    Noting,
    /// Notes only: it is certain that the lake is read again.
    Survey,
}

/// Tasks of round `r` are numbered from `r` times this, but those of the first.
pub const ROUND_TASKS: u32 = 1_000_000;

/// What a job was promised when it was recorded; later changes of settings do not reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A new file starts once the current one has reached this size, in bytes.
    pub file_bytes: u64,
    /// How long files are kept after completion, in seconds.
    pub retention_seconds: u64,
    /// How long the job may take, in seconds.
    pub deadline_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // 64 MB as Azure API for FHIR rolls its files; a day to download; a day to run.
        Self { file_bytes: 64_000_000, retention_seconds: 86_400, deadline_seconds: 86_400 }
    }
}

/// What has been counted so far. Only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Bytes of the lake read, as they are stored there.
    pub source_bytes: u64,
    /// Resources selected.
    pub resources: u64,
    /// Lines that are not a resource.
    pub refused: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            source_bytes: self.source_bytes + other.source_bytes,
            resources: self.resources + other.resources,
            refused: self.refused + other.refused,
        }
    }
}

/// What the plan found and fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Taken just before the source was pinned (rule P3); the manifest's `transactionTime`.
    pub transaction_time: Millis,
    /// Tasks that read the lake.
    pub tasks: u32,
    /// Bytes of the lake to read, as they are stored there.
    pub source_bytes: u64,
    /// What the first reading does.
    #[serde(default)]
    pub pass: Pass,
    /// The patients that the export is about, where it is not about all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roster: Option<Tail>,
    /// Who is not on it although asked for.
    #[serde(default, skip_serializing_if = "LeftOut::is_nobody")]
    pub left_out: LeftOut,
}

/// One export, as the job table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Who started it.
    pub owner: Caller,
    /// Where it stands.
    pub state: JobState,
    /// What was asked.
    pub request: ExportRequest,
    /// The kick-off's full URL: the manifest's `request`.
    pub request_url: String,
    /// The FHIR base that the client used, without a slash at its end.
    pub base: String,
    /// When it was recorded.
    pub created_at: Millis,
    /// What it was promised.
    pub limits: Limits,
    /// Whether file requests need the caller's credentials: the manifest's `requiresAccessToken`.
    pub requires_access_token: bool,
    /// The client's own destination, as it was registered when the job was recorded; `None` is the deployment's.
    pub destination: Option<String>,
    /// How it is de-identified; `None` where it is not, and once it has ended.
    pub pinned: Option<Pinned>,
    /// What the plan fixed; `None` before.
    pub planned: Option<Planned>,
    /// Tasks of the current round that have not closed.
    pub open_tasks: u32,
    /// Which round its tasks are of: 0 while the lake is read first.
    pub round: u32,
    /// How many tasks this round has, after the first.
    pub round_tasks: u32,
    /// What the tasks of this round do.
    pub phase: Phase,
    /// The first round whose tails are still to be joined.
    pub tails_from: u32,
    /// What closed tasks have counted.
    pub tally: Tally,
    /// When it completed or failed.
    pub ended_at: Option<Millis>,
    /// Why it failed.
    pub reason: Option<Reason>,
}

impl Job {
    /// A job as it begins: promised the default limits, without access control, and not yet at any URL.
    pub fn accepted(id: JobId, owner: Caller, request: ExportRequest, created_at: Millis) -> Self {
        Self {
            id,
            owner,
            state: JobState::Accepted,
            request,
            request_url: String::new(),
            base: String::new(),
            created_at,
            limits: Limits::default(),
            requires_access_token: false,
            destination: None,
            pinned: None,
            planned: None,
            open_tasks: 0,
            round: 0,
            round_tasks: 0,
            phase: Phase::Read,
            tails_from: 0,
            tally: Tally::default(),
            ended_at: None,
            reason: None,
        }
    }

    /// The folder of its files inside its destination: `<container>/<timestamp>-<job>`, or without the container.
    pub fn folder(&self) -> Folder {
        let (timestamp, id) = (self.created_at.compact(), self.id.as_str());
        let own = self.request.layout.as_ref().map_or_else(|| format!("{timestamp}-{id}"), |layout| layout.folder(&timestamp, id));
        let path = match &self.request.container {
            Some(container) => format!("{}/{own}", container.as_str()),
            None => own,
        };
        Folder { destination: self.destination.clone(), path, key: self.request.encryption_key.clone() }
    }

    /// Its status URL, absolute.
    pub fn status_url(&self) -> String {
        format!("{}/_operations/export/{}", self.base, self.id)
    }

    /// Whether a task of this number was handed out: an attempt that died while it recorded tasks leaves others behind.
    pub fn has_task(&self, task: u32) -> bool {
        match (task, &self.planned) {
            (0, _) => true,
            (_, None) => false,
            (1, Some(_)) => true,
            (task, Some(_)) if task >= ROUND_TASKS => task / ROUND_TASKS == self.round && task % ROUND_TASKS < self.round_tasks,
            (task, Some(planned)) => task - 2 < planned.tasks,
        }
    }

    /// Whether a task of this number may yet become part of the job: its plan, or the round that it belongs to, is still
    /// being made.
    pub fn awaits_task(&self, task: u32) -> bool {
        self.state.is_open() && (self.planned.is_none() || task / ROUND_TASKS > self.round)
    }

    /// When a client's files go away; `None` before the job has ended.
    pub fn expires_at(&self) -> Option<Millis> {
        self.ended_at.map(|ended| ended + Duration::from_secs(self.limits.retention_seconds))
    }

    /// When the job is given up if it has not ended.
    pub fn deadline_at(&self) -> Millis {
        self.created_at + Duration::from_secs(self.limits.deadline_seconds)
    }

    /// Whether `visitor` may see it at `now`: it is theirs, they may still read what it holds, and it is neither
    /// cancelled nor expired.
    pub fn is_visible_to(&self, visitor: &Principal, now: Millis) -> bool {
        let gone = match self.state {
            JobState::Cancelled | JobState::Expired => true,
            JobState::Complete | JobState::Failed => self.expires_at().is_some_and(|expiry| expiry <= now),
            JobState::Queued | JobState::Accepted | JobState::Running => false,
        };
        self.owner == visitor.caller && visitor.reach.covers(&self.request) && !gone
    }
}

#[cfg(test)]
mod tests;
