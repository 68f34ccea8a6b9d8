//! The folder of a job's files.

use crate::request::EncryptionKey;

/// The folder of a job's files. [`crate::job::Job::folder`] derives it from the job. Only output stores interpret it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The client's own destination. `None` is the deployment's.
    pub destination: Option<String>,
    /// The path inside the destination.
    pub path: String,
    /// The key that encrypts the files. `None` applies the destination's default encryption.
    pub encryption_key: Option<EncryptionKey>,
}
