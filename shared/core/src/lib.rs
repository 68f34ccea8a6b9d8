//! The rules and nouns of an export: no AWS, no HTTP, no clock of its own.
//!
//! One file per noun; [`flow`] has one per verb. The rules P1 to P10 of the pipeline stand in `docs/architecture.md`.

pub mod access;
pub mod anonymization;
#[cfg(test)]
mod arbitrary;
pub mod audit;
pub mod clock;
pub mod error;
pub mod finding;
pub mod flow;
pub mod folder;
pub mod ids;
pub mod job;
pub mod key;
pub mod lake;
pub mod manifest;
pub mod ndjson;
pub mod note;
pub mod organize;
pub mod outcome;
pub mod page;
pub mod part;
pub mod ports;
pub mod reader;
pub mod reading;
pub mod request;
pub mod resolution;
pub mod roster;
pub mod selection;
pub mod task;
mod text;
