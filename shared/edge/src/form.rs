//! Forms, as they are posted to a token endpoint (RFC 6749, appendix B).

use std::collections::BTreeMap;

use lambda_http::Request;
use lambda_http::http::header::CONTENT_TYPE;
use percent_encoding::percent_decode;

/// The longest form that is read, in bytes: an assertion of 8 KiB and a long list of scopes.
const LIMIT_BYTES: usize = 16 << 10;

/// The body is no form that can be read. For the client's eyes: nothing of the body is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadForm {
    /// Another media type, or none.
    #[error("send the parameters in the body, with Content-Type: application/x-www-form-urlencoded")]
    MediaType,
    /// Longer than 16 KiB.
    #[error("the body is longer than 16 KiB")]
    Long,
    /// Not percent-encoded UTF-8.
    #[error("the body is not percent-encoded UTF-8")]
    Encoding,
    /// A parameter stands in it more than once.
    #[error("a parameter is given more than once: give each once")]
    Twice,
}

/// What a form says, each parameter once. One without a value counts as left out (RFC 6749, section 3.2).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads the body of a request.
    pub fn read(request: &Request) -> Result<Self, BadForm> {
        let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(BadForm::MediaType);
        }
        Self::parse(request.body().as_ref())
    }

    /// Reads a form's bytes.
    pub fn parse(body: &[u8]) -> Result<Self, BadForm> {
        if body.len() > LIMIT_BYTES {
            return Err(BadForm::Long);
        }
        let mut form = BTreeMap::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut pieces = pair.splitn(2, |byte| *byte == b'=');
            let (name, value) = (decoded(pieces.next().unwrap_or_default())?, decoded(pieces.next().unwrap_or_default())?);
            if form.insert(name, value).is_some() {
                return Err(BadForm::Twice);
            }
        }
        Ok(Self(form))
    }

    /// The value of a parameter; `None` if it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

fn decoded(piece: &[u8]) -> Result<String, BadForm> {
    let is_hex = |rest: &[u8]| rest.get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !piece.split(|byte| *byte == b'%').skip(1).all(is_hex) {
        return Err(BadForm::Encoding);
    }
    let blanks: Vec<u8> = piece.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&blanks).decode_utf8().map(String::from).map_err(|_| BadForm::Encoding)
}

#[cfg(test)]
mod tests {
    use lambda_http::Body;

    use super::*;

    // Holds: SEC-A5
    #[test]
    fn a_form_is_read_as_browsers_and_clients_write_it() {
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
    fn what_is_no_form_is_refused() {
        for (body, expected) in [
            (&b"a=1&a=2"[..], BadForm::Twice),
            (b"a=1&%61=2", BadForm::Twice),
            (b"a=&a=2", BadForm::Twice),
            (b"a=%", BadForm::Encoding),
            (b"a=%4", BadForm::Encoding),
            (b"%zz=1", BadForm::Encoding),
            (b"a=%ff", BadForm::Encoding),
            (b"\xff", BadForm::Encoding),
            (&[b'a'; 20_000], BadForm::Long),
        ] {
            assert_eq!(Form::parse(body).err(), Some(expected), "{}", String::from_utf8_lossy(body));
        }
        for (media_type, is_read) in [
            (Some("application/x-www-form-urlencoded"), true),
            (Some("Application/X-WWW-Form-Urlencoded; charset=utf-8"), true),
            (Some("application/json"), false),
            (Some("text/plain; application/x-www-form-urlencoded"), false),
            (None, false),
        ] {
            let request = lambda_http::http::Request::builder();
            let request = media_type.into_iter().fold(request, |request, media_type| request.header("content-type", media_type));
            assert_eq!(Form::read(&request.body(Body::from("a=1")).unwrap()).is_ok(), is_read, "{media_type:?}");
        }
    }
}
