//! The secret and the pinned configuration of a de-identified export.

use std::fmt;

use headrace_fhir::deid::DeidKeys;

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

/// The secrets of a de-identified export: what the job table stores encrypted while the job is open.
#[derive(Clone, PartialEq, Eq)]
pub struct JobSecrets {
    /// The job's own secret.
    pub secret: JobSecret,
    /// The keys that are kept apart from the configuration, as they were at the kick-off. Empty keys are derived from the
    /// job's secret.
    pub keys: DeidKeys,
}

impl fmt::Debug for JobSecrets {
    /// Formats a placeholder, so that the secrets are never logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("secrets")
    }
}

impl JobSecrets {
    /// Returns the bytes to encrypt: the secret, followed by the keys as JSON if there are any.
    pub fn to_bytes(&self) -> Vec<u8> {
        let keys = if self.keys == DeidKeys::default() { String::new() } else { self.keys.to_json() };
        [&self.secret.0[..], keys.as_bytes()].concat()
    }

    /// Parses the output of [`Self::to_bytes`]. Returns `None` for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (secret, keys) = bytes.split_first_chunk()?;
        let keys = if keys.is_empty() { DeidKeys::default() } else { DeidKeys::parse(keys).ok()? };
        Some(Self { secret: JobSecret(*secret), keys })
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

    #[test]
    fn secrets_with_and_without_keys_are_read_back() {
        let keys = DeidKeys::parse(br#"{"cryptoHashKey":"canary"}"#).unwrap();
        for keys in [DeidKeys::default(), keys] {
            let secrets = JobSecrets { secret: JobSecret([7; 32]), keys };
            assert_eq!(JobSecrets::from_bytes(&secrets.to_bytes()), Some(secrets.clone()));
            assert_eq!(format!("{secrets:?}"), "secrets");
        }
        assert_eq!(JobSecrets::from_bytes(&[7; 31]), None);
        assert_eq!(JobSecrets::from_bytes(&[7; 33]), None);
    }
}
