//! The requests that the page may send to the server: those of the Bulk Data API, below its base URL, and no others.

use percent_encoding::percent_decode_str;
use reqwest::{Method, Url};

/// A request of the page that may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// URL at the server.
    pub(super) url: Url,
    /// Name of the file, for the download of a file.
    pub(super) file: Option<String>,
}

impl Target {
    /// Returns the target of a request, or `None` if the page has no such request.
    ///
    /// * `path`: the path below the base URL, percent-encoded.
    pub(super) fn new(base: &Url, method: &Method, path: &str, query: Option<&str>) -> Option<Self> {
        let segments: Vec<String> = path.split('/').map(decode_segment).collect::<Option<_>>()?;
        let names: Vec<&str> = segments.iter().map(String::as_str).collect();
        let file = match (method.as_str(), &names[..]) {
            ("GET", ["metadata" | "Group" | "$export"] | ["Patient", "$export"] | ["Patient" | "Group", _, "$export"]) => None,
            ("GET", ["_operations", "export"]) => None,
            ("GET" | "DELETE", ["_operations", "export", _]) => None,
            ("GET", ["_operations", "files", _, name]) => Some((*name).to_owned()),
            (_, _) => return None,
        };
        let mut url = base.clone();
        // Each segment is encoded anew, so that none can leave the base URL.
        url.path_segments_mut().ok()?.pop_if_empty().extend(&segments);
        url.set_query(query);
        Some(Self { url, file })
    }
}

/// Decodes a segment of a path. Returns `None` if it could be more than one segment, or another one.
fn decode_segment(segment: &str) -> Option<String> {
    let text = percent_decode_str(segment).decode_utf8().ok()?;
    let is_plain = !matches!(&*text, "" | "." | "..") && !text.contains(['/', '\\', '%', '?', '#']) && !text.chars().any(char::is_control);
    is_plain.then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the URL to which a request of the page goes.
    fn target(method: Method, path: &str) -> Option<String> {
        let base = Url::parse("https://fhir.example.org/r4").unwrap();
        Target::new(&base, &method, path, Some("_count=1")).map(|target| target.url.to_string())
    }

    #[test]
    fn requests_of_the_page_go_below_the_base_url() {
        for (path, below) in [
            ("metadata", "metadata"),
            ("$export", "$export"),
            ("%24export", "$export"),
            ("Group/a%20b/$export", "Group/a%20b/$export"),
            ("_operations/export/0a", "_operations/export/0a"),
            ("_operations/files/0a/Patient-1.ndjson", "_operations/files/0a/Patient-1.ndjson"),
        ] {
            assert_eq!(target(Method::GET, path).unwrap(), format!("https://fhir.example.org/r4/{below}?_count=1"));
        }
        assert!(target(Method::DELETE, "_operations/export/0a").is_some());
    }

    #[test]
    fn other_requests_are_not_sent() {
        for path in [
            "",
            "token",
            "Patient",
            "Patient/1",
            "../admin",
            "_operations/export/..",
            "_operations/export/%2e%2e",
            "_operations/export/%252e%252e",
            "_operations/export/..%2f..%2fadmin",
            "_operations/export/..%5cadmin",
            "_operations//export",
            "Group/../$export",
            "_operations/files/0a/../../x",
            "Group/a?b/$export",
            "Group/%ff/$export",
            "/evil.example/metadata",
            "http:/evil.example/metadata",
        ] {
            assert_eq!(target(Method::GET, path), None, "{path}");
        }
        for (method, path) in [(Method::POST, "$export"), (Method::DELETE, "_operations/files/0a/x"), (Method::PUT, "metadata")] {
            assert_eq!(target(method, path), None, "{path}");
        }
    }
}
