//! A Bulk Data client: kick-off, polls, downloads.

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

/// How many files are downloaded at the same time.
const PARALLEL_DOWNLOADS: usize = 4;

/// How often a request is sent again after a failure that may pass.
const MAX_POLL_RETRIES: u32 = 5;

/// The longest that a server's `Retry-After` is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// What stays as it is in a parameter's value. Not as HTML forms write a query: there a blank becomes a plus sign, which
/// stands for itself here.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b',').remove(b':').remove(b'/');

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Why an export did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server did not answer, or the connection broke.
    #[error("{0} did not answer as HTTP should")]
    Http(&'static str, #[source] reqwest::Error),
    /// It answered with something else than what was asked for.
    #[error("{what} was answered with {status}: {text}")]
    Rejected {
        /// What was asked.
        what: &'static str,
        /// The HTTP status.
        status: StatusCode,
        /// What the server's OperationOutcome said.
        text: String,
    },
    /// There is no access token.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// An answer lacks what the standard demands.
    #[error("the server does not keep to the standard: {0}")]
    NotConformant(String),
    /// A file could not be written.
    #[error("`{path}` cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

/// The parts of a manifest that a download needs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// What to give as `_since` next time.
    pub transaction_time: String,
    /// Whether file requests need the token.
    pub requires_access_token: bool,
    /// Resources.
    pub output: Vec<ManifestFile>,
    /// Deletions.
    #[serde(default)]
    pub deleted: Vec<ManifestFile>,
    /// OperationOutcomes.
    #[serde(default)]
    pub error: Vec<ManifestFile>,
    /// The next page, if there is one.
    #[serde(default)]
    pub link: Vec<ManifestLink>,
}

/// Where a manifest goes on.
#[derive(Clone, Debug, Deserialize)]
pub struct ManifestLink {
    /// `next`.
    pub relation: String,
    /// The URL of the page.
    pub url: String,
}

/// One file of a manifest.
#[derive(Clone, Debug, Deserialize)]
pub struct ManifestFile {
    /// What its lines are; `None` where they are of several types.
    #[serde(rename = "type")]
    pub resource_type: Option<String>,
    /// Where it is.
    pub url: String,
    /// How many lines it has.
    pub count: Option<u64>,
}

/// A downloaded file.
#[derive(Clone, Debug)]
pub struct DownloadedFile {
    /// What its lines are; `None` where they are of several types.
    pub resource_type: Option<String>,
    /// Where it is now.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its lines.
    pub lines: u64,
    /// Whether it came from the manifest's `error`.
    pub is_error: bool,
}

/// A client of one server.
#[derive(Clone)]
pub struct BulkClient {
    http: Client,
    credential: Credential,
    /// Waits no longer between two polls than this; `None` waits as the server says.
    max_poll_interval: Option<Duration>,
}

/// What a client shows.
#[derive(Clone)]
enum Credential {
    Anonymous,
    /// This token, whatever becomes of it.
    BearerToken(String),
    /// A token that lives for minutes, renewed again and again.
    BackendServices(Arc<TokenCache>),
}

impl BulkClient {
    /// A client that sends this token, if there is one, and polls as often as `max_poll_interval` demands.
    pub fn new(token: Option<String>, max_poll_interval: Option<Duration>) -> Result<Self, ClientError> {
        Self::with_credential(token.map_or(Credential::Anonymous, Credential::BearerToken), max_poll_interval)
    }

    /// A client that logs in at the server with this base, as often as its tokens end.
    pub fn with_login(login: LoginSettings, base: &str, max_poll_interval: Option<Duration>) -> Result<Self, ClientError> {
        let tokens = TokenCache::new(login, read_base(base)?);
        Self::with_credential(Credential::BackendServices(Arc::new(tokens)), max_poll_interval)
    }

    fn with_credential(credential: Credential, max_poll_interval: Option<Duration>) -> Result<Self, ClientError> {
        let http = Client::builder().user_agent(concat!("headrace/", env!("CARGO_PKG_VERSION"))).connect_timeout(Duration::from_secs(30));
        Ok(Self { http: http.build().map_err(|error| ClientError::Http("the HTTP client", error))?, credential, max_poll_interval })
    }

