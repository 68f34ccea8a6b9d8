//! Where a job stands, and the table of its moves.

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Recorded; it waits until earlier exports have ended.
    Queued,
    /// It has its turn; its plan is not made yet.
    Accepted,
    /// Planned; tasks read and write.
    Running,
    /// Every resource is in a recorded part.
    Complete,
    /// Given up, with a reason.
    Failed,
    /// The client took it back.
    Cancelled,
    /// Its files' time is over.
    Expired,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 7] = [Self::Queued, Self::Accepted, Self::Running, Self::Complete, Self::Failed, Self::Cancelled, Self::Expired];

    /// As it is stored and logged.
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

    /// Reads what [`Self::as_str`] wrote.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether it has not ended.
    pub fn is_open(self) -> bool {
        self == Self::Queued || self.has_slot()
    }

    /// Whether tasks may work for it: it counts against the limits of [`Quotas`](super::Quotas).
    pub fn has_slot(self) -> bool {
        match self {
            Self::Accepted | Self::Running => true,
            Self::Queued | Self::Complete | Self::Failed | Self::Cancelled | Self::Expired => false,
        }
    }

    /// Every legal move; whatever is not listed is refused.
    pub fn after(self, event: JobEvent) -> Result<Step, IllegalStep> {
        use {JobEvent as E, JobState as S};
        match (self, event) {
            (S::Queued, E::Admitted) => Ok(Step::To(S::Accepted)),
            (S::Accepted, E::Planned) => Ok(Step::To(S::Running)),
            (S::Running, E::Finished) => Ok(Step::To(S::Complete)),
            (S::Queued | S::Accepted | S::Running, E::GivenUp) => Ok(Step::To(S::Failed)),
            (S::Queued | S::Accepted | S::Running | S::Complete | S::Failed, E::CancelAsked) => Ok(Step::To(S::Cancelled)),
            (S::Complete | S::Failed, E::RetentionOver) => Ok(Step::To(S::Expired)),
            (S::Failed, E::GivenUp) | (S::Cancelled, E::CancelAsked) | (S::Expired, E::RetentionOver) => Ok(Step::Already),
            (from, event) => Err(IllegalStep { from, event }),
        }
    }
}

/// What can happen to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobEvent {
    /// Earlier exports have ended, and it is its turn.
    Admitted,
    /// The plan's tasks are recorded.
    Planned,
    /// The last task has closed and every line is in a part.
    Finished,
    /// A task was parked, or the job's deadline passed.
    GivenUp,
    /// The client asked for its end.
    CancelAsked,
    /// The files have been kept as long as they should be.
    RetentionOver,
}

impl JobEvent {
    /// Every event.
    pub const ALL: [Self; 6] = [Self::Admitted, Self::Planned, Self::Finished, Self::GivenUp, Self::CancelAsked, Self::RetentionOver];
}

/// The answer of the state table to a legal move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go to this state.
    To(JobState),
    /// It has happened before; nothing to do.
    Already,
}

/// The state table does not know this move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {from:?} cannot take {event:?}")]
pub struct IllegalStep {
    /// Where the job stands.
    pub from: JobState,
    /// What was to happen.
    pub event: JobEvent,
}
