//! Scheduled upkeep: announces overdue tasks, ends and deletes old exports, seals audit records, starts the exports of schedules, delivers
//! events.

pub mod events;
pub mod handler;
pub mod schedules;
pub mod watermark;
