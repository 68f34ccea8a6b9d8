//! Files with the private keys of clients: reads and generates them.

mod generated_key;

use std::path::{Path, PathBuf};

use headrace_client::client_key::InvalidKey;
use headrace_core::vocab::error::StoreError;

use crate::stores::regular_file::read_regular_file_to_string;

pub use generated_key::{GeneratedKey, KeyAlgorithm};
pub use headrace_client::client_key::ClientKey;

/// Reason why a private key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file with a secret or a password cannot be used.
    #[error("the file `{path}` with a secret cannot be used")]
    Secret {
        /// Path of the file.
        path: PathBuf,
        /// Reason.
        #[source]
        cause: std::io::Error,
    },
    /// The file cannot be read.
    #[error("the key file `{path}` cannot be read")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: std::io::Error,
    },
    /// The file does not contain a usable key. The error never quotes its text, which may be part of a key.
    #[error("`{path}` {problem}")]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// Problem with the key, and a remedy.
        problem: &'static str,
    },
    /// The cryptography library failed.
    #[error("the key cannot be used: {0}")]
    Library(&'static str),
    /// The random number generator failed.
    #[error(transparent)]
    Random(#[from] StoreError),
}

/// Reads a private key from a file: a JSON Web Key, a set with one key, or PEM (PKCS#8, PKCS#1, SEC 1). P-384 keys and RSA keys of at
/// least 2048 bits are supported.
///
/// * `kid`: the key ID that is registered with the server; required for PEM, which does not contain one.
pub fn read_client_key(path: &Path, kid: Option<&str>) -> Result<ClientKey, KeyError> {
    let text = read_regular_file_to_string(path).map_err(|cause| KeyError::File { path: path.to_owned(), cause })?;
    ClientKey::parse(&text, kid).map_err(|error| {
        let problem = match error {
            InvalidKey::Content(problem) => problem,
            InvalidKey::NoKeyId => "does not contain a key ID (kid): set it with --client-key-id",
        };
        KeyError::Content { path: path.to_owned(), problem }
    })
}

#[cfg(test)]
mod tests;
