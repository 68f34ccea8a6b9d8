//! The FHIR server of a synchronization, over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use headrace_core::ports::{Clock as _, OriginError, OriginPage, OriginRequest, OriginServer, PAGE_LIMIT_BYTES};
use headrace_core::vocab::byte_order_mark::BYTE_ORDER_MARK;
use headrace_core::vocab::clock::Millis;
use headrace_edge::system::SystemClock;
use reqwest::header::{ACCEPT, CACHE_CONTROL, DATE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::body::read_bounded;
use crate::error::{ClientError, Failure, Persistence, TransportError, shown_url};
use crate::limits::ClientLimits;
use crate::origin::{MAX_URL_BYTES, UnsafeUrl};
use crate::rejection::{Rejection, is_busy};
use crate::request_gate::RequestGate;
use crate::retry_after::{parse_date, retry_after};
use crate::session::{Credential, Session};
use crate::text::{error_chain, shorten};
use crate::transport::Call;

/// The longest time from a request to the end of the response's header fields. Searches of large servers take minutes.
const HEAD_TIME: Duration = Duration::from_secs(300);

/// Name of the requests in messages.
const SEARCH: &str = "a search";

/// Settings of the access to a FHIR server.
pub struct OriginSettings {
    /// The credential.
    pub credential: Credential,
    /// Origins that get the access token besides the base URL's.
    pub token_origins: Vec<Url>,
    /// The most requests at the same time.
    pub requests_at_once: usize,
    /// The maximum number of requests in a second.
    pub requests_per_second: Option<u32>,
    /// Other URLs by which the server names itself in its links, without a slash at their end.
    pub aliases: Vec<String>,
}

/// The FHIR server of a synchronization. Clones share its connections and limits.
#[derive(Clone)]
pub struct HttpOrigin(Arc<Inner>);

/// The state of an access to a FHIR server, which its clones share.
struct Inner {
    session: Session,
    /// The base URL without a slash at its end.
    base: String,
    aliases: Vec<String>,
    gate: RequestGate,
    requests: AtomicU64,
    bytes: AtomicU64,
    /// The end of the latest pause that the server has demanded, in milliseconds since 1970.
    busy_until: AtomicU64,
}

impl HttpOrigin {
    /// Creates the access to the server with this base URL.
    pub fn new(base: &str, settings: OriginSettings) -> Result<Self, ClientError> {
        let limits = ClientLimits { head: HEAD_TIME, ..ClientLimits::default() };
        let session = Session::connect(base, settings.credential, &settings.token_origins, limits)?;
        let gate = RequestGate::new(settings.requests_at_once, settings.requests_per_second);
        Ok(Self(Arc::new(Inner {
            session,
            base: base.trim_end_matches('/').to_owned(),
            aliases: settings.aliases,
            gate,
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            busy_until: AtomicU64::new(0),
        })))
    }

    /// Returns the numbers of requests and of received bytes so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.0.requests.load(Ordering::Relaxed), self.0.bytes.load(Ordering::Relaxed))
    }
}

