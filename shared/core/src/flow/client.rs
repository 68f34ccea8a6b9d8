//! The operations for clients.

pub mod cancel;
pub mod check_schedule;
mod configuration_remarks;
pub mod download;
pub mod end_job;
pub mod estimate;
pub mod groups;
pub mod kick_off;
pub mod list;
mod pin_configuration;
pub mod start_queued;
pub mod start_sync;
pub mod status;
