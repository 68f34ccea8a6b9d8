//! The public keys of a client, looked at before they are registered: what is wrong with them would otherwise show when
//! the client first comes, to somebody else.

use std::collections::BTreeSet;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The longest set of keys that is registered. It is read at every token request.
const SET_BYTES: usize = 64 << 10;

/// The shortest and the longest RSA key, in bytes of its modulus.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// What only private keys have (RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Why a set of keys is not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// It is too long.
    #[error("is longer than 64 KiB: leave out keys that are no longer used")]
    TooLong,
    /// It is something else.
    #[error("is no JSON Web Key Set: write {{\"keys\": [...]}} with at least one key")]
    NotASet,
    /// A private key was given away.
    #[error(
        "holds a private key ({key} has `{member}`). A private key is the client's alone: take this one as lost, let the client \
         make another, and register what is public of that"
    )]
    Private {
        /// Which.
        key: String,
        /// By what it shows.
        member: &'static str,
    },
    /// A key has no name.
    #[error("has a key without `kid` ({0}): an assertion names the key by it")]
    Nameless(String),
    /// Two keys have one name.
    #[error("has two keys named `{0}`: with that name in an assertion neither would count")]
    Twice(String),
    /// A key cannot be used.
    #[error(
        "has a key that cannot be used: {key} {problem}. RSA keys of at least 2048 bits (RS384) and P-384 (ES384) can; leave others out"
    )]
    Unusable {
        /// Which.
        key: String,
        /// Why.
        problem: &'static str,
    },
}

/// Looks at the text of a JSON Web Key Set; the names of its keys.
pub fn check(text: &str) -> Result<Vec<String>, JwksError> {
    if text.len() > SET_BYTES {
        return Err(JwksError::TooLong);
    }
    let set: Map<String, Value> = serde_json::from_str(text).map_err(|_| JwksError::NotASet)?;
    let keys = match set.get("keys") {
        Some(Value::Array(keys)) if !keys.is_empty() => keys.as_slice(),
        Some(_) => return Err(JwksError::NotASet),
        // Nobody should learn from "no set" that a private key is fine if it is only wrapped.
        None => {
            private(&set, "the key")?;
            return Err(JwksError::NotASet);
        }
    };
    let mut names = BTreeSet::new();
    for (number, key) in (1..).zip(keys) {
        let Value::Object(key) = key else { return Err(JwksError::NotASet) };
        let kid = text_of(key, "kid").filter(|kid| !kid.is_empty());
        let called = kid.map_or_else(|| format!("number {number}"), |kid| format!("`{}`", kid.escape_default()));
        private(key, &called)?;
        let kid = kid.ok_or_else(|| JwksError::Nameless(called.clone()))?;
        usable(key).map_err(|problem| JwksError::Unusable { key: called, problem })?;
        if !names.insert(kid.to_owned()) {
            return Err(JwksError::Twice(kid.escape_default().to_string()));
        }
    }
    Ok(names.into_iter().collect())
}

fn private(key: &Map<String, Value>, called: &str) -> Result<(), JwksError> {
    let member = PRIVATE.into_iter().find(|member| key.contains_key(*member));
    member.map_or(Ok(()), |member| Err(JwksError::Private { key: called.to_owned(), member }))
}

fn usable(key: &Map<String, Value>) -> Result<(), &'static str> {
    if text_of(key, "use").is_some_and(|purpose| purpose != "sig") {
        return Err("is not for signatures (`use`)");
    }
    match (text_of(key, "kty"), text_of(key, "alg")) {
        (Some("RSA"), None | Some("RS384")) => rsa(key),
        (Some("EC"), None | Some("ES384")) => ec(key),
        (Some("RSA" | "EC"), Some(_)) => Err("is for another algorithm (`alg`)"),
        (Some(_) | None, _) => Err("is of another type (`kty`)"),
    }
}

fn rsa(key: &Map<String, Value>) -> Result<(), &'static str> {
    let (modulus, exponent) = (number(key, "n")?, number(key, "e")?);
    let modulus = modulus.iter().position(|byte| *byte != 0).and_then(|first| modulus.get(first..)).unwrap_or_default();
    // 2048 bits are 256 bytes with the first bit set.
    let is_long = modulus.len() > *RSA_BYTES.start() || modulus.first().is_some_and(|byte| byte.leading_zeros() == 0);
    if !RSA_BYTES.contains(&modulus.len()) || !is_long {
        return Err("has fewer than 2048 bits, or more than 8192");
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if is_odd(modulus) && is_odd(&exponent) && exponent != [1] { Ok(()) } else { Err("has numbers that are no RSA key (`n`, `e`)") }
}

