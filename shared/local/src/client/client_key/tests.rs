//! Keys and what they sign. The judge is the library's verifier.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA384, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::Value;

use super::*;

fn written(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("key");
    std::fs::write(&path, text).unwrap();
    path
}

fn problem(text: &str, kid: Option<&str>) -> String {
    let folder = tempfile::tempdir().unwrap();
    ClientKey::read(&written(&folder, text), kid).err().map(|error| error.to_string()).unwrap_or_default()
}

fn decoded(part: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(part).unwrap()
}

fn verify(assertion: &str, public: &Value) {
    let (message, signature) = assertion.rsplit_once('.').unwrap();
    let number = |name: &str| decoded(public[name].as_str().unwrap());
    if public["kty"] == "EC" {
        let point = [vec![4], number("x"), number("y")].concat();
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message.as_bytes(), &decoded(signature)).unwrap();
    } else {
        let key = RsaPublicKeyComponents { n: number("n"), e: number("e") };
        key.verify(&RSA_PKCS1_2048_8192_SHA384, message.as_bytes(), &decoded(signature)).unwrap();
    }
}

#[test]
fn what_a_new_private_key_signs_its_public_half_confirms() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, alg) in [(KeyAlgorithm::Es384, "ES384"), (KeyAlgorithm::Rs384, "RS384")] {
        let made = GeneratedKey::new(kind).unwrap();
        let public = &made.public["keys"][0];
        for text in [made.private.to_string(), json!({ "keys": [made.private] }).to_string()] {
            let key = ClientKey::read(&written(&folder, &text), None).unwrap();
            let assertion = key.assertion("lab", "https://h.example/token", Millis(1_700_000_000_000)).unwrap();
            verify(&assertion, public);
            let parts: Vec<Value> = assertion.split('.').take(2).map(|part| serde_json::from_slice(&decoded(part)).unwrap()).collect();
            assert_eq!(parts[0], json!({ "typ": "JWT", "alg": alg, "kid": public["kid"] }));
            let jti = parts[1]["jti"].as_str().unwrap();
            assert_eq!(parts[1], json!({ "iss": "lab", "sub": "lab", "aud": "https://h.example/token", "exp": 1_700_000_240, "jti": jti }));
            let again = key.assertion("lab", "https://h.example/token", Millis(1_700_000_000_000)).unwrap();
            assert!(!again.contains(jti) && again != assertion, "an assertion can be used once");
        }
    }
}

#[test]
fn the_public_half_holds_nothing_private() {
    for kind in [KeyAlgorithm::Es384, KeyAlgorithm::Rs384] {
        let made = GeneratedKey::new(kind).unwrap();
        let Value::Object(public) = &made.public["keys"][0] else { panic!("a key") };
        for member in ["d", "p", "q", "dp", "dq", "qi"] {
            assert!(!public.contains_key(member), "{member}");
        }
    }
}

/// Every wrapping that openssl writes.
#[test]
fn keys_in_pem_are_read_and_named_by_the_user() {
    let ec = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let pkcs8 = pem::encode(&pem::Pem::new("PRIVATE KEY", ec.to_pkcs8v1().unwrap().as_ref()));
    let sec1: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> = aws_lc_rs::encoding::AsDer::as_der(&ec.private_key()).unwrap();
    let sec1 = pem::encode(&pem::Pem::new("EC PRIVATE KEY", sec1.as_ref()));
    let folder = tempfile::tempdir().unwrap();
    for text in [pkcs8.clone(), sec1.clone(), format!("-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n{sec1}")] {
        let key = ClientKey::read(&written(&folder, &text), Some("k-1")).unwrap();
        assert_eq!((key.kid.as_str(), key.pair.algorithm()), ("k-1", "ES384"));
    }
    assert!(problem(&pkcs8, None).contains("--client-key-id"));
}

#[test]
fn what_is_no_key_is_said_without_a_byte_of_it() {
    let mut two = GeneratedKey::new(KeyAlgorithm::Es384).unwrap().private;
    let both = json!({ "keys": [two, two] }).to_string();
    two["d"] = "SECRET+not/base64url".into();
    let public = GeneratedKey::new(KeyAlgorithm::Es384).unwrap().public.to_string();
    let locked = pem::encode(&pem::Pem::new("ENCRYPTED PRIVATE KEY", vec![1, 2, 3]));
    let p256 = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let p256 = pem::encode(&pem::Pem::new("PRIVATE KEY", p256.to_pkcs8v1().unwrap().as_ref()));
    let short = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    assert_eq!(short.public_modulus_len(), RSA_BYTES);
    for (text, words) in [
        ("", "is no private key"),
        ("{}", "is no private JSON Web Key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is no private key"),
        (&both, "several keys"),
        (&two.to_string(), "is no private JSON Web Key"),
        (&public, "is no private JSON Web Key"),
        (&locked, "password"),
        (&p256, "P-384"),
    ] {
        let problem = problem(text, Some("k"));
        assert!(problem.contains(words) && !problem.contains("SECRET"), "{words}: {problem}");
    }
}
