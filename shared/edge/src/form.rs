//! Form-encoded request bodies of a token endpoint (RFC 6749, appendix B).

use std::collections::BTreeMap;

use lambda_http::Request;
use lambda_http::http::header::CONTENT_TYPE;

use crate::percent;

/// The longest accepted form, in bytes: room for an assertion of 8 KiB and a long list of scopes.
pub const MAX_FORM_BYTES: usize = 16 << 10;

/// The error for a body that is not a valid form. The text is for the client and repeats nothing of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The media type is missing or another one.
    #[error("send the parameters in the body, with Content-Type: application/x-www-form-urlencoded")]
    MediaType,
    /// The body is longer than 16 KiB.
    #[error("the body is longer than 16 KiB")]
    TooLong,
    /// The body is not percent-encoded UTF-8.
    #[error("the body is not percent-encoded UTF-8")]
    Encoding,
    /// A parameter is repeated.
    #[error("a parameter is given more than once: give each once")]
    DuplicateParameter,
}

/// The parameters of a form. One without a value counts as omitted (RFC 6749, section 3.2).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    /// Parses the body of a request, after checking its media type.
    pub fn from_request(request: &Request) -> Result<Self, FormError> {
        let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(FormError::MediaType);
        }
        Self::parse(request.body().as_ref())
    }

    /// Parses a URL-encoded form. Rejects repeated parameters.
    pub fn parse(body: &[u8]) -> Result<Self, FormError> {
        if body.len() > MAX_FORM_BYTES {
            return Err(FormError::TooLong);
        }
        let mut form = BTreeMap::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut pieces = pair.splitn(2, |byte| *byte == b'=');
            let (name, value) = (decode(pieces.next().unwrap_or_default())?, decode(pieces.next().unwrap_or_default())?);
            if form.insert(name, value).is_some() {
                return Err(FormError::DuplicateParameter);
            }
        }
        Ok(Self(form))
    }

    /// Returns the value of a parameter. `None` if it is omitted or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Decodes a percent-encoded name or value of a form. A `+` encodes a space.
fn decode(piece: &[u8]) -> Result<String, FormError> {
    let with_spaces: Vec<u8> = piece.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent::decode(&with_spaces).ok_or(FormError::Encoding)
}

#[cfg(test)]
mod tests {
    use lambda_http::Body;

    use super::*;

    // Holds: SEC-A5
    #[test]
    fn a_form_is_parsed_as_browsers_and_clients_encode_it() {
        let form =
            Form::parse(b"grant_type=client_credentials&scope=system%2FPatient.read+system/Group.rs%20x&empty=&&flag&%70=a%2Bb=c").unwrap();
        assert_eq!(form.get("grant_type"), Some("client_credentials"));
        assert_eq!(form.get("scope"), Some("system/Patient.read system/Group.rs x"));
        assert_eq!(form.get("p"), Some("a+b=c"));
        for absent in ["empty", "flag", "other", ""] {
            assert_eq!(form.get(absent), None, "{absent}");
        }
    }

    // Holds: SEC-A5
    #[test]
    fn an_invalid_form_is_rejected() {
        for (body, expected) in [
            (&b"a=1&a=2"[..], FormError::DuplicateParameter),
            (b"a=1&%61=2", FormError::DuplicateParameter),
            (b"a=&a=2", FormError::DuplicateParameter),
            (b"a=%", FormError::Encoding),
            (b"a=%4", FormError::Encoding),
            (b"%zz=1", FormError::Encoding),
            (b"a=%ff", FormError::Encoding),
            (b"\xff", FormError::Encoding),
            (&[b'a'; 20_000], FormError::TooLong),
        ] {
            assert_eq!(Form::parse(body).err(), Some(expected), "{}", String::from_utf8_lossy(body));
        }
        for (media_type, is_accepted) in [
            (Some("application/x-www-form-urlencoded"), true),
            (Some("Application/X-WWW-Form-Urlencoded; charset=utf-8"), true),
            (Some("application/json"), false),
            (Some("text/plain; application/x-www-form-urlencoded"), false),
            (None, false),
        ] {
            let request = lambda_http::http::Request::builder();
            let request = media_type.into_iter().fold(request, |request, media_type| request.header("content-type", media_type));
            assert_eq!(Form::from_request(&request.body(Body::from("a=1")).unwrap()).is_ok(), is_accepted, "{media_type:?}");
        }
    }
}
