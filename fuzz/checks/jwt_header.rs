//! A token and a key set from somebody who wishes to come in: whatever the header says, nobody has signed it.
//!
//! The input is a header's JSON. It is tried as a whole token and as a key set, too.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_edge::jose::{Algorithm, Compact, KeySet, VerifyingKey};

/// The public key of RFC 7515, appendix A.3.
const KEYS: &str = r#"{"keys":[{"kty":"EC","kid":"k","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

static KEY: LazyLock<Option<VerifyingKey>> = LazyLock::new(|| KeySet::parse(KEYS.as_bytes()).ok()?.key("k", Algorithm::Es256).ok());

/// Panics if a header opens a door, or if a set has a key that fits what it should not.
pub(crate) fn check(input: &[u8]) {
    let header = URL_SAFE_NO_PAD.encode(input);
    for signature in ["", "AAAA", &"A".repeat(86)] {
        is_believed_in_nothing(&format!("{header}.e30.{signature}"));
    }
    is_believed_in_nothing(&String::from_utf8_lossy(input));
    let Ok(set) = KeySet::parse(input) else { return };
    let is_good = set.check().is_ok();
    let usable = Algorithm::SMART.into_iter().filter(|algorithm| set.key("k", *algorithm).is_ok()).count();
    assert!(usable == 0 || set.names("k"), "a key that nobody named");
    assert!(!is_good || input.windows(6).any(|bytes| bytes == b"\"keys\""), "a set without keys");
}

fn is_believed_in_nothing(token: &str) {
    let Ok(token) = Compact::parse(token) else { return };
    assert!(!["none", "HS256", "HS384", "HS512"].iter().any(|name| Algorithm::named(name, &Algorithm::ALL).is_some()));
    if let (Some(key), Some(_)) = (KEY.as_ref(), Algorithm::named(&token.header.alg, &Algorithm::ALL)) {
        assert!(!token.is_signed_by(key), "nobody has signed {}", token.header.alg);
    }
}
