//! The local server keeps the rules of HTTP (RFC 9110 and 9112): ranges, conditions, content codings, methods and error responses.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "an absent member is Null, which the tests then reject, and a response that is no JSON is a failed test"
)]

use bytes::Bytes;
use headrace_local::client::bulk::BulkClient;
use headrace_local::server::service::ServerAccess;
use headrace_tests::flows::{Result, run, server_config, start_local_server};
use headrace_tests::lake;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use tempfile::TempDir;

/// Server with one complete export.
struct ExportedFile {
    http: reqwest::Client,
    base: String,
    status: Url,
    file: String,
    /// Content of the file.
    content: Bytes,
    etag: String,
    last_modified: String,
    _state: TempDir,
}

impl ExportedFile {
    /// Starts a server without access control and exports the patients of the sample lake.
    async fn create() -> Result<Self> {
        let state = tempfile::tempdir()?;
        let base = start_local_server(server_config(&lake::sample_lake_dir(), state.path(), ServerAccess::None)).await?;
        let client = BulkClient::without_credential(Some(std::time::Duration::from_millis(5)))?;
        let status = client.kick_off(&base, "$export", &[("_type", "Patient".to_owned())], false).await?;
        let manifest = client.wait_for_manifest(&status, |_| {}).await?;
        let file = manifest.output.first().ok_or("no file")?.url.clone();
        let http = reqwest::Client::builder().build()?;
        let whole = http.get(&file).send().await?;
        let header = |name: &str| -> Result<String> { Ok(whole.headers().get(name).ok_or(name.to_owned())?.to_str()?.to_owned()) };
        let (etag, last_modified) = (header("etag")?, header("last-modified")?);
        let folder = std::fs::read_dir(state.path().join("files"))?.next().ok_or("no folder of the export")??.path();
        let content = std::fs::read(folder.join(file.rsplit('/').next().ok_or("no name")?))?;
        assert_eq!(whole.bytes().await?, content);
        Ok(Self { http, base, status, file, content: content.into(), etag, last_modified, _state: state })
    }

    /// Sends a request. In header values, `{etag}` and `{date}` stand for the validators of the file.
    async fn send(&self, method: &str, url: &str, headers: &[(&str, &str)]) -> Result<(StatusCode, HeaderMap, Bytes)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = value.replace("{etag}", &self.etag).replace("{date}", &self.last_modified);
            map.append(HeaderName::try_from(*name)?, HeaderValue::try_from(value)?);
        }
        let response = self.http.request(Method::from_bytes(method.as_bytes())?, url).headers(map).send().await?;
        Ok((response.status(), response.headers().clone(), response.bytes().await?))
    }
}

/// Expected answer to a request for the file.
enum Answer {
    /// The whole file.
    Whole,
    /// The bytes from the first to the last.
    Part(usize, usize),
    /// The whole file in gzip.
    Gzip,
    /// No body, because the client has the file.
    NotModified,
    /// OperationOutcome with this status.
    Outcome(u16),
}

/// Decompresses gzip.
async fn gunzip(bytes: &[u8]) -> Result<Vec<u8>> {
    use tokio::io::AsyncReadExt as _;
    let mut content = Vec::new();
    async_compression::tokio::bufread::GzipDecoder::new(bytes).read_to_end(&mut content).await?;
    Ok(content)
}

/// Checks that a response is an OperationOutcome that says something, of the media type that every client reads.
fn check_outcome(headers: &HeaderMap, body: &[u8], context: &str) {
    assert_eq!(headers.get("content-type").map(HeaderValue::as_bytes), Some(&b"application/fhir+json"[..]), "{context}");
    let outcome: serde_json::Value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(outcome["resourceType"], "OperationOutcome", "{context}");
    assert!(outcome["issue"][0]["diagnostics"].as_str().is_some_and(|text| text.len() > 20), "{context}: {outcome}");
}

