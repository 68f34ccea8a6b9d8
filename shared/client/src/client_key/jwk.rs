//! Private JSON Web Keys (RFC 7517, RFC 7518).

use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SigningKeyPair;

/// Bytes that are serialized as unpadded base64url (RFC 7515). Padding is accepted when reading.
#[derive(Clone)]
pub struct Base64Url(pub Vec<u8>);

impl Serialize for Base64Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Not the library's message: it quotes a byte of the key.
        URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map(Self).map_err(|_| serde::de::Error::custom("not base64url"))
    }
}

/// A private JSON Web Key.
#[derive(Serialize, Deserialize)]
pub struct PrivateJwk {
    /// The key ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The parameters of the key.
    #[serde(flatten)]
    pub parameters: KeyParameters,
}

/// The parameters of a private key by key type (RFC 7518, section 6).
#[derive(Serialize, Deserialize)]
#[serde(tag = "kty")]
pub enum KeyParameters {
    /// An elliptic curve key (section 6.2).
    #[serde(rename = "EC")]
    #[expect(missing_docs, reason = "the members have the names of the RFC")]
    Ec { crv: String, x: Base64Url, y: Base64Url, d: Base64Url },
    /// An RSA key (section 6.3).
    #[serde(rename = "RSA")]
    #[expect(missing_docs, reason = "the members have the names of the RFC")]
    Rsa { n: Base64Url, e: Base64Url, d: Base64Url, p: Base64Url, q: Base64Url, dp: Base64Url, dq: Base64Url, qi: Base64Url },
}

/// The content of a key file: one key, or a key set.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum PrivateJwkFile {
    Set { keys: Vec<PrivateJwk> },
    Single(Box<PrivateJwk>),
}

impl PrivateJwkFile {
    /// Parses the JSON text of a key file. Returns `None` if it is not a supported private key.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Returns the key of the file, or `None` if the file does not contain exactly one.
    pub(crate) fn into_single_key(self) -> Option<PrivateJwk> {
        match self {
            Self::Single(key) => Some(*key),
            Self::Set { keys } => {
                let mut keys = keys.into_iter();
                keys.next().filter(|_| keys.next().is_none())
            }
        }
    }
}

impl PrivateJwk {
    /// Builds the key pair, and checks that private and public parameters match.
    pub(crate) fn to_key_pair(&self) -> Result<SigningKeyPair, KeyRejected> {
        match &self.parameters {
            KeyParameters::Ec { x, y, d, .. } => {
                let point = [&[4], x.0.as_slice(), y.0.as_slice()].concat();
                EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P384_SHA384_FIXED_SIGNING, &d.0, &point).map(SigningKeyPair::Ec)
            }
            KeyParameters::Rsa { n, e, d, p, q, dp, dq, qi } => {
                let public_key = PublicKeyComponents { n: &n.0, e: &e.0 };
                let components = KeyPairComponents { public_key, d: &d.0, p: &p.0, q: &q.0, dP: &dp.0, dQ: &dq.0, qInv: &qi.0 };
                RsaKeyPair::from_components(&components).map(SigningKeyPair::Rsa)
            }
        }
    }
}
