//! How many exports may be at work at a time, and what recording one more comes to.

use std::fmt;

use super::{IdempotencyKey, Job};

/// How many exports may be at work at a time.
///
/// They are counted whether or not there is a limit, so that one can be set at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Quotas {
    /// Of one caller; `None` is any number.
    pub per_caller: Option<u32>,
    /// Of all callers together; `None` is any number.
    pub global: Option<u32>,
    /// Whether an export beyond a limit waits for its turn. Otherwise it is refused.
    pub waits: bool,
}

impl Quotas {
    /// The same for a client that is registered with a limit of its own.
    #[must_use]
    pub fn of_client(self, jobs: Option<u32>) -> Self {
        Self { per_caller: jobs.or(self.per_caller), ..self }
    }

    /// Whether exports may have to wait for their turn.
    pub fn make_wait(&self) -> bool {
        self.waits && (self.per_caller.is_some() || self.global.is_some())
    }
}

/// A limit that was met, and how many exports it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Quotas::per_caller`].
    PerCaller(u32),
    /// [`Quotas::global`].
    Global(u32),
}

impl fmt::Display for Limit {
    /// What is full and what to do, for the client's eyes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerCaller(most) => write!(
                f,
                "{most} of your exports are at work, the most that this server allows to you (HEADRACE_JOBS_PER_CALLER, or your registration); \
                 try again when one has ended, or cancel one with DELETE on its status URL"
            ),
            Self::Global(most) => write!(
                f,
                "{most} exports are at work, the most that this server allows to all callers together (HEADRACE_JOBS); try again later"
            ),
        }
    }
}

/// On which conditions a job is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Conditions {
    /// There must be room for it, unless it is [`super::JobState::Queued`].
    pub quotas: Quotas,
    /// The caller's own limit instead of [`Quotas::per_caller`], if it is registered with one. A job that waits keeps it.
    pub client_jobs: Option<u32>,
    /// It must be the first of this key.
    pub key: Option<IdempotencyKey>,
}

/// What recording a job came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is there, from this call or an earlier one.
    Yes,
    /// No: the same request has come before under this key and started that job; `None` if its record is gone.
    Before(Option<Box<Job>>),
    /// No: another request has come before under this key.
    KeyReused,
    /// No: there is no room.
    Full(Limit),
}
