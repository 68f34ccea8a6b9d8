//! The state of a schedule: its last runs, and which of its times have passed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Schedule, ScheduleDefinition};
use crate::vocab::clock::Millis;
use crate::vocab::config_digest::ConfigDigest;
use crate::vocab::ids::JobId;
use crate::vocab::schedule_key::ScheduleKey;
use crate::vocab::webhook::RegisteredWebhook;

/// The largest number of results that a schedule keeps. Each is one id in the item of the schedule.
pub const MAX_KEPT: u32 = 100;

/// The time by which a recorded time may lie ahead of the clock. More than that, the clock was wrong when it was recorded, and the
/// schedule would stand still until the clock reaches it.
const MAX_AHEAD: Duration = Duration::from_secs(86_400);

/// The part of a schedule that commands and the reaper change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// True if the schedule starts nothing by itself.
    #[serde(default)]
    pub is_paused: bool,
    /// The moment up to which times of the schedule have passed. A later time starts one run, however many have passed since.
    pub handled_until: Millis,
    /// The time at which somebody asked for a run beside the times of the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Millis>,
    /// The last run that was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<ScheduleRun>,
    /// The reason why the last due time started no run. `None` after a run was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ScheduleProblem>,
    /// The runs whose results may still be there, oldest first, if the schedule keeps a number of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<JobId>,
    /// The last complete run after which older results were deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned_after: Option<JobId>,
    /// The runs that are no base of an increment, although they are complete or may complete: they exported something else, or at a time
    /// that had not come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outdated: Vec<JobId>,
    /// The last run that exports everything because the anonymization configuration or its keys had changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_run: Option<JobId>,
    /// The webhook that gets the events of the schedule's runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<RegisteredWebhook>,
}

/// A run of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRun {
    /// The job.
    pub job: JobId,
    /// The time for which the run was due.
    pub due_at: Millis,
    /// The time at which the job was made.
    pub started_at: Millis,
}

/// The last complete run of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteRun {
    /// The job.
    pub job: JobId,
    /// The moment whose state of the lake the job has exported: `_since` of the next run of an incremental schedule.
    pub transaction_time: Millis,
    /// The time at which the job completed.
    pub ended_at: Millis,
    /// The digest of the anonymization configuration and its keys at the kick-off. `None` for an export that is not de-identified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ConfigDigest>,
}

/// The reason why a due time has started no run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleProblem {
    /// The time for which the run was due.
    pub due_at: Millis,
    /// The time at which the problem was found.
    pub found_at: Millis,
    /// True if the run was skipped because the run before it was still open.
    #[serde(default)]
    pub is_overlap: bool,
    /// The problem and its remedy.
    pub text: String,
}

/// The change of a schedule that is recorded together with the job of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleFiring {
    /// The schedule.
    pub key: ScheduleKey,
    /// The revision that the schedule must still have.
    pub seen_revision: u64,
    /// The state of the schedule after the run was started.
    pub state: ScheduleState,
}

impl ScheduleState {
    /// Creates the state of a new schedule. Times before `now` have passed.
    pub fn new(now: Millis) -> Self {
        Self {
            is_paused: false,
            handled_until: now,
            requested_at: None,
            last_run: None,
            problem: None,
            kept: Vec::new(),
            pruned_after: None,
            outdated: Vec::new(),
            full_run: None,
            webhook: None,
        }
    }

    /// Returns true if the recorded time lies so far ahead of the clock that the clock must have been wrong when it was recorded.
    pub fn is_ahead_of(&self, now: Millis) -> bool {
        self.handled_until > now + MAX_AHEAD
    }

    /// Ends a pause. Times that have passed meanwhile start nothing.
    pub fn resume(&mut self, now: Millis) {
        self.is_paused = false;
        self.handled_until = now;
    }

