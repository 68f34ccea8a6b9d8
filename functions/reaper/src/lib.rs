//! Scheduled upkeep: announces overdue tasks, ends and deletes old exports, seals audit records.

pub mod handler;
pub mod watermark;
