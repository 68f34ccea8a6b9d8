//! Encryption of job secrets.

use crate::job::JobSecrets;
use crate::vocab::error::StoreError;
use crate::vocab::ids::JobId;

/// The encryption of the secrets of de-identified exports, so that read access to the job table does not reveal them.
pub trait JobSecretEncryptor: Send + Sync {
    /// Encrypts the secrets of a job. The ciphertext is bound to the job: no other job's id decrypts it.
    fn encrypt(&self, job: &JobId, secrets: &JobSecrets) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;

    /// Decrypts a ciphertext that [`Self::encrypt`] returned for the same job.
    fn decrypt(&self, job: &JobId, ciphertext: &[u8]) -> impl Future<Output = Result<JobSecrets, StoreError>> + Send;

    /// Decrypts the keys file of an anonymization configuration.
    fn decrypt_keys(&self, keys: &[u8]) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;

    /// Decrypts the secret of a registered webhook.
    fn decrypt_webhook_secret(&self, ciphertext: &[u8]) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;
}
