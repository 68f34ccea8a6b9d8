//! Synchronizations: brings the lake up to date with a FHIR server.
//!
//! The plan divides what has changed into windows of time. Each is a task, which reads its pages one after the other. Nothing of them is in
//! the lake until all are complete: then their fragments are published, and the watermark is moved last.

mod cap;
mod capabilities;
mod confirm;
mod deletions;
mod fetch;
mod fetch_scope;
mod finalize;
mod held_types;
mod history;
mod history_events;
mod lake_ids;
mod lake_state;
mod lines;
mod listing;
mod newest_events;
mod pages;
mod paging;
mod parts;
mod plan;
mod planner;
mod progress;
mod publication;
mod publish;
mod queries;
mod reconcile;
mod repeats;
mod split;
mod time_order;
mod types_to_fetch;
mod verify;
mod window_end;
mod window_reader;

pub(super) use fetch::run_fetch_task;
pub(super) use finalize::run_finalize_sync_task;
pub(super) use plan::run_plan_sync_task;
pub(super) use publish::run_publish_task;
