//! Scheduled upkeep: announces overdue tasks, ends and deletes old exports, seals audit records, starts the exports of schedules and the
//! synchronizations of the lake, delivers events.

pub mod events;
pub mod handler;
pub mod schedules;
pub mod sync;
pub mod watermark;
