//! The error of a client's call or of a task.

use std::collections::BTreeSet;

use crate::job::Quota;
use crate::request::RequestError;
use crate::vocab::config_digest::ConfigDigest;
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
    /// The linter has remarks about the anonymization configuration that the operator does not accept.
    #[error(transparent)]
    Remarked(#[from] Box<RemarkedConfiguration>),
    /// A resource cannot be de-identified, or the configuration has changed since the export began. The text holds no data
    /// of a resource.
    #[error("{0}")]
    NotDeidentified(String),
    /// The job table, the queue or the destination failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lake failed.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// An anonymization configuration that is not used because of remarks about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct RemarkedConfiguration {
    /// The digest of the file.
    pub digest: ConfigDigest,
    /// The names of the remarks that the operator does not accept.
    pub remarks: BTreeSet<String>,
    /// The remarks and their remedies, as they are shown to the client.
    pub text: String,
}

impl From<RemarkedConfiguration> for ExportError {
    fn from(remarked: RemarkedConfiguration) -> Self {
        Self::Remarked(Box::new(remarked))
    }
}