impl Answer {
    /// Checks a response to a GET of the file.
    async fn check(&self, file: &ExportedFile, (status, headers, body): (StatusCode, HeaderMap, Bytes), context: &str) -> Result<()> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let length = file.content.len();
        let expected = match self {
            Self::Whole | Self::Gzip => 200,
            Self::Part(..) => 206,
            Self::NotModified => 304,
            Self::Outcome(status) => *status,
        };
        assert_eq!(status.as_u16(), expected, "{context}");
        assert_eq!(header("cache-control"), Some("no-store"), "{context}");
        match self {
            Self::Whole => {
                assert_eq!((header("content-encoding"), header("content-range")), (None, None), "{context}");
                assert_eq!((header("accept-ranges"), header("content-length")), (Some("bytes"), Some(&*length.to_string())), "{context}");
                assert_eq!(body, file.content, "{context}");
            }
            Self::Part(first, last) => {
                assert_eq!(header("content-range"), Some(&*format!("bytes {first}-{last}/{length}")), "{context}");
                assert_eq!(header("content-length"), Some(&*(last + 1 - first).to_string()), "{context}");
                assert_eq!(body, file.content.slice(*first..=*last), "{context}");
            }
            Self::Gzip => {
                assert_eq!((header("content-encoding"), header("content-length")), (Some("gzip"), None), "{context}");
                assert_eq!(gunzip(&body).await?, file.content, "{context}");
            }
            Self::NotModified => assert!(body.is_empty(), "{context}"),
            Self::Outcome(status) => {
                check_outcome(&headers, &body, context);
                assert_eq!(header("content-range"), (*status == 416).then(|| format!("bytes */{length}")).as_deref(), "{context}");
            }
        }
        if matches!(self, Self::Whole | Self::Part(..) | Self::Gzip) {
            assert_eq!(header("content-type"), Some("application/fhir+ndjson"), "{context}");
            assert!(header("vary").is_some_and(|vary| vary.contains("Accept-Encoding")), "{context}");
        }
        if !matches!(self, Self::Outcome(_)) {
            assert_eq!(header("last-modified"), Some(&*file.last_modified), "{context}");
            // The compressed file is another representation, so it has another tag.
            let is_same = header("etag") == Some(&*file.etag);
            assert!(is_same != matches!(self, Self::Gzip), "{context}");
        }
        Ok(())
    }
}

