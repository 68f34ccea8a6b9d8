//! The export job: its record, its states, its tasks and its files.

pub mod file;
pub mod file_list;
pub mod file_names;
pub mod folder;
pub mod split;
pub mod sync;
pub mod task;

mod error;
mod export_time;
mod failure;
mod idempotency;
mod omitted;
mod phase;
mod planned;
mod prices;
mod quota;
mod secret;
mod state;
mod usage;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::{ExportError, RemarkedConfiguration};
pub use export_time::{ExportTime, Watermark};
pub use failure::{FailureKind, FailureReason};
pub use idempotency::IdempotencyKey;
pub use omitted::OmittedSubjects;
pub use phase::Phase;
pub use planned::{Planned, ReadMode};
pub use prices::{Costs, PriceItem, PriceTable, PriceTableError};
pub use quota::{Quota, Quotas, RecordConditions, RecordOutcome};
pub use secret::{JobSecret, JobSecrets, PinnedConfig};
pub use state::{IllegalTransition, JobEvent, JobState, Transition};
pub use usage::Usage;

use crate::access::Principal;
use crate::job::folder::Folder;
use crate::request::ExportRequest;
use crate::vocab::clock::Millis;
use crate::vocab::ids::{Caller, JobId, RegistrationId};
use crate::vocab::schedule_key::ScheduleKey;

/// The first task number of round 1. Tasks of round `r` are numbered from `r` times this number; those of round 0 from 0.
pub const ROUND_TASKS: u32 = 1_000_000;

/// The number of the first task that reads the lake. Tasks 0 and 1 are the plan and finalize tasks.
pub const FIRST_READ_TASK: u32 = 2;

/// The settings of a job, fixed when it is recorded. Later changes to the deployment's settings do not affect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSettings {
    /// The size, in bytes, at which an output file is closed and a new one is started.
    pub file_bytes: u64,
    /// The time that files are kept after the job has ended, in seconds.
    pub retention_seconds: u64,
    /// The maximum duration of the job, in seconds.
    pub deadline_seconds: u64,
}

impl Default for JobSettings {
    fn default() -> Self {
        // 64 MB is the file size of Azure API for FHIR. A day each to run and to download.
        Self { file_bytes: 64_000_000, retention_seconds: 86_400, deadline_seconds: 86_400 }
    }
}

/// Counters of a job or a task. They never decrease, except that [`task::NextRound::starts_over`] sets them to zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// The number of bytes read from the lake, as stored.
    pub source_bytes: u64,
    /// The number of exported resources.
    pub resources: u64,
    /// The number of lines that are not a resource.
    pub lines_rejected: u64,
    /// Counts for the notices about the export. They are not reset, because the first read alone counts.
    #[serde(flatten)]
    pub notices: NoticeCounts,
    /// Usage of the job or the task. It is not reset either.
    #[serde(flatten)]
    pub usage: Usage,
}

/// Counts for the notices about a whole export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NoticeCounts {
    /// The number of resources and deletions that `_since` has left out although their object arrived after it. Counted only if nobody
    /// has said up to when the lake is complete.
    pub arrived_late: u64,
    /// The number of versions that are left out because their `meta.lastUpdated` is later than the clock.
    pub ahead_of_clock: u64,
    /// The number of matching versions whose `meta.lastUpdated` is not an instant.
    pub unreadable_times: u64,
    /// The number of patients of the requested group that the lake has.
    pub members_found: u64,
}

impl NoticeCounts {
    /// Returns the counts with their names in stored items.
    pub fn named(self) -> [(&'static str, u64); 4] {
        let Self { arrived_late, ahead_of_clock, unreadable_times, members_found } = self;
        [
            ("arrived_late", arrived_late),
            ("ahead_of_clock", ahead_of_clock),
            ("unreadable_times", unreadable_times),
            ("members_found", members_found),
        ]
    }

    /// Adds the counts of both sides.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            arrived_late: self.arrived_late + other.arrived_late,
            ahead_of_clock: self.ahead_of_clock + other.ahead_of_clock,
            unreadable_times: self.unreadable_times + other.unreadable_times,
            members_found: self.members_found + other.members_found,
        }
    }
}

