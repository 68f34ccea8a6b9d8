//! Shared code of the integration tests and benchmarks: contract suites, flow test harness, lakes, measurements, and stand-ins of AWS
//! services.

pub mod contracts;
pub mod fhir_tables;
pub mod flows;
pub mod lake;
pub mod measurements;
pub mod standins;
pub mod workspace;
