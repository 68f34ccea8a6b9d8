//! The verbs of a worker.
//!
//! [`run_task`] dispatches to one module per kind of task. Those share the modules that follow them here: rounds, fragments,
//! corrections, heartbeats and the end of a task.

pub mod run_task;

mod finalize;
mod group_by_patient;
mod plan;
mod pump;
mod resolve_versions;

mod corrections;
mod deidentify;
mod fragments;
mod heartbeat;
mod notices;
mod persist_patient_set;
mod reading;
mod round;
pub mod settings;
pub mod task_end;
mod version_round;
