//! A simulator of exports on AWS: the real flows of `headrace-core` and the real adapter of the job table, over models of DynamoDB, S3,
//! SQS and Lambda, in virtual time.
//!
//! `docs/scale.md` says what is modelled, what is assumed, and what came out.

pub mod aws;
pub mod fleet;
pub mod lake;
pub mod meter;
pub mod output;
pub mod parameters;
pub mod prices;
pub mod random;
pub mod report;
pub mod scale;
pub mod simulation;
pub mod table;
pub mod time;
pub mod verify;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. All tasks run on one thread, so a lock is never contended.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
