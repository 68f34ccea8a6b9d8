//! `GET [base]/metadata`: what this deployment can do, as a CapabilityStatement; `GET [base]/OperationDefinition`: how.
//!
//! Open to anyone, as FHIR asks: it says what the software and its settings say, and nothing about data or jobs.

pub mod capabilities;
mod discovery;
pub mod handler;
pub mod operations;
