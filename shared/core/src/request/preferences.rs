//! The headers of a kick-off: what the client takes as an answer, and how it wants to be served.

use super::Refusal;
use crate::vocab::outcome::IssueCode;

/// What `Prefer` says, as far as it matters here (RFC 7240; Bulk Data Access, "Headers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Preferences {
    /// `handling=lenient`; strict otherwise.
    pub(super) is_lenient: bool,
    /// `separate-export-status`.
    pub(super) separates_status: bool,
}

impl Preferences {
    /// Reads every value of the header. Preferences that are not known are ignored, as the RFC says.
    pub(super) fn read(prefer: &[String]) -> Result<Self, Refusal> {
        let (mut responds_async, mut separates_status, mut handling) = (false, false, None::<bool>);
        for preference in prefer.iter().flat_map(|header| split_unquoted(header, ',')) {
            let bare = split_unquoted(preference, ';').next().unwrap_or_default();
            let (name, value) = bare.split_once('=').unwrap_or((bare, ""));
            let value = value.trim().trim_matches('"');
            match (name.trim().to_ascii_lowercase().as_str(), value.to_ascii_lowercase().as_str()) {
                ("respond-async", "") => responds_async = true,
                ("separate-export-status", "") => separates_status = true,
                ("handling", asked @ ("lenient" | "strict")) => {
                    let is_lenient = asked == "lenient";
                    if handling.replace(is_lenient).is_some_and(|before| before != is_lenient) {
                        let text = "Prefer asks for handling=strict and for handling=lenient: send one of them";
                        return Err(Refusal::of(400, IssueCode::Invalid, "Prefer", text));
                    }
                }
                (_, _) => {}
            }
        }
        if !responds_async {
            let text = "an export runs asynchronously only: send the header `Prefer: respond-async`";
            return Err(Refusal::of(400, IssueCode::Required, "Prefer", text));
        }
        Ok(Self { is_lenient: handling.unwrap_or(false), separates_status })
    }
}

/// The pieces of a header between separators that stand outside of quoted strings.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        let is_cut = c == separator && !is_quoted;
        is_quoted ^= c == '"' && !is_escaped;
        is_escaped = is_quoted && c == '\\' && !is_escaped;
        is_cut
    })
}

/// Refuses a request whose sender could not read an OperationOutcome in JSON.
pub(super) fn require_accept(accept: &[String]) -> Result<(), Refusal> {
    let ranges: Vec<&str> = accept.iter().flat_map(|header| header.split(',')).map(str::trim).filter(|range| !range.is_empty()).collect();
    if ranges.is_empty() {
        let text = "the header Accept is missing: send `Accept: application/fhir+json`";
        return Err(Refusal::of(400, IssueCode::Required, "Accept", text));
    }
    let served = |range: &&str| {
        let mut pieces = range.split(';').map(str::trim);
        let media = pieces.next().unwrap_or_default().to_ascii_lowercase();
        let refused =
            pieces.any(|parameter| parameter.to_ascii_lowercase().strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0_f32)));
        !refused && matches!(media.as_str(), "application/fhir+json" | "application/json" | "application/*" | "*/*")
    };
    if ranges.iter().any(served) {
        return Ok(());
    }
    let text = "nothing in the header Accept can be served: send `Accept: application/fhir+json`";
    Err(Refusal::of(406, IssueCode::NotSupported, "Accept", text))
}
