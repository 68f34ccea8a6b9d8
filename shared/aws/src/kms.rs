//! Signatures and encryption by KMS. The keys never leave it.

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyUsageType, MessageType, SigningAlgorithmSpec};
use futures_util::future::BoxFuture;
use headrace_core::access::{PublicKey, SigningAlgorithm};
use headrace_core::ports::TokenSigner;
use headrace_core::vocab::error::{BoxError, StoreError};
use headrace_core::vocab::ids::JobId;
use headrace_core::vocab::setting::Setting;
use sha2::{Digest as _, Sha384};
use tokio::sync::OnceCell;

use crate::encryptor::{self, SecretEncryptor};
use crate::errors::Service;

/// The name of the signing key in errors.
const SIGNING_KEY: &str = "the signing key";

/// RSA with PKCS #1 and SHA-384: its signatures are those of RS384 in JOSE. Signatures of elliptic-curve keys are in DER and would have
/// to be converted.
const ALGORITHM: SigningAlgorithmSpec = SigningAlgorithmSpec::RsassaPkcs1V15Sha384;

/// A signer of access tokens with an asymmetric RSA key in KMS.
#[derive(Clone, Debug)]
pub struct KmsSigner {
    client: Client,
    service: Service,
    public_key: OnceCell<PublicKey>,
}

impl KmsSigner {
    /// Creates a signer with the key of this id, ARN or alias.
    pub fn new(client: Client, key: impl Into<String>) -> Self {
        let service = Service::new(SIGNING_KEY, Setting::SigningKey.as_str(), key);
        Self { client, service, public_key: OnceCell::new() }
    }

    /// Fetches the public key from KMS. Returns an error if the key cannot sign access tokens.
    async fn fetch_public_key(&self) -> Result<PublicKey, StoreError> {
        let response = self.client.get_public_key().key_id(&self.service.value).send().await;
        let response = response.map_err(|error| self.service.store_error(error))?;
        let can_sign = response.key_usage() == Some(&KeyUsageType::SignVerify) && response.signing_algorithms().contains(&ALGORITHM);
        match response.public_key {
            Some(spki) if can_sign => Ok(PublicKey { algorithm: SigningAlgorithm::Rs384, spki: spki.into_inner() }),
            Some(_) | None => {
                let remedy = format!(
                    "{} names a key of another kind: name a KMS key of usage SIGN_VERIFY and spec RSA_2048 or longer",
                    Setting::SigningKey.as_str()
                );
                Err(StoreError::Misconfigured { remedy, cause: "RSASSA_PKCS1_V1_5_SHA_384 is not among its algorithms".into() })
            }
        }
    }
}

impl TokenSigner for KmsSigner {
    async fn key(&self) -> Result<PublicKey, StoreError> {
        self.public_key.get_or_try_init(|| self.fetch_public_key()).await.cloned()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, StoreError> {
        // KMS takes messages up to 4 KiB, so it gets the digest.
        let digest = Blob::new(Sha384::digest(message).to_vec());
        let request = self.client.sign().key_id(&self.service.value).signing_algorithm(ALGORITHM);
        let response = request.message_type(MessageType::Digest).message(digest).send().await;
        let response = response.map_err(|error| self.service.store_error(error))?;
        let missing = || StoreError::Unreadable { store: SIGNING_KEY, detail: "a response without a signature".to_owned() };
        response.signature.map(Blob::into_inner).ok_or_else(missing)
    }
}

/// The name of the encryption context that binds a ciphertext to a job. CloudTrail shows it.
const CONTEXT: &str = "headrace:job";

/// The encryption context of the keys of configurations: the operator encrypts them with it. A function that may decrypt only
/// with this context cannot decrypt the secrets of jobs.
pub const KEYS_CONTEXT: (&str, &str) = ("purpose", "headrace-deid-keys");

/// An encryptor of job secrets with a symmetric key in KMS.
#[derive(Clone, Debug)]
pub struct KmsSecretEncryptor {
    client: Client,
    service: Service,
}

impl KmsSecretEncryptor {
    /// Creates an encryptor with the key of this id, ARN or alias.
    pub fn new(client: Client, key: impl Into<String>) -> Self {
        Self { client, service: Service::new(encryptor::STORE, encryptor::SETTING.as_str(), key) }
    }
}

impl SecretEncryptor for KmsSecretEncryptor {
    fn encrypt<'a>(&'a self, job: &'a JobId, secret: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        let request = self.client.encrypt().key_id(&self.service.value).plaintext(Blob::new(secret));
        Box::pin(async move {
            let response = request.encryption_context(CONTEXT, job.as_str()).send().await;
            let response = response.map_err(|error| self.service.store_error(error))?;
            let missing = || StoreError::Unreadable { store: encryptor::STORE, detail: "a response without a ciphertext".to_owned() };
            response.ciphertext_blob.map(Blob::into_inner).ok_or_else(missing)
        })
    }

    fn decrypt<'a>(&'a self, job: &'a JobId, ciphertext: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        let request = self.client.decrypt().key_id(&self.service.value).ciphertext_blob(Blob::new(ciphertext));
        Box::pin(async move {
            let response = request.encryption_context(CONTEXT, job.as_str()).send().await;
            let response = response.map_err(|error| self.service.store_error(error))?;
            let missing = || StoreError::Unreadable { store: encryptor::STORE, detail: "a response without a plaintext".to_owned() };
            response.plaintext.map(Blob::into_inner).ok_or_else(missing)
        })
    }

    fn decrypt_keys<'a>(&'a self, keys: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        let what = "the .keys file beside the anonymization configuration";
        Box::pin(self.decrypt_of_operator(keys, (what, "docs/de-identification.md")))
    }

    fn decrypt_webhook_secret<'a>(&'a self, ciphertext: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        Box::pin(self.decrypt_of_operator(ciphertext, ("the secret of the webhook", "docs/events.md")))
    }
}

impl KmsSecretEncryptor {
    /// Decrypts what an operator has encrypted. `subject` is its name and the page that shows how to encrypt it, for errors.
    async fn decrypt_of_operator(&self, ciphertext: &[u8], subject: (&str, &str)) -> Result<Vec<u8>, StoreError> {
        let request = self.client.decrypt().key_id(&self.service.value).ciphertext_blob(Blob::new(ciphertext));
        let response = request.encryption_context(KEYS_CONTEXT.0, KEYS_CONTEXT.1).send().await;
        let response = response.map_err(|error| {
            let is_foreign =
                error.as_service_error().is_some_and(|error| error.is_invalid_ciphertext_exception() || error.is_incorrect_key_exception());
            if is_foreign { not_encrypted(subject, error.into()) } else { self.service.store_error(error) }
        })?;
        let missing = || StoreError::Unreadable { store: encryptor::STORE, detail: "a response without a plaintext".to_owned() };
        response.plaintext.map(Blob::into_inner).ok_or_else(missing)
    }
}

/// Returns the error of a secret that is not encrypted with the key of this deployment, or not for this purpose.
fn not_encrypted((what, page): (&str, &str), cause: BoxError) -> StoreError {
    let remedy = format!(
        "{what} is not encrypted with {} and the encryption context {}={}; encrypt it with `aws kms encrypt` as {page} shows",
        encryptor::SETTING.as_str(),
        KEYS_CONTEXT.0,
        KEYS_CONTEXT.1
    );
    StoreError::Misconfigured { remedy, cause }
}
