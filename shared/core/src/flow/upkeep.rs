//! The operations of the reaper and of the audit trail.

pub mod deliver_events;
pub mod fire_schedules;
pub mod fire_sync;
pub mod reap;
pub mod seal;
pub mod verify;

use crate::vocab::clock::Millis;

/// A time after everything that is due or recorded: the end of the year 9999.
const END_OF_TIME: Millis = Millis(253_402_300_799_000);
