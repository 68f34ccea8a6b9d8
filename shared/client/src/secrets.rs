//! Secrets of a request in the text of its response: servers may repeat what they have received.

use std::cmp::Reverse;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use reqwest::Response;
use reqwest::header::HeaderMap;

/// The text in place of a secret.
const MASK: &str = "[secret]";

/// Length of the shortest secret that is masked, in bytes. A shorter one is in many words.
const MIN_SECRET_BYTES: usize = 4;

/// The secrets that were sent with a request. [`crate::transport::Transport`] adds them to the response.
#[derive(Clone, Default)]
pub struct SentSecrets(Vec<String>);

impl SentSecrets {
    /// Returns the secrets that were sent with the request of a response.
    pub fn from_response(response: &Response) -> Self {
        response.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Collects the secrets of the header fields that are marked as sensitive.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let values = headers.values().filter(|value| value.is_sensitive()).filter_map(|value| value.to_str().ok());
        let mut secrets: Vec<String> = values.flat_map(secret_texts).filter(|secret| secret.len() >= MIN_SECRET_BYTES).collect();
        // A secret may be a part of another one.
        secrets.sort_by_key(|secret| Reverse(secret.len()));
        Self(secrets)
    }

    /// Returns a text of a server without the secrets, and without anything that looks like a JWT: the assertion of a login is one.
    pub fn mask(&self, text: &str) -> String {
        let masked = self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK));
        mask_jwts(&masked)
    }
}

/// Returns the forms in which a server may repeat the value of a header field: as a whole, without its scheme, and the password of HTTP Basic
/// authentication.
fn secret_texts(value: &str) -> Vec<String> {
    let mut texts = vec![value.to_owned()];
    if let Some((scheme, credential)) = value.split_once(' ') {
        texts.push(credential.to_owned());
        let pair = STANDARD.decode(credential).ok().filter(|_| scheme == "Basic").and_then(|pair| String::from_utf8(pair).ok());
        if let Some((_, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) {
            // The secret of an OAuth client is percent-encoded.
            texts.extend([password.to_owned(), percent_decode_str(password).decode_utf8_lossy().into_owned()]);
        }
    }
    texts
}

/// Masks the words of a text that look like a JWT.
fn mask_jwts(text: &str) -> String {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|letter| !is_part(letter)).unwrap_or(rest.len()));
        output += if is_jwt(word) { MASK } else { word };
        let (between, next) = after.split_at(after.find(is_part).unwrap_or(after.len()));
        output += between;
        rest = next;
    }
    output
}

/// Returns true if a word looks like a JWT: at least three segments, one of which is the base64url of a JSON object.
fn is_jwt(word: &str) -> bool {
    word.split('.').count() >= 3 && word.split('.').any(|segment| segment.starts_with("eyJ"))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{AUTHORIZATION, HeaderValue};

    use super::*;

    /// Returns the secrets of a request with this value of `Authorization`.
    fn secrets(value: &str) -> SentSecrets {
        let mut value = HeaderValue::from_str(value).unwrap();
        value.set_sensitive(true);
        SentSecrets::from_headers(&HeaderMap::from_iter([(AUTHORIZATION, value)]))
    }

    #[test]
    fn every_form_of_a_sent_secret_is_masked_and_other_words_stay() {
        let basic = STANDARD.encode("lab:pass%2Fword");
        for (value, text, expected) in [
            ("Bearer opaque-token", "`Bearer opaque-token` has expired", "`[secret]` has expired"),
            ("Bearer opaque-token", "token=opaque-token;", "token=[secret];"),
            ("Bearer abc", "the abc of FHIR", "the abc of FHIR"),
            (format!("Basic {basic}").as_str(), "no pass%2Fword for lab", "no [secret] for lab"),
            (format!("Basic {basic}").as_str(), "no pass/word for lab", "no [secret] for lab"),
            (format!("Basic {basic}").as_str(), format!("got {basic}").as_str(), "got [secret]"),
        ] {
            assert_eq!(secrets(value).mask(text), expected);
        }
    }

    #[test]
    fn a_jwt_is_masked_whoever_has_sent_it() {
        for (text, expected) in [
            ("assertion `eyJhbGciOi.eyJpc3Mi.c2ln_-x` is not valid", "assertion `[secret]` is not valid"),
            ("größe: see fhir.example.org and R4.", "größe: see fhir.example.org and R4."),
            ("", ""),
        ] {
            assert_eq!(SentSecrets::default().mask(text), expected);
        }
    }
}
