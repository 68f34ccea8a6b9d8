//! Private keys of clients: parses them, and signs client assertions with them (SMART App Launch, "Client Authentication:
//! Asymmetric").

pub mod jwk;

use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA384, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_edge::system::random_id;
use serde_json::json;

use jwk::PrivateJwkFile;

/// Lifetime of an assertion. Servers accept at most five minutes, and clocks differ.
const ASSERTION_SECONDS: u64 = 240;

/// Minimum size of an RSA modulus, in bytes (RFC 7518, section 3.3).
const MIN_RSA_MODULUS_BYTES: usize = 256;

/// The reason why a text is no usable private key. It never quotes the text, which may be part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The text does not contain a usable key. Holds the problem and a remedy.
    #[error("{0}")]
    Content(&'static str),
    /// The key has no key ID.
    #[error("does not contain a key ID (kid)")]
    NoKeyId,
}

/// The reason why an assertion cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The cryptography library failed.
    #[error("the key cannot be used: {0}")]
    Library(&'static str),
    /// The random number generator failed.
    #[error(transparent)]
    Random(#[from] StoreError),
}

/// A client's private key and its key ID.
pub struct ClientKey {
    kid: String,
    pair: SigningKeyPair,
}

/// A key pair for one of the two signature algorithms.
pub(crate) enum SigningKeyPair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKeyPair {
    /// Returns the JOSE name of the signature algorithm.
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(_) => "ES384",
            Self::Rsa(_) => "RS384",
        }
    }

    /// Signs a message.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let random = SystemRandom::new();
        let failed = |_| SigningError::Library("signing failed");
        match self {
            Self::Ec(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()).map_err(failed),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA384, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

impl ClientKey {
    /// Parses a private key: a JSON Web Key, a set with one key, or PEM (PKCS#8, PKCS#1, SEC 1). P-384 keys and RSA keys of at least 2048
    /// bits are supported.
    ///
    /// * `kid`: the key ID that is registered with the server; required for PEM, which does not contain one.
    pub fn parse(text: &str, kid: Option<&str>) -> Result<Self, InvalidKey> {
        let parsed = if text.trim_start().starts_with('{') { parse_jwk(text) } else { parse_pem(text).map(|pair| (None, pair)) };
        let (own_kid, pair) = parsed.map_err(InvalidKey::Content)?;
        let kid = kid.map(str::to_owned).or(own_kid).ok_or(InvalidKey::NoKeyId)?;
        Ok(Self { kid, pair })
    }

    /// Signs a client assertion for the token endpoint `token_url`. Each assertion can be used once.
    pub fn assertion(&self, client_id: &str, token_url: &str, now: Millis) -> Result<String, SigningError> {
        let header = json!({ "typ": "JWT", "alg": self.pair.algorithm(), "kid": self.kid });
        let expires = now.0 / 1_000 + ASSERTION_SECONDS;
        let claims = json!({ "iss": client_id, "sub": client_id, "aud": token_url, "exp": expires, "jti": random_id()? });
        let encoded = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", encoded(header), encoded(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes())?);
        Ok(format!("{message}.{signature}"))
    }
}

/// Problem of a file that contains no supported key.
const UNSUPPORTED_KEY: &str = "is not a supported private key: use a JSON Web Key or PEM, RSA of at least 2048 bits or P-384";

/// Parses a private JSON Web Key or a set with one key. Returns its key ID and key pair.
fn parse_jwk(text: &str) -> Result<(Option<String>, SigningKeyPair), &'static str> {
    let key = PrivateJwkFile::parse(text).ok_or("is not a private JSON Web Key with kty EC or RSA and all of its members")?;
    let key = key.into_single_key().ok_or("contains several keys: use a file with one key")?;
    let pair = key.to_key_pair().map_err(|_| UNSUPPORTED_KEY)?;
    Ok((key.kid, check_key_length(pair)?))
}

/// Parses a private key in PEM.
fn parse_pem(text: &str) -> Result<SigningKeyPair, &'static str> {
    let blocks = pem::parse_many(text).map_err(|_| UNSUPPORTED_KEY)?;
    // `openssl ecparam -genkey` writes the curve parameters as a block before the key.
    let key = blocks.iter().find(|block| block.tag().ends_with("PRIVATE KEY")).ok_or(UNSUPPORTED_KEY)?;
    if key.tag() == "ENCRYPTED PRIVATE KEY" {
        return Err("is encrypted with a password, which is not supported: export the key without a password");
    }
    let der = key.contents();
    let ec = || EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_FIXED_SIGNING, der).map(SigningKeyPair::Ec);
    let rsa = |_| RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).map(SigningKeyPair::Rsa);
    check_key_length(ec().or_else(rsa).map_err(|_: KeyRejected| UNSUPPORTED_KEY)?)
}

/// Rejects RSA keys of less than 2048 bits.
fn check_key_length(pair: SigningKeyPair) -> Result<SigningKeyPair, &'static str> {
    match &pair {
        SigningKeyPair::Rsa(rsa) if rsa.public_modulus_len() < MIN_RSA_MODULUS_BYTES => {
            Err("is an RSA key of less than 2048 bits: generate a longer one")
        }
        SigningKeyPair::Rsa(_) | SigningKeyPair::Ec(_) => Ok(pair),
    }
}
