//! Checks that no token header makes an unsigned token pass as signed.
//!
//! The input is the JSON of a header. It is also tried as a whole token and as a key set.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_edge::jose::{Algorithm, CompactJws, KeySet, VerifyingKey};

/// Key set with the public key of RFC 7515, appendix A.3.
const KEYS: &str = r#"{"keys":[{"kty":"EC","kid":"k","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

static KEY: LazyLock<Option<VerifyingKey>> =
    LazyLock::new(|| KeySet::parse(KEYS.as_bytes()).ok()?.verifying_key("k", Algorithm::Es256).ok());

/// Panics if an unsigned token passes as signed, or if a set has a key that it does not name.
pub(crate) fn check(input: &[u8]) {
    let header = URL_SAFE_NO_PAD.encode(input);
    for signature in ["", "AAAA", &"A".repeat(86)] {
        check_not_signed(&format!("{header}.e30.{signature}"));
    }
    check_not_signed(&String::from_utf8_lossy(input));
    let Ok(set) = KeySet::parse(input) else { return };
    let usable = Algorithm::SMART.into_iter().filter(|algorithm| set.verifying_key("k", *algorithm).is_ok()).count();
    assert!(usable == 0 || set.has_key("k"), "a key that the set does not name");
}

fn check_not_signed(token: &str) {
    let Ok(token) = CompactJws::parse(token) else { return };
    assert!(!["none", "HS256", "HS384", "HS512"].iter().any(|name| Algorithm::parse(name, &Algorithm::ALL).is_some()));
    if let (Some(key), Some(_)) = (KEY.as_ref(), Algorithm::parse(&token.header.alg, &Algorithm::ALL)) {
        assert!(!token.is_signed_by(key), "a token with the algorithm {} passes as signed", token.header.alg);
    }
}