fn ec(key: &Map<String, Value>) -> Result<(), &'static str> {
    if text_of(key, "crv") != Some("P-384") {
        return Err("is on another curve (`crv`)");
    }
    let point = [vec![4], number(key, "x")?, number(key, "y")?].concat();
    ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).map(drop).map_err(|_| "is not a point of its curve (`x`, `y`)")
}

fn text_of<'a>(key: &'a Map<String, Value>, member: &str) -> Option<&'a str> {
    key.get(member).and_then(Value::as_str)
}

fn number(key: &Map<String, Value>, member: &str) -> Result<Vec<u8>, &'static str> {
    let text = text_of(key, member).ok_or("lacks a number that its type has")?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "has a number that is not base64url")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::client_key::{GeneratedKey, KeyAlgorithm};

    fn public(kind: KeyAlgorithm) -> Value {
        GeneratedKey::new(kind).unwrap().public["keys"][0].clone()
    }

    fn of(keys: &[Value]) -> Result<Vec<String>, JwksError> {
        check(&json!({ "keys": keys }).to_string())
    }

    // Holds: SEC-A4
    #[test]
    fn keys_of_both_kinds_are_taken_and_named() {
        let (mut ec, mut rsa) = (public(KeyAlgorithm::Es384), public(KeyAlgorithm::Rs384));
        ec["kid"] = "b".into();
        rsa["kid"] = "a".into();
        assert_eq!(of(&[ec.clone(), rsa.clone()]), Ok(vec!["a".to_owned(), "b".to_owned()]));
        for key in [&mut ec, &mut rsa] {
            key.as_object_mut().unwrap().remove("alg");
        }
        assert!(of(&[ec, rsa]).is_ok(), "alg is optional");
    }

    #[test]
    fn a_private_key_is_refused_loudly_and_not_repeated() {
        for kind in [KeyAlgorithm::Es384, KeyAlgorithm::Rs384] {
            let private = GeneratedKey::new(kind).unwrap().private;
            for text in [private.to_string(), json!({ "keys": [public(kind), private] }).to_string()] {
                let error = check(&text).unwrap_err();
                assert!(matches!(error, JwksError::Private { member: "d", .. }), "{error:?}");
                assert!(!error.to_string().contains(private["d"].as_str().unwrap()));
            }
        }
        let secret = json!({ "kty": "oct", "kid": "s", "k": "AAAA" });
        assert!(matches!(of(&[secret]), Err(JwksError::Private { member: "k", .. })));
    }

    #[test]
    fn what_no_assertion_could_be_checked_with_is_refused_with_the_reason() {
        let changed = |kind, member: &str, value: Value| {
            let mut key = public(kind);
            key[member] = value;
            of(&[key]).unwrap_err().to_string()
        };
        let (ec, rsa) = (KeyAlgorithm::Es384, KeyAlgorithm::Rs384);
        let bits = |bits: usize| {
            let mut number = vec![0xff; bits.div_ceil(8)];
            if let Some(first) = number.first_mut() {
                *first >>= bits.div_ceil(8) * 8 - bits;
            }
            URL_SAFE_NO_PAD.encode(number)
        };
        for (problem, words) in [
            (changed(ec, "kid", Value::Null), "without `kid`"),
            (changed(ec, "kid", "".into()), "without `kid`"),
            (changed(ec, "crv", "P-256".into()), "`crv`"),
            (changed(ec, "alg", "ES256".into()), "`alg`"),
            (changed(ec, "alg", "RS384".into()), "`alg`"),
            (changed(rsa, "alg", "HS384".into()), "`alg`"),
            (changed(ec, "kty", "OKP".into()), "`kty`"),
            (changed(ec, "use", "enc".into()), "`use`"),
            (changed(ec, "x", "AAAA".into()), "not a point"),
            (changed(ec, "x", "a+b/".into()), "base64url"),
            (changed(ec, "y", Value::Null), "lacks a number"),
            (changed(rsa, "n", bits(2047).into()), "2048 bits"),
            (changed(rsa, "n", format!("AAAA{}", bits(1024)).into()), "2048 bits"),
            (changed(rsa, "n", bits(8200).into()), "8192"),
            (changed(rsa, "e", "AQ".into()), "no RSA key"),
        ] {
            assert!(problem.contains(words), "{words}: {problem}");
        }
        assert!(
            of(&[{
                let mut key = public(rsa);
                key["n"] = bits(2048).into();
                key
            }])
            .is_ok()
        );
        let key = public(ec);
        assert_eq!(of(&[key.clone(), key.clone()]), Err(JwksError::Twice(key["kid"].as_str().unwrap().to_owned())));
        for text in ["", "[]", "{}", "{\"keys\":[]}", "{\"keys\":{}}", "{\"keys\":[1]}"] {
            assert_eq!(check(text), Err(JwksError::NotASet), "{text}");
        }
        assert_eq!(check(&" ".repeat(SET_BYTES + 1)), Err(JwksError::TooLong));
    }
}
