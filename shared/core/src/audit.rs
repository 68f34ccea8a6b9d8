//! The audit trail: who did what, when, from where, and with which outcome. It never holds a patient's data.
//!
//! A `record` is first written to the job table: in the transaction of the change that it describes, or before the answer
//! that discloses data. The reaper later seals it: the record becomes a line of an audit file, a FHIR AuditEvent that is
//! chained to the line before it ([`chain`]).

pub mod chain;
pub mod event;
mod log;
mod record;
mod summary;
pub mod verify;
pub mod writer;

pub use log::LOG_TARGET;
pub use record::{AuditAction, AuditOutcome, AuditRecord, AuditRecordKey};
pub use summary::{ConfigurationSummary, ExportSummary, SummaryLevel};

#[cfg(test)]
mod tests;
