//! Tests of whole flows: contracts, faults, crashes, replays, stand-ins, benchmarks.

pub mod contracts;
pub mod fhir_tables;
pub mod flows;
pub mod lake;
pub mod standins;
