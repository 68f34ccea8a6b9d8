//! Content negotiation: the headers `Accept` and `Accept-Encoding` (RFC 9110, section 12.5).

use headrace_core::request::RequestError;
use headrace_core::vocab::outcome::IssueCode;
use headrace_fhir::definitions::FhirVersion;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::{ACCEPT, ACCEPT_ENCODING};

use crate::request::header_values;

/// The media type of FHIR resources in JSON.
const FHIR_JSON: &str = "application/fhir+json";

/// The media type of JSON. Some clients expect it of FHIR servers.
const PLAIN_JSON: &str = "application/json";

/// Returns the weight of a media type in the header `Accept`: that of the most specific range that it matches, so that `q=0` excludes it from
/// a wider range (RFC 9110, section 12.5.1). Ranges of another version of FHIR do not match. `None` if the header is missing or empty.
fn accept_weight(headers: &HeaderMap, media: &str, version: Option<FhirVersion>) -> Option<f32> {
    let values = header_values(headers, &ACCEPT);
    let mut items = values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty()).peekable();
    items.peek()?;
    let is_of_version = |item: &&str| version.is_none_or(|version| !names_other_version(item, version));
    let matches = items.filter(is_of_version).filter_map(|item| {
        let mut pieces = item.split(';').map(|piece| piece.trim().to_ascii_lowercase());
        let specificity = match pieces.next()?.as_str() {
            range if range == media => 2,
            "application/*" => 1,
            "*/*" => 0,
            _ => return None,
        };
        let weight = pieces.find_map(|piece| piece.strip_prefix("q=")?.trim().parse::<f32>().ok()).unwrap_or(1.0);
        Some((specificity, weight))
    });
    let best = matches.max_by(|(one, weight), (other, other_weight)| one.cmp(other).then(weight.total_cmp(other_weight)));
    Some(best.map_or(0.0, |(_, weight)| weight))
}

/// Returns true if a media type names another version of FHIR, such as `fhirVersion=5.0`.
pub(crate) fn names_other_version(media: &str, version: FhirVersion) -> bool {
    let mut parameters = media.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let is_other = |value: &str| !version.as_str().starts_with(value.trim().trim_matches('"'));
    parameters.any(|(name, value)| name.trim().eq_ignore_ascii_case("fhirVersion") && is_other(value))
}

/// Returns true if the header `Accept` allows FHIR JSON. `None` without the header.
pub fn accepts_fhir_json(headers: &HeaderMap) -> Option<bool> {
    accepts_json(headers, None)
}

/// Returns true if the header `Accept` allows FHIR JSON of this version. `None` without the header.
fn accepts_json(headers: &HeaderMap, version: Option<FhirVersion>) -> Option<bool> {
    let weights = [accept_weight(headers, FHIR_JSON, version)?, accept_weight(headers, PLAIN_JSON, version)?];
    Some(weights.into_iter().any(|weight| weight > 0.0))
}

/// Returns true if the header `Accept` allows `application/json` and not `application/fhir+json`.
pub(crate) fn prefers_plain_json(headers: &HeaderMap) -> bool {
    let accepts = |media| accept_weight(headers, media, None).is_some_and(|weight| weight > 0.0);
    accepts(PLAIN_JSON) && !accepts(FHIR_JSON)
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
pub(crate) fn require_fhir_json(headers: &HeaderMap, version: FhirVersion) -> Result<(), RequestError> {
    match accepts_json(headers, Some(version)) {
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
    fn the_most_specific_range_of_a_media_type_counts() {
        for (value, accepts_json, is_plain) in [
            ("application/fhir+json", true, false),
            ("application/json", true, true),
            ("application/json, */*", true, false),
            ("application/json, */*;q=0", true, true),
            ("application/fhir+json;q=0, */*", true, true),
            ("*/*, application/fhir+json; Q=0.000", true, true),
            ("application/json;q=0, application/*", true, false),
            ("application/fhir+json;q=0", false, false),
            ("application/*;q=0, */*", false, false),
            ("application/fhir+json;q=0, application/json;q=0, */*", false, false),
            ("text/html", false, false),
            ("application/fhir+json;q=none", true, false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(value).unwrap())]);
            assert_eq!((accepts_fhir_json(&headers), prefers_plain_json(&headers)), (Some(accepts_json), is_plain), "{value}");
        }
        assert_eq!((accepts_fhir_json(&HeaderMap::new()), prefers_plain_json(&HeaderMap::new())), (None, false));
    }

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