impl Counters {
    /// Adds the counters of both sides.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            source_bytes: self.source_bytes + other.source_bytes,
            resources: self.resources + other.resources,
            lines_rejected: self.lines_rejected + other.lines_rejected,
            notices: self.notices.plus(other.notices),
            usage: self.usage.plus(other.usage),
        }
    }
}

/// An export job, as the job table stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The id.
    pub id: JobId,
    /// The caller that started the job.
    pub owner: Caller,
    /// The owner's registration when the job was recorded. A client that is registered later under the same name is not the owner.
    pub owner_registration: Option<RegistrationId>,
    /// The state.
    pub state: JobState,
    /// The request.
    pub request: ExportRequest,
    /// The full URL of the kick-off: the manifest's `request`.
    pub request_url: String,
    /// The FHIR base URL that the client used, without a trailing slash.
    pub base: String,
    /// The schedule that has started the job.
    pub schedule: Option<ScheduleKey>,
    /// True if the owner or the schedule had a webhook when the job was recorded, so that the moves of the job become events.
    pub has_webhook: bool,
    /// The time at which the job was recorded.
    pub created_at: Millis,
    /// The settings.
    pub settings: JobSettings,
    /// True if file requests need the caller's credentials: the manifest's `requiresAccessToken`.
    pub requires_access_token: bool,
    /// The client's own destination when the job was recorded. `None` is the deployment's.
    pub destination: Option<String>,
    /// The anonymization configuration and the secret of a de-identified export. `None` for other exports, and after the job
    /// has ended.
    pub pinned_config: Option<PinnedConfig>,
    /// The result of the plan task. `None` until it has completed.
    pub planned: Option<Planned>,
    /// The number of tasks of the current round that have not completed, as of [`crate::ports::JobStore::with_progress`]. Before, of a job
    /// as it is stored, the number of all tasks of the round.
    pub open_tasks: u32,
    /// The current round. The first reading of the lake is round 0.
    pub round: u32,
    /// The number of tasks with which the current round began, if it is not round 0.
    pub round_tasks: u32,
    /// The number of tasks that have taken over a part of another read task, beside those of the plan.
    pub split_tasks: u32,
    /// The number of tasks that have taken over a part of another task of the current round, if it is not round 0.
    pub round_split_tasks: u32,
    /// The phase of the current round.
    pub phase: Phase,
    /// The first round whose fragments are not merged yet.
    pub first_unmerged_round: u32,
    /// The round since which output files belong to the export: that in which it last started over, or 0.
    pub files_since_round: u32,
    /// The sum of the counters of completed tasks, as of [`crate::ports::JobStore::with_progress`]. Before, without those of the current
    /// round.
    pub counters: Counters,
    /// The time at which the job completed or failed.
    pub ended_at: Option<Millis>,
    /// The reason of a failure.
    pub reason: Option<FailureReason>,
    /// The position up to which the folder of an ended job is swept. `None` if no sweep of several parts has begun since the job ended.
    pub swept_to: Option<String>,
}

impl Job {
    /// Creates a job in the state [`JobState::Accepted`], with default settings, without access control and without URLs.
    pub fn accepted(id: JobId, owner: Caller, request: ExportRequest, created_at: Millis) -> Self {
        Self {
            id,
            owner,
            owner_registration: None,
            state: JobState::Accepted,
            request,
            request_url: String::new(),
            base: String::new(),
            schedule: None,
            has_webhook: false,
            created_at,
            settings: JobSettings::default(),
            requires_access_token: false,
            destination: None,
            pinned_config: None,
            planned: None,
            open_tasks: 0,
            round: 0,
            round_tasks: 0,
            split_tasks: 0,
            round_split_tasks: 0,
            phase: Phase::Read,
            first_unmerged_round: 0,
            files_since_round: 0,
            counters: Counters::default(),
            ended_at: None,
            reason: None,
            swept_to: None,
        }
    }

    /// Returns the folder of the job's files: `<container>/<timestamp>-<job>` inside its destination. Without a container,
    /// the first part is omitted; a layout replaces the second part.
    pub fn folder(&self) -> Folder {
        let (timestamp, id) = (self.created_at.compact(), self.id.as_str());
        let name = self.request.layout.as_ref().map_or_else(|| format!("{timestamp}-{id}"), |layout| layout.to_path(&timestamp, id));
        let path = match &self.request.container {
            Some(container) => format!("{}/{name}", container.as_str()),
            None => name,
        };
        Folder { destination: self.destination.clone(), path, encryption_key: self.request.encryption_key.clone() }
    }

