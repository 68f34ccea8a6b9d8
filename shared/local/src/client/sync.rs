//! The `headrace sync` command: brings a lake up to date with a FHIR server.

pub mod command;
mod lake_check;
mod progress;
mod report;

pub use headrace_client::{HttpOrigin, OriginSettings};
