//! Fills, checks and compacts lakes.
//!
//! [`check`] reads a lake as exports do and reports what is in it. [`add`] converts Bundles, tables of FHIR Works on AWS and the exports of
//! other servers into NDJSON. [`compact`] replaces the objects of a lake by new ones with the newest version of each resource.
//!
//! Memory is bounded, however large the input is: what does not fit is sorted in temporary files ([`sorting`]).
//!
//! Each module uses only the modules above it: [`progress`], [`regular_file`], [`sorting`], [`reading`],
//! [`writing`], [`check`], [`compact`], [`add`].

pub mod add;
pub mod check;
pub mod compact;
mod pool;
pub mod progress;
pub mod reading;
pub mod regular_file;
pub mod sorting;
#[cfg(test)]
mod test_lake;
pub mod writing;
