//! A client's private key: made, read, and used to sign its assertions (SMART App Launch, "Client Authentication:
//! Asymmetric").

mod generated_key;
mod jwk;

use std::path::{Path, PathBuf};

use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA384, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_edge::system::random_name;
use serde_json::json;

pub use generated_key::{GeneratedKey, KeyAlgorithm};
use jwk::PrivateKeys;

/// How long an assertion lives. Servers take five minutes at most, and clocks differ.
const ASSERTION_SECONDS: u64 = 240;

/// The shortest RSA key, in bytes of its modulus (RFC 7518, section 3.3).
const RSA_BYTES: usize = 256;

/// Why a private key is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error("the key file `{path}` cannot be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// What the file holds. Its text is not repeated: it may be half a key.
    #[error("`{path}` {problem}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        problem: &'static str,
    },
    /// The library refused.
    #[error("the key cannot be used: {0}")]
    Library(&'static str),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] StoreError),
}

/// A client's private key, ready to sign.
pub struct ClientKey {
    kid: String,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Pair {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(_) => "ES384",
            Self::Rsa(_) => "RS384",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        let unsigned = |_| KeyError::Library("it does not sign");
        match self {
            Self::Ec(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()).map_err(unsigned),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA384, &random, message, &mut signature).map_err(unsigned)?;
                Ok(signature)
            }
        }
    }
}

impl ClientKey {
    /// Reads a private key: a JSON Web Key, a set of one, or PEM (PKCS#8, PKCS#1, SEC 1). P-384 and RSA of 2048 bits and
    /// more are understood.
    ///
    /// * `kid`: by what the server knows the key; needed for PEM, which has no place for it.
    pub fn read(path: &Path, kid: Option<&str>) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(path).map_err(|cause| KeyError::File { path: path.to_owned(), cause })?;
        let read = if text.trim_start().starts_with('{') { of_jwk(&text) } else { of_pem(&text).map(|pair| (None, pair)) };
        let wrong = |problem| KeyError::Content { path: path.to_owned(), problem };
        let (own, pair) = read.map_err(wrong)?;
        let kid = kid.map(str::to_owned).or(own);
        let kid = kid.ok_or_else(|| wrong("does not say by what name the server knows the key: add --client-key-id"))?;
        Ok(Self { kid, pair })
    }

    /// A signed assertion: that whoever sends it to `token_url` is this client. Each one can be used once.
    pub fn assertion(&self, client_id: &str, token_url: &str, now: Millis) -> Result<String, KeyError> {
        let header = json!({ "typ": "JWT", "alg": self.pair.algorithm(), "kid": self.kid });
        let until = now.0 / 1_000 + ASSERTION_SECONDS;
        let claims = json!({ "iss": client_id, "sub": client_id, "aud": token_url, "exp": until, "jti": random_name()? });
        let encoded = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", encoded(header), encoded(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes())?);
        Ok(format!("{message}.{signature}"))
    }
}

const NOT_A_KEY: &str = "is no private key of ours: a JSON Web Key or PEM, RSA of at least 2048 bits or P-384";

fn of_jwk(text: &str) -> Result<(Option<String>, Pair), &'static str> {
    let key = PrivateKeys::parse(text).ok_or("is no private JSON Web Key with kty EC or RSA and all of its members")?;
    let key = key.only().ok_or("holds several keys: give the file of one")?;
    let pair = key.pair().map_err(|_| NOT_A_KEY)?;
    Ok((key.kid, long_enough(pair)?))
}

fn of_pem(text: &str) -> Result<Pair, &'static str> {
    let blocks = pem::parse_many(text).map_err(|_| NOT_A_KEY)?;
    // `openssl ecparam -genkey` writes the curve's name in front.
    let key = blocks.iter().find(|block| block.tag().ends_with("PRIVATE KEY")).ok_or(NOT_A_KEY)?;
    if key.tag() == "ENCRYPTED PRIVATE KEY" {
        return Err("is locked with a password, which cannot be asked for here: write it out without one");
    }
    let der = key.contents();
    let ec = || EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_FIXED_SIGNING, der).map(Pair::Ec);
    let rsa = |_| RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).map(Pair::Rsa);
    long_enough(ec().or_else(rsa).map_err(|_: KeyRejected| NOT_A_KEY)?)
}

fn long_enough(pair: Pair) -> Result<Pair, &'static str> {
    match &pair {
        Pair::Rsa(rsa) if rsa.public_modulus_len() < RSA_BYTES => Err("is an RSA key of less than 2048 bits: make a longer one"),
        Pair::Rsa(_) | Pair::Ec(_) => Ok(pair),
    }
}

#[cfg(test)]
mod tests;
