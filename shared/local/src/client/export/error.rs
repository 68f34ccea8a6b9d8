//! Failures of `headrace export`.

use std::io;
use std::path::PathBuf;

use crate::cli::{OptionError, SourceError};
use crate::client::bulk::ClientError;
use crate::client::dry_run::DryRunError;
use crate::client::folder::FolderError;
use crate::client::local_export::reason_in_command_words;
use crate::client::out_dir::OutDirError;
use crate::client::since_file::SinceFileError;
use crate::client::sync::SyncCommandError;
use crate::server::service::StartError;
use crate::stores::client_key::KeyError;
use crate::stores::deid_keys::DeidKeysFileError;

/// Failure of `headrace export`.
#[derive(Debug, thiserror::Error)]
pub enum ExportCommandError {
    /// The source is not a directory or a server.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The export would be rejected.
    #[error(transparent)]
    DryRun(#[from] DryRunError),
    /// The output directory is not empty.
    #[error("`{}` is not empty; use another directory, or add --overwrite", .0.display())]
    NotEmpty(PathBuf),
    /// The output directory has a file that no export has written, with the name of a file of exports.
    #[error(
        "`{}` has the name of a file of an export, but no earlier export has written it, so it is not replaced: move it, or use another directory; \
         nothing was exported",
        .0.display()
    )]
    ForeignFile(PathBuf),
    /// A folder of the output directory is a link.
    #[error("`{}` is a link, and exports write only within the output directory: remove the link, or use another directory; nothing was exported", .0.display())]
    Link(PathBuf),
    /// The output directory is a lake.
    #[error(
        "`{}` is a lake, which has a folder `_headrace`: exports of the lake would read the exported files as data. Use another directory; nothing was \
         exported",
        .0.display()
    )]
    Lake(PathBuf),
    /// The file of `--since-file` cannot be used.
    #[error(transparent)]
    SinceFile(#[from] SinceFileError),
    /// The output directory contains an unfinished export.
    #[error(
        "`{path}` contains an unfinished export: continue it with `headrace export --resume {path}`, or discard it with --overwrite",
        path = .0.display()
    )]
    Unfinished(PathBuf),
    /// The output directory cannot be created or read.
    #[error("`{}` cannot be used as the output directory", .path.display())]
    Out {
        /// Path of the directory.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The record of the export cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The source, or the output directory of its export, cannot be used.
    #[error(transparent)]
    OutDir(#[from] OutDirError),
    /// The resources cannot be fetched by searches.
    #[error(transparent)]
    Sync(#[from] Box<SyncCommandError>),
    /// The fetched resources are not complete.
    #[error("not all resources could be fetched, and nothing was exported: {0}")]
    NotFetched(String),
    /// The server cannot search resources of types that are requested.
    #[error("the server cannot search resources of all types that are requested, and nothing was exported: leave {0} out of --type")]
    NotSearchable(String),
    /// The export by searches has failed, and its lake stays in the output directory.
    #[error("{cause}\n`{}` has resources {state}: {continuation}; otherwise remove the folder", .lake.display())]
    LeftLake {
        /// Reason.
        cause: String,
        /// The folder with the resources.
        lake: PathBuf,
        /// The form of the resources.
        state: &'static str,
        /// The effect of the same command on the resources.
        continuation: &'static str,
    },
    /// The user interrupted the export.
    #[error(
        "interrupted: the export was stopped before it was complete. Files that are already in the output directory remain there. To start \
         again, repeat the command with --overwrite"
    )]
    Interrupted,
    /// The export stopped on this side, and can be continued.
    #[error("{cause}\nThe export is not lost: headrace export --resume {}", .out.display())]
    Resumable {
        /// Reason.
        cause: String,
        /// The output directory.
        out: PathBuf,
    },
    /// The export was started with a token, which is not stored.
    #[error(
        "the export was started with a token, a secret or a password, which is not stored: give the option again, such as --token (or HEADRACE_TOKEN)"
    )]
    TokenNeeded,
    /// The value of an option is invalid.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The server in this process did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The anonymization configuration cannot be read.
    #[error("the anonymization configuration `{path}` cannot be read")]
    AnonymizationConfig {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The anonymization configuration exceeds the size that an export accepts.
    #[error("the anonymization configuration `{0}` is longer than 1 MB, the largest size that is read")]
    AnonymizationConfigTooLong(PathBuf),
    /// The anonymization configuration is the path of a file, but the server de-identifies.
    #[error(
        "`{0}` is a path on this machine, but the server de-identifies: --anonymization-config names a configuration there, such as night.json. To \
         de-identify on this machine, add --by-sync, which fetches the resources by searches; nothing was sent"
    )]
    ConfigurationOfServer(String),
    /// The server has no export operation at this base URL.
    #[error(
        "the kick-off at `{base}` was rejected with {answer}. SOURCE must be the base URL of the FHIR server, the one whose `metadata` can be read; that \
         of headrace serve ends with /fhir. If it is, --by-sync exports without $export: it fetches the resources by searches"
    )]
    NotFound {
        /// Base URL of the command line.
        base: String,
        /// Status and reason of the server.
        answer: String,
    },
    /// The keys of the de-identification cannot be used.
    #[error(transparent)]
    DeidKeys(#[from] DeidKeysFileError),
    /// The client's key or secret cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The export failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server in this process has rejected the export, or the export has failed there.
    #[error("{0}")]
    Local(String),
}

impl ExportCommandError {
    /// Returns the failure of an export by the server in this process, in the words of the command line.
    pub(super) fn in_command_words(self) -> Self {
        let Self::Client(error) = &self else { return self };
        reason_in_command_words(error).map_or(self, Self::Local)
    }
}
