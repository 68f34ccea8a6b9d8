//! Whole exports through the real handlers, without faults and under every fault that the design names.

mod audit;
mod audit_cli;
mod client_access;
mod clients_cli;
mod complete_exports;
mod crash;
mod deidentification;
mod destinations;
mod export_list;
mod faults;
mod idempotency_key;
mod job_outcomes;
mod lake_model;
mod local_server;
mod log_leaks;
mod login;
mod patient_blocks;
mod process;
mod queue;
mod registrations;
mod scopes;
mod status_polling;
mod versions;
mod watermark;
mod watermark_model;
