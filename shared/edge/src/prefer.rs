//! The header `Prefer` of a kick-off (RFC 7240; Bulk Data Access, "Headers").

use headrace_core::request::{Preferences, RequestError};
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::HeaderName;

use crate::request::header_values;

/// Parses all `Prefer` headers of a kick-off. Unknown preferences are ignored, as the RFC says.
///
/// Fails without `respond-async`, and if `handling` is given with both values.
pub(crate) fn parse_preferences(headers: &HeaderMap) -> Result<Preferences, RequestError> {
    let (mut responds_async, mut separates_status, mut handling) = (false, false, None::<bool>);
    let values = header_values(headers, &HeaderName::from_static("prefer"));
    for preference in values.iter().flat_map(|header| split_unquoted(header, ',')) {
        let without_parameters = split_unquoted(preference, ';').next().unwrap_or_default();
        let (name, value) = without_parameters.split_once('=').unwrap_or((without_parameters, ""));
        let value = value.trim().trim_matches('"');
        match (name.trim().to_ascii_lowercase().as_str(), value.to_ascii_lowercase().as_str()) {
            ("respond-async", "") => responds_async = true,
            ("separate-export-status", "") => separates_status = true,
            ("handling", value @ ("lenient" | "strict")) => {
                let is_lenient = value == "lenient";
                if handling.replace(is_lenient).is_some_and(|before| before != is_lenient) {
                    let text = "Prefer contains both handling=strict and handling=lenient: send one of them";
                    return Err(RequestError::new(400, IssueCode::Invalid, "Prefer", text));
                }
            }
            (_, _) => {}
        }
    }
    if !responds_async {
        let text = "exports are asynchronous only: send the header `Prefer: respond-async`";
        return Err(RequestError::new(400, IssueCode::Required, "Prefer", text));
    }
    Ok(Preferences { is_lenient: handling.unwrap_or(false), separates_status })
}

/// Splits a header at separators outside of quoted strings.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        let is_boundary = c == separator && !is_quoted;
        is_quoted ^= c == '"' && !is_escaped;
        is_escaped = is_quoted && c == '\\' && !is_escaped;
        is_boundary
    })
}
