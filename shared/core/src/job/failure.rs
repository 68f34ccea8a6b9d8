//! Reasons of failed jobs.

use serde::{Deserialize, Serialize};

use crate::vocab::outcome::IssueCode;

/// The reason why a job failed, as it is shown to the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureReason {
    /// The kind of failure.
    pub kind: FailureKind,
    /// The failure and its remedy. Never contains data, tokens or presigned URLs.
    pub text: String,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// An object of the lake was changed or removed after it was pinned.
    SourceChanged,
    /// An object of the lake cannot be read, or cannot be decompressed as its name promises.
    SourceUnreadable,
    /// The destination or the job table has no space left.
    OutOfSpace,
    /// The service lacks a permission, or a setting is wrong.
    Misconfigured,
    /// A task has used up its attempts.
    Exhausted,
    /// The job has passed its deadline.
    Deadline,
    /// The manifest does not fit into one response.
    TooLarge,
    /// The lake does not contain the group or patient.
    NotFound,
    /// The members of the group cannot be determined from the lake.
    NotSupported,
    /// A resource cannot be de-identified, or the configuration has changed since the kick-off.
    NotDeidentified,
}

impl FailureKind {
    /// Returns the FHIR issue type of the OperationOutcome for this failure. None is `transient` or one of its children (`exception`,
    /// `timeout`, `no-store`): clients would continue to poll an export that has failed.
    pub fn code(self) -> IssueCode {
        match self {
            Self::SourceChanged => IssueCode::Conflict,
            Self::SourceUnreadable | Self::Misconfigured | Self::Exhausted | Self::NotDeidentified | Self::OutOfSpace => {
                IssueCode::Processing
            }
            Self::Deadline | Self::TooLarge => IssueCode::TooCostly,
            Self::NotFound => IssueCode::NotFound,
            Self::NotSupported => IssueCode::NotSupported,
        }
    }
}
