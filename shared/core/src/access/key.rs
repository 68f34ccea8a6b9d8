//! Keys that sign access tokens.

use serde::{Deserialize, Serialize};

use crate::vocab::clock::Millis;

/// How access tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// ECDSA on P-384 with SHA-384; a signature is the two numbers, one behind the other (RFC 7518, section 3.4).
    Es384,
}

impl SigningAlgorithm {
    /// Its name in JOSE.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs384 => "RS384",
            Self::Es384 => "ES384",
        }
    }
}

/// The public half of a key that signs, as its owner knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// What it signs with.
    pub algorithm: SigningAlgorithm,
    /// SubjectPublicKeyInfo in DER (RFC 5280, section 4.1).
    pub spki: Vec<u8>,
}

/// The public half of a key that signs access tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey {
    /// Its name in a token's header.
    pub kid: String,
    /// The algorithm, as JOSE names it.
    pub alg: String,
    /// The key itself: SubjectPublicKeyInfo in PEM.
    pub pem: String,
    /// Tokens that it has signed are believed until then.
    pub until: Millis,
}
