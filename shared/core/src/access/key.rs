//! Keys that sign access tokens.

use serde::{Deserialize, Serialize};

use crate::vocab::clock::Millis;

/// A signature algorithm of access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// ECDSA on P-384 with SHA-384. A signature is R followed by S (RFC 7518, section 3.4).
    Es384,
}

impl SigningAlgorithm {
    /// Returns the JOSE name of the algorithm.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs384 => "RS384",
            Self::Es384 => "ES384",
        }
    }
}

/// The public half of a signing key, as the signer returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The algorithm.
    pub algorithm: SigningAlgorithm,
    /// The SubjectPublicKeyInfo in DER (RFC 5280, section 4.1).
    pub spki: Vec<u8>,
}

/// The public half of a key that signs access tokens, as it is stored for their verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey {
    /// The key id in the header of a token.
    pub kid: String,
    /// The JOSE name of the algorithm.
    pub alg: String,
    /// The SubjectPublicKeyInfo in PEM.
    pub pem: String,
    /// The time until which tokens with this key id are accepted.
    pub expires_at: Millis,
}
