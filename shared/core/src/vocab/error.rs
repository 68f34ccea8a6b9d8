//! What can go wrong, named by what it means for the next move.

use crate::job::Limit;
use crate::request::Refusal;

/// The cause of an error, for the log only.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A store's failure. It answers one question: can the write have happened?
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No: the call was refused or never left.
    #[error("{what} refused the call, nothing was written")]
    NotApplied {
        /// Which store.
        what: &'static str,
        /// Why.
        #[source]
        cause: BoxError,
    },
    /// Perhaps: read before writing again.
    #[error("{what} did not answer, the write may have landed")]
    Unknown {
        /// Which store.
        what: &'static str,
        /// Why.
        #[source]
        cause: BoxError,
    },
    /// No: somebody else moved it first, or the lease is over.
    #[error("somebody else moved it first")]
    Stale,
    /// No, and it never will: a setting or a permission is wrong.
    #[error("{remedy}")]
    Misconfigured {
        /// Which setting, and what to do about it; for the client's eyes.
        remedy: String,
        /// What the store said.
        #[source]
        cause: BoxError,
    },
    /// A stored item or file is not what it should be.
    #[error("{what} holds what cannot be read: {detail}")]
    Unreadable {
        /// Which store.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

/// The lake's failure.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A pinned object is not what it was: the export would mix two states of the lake.
    #[error("the object `{object}` of the lake was changed or removed after the export had pinned it; start a new export")]
    Changed {
        /// The object.
        object: String,
    },
    /// An object is not what its name says.
    #[error("the object `{object}` of the lake cannot be decompressed: {detail}; replace it and start a new export")]
    Unreadable {
        /// The object.
        object: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// A setting or a permission is wrong.
    #[error("{remedy}")]
    Misconfigured {
        /// Which setting, and what to do about it; for the client's eyes.
        remedy: String,
        /// What the source said.
        #[source]
        cause: BoxError,
    },
    /// It did not answer this time.
    #[error("the lake did not answer")]
    Unavailable(#[source] BoxError),
}

/// What ends a flow other than as planned.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The request cannot be served as it is.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No room for another export now.
    #[error("{0}")]
    TooMany(Limit),
    /// We looked, and it is absent or not the caller's (rule P9).
    #[error("{0} is not known here")]
    NotFound(&'static str),
    /// A resource cannot be de-identified, or not by the configuration that the export began with: what is wrong, without
    /// anything of a resource.
    #[error("the export was given up because {0}")]
    NotDeidentified(String),
    /// The job table, the queue or the destination failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lake failed.
    #[error(transparent)]
    Source(#[from] SourceError),
}
