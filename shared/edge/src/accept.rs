//! Content negotiation: the headers `Accept` and `Accept-Encoding` (RFC 9110, section 12.5).

use headrace_core::request::RequestError;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::{ACCEPT, HeaderName};

use crate::request::header_values;

/// Returns true if the header `name` lists a value that `is_match` accepts and that `q=0` does not exclude. `None` if the
/// header is missing or empty.
///
/// `is_match` gets each value in lower case, without parameters.
pub fn accepts(headers: &HeaderMap, name: &HeaderName, is_match: impl Fn(&str) -> bool) -> Option<bool> {
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
