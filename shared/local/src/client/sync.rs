//! The `headrace sync` command: brings a lake up to date with a FHIR server.

pub mod command;
mod progress;
mod report;

pub use headrace_client::{HttpOrigin, OriginSettings};
