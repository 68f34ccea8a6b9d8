//! The `headrace sync` command: brings a lake up to date with a FHIR server.

pub mod command;
mod http_origin;
mod progress;
mod report;
mod request_gate;

pub use http_origin::{HttpOrigin, OriginSettings};