    /// Sends a request with whatever the client shows. A token that is refused is replaced once: servers may end it before
    /// its time, and clocks differ.
    async fn send(&self, what: &'static str, request: RequestBuilder) -> Result<Response, ClientError> {
        let sent =
            |request: RequestBuilder| async move { request.send().await.map_err(|error| ClientError::Http(what, error.without_url())) };
        let tokens = match &self.credential {
            Credential::Anonymous => return sent(request).await,
            Credential::BearerToken(token) => return sent(request.bearer_auth(token)).await,
            Credential::BackendServices(tokens) => tokens,
        };
        let token = tokens.token(&self.http, None).await?;
        let again = request.try_clone();
        let answer = sent(request.bearer_auth(&token)).await?;
        match again {
            Some(again) if answer.status() == StatusCode::UNAUTHORIZED => {
                let token = tokens.token(&self.http, Some(&token)).await?;
                sent(again.bearer_auth(token)).await
            }
            Some(_) | None => Ok(answer),
        }
    }

    /// Starts an export; its status URL. `path` names the operation below the base.
    pub async fn kick_off(&self, base: &str, path: &str, parameters: &[(&str, String)], is_lenient: bool) -> Result<Url, ClientError> {
        let base = base.trim_end_matches('/');
        let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, QUERY_VALUE))).collect();
        let mut url = read_base(&format!("{base}/{path}"))?;
        url.set_query(Some(query.join("&")).as_deref().filter(|query| !query.is_empty()));
        let prefer = if is_lenient { "respond-async, handling=lenient" } else { "respond-async" };
        let request = self.http.get(url.clone()).header(ACCEPT, "application/fhir+json").header(PREFER, prefer);
        let answer = self.send("the kick-off", request).await?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(rejection("the kick-off", answer).await);
        }
        let location = answer.headers().get(CONTENT_LOCATION).and_then(|value| value.to_str().ok());
        location
            .and_then(|location| url.join(location).ok())
            .ok_or_else(|| ClientError::NotConformant("the kick-off was accepted without a Content-Location".to_owned()))
    }

    /// Polls until there is a manifest, all pages of it; `progress` is told whatever the server says meanwhile.
    pub async fn wait_for_manifest(&self, status_url: &Url, mut progress: impl FnMut(&str)) -> Result<Manifest, ClientError> {
        let mut manifest = self.poll_page(status_url, &mut progress).await?;
        let mut seen = vec![status_url.clone()];
        while let Some(link) = manifest.link.iter().find(|link| link.relation == "next") {
            let next = status_url.join(&link.url).ok().filter(|next| !seen.contains(next));
            let next = next.ok_or_else(|| ClientError::NotConformant("its manifest's pages do not lead to an end".to_owned()))?;
            let page = self.poll_page(&next, &mut progress).await?;
            // Files of `error` are the same on every page.
            manifest.output.extend(page.output);
            manifest.deleted.extend(page.deleted);
            manifest.link = page.link;
            seen.push(next);
        }
        Ok(manifest)
    }

    async fn poll_page(&self, url: &Url, progress: &mut impl FnMut(&str)) -> Result<Manifest, ClientError> {
        let mut failures = 0;
        loop {
            let answer = self.send("the poll", self.http.get(url.clone()).header(ACCEPT, "application/json")).await?;
            match answer.status() {
                StatusCode::OK => {
                    let body = answer.bytes().await.map_err(|error| ClientError::Http("the manifest", error.without_url()))?;
                    return serde_json::from_slice(&body)
                        .map_err(|error| ClientError::NotConformant(format!("its manifest cannot be read: {error}")));
                }
                StatusCode::ACCEPTED => {
                    failures = 0;
                    if let Some(text) = answer.headers().get("x-progress").and_then(|value| value.to_str().ok()) {
                        progress(text);
                    }
                }
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE if failures < MAX_POLL_RETRIES => failures += 1,
                _ => return Err(rejection("the poll", answer).await),
            }
            tokio::time::sleep(self.poll_delay(&answer)).await;
        }
    }

    /// Downloads every file into `out`; `done` is told the bytes as they come.
    pub async fn download(&self, manifest: &Manifest, out: &Path, done: impl Fn(u64) + Sync) -> Result<Vec<DownloadedFile>, ClientError> {
        let (done, token) = (&done, manifest.requires_access_token);
        let entries = manifest.output.iter().map(|entry| (entry, false));
        let entries = entries.chain(manifest.deleted.iter().map(|entry| (entry, false)));
        let entries = entries.chain(manifest.error.iter().map(|entry| (entry, true)));
        let files = (1..).zip(entries).map(|(index, (entry, is_error))| async move {
            let path = out.join(file_name(entry, index));
            let (bytes, lines) = self.download_file(entry, &path, token, done).await?;
            match entry.count {
                Some(count) if count != lines => {
                    Err(ClientError::NotConformant(format!("`{}` has {lines} lines where its manifest says {count}", path.display())))
                }
                Some(_) | None => Ok(DownloadedFile { resource_type: entry.resource_type.clone(), path, bytes, lines, is_error }),
            }
        });
        stream::iter(files.collect::<Vec<_>>()).buffered(PARALLEL_DOWNLOADS).try_collect().await
    }

    async fn download_file(&self, entry: &ManifestFile, path: &Path, needs_token: bool, done: &(impl Fn(u64) + Sync)) -> Result<(u64, u64), ClientError> {
        let unwritable = |cause| ClientError::Write { path: path.to_owned(), cause };
        let request = self.http.get(&entry.url);
        let answer = if needs_token {
            self.send("a download", request).await?
        } else {
            request.send().await.map_err(|error| ClientError::Http("a download", error.without_url()))?
        };
        if answer.status() != StatusCode::OK {
            return Err(rejection("a download", answer).await);
        }
        // Nobody takes a half file for a whole one.
        let partial = path.with_extension("ndjson.partial");
        let file = tokio::fs::File::create(&partial).await.map_err(unwritable)?;
        let mut file = tokio::io::BufWriter::with_capacity(1 << 20, file);
        let (mut bytes, mut lines) = (0, 0);
        let mut chunks = answer.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| ClientError::Http("a download", error.without_url()))?;
            bytes += chunk.len() as u64;
            lines += memchr::memchr_iter(b'\n', &chunk).count() as u64;
            file.write_all(&chunk).await.map_err(unwritable)?;
            done(chunk.len() as u64);
        }
        file.flush().await.map_err(unwritable)?;
        drop(file);
        tokio::fs::rename(&partial, path).await.map_err(unwritable)?;
        Ok((bytes, lines))
    }

    /// Tells the server that the files may go.
    pub async fn delete(&self, status_url: &Url) -> Result<(), ClientError> {
        let request = self.http.delete(status_url.clone()).header(ACCEPT, "application/fhir+json");
        let answer = self.send("the deletion", request).await?;
        if answer.status() == StatusCode::ACCEPTED { Ok(()) } else { Err(rejection("the deletion", answer).await) }
    }

    fn poll_delay(&self, answer: &Response) -> Duration {
        let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let asked = Duration::from_secs(seconds.unwrap_or(1)).min(MAX_RETRY_AFTER);
        self.max_poll_interval.map_or(asked, |max_poll_interval| max_poll_interval.min(asked))
    }
}

