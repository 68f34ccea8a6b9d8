//! The operations of a worker.
//!
//! [`run_task`] dispatches to one module per kind of task. Those share the modules that follow them here: rounds, fragments,
//! corrections, heartbeats and the end of a task.

pub mod run_task;

mod finalize;
mod group_by_patient;
mod merge_groups;
mod merge_records;
mod plan;
mod pump;
mod resolve_versions;
mod sort_patients;
mod sync;

mod completed_files;
mod corrections;
mod deidentify;
mod file_numbers;
mod fragments;
mod heartbeat;
mod manifest_limit;
mod notices;
mod patient_files;
mod persist_patient_set;
mod reading;
mod record_files;
pub(crate) mod record_rounds;
mod round;
pub mod settings;
mod split_task;
pub mod task_end;
mod version_round;
