//! The error of a client's call or of a task.

use crate::job::Quota;
use crate::request::RequestError;
use crate::vocab::error::{SourceError, StoreError};

/// An error that ends a client's call or a task.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The request is invalid, unsupported or forbidden.
    #[error(transparent)]
    Rejected(#[from] RequestError),
    /// A quota allows no further export at this time.
    #[error("{0}")]
    QuotaReached(Quota),
    /// The resource, named by this phrase, does not exist or belongs to another caller (rule P9).
    #[error("{0} was not found")]
    NotFound(&'static str),
    /// A resource cannot be de-identified, or the configuration has changed since the export began. The text holds no data
    /// of a resource.
    #[error("the export failed: {0}")]
    NotDeidentified(String),
    /// The job table, the queue or the destination failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lake failed.
    #[error(transparent)]
    Source(#[from] SourceError),
}
