//! New keys, for trying out and for clients that have no other way to make one.

use aws_lc_rs::encoding::{AsBigEndian as _, AsDer, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use clap::ValueEnum;
use der::asn1::UintRef;
use der::{Decode as _, Reader as _, SliceReader};
use headrace_edge::system::random_name;
use pkcs8::PrivateKeyInfoRef;
use serde_json::{Value, json};

use super::KeyError;
use super::jwk::{Base64Url, Numbers, PrivateKey};

/// Which signature a new key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyAlgorithm {
    /// ECDSA on P-384: short keys.
    #[value(name = "ES384")]
    Es384,
    /// RSA of 3072 bits: what older servers want.
    #[value(name = "RS384")]
    Rs384,
}

/// A new key.
pub struct GeneratedKey {
    /// The private key, as a JSON Web Key: the client's alone.
    pub private: Value,
    /// The public key, as a JSON Web Key Set: for servers.
    pub public: Value,
}

impl GeneratedKey {
    /// Makes a key under a random name.
    pub fn new(kind: KeyAlgorithm) -> Result<Self, KeyError> {
        let kid = random_name()?;
        let numbers = match kind {
            KeyAlgorithm::Es384 => ec_numbers().map_err(|_| KeyError::Library("it was not made")),
            KeyAlgorithm::Rs384 => rsa_numbers(),
        }?;
        let public = match &numbers {
            Numbers::Ec { crv, x, y, .. } => {
                json!({ "kty": "EC", "crv": crv, "x": x, "y": y, "alg": "ES384", "kid": kid, "key_ops": ["verify"] })
            }
            Numbers::Rsa { n, e, .. } => json!({ "kty": "RSA", "n": n, "e": e, "alg": "RS384", "kid": kid, "key_ops": ["verify"] }),
        };
        let unwritten = |_| KeyError::Library("it cannot be written as JSON");
        let mut private = serde_json::to_value(PrivateKey { kid: Some(kid), numbers }).map_err(unwritten)?;
        if let (Value::Object(private), Some(alg)) = (&mut private, public.get("alg")) {
            private.insert("alg".to_owned(), alg.clone());
            private.insert("key_ops".to_owned(), json!(["sign"]));
        }
        Ok(Self { private, public: json!({ "keys": [public] }) })
    }
}

fn ec_numbers() -> Result<Numbers, Unspecified> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?;
    // An uncompressed point: 4, x, y (SEC 1, section 2.3.3).
    let (_, point) = pair.public_key().as_ref().split_first().ok_or(Unspecified)?;
    let (x, y) = point.split_at(point.len() / 2);
    let d: EcPrivateKeyBin<'static> = pair.private_key().as_be_bytes()?;
    let number = |bytes: &[u8]| Base64Url(bytes.to_vec());
    Ok(Numbers::Ec { crv: "P-384".to_owned(), x: number(x), y: number(y), d: number(d.as_ref()) })
}

fn rsa_numbers() -> Result<Numbers, KeyError> {
    let unmade = KeyError::Library("it was not made");
    let Ok(pair) = RsaPair::generate(KeySize::Rsa3072) else { return Err(unmade) };
    let der: Result<Pkcs8V1Der<'static>, Unspecified> = pair.as_der();
    let Ok(der) = der else { return Err(unmade) };
    read_rsa(der.as_ref()).map_err(|_| unmade)
}

/// The numbers of an RSAPrivateKey (RFC 8017, appendix A.1.2) in a PKCS#8 envelope.
fn read_rsa(der: &[u8]) -> der::Result<Numbers> {
    let envelope = PrivateKeyInfoRef::from_der(der)?;
    let mut reader = SliceReader::new(envelope.private_key.as_bytes())?;
    reader.sequence(|numbers| {
        u8::decode(numbers)?;
        let mut next = || UintRef::decode(numbers).map(|number| Base64Url(number.as_bytes().to_vec()));
        let (n, e, d) = (next()?, next()?, next()?);
        let (p, q) = (next()?, next()?);
        Ok(Numbers::Rsa { n, e, d, p, q, dp: next()?, dq: next()?, qi: next()? })
    })
}
