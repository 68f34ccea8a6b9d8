//! The rules and nouns of an export: no AWS, no HTTP, no clock of its own.
//!
//! One file per noun; [`flow`] has one per verb. The rules P1 to P10 of the pipeline stand in `docs/architecture.md`.

pub mod access;
#[cfg(test)]
mod arbitrary;
pub mod audit;
pub mod cohort;
pub mod flow;
pub mod job;
pub mod lake;
pub mod lines;
pub mod output;
pub mod patients;
pub mod ports;
pub mod request;
pub mod versions;
pub mod vocab;
