//! `Idempotency-Key`: a kick-off that is sent twice starts one export.

use sha2::{Digest, Sha256};

use crate::request::Refusal;
use crate::vocab::ids::Caller;
use crate::vocab::outcome::IssueCode;

/// The header's name.
const HEADER: &str = "Idempotency-Key";

/// The longest key.
const LONGEST: usize = 255;

/// A caller's key for one request. Only digests are kept: a key may be a secret of the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Digest of caller and key: callers cannot meet in a key.
    pub digest: String,
    /// Digest of the request that it was sent with.
    pub fingerprint: String,
}

impl IdempotencyKey {
    /// Reads the header's value.
    ///
    /// * `header`: 1 to 255 visible ASCII characters, bare, or quoted as the standard's draft writes them
    ///   (draft-ietf-httpapi-idempotency-key-header, a string of RFC 8941); both name the same key.
    /// * `request`: all that makes two requests the same.
    pub fn read(header: &str, caller: &Caller, request: &[&[u8]]) -> Result<Self, Refusal> {
        let key =
            unquoted(header.trim()).filter(|key| (1..=LONGEST).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()));
        let key = key.ok_or_else(|| {
            let text = format!("{HEADER} is one key of 1 to {LONGEST} visible ASCII characters, bare or in double quotes");
            Refusal::of(400, IssueCode::Value, HEADER, text)
        })?;
        Ok(Self { digest: digest(&[caller.0.as_bytes(), key.as_bytes()]), fingerprint: digest(request) })
    }

    /// The key was sent before with another request.
    pub fn reused() -> Refusal {
        let text = format!("this {HEADER} was sent before with another request; send a new key with each new export");
        Refusal::of(422, IssueCode::Invalid, HEADER, text)
    }

    /// The export that the key has started was cancelled, has expired, or is forgotten.
    pub fn over() -> Refusal {
        let text = format!("the export that this {HEADER} has started was cancelled or has expired; send a new key to start another");
        Refusal::of(409, IssueCode::Conflict, HEADER, text)
    }
}

/// The text of a quoted string, or the bare text; `None` if quotes or backslashes stand where they may not.
fn unquoted(text: &str) -> Option<String> {
    let Some(rest) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let mut characters = rest.strip_suffix('"')?.chars();
    let mut key = String::new();
    while let Some(character) = characters.next() {
        match character {
            '\\' => key.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            '"' => return None,
            plain => key.push(plain),
        }
    }
    Some(key)
}

/// Over pieces and their lengths, so that no two lists of pieces have the same bytes.
fn digest(pieces: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for piece in pieces {
        hash.update(piece.len().to_be_bytes());
        hash.update(piece);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Result<IdempotencyKey, Refusal> {
        IdempotencyKey::read(header, &Caller("ann".into()), &[b"request"])
    }

    #[test]
    fn a_key_is_the_same_bare_and_quoted() {
        for (quoted, bare) in [
            ("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (" x ", "x"),
        ] {
            assert_eq!(read(quoted).unwrap(), read(bare).unwrap(), "{quoted}");
        }
        assert!(read(&"k".repeat(255)).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for header in
            ["", "  ", "\"\"", "\"", "\"a", r#""a"b""#, r#""a\n""#, r#""a\""#, "a b", "a, b", "\"a b\"", "ä", "\"ä\"", &"k".repeat(256)]
        {
            let refusal = read(header).unwrap_err();
            assert_eq!((refusal.status, refusal.expression.as_deref()), (400, Some("Idempotency-Key")), "{header}");
        }
    }

    #[test]
    fn keys_differ_by_caller_and_requests_by_their_pieces() {
        let read = |key: &str, caller: &str, request: &[&[u8]]| IdempotencyKey::read(key, &Caller(caller.into()), request).unwrap();
        let one = read("k", "ann", &[b"ab", b"c"]);
        assert_ne!(one.digest, read("k", "ben", &[b"ab", b"c"]).digest);
        assert_ne!(one.digest, read("nk", "an", &[b"ab", b"c"]).digest);
        assert_eq!(one.digest, read("k", "ann", &[]).digest);
        assert_ne!(one.fingerprint, read("k", "ann", &[b"a", b"bc"]).fingerprint);
        assert!(!format!("{:?}", read("secret-key", "ann", &[])).contains("secret"));
    }
}
