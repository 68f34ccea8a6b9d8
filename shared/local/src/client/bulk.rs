//! A Bulk Data client: kick-off, status polling and downloads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_LOCATION, HeaderName, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;

use crate::client::login::{LoginError, LoginSettings, TokenCache};

/// Number of files that are downloaded at the same time.
const PARALLEL_DOWNLOADS: usize = 4;

/// Number of consecutive 429 and 503 responses after which polling fails.
const MAX_POLL_RETRIES: u32 = 5;

/// Maximum time between two polls, even if `Retry-After` is longer.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The least time between polls, also if the server says 0.
const MIN_RETRY_AFTER: Duration = Duration::from_millis(200);

/// The longest time in which a server sends nothing while a response is awaited or read.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// Characters of a query value that are percent-encoded. Unlike in HTML forms, a space does not become a plus sign, because
/// servers may read a plus sign literally.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b',').remove(b':').remove(b'/');

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Reason why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The request failed without a complete HTTP response.
    #[error("{0}: the HTTP request failed")]
    Http(&'static str, #[source] reqwest::Error),
    /// The server rejected a request.
    #[error("{request} was rejected with {status}: {text}")]
    Rejected {
        /// Name of the request.
        request: &'static str,
        /// HTTP status.
        status: StatusCode,
        /// Diagnostics of the server's OperationOutcome.
        text: String,
    },
    /// Failure to obtain an access token.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// A response violates the Bulk Data standard.
    #[error("the server does not conform to the standard: {0}")]
    NotConformant(String),
    /// A file could not be written.
    #[error("`{path}` cannot be written")]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: std::io::Error,
    },
}

/// The members of a manifest that a download needs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The `_since` value of a following incremental export.
    pub transaction_time: String,
    /// True if file requests need the access token.
    pub requires_access_token: bool,
    /// Files with resources.
    pub output: Vec<ManifestFile>,
    /// Files with deletions.
    #[serde(default)]
    pub deleted: Vec<ManifestFile>,
    /// Files with OperationOutcomes.
    #[serde(default)]
    pub error: Vec<ManifestFile>,
    /// Links, among them the link to the next page if there is one.
    #[serde(default)]
    pub link: Vec<ManifestLink>,
    /// Extensions, among them the watermark of the lake if the server is Headrace.
    #[serde(default)]
    pub extension: serde_json::Value,
}

impl Manifest {
    /// Describes why the data is complete up to `transaction_time`. Returns an empty text if the server does not say.
    pub fn describe_watermark(&self) -> String {
        let text = |name: &str| self.extension.get("urn:headrace:watermark").and_then(|entry| entry.get(name)?.as_str());
        match text("rule") {
            Some("object") => " (the lake is complete up to then, as its _headrace/watermark.json says)".to_owned(),
            Some("delay") => " (the lake is complete up to then, as the delay in LakeWatermark says)".to_owned(),
            Some("arrival") => " (includes what arrives later, as LakeWatermark is arrival)".to_owned(),
            Some(_) | None => String::new(),
        }
    }
}

/// A link of a manifest.
#[derive(Clone, Debug, Deserialize)]
pub struct ManifestLink {
    /// Relation, such as `next`.
    pub relation: String,
    /// Target URL.
    pub url: String,
}

/// A file in a manifest.
#[derive(Clone, Debug, Deserialize)]
pub struct ManifestFile {
    /// Resource type of its lines; `None` if the lines have several types.
    #[serde(rename = "type")]
    pub resource_type: Option<String>,
    /// URL of the file.
    pub url: String,
    /// Number of lines.
    pub count: Option<u64>,
}

/// A downloaded file.
#[derive(Clone, Debug)]
pub struct DownloadedFile {
    /// Resource type of its lines; `None` if the lines have several types.
    pub resource_type: Option<String>,
    /// Local path.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of lines.
    pub lines: u64,
    /// True if the file is from the manifest's `error` list.
    pub is_error: bool,
}

/// A Bulk Data client of one server.
#[derive(Clone)]
pub struct BulkClient {
    http: Client,
    credential: Credential,
    /// Maximum time between two polls; `None` follows the `Retry-After` of the server.
    max_poll_interval: Option<Duration>,
}

/// The credential that a client sends.
#[derive(Clone)]
enum Credential {
    /// Requests without a credential.
    Anonymous,
    /// A fixed bearer token, which is not renewed.
    BearerToken(String),
    /// Tokens of SMART Backend Services, renewed before they expire.
    BackendServices(Arc<TokenCache>),
}

