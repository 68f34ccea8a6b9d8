//! Validates a client's public keys before they are registered. Otherwise a mistake would only appear at the client's first
//! token request.

use std::collections::BTreeSet;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Maximum size of a registered key set, in bytes. It is read at every token request.
const MAX_KEY_SET_BYTES: usize = 64 << 10;

/// Range of the size of an RSA modulus, in bytes.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Members that only private keys have (RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Reason why a key set cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// The set is too long.
    #[error("is longer than 64 KiB: remove keys that are no longer used")]
    TooLong,
    /// The text is not a key set.
    #[error("is not a JSON Web Key Set: write {{\"keys\": [...]}} with at least one key")]
    NotAKeySet,
    /// The set contains a private key.
    #[error(
        "contains a private key ({key} has `{member}`). Private keys must stay with the client: treat this one as compromised, let \
         the client generate another, and register only its public key"
    )]
    Private {
        /// Name of the key.
        key: String,
        /// Member that only private keys have.
        member: &'static str,
    },
    /// A key has no key ID.
    #[error("has a key without `kid` ({0}): client assertions identify their key by it")]
    MissingKeyId(String),
    /// Two keys have the same key ID.
    #[error("has two keys with `kid` `{0}`: an assertion could not select one of them")]
    DuplicateKeyId(String),
    /// A key cannot be used.
    #[error(
        "has a key that cannot be used: {key} {problem}. Use RSA keys of at least 2048 bits (RS384) or P-384 keys (ES384), and remove others"
    )]
    Unusable {
        /// Name of the key.
        key: String,
        /// Reason why it cannot be used.
        problem: &'static str,
    },
}

/// Validates a JSON Web Key Set and returns its key IDs.
pub fn validate_key_set(text: &str) -> Result<Vec<String>, JwksError> {
    if text.len() > MAX_KEY_SET_BYTES {
        return Err(JwksError::TooLong);
    }
    let set: Map<String, Value> = serde_json::from_str(text).map_err(|_| JwksError::NotAKeySet)?;
    let keys = match set.get("keys") {
        Some(Value::Array(keys)) if !keys.is_empty() => keys.as_slice(),
        Some(_) => return Err(JwksError::NotAKeySet),
        // A bare private key must be reported as such: "not a key set" would suggest to wrap it and try again.
        None => {
            reject_private_key(&set, "the key")?;
            return Err(JwksError::NotAKeySet);
        }
    };
    let mut key_ids = BTreeSet::new();
    for (number, key) in (1..).zip(keys) {
        let Value::Object(key) = key else { return Err(JwksError::NotAKeySet) };
        let kid = string_member(key, "kid").filter(|kid| !kid.is_empty());
        let label = kid.map_or_else(|| format!("number {number}"), |kid| format!("`{}`", kid.escape_default()));
        reject_private_key(key, &label)?;
        let kid = kid.ok_or_else(|| JwksError::MissingKeyId(label.clone()))?;
        validate_key(key).map_err(|problem| JwksError::Unusable { key: label, problem })?;
        if !key_ids.insert(kid.to_owned()) {
            return Err(JwksError::DuplicateKeyId(kid.escape_default().to_string()));
        }
    }
    Ok(key_ids.into_iter().collect())
}

/// Returns an error if a key has a private member. The error does not contain its value.
fn reject_private_key(key: &Map<String, Value>, label: &str) -> Result<(), JwksError> {
    let member = PRIVATE_MEMBERS.into_iter().find(|member| key.contains_key(*member));
    member.map_or(Ok(()), |member| Err(JwksError::Private { key: label.to_owned(), member }))
}

/// Validates that a public key can verify assertions. The error is the reason why it cannot.
fn validate_key(key: &Map<String, Value>) -> Result<(), &'static str> {
    if string_member(key, "use").is_some_and(|purpose| purpose != "sig") {
        return Err("is not for signatures (`use`)");
    }
    match (string_member(key, "kty"), string_member(key, "alg")) {
        (Some("RSA"), None | Some("RS384")) => validate_rsa_key(key),
        (Some("EC"), None | Some("ES384")) => validate_ec_key(key),
        (Some("RSA" | "EC"), Some(_)) => Err("is for another algorithm (`alg`)"),
        (Some(_) | None, _) => Err("is of another type (`kty`)"),
    }
}

/// Validates the length and form of an RSA public key.
fn validate_rsa_key(key: &Map<String, Value>) -> Result<(), &'static str> {
    let (modulus, exponent) = (integer_member(key, "n")?, integer_member(key, "e")?);
    let modulus = modulus.iter().position(|byte| *byte != 0).and_then(|first| modulus.get(first..)).unwrap_or_default();
    // 2048 bits are 256 bytes with the first bit set.
    let has_full_length = modulus.len() > *RSA_MODULUS_BYTES.start() || modulus.first().is_some_and(|byte| byte.leading_zeros() == 0);
    if !RSA_MODULUS_BYTES.contains(&modulus.len()) || !has_full_length {
        return Err("has fewer than 2048 bits, or more than 8192");
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if is_odd(modulus) && is_odd(&exponent) && exponent != [1] { Ok(()) } else { Err("is not a valid RSA key (`n`, `e`)") }
}

