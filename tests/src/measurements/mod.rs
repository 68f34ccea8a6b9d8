//! Measurements of exports and synchronizations through the AWS adapters, with the system's clock. Benchmarks and the program `memory` use
//! them.

pub mod functions;
pub mod memory;
pub mod peak;
