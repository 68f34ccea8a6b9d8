//! Generates key pairs, for tests and for clients without another key generator.

use aws_lc_rs::encoding::{AsBigEndian as _, AsDer, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use clap::ValueEnum;
use der::asn1::UintRef;
use der::{Decode as _, Reader as _, SliceReader};
use headrace_client::client_key::jwk::{Base64Url, KeyParameters, PrivateJwk};
use headrace_edge::system::random_id;
use pkcs8::PrivateKeyInfoRef;
use serde_json::{Value, json};

use super::KeyError;

/// Signature algorithm of a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyAlgorithm {
    /// ECDSA on P-384, with short keys.
    #[value(name = "ES384")]
    Es384,
    /// RSA with 3072 bits, for older servers.
    #[value(name = "RS384")]
    Rs384,
}

/// A new key pair.
pub struct GeneratedKey {
    /// Private key as a JSON Web Key, for the client alone.
    pub private: Value,
    /// Public key as a JSON Web Key Set, for servers.
    pub public: Value,
}

impl GeneratedKey {
    /// Generates a key pair with a random key ID.
    pub fn new(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        let kid = random_id()?;
        let parameters = match algorithm {
            KeyAlgorithm::Es384 => generate_ec().map_err(|_| KeyError::Library("key generation failed")),
            KeyAlgorithm::Rs384 => generate_rsa(),
        }?;
        let public = match &parameters {
            KeyParameters::Ec { crv, x, y, .. } => {
                json!({ "kty": "EC", "crv": crv, "x": x, "y": y, "alg": "ES384", "kid": kid, "key_ops": ["verify"] })
            }
            KeyParameters::Rsa { n, e, .. } => json!({ "kty": "RSA", "n": n, "e": e, "alg": "RS384", "kid": kid, "key_ops": ["verify"] }),
        };
        let not_serialized = |_| KeyError::Library("serialization as JSON failed");
        let mut private = serde_json::to_value(PrivateJwk { kid: Some(kid), parameters }).map_err(not_serialized)?;
        if let (Value::Object(private), Some(alg)) = (&mut private, public.get("alg")) {
            private.insert("alg".to_owned(), alg.clone());
            private.insert("key_ops".to_owned(), json!(["sign"]));
        }
        Ok(Self { private, public: json!({ "keys": [public] }) })
    }
}

/// Generates an EC key pair on P-384.
fn generate_ec() -> Result<KeyParameters, Unspecified> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?;
    // An uncompressed point: 4, x, y (SEC 1, section 2.3.3).
    let (_, point) = pair.public_key().as_ref().split_first().ok_or(Unspecified)?;
    let (x, y) = point.split_at(point.len() / 2);
    let d: EcPrivateKeyBin<'static> = pair.private_key().as_be_bytes()?;
    let base64url = |bytes: &[u8]| Base64Url(bytes.to_vec());
    Ok(KeyParameters::Ec { crv: "P-384".to_owned(), x: base64url(x), y: base64url(y), d: base64url(d.as_ref()) })
}

/// Generates an RSA key pair of 3072 bits.
fn generate_rsa() -> Result<KeyParameters, KeyError> {
    let not_generated = KeyError::Library("key generation failed");
    let Ok(pair) = RsaPair::generate(KeySize::Rsa3072) else { return Err(not_generated) };
    let der: Result<Pkcs8V1Der<'static>, Unspecified> = pair.as_der();
    let Ok(der) = der else { return Err(not_generated) };
    parse_rsa_private_key(der.as_ref()).map_err(|_| not_generated)
}

/// Parses an RSAPrivateKey (RFC 8017, appendix A.1.2) in a PKCS#8 envelope.
fn parse_rsa_private_key(der: &[u8]) -> der::Result<KeyParameters> {
    let envelope = PrivateKeyInfoRef::from_der(der)?;
    let mut reader = SliceReader::new(envelope.private_key.as_bytes())?;
    reader.sequence(|integers| {
        // The version of the structure.
        u8::decode(integers)?;
        let mut next = || UintRef::decode(integers).map(|number| Base64Url(number.as_bytes().to_vec()));
        let (n, e, d) = (next()?, next()?, next()?);
        let (p, q) = (next()?, next()?);
        Ok(KeyParameters::Rsa { n, e, d, p, q, dp: next()?, dq: next()?, qi: next()? })
    })
}
