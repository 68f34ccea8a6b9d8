//! JSON Web Key Sets (RFC 7517), and the keys in them that tokens are checked with.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::access::TokenKey;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Algorithm;

/// The most keys that a set may have: whoever rotates keys has two.
const KEYS: usize = 100;

/// The shortest RSA key that is taken, in bits (RFC 7518, section 3.3).
const RSA_BITS: usize = 2_048;

/// The longest, in bits: checking with a longer one costs more than it should.
const RSA_BITS_AT_MOST: usize = 8_192;

/// Why a key set has no key for a token, for the eyes of whoever owns the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// It is no key set.
    #[error("it is not a JSON Web Key Set: a JSON object with a list `keys` of at most 100 keys")]
    NotASet,
    /// A member of the set cannot be used.
    #[error("it holds a private or symmetric key: publish public keys only, and replace this key, which others have seen")]
    Private,
    /// None fits.
    #[error("it has no key of that `kid` whose `kty` (and `crv`) fits the algorithm")]
    None,
    /// Several fit.
    #[error("it has more than one key of that `kid`: give each key its own")]
    Several,
    /// The key is for something else.
    #[error("the key of that `kid` is for another use: `use` must be `sig` and `alg` the token's, if they are there")]
    OtherUse,
    /// The key is none.
    #[error("the key of that `kid` cannot be used: RSA keys have 2048 to 8192 bits, EC keys both coordinates in full")]
    Unusable,
}

/// A key set, as it was given. What it holds besides keys for signatures is passed over.
#[derive(Clone, Debug)]
pub struct KeySet(Vec<Key>);

/// One key.
#[derive(Clone, Debug, Default, Deserialize)]
struct Key {
    #[serde(default)]
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<serde::de::IgnoredAny>,
    k: Option<serde::de::IgnoredAny>,
}

/// A key that tokens of one algorithm are checked with.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a set. A key that cannot be read is passed over, as the standard asks (RFC 7517, section 5).
    pub fn parse(text: &[u8]) -> Result<Self, KeyProblem> {
        #[derive(Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let set: Set<'_> = serde_json::from_slice(text).map_err(|_| KeyProblem::NotASet)?;
        if set.keys.len() > KEYS || !text.trim_ascii_start().starts_with(b"{") {
            return Err(KeyProblem::NotASet);
        }
        let is_object = |key: &&&RawValue| key.get().starts_with('{');
        Ok(Self(set.keys.iter().filter(is_object).filter_map(|key| serde_json::from_str(key.get()).ok()).collect()))
    }

    /// Checks a set that a client is to be registered with: that it has a key to sign with, and nothing that is secret.
    pub fn check(&self) -> Result<(), KeyProblem> {
        if self.0.iter().any(|key| key.d.is_some() || key.k.is_some()) {
            return Err(KeyProblem::Private);
        }
        let mut names: Vec<&str> = self.0.iter().filter_map(|key| key.kid.as_deref()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(KeyProblem::Several);
        }
        let usable = names.iter().any(|kid| Algorithm::SMART.into_iter().any(|algorithm| self.key(kid, algorithm).is_ok()));
        let problems = || names.iter().flat_map(|kid| Algorithm::SMART.map(|algorithm| self.key(kid, algorithm).err()));
        // The most telling of what is wrong with the keys.
        let worst = || problems().flatten().find(|problem| *problem != KeyProblem::None).unwrap_or(KeyProblem::None);
        if usable { Ok(()) } else { Err(worst()) }
    }

    /// Whether a key of this name is in it.
    pub fn names(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// The single key of this name whose kind fits the algorithm.
    pub fn key(&self, kid: &str, algorithm: Algorithm) -> Result<VerifyingKey, KeyProblem> {
        let fits = |key: &&Key| key.kid.as_deref() == Some(kid) && key.is_for(algorithm);
        let mut fitting = self.0.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => key.verifying(algorithm),
            (Some(_), Some(_)) => Err(KeyProblem::Several),
            (None, _) => Err(KeyProblem::None),
        }
    }
}

impl Key {
    fn is_for(&self, algorithm: Algorithm) -> bool {
        match algorithm.curve() {
            Some(curve) => self.kty == "EC" && self.crv.as_deref() == Some(curve),
            None => self.kty == "RSA",
        }
    }

    fn verifying(&self, algorithm: Algorithm) -> Result<VerifyingKey, KeyProblem> {
        let is_meant = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.alg.as_deref().is_none_or(|alg| alg == algorithm.as_str())
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
        if !is_meant {
            return Err(KeyProblem::OtherUse);
        }
        let bytes =
            |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref().unwrap_or_default()).ok().filter(|bytes| !bytes.is_empty());
        let key = match algorithm.curve() {
            None => bytes(&self.n)
                .zip(bytes(&self.e))
                .filter(|(modulus, _)| (RSA_BITS..=RSA_BITS_AT_MOST).contains(&bits(modulus)))
                .map(|(modulus, exponent)| DecodingKey::from_rsa_raw_components(&modulus, &exponent)),
            Some(curve) => {
                let length = if curve == "P-256" { 32 } else { 48 };
                let coordinates = bytes(&self.x).zip(bytes(&self.y)).filter(|(x, y)| x.len() == length && y.len() == length);
                let (x, y) = (self.x.as_deref().unwrap_or_default(), self.y.as_deref().unwrap_or_default());
                coordinates.and_then(|_| DecodingKey::from_ec_components(x, y).ok())
            }
        };
        key.map(|key| VerifyingKey { algorithm, key }).ok_or(KeyProblem::Unusable)
    }
}

/// How long a number is, in bits.
fn bits(number: &[u8]) -> usize {
    let digits = number.iter().position(|byte| *byte != 0).and_then(|first| number.get(first..)).unwrap_or_default();
    digits.first().map_or(0, |first| digits.len() * 8 - first.leading_zeros() as usize)
}

impl VerifyingKey {
    /// Of a key of our own, as it was recorded; `None` if it is none.
    pub fn of(key: &TokenKey) -> Option<Self> {
        let algorithm = Algorithm::named(&key.alg, &Algorithm::SMART)?;
        let read = if algorithm.curve().is_some() { DecodingKey::from_ec_pem } else { DecodingKey::from_rsa_pem };
        Some(Self { algorithm, key: read(key.pem.as_bytes()).ok()? })
    }

    /// What it checks.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether the signature, in base64url, is its owner's.
    pub(super) fn verify(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.key, self.algorithm.checked()).unwrap_or(false)
    }
}
