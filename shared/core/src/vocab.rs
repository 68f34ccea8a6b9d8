//! Vocabulary that every folder shares: time, identifiers, errors, OperationOutcome.

pub mod clock;
pub mod error;
pub mod ids;
pub mod outcome;
pub(crate) mod text;
