//! The verbs of a worker.

mod decide;
pub(super) mod deidentify;
mod finish;
mod organize;
mod plan;
mod pump;
mod reread;
mod resolve;
pub mod run_task;
