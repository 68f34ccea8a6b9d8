//! The `headrace sync` command: brings a lake up to date with a FHIR server.

pub mod command;
mod error;
pub(crate) mod first_request;
pub(crate) mod for_export;
mod lake_check;
mod progress;
mod report;
mod run;
mod state_binding;

pub use error::SyncCommandError;
pub use headrace_client::{HttpOrigin, OriginSettings};
