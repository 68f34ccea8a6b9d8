//! Encryption of the secrets that the job table stores.

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;
use headrace_core::vocab::setting::Setting;

/// The name of the key in errors.
pub(crate) const STORE: &str = "the key of job secrets";

/// The setting that names the key.
pub(crate) const SETTING: Setting = Setting::JobSecretKmsKey;

/// An encryptor of job secrets with a key that is not stored in the job table.
pub trait SecretEncryptor: Debug + Send + Sync {
    /// Encrypts the secret of a job. Only [`Self::decrypt`] for the same job returns it.
    fn encrypt<'a>(&'a self, job: &'a JobId, secret: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>>;

    /// Decrypts a ciphertext of [`Self::encrypt`] for the same job. Returns an error for that of another job.
    fn decrypt<'a>(&'a self, job: &'a JobId, ciphertext: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>>;

    /// Decrypts the keys file of an anonymization configuration, which the operator has encrypted.
    fn decrypt_keys<'a>(&'a self, keys: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>>;

    /// Decrypts the secret of a webhook, which the operator has encrypted.
    fn decrypt_webhook_secret<'a>(&'a self, ciphertext: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>>;
}

/// Returns the error of a deployment without a key for secrets.
pub(crate) fn no_key_configured() -> StoreError {
    StoreError::Misconfigured {
        remedy: format!("{} is not set; name a KMS key for de-identified exports and secrets of webhooks", SETTING.as_str()),
        cause: "there is no key for secrets".into(),
    }
}
