//! Tests of client keys. Signatures are verified by the cryptography library.

use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_2048_8192_SHA384, RsaKeyPair, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::vocab::clock::Millis;
use serde_json::{Value, json};

use super::*;

fn write_key(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("key");
    std::fs::write(&path, text).unwrap();
    path
}

fn problem(text: &str, kid: Option<&str>) -> String {
    let folder = tempfile::tempdir().unwrap();
    read_client_key(&write_key(&folder, text), kid).err().map(|error| error.to_string()).unwrap_or_default()
}

fn decode(segment: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(segment).unwrap()
}

fn verify(assertion: &str, public: &Value) {
    let (message, signature) = assertion.rsplit_once('.').unwrap();
    let number = |name: &str| decode(public[name].as_str().unwrap());
    if public["kty"] == "EC" {
        let point = [vec![4], number("x"), number("y")].concat();
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message.as_bytes(), &decode(signature)).unwrap();
    } else {
        let key = RsaPublicKeyComponents { n: number("n"), e: number("e") };
        key.verify(&RSA_PKCS1_2048_8192_SHA384, message.as_bytes(), &decode(signature)).unwrap();
    }
}

#[test]
fn an_assertion_of_a_new_private_key_is_verified_by_its_public_key() {
    let folder = tempfile::tempdir().unwrap();
    for (algorithm, alg) in [(KeyAlgorithm::Es384, "ES384"), (KeyAlgorithm::Rs384, "RS384")] {
        let generated = GeneratedKey::new(algorithm).unwrap();
        let public = &generated.public["keys"][0];
        for text in [generated.private.to_string(), json!({ "keys": [generated.private] }).to_string()] {
            let key = read_client_key(&write_key(&folder, &text), None).unwrap();
            let assertion = key.assertion("lab", "https://h.example/token", Millis(1_700_000_000_000)).unwrap();
            verify(&assertion, public);
            let segments: Vec<Value> =
                assertion.split('.').take(2).map(|segment| serde_json::from_slice(&decode(segment)).unwrap()).collect();
            assert_eq!(segments[0], json!({ "typ": "JWT", "alg": alg, "kid": public["kid"] }));
            let jti = segments[1]["jti"].as_str().unwrap();
            assert_eq!(
                segments[1],
                json!({ "iss": "lab", "sub": "lab", "aud": "https://h.example/token", "exp": 1_700_000_240, "jti": jti })
            );
            let again = key.assertion("lab", "https://h.example/token", Millis(1_700_000_000_000)).unwrap();
            assert!(!again.contains(jti) && again != assertion, "an assertion can be used once");
        }
    }
}

#[test]
fn the_public_key_contains_no_private_member() {
    for algorithm in [KeyAlgorithm::Es384, KeyAlgorithm::Rs384] {
        let generated = GeneratedKey::new(algorithm).unwrap();
        let Value::Object(public) = &generated.public["keys"][0] else { panic!("a key") };
        for member in ["d", "p", "q", "dp", "dq", "qi"] {
            assert!(!public.contains_key(member), "{member}");
        }
    }
}

/// Covers every PEM format that openssl writes.
#[test]
fn a_pem_key_takes_its_key_id_from_the_option() {
    let ec = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let pkcs8 = pem::encode(&pem::Pem::new("PRIVATE KEY", ec.to_pkcs8v1().unwrap().as_ref()));
    let sec1: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> = aws_lc_rs::encoding::AsDer::as_der(&ec.private_key()).unwrap();
    let sec1 = pem::encode(&pem::Pem::new("EC PRIVATE KEY", sec1.as_ref()));
    let folder = tempfile::tempdir().unwrap();
    for text in [pkcs8.clone(), sec1.clone(), format!("-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n{sec1}")] {
        let key = read_client_key(&write_key(&folder, &text), Some("k-1")).unwrap();
        let assertion = key.assertion("lab", "https://h.example/token", Millis(1_700_000_000_000)).unwrap();
        let header: Value = serde_json::from_slice(&decode(assertion.split('.').next().unwrap())).unwrap();
        assert_eq!((&header["kid"], &header["alg"]), (&"k-1".into(), &"ES384".into()));
    }
    assert!(problem(&pkcs8, None).contains("--client-key-id"));
}

#[test]
fn the_error_for_an_invalid_key_does_not_quote_the_key() {
    let mut two = GeneratedKey::new(KeyAlgorithm::Es384).unwrap().private;
    let both = json!({ "keys": [two, two] }).to_string();
    two["d"] = "SECRET+not/base64url".into();
    let public = GeneratedKey::new(KeyAlgorithm::Es384).unwrap().public.to_string();
    let encrypted = pem::encode(&pem::Pem::new("ENCRYPTED PRIVATE KEY", vec![1, 2, 3]));
    let p256 = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let p256 = pem::encode(&pem::Pem::new("PRIVATE KEY", p256.to_pkcs8v1().unwrap().as_ref()));
    let short = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    assert_eq!(short.public_modulus_len(), 256);
    for (text, words) in [
        ("", "is not a supported private key"),
        ("{}", "is not a private JSON Web Key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is not a supported private key"),
        (&both, "several keys"),
        (&two.to_string(), "is not a private JSON Web Key"),
        (&public, "is not a private JSON Web Key"),
        (&encrypted, "password"),
        (&p256, "P-384"),
    ] {
        let problem = problem(text, Some("k"));
        assert!(problem.contains(words) && !problem.contains("SECRET"), "{words}: {problem}");
    }
}