impl BulkClient {
    /// Creates a client that sends a fixed bearer token, or no credential.
    pub fn new(token: Option<String>, max_poll_interval: Option<Duration>) -> Result<Self, ClientError> {
        Self::with_credential(token.map_or(Credential::Anonymous, Credential::BearerToken), max_poll_interval)
    }

    /// Creates a client that gets access tokens for the server with this base URL.
    pub fn with_login(login: LoginSettings, base: &str, max_poll_interval: Option<Duration>) -> Result<Self, ClientError> {
        let tokens = TokenCache::new(login, parse_url(base)?);
        Self::with_credential(Credential::BackendServices(Arc::new(tokens)), max_poll_interval)
    }

    /// Creates a client with any credential.
    fn with_credential(credential: Credential, max_poll_interval: Option<Duration>) -> Result<Self, ClientError> {
        let http = Client::builder().user_agent(concat!("headrace/", env!("CARGO_PKG_VERSION"))).connect_timeout(Duration::from_secs(30));
        let http = http.read_timeout(READ_TIMEOUT);
        Ok(Self {
            http: http.build().map_err(|error| ClientError::Http("starting the HTTP client", error))?,
            credential,
            max_poll_interval,
        })
    }

    /// Sends a request with the client's credential. Renews a rejected access token once, because a server may revoke it early
    /// and clocks differ.
    async fn send(&self, name: &'static str, request: RequestBuilder) -> Result<Response, ClientError> {
        let send =
            |request: RequestBuilder| async move { request.send().await.map_err(|error| ClientError::Http(name, error.without_url())) };
        let tokens = match &self.credential {
            Credential::Anonymous => return send(request).await,
            Credential::BearerToken(token) => return send(request.bearer_auth(token)).await,
            Credential::BackendServices(tokens) => tokens,
        };
        let token = tokens.token(&self.http, None).await?;
        let retry = request.try_clone();
        let response = send(request.bearer_auth(&token)).await?;
        match retry {
            Some(retry) if response.status() == StatusCode::UNAUTHORIZED => {
                let token = tokens.token(&self.http, Some(&token)).await?;
                send(retry.bearer_auth(token)).await
            }
            Some(_) | None => Ok(response),
        }
    }

