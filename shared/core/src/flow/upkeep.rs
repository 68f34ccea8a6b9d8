//! The verbs of the reaper and of the audit trail.

pub mod reap;
pub mod seal;
pub mod verify;