impl OriginServer for HttpOrigin {
    async fn get(&self, request: OriginRequest<'_>) -> Result<OriginPage, OriginError> {
        let url = self.0.url(request)?;
        let running = self.0.gate.enter().await;
        // Another request was told to wait. This one would be told the same, and some servers then demand more.
        if let Some(until) = self.busy_until() {
            return Err(OriginError::Busy { retry_after: Some(until.since(SystemClock.now())) });
        }
        let result = self.0.fetch(&url).await;
        drop(running);
        match &result {
            Ok(_) => self.0.gate.count_success(),
            Err(OriginError::Busy { retry_after }) => {
                self.0.gate.slow_down();
                let until = SystemClock.now() + retry_after.unwrap_or_default();
                self.0.busy_until.fetch_max(until.0, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        result
    }

    async fn pause(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl HttpOrigin {
    /// Returns the end of the pause that the server has demanded. `None` if it is over.
    pub fn busy_until(&self) -> Option<Millis> {
        Some(Millis(self.0.busy_until.load(Ordering::Relaxed))).filter(|until| *until > SystemClock.now())
    }
}

impl Inner {
    /// Returns the URL of a request. It is always one of the server itself.
    fn url(&self, request: OriginRequest<'_>) -> Result<Url, OriginError> {
        let unusable = |text: &str| OriginError::UnsafeUrl(format!("`{}` is not a URL", shorten(text, 200)));
        let url = match request {
            OriginRequest::Query(query) => {
                let text = format!("{}/{query}", self.base);
                Url::parse(&text).map_err(|_| unusable(&text))?
            }
            OriginRequest::Link { link, .. } if link.len() > MAX_URL_BYTES => {
                return Err(OriginError::UnsafeUrl(UnsafeUrl::TooLong.to_string()));
            }
            OriginRequest::Link { page, link } => {
                let own = self.aliases.iter().find_map(|alias| link.strip_prefix(alias.as_str()));
                let link = own.map_or_else(|| link.to_owned(), |rest| format!("{}{rest}", self.base));
                let page = Url::parse(page).map_err(|_| unusable(page))?;
                page.join(&link).map_err(|_| unusable(&link))?
            }
        };
        self.check_origin(&url)?;
        Ok(url)
    }

    /// Returns an error for a URL of another server.
    fn check_origin(&self, url: &Url) -> Result<(), OriginError> {
        let Some(rules) = &self.session.rules else { return Ok(()) };
        rules.check(url).map_err(|error| OriginError::UnsafeUrl(error.to_string()))?;
        if url.origin() == rules.base().origin() {
            return Ok(());
        }
        Err(OriginError::UnsafeUrl(format!(
            "the server leads to {}, a server other than that of the base URL {}; if that is its own name behind a proxy, say so with \
             --origin-alias (on AWS: OriginAliases)",
            shown_url(url),
            shown_url(rules.base())
        )))
    }

    /// Sends one request and reads the page.
    async fn fetch(&self, url: &Url) -> Result<OriginPage, OriginError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        // Some servers answer an equal search with its earlier result.
        let call = Call::new(SEARCH, Method::GET).header(ACCEPT, "application/fhir+json").header(CACHE_CONTROL, "no-cache");
        let response = self.session.send_within_origin(&call, url).await.map_err(origin_error)?;
        let headers = response.headers().clone();
        if response.status() != StatusCode::OK {
            return Err(self.rejection(response).await);
        }
        let server_time = headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(parse_date);
        let final_url = response.url().to_string();
        let limit = usize::try_from(PAGE_LIMIT_BYTES).unwrap_or(usize::MAX);
        let body = read_bounded(response, self.session.limits.idle, limit).await.map_err(|error| match error {
            TransportError::TooLong(_) => OriginError::TooLong,
            error @ (TransportError::Connection(_)
            | TransportError::NotTls(_)
            | TransportError::NotHttp(_)
            | TransportError::NoAnswer(_)
            | TransportError::Stalled(_)
            | TransportError::TooSlow(_)
            | TransportError::Encoding
            | TransportError::UnknownEncoding(_)) => OriginError::Unavailable(error.into()),
        })?;
        self.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        Ok(OriginPage { url: final_url, body: strip_byte_order_mark(body.into()), server_time })
    }

    /// Returns the error for a response that is not a page.
    async fn rejection(&self, response: Response) -> OriginError {
        let (status, headers) = (response.status(), response.headers().clone());
        if is_busy(status) {
            return OriginError::Busy { retry_after: retry_after(&headers, SystemClock.now()) };
        }
        let text = Rejection::read(response, &self.session.limits, SystemClock.now()).await.text;
        match status {
            StatusCode::UNAUTHORIZED => OriginError::Misconfigured(format!("the server does not accept the credential ({status}): {text}")),
            status => OriginError::Rejected { status: status.as_u16(), text },
        }
    }
}

/// Converts the error of a request without a complete response.
fn origin_error(error: ClientError) -> OriginError {
    let login_status = error.login_status();
    if let ClientError::Url(error) = error {
        OriginError::UnsafeUrl(error.to_string())
    } else if login_status.is_some_and(is_busy) {
        OriginError::Busy { retry_after: Failure::from(error).retry_after }
    } else if error.persistence() == Persistence::Final {
        OriginError::Misconfigured(error_chain(&error))
    } else {
        OriginError::Unavailable(error.into())
    }
}

/// Returns a text without its byte order mark. Copies nothing.
fn strip_byte_order_mark(body: Bytes) -> Bytes {
    if body.starts_with(BYTE_ORDER_MARK) { body.slice(BYTE_ORDER_MARK.len()..) } else { body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::LoginError;

    #[test]
    fn a_pause_before_an_access_token_is_one_of_the_server() {
        let rejected = |status, retry_after| LoginError::Rejected { status, detail: String::new(), retry_after };
        let pause = Some(Duration::from_secs(60));
        let busy = origin_error(rejected(StatusCode::TOO_MANY_REQUESTS, pause).into());
        assert!(matches!(busy, OriginError::Busy { retry_after } if retry_after == pause), "{busy:?}");
        let broken = origin_error(rejected(StatusCode::BAD_GATEWAY, None).into());
        assert!(matches!(broken, OriginError::Unavailable(_)), "{broken:?}");
        let refused = origin_error(rejected(StatusCode::BAD_REQUEST, None).into());
        assert!(matches!(refused, OriginError::Misconfigured(_)), "{refused:?}");
    }

    #[test]
    fn a_link_is_one_of_the_server_itself_and_not_endless() {
        let settings = OriginSettings {
            credential: Credential::None,
            token_origins: Vec::new(),
            requests_at_once: 1,
            requests_per_second: None,
            aliases: vec!["http://internal/fhir".to_owned()],
        };
        let origin = HttpOrigin::new("http://127.0.0.1:9/fhir", settings).unwrap();
        let page = "http://127.0.0.1:9/fhir/Patient?_count=2";
        let long = format!("Patient?page={}", "x".repeat(MAX_URL_BYTES));
        for (link, expected) in [
            ("Patient?page=2", Ok("http://127.0.0.1:9/fhir/Patient?page=2")),
            ("http://internal/fhir/Patient?page=2", Ok("http://127.0.0.1:9/fhir/Patient?page=2")),
            ("http://127.0.0.1:8/fhir/Patient", Err("a server other than that of the base URL")),
            (long.as_str(), Err("more than 16 KiB")),
        ] {
            match (origin.0.url(OriginRequest::Link { page, link }), expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (found, expected) => panic!("{link}: {found:?}, not {expected:?}"),
            }
        }
    }
}
