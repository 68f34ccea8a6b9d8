//! A KMS in this process with two keys: one signs (`GetPublicKey`, `Sign`), one seals (`Encrypt`, `Decrypt`), as its JSON
//! protocol has them.

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
use headrace_local::stores::embedded::{BoxError, in_process};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

/// A KMS with an RSA key of 2048 bits and a symmetric one.
#[derive(Clone)]
pub struct KmsStandIn(Arc<Inside>);

struct Inside {
    /// Made when it is first needed: that takes a while.
    pair: OnceLock<RsaKeyPair>,
    /// Made when it is first needed: it stays in this process.
    sealing: OnceLock<RandomizedNonceKey>,
    usage: &'static str,
    looked_up: AtomicUsize,
    signed: AtomicUsize,
}

/// The key's ARN.
pub const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// The ARN of the key that seals.
pub const SEALING_KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/secrets";

impl KmsStandIn {
    /// With a new key that signs.
    #[must_use]
    pub fn start() -> Self {
        Self::with_key_for("SIGN_VERIFY")
    }

    /// With a new key of this usage.
    #[must_use]
    pub fn with_key_for(usage: &'static str) -> Self {
        Self(Arc::new(Inside {
            pair: OnceLock::new(),
            sealing: OnceLock::new(),
            usage,
            looked_up: AtomicUsize::new(0),
            signed: AtomicUsize::new(0),
        }))
    }

    /// A client of the AWS SDK, with its defaults, whose calls end here.
    #[must_use]
    pub fn client(&self) -> aws_sdk_kms::Client {
        let inside = Arc::clone(&self.0);
        let credentials = Credentials::new("AKIDSTANDIN", "stand-in-secret", None, None, "stand-in");
        let config = aws_sdk_kms::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(credentials)
            .endpoint_url("https://kms.standin.invalid")
            .http_client(in_process(move |request| answer(Arc::clone(&inside), request)))
            .build();
        aws_sdk_kms::Client::from_conf(config)
    }

    /// How often the public key was asked for, and how often a signature.
    #[must_use]
    pub fn calls(&self) -> (usize, usize) {
        (self.0.looked_up.load(Ordering::SeqCst), self.0.signed.load(Ordering::SeqCst))
    }
}

async fn answer(kms: Arc<Inside>, request: http::Request<SdkBody>) -> Result<http::Response<SdkBody>, BoxError> {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default().to_owned();
    let asked: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?;
    let (status, body) = match (target.as_str(), asked.get("KeyId").and_then(Value::as_str)) {
        ("TrentService.GetPublicKey", Some(KEY)) => {
            kms.looked_up.fetch_add(1, Ordering::SeqCst);
            (200, kms.public_key()?)
        }
        ("TrentService.Sign", Some(KEY)) => {
            kms.signed.fetch_add(1, Ordering::SeqCst);
            kms.sign(&asked)?
        }
        ("TrentService.Encrypt", Some(SEALING_KEY)) => kms.encrypt(&asked)?,
        ("TrentService.Decrypt", Some(SEALING_KEY)) => kms.decrypt(&asked)?,
        (_, Some(_)) => (400, json!({ "__type": "NotFoundException", "message": "Key is not found" })),
        (_, None) => (400, json!({ "__type": "ValidationException", "message": "no key is named" })),
    };
    Ok(http::Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.1")
        .body(SdkBody::from(body.to_string()))?)
}

impl Inside {
    fn pair(&self) -> Result<&RsaKeyPair, BoxError> {
        if let Some(pair) = self.pair.get() {
            return Ok(pair);
        }
        let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
        Ok(self.pair.get_or_init(|| pair))
    }

    fn public_key(&self) -> Result<Value, BoxError> {
        let spki: PublicKeyX509Der<'_> = self.pair()?.public_key().as_der()?;
        let algorithms = if self.usage == "SIGN_VERIFY" {
            json!(["RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512", "RSASSA_PSS_SHA_256"])
        } else {
            Value::Null
        };
        Ok(json!({
            "KeyId": KEY, "PublicKey": STANDARD.encode(spki.as_ref()), "KeySpec": "RSA_2048", "KeyUsage": self.usage, "SigningAlgorithms": algorithms
        }))
    }

    fn sealing(&self) -> Result<&RandomizedNonceKey, BoxError> {
        if let Some(key) = self.sealing.get() {
            return Ok(key);
        }
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes)?;
        Ok(self.sealing.get_or_init(|| key))
    }

    fn encrypt(&self, asked: &Value) -> Result<(u16, Value), BoxError> {
        let mut text = STANDARD.decode(asked["Plaintext"].as_str().unwrap_or_default())?;
        let nonce = self.sealing()?.seal_in_place_append_tag(Aad::from(asked["EncryptionContext"].to_string()), &mut text)?;
        let blob = STANDARD.encode([nonce.as_ref().as_slice(), &text].concat());
        Ok((200, json!({ "KeyId": SEALING_KEY, "CiphertextBlob": blob, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT" })))
    }

    fn decrypt(&self, asked: &Value) -> Result<(u16, Value), BoxError> {
        let blob = STANDARD.decode(asked["CiphertextBlob"].as_str().unwrap_or_default())?;
        let opened = blob.split_at_checked(NONCE_LEN).and_then(|(nonce, text)| {
            let (nonce, mut text) = (Nonce::try_assume_unique_for_key(nonce).ok()?, text.to_vec());
            let key = self.sealing().ok()?;
            key.open_in_place(nonce, Aad::from(asked["EncryptionContext"].to_string()), &mut text).ok().map(|plain| plain.to_vec())
        });
        Ok(match opened {
            Some(plain) => {
                (200, json!({ "KeyId": SEALING_KEY, "Plaintext": STANDARD.encode(plain), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT" }))
            }
            None => (400, json!({ "__type": "InvalidCiphertextException" })),
        })
    }

    fn sign(&self, asked: &Value) -> Result<(u16, Value), BoxError> {
        let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default();
        let digest = STANDARD.decode(text("Message"))?;
        // What KMS would check, too.
        if text("MessageType") != "DIGEST" || text("SigningAlgorithm") != "RSASSA_PKCS1_V1_5_SHA_384" || digest.len() != 48 {
            return Ok((400, json!({ "__type": "ValidationException", "message": "Digest is invalid length for algorithm" })));
        }
        let digest = Digest::import_less_safe(&digest, &SHA384)?;
        let pair = self.pair()?;
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign_digest(&RSA_PKCS1_SHA384, &digest, &mut signature)?;
        Ok((200, json!({ "KeyId": KEY, "Signature": STANDARD.encode(signature), "SigningAlgorithm": text("SigningAlgorithm") })))
    }
}
