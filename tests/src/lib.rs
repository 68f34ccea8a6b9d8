//! Tests of whole flows: contracts, faults, crashes, replays, stand-ins, benchmarks.

pub mod lake;
pub mod standins;
