//! The end of a window: it was read, or the reason why not.

use crate::job::ExportError;
use crate::vocab::clock::Millis;

use super::lines::WindowCut;
use super::pages::PageError;

/// The end of a window.
pub(super) enum WindowEnd {
    /// The window was read to its end.
    Complete,
    /// The window was read only up to the time of the cut.
    Cut(WindowCut),
}

/// The reason why a window was not read.
pub(super) enum WindowError {
    /// The window must be read again.
    Repeat(String),
    /// The window has too many resources, and is divided at this time.
    TooMany(Millis),
    /// The server has sent only a part of the window, which must be read in two parts.
    Capped {
        /// The moment between the parts.
        middle: Millis,
        /// The number of resources that were sent.
        resources: u64,
    },
    /// A page is too long.
    TooLong,
    /// The server does something that no retry changes.
    Final(String),
    /// The attempt must end.
    TimeUp,
    /// The attempt has failed.
    Attempt(ExportError),
}

impl WindowError {
    /// Returns the text for the report.
    pub(super) fn into_fault(self) -> String {
        match self {
            Self::Repeat(fault) | Self::Final(fault) => fault,
            Self::TooMany(at) => format!("the window has too many resources, and was not divided at {at}"),
            Self::Capped { resources, .. } => capped_text(resources),
            Self::TooLong => "a single resource is longer than 64 MiB".to_owned(),
            Self::TimeUp => "the time was up".to_owned(),
            Self::Attempt(error) => error.to_string(),
        }
    }
}

/// Returns the text about a window of which the server has sent only this number of resources.
pub(super) fn capped_text(resources: u64) -> String {
    format!("incomplete: the server shows and counts {resources} resources, and more in the parts of the window, which are read singly now")
}

impl From<PageError> for WindowError {
    fn from(error: PageError) -> Self {
        match error {
            // An expired search. The window is read again from its start.
            PageError::Rejected(404 | 410 | 500.., _) | PageError::Incomplete(_) => Self::Repeat(error.into_text()),
            PageError::Rejected(..) | PageError::Final(_) => Self::Final(error.into_text()),
            PageError::TooLong => Self::TooLong,
            PageError::TimeUp => Self::TimeUp,
            PageError::Attempt(error) => Self::Attempt(error),
        }
    }
}

impl From<ExportError> for WindowError {
    fn from(error: ExportError) -> Self {
        Self::Attempt(error)
    }
}
