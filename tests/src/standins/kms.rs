//! In-process KMS with two keys. One signs (`GetPublicKey`, `Sign`), the other encrypts (`Encrypt`, `Decrypt`). It speaks the JSON
//! protocol of KMS.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{Digest, SHA384};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA384, RsaKeyPair};
use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headrace_local::stores::embedded::{BoxError, in_process_http_client};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

/// KMS with a 2048-bit RSA key and a symmetric key.
#[derive(Clone)]
pub struct KmsStandIn(Arc<State>);

struct State {
    /// RSA key. Generated on first use, because that is slow.
    signing_key: OnceLock<RsaKeyPair>,
    /// Symmetric key. Generated on first use.
    encryption_key: OnceLock<RandomizedNonceKey>,
    usage: &'static str,
    public_key_calls: AtomicUsize,
    sign_calls: AtomicUsize,
}

/// ARN of the RSA key.
pub const SIGNING_KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// ARN of the symmetric key.
pub const ENCRYPTION_KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/secrets";

impl KmsStandIn {
    /// Starts a KMS whose RSA key signs.
    #[must_use]
    pub fn start() -> Self {
        Self::with_key_usage("SIGN_VERIFY")
    }

    /// Starts a KMS whose RSA key has this usage (`KeyUsage`).
    #[must_use]
    pub fn with_key_usage(usage: &'static str) -> Self {
        Self(Arc::new(State {
            signing_key: OnceLock::new(),
            encryption_key: OnceLock::new(),
            usage,
            public_key_calls: AtomicUsize::new(0),
            sign_calls: AtomicUsize::new(0),
        }))
    }

    /// Returns an AWS SDK client with default settings that calls this stand-in.
    #[must_use]
    pub fn client(&self) -> aws_sdk_kms::Client {
        let state = Arc::clone(&self.0);
        let credentials = Credentials::new("AKIDSTANDIN", "stand-in-secret", None, None, "stand-in");
        let config = aws_sdk_kms::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(credentials)
            .endpoint_url("https://kms.standin.invalid")
            .http_client(in_process_http_client(move |request| handle_request(Arc::clone(&state), request)))
            .build();
        aws_sdk_kms::Client::from_conf(config)
    }

    /// Returns the number of `GetPublicKey` and of `Sign` calls.
    #[must_use]
    pub fn call_counts(&self) -> (usize, usize) {
        (self.0.public_key_calls.load(Ordering::SeqCst), self.0.sign_calls.load(Ordering::SeqCst))
    }
}

/// Handles one KMS request of the SDK and returns the HTTP response.
async fn handle_request(kms: Arc<State>, request: http::Request<SdkBody>) -> Result<http::Response<SdkBody>, BoxError> {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default().to_owned();
    let request: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?;
    let (status, body) = match (target.as_str(), request.get("KeyId").and_then(Value::as_str)) {
        ("TrentService.GetPublicKey", Some(SIGNING_KEY)) => {
            kms.public_key_calls.fetch_add(1, Ordering::SeqCst);
            (200, kms.public_key()?)
        }
        ("TrentService.Sign", Some(SIGNING_KEY)) => {
            kms.sign_calls.fetch_add(1, Ordering::SeqCst);
            kms.sign(&request)?
        }
        ("TrentService.Encrypt", Some(ENCRYPTION_KEY)) => kms.encrypt(&request)?,
        ("TrentService.Decrypt", Some(ENCRYPTION_KEY)) => kms.decrypt(&request)?,
        (_, Some(_)) => (400, json!({ "__type": "NotFoundException", "message": "Key is not found" })),
        (_, None) => (400, json!({ "__type": "ValidationException", "message": "KeyId is missing" })),
    };
    Ok(http::Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.1")
        .body(SdkBody::from(body.to_string()))?)
}

