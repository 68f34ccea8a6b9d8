//! The base URL of the FHIR server that fills a lake.

use super::sync_report::{SYNC_REPORT_OBJECT, SyncReport};
use super::watermark::parse_filler;
use crate::ports::{MetadataObject, ResourceSource};
use crate::vocab::error::SourceError;

/// Returns the base URL of the server that has filled a lake with this watermark object. `None` if no synchronization has.
///
/// The watermark names it. If the watermark was removed or replaced by another program, the report of the last run does.
pub async fn recorded_origin(source: &impl ResourceSource, watermark: Option<&MetadataObject>) -> Result<Option<String>, SourceError> {
    if let Some(origin) = watermark.and_then(|object| parse_filler(object).origin) {
        return Ok(Some(origin));
    }
    let report = source.read_metadata(SYNC_REPORT_OBJECT).await?;
    let report = report.and_then(|object| serde_json::from_slice::<SyncReport>(&object.bytes).ok());
    // A first run that was incomplete has added nothing.
    Ok(report.filter(|report| report.is_complete || report.from.is_some()).map(|report| report.origin))
}

/// Returns a base URL in the form in which it is compared: scheme and host in lower case, without the port of the scheme and without a
/// slash at the end. The path stays, because a server may tell apart upper and lower case there.
pub fn normalize_base_url(base: &str) -> String {
    let base = base.trim_end_matches('/');
    let Some((scheme, rest)) = base.split_once("://") else { return base.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (scheme, authority) = (scheme.to_ascii_lowercase(), authority.to_lowercase());
    format!("{scheme}://{}{path}", without_default_port(&scheme, &authority))
}

/// Returns a host with its port, unless that is the one of the scheme.
fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    authority.strip_suffix(port).unwrap_or(authority).trim_end_matches(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_server_are_equal_and_paths_are_not() {
        for same in ["https://h.example/R4", "HTTPS://H.Example/R4/", "https://h.example:443/R4", "https://h.example:/R4//"] {
            assert_eq!(normalize_base_url(same), "https://h.example/R4");
        }
        for other in ["http://h.example/R4", "https://h.example/r4", "https://h.example:8443/R4", "https://h.example/R4/tenant"] {
            assert_ne!(normalize_base_url(other), "https://h.example/R4");
        }
        for (base, normal) in [
            ("https://h.example/", "https://h.example"),
            ("http://H.example:80", "http://h.example"),
            ("http://h.example:443", "http://h.example:443"),
            ("https://[2001:DB8::443]:443/fhir", "https://[2001:db8::443]/fhir"),
            ("", ""),
        ] {
            assert_eq!(normalize_base_url(base), normal);
            assert_eq!(normalize_base_url(normal), normal);
        }
    }
}