    /// Starts an export and returns its status URL. `path` is the operation, relative to the base URL.
    pub async fn kick_off(&self, base: &str, path: &str, parameters: &[(&str, String)], is_lenient: bool) -> Result<Url, ClientError> {
        let base = base.trim_end_matches('/');
        let query: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, QUERY_VALUE))).collect();
        let mut url = parse_url(&format!("{base}/{path}"))?;
        url.set_query(Some(query.join("&")).as_deref().filter(|query| !query.is_empty()));
        let prefer = if is_lenient { "respond-async, handling=lenient" } else { "respond-async" };
        let request = self.http.get(url.clone()).header(ACCEPT, "application/fhir+json").header(PREFER, prefer);
        let response = self.send("the kick-off", request).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(rejection("the kick-off", response).await);
        }
        let location = response.headers().get(CONTENT_LOCATION).and_then(|value| value.to_str().ok());
        location
            .and_then(|location| url.join(location).ok())
            .ok_or_else(|| ClientError::NotConformant("the kick-off response has no Content-Location".to_owned()))
    }

    /// Polls until the export is complete and returns the manifest with the files of all its pages. Calls `progress` with each
    /// `X-Progress` of the server.
    pub async fn wait_for_manifest(&self, status_url: &Url, mut progress: impl FnMut(&str)) -> Result<Manifest, ClientError> {
        let mut manifest = self.poll_page(status_url, &mut progress).await?;
        let mut visited = vec![status_url.clone()];
        while let Some(link) = manifest.link.iter().find(|link| link.relation == "next") {
            let next = status_url.join(&link.url).ok().filter(|next| !visited.contains(next));
            let next =
                next.ok_or_else(|| ClientError::NotConformant("the pages of its manifest form a loop or have an invalid link".to_owned()))?;
            let page = self.poll_page(&next, &mut progress).await?;
            // Every page repeats the files of `error`, so those of the first page are enough.
            manifest.output.extend(page.output);
            manifest.deleted.extend(page.deleted);
            manifest.link = page.link;
            visited.push(next);
        }
        Ok(manifest)
    }

    /// Polls one URL until it returns a manifest page.
    async fn poll_page(&self, url: &Url, progress: &mut impl FnMut(&str)) -> Result<Manifest, ClientError> {
        let mut failures = 0;
        loop {
            let response = self.send("the status request", self.http.get(url.clone()).header(ACCEPT, "application/json")).await?;
            match response.status() {
                StatusCode::OK => {
                    let body = response.bytes().await.map_err(|error| ClientError::Http("reading the manifest", error.without_url()))?;
                    return serde_json::from_slice(&body)
                        .map_err(|error| ClientError::NotConformant(format!("its manifest cannot be parsed: {error}")));
                }
                StatusCode::ACCEPTED => {
                    failures = 0;
                    if let Some(text) = response.headers().get("x-progress").and_then(|value| value.to_str().ok()) {
                        progress(text);
                    }
                }
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE if failures < MAX_POLL_RETRIES => failures += 1,
                _ => return Err(rejection("the status request", response).await),
            }
            tokio::time::sleep(self.poll_delay(&response)).await;
        }
    }

    /// Downloads all files of a manifest to the folder `out`. Calls `on_bytes` with the number of bytes of each chunk. Fails if
    /// the number of lines differs from the manifest.
    pub async fn download(
        &self,
        manifest: &Manifest,
        out: &Path,
        on_bytes: impl Fn(u64) + Sync,
    ) -> Result<Vec<DownloadedFile>, ClientError> {
        let (on_bytes, needs_token) = (&on_bytes, manifest.requires_access_token);
        let files_to_download = manifest.output.iter().map(|file| (file, false));
        let files_to_download = files_to_download.chain(manifest.deleted.iter().map(|file| (file, false)));
        let files_to_download: Vec<_> = files_to_download.chain(manifest.error.iter().map(|file| (file, true))).collect();
        let names = local_file_names(files_to_download.iter().map(|(file, _)| *file));
        let downloads = files_to_download.into_iter().zip(names).map(|((file, is_error), name)| async move {
            let path = out.join(name);
            let (bytes, lines) = self.download_file(file, &path, needs_token, on_bytes).await?;
            match file.count {
                // A file without a type has blocks of patients, whose header lines are not resources.
                Some(count) if count > lines || (count < lines && file.resource_type.is_some()) => {
                    Err(ClientError::NotConformant(format!("`{}` has {lines} lines, but its manifest counts {count}", path.display())))
                }
                Some(_) | None => Ok(DownloadedFile { resource_type: file.resource_type.clone(), path, bytes, lines, is_error }),
            }
        });
        stream::iter(downloads.collect::<Vec<_>>()).buffered(PARALLEL_DOWNLOADS).try_collect().await
    }

    /// Downloads one file and returns its bytes and lines.
    async fn download_file(
        &self,
        file: &ManifestFile,
        path: &Path,
        needs_token: bool,
        on_bytes: &(impl Fn(u64) + Sync),
    ) -> Result<(u64, u64), ClientError> {
        let unwritable = |cause| ClientError::Write { path: path.to_owned(), cause };
        let request = self.http.get(&file.url);
        // Without `requiresAccessToken`, the URL may point to another host, which must not see the token.
        let response = if needs_token {
            self.send("a download", request).await?
        } else {
            request.send().await.map_err(|error| ClientError::Http("a download", error.without_url()))?
        };
        if response.status() != StatusCode::OK {
            return Err(rejection("a download", response).await);
        }
        // A partial file must not look complete, so it has another name until the end.
        let partial = path.with_extension("ndjson.partial");
        let output = tokio::fs::File::create(&partial).await.map_err(unwritable)?;
        let mut output = tokio::io::BufWriter::with_capacity(1 << 20, output);
        let (mut bytes, mut lines) = (0, 0);
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| ClientError::Http("a download", error.without_url()))?;
            bytes += chunk.len() as u64;
            lines += memchr::memchr_iter(b'\n', &chunk).count() as u64;
            output.write_all(&chunk).await.map_err(unwritable)?;
            on_bytes(chunk.len() as u64);
        }
        output.flush().await.map_err(unwritable)?;
        drop(output);
        tokio::fs::rename(&partial, path).await.map_err(unwritable)?;
        Ok((bytes, lines))
    }

    /// Deletes the export on the server.
    pub async fn delete(&self, status_url: &Url) -> Result<(), ClientError> {
        let request = self.http.delete(status_url.clone()).header(ACCEPT, "application/fhir+json");
        let response = self.send("the deletion", request).await?;
        if response.status() == StatusCode::ACCEPTED { Ok(()) } else { Err(rejection("the deletion", response).await) }
    }

    /// Returns the time until the next poll: `Retry-After` within the limits of this client.
    fn poll_delay(&self, response: &Response) -> Duration {
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(parse_retry_after).unwrap_or(Duration::from_secs(1));
        self.max_poll_interval.map_or(retry_after, |maximum| maximum.min(retry_after))
    }
}