/// Validates that an EC public key is a point on P-384.
fn validate_ec_key(key: &Map<String, Value>) -> Result<(), &'static str> {
    if string_member(key, "crv") != Some("P-384") {
        return Err("is on another curve (`crv`)");
    }
    let point = [vec![4], integer_member(key, "x")?, integer_member(key, "y")?].concat();
    ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).map(drop).map_err(|_| "is not a point of its curve (`x`, `y`)")
}

/// Returns a member that is a string.
fn string_member<'a>(key: &'a Map<String, Value>, member: &str) -> Option<&'a str> {
    key.get(member).and_then(Value::as_str)
}

/// Decodes a base64url integer member.
fn integer_member(key: &Map<String, Value>, member: &str) -> Result<Vec<u8>, &'static str> {
    let text = string_member(key, member).ok_or("lacks a required member")?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "has a member that is not base64url")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stores::client_key::{GeneratedKey, KeyAlgorithm};

    /// Generates a key pair and returns its public key.
    fn generate_public_key(algorithm: KeyAlgorithm) -> Value {
        GeneratedKey::new(algorithm).unwrap().public["keys"][0].clone()
    }

    /// Validates a key set that consists of `keys`.
    fn validate_keys(keys: &[Value]) -> Result<Vec<String>, JwksError> {
        validate_key_set(&json!({ "keys": keys }).to_string())
    }

    // Holds: SEC-A4
    #[test]
    fn rsa_and_ec_keys_are_accepted_and_their_ids_are_returned() {
        let (mut ec, mut rsa) = (generate_public_key(KeyAlgorithm::Es384), generate_public_key(KeyAlgorithm::Rs384));
        ec["kid"] = "b".into();
        rsa["kid"] = "a".into();
        assert_eq!(validate_keys(&[ec.clone(), rsa.clone()]), Ok(vec!["a".to_owned(), "b".to_owned()]));
        for key in [&mut ec, &mut rsa] {
            key.as_object_mut().unwrap().remove("alg");
        }
        assert!(validate_keys(&[ec, rsa]).is_ok(), "alg is optional");
    }

    #[test]
    fn a_private_key_is_rejected_and_not_printed() {
        for kind in [KeyAlgorithm::Es384, KeyAlgorithm::Rs384] {
            let private = GeneratedKey::new(kind).unwrap().private;
            for text in [private.to_string(), json!({ "keys": [generate_public_key(kind), private] }).to_string()] {
                let error = validate_key_set(&text).unwrap_err();
                assert!(matches!(error, JwksError::Private { member: "d", .. }), "{error:?}");
                assert!(!error.to_string().contains(private["d"].as_str().unwrap()));
            }
        }
        let secret = json!({ "kty": "oct", "kid": "s", "k": "AAAA" });
        assert!(matches!(validate_keys(&[secret]), Err(JwksError::Private { member: "k", .. })));
    }

    #[test]
    fn a_key_that_cannot_verify_assertions_is_rejected_with_the_reason() {
        let problem_with = |kind, member: &str, value: Value| {
            let mut key = generate_public_key(kind);
            key[member] = value;
            validate_keys(&[key]).unwrap_err().to_string()
        };
        let (ec, rsa) = (KeyAlgorithm::Es384, KeyAlgorithm::Rs384);
        let bits = |bits: usize| {
            let mut number = vec![0xff; bits.div_ceil(8)];
            if let Some(first) = number.first_mut() {
                *first >>= bits.div_ceil(8) * 8 - bits;
            }
            URL_SAFE_NO_PAD.encode(number)
        };
        for (problem, expected) in [
            (problem_with(ec, "kid", Value::Null), "without `kid`"),
            (problem_with(ec, "kid", "".into()), "without `kid`"),
            (problem_with(ec, "crv", "P-256".into()), "`crv`"),
            (problem_with(ec, "alg", "ES256".into()), "`alg`"),
            (problem_with(ec, "alg", "RS384".into()), "`alg`"),
            (problem_with(rsa, "alg", "HS384".into()), "`alg`"),
            (problem_with(ec, "kty", "OKP".into()), "`kty`"),
            (problem_with(ec, "use", "enc".into()), "`use`"),
            (problem_with(ec, "x", "AAAA".into()), "not a point"),
            (problem_with(ec, "x", "a+b/".into()), "base64url"),
            (problem_with(ec, "y", Value::Null), "lacks a required member"),
            (problem_with(rsa, "n", bits(2047).into()), "2048 bits"),
            (problem_with(rsa, "n", format!("AAAA{}", bits(1024)).into()), "2048 bits"),
            (problem_with(rsa, "n", bits(8200).into()), "8192"),
            (problem_with(rsa, "e", "AQ".into()), "not a valid RSA key"),
        ] {
            assert!(problem.contains(expected), "{expected}: {problem}");
        }
        assert!(
            validate_keys(&[{
                let mut key = generate_public_key(rsa);
                key["n"] = bits(2048).into();
                key
            }])
            .is_ok()
        );
        let key = generate_public_key(ec);
        assert_eq!(validate_keys(&[key.clone(), key.clone()]), Err(JwksError::DuplicateKeyId(key["kid"].as_str().unwrap().to_owned())));
        for text in ["", "[]", "{}", "{\"keys\":[]}", "{\"keys\":{}}", "{\"keys\":[1]}"] {
            assert_eq!(validate_key_set(text), Err(JwksError::NotAKeySet), "{text}");
        }
        assert_eq!(validate_key_set(&" ".repeat(MAX_KEY_SET_BYTES + 1)), Err(JwksError::TooLong));
    }
}
