//! Failures of `headrace sync`.

use std::io;
use std::path::PathBuf;

use headrace_core::job::ExportError;
use headrace_core::ports::OriginError;
use headrace_core::vocab::error::StoreError;
use headrace_lake::writing::WriteError;

use crate::cli::SourceError;
use crate::client::bulk::ClientError;
use crate::server::state::StateError;
use crate::stores::client_key::KeyError;
use crate::stores::deployment::DeploymentError;

/// Failure of a synchronization.
#[derive(Debug, thiserror::Error)]
pub enum SyncCommandError {
    /// The URL is not that of a server.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The first argument is a directory.
    #[error("`{0}` is not the URL of a FHIR server: write http:// or https://")]
    NotServer(String),
    /// A type is unknown.
    #[error("`{0}` is not a resource type of FHIR; types are separated by commas, such as Patient,Observation")]
    UnknownType(String),
    /// The lake cannot be created.
    #[error("`{}` cannot be used as the lake", .path.display())]
    Lake {
        /// Path of the lake.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The lake is inside another one, or another run fills it.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Another server has filled the lake.
    #[error(
        "the lake `{}` is filled from {filled_from}, and its watermark is about that server: choose another directory for {requested}",
        .lake.display()
    )]
    OtherOrigin {
        /// Path of the lake.
        lake: PathBuf,
        /// Base URL of the server that has filled the lake.
        filled_from: String,
        /// Base URL of the server that was to fill it.
        requested: String,
    },
    /// The state folder is that of another lake.
    #[error(
        "the state folder `{}` is that of the lake `{}`, and may hold resources that were fetched for it: choose another folder for `{}` with \
         --state, or remove this one if that lake was moved",
        .state.display(),
        .bound.display(),
        .lake.display()
    )]
    OtherLake {
        /// The state folder.
        state: PathBuf,
        /// The lake that the state folder belongs to.
        bound: PathBuf,
        /// The lake that was to be filled.
        lake: PathBuf,
    },
    /// The server cannot be used.
    #[error("the server cannot be used; nothing was written")]
    Origin(#[source] OriginError),
    /// There is no CapabilityStatement at the URL.
    #[error(
        "there is no CapabilityStatement (`metadata`) at this URL, and nothing was written. The URL must be the base URL of the FHIR server; \
         that of headrace serve ends with /fhir"
    )]
    NoCapabilityStatement(#[source] OriginError),
    /// The server demands a long pause before its first answer.
    #[error("the server is busy until {0}, and nothing was written: run the command again then")]
    BusyUntil(String),
    /// The client cannot be created.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The client's key or secret cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Requests cannot be signed.
    #[error(transparent)]
    Signature(#[from] DeploymentError),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The job table cannot be written, and no retry can mend that.
    #[error("{0}; the same command continues the synchronization")]
    Table(String),
    /// A store failed.
    #[error(transparent)]
    Port(#[from] ExportError),
    /// The job has failed.
    #[error("the synchronization failed: {0}")]
    Failed(String),
    /// The user has interrupted the synchronization.
    #[error("interrupted; the same command continues it")]
    Interrupted,
    /// The report cannot be read.
    #[error("the report of the synchronization cannot be read")]
    Report,
}

impl From<StoreError> for SyncCommandError {
    fn from(error: StoreError) -> Self {
        Self::Port(error.into())
    }
}
