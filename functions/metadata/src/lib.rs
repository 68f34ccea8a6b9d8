//! `GET [base]/metadata`: the CapabilityStatement. `GET [base]/OperationDefinition`: the definitions of `$export`.
//!
//! Accessible without authentication, as FHIR requires: the responses depend on software and settings only, not on data or
//! jobs.

pub mod capability_statement;
pub mod handler;
pub mod operation_definitions;
mod smart_configuration;
