//! Encrypts the secrets of jobs and webhooks on one machine, with a key in a file that only its owner can access. A copy of the job table
//! without that file reveals no secret.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use futures_util::future::BoxFuture;
use headrace_aws::SecretEncryptor;
use headrace_core::vocab::error::{BoxError, StoreError};
use headrace_core::vocab::ids::JobId;

use crate::stores::private::{is_accessible_by_others, write_atomically};

/// Name of the key in errors.
const WHAT: &str = "the key that encrypts job secrets";

/// The purpose of the secret of a webhook. It is no id of a job.
const WEBHOOK: &str = "webhook";

/// An AES-256-GCM encryptor with a key in a file, generated at its first use, or with a key of this process.
#[derive(Clone, Debug)]
pub struct FileSecretEncryptor {
    path: PathBuf,
    /// A key that is in memory only. The path is unused then.
    process_key: Option<ProcessKey>,
}

/// A key in memory.
#[derive(Clone)]
struct ProcessKey([u8; 32]);

impl fmt::Debug for ProcessKey {
    /// Formats a placeholder, so that the key is never logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
}

impl FileSecretEncryptor {
    /// Creates an encryptor. The key file is read at each use.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), process_key: None }
    }

    /// Creates an encryptor whose key ends with this process: what it has encrypted is worthless afterwards.
    pub fn in_memory() -> Result<Self, StoreError> {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|error| StoreError::NotApplied { store: WHAT, cause: error.into() })?;
        Ok(Self { path: PathBuf::new(), process_key: Some(ProcessKey(key)) })
    }

    /// Reads the key, and generates it if the file does not exist.
    fn key(&self) -> Result<RandomizedNonceKey, StoreError> {
        if let Some(ProcessKey(key)) = &self.process_key {
            return RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|error| StoreError::NotApplied { store: WHAT, cause: error.into() });
        }
        let unusable = |cause: BoxError| StoreError::Misconfigured {
            remedy: format!(
                "the key file `{}` cannot be used: it must have 32 bytes and be accessible only by the user of the server",
                self.path.display()
            ),
            cause,
        };
        let read = || -> io::Result<Vec<u8>> {
            if is_accessible_by_others(&fs::metadata(&self.path)?) {
                return Err(io::Error::other("other users can read it"));
            }
            fs::read(&self.path)
        };
        let bytes = match read() {
            // If two processes generate a key, the file of the first one wins and the other reads it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.generate().or_else(|_| read()),
            read => read,
        };
        let bytes = bytes.map_err(|error| unusable(error.into()))?;
        RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|error| unusable(error.into()))
    }

    /// Generates the key and writes its file. Fails if the file exists.
    fn generate(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(io::Error::other)?;
        write_atomically(&self.path, &bytes)?;
        Ok(bytes)
    }

    /// Encrypts the secret of a webhook. Only [`SecretEncryptor::decrypt_webhook_secret`] returns it.
    pub fn encrypt_webhook_secret(&self, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.encrypt_for(WEBHOOK, secret)
    }

    /// Encrypts a secret for a purpose: a job, or a webhook.
    fn encrypt_for(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut text = secret.to_vec();
        let nonce = self.key()?.seal_in_place_append_tag(Aad::from(purpose), &mut text);
        let nonce = nonce.map_err(|error| StoreError::NotApplied { store: WHAT, cause: error.into() })?;
        Ok([nonce.as_ref().as_slice(), &text].concat())
    }

    /// Decrypts a secret that was encrypted for the same purpose.
    fn decrypt_for(&self, purpose: &str, ciphertext: &[u8]) -> Result<Vec<u8>, StoreError> {
        let undecryptable = || StoreError::Unreadable {
            store: WHAT,
            detail: "a secret that was encrypted with another key or for another purpose".to_owned(),
        };
        let (nonce, text) = ciphertext.split_at_checked(NONCE_LEN).ok_or_else(undecryptable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| undecryptable())?;
        let mut text = text.to_vec();
        let opened = self.key()?.open_in_place(nonce, Aad::from(purpose), &mut text).map_err(|_| undecryptable())?;
        Ok(opened.to_vec())
    }
}

impl SecretEncryptor for FileSecretEncryptor {
    fn encrypt<'a>(&'a self, job: &'a JobId, secret: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        Box::pin(std::future::ready(self.encrypt_for(job.as_str(), secret)))
    }

    fn decrypt<'a>(&'a self, job: &'a JobId, ciphertext: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        Box::pin(std::future::ready(self.decrypt_for(job.as_str(), ciphertext)))
    }

    fn decrypt_keys<'a>(&'a self, keys: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        // On one machine the file is protected by its mode, which the store has checked.
        Box::pin(std::future::ready(Ok(keys.to_vec())))
    }

    fn decrypt_webhook_secret<'a>(&'a self, ciphertext: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        Box::pin(std::future::ready(self.decrypt_for(WEBHOOK, ciphertext)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_is_decrypted_only_for_its_job_and_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let encryptor = FileSecretEncryptor::new(folder.path().join("keys/secrets.key"));
        let (job, other) = (JobId::from_random([1; 16]), JobId::from_random([2; 16]));
        let ciphertext = encryptor.encrypt(&job, b"the secret of a job").await.unwrap();
        assert!(!ciphertext.windows(6).any(|bytes| bytes == b"secret"));
        let reopened = FileSecretEncryptor::new(folder.path().join("keys/secrets.key"));
        assert_eq!(reopened.decrypt(&job, &ciphertext).await.unwrap(), b"the secret of a job");
        assert!(reopened.decrypt(&other, &ciphertext).await.is_err());
        assert!(FileSecretEncryptor::new(folder.path().join("keys/other.key")).decrypt(&job, &ciphertext).await.is_err());
        assert!(reopened.decrypt(&job, &ciphertext[..4]).await.is_err());
    }

    #[tokio::test]
    async fn the_secret_of_a_webhook_is_not_that_of_a_job() {
        let folder = tempfile::tempdir().unwrap();
        let encryptor = FileSecretEncryptor::new(folder.path().join("keys/secrets.key"));
        let ciphertext = encryptor.encrypt_webhook_secret(b"whsec_x").unwrap();
        assert_eq!(encryptor.decrypt_webhook_secret(&ciphertext).await.unwrap(), b"whsec_x");
        assert!(encryptor.decrypt(&JobId::from_random([1; 16]), &ciphertext).await.is_err());
    }

    #[tokio::test]
    async fn a_key_in_memory_writes_no_file_and_ends_with_its_process() {
        let (encryptor, other) = (FileSecretEncryptor::in_memory().unwrap(), FileSecretEncryptor::in_memory().unwrap());
        let job = JobId::from_random([1; 16]);
        let ciphertext = encryptor.encrypt(&job, b"the secret of a job").await.unwrap();
        assert_eq!(encryptor.clone().decrypt(&job, &ciphertext).await.unwrap(), b"the secret of a job");
        assert!(other.decrypt(&job, &ciphertext).await.is_err());
        assert_eq!(encryptor.path, PathBuf::new());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_key_file_is_accessible_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/secrets.key");
        let job = JobId::from_random([1; 16]);
        FileSecretEncryptor::new(&path).encrypt(&job, b"secret").await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(FileSecretEncryptor::new(&path).encrypt(&job, b"secret").await, Err(StoreError::Misconfigured { .. })));
    }
}