    /// Returns the state after every time up to `now` has passed.
    #[must_use]
    fn handled(&self, now: Millis) -> Self {
        // After a small step of the clock backwards, a time that has passed does not pass again.
        let handled_until = if self.is_ahead_of(now) { now } else { self.handled_until.max(now) };
        Self { handled_until, requested_at: None, ..self.clone() }
    }
}

impl Schedule {
    /// Returns the time for which a run is due by `now`: the first one that has not passed, or that of a request for a run.
    pub fn due_at(&self, now: Millis) -> Option<Millis> {
        let after = if self.state.is_ahead_of(now) { now } else { self.state.handled_until };
        let by_timing = self.next_after(after).filter(|due_at| *due_at <= now && !self.state.is_paused);
        self.state.requested_at.or(by_timing)
    }

    /// Returns the change that starts a run: a job for the time `due_at`.
    pub fn firing(&self, job: &JobId, due_at: Millis, now: Millis) -> ScheduleFiring {
        let mut state = self.state.handled(now);
        state.problem = None;
        state.last_run = Some(ScheduleRun { job: job.clone(), due_at, started_at: now });
        if self.definition.keep.is_some() {
            state.kept.push(job.clone());
        }
        ScheduleFiring { key: self.key.clone(), seen_revision: self.revision, state }
    }

    /// Returns the schedule with another definition. Times that have passed stay passed, and if the times change, those before `now` too. If a run
    /// would export something else, the next one exports everything: no earlier run has.
    #[must_use]
    pub fn redefined(&self, definition: ScheduleDefinition, now: Millis) -> Self {
        let mut state = self.state.clone();
        if definition.timing != self.definition.timing {
            state.handled_until = now;
        }
        if !definition.exports_same(&self.definition) {
            state.outdated = self.possible_complete_runs();
        }
        Self { definition, state, ..self.clone() }
    }

    /// Returns the schedule without its last complete run as the base of the next increment, if that run has exported the lake of a time that
    /// has not come: the clock was ahead then, so changes until that time are missing. Returns `None` if nothing changes.
    pub fn without_future_base(&self, now: Millis) -> Option<Self> {
        self.since().filter(|since| *since > now)?;
        let state = ScheduleState { outdated: self.possible_complete_runs(), ..self.state.clone() };
        Some(Self { state, ..self.clone() })
    }

    /// Returns the schedule without its last complete run as the base of the increment `job`, if that run had another anonymization configuration
    /// or other keys: what has not changed since then would stay as they left it. Returns `None` if nothing changes.
    ///
    /// `configuration`: the digest of the configuration and its keys with which the job would run.
    pub fn without_changed_base(&self, job: &JobId, configuration: Option<&ConfigDigest>) -> Option<Self> {
        self.base().filter(|base| base.configuration.as_ref() != configuration)?;
        let (outdated, full_run) = (self.possible_complete_runs(), Some(job.clone()));
        Some(Self { state: ScheduleState { outdated, full_run, ..self.state.clone() }, ..self.clone() })
    }

    /// Returns true if the last run exports everything because the anonymization configuration or its keys had changed.
    pub fn has_changed_configuration(&self) -> bool {
        self.state.last_run.as_ref().is_some_and(|run| self.state.full_run.as_ref() == Some(&run.job))
    }

    /// Returns the runs that are, or may become, the last complete one. Runs do not overlap, so these are two at most.
    fn possible_complete_runs(&self) -> Vec<JobId> {
        let complete = self.complete_run.as_ref().map(|run| &run.job);
        let last = self.state.last_run.as_ref().map(|run| &run.job).filter(|last| Some(*last) != complete);
        complete.into_iter().chain(last).cloned().collect()
    }

    /// Returns the schedule after its due time has started no run because of a problem.
    #[must_use]
    pub fn with_problem(&self, problem: ScheduleProblem) -> Self {
        let state = ScheduleState { problem: Some(problem.clone()), ..self.state.handled(problem.found_at) };
        Self { state, ..self.clone() }
    }
}
