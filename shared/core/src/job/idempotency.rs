//! `Idempotency-Key`: a kick-off that is sent twice starts only one export.

use sha2::{Digest, Sha256};

use crate::request::RequestError;
use crate::vocab::clock::Millis;
use crate::vocab::ids::{Caller, RegistrationId};
use crate::vocab::outcome::IssueCode;

/// The name of the header.
const HEADER: &str = "Idempotency-Key";

/// The maximum length of a key, in bytes.
const MAX_LENGTH: usize = 255;

/// The idempotency key of a request. Only hashes are kept, because the client may consider its key a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The hash of the caller and the key. It includes the caller so that two callers can use the same key.
    pub digest: String,
    /// The hash of the request that the key was sent with.
    pub fingerprint: String,
}

impl IdempotencyKey {
    /// Parses the value of the header.
    ///
    /// * `header`: 1 to 255 visible ASCII characters, either bare or as a quoted string
    ///   (draft-ietf-httpapi-idempotency-key-header, a string of RFC 8941). Both forms denote the same key.
    /// * `request`: the parts of the request that must be equal for two requests to be the same.
    pub fn parse(header: &str, caller: &Caller, request: &[&[u8]]) -> Result<Self, RequestError> {
        let is_valid = |key: &String| (1..=MAX_LENGTH).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        let key = unquote(header.trim()).filter(is_valid).ok_or_else(|| {
            let text = format!("{HEADER} must be one key of 1 to {MAX_LENGTH} visible ASCII characters, bare or in double quotes");
            RequestError::new(400, IssueCode::Value, HEADER, text)
        })?;
        Ok(Self { digest: hash(&[caller.0.as_bytes(), key.as_bytes()]), fingerprint: hash(request) })
    }

    /// Returns the key of the caller's registration, so that a client that is registered again can use the keys of the one before.
    #[must_use]
    pub fn for_registration(self, registration: Option<&RegistrationId>) -> Self {
        match registration {
            None => self,
            Some(RegistrationId(id)) => Self { digest: hash(&[self.digest.as_bytes(), id.as_bytes()]), ..self },
        }
    }

    /// Creates the key of what this owner starts by itself at this time, so that it is started once.
    pub fn from_due_time(owner: &Caller, due_at: Millis) -> Self {
        Self { digest: hash(&[owner.0.as_bytes(), b"due", &due_at.0.to_be_bytes()]), fingerprint: hash(&[]) }
    }

    /// Returns the error for a key that was sent before with another request.
    pub fn reused() -> RequestError {
        let text = format!("this {HEADER} was sent before with another request; send a new key with each new export");
        RequestError::new(422, IssueCode::Invalid, HEADER, text)
    }

    /// Returns the error for a key whose export was cancelled, has expired, or was deleted.
    pub fn job_gone() -> RequestError {
        let text = format!("the export that was started with this {HEADER} was cancelled or has expired; send a new key to start another");
        RequestError::new(409, IssueCode::Conflict, HEADER, text)
    }
}

/// Removes the quotes and escapes of a quoted string; other text is returned unchanged. Returns `None` if a quote or a
/// backslash is misplaced.
fn unquote(text: &str) -> Option<String> {
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

/// Hashes pieces together with their lengths, so that different lists of pieces never hash the same bytes.
fn hash(pieces: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for piece in pieces {
        hasher.update(piece.len().to_be_bytes());
        hasher.update(piece);
    }
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str) -> Result<IdempotencyKey, RequestError> {
        IdempotencyKey::parse(header, &Caller("ann".into()), &[b"request"])
    }

    #[test]
    fn a_bare_and_a_quoted_key_are_the_same() {
        for (quoted, bare) in [
            ("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (" x ", "x"),
        ] {
            assert_eq!(parse(quoted).unwrap(), parse(bare).unwrap(), "{quoted}");
        }
        assert!(parse(&"k".repeat(255)).is_ok());
    }

    #[test]
    fn an_invalid_key_is_rejected() {
        for header in
            ["", "  ", "\"\"", "\"", "\"a", r#""a"b""#, r#""a\n""#, r#""a\""#, "a b", "a, b", "\"a b\"", "ä", "\"ä\"", &"k".repeat(256)]
        {
            let error = parse(header).unwrap_err();
            assert_eq!((error.status, error.expression.as_deref()), (400, Some("Idempotency-Key")), "{header}");
        }
    }

    #[test]
    fn keys_of_different_callers_and_different_requests_differ() {
        let parse = |key: &str, caller: &str, request: &[&[u8]]| IdempotencyKey::parse(key, &Caller(caller.into()), request).unwrap();
        let one = parse("k", "ann", &[b"ab", b"c"]);
        assert_ne!(one.digest, parse("k", "ben", &[b"ab", b"c"]).digest);
        assert_ne!(one.digest, parse("nk", "an", &[b"ab", b"c"]).digest);
        assert_eq!(one.digest, parse("k", "ann", &[]).digest);
        assert_ne!(one.fingerprint, parse("k", "ann", &[b"a", b"bc"]).fingerprint);
        let registered = |id: &str| one.clone().for_registration(Some(&RegistrationId(id.to_owned()))).digest;
        assert!(registered("1") != one.digest && registered("1") != registered("2"));
        assert_eq!(one.clone().for_registration(None), one, "keys of clients that were registered earlier stay as they are");
        assert!(!format!("{:?}", parse("secret-key", "ann", &[])).contains("secret"));
    }
}
