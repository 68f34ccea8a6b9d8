//! Where the files of one job lie, and what they are encrypted under.

use crate::request::JobKey;

/// The folder of one job. [`crate::job::Job::folder`] makes it of the job's record; flows hand it on and do not look inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The destination, where it is the client's own; `None` is the deployment's.
    pub destination: Option<String>,
    /// Its path inside the destination.
    pub path: String,
    /// What its files are encrypted under; `None` is what the destination does by itself.
    pub key: Option<JobKey>,
}
