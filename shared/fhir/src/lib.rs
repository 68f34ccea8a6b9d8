//! FHIR semantics over raw JSON bytes: no I/O, no async.
//!
//! A resource is one NDJSON line. [`head`] validates the line in a single streaming pass and keeps only the members that an
//! export needs. No tree is built.
//!
//! Each module uses only the modules above it: [`instant`], [`json`], [`bundle`], [`definitions`], [`head`], [`semantics`],
//! [`search`], [`searchset`], [`deid`].

pub mod bundle;
pub mod definitions;
pub mod deid;
pub mod head;
#[cfg(test)]
mod independent;
pub mod instant;
pub mod json;
pub mod search;
pub mod searchset;
pub mod semantics;

/// The version of FHIR Bulk Data Access that this workspace implements. The versions of the guide disagree on kick-off
/// verbs and on manifest fields. Clients of version 2.0.0 still work.
pub const IG_VERSION: &str = "3.0.0";
