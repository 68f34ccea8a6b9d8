//! Events: changes of an export's state that are sent to other systems.
//!
//! An event is written to an outbox in the transaction of the change, and delivered later: at least once, with the same id each time, and
//! in order for each job. It holds no data of a patient and no URL.

mod outbox;

use std::collections::BTreeSet;

use headrace_fhir::definitions::ResourceType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::audit::SummaryLevel;
use crate::job::{FailureReason, Job, JobState};
use crate::vocab::clock::Millis;
use crate::vocab::container::Container;
use crate::vocab::ids::{Caller, JobId, RegistrationId};
use crate::vocab::schedule_key::ScheduleKey;
use crate::vocab::text::stored_as_text;

pub use outbox::{EventTarget, FailedDelivery, OutboxEvent};

/// A move of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportEvent {
    /// The state that the export has moved to.
    pub state: EventState,
    /// The time of the move. It is not earlier than that of the move before.
    pub at: Millis,
    /// The export.
    pub job: JobId,
    /// The owner of the export.
    pub owner: Caller,
    /// The owner's registration when the export was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_registration: Option<RegistrationId>,
    /// The schedule that has started the export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleKey>,
    /// The level, without the id of a patient or group.
    pub level: SummaryLevel,
    /// The requested resource types. Empty means all that the owner may read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub types: BTreeSet<ResourceType>,
    /// The container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The time of the kick-off.
    pub accepted_at: Millis,
    /// The moment whose state of the lake is exported, once the export is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_time: Option<Millis>,
    /// The number of exported resources.
    pub resources: u64,
    /// The number of lines of the lake that are not resources.
    pub lines_rejected: u64,
    /// The number of bytes read from the lake.
    pub source_bytes: u64,
    /// The reason of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<FailureReason>,
}

/// The state of an export in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EventState {
    /// Accepted, and waiting for a slot.
    Queued,
    /// Accepted, and to be planned.
    Accepted,
    /// Planned, with tasks at work.
    Running,
    /// Complete, without rejected lines.
    Complete,
    /// Complete, with lines of the lake that are not resources.
    CompleteWithErrors,
    /// Failed.
    Failed,
    /// Cancelled, with its files deleted.
    Cancelled,
    /// Past the retention of its files.
    Expired,
}

impl EventState {
    /// The list of states.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Accepted,
        Self::Running,
        Self::Complete,
        Self::CompleteWithErrors,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Returns the name that is stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::CompleteWithErrors => "complete-with-errors",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Parses the output of [`Self::as_str`]. Returns `None` for any other text.
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Returns the state for an export that has moved to `state`.
    fn from_job(state: JobState, lines_rejected: u64) -> Self {
        match state {
            JobState::Queued => Self::Queued,
            JobState::Accepted => Self::Accepted,
            JobState::Running => Self::Running,
            JobState::Complete if lines_rejected > 0 => Self::CompleteWithErrors,
            JobState::Complete => Self::Complete,
            JobState::Failed => Self::Failed,
            JobState::Cancelled => Self::Cancelled,
            JobState::Expired => Self::Expired,
        }
    }

    /// Returns the position of the state among the moves of an export.
    pub fn rank(self) -> u8 {
        match self {
            Self::Queued => 0,
            Self::Accepted => 1,
            Self::Running => 2,
            Self::Complete | Self::CompleteWithErrors | Self::Failed => 3,
            Self::Cancelled | Self::Expired => 4,
        }
    }
}

stored_as_text!(EventState, Self::parse, "not the state of an event");

impl ExportEvent {
    /// Creates the event of an export that moves to `state` at `at`. `job` is as it was before.
    pub fn from_move(job: &Job, state: JobState, at: Millis, reason: Option<&FailureReason>) -> Self {
        // The clocks of two processes may differ. The order of a job's events follows its moves all the same.
        let earlier = [Some(job.created_at), job.planned.map(|planned| planned.time.planned_at), job.ended_at];
        Self {
            state: EventState::from_job(state, job.counters.lines_rejected),
            at: earlier.into_iter().flatten().fold(at, Millis::max),
            job: job.id.clone(),
            owner: job.owner.clone(),
            owner_registration: job.owner_registration.clone(),
            schedule: job.schedule.clone(),
            level: (&job.request.level).into(),
            types: job.request.types.clone().unwrap_or_default(),
            container: job.request.container.clone(),
            accepted_at: job.created_at,
            transaction_time: job.planned.map(|planned| planned.time.transaction_time),
            resources: job.counters.resources,
            lines_rejected: job.counters.lines_rejected,
            source_bytes: job.counters.source_bytes,
            reason: reason.cloned(),
        }
    }

    /// Returns the id of the event. An export moves to each state once, so it is the same whenever the event is sent.
    pub fn id(&self) -> String {
        format!("{}-{}", self.job, self.state.as_str())
    }

    /// Returns the body of a webhook, as Standard Webhooks recommends it.
    pub fn payload(&self) -> Value {
        json!({ "type": format!("export.{}", self.state.as_str()), "timestamp": self.at.instant(), "data": self.detail() })
    }

    /// Returns the content of the event, with times as FHIR instants.
    pub fn detail(&self) -> Value {
        let mut detail = json!({
            "state": self.state,
            "job": self.job,
            "owner": self.owner,
            "level": self.level,
            "types": self.types,
            "acceptedAt": self.accepted_at.instant(),
            "at": self.at.instant(),
            "resources": self.resources,
            "linesRejected": self.lines_rejected,
            "sourceBytes": self.source_bytes,
        });
        let optional = [
            ("schedule", self.schedule.as_ref().map(|schedule| json!(schedule.name))),
            ("container", self.container.as_ref().map(|container| json!(container))),
            ("transactionTime", self.transaction_time.map(|time| json!(time.instant()))),
            ("reason", self.reason.as_ref().map(|reason| json!({ "kind": reason.kind, "text": reason.text }))),
        ];
        if let Some(members) = detail.as_object_mut() {
            members.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        detail
    }
}
