//! SMART Backend Services client with its own key.

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

/// Number of the next assertion: every assertion has its own `jti`.
static NEXT_JTI: AtomicU64 = AtomicU64::new(1);

/// Client of a test and its private key.
#[derive(Clone)]
pub struct SmartClient {
    /// Client id (`client_id`).
    pub id: String,
    /// Key id (`kid`).
    pub kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl SmartClient {
    /// Creates a client with a new P-384 key, which signs with ES384.
    pub fn new_es384(id: &str) -> Result<Self> {
        let pkcs8 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?.to_pkcs8v1()?.as_ref().to_vec();
        Ok(Self::from_key(id, Algorithm::ES384, EncodingKey::from_ec_der(&pkcs8)))
    }

    /// Creates a client with a new 2048-bit RSA key, which signs with RS384.
    pub fn new_rs384(id: &str) -> Result<Self> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der()?;
        let pem = pem::encode(&Pem::new("PRIVATE KEY", pkcs8.as_ref()));
        Ok(Self::from_key(id, Algorithm::RS384, EncodingKey::from_rsa_pem(pem.as_bytes())?))
    }

    /// Creates a client that signs with this key. Its key ID is `key-of-` and the client id.
    fn from_key(id: &str, algorithm: Algorithm, key: EncodingKey) -> Self {
        Self { id: id.to_owned(), kid: format!("key-of-{id}"), algorithm, key }
    }

    /// Returns its public key as a JSON Web Key.
    pub fn jwk(&self) -> Result<Value> {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm)?)?;
        jwk.as_object_mut().ok_or("the key is not a JSON object")?.insert("kid".to_owned(), self.kid.clone().into());
        Ok(jwk)
    }

    /// Returns its JSON Web Key Set.
    pub fn jwks(&self) -> Result<String> {
        Ok(json!({ "keys": [self.jwk()?] }).to_string())
    }

    /// Returns the JWT header of its assertions.
    #[must_use]
    pub fn assertion_header(&self) -> Value {
        json!({ "alg": format!("{:?}", self.algorithm), "kid": self.kid, "typ": "JWT" })
    }

    /// Returns the claims of a new assertion for the token endpoint. It expires after 300 seconds.
    #[must_use]
    pub fn assertion_claims(&self, token_url: &str, now: Millis) -> Value {
        let jti = format!("{}-{}", self.id, NEXT_JTI.fetch_add(1, Ordering::Relaxed));
        json!({ "iss": self.id, "sub": self.id, "aud": token_url, "exp": now.0 / 1_000 + 300, "jti": jti })
    }

    /// Builds a JWT. It is signed with the client's key and algorithm, even if the header names others.
    pub fn sign(&self, header: &Value, claims: &Value) -> Result<String> {
        self.sign_bytes(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// Builds a JWT from raw header and claims, which need not be JSON.
    pub fn sign_bytes(&self, header: &[u8], claims: &[u8]) -> Result<String> {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm)?;
        Ok(format!("{message}.{signature}"))
    }
}

/// Returns the body of a token request.
#[must_use]
pub fn token_request_form(assertion: &str, scope: &str) -> String {
    let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let assertion_type = encode("urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let (assertion, scope) = (encode(assertion), encode(scope));
    format!("grant_type=client_credentials&scope={scope}&client_assertion_type={assertion_type}&client_assertion={assertion}")
}