// Holds: F1, F5
#[test]
fn files_are_sent_by_the_rules_of_http() -> Result<()> {
    run(async || {
        let file = ExportedFile::create().await?;
        let length = file.content.len();
        let last = length - 1;
        let (from_end, behind_end) = (format!("bytes={last}-"), format!("bytes={length}-"));
        let (past, future) = ("Thu, 01 Jan 2015 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT");
        use Answer::{Gzip, NotModified, Outcome, Part, Whole};
        let rows: Vec<(Vec<(&str, &str)>, Answer)> = vec![
            (vec![], Whole),
            // Ranges (section 14).
            (vec![("range", "bytes=10-19")], Part(10, 19)),
            (vec![("range", "bytes=0-0")], Part(0, 0)),
            (vec![("range", "BYTES=5-")], Part(5, last)),
            (vec![("range", "bytes=0-99999999999999999999999")], Part(0, last)),
            (vec![("range", "bytes=-7")], Part(length - 7, last)),
            (vec![("range", "bytes=-99999999999999999999999")], Part(0, last)),
            (vec![("range", &from_end)], Part(last, last)),
            (vec![("range", &behind_end)], Outcome(416)),
            (vec![("range", "bytes=99999999999999999999999-")], Outcome(416)),
            (vec![("range", "bytes=-0")], Outcome(416)),
            (vec![("range", "lines=0-9")], Whole),
            (vec![("range", "bytes=0-1,5-6")], Whole),
            (vec![("range", "bytes=0-1"), ("range", "bytes=5-6")], Whole),
            (vec![("range", "bytes=9-1")], Whole),
            (vec![("range", "bytes=one-two")], Whole),
            (vec![("range", "nonsense")], Whole),
            // Conditions on ranges (section 13.1.5).
            (vec![("range", "bytes=1-2"), ("if-range", "{etag}")], Part(1, 2)),
            (vec![("range", "bytes=1-2"), ("if-range", "\"other\"")], Whole),
            (vec![("range", "bytes=1-2"), ("if-range", "W/{etag}")], Whole),
            (vec![("range", "bytes=1-2"), ("if-range", "{date}")], Part(1, 2)),
            (vec![("range", "bytes=1-2"), ("if-range", past)], Whole),
            (vec![("range", "bytes=1-2"), ("if-range", future)], Whole),
            (vec![("range", &behind_end), ("if-range", "\"other\"")], Whole),
            (vec![("if-range", "\"other\"")], Whole),
            // Conditions (section 13.2.2).
            (vec![("if-none-match", "{etag}")], NotModified),
            (vec![("if-none-match", "\"a\", W/{etag}")], NotModified),
            (vec![("if-none-match", "*")], NotModified),
            (vec![("if-none-match", "\"other\"")], Whole),
            (vec![("if-none-match", "\"other\""), ("if-modified-since", future)], Whole),
            (vec![("if-modified-since", "{date}")], NotModified),
            (vec![("if-modified-since", past)], Whole),
            (vec![("if-modified-since", "not a date")], Whole),
            (vec![("if-match", "{etag}")], Whole),
            (vec![("if-match", "\"other\"")], Outcome(412)),
            (vec![("if-match", "\"other\""), ("range", "bytes=0-1")], Outcome(412)),
            (vec![("if-match", "\"other\""), ("if-none-match", "{etag}")], Outcome(412)),
            (vec![("if-unmodified-since", past)], Outcome(412)),
            (vec![("if-match", "{etag}"), ("if-unmodified-since", past)], Whole),
            (vec![("if-none-match", "{etag}"), ("range", "bytes=0-1")], NotModified),
            // Content codings (section 12.5.3).
            (vec![("accept-encoding", "gzip")], Gzip),
            (vec![("accept-encoding", "br, gzip;q=0.5")], Gzip),
            (vec![("accept-encoding", "gzip;q=0.5, identity")], Whole),
            (vec![("accept-encoding", "gzip;q=0")], Whole),
            (vec![("accept-encoding", "br")], Whole),
            (vec![("accept-encoding", "identity;q=0")], Outcome(406)),
            (vec![("accept-encoding", "*;q=0")], Outcome(406)),
            (vec![("accept-encoding", "identity;q=0, gzip")], Gzip),
            (vec![("accept-encoding", "identity;q=0, *")], Gzip),
            (vec![("accept-encoding", "gzip"), ("range", "bytes=3-4")], Part(3, 4)),
            (vec![("accept-encoding", "identity;q=0, gzip"), ("range", "bytes=3-4")], Gzip),
            (vec![("accept-encoding", "gzip"), ("if-none-match", "{etag}")], Gzip),
        ];
        for (headers, answer) in &rows {
            let context = format!("{headers:?}");
            answer.check(&file, file.send("GET", &file.file, headers).await?, &context).await?;
        }
        assert!(rows.len() >= 50);
        Ok(())
    })
}

