//! A Bulk Data client: kick-off, status polling, downloads and deletion.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use headrace_core::vocab::clock::Millis;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_LOCATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use crate::client::body::read_bounded;
use crate::client::download::{Download, count_file};
use crate::client::error::shown_url;
use crate::client::file_names::{NamedFile, named_files};
use crate::client::folder::{ExportFolder, FolderError};
use crate::client::local_files::LocalFiles;
use crate::client::manifest::ManifestError;
use crate::client::origin::parse_http_url;
use crate::client::patience::{Patience, SHORT_OUTAGE, poll_back_off};
use crate::client::rejection::{Rejection, is_busy};
use crate::client::retry_after::{parse_date, retry_after};
use crate::client::secrets::SentSecrets;
use crate::client::session::{Session, SessionCredential};
use crate::client::timer::SystemTimer;
use crate::client::transfer::TransferError;
use crate::client::transport::{Call, Transport};
use crate::terminal::shorten;

pub use crate::client::download::DownloadedFile;
pub use crate::client::error::{ClientError, RequestFailure, TransportError};
pub use crate::client::file_names::FileList;
pub use crate::client::limits::ClientLimits;
pub use crate::client::login::LoginSettings;
pub use crate::client::manifest::{Manifest, ManifestFile};
pub use crate::client::session::Credential;
pub use crate::client::timer::Timer;

use crate::client::error::{Failure, Persistence};

/// Number of files that are downloaded at the same time.
const PARALLEL_DOWNLOADS: usize = 4;

/// Longest time in which a busy server is asked again to start an export.
const KICK_OFF_PATIENCE: Duration = Duration::from_secs(3600);

/// Pause before a busy server that names no time is asked again to start an export.
const BUSY_PAUSE: Duration = Duration::from_secs(10);

/// Number of times that the manifest is read again because links have expired.
const MANIFEST_REFRESHES: usize = 3;

/// Characters of a query value that are percent-encoded. Unlike in HTML forms, a space does not become a plus sign, because
/// servers may read a plus sign literally.
pub(crate) const QUERY_VALUE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b',').remove(b':').remove(b'/');

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Name of the kick-off in messages.
pub(crate) const KICK_OFF: &str = "the kick-off";

/// Name of a status request in messages.
const STATUS: &str = "the status request";

/// Name of the deletion in messages.
const DELETION: &str = "the deletion";

/// Settings of a client.
#[derive(Clone, Debug, Default)]
pub struct ClientSettings {
    /// Origins that get the access token besides the base URL's.
    pub token_origins: Vec<Url>,
    /// Limits on what servers send.
    pub limits: ClientLimits,
    /// Maximum time between two polls; `None` follows the server.
    pub max_poll_interval: Option<Duration>,
}

/// A Bulk Data client of one server.
#[derive(Clone)]
pub struct BulkClient<T = SystemTimer> {
    pub(crate) session: Session,
    max_poll_interval: Option<Duration>,
    /// The files of the server, if it is in this process.
    local_files: Option<LocalFiles>,
    pub(crate) timer: T,
}

/// The pause before the next request to a server, for the user.
#[derive(Debug)]
pub struct Waiting<'w> {
    /// `X-Progress` of the server, fit for a terminal.
    pub progress: Option<&'w str>,
    /// The failure after which the request is repeated.
    pub failure: Option<&'w ClientError>,
    /// Duration of the pause.
    pub delay: Duration,
    /// End of the pause.
    pub until: Millis,
}

impl BulkClient {
    /// Creates a client without a credential, of any server. With `max_poll_interval`, it polls at least that often.
    pub fn without_credential(max_poll_interval: Option<Duration>) -> Result<Self, ClientError> {
        let limits = ClientLimits::default();
        Ok(Self::anonymous(Transport::start(&limits)?, limits, max_poll_interval))
    }

    /// Creates a client of a server in this process. It takes the files of the server instead of downloading them.
    pub(crate) fn of_own_server(local_files: LocalFiles, max_poll_interval: Option<Duration>) -> Result<Self, ClientError> {
        let limits = ClientLimits::default();
        let client = Self::anonymous(Transport::to_own_process(&limits)?, limits, max_poll_interval);
        Ok(Self { local_files: Some(local_files), ..client })
    }

    /// Creates a client without a credential.
    fn anonymous(transport: Transport, limits: ClientLimits, max_poll_interval: Option<Duration>) -> Self {
        let session = Session { transport, credential: SessionCredential::Anonymous, rules: None, limits };
        Self { session, max_poll_interval, local_files: None, timer: SystemTimer }
    }

