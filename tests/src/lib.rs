//! Shared code of the integration tests and benchmarks: contract suites, flow test harness, lakes, and stand-ins of AWS services.

pub mod contracts;
pub mod fhir_tables;
pub mod flows;
pub mod lake;
pub mod standins;
pub mod workspace;