fn read_base(text: &str) -> Result<Url, ClientError> {
    Url::parse(text).map_err(|_| ClientError::NotConformant(format!("`{text}` is not a URL")))
}

/// What the server's OperationOutcome says, as far as it sent one.
async fn rejection(what: &'static str, answer: Response) -> ClientError {
    #[derive(Deserialize)]
    struct Outcome {
        issue: Vec<Issue>,
    }
    #[derive(Deserialize)]
    struct Issue {
        diagnostics: Option<String>,
    }
    let status = answer.status();
    let body = answer.bytes().await.unwrap_or_default();
    let outcome: Option<Outcome> = serde_json::from_slice(&body).ok();
    let said: Vec<String> = outcome.into_iter().flat_map(|outcome| outcome.issue).filter_map(|issue| issue.diagnostics).collect();
    let text = if said.is_empty() { "the server gave no reason".to_owned() } else { said.join("; ") };
    ClientError::Rejected { what, status, text }
}

/// The last segment of the URL if that is a plain name, else the type and a number: a server cannot choose where we write.
fn file_name(entry: &ManifestFile, index: usize) -> String {
    let named = Url::parse(&entry.url).ok().and_then(|url| url.path_segments()?.next_back().map(str::to_owned));
    let is_plain = |name: &String| {
        name.ends_with(".ndjson")
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    let kind: String = entry.resource_type.as_deref().unwrap_or("file").chars().filter(char::is_ascii_alphanumeric).collect();
    named.filter(is_plain).unwrap_or_else(|| format!("{kind}.{index:03}.ndjson"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_choose_where_files_are_written() {
        for (url, name) in [
            ("http://h/fhir/_operations/files/x/Patient-1.ndjson", "Patient-1.ndjson"),
            ("http://h/Patient-1.ndjson?X-Amz-Signature=abc", "Patient-1.ndjson"),
            ("http://h/..%2f..%2fetc%2fpasswd.ndjson", "Patient.007.ndjson"),
            ("http://h/.ndjson", "Patient.007.ndjson"),
            ("http://h/download", "Patient.007.ndjson"),
        ] {
            let entry = ManifestFile { resource_type: Some("../Patient".into()), url: url.into(), count: None };
            assert_eq!(file_name(&entry, 7), name, "{url}");
        }
    }
}