    /// Creates a client that gets access tokens for the server with this base URL.
    pub fn with_login(login: LoginSettings, base: &str, max_poll_interval: Option<Duration>) -> Result<Self, ClientError> {
        let settings = ClientSettings { max_poll_interval, ..ClientSettings::default() };
        Self::new(base, Credential::BackendServices(login), settings, SystemTimer)
    }
}

impl<T: Timer> BulkClient<T> {
    /// Creates a client of the server with this base URL.
    pub fn new(base: &str, credential: Credential, settings: ClientSettings, timer: T) -> Result<Self, ClientError> {
        let session = Session::connect(base, credential, &settings.token_origins, settings.limits)?;
        Ok(Self { session, max_poll_interval: settings.max_poll_interval, local_files: None, timer })
    }

    /// Starts an export and returns its status URL. `path` is the operation, relative to the base URL.
    pub async fn kick_off(&self, base: &str, path: &str, parameters: &[(&str, String)], is_lenient: bool) -> Result<Url, ClientError> {
        self.kick_off_patiently(base, path, parameters, is_lenient, |_| {}).await
    }

    /// Starts an export like [`BulkClient::kick_off`]. A server that is busy is asked again, and `on_wait` called before each pause.
    pub async fn kick_off_patiently(
        &self,
        base: &str,
        path: &str,
        parameters: &[(&str, String)],
        is_lenient: bool,
        mut on_wait: impl FnMut(Waiting<'_>),
    ) -> Result<Url, ClientError> {
        let query: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, QUERY_VALUE))).collect();
        let mut url = parse_http_url(&format!("{}/{path}", base.trim_end_matches('/')))?;
        url.set_query(Some(query.join("&")).as_deref().filter(|query| !query.is_empty()));
        let prefer = if is_lenient { "respond-async, handling=lenient" } else { "respond-async" };
        let call = Call::new(KICK_OFF, Method::GET).header(ACCEPT, "application/fhir+json").header(PREFER, prefer);
        let mut patience = Patience::new(KICK_OFF_PATIENCE, KICK_OFF_PATIENCE);
        loop {
            // Only these answers say for certain that no export was started. Anything else is not repeated.
            let failure = match self.session.send(&call, &url).await {
                Ok(response) if is_busy(response.status()) => {
                    let Failure { error, retry_after, .. } = self.failure(KICK_OFF, response).await;
                    Failure { error, persistence: Persistence::Transient, retry_after: retry_after.or(Some(BUSY_PAUSE)) }
                }
                Ok(response) => return self.read_kick_off(&url, response).await,
                Err(error) if error.login_status().is_some() => error.into(),
                Err(error) => return Err(error),
            };
            let (delay, error) = patience.next_delay(failure, self.timer.now())?;
            on_wait(Waiting { progress: None, failure: Some(&error), delay, until: self.timer.now() + delay });
            self.timer.sleep(delay).await;
        }
    }

    /// Returns the status URL of an accepted kick-off.
    async fn read_kick_off(&self, url: &Url, response: Response) -> Result<Url, ClientError> {
        // Some servers answer 200. The status URL says that the export was accepted.
        let location = response.headers().get(CONTENT_LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        match (response.status(), location.filter(|location| !location.trim().is_empty())) {
            (status @ (StatusCode::ACCEPTED | StatusCode::OK), Some(location)) => {
                let status_url = self.session.resolve(url, &location)?;
                // Each poll would start an export.
                if [url, response.url()].into_iter().any(|kick_off| is_same_request(kick_off, &status_url)) {
                    let text = format!("the answer to the kick-off ({status}) has the URL of the kick-off itself as Content-Location");
                    return Err(ClientError::NotConformant(text));
                }
                Ok(status_url)
            }
            (status @ (StatusCode::ACCEPTED | StatusCode::OK), None) => {
                // Any other body may be the data itself.
                let outcome = Rejection::read_outcome(response, &self.session.limits, self.timer.now()).await;
                let reason = outcome.map_or_else(|| " and is not an OperationOutcome".to_owned(), |outcome| format!(": {}", outcome.text));
                Err(ClientError::NotConformant(format!("the answer to the kick-off ({status}) has no Content-Location{reason}")))
            }
            _ => Err(self.failure(KICK_OFF, response).await.error),
        }
    }

    /// Polls until the export is complete and returns the manifest with the files of all its pages. Calls `on_wait` before each pause.
    pub async fn wait_for_manifest(&self, status_url: &Url, mut on_wait: impl FnMut(Waiting<'_>)) -> Result<Manifest, ClientError> {
        let deadline = self.timer.now() + self.session.limits.wait;
        let manifest = self.poll_page(status_url, deadline, &mut on_wait).await?;
        self.add_pages(manifest, status_url, deadline, &mut on_wait).await
    }

    /// Adds the files of the further pages to the first page of a manifest.
    pub(crate) async fn add_pages(
        &self,
        mut manifest: Manifest,
        status_url: &Url,
        deadline: Millis,
        on_wait: &mut impl FnMut(Waiting<'_>),
    ) -> Result<Manifest, ClientError> {
        let mut visited = BTreeSet::from([status_url.clone()]);
        while let Some(next) = manifest.next.take() {
            if visited.len() >= self.session.limits.pages {
                return Err(too_much("the number of pages of its manifest", format!("{} pages", self.session.limits.pages)));
            }
            if !visited.insert(next.clone()) {
                return Err(ClientError::NotConformant(format!("the pages of its manifest form a circle at {}", shown_url(&next))));
            }
            let page = self.poll_page(&next, deadline, on_wait).await?;
            manifest.add_page(page).map_err(ClientError::NotConformant)?;
            if manifest.files() > self.session.limits.files {
                return Err(too_much("the number of files in its manifest", format!("{} files", self.session.limits.files)));
            }
        }
        Ok(manifest)
    }

    /// Polls one URL until it returns a manifest page.
    async fn poll_page(&self, url: &Url, deadline: Millis, on_wait: &mut impl FnMut(Waiting<'_>)) -> Result<Manifest, ClientError> {
        let mut patience = Patience::new(self.session.limits.outage, self.session.limits.wait);
        let mut polls = 0;
        loop {
            let (delay, progress, failure) = match self.poll_once(url).await {
                Ok(PollAnswer::Complete(manifest)) => return Ok(*manifest),
                Ok(PollAnswer::Running { progress, retry_after }) => {
                    patience.restore();
                    polls += 1;
                    (retry_after.unwrap_or_else(|| poll_back_off(polls)), progress, None)
                }
                Err(failure) => {
                    let (delay, error) = patience.next_delay(failure, self.timer.now())?;
                    (delay, None, Some(error))
                }
            };
            let delay = self.max_poll_interval.map_or(delay, |maximum| maximum.min(delay));
            let until = self.timer.now() + delay;
            if until > deadline {
                return Err(ClientError::WaitedTooLong { waited: self.session.limits.wait, next_poll: until.instant() });
            }
            on_wait(Waiting { progress: progress.as_deref(), failure: failure.as_ref(), delay, until });
            self.wait_for_change(delay).await;
        }
    }

    /// Waits for this duration, or until a server in this process may have another answer.
    async fn wait_for_change(&self, delay: Duration) {
        match &self.local_files {
            None => self.timer.sleep(delay).await,
            Some(local_files) => tokio::select! {
                () = self.timer.sleep(delay) => {}
                () = local_files.wait_for_task_end() => {}
            },
        }
    }

    /// Sends one status request.
    pub(crate) async fn poll_once(&self, url: &Url) -> Result<PollAnswer, Failure> {
        let call = Call::new(STATUS, Method::GET).header(ACCEPT, "application/json");
        let response = self.session.send(&call, url).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        match status {
            StatusCode::OK => self.read_manifest(response).await,
            StatusCode::ACCEPTED => {
                let secrets = SentSecrets::from_response(&response);
                let text = |value: &HeaderValue| shorten(&secrets.mask(&String::from_utf8_lossy(value.as_bytes())), 200);
                let progress = headers.get("x-progress").map(text);
                Ok(PollAnswer::Running { progress, retry_after: retry_after(&headers, self.timer.now()) })
            }
            _ => {
                let rejection = Rejection::read(response, &self.session.limits, self.timer.now()).await;
                let (persistence, retry_after) = (rejection.persistence(), rejection.retry_after);
                Err(Failure { error: poll_error(rejection), persistence, retry_after })
            }
        }
    }

    /// Reads a manifest page.
    async fn read_manifest(&self, response: Response) -> Result<PollAnswer, Failure> {
        // Relative links are relative to the URL that was requested last, after redirects.
        let url = &response.url().clone();
        let content_type = content_type(response.headers());
        let server_time = response.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(parse_date);
        let (status, secrets) = (response.status(), SentSecrets::from_response(&response));
        let pause = retry_after(response.headers(), self.timer.now());
        let limit = self.session.limits.manifest_bytes;
        let body = read_bounded(response, self.session.limits.idle, limit).await.map_err(|cause| match cause {
            TransportError::TooLong(limit) => Failure::terminal(too_much("a page of its manifest", format!("{limit} bytes"))),
            cause @ (TransportError::Connection(_)
            | TransportError::NotTls(_)
            | TransportError::NotHttp(_)
            | TransportError::NoAnswer(_)
            | TransportError::Stalled(_)
            | TransportError::TooSlow(_)
            | TransportError::Encoding
            | TransportError::UnknownEncoding(_)) => ClientError::from(RequestFailure::new(STATUS, url, cause)).into(),
        })?;
        let resolve = |text: &str| self.session.resolve(url, text).map_err(|error| error.to_string());
        let error = match Manifest::parse(&body, &resolve) {
            Ok(manifest) if manifest.files() > self.session.limits.files => {
                let limit = format!("{} files", self.session.limits.files);
                return Err(Failure::terminal(too_much("the number of files in its manifest", limit)));
            }
            Ok(manifest) => return Ok(PollAnswer::Complete(Box::new(Manifest { server_time, ..manifest }))),
            Err(error) => error,
        };
        // Some servers say with 200 that an export has failed.
        if let Some(rejection) = Rejection::from_outcome(status, &body, pause, &secrets) {
            let (persistence, retry_after) = (rejection.persistence(), rejection.retry_after);
            return Err(Failure { error: ClientError::ExportFailed { status, text: rejection.text }, persistence, retry_after });
        }
        match error {
            ManifestError::Invalid(problem) => Err(Failure::terminal(ClientError::NotConformant(problem))),
            // A proxy in between may have answered.
            ManifestError::NotJson(problem) => {
                let kind = if content_type.is_empty() { String::new() } else { format!(" ({content_type})") };
                Err(Failure::doubtful(ClientError::NotConformant(format!("the answer to the status request{kind} is not JSON: {problem}"))))
            }
        }
    }

    /// Downloads all files of a manifest to the folder `out` and checks them. Calls `on_bytes` with the number of bytes of each chunk.
    pub async fn download(
        &self,
        manifest: &Manifest,
        out: &Path,
        on_bytes: impl Fn(u64) + Sync,
    ) -> Result<Vec<DownloadedFile>, ClientError> {
        let folder = ExportFolder::create(out, false).map_err(folder_error)?;
        let files = self.download_missing(manifest, None, &folder, on_bytes).await;
        folder.finish();
        files
    }

    /// Downloads like [`BulkClient::download`]. If links have expired, reads the manifest again from `status_url`.
    pub async fn download_renewing(
        &self,
        manifest: &Manifest,
        status_url: &Url,
        out: &Path,
        on_bytes: impl Fn(u64) + Sync,
    ) -> Result<Vec<DownloadedFile>, ClientError> {
        let folder = ExportFolder::create(out, false).map_err(folder_error)?;
        let files = self.download_missing(manifest, Some(status_url), &folder, on_bytes).await;
        folder.finish();
        files
    }

    /// Downloads the files of a manifest that the folder does not have yet. If links have expired, reads the manifest again from
    /// `status_url`.
    pub(crate) async fn download_missing(
        &self,
        manifest: &Manifest,
        status_url: Option<&Url>,
        folder: &ExportFolder,
        on_bytes: impl Fn(u64) + Sync,
    ) -> Result<Vec<DownloadedFile>, ClientError> {
        let mut named = named_files(manifest);
        let recorded = folder.recorded_files();
        let mut done: Vec<Option<DownloadedFile>> = Vec::with_capacity(named.len());
        for file in &named {
            let record = recorded.get(&file.name).filter(|record| record.is_of(file, &manifest.transaction_time));
            done.push(match record {
                Some(record) => verify_recorded(folder, file, record).await,
                None => None,
            });
        }
        let may_have_token = manifest.requires_access_token != Some(false);
        for _ in 0..=MANIFEST_REFRESHES {
            let local_files = self.local_files.as_ref();
            let (session, timer, time) = (&self.session, &self.timer, manifest.transaction_time.as_str());
            let download = Download { session, timer, folder, time, may_have_token, local_files, on_bytes: &on_bytes };
            let expired = download_all(&download, &named, &mut done).await?;
            let renewed = match status_url {
                Some(status_url) if !expired.is_empty() => self.renewed_files(status_url, (manifest, &named), &expired).await?,
                Some(_) | None => None,
            };
            match (renewed, expired.into_iter().next()) {
                (Some(renewed), _) => {
                    // The complete files may be others of the list now: all are downloaded by the same manifest.
                    if !are_known_files(&named, &renewed) {
                        done.fill(None);
                    }
                    named = renewed;
                }
                (None, Some((_, error))) => return Err(error),
                (None, None) => break,
            }
        }
        let missing = named.iter().zip(&done).find(|(_, done)| done.is_none()).map(|(file, _)| file.name.clone());
        match missing {
            Some(file) => Err(ClientError::File { file, problem: "its link expires before it can be downloaded".to_owned() }),
            None => Ok(done.into_iter().flatten().collect()),
        }
    }

    /// Reads the manifest again. Returns its files if all expired ones have new URLs, and nothing else has changed. Fails if it is of another
    /// export: its files do not belong to those that are complete.
    async fn renewed_files(
        &self,
        status_url: &Url,
        (manifest, named): (&Manifest, &[NamedFile]),
        expired: &[(usize, ClientError)],
    ) -> Result<Option<Vec<NamedFile>>, ClientError> {
        let again = self.wait_for_manifest(status_url, |_| {}).await?;
        let (time, before) = (&again.transaction_time, &manifest.transaction_time);
        if time != before {
            let problem = format!(
                "its manifest was read again, because links have expired, and is of another export: `transactionTime` is {time}, and was {before}"
            );
            return Err(ClientError::NotConformant(problem));
        }
        let renewed = named_files(&again);
        let is_same = is_same_list(named, &renewed);
        let has_new_url = |index: usize| match (renewed.get(index), named.get(index)) {
            (Some(new), Some(old)) => new.file.url != old.file.url,
            (_, _) => false,
        };
        let is_renewed = is_same && expired.iter().all(|(index, _)| has_new_url(*index));
        Ok(is_renewed.then_some(renewed))
    }

    /// Deletes the export on the server.
    pub async fn delete(&self, status_url: &Url) -> Result<(), ClientError> {
        let call = Call::new(DELETION, Method::DELETE).header(ACCEPT, "application/fhir+json");
        // A server that says when is not asked earlier, and nobody waits longer than this for a deletion.
        let mut patience = Patience::new(SHORT_OUTAGE, SHORT_OUTAGE);
        loop {
            let failure = match self.session.send(&call, status_url).await {
                // The standard says 202; some servers answer 200 or 204.
                Ok(response) if response.status().is_success() => return Ok(()),
                Ok(response) => self.failure(DELETION, response).await,
                Err(error) => error.into(),
            };
            let (delay, _) = patience.next_delay(failure, self.timer.now())?;
            self.timer.sleep(delay).await;
        }
    }

    /// Returns the failure of a rejected request.
    pub(crate) async fn failure(&self, request: &'static str, response: Response) -> Failure {
        let rejection = Rejection::read(response, &self.session.limits, self.timer.now()).await;
        let (persistence, retry_after) = (rejection.persistence(), rejection.retry_after);
        Failure { error: ClientError::Rejected { request, status: rejection.status, text: rejection.text }, persistence, retry_after }
    }
}

/// The answer to a status request.
pub(crate) enum PollAnswer {
    Complete(Box<Manifest>),
    Running { progress: Option<String>, retry_after: Option<Duration> },
}

/// Returns the error for a rejected status request. A status of 4XX or 5XX says that the export has failed, unless it is about the
/// request itself.
fn poll_error(rejection: Rejection) -> ClientError {
    let (status, text) = (rejection.status, rejection.text);
    match status.as_u16() {
        404 | 410 => ClientError::Gone { status, text },
        // About the request: credentials, form, rate. Redirects and other answers are not the export's failure either.
        300..=399 | 401 | 403 | 405 | 406 | 408 | 425 | 429 | 502 | 503 | 504 => ClientError::Rejected { request: STATUS, status, text },
        400..=599 => ClientError::ExportFailed { status, text },
        _ => ClientError::Rejected { request: STATUS, status, text },
    }
}

/// Returns true if two URLs make the same request.
fn is_same_request(one: &Url, other: &Url) -> bool {
    let request = |url: &Url| (url.origin(), url.path().to_owned(), url.query().unwrap_or_default().to_owned());
    request(one) == request(other)
}

/// Returns the error for what exceeds a limit.
pub(crate) fn too_much(what: &str, limit: String) -> ClientError {
    ClientError::TooMuch { what: what.to_owned(), limit }
}

/// Returns the media type of a response, fit for a terminal.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    shorten(&value.unwrap_or_default(), 100)
}

/// Returns the error of the client for a folder that cannot be used.
fn folder_error(error: FolderError) -> ClientError {
    match error {
        FolderError::Write { path, cause } => ClientError::Write { path, cause },
        error @ (FolderError::NothingToResume(_) | FolderError::InUse(_) | FolderError::Unreadable { .. }) => {
            ClientError::File { file: "the output directory".to_owned(), problem: error.to_string() }
        }
    }
}

/// Downloads the files that are not done, several at a time. Returns those whose links have expired.
async fn download_all<T: Timer, P: Fn(u64) + Sync>(
    download: &Download<'_, T, P>,
    named: &[NamedFile],
    done: &mut [Option<DownloadedFile>],
) -> Result<Vec<(usize, ClientError)>, ClientError> {
    let mut expired = Vec::new();
    let missing: Vec<usize> = done.iter().enumerate().filter(|(_, done)| done.is_none()).map(|(index, _)| index).collect();
    let downloads = missing.into_iter().filter_map(|index| Some((index, named.get(index)?))).map(|(index, file)| async move {
        let url = parse_http_url(&file.file.url).map_err(|error| TransferError::Failed(error.into()));
        match url {
            Ok(url) => (index, file, download.run(file, url).await),
            Err(error) => (index, file, Err(error)),
        }
    });
    let mut results = stream::iter(downloads.collect::<Vec<_>>()).buffer_unordered(PARALLEL_DOWNLOADS);
    while let Some((index, file, result)) = results.next().await {
        match result {
            Ok(downloaded) => {
                let recorded = download.folder.record_file(file, download.time, &downloaded);
                recorded.map_err(folder_error)?;
                if let Some(slot) = done.get_mut(index) {
                    *slot = Some(downloaded);
                }
            }
            Err(TransferError::Expired(error)) => expired.push((index, not_downloaded(file, error))),
            Err(TransferError::Failed(error) | TransferError::StartAnew(Failure { error, .. })) => return Err(not_downloaded(file, error)),
        }
    }
    Ok(expired)
}

/// Returns true if a manifest that was read again lists the same files in the same order. A file may have another URL, but not that of
/// another file.
fn is_same_list(before: &[NamedFile], again: &[NamedFile]) -> bool {
    let known: BTreeSet<&str> = before.iter().map(NamedFile::lasting_url).collect();
    let is_same = |(old, new): (&NamedFile, &NamedFile)| {
        let (one, other) = (&old.file, &new.file);
        let has_own_url = old.lasting_url() == new.lasting_url() || !known.contains(new.lasting_url());
        old.name == new.name && one.count == other.count && one.size == other.size && one.checksum == other.checksum && has_own_url
    };
    before.len() == again.len() && before.iter().zip(again).all(is_same)
}

/// Returns true if each file of a list that was read again is certainly the one that it was: by its URL, or by its checksum. Files that differ only
/// in the query of their URLs may be in another order, because a query is a name or a signature.
fn are_known_files(before: &[NamedFile], again: &[NamedFile]) -> bool {
    let is_known = |(old, new): (&NamedFile, &NamedFile)| {
        let is_same_content = old.file.checksum.is_some() && old.file.checksum == new.file.checksum;
        is_same_content || old.lasting_url() == new.lasting_url()
    };
    before.iter().zip(again).all(is_known)
}

/// Returns the error for a file that could not be downloaded. It names the file.
fn not_downloaded(file: &NamedFile, error: ClientError) -> ClientError {
    if matches!(error, ClientError::File { .. } | ClientError::TooMuch { .. } | ClientError::Write { .. }) {
        return error;
    }
    ClientError::NotDownloaded { file: file.name.clone(), cause: Box::new(error) }
}

/// Returns a file that was downloaded before, if it is still what was recorded.
async fn verify_recorded(folder: &ExportFolder, file: &NamedFile, record: &crate::client::folder::FileRecord) -> Option<DownloadedFile> {
    let path = folder.path(&record.name);
    let bytes = tokio::fs::metadata(&path).await.ok()?.len();
    let count = count_file(&path).await.ok()?;
    let is_intact = bytes == record.bytes && count.resources(file.file.count) == record.lines;
    is_intact.then(|| DownloadedFile {
        name: record.name.clone(),
        resource_type: file.file.resource_type.clone(),
        path,
        bytes,
        lines: record.lines,
        list: file.list,
    })
}
