//! JSON Web Key Sets (RFC 7517) and the public keys that verify tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::access::TokenKey;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Algorithm, present};

/// The most keys of a set. An owner who rotates keys has two.
const MAX_KEYS: usize = 100;

/// The shortest accepted RSA key, in bits (RFC 7518, section 3.3).
const MIN_RSA_BITS: usize = 2_048;

/// The longest accepted RSA key, in bits. Verification with longer keys is too expensive.
const MAX_RSA_BITS: usize = 8_192;

/// The reason why a key set has no key for a token. The text is for the owner of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// The text is not a key set.
    #[error("it is not a JSON Web Key Set: a JSON object with a list `keys` of at most 100 keys")]
    NotAKeySet,
    /// The set has no matching key.
    #[error("it has no key of that `kid` whose `kty` (and `crv`) fits the algorithm")]
    NoMatchingKey,
    /// The set has several matching keys.
    #[error("it has more than one key of that `kid`: give each key its own")]
    AmbiguousKeyId,
    /// The key is for another purpose.
    #[error("the key of that `kid` is for another use: `use` must be `sig` and `alg` the token's, if they are there")]
    WrongUse,
    /// The key cannot be parsed, or is too short or too long.
    #[error("the key of that `kid` cannot be used: RSA keys have 2048 to 8192 bits, EC keys both coordinates in full")]
    UnusableKey,
}

/// A parsed key set. Entries that are not signature keys are ignored.
#[derive(Clone, Debug)]
pub struct KeySet(Vec<Jwk>);

/// A JSON Web Key.
#[derive(Clone, Debug, Default, Deserialize)]
struct Jwk {
    #[serde(default)]
    kty: String,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
    #[serde(default, rename = "use", deserialize_with = "present")]
    usage: Option<String>,
    #[serde(default, deserialize_with = "present")]
    key_ops: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    alg: Option<String>,
    #[serde(default, deserialize_with = "present")]
    n: Option<String>,
    #[serde(default, deserialize_with = "present")]
    e: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crv: Option<String>,
    #[serde(default, deserialize_with = "present")]
    x: Option<String>,
    #[serde(default, deserialize_with = "present")]
    y: Option<String>,
}

/// A public key that verifies the tokens of one algorithm.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl KeySet {
    /// Parses a key set. Keys that cannot be parsed are ignored, as RFC 7517, section 5, asks.
    pub fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let set: Set<'_> = serde_json::from_slice(text).map_err(|_| KeySetError::NotAKeySet)?;
        if set.keys.len() > MAX_KEYS || !text.trim_ascii_start().starts_with(b"{") {
            return Err(KeySetError::NotAKeySet);
        }
        let is_object = |key: &&&RawValue| key.get().starts_with('{');
        Ok(Self(set.keys.iter().filter(is_object).filter_map(|key| serde_json::from_str(key.get()).ok()).collect()))
    }

    /// Returns true if the set has a key of this id.
    pub fn has_key(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// Returns the one key of this id whose type fits the algorithm.
    pub fn verifying_key(&self, kid: &str, algorithm: Algorithm) -> Result<VerifyingKey, KeySetError> {
        let matches = |key: &&Jwk| key.kid.as_deref() == Some(kid) && key.fits(algorithm);
        let mut matching = self.0.iter().filter(matches);
        match (matching.next(), matching.next()) {
            (Some(key), None) => key.to_verifying_key(algorithm),
            (Some(_), Some(_)) => Err(KeySetError::AmbiguousKeyId),
            (None, _) => Err(KeySetError::NoMatchingKey),
        }
    }
}

impl Jwk {
    /// Returns true if the key type (`kty`, `crv`) is that of the algorithm.
    fn fits(&self, algorithm: Algorithm) -> bool {
        match algorithm.curve() {
            Some(curve) => self.kty == "EC" && self.crv.as_deref() == Some(curve),
            None => self.kty == "RSA",
        }
    }

    /// Converts to a verifying key. Fails if the key is for another use or too weak.
    fn to_verifying_key(&self, algorithm: Algorithm) -> Result<VerifyingKey, KeySetError> {
        let is_for_verification = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.alg.as_deref().is_none_or(|alg| alg == algorithm.as_str())
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
        if !is_for_verification {
            return Err(KeySetError::WrongUse);
        }
        let bytes =
            |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref().unwrap_or_default()).ok().filter(|bytes| !bytes.is_empty());
        let key = match algorithm.curve() {
            None => bytes(&self.n)
                .zip(bytes(&self.e))
                .filter(|(modulus, _)| (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bit_length(modulus)))
                .map(|(modulus, exponent)| DecodingKey::from_rsa_raw_components(&modulus, &exponent)),
            Some(curve) => {
                let length = if curve == "P-256" { 32 } else { 48 };
                let coordinates = bytes(&self.x).zip(bytes(&self.y)).filter(|(x, y)| x.len() == length && y.len() == length);
                let (x, y) = (self.x.as_deref().unwrap_or_default(), self.y.as_deref().unwrap_or_default());
                coordinates.and_then(|_| DecodingKey::from_ec_components(x, y).ok())
            }
        };
        key.map(|key| VerifyingKey { algorithm, key }).ok_or(KeySetError::UnusableKey)
    }
}

/// Returns the length of a big-endian number, in bits.
fn bit_length(number: &[u8]) -> usize {
    let digits = number.iter().position(|byte| *byte != 0).and_then(|first| number.get(first..)).unwrap_or_default();
    digits.first().map_or(0, |first| digits.len() * 8 - first.leading_zeros() as usize)
}

impl VerifyingKey {
    /// Creates the verifying key from a stored key of this service. `None` if it cannot be parsed.
    pub fn from_token_key(key: &TokenKey) -> Option<Self> {
        let algorithm = Algorithm::parse(&key.alg, &Algorithm::SMART)?;
        let parse = if algorithm.curve().is_some() { DecodingKey::from_ec_pem } else { DecodingKey::from_rsa_pem };
        Some(Self { algorithm, key: parse(key.pem.as_bytes()).ok()? })
    }

    /// Returns the algorithm whose signatures the key verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns true if the signature, in base64url, is valid for the message.
    pub(super) fn verify(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.key, self.algorithm.to_jsonwebtoken()).unwrap_or(false)
    }
}
