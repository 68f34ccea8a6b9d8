//! Quotas of concurrent exports, and the conditions and results of recording a job.

use std::fmt;

use super::{IdempotencyKey, Job};
use crate::schedule::ScheduleFiring;
use crate::vocab::plural::counted;
use crate::vocab::setting::Setting;

/// The quotas of concurrent exports.
///
/// Running exports are counted even if there is no quota, so that a quota can be set at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Quotas {
    /// The maximum number of exports of one caller. `None` is unlimited.
    pub per_caller: Option<u32>,
    /// The maximum number of exports of all callers together. `None` is unlimited.
    pub global: Option<u32>,
    /// True if an export beyond a quota is queued. Otherwise it is rejected.
    pub queue_when_full: bool,
}

impl Quotas {
    /// Replaces the quota per caller by the client's own, if it has one.
    #[must_use]
    pub fn with_client_quota(self, client_quota: Option<u32>) -> Self {
        Self { per_caller: client_quota.or(self.per_caller), ..self }
    }

    /// Returns true if exports can be queued: queuing is switched on, and there is a quota that can be reached.
    pub fn can_queue(&self) -> bool {
        self.queue_when_full && (self.per_caller.is_some() || self.global.is_some())
    }
}

/// A quota that is used up, with its maximum number of exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// [`Quotas::per_caller`].
    PerCaller(u32),
    /// [`Quotas::global`].
    Global(u32),
}

impl fmt::Display for Quota {
    /// Formats an explanation for the client: the quota and the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerCaller(maximum) => write!(
                f,
                "{maximum} of your exports {} running, the maximum that this server allows you ({}, or your registration); \
                 try again when one has ended, or cancel one with DELETE on its status URL",
                if *maximum == 1 { "is" } else { "are" },
                Setting::MaxExportsPerClient
            ),
            Self::Global(maximum) => write!(
                f,
                "{} running, the maximum that this server allows all clients together ({}); try again later",
                counted(u64::from(*maximum), "export is", "exports are"),
                Setting::MaxConcurrentExports
            ),
        }
    }
}

/// The conditions under which a job is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RecordConditions {
    /// The quotas that must leave a free slot, unless the job is [`super::JobState::Queued`].
    pub quotas: Quotas,
    /// The quota of the client's registration, which replaces [`Quotas::per_caller`]. A queued job keeps it.
    pub client_quota: Option<u32>,
    /// The idempotency key, which no other job may have.
    pub key: Option<IdempotencyKey>,
    /// The schedule that starts the job, which must not have changed meanwhile. It is changed in the same transaction.
    pub firing: Option<ScheduleFiring>,
}

/// The result of recording a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordOutcome {
    /// The job is recorded, by this call or an earlier one.
    Recorded,
    /// The job is not recorded: the same request was sent before with this key and has started the contained job. `None` if
    /// the record of that job has been deleted.
    Duplicate(Option<Box<Job>>),
    /// The job is not recorded: another request was sent before with this key.
    KeyReused,
    /// The job is not recorded: this quota is used up.
    NoSlot(Quota),
    /// The job is not recorded: another process has changed or removed the schedule, or has started its run.
    ScheduleChanged,
}