#[test]
fn head_has_the_headers_of_get_and_no_body_on_every_route() -> Result<()> {
    run(async || {
        let file = ExportedFile::create().await?;
        let url = |path: &str| format!("{}{path}", file.base);
        let rows: [(String, &[(&str, &str)]); 12] = [
            (file.file.clone(), &[]),
            (file.file.clone(), &[("if-none-match", "{etag}")]),
            (file.file.clone(), &[("if-match", "\"other\"")]),
            (file.file.clone(), &[("accept-encoding", "gzip")]),
            (file.status.to_string(), &[]),
            (url("/metadata"), &[]),
            (url("/metadata"), &[("accept-encoding", "gzip")]),
            (url("/OperationDefinition/export"), &[("accept-encoding", "identity;q=0, gzip")]),
            (url("/Group"), &[]),
            (url("/_operations/export"), &[]),
            (url("/_operations/export/unknown"), &[]),
            (url("/nowhere/at/all"), &[]),
        ];
        for (url, headers) in rows {
            let (get, head) = (file.send("GET", &url, headers).await?, file.send("HEAD", &url, headers).await?);
            assert_eq!(get.0, head.0, "{url}");
            let named = |headers: &HeaderMap| {
                let skipped = ["date", "transfer-encoding", "connection"];
                let mut all: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
                all.retain(|(name, _)| !skipped.contains(&name.as_str()));
                // Compressed responses of unknown length may leave it out of a HEAD.
                if headers.contains_key("content-encoding") {
                    all.retain(|(name, _)| name != "content-length");
                }
                all.sort_by(|one, other| one.0.cmp(&other.0));
                all
            };
            assert_eq!(named(&get.1), named(&head.1), "{url} {headers:?}");
            assert!(head.2.is_empty(), "{url}");
        }
        // A range applies to GET only.
        let (status, headers, _) = file.send("HEAD", &file.file, &[("range", "bytes=0-1")]).await?;
        assert_eq!((status.as_u16(), headers["content-length"].to_str()?), (200, &*file.content.len().to_string()));
        Ok(())
    })
}

