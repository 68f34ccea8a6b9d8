//! The states of a job and the transitions between them.

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Recorded, and waiting for a slot.
    Queued,
    /// Holding a slot, and not planned yet.
    Accepted,
    /// Planned, with tasks at work.
    Running,
    /// Finished: every exported resource is in a recorded output file.
    Complete,
    /// Failed, with a reason.
    Failed,
    /// Cancelled by the client.
    Cancelled,
    /// Past the retention of its files.
    Expired,
}

impl JobState {
    /// The list of states.
    pub const ALL: [Self; 7] = [Self::Queued, Self::Accepted, Self::Running, Self::Complete, Self::Failed, Self::Cancelled, Self::Expired];

    /// Returns the name that is stored and logged.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Parses the output of [`Self::as_str`]. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Returns true if the job is queued or being executed, so that it has not ended.
    pub fn is_open(self) -> bool {
        self == Self::Queued || self.has_slot()
    }

    /// Returns true if tasks of the job may run. Such a job counts against the [`Quotas`](super::Quotas).
    pub fn has_slot(self) -> bool {
        match self {
            Self::Accepted | Self::Running => true,
            Self::Queued | Self::Complete | Self::Failed | Self::Cancelled | Self::Expired => false,
        }
    }

    /// Returns the transition that an event causes. Every combination that is not listed here is illegal.
    pub fn transition(self, event: JobEvent) -> Result<Transition, IllegalTransition> {
        use {JobEvent as E, JobState as S};
        match (self, event) {
            (S::Queued, E::Started) => Ok(Transition::To(S::Accepted)),
            (S::Accepted, E::Planned) => Ok(Transition::To(S::Running)),
            (S::Running, E::Completed) => Ok(Transition::To(S::Complete)),
            (S::Queued | S::Accepted | S::Running, E::Failed) => Ok(Transition::To(S::Failed)),
            (S::Queued | S::Accepted | S::Running | S::Complete | S::Failed, E::CancelRequested) => Ok(Transition::To(S::Cancelled)),
            (S::Complete | S::Failed, E::RetentionExpired) => Ok(Transition::To(S::Expired)),
            // A repeated event is a success, so that callers can retry.
            (S::Failed, E::Failed) | (S::Cancelled, E::CancelRequested) | (S::Expired, E::RetentionExpired) => Ok(Transition::AlreadyDone),
            (from, event) => Err(IllegalTransition { from, event }),
        }
    }
}

/// An event that changes the state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobEvent {
    /// A slot became free, and the queued job took it.
    Started,
    /// The tasks of the plan are recorded.
    Planned,
    /// The last task has completed, and every line is in an output file.
    Completed,
    /// A task was parked, or the job passed its deadline.
    Failed,
    /// The client requested the cancellation.
    CancelRequested,
    /// The retention of the files is over.
    RetentionExpired,
}

impl JobEvent {
    /// The list of events.
    pub const ALL: [Self; 6] = [Self::Started, Self::Planned, Self::Completed, Self::Failed, Self::CancelRequested, Self::RetentionExpired];
}

/// The effect of a legal event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The job changes to this state.
    To(JobState),
    /// The event has happened before. Nothing changes.
    AlreadyDone,
}

/// The error for an event that is not legal in the current state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event {event:?} is not legal for a job in the state {from:?}")]
pub struct IllegalTransition {
    /// The current state.
    pub from: JobState,
    /// The event.
    pub event: JobEvent,
}