    /// Returns the absolute URL of the job's status.
    pub fn status_url(&self) -> String {
        format!("{}/_operations/export/{}", self.base, self.id)
    }

    /// Returns the number of tasks of the current round, without the finalize task. 0 until the plan is complete.
    pub fn tasks_of_round(&self) -> u32 {
        match self.round {
            0 => self.read_tasks(),
            _ => self.round_tasks + self.round_split_tasks,
        }
    }

    /// Returns the number of the task that the next split in the current round creates: the one after the last task of the round.
    pub fn next_task_of_round(&self) -> u32 {
        match self.round {
            0 => FIRST_READ_TASK + self.read_tasks(),
            round => round * ROUND_TASKS + self.tasks_of_round(),
        }
    }

    /// Returns the number of tasks with which the current round began. Unlike [`Self::tasks_of_round`] it never changes within a round.
    pub fn initial_tasks_of_round(&self) -> u32 {
        match self.round {
            0 => self.planned.map_or(0, |planned| planned.tasks),
            _ => self.round_tasks,
        }
    }

    /// Returns the number of tasks that read the lake first: those of the plan, and those that took over a part of one. 0 until the plan is
    /// complete.
    pub fn read_tasks(&self) -> u32 {
        self.planned.map_or(0, |planned| planned.tasks + self.split_tasks)
    }

    /// Returns the index of a task among those of its round, from 0.
    pub fn index_in_round(&self, task: u32) -> u32 {
        if task >= ROUND_TASKS { task % ROUND_TASKS } else { task.saturating_sub(FIRST_READ_TASK) }
    }

    /// Returns true if a task with this number belongs to the job. An attempt that died while it recorded tasks can leave
    /// other tasks behind.
    pub fn has_task(&self, task: u32) -> bool {
        match (task, &self.planned) {
            (0, _) => true,
            (_, None) => false,
            (1, Some(_)) => true,
            (task, Some(_)) if task >= ROUND_TASKS => task / ROUND_TASKS == self.round && task % ROUND_TASKS < self.tasks_of_round(),
            (task, Some(_)) => task - FIRST_READ_TASK < self.read_tasks(),
        }
    }

    /// Returns true if a task with this number may still become part of the job, because the plan or the task's round is not
    /// recorded completely.
    pub fn awaits_task(&self, task: u32) -> bool {
        self.state.is_open() && (self.planned.is_none() || task / ROUND_TASKS > self.round)
    }

    /// Returns the time at which the files expire. `None` until the job has ended.
    pub fn expires_at(&self) -> Option<Millis> {
        self.ended_at.map(|ended| ended + Duration::from_secs(self.settings.retention_seconds))
    }

    /// Returns true if the job synchronizes the lake with a FHIR server.
    pub fn is_sync(&self) -> bool {
        self.owner.is_sync()
    }

    /// Returns the time at which the job fails if it has not ended.
    pub fn deadline_at(&self) -> Millis {
        self.created_at + Duration::from_secs(self.settings.deadline_seconds)
    }

    /// Returns true if `principal` may see the job at `now`: it owns the job, it may still read everything that the job
    /// exports and may select it so, and the job is neither cancelled nor expired. A schedule selects what the operator wants.
    pub fn is_visible_to(&self, principal: &Principal, now: Millis) -> bool {
        let is_gone = match self.state {
            JobState::Cancelled | JobState::Expired => true,
            JobState::Complete | JobState::Failed => self.expires_at().is_some_and(|expiry| expiry <= now),
            JobState::Queued | JobState::Accepted | JobState::Running => false,
        };
        let permissions = &principal.permissions;
        let is_owned = self.owner == principal.caller && self.owner_registration.as_ref() == permissions.registration_id();
        let is_selected = self.schedule.is_some() || self.request.has_allowed_selection(permissions);
        is_owned && is_selected && self.request.is_covered_by(permissions) && !is_gone
    }
}

#[cfg(test)]
mod tests;