impl State {
    /// Returns the signing key. Generates it at the first call.
    fn signing_key(&self) -> Result<&RsaKeyPair, BoxError> {
        if let Some(signing_key) = self.signing_key.get() {
            return Ok(signing_key);
        }
        let signing_key = RsaKeyPair::generate(KeySize::Rsa2048)?;
        Ok(self.signing_key.get_or_init(|| signing_key))
    }

    /// Returns the response to `GetPublicKey`.
    fn public_key(&self) -> Result<Value, BoxError> {
        let spki: PublicKeyX509Der<'_> = self.signing_key()?.public_key().as_der()?;
        let algorithms = if self.usage == "SIGN_VERIFY" {
            json!(["RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512", "RSASSA_PSS_SHA_256"])
        } else {
            Value::Null
        };
        Ok(json!({
            "KeyId": SIGNING_KEY, "PublicKey": STANDARD.encode(spki.as_ref()), "KeySpec": "RSA_2048", "KeyUsage": self.usage, "SigningAlgorithms": algorithms
        }))
    }

    /// Returns the encryption key. Generates it at the first call.
    fn encryption_key(&self) -> Result<&RandomizedNonceKey, BoxError> {
        if let Some(key) = self.encryption_key.get() {
            return Ok(key);
        }
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes)?;
        Ok(self.encryption_key.get_or_init(|| key))
    }

    /// Returns the HTTP status and the response to `Encrypt`.
    fn encrypt(&self, request: &Value) -> Result<(u16, Value), BoxError> {
        let mut text = STANDARD.decode(request["Plaintext"].as_str().unwrap_or_default())?;
        let nonce = self.encryption_key()?.seal_in_place_append_tag(Aad::from(request["EncryptionContext"].to_string()), &mut text)?;
        let blob = STANDARD.encode([nonce.as_ref().as_slice(), &text].concat());
        Ok((200, json!({ "KeyId": ENCRYPTION_KEY, "CiphertextBlob": blob, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT" })))
    }

    /// Returns the HTTP status and the response to `Decrypt`. The status is 400 if the ciphertext or the encryption context differs.
    fn decrypt(&self, request: &Value) -> Result<(u16, Value), BoxError> {
        let blob = STANDARD.decode(request["CiphertextBlob"].as_str().unwrap_or_default())?;
        let opened = blob.split_at_checked(NONCE_LEN).and_then(|(nonce, text)| {
            let (nonce, mut text) = (Nonce::try_assume_unique_for_key(nonce).ok()?, text.to_vec());
            let key = self.encryption_key().ok()?;
            key.open_in_place(nonce, Aad::from(request["EncryptionContext"].to_string()), &mut text).ok().map(|plain| plain.to_vec())
        });
        Ok(match opened {
            Some(plain) => {
                (200, json!({ "KeyId": ENCRYPTION_KEY, "Plaintext": STANDARD.encode(plain), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT" }))
            }
            None => (400, json!({ "__type": "InvalidCiphertextException" })),
        })
    }

    /// Returns the HTTP status and the response to `Sign`. Only RSASSA_PKCS1_V1_5_SHA_384 over a digest is supported.
    fn sign(&self, request: &Value) -> Result<(u16, Value), BoxError> {
        let text = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
        let digest = STANDARD.decode(text("Message"))?;
        // KMS rejects these requests as well.
        if text("MessageType") != "DIGEST" || text("SigningAlgorithm") != "RSASSA_PKCS1_V1_5_SHA_384" || digest.len() != 48 {
            return Ok((400, json!({ "__type": "ValidationException", "message": "Digest is invalid length for algorithm" })));
        }
        let digest = Digest::import_less_safe(&digest, &SHA384)?;
        let signing_key = self.signing_key()?;
        let mut signature = vec![0; signing_key.public_modulus_len()];
        signing_key.sign_digest(&RSA_PKCS1_SHA384, &digest, &mut signature)?;
        Ok((200, json!({ "KeyId": SIGNING_KEY, "Signature": STANDARD.encode(signature), "SigningAlgorithm": text("SigningAlgorithm") })))
    }
}