#[test]
fn the_methods_of_a_405_are_those_that_the_path_supports() -> Result<()> {
    run(async || {
        let file = ExportedFile::create().await?;
        let url = |path: &str| format!("{}{path}", file.base);
        let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];
        for (url, allowed) in [
            (url("/$export"), "GET, POST"),
            (url("/%24export"), "GET, POST"),
            (url("/Patient/$export"), "GET, POST"),
            (url("/Patient/p/$export"), "GET, POST"),
            (url("/Group/g/$export"), "GET, POST"),
            (url("/metadata"), "GET, HEAD"),
            (url("/OperationDefinition"), "GET, HEAD"),
            (url("/OperationDefinition/export"), "GET, HEAD"),
            (url("/.well-known/smart-configuration"), "GET, HEAD"),
            (url("/Group"), "GET, HEAD"),
            (url("/Group/g"), "GET, HEAD"),
            (url("/_operations/export"), "GET, HEAD"),
            (url("/_operations/export/0123456789abcdef0123456789abcdef"), "GET, HEAD, DELETE"),
            (file.file.clone(), "GET, HEAD"),
        ] {
            for method in methods {
                let context = format!("{method} {url}");
                let (status, headers, body) = file.send(method, &url, &[]).await?;
                let is_allowed = allowed.split(", ").any(|one| one == method);
                match (method, is_allowed) {
                    ("BREW", _) => assert_eq!(status, 501, "{context}"),
                    (_, true) => assert!(status != 405 && status != 501, "{context}: {status}"),
                    (_, false) => {
                        assert_eq!((status.as_u16(), headers["allow"].to_str()?), (405, allowed), "{context}");
                    }
                }
                if !is_allowed && method != "HEAD" {
                    check_outcome(&headers, &body, &context);
                }
            }
        }
        // A path that does not exist has no methods.
        for path in ["/Watermill", "/%2524export", "/Patient/%2524export", "/$import", "/Patient/$everything", "/nowhere/at/all", "/token"]
        {
            for method in methods.into_iter().filter(|method| *method != "BREW") {
                let (status, headers, _) = file.send(method, &url(path), &[]).await?;
                assert_eq!((status.as_u16(), headers.get("allow")), (404, None), "{method} {path}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_client_of_plain_json_gets_it_in_every_response() -> Result<()> {
    run(async || {
        let file = ExportedFile::create().await?;
        let url = |path: &str| format!("{}{path}", file.base);
        let long = url(&format!("/metadata?x={}", "x".repeat(18 << 10)));
        let rows = [
            ("GET", url("/metadata"), 200),
            ("PUT", url("/metadata"), 405),
            ("BREW", url("/metadata"), 501),
            ("GET", long, 414),
            ("GET", url("/Patient/%ff/$export"), 400),
            ("GET", url("/nowhere/at/all"), 404),
            ("GET", url("/$export"), 400),
            ("POST", url("/$import"), 404),
            ("GET", url("/Group/unknown"), 404),
            ("GET", url("/_operations/export/unknown"), 404),
            ("DELETE", url("/_operations/export/unknown"), 404),
            ("DELETE", file.status.to_string(), 202),
            ("DELETE", file.status.to_string(), 404),
            ("GET", file.status.to_string(), 404),
            ("GET", file.file.clone(), 404),
        ];
        for (method, url, expected) in rows {
            let (status, headers, _) = file.send(method, &url, &[("accept", "application/json")]).await?;
            assert_eq!((status.as_u16(), headers["content-type"].to_str()?), (expected, "application/json"), "{method} {url}");
        }
        for (accept, host, expected) in
            [("application/json", "evil.example", "application/json"), ("*/*", "evil.example", "application/fhir+json")]
        {
            let (status, headers, _) = file.send("GET", &url("/metadata"), &[("accept", accept), ("host", host)]).await?;
            assert_eq!((status.as_u16(), headers["content-type"].to_str()?), (421, expected));
        }
        Ok(())
    })
}

#[test]
fn a_client_that_excludes_plain_bytes_gets_gzip_or_406_on_every_route_and_nothing_is_started() -> Result<()> {
    run(async || {
        let file = ExportedFile::create().await?;
        let url = |path: &str| format!("{}{path}", file.base);
        for url in
            [file.status.to_string(), url("/metadata"), url("/OperationDefinition"), url("/_operations/export"), url("/nowhere/at/all")]
        {
            let (plain, _, content) = file.send("GET", &url, &[]).await?;
            let (status, headers, body) = file.send("GET", &url, &[("accept-encoding", "identity;q=0, gzip;q=0.1")]).await?;
            assert_eq!((status, headers["content-encoding"].to_str()?), (plain, "gzip"), "{url}");
            assert_eq!(gunzip(&body).await?, content, "{url}");
            let (status, headers, body) = file.send("GET", &url, &[("accept-encoding", "identity;q=0")]).await?;
            assert_eq!(status, 406, "{url}");
            check_outcome(&headers, &body, &url);
        }
        let kick_off = [("accept-encoding", "identity;q=0"), ("accept", "application/fhir+json"), ("prefer", "respond-async")];
        assert_eq!(file.send("POST", &url("/$export"), &kick_off).await?.0, 406);
        let list: serde_json::Value = serde_json::from_slice(&file.send("GET", &url("/_operations/export"), &[]).await?.2)?;
        assert_eq!(list["entry"].as_array().map(Vec::len), Some(1), "{list}");
        Ok(())
    })
}

#[test]
fn a_patient_is_named_by_the_url_of_this_server_and_of_no_other() -> Result<()> {
    run(async || {
        let file = ExportedFile::create().await?;
        let headers = [("accept", "application/fhir+json"), ("prefer", "respond-async, handling=lenient")];
        for (patient, expected) in [
            ("Patient/p-1".to_owned(), 202),
            (format!("{}/Patient/p-1", file.base), 202),
            ("http://evil.example/Patient/p-1".to_owned(), 400),
            (format!("{}/x/Patient/p-1/_history/3", file.base), 400),
        ] {
            let (status, _, body) = file.send("GET", &format!("{}/Patient/$export?patient={patient}", file.base), &headers).await?;
            assert_eq!(status, expected, "{patient}: {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    })
}
