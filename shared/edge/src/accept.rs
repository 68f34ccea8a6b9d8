//! Content negotiation: the headers `Accept` and `Accept-Encoding` (RFC 9110, section 12.5).

use headrace_core::request::RequestError;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};

use crate::request::header_values;

/// Returns true if the header `name` lists a value that `is_match` accepts and that `q=0` does not exclude. `None` if the
/// header is missing or empty.
///
/// `is_match` gets each value in lower case, without parameters.
fn accepts(headers: &HeaderMap, name: &HeaderName, is_match: impl Fn(&str) -> bool) -> Option<bool> {
    let values = header_values(headers, name);
    let mut items = values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty()).peekable();
    items.peek()?;
    Some(items.any(|item| {
        let mut pieces = item.split(';').map(|piece| piece.trim().to_ascii_lowercase());
        let is_listed = pieces.next().is_some_and(|name| is_match(&name));
        is_listed && !pieces.any(|piece| piece.strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0_f32)))
    }))
}

/// Returns true if the header `Accept` allows FHIR JSON. `None` without the header.
pub fn accepts_fhir_json(headers: &HeaderMap) -> Option<bool> {
    accepts(headers, &ACCEPT, |media| matches!(media, "application/fhir+json" | "application/json" | "application/*" | "*/*"))
}

/// Returns true if the header `Accept` asks for `application/json` and for no other media type of an OperationOutcome.
pub(crate) fn prefers_plain_json(headers: &HeaderMap) -> bool {
    let lists = |is_match: fn(&str) -> bool| accepts(headers, &ACCEPT, is_match) == Some(true);
    lists(|media| media == "application/json") && !lists(|media| matches!(media, "application/fhir+json" | "application/*" | "*/*"))
}

/// A content coding that this service can apply to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentCoding {
    /// The bytes as they are.
    Identity,
    /// gzip.
    Gzip,
}

/// The content codings that a client accepts (RFC 9110, section 12.5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AcceptedCodings {
    /// The weight of `identity`, if it is listed.
    identity: Option<f32>,
    /// The weight of `gzip`, if it is listed.
    gzip: Option<f32>,
    /// The weight of `*`, if it is listed.
    other: Option<f32>,
}

impl AcceptedCodings {
    /// Reads the header `Accept-Encoding`. Without it, only the bytes as they are count as accepted: many clients that do not send it cannot
    /// decode anything.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut codings = Self::default();
        let values = header_values(headers, &ACCEPT_ENCODING);
        for item in values.iter().flat_map(|value| value.split(',')) {
            let mut pieces = item.split(';').map(|piece| piece.trim().to_ascii_lowercase());
            let name = pieces.next().unwrap_or_default();
            let weight = pieces.find_map(|piece| piece.strip_prefix("q=")?.trim().parse::<f32>().ok()).unwrap_or(1.0);
            match name.as_str() {
                "identity" => codings.identity = Some(weight),
                "gzip" | "x-gzip" => codings.gzip = Some(weight),
                "*" => codings.other = Some(weight),
                _ => {}
            }
        }
        codings
    }

    /// Returns true if the bytes as they are are accepted. They are, unless the client excludes them.
    pub fn accepts_identity(self) -> bool {
        self.identity.or(self.other).is_none_or(|weight| weight > 0.0)
    }

    /// Returns the coding to use: gzip if the client names it and does not prefer the bytes as they are. `None` if the client accepts neither.
    pub fn preferred(self) -> Option<ContentCoding> {
        let named = self.gzip.filter(|weight| *weight > 0.0 && *weight >= self.identity.unwrap_or(0.0));
        match (named, self.accepts_identity(), self.gzip.or(self.other)) {
            (Some(_), _, _) => Some(ContentCoding::Gzip),
            (None, true, _) => Some(ContentCoding::Identity),
            (None, false, Some(weight)) if weight > 0.0 => Some(ContentCoding::Gzip),
            (None, false, _) => None,
        }
    }
}

/// Rejects a kick-off whose client does not accept an OperationOutcome in JSON. The header `Accept` is required, as in Azure
/// API for FHIR.
pub(crate) fn require_fhir_json(headers: &HeaderMap) -> Result<(), RequestError> {
    match accepts_fhir_json(headers) {
        Some(true) => Ok(()),
        Some(false) => {
            let text = "no media type in the header Accept is supported: send `Accept: application/fhir+json`";
            Err(RequestError::new(406, IssueCode::NotSupported, "Accept", text))
        }
        None => {
            let text = "the header Accept is missing: send `Accept: application/fhir+json`";
            Err(RequestError::new(400, IssueCode::Required, "Accept", text))
        }
    }
}

#[cfg(test)]
mod tests {
    use lambda_http::http::HeaderValue;

    use super::*;

    #[test]
    fn the_coding_follows_the_weights_of_the_client() {
        use ContentCoding::{Gzip, Identity};
        let preferred = |value: &str| {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap())]);
            AcceptedCodings::from_headers(&headers).preferred()
        };
        assert_eq!(AcceptedCodings::from_headers(&HeaderMap::new()).preferred(), Some(Identity));
        for (value, coding) in [
            ("", Some(Identity)),
            ("gzip", Some(Gzip)),
            ("GZIP;Q=0.5", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("deflate, gzip;q=1.0, *;q=0.5", Some(Gzip)),
            ("gzip;q=0", Some(Identity)),
            ("gzip;q=0.000, br", Some(Identity)),
            ("gzip;q=0.5, identity", Some(Identity)),
            ("gzip;q=0.5, identity;q=0.5", Some(Gzip)),
            ("br", Some(Identity)),
            ("*", Some(Identity)),
            ("identity;q=0", None),
            ("identity;q=0, br", None),
            ("*;q=0", None),
            ("*;q=0, gzip", Some(Gzip)),
            ("*;q=0, identity;q=0.1", Some(Identity)),
            ("identity;q=0, *", Some(Gzip)),
            ("identity;q=0, *, gzip;q=0", None),
            ("identity;q=0, gzip;q=0.001", Some(Gzip)),
            ("gzip;q=none", Some(Gzip)),
        ] {
            assert_eq!(preferred(value), coding, "{value:?}");
        }
    }
}
