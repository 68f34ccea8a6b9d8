//! The secret and the pinned configuration of a de-identified export.

use std::fmt;

/// The secret of a job, from which the keys of its de-identification are derived. All tasks of the job share it. It is
/// deleted when the job ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JobSecret(pub [u8; 32]);

impl fmt::Debug for JobSecret {
    /// Formats a placeholder, so that the secret is never logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

/// The anonymization configuration and the encrypted secret of a job. Both are kept while the job is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedConfig {
    /// The entity tag of the configuration at the kick-off. Every task uses the configuration with this tag or fails.
    pub etag: String,
    /// The job's secret, encrypted by [`crate::ports::JobSecretEncryptor::encrypt`].
    pub encrypted_secret: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", JobSecret([7; 32])), "a secret");
    }
}
