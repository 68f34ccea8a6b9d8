//! Signatures and seals by KMS: the keys never leave it.

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyUsageType, MessageType, SigningAlgorithmSpec};
use futures_util::future::BoxFuture;
use headrace_core::access::{PublicKey, SigningAlgorithm};
use headrace_core::ports::TokenSigner;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;
use sha2::{Digest as _, Sha384};
use tokio::sync::OnceCell;

use crate::errors::Called;
use crate::seal::{self, Sealer};

const WHAT: &str = "the signing key";

/// RSA with PKCS #1 and SHA-384: its signatures are what JOSE calls RS384 as they come. Those of KMS on a curve are in DER
/// and would have to be rewritten.
const ALGORITHM: SigningAlgorithmSpec = SigningAlgorithmSpec::RsassaPkcs1V15Sha384;

/// An asymmetric RSA key in KMS.
#[derive(Clone, Debug)]
pub struct KmsSigner {
    client: Client,
    called: Called,
    public: OnceCell<PublicKey>,
}

impl KmsSigner {
    /// The key of this id, ARN or alias.
    pub fn new(client: Client, key: impl Into<String>) -> Self {
        let called = Called::new(WHAT, "HEADRACE_SIGNING_KEY", key);
        Self { client, called, public: OnceCell::new() }
    }

    async fn look_up(&self) -> Result<PublicKey, StoreError> {
        let found = self.client.get_public_key().key_id(&self.called.value).send().await;
        let found = found.map_err(|error| self.called.store_error(error))?;
        let is_for_it = found.key_usage() == Some(&KeyUsageType::SignVerify) && found.signing_algorithms().contains(&ALGORITHM);
        match found.public_key {
            Some(spki) if is_for_it => Ok(PublicKey { algorithm: SigningAlgorithm::Rs384, spki: spki.into_inner() }),
            Some(_) | None => {
                let remedy =
                    "HEADRACE_SIGNING_KEY names a key of another kind: name a KMS key of usage SIGN_VERIFY and spec RSA_2048 or longer";
                Err(StoreError::Misconfigured {
                    remedy: remedy.to_owned(),
                    cause: "RSASSA_PKCS1_V1_5_SHA_384 is not among its algorithms".into(),
                })
            }
        }
    }
}

impl TokenSigner for KmsSigner {
    async fn key(&self) -> Result<PublicKey, StoreError> {
        self.public.get_or_try_init(|| self.look_up()).await.cloned()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, StoreError> {
        // The digest and not the message: of that, KMS takes 4 KiB.
        let digest = Blob::new(Sha384::digest(message).to_vec());
        let sign = self.client.sign().key_id(&self.called.value).signing_algorithm(ALGORITHM);
        let signed = sign.message_type(MessageType::Digest).message(digest).send().await.map_err(|error| self.called.store_error(error))?;
        let none = || StoreError::Unreadable { what: WHAT, detail: "an answer without a signature".to_owned() };
        signed.signature.map(Blob::into_inner).ok_or_else(none)
    }
}

/// What a seal is for, in the words of KMS: it opens under the same alone, and CloudTrail shows it.
const CONTEXT: &str = "headrace:job";

/// A symmetric key in KMS.
#[derive(Clone, Debug)]
pub struct KmsSealer {
    client: Client,
    called: Called,
}

impl KmsSealer {
    /// The key of this id, ARN or alias.
    pub fn new(client: Client, key: impl Into<String>) -> Self {
        Self { client, called: Called::new(seal::WHAT, seal::SETTING, key) }
    }
}

impl Sealer for KmsSealer {
    fn seal<'a>(&'a self, job: &'a JobId, secret: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        let encrypt = self.client.encrypt().key_id(&self.called.value).plaintext(Blob::new(secret));
        Box::pin(async move {
            let sealed = encrypt.encryption_context(CONTEXT, job.as_str()).send().await.map_err(|error| self.called.store_error(error))?;
            let none = || StoreError::Unreadable { what: seal::WHAT, detail: "an answer without a sealed secret".to_owned() };
            sealed.ciphertext_blob.map(Blob::into_inner).ok_or_else(none)
        })
    }

    fn open<'a>(&'a self, job: &'a JobId, sealed: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        let decrypt = self.client.decrypt().key_id(&self.called.value).ciphertext_blob(Blob::new(sealed));
        Box::pin(async move {
            let opened = decrypt.encryption_context(CONTEXT, job.as_str()).send().await.map_err(|error| self.called.store_error(error))?;
            let none = || StoreError::Unreadable { what: seal::WHAT, detail: "an answer without a secret".to_owned() };
            opened.plaintext.map(Blob::into_inner).ok_or_else(none)
        })
    }
}
