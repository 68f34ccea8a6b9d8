//! A client with keys of its own, as SMART Backend Services has them.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::vocab::clock::Millis;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use pem::Pem;
use serde_json::{Value, json};

use super::Result;

/// No two assertions of a test have the same name.
static JTI: AtomicU64 = AtomicU64::new(1);

/// A client and its key.
#[derive(Clone)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// Its key's name.
    pub kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Client {
    /// A client with a new key on P-384.
    pub fn es384(id: &str) -> Result<Self> {
        let pkcs8 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?.to_pkcs8v1()?.as_ref().to_vec();
        Ok(Self::with(id, Algorithm::ES384, EncodingKey::from_ec_der(&pkcs8)))
    }

    /// A client with a new RSA key of 2048 bits.
    pub fn rs384(id: &str) -> Result<Self> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der()?;
        let pem = pem::encode(&Pem::new("PRIVATE KEY", pkcs8.as_ref()));
        Ok(Self::with(id, Algorithm::RS384, EncodingKey::from_rsa_pem(pem.as_bytes())?))
    }

    fn with(id: &str, algorithm: Algorithm, key: EncodingKey) -> Self {
        Self { id: id.to_owned(), kid: format!("key-of-{id}"), algorithm, key }
    }

    /// The public half of its key as a JSON Web Key.
    pub fn jwk(&self) -> Result<Value> {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm)?)?;
        jwk.as_object_mut().ok_or("a key is no object")?.insert("kid".to_owned(), self.kid.clone().into());
        Ok(jwk)
    }

    /// Its key set.
    pub fn jwks(&self) -> Result<String> {
        Ok(json!({ "keys": [self.jwk()?] }).to_string())
    }

    /// The header of its assertions.
    #[must_use]
    pub fn header(&self) -> Value {
        json!({ "alg": format!("{:?}", self.algorithm), "kid": self.kid, "typ": "JWT" })
    }

    /// The claims of an assertion for this endpoint.
    #[must_use]
    pub fn claims(&self, token_url: &str, now: Millis) -> Value {
        let jti = format!("{}-{}", self.id, JTI.fetch_add(1, Ordering::Relaxed));
        json!({ "iss": self.id, "sub": self.id, "aud": token_url, "exp": now.0 / 1_000 + 300, "jti": jti })
    }

    /// A JWT of this header and these claims, signed with its key whatever the header says.
    pub fn sign(&self, header: &Value, claims: &Value) -> Result<String> {
        self.sign_bytes(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// The same of any bytes.
    pub fn sign_bytes(&self, header: &[u8], claims: &[u8]) -> Result<String> {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm)?;
        Ok(format!("{message}.{signature}"))
    }
}

/// A token request's body.
#[must_use]
pub fn token_form(assertion: &str, scope: &str) -> String {
    let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let kind = encode("urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let (assertion, scope) = (encode(assertion), encode(scope));
    format!("grant_type=client_credentials&scope={scope}&client_assertion_type={kind}&client_assertion={assertion}")
}