/// Parses `Retry-After` in seconds, within the limits of this client. Returns `None` for a date or another text.
fn parse_retry_after(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number that is too large for its type is above the limit as well.
    is_number.then(|| text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER))
}

/// Parses a URL.
fn parse_url(text: &str) -> Result<Url, ClientError> {
    Url::parse(text).map_err(|_| ClientError::NotConformant(format!("`{text}` is not a URL")))
}

/// Builds the error for a rejected request, with the diagnostics of the server's OperationOutcome if there is one.
async fn rejection(request: &'static str, response: Response) -> ClientError {
    #[derive(Deserialize)]
    struct Outcome {
        issue: Vec<Issue>,
    }
    #[derive(Deserialize)]
    struct Issue {
        diagnostics: Option<String>,
    }
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    let outcome: Option<Outcome> = serde_json::from_slice(&body).ok();
    let diagnostics: Vec<String> = outcome.into_iter().flat_map(|outcome| outcome.issue).filter_map(|issue| issue.diagnostics).collect();
    let text = if diagnostics.is_empty() { "the server gave no reason".to_owned() } else { diagnostics.join("; ") };
    ClientError::Rejected { request, status, text }
}

/// Returns the local name of each file of an export. Names differ also where a file system ignores case: two URLs can end alike, and the
/// second file must not replace the first.
fn local_file_names<'f>(files: impl Iterator<Item = &'f ManifestFile>) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut names = Vec::new();
    for (index, file) in (1..).zip(files) {
        let mut name = local_file_name(file, index);
        let mut copy = 1;
        while !taken.insert(name.to_ascii_lowercase()) {
            copy += 1;
            name = format!("{}-{index:03}-{copy}.ndjson", name_of_type(file));
        }
        names.push(name);
    }
    names
}

/// Returns the resource type of a file as a part of a file name, or `file` if the manifest does not name a type.
fn name_of_type(file: &ManifestFile) -> String {
    file.resource_type.as_deref().unwrap_or("file").chars().filter(char::is_ascii_alphanumeric).collect()
}

/// Returns the local name of a file: the last segment of its URL if that is a plain file name, else the resource type and a
/// number. A server must not choose the folder that is written to.
fn local_file_name(file: &ManifestFile, index: usize) -> String {
    let url_name = Url::parse(&file.url).ok().and_then(|url| url.path_segments()?.next_back().map(str::to_owned));
    let is_plain = |name: &String| {
        name.ends_with(".ndjson")
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    url_name.filter(is_plain).unwrap_or_else(|| format!("{}.{index:03}.ndjson", name_of_type(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_polls_has_limits() {
        for (text, expected) in
            [("0", Some(MIN_RETRY_AFTER)), ("7", Some(Duration::from_secs(7))), ("99999999999999999999", Some(MAX_RETRY_AFTER))]
        {
            assert_eq!(parse_retry_after(text), expected, "{text}");
        }
        for text in ["", "-1", "1.5", "Fri, 31 Dec 2027 23:59:59 GMT"] {
            assert_eq!(parse_retry_after(text), None, "{text}");
        }
    }

    #[test]
    fn files_whose_urls_end_alike_have_different_local_names() {
        let file =
            |resource_type: &str, url: &str| ManifestFile { resource_type: Some(resource_type.into()), url: url.into(), count: None };
        let files = [
            file("Patient", "http://h/a/data.ndjson"),
            file("Observation", "http://h/b/data.ndjson"),
            file("Observation", "http://h/c/DATA.ndjson"),
            file("Observation", "http://h/c/Observation-002-2.ndjson"),
        ];
        let names = local_file_names(files.iter());
        assert_eq!(names, ["data.ndjson", "Observation-002-2.ndjson", "Observation-003-2.ndjson", "Observation-004-2.ndjson"]);
    }

    #[test]
    fn a_server_cannot_choose_where_files_are_written() {
        for (url, name) in [
            ("http://h/fhir/_operations/files/x/Patient-1.ndjson", "Patient-1.ndjson"),
            ("http://h/Patient-1.ndjson?X-Amz-Signature=abc", "Patient-1.ndjson"),
            ("http://h/..%2f..%2fetc%2fpasswd.ndjson", "Patient.007.ndjson"),
            ("http://h/.ndjson", "Patient.007.ndjson"),
            ("http://h/download", "Patient.007.ndjson"),
        ] {
            let file = ManifestFile { resource_type: Some("../Patient".into()), url: url.into(), count: None };
            assert_eq!(local_file_name(&file, 7), name, "{url}");
        }
    }
}
