//! Reasons why an export from a server fails, and the worth of another attempt.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use headrace_core::vocab::error::BoxError;
use reqwest::{StatusCode, Url};

use crate::login::LoginError;
use crate::origin::UnsafeUrl;
use crate::text::printable;

/// Reason why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The request got no complete HTTP response.
    #[error(transparent)]
    Http(#[from] RequestFailure),
    /// The server rejected a request.
    #[error("{request} was rejected with {status}: {text}")]
    Rejected {
        /// Name of the request.
        request: &'static str,
        /// HTTP status.
        status: StatusCode,
        /// Reason that the server gave.
        text: String,
    },
    /// The server reports that the export itself has failed.
    #[error("the export failed on the server ({status}): {text}")]
    ExportFailed {
        /// HTTP status.
        status: StatusCode,
        /// Reason that the server gave.
        text: String,
    },
    /// The status URL is unknown to the server.
    #[error("the server no longer knows this export ({status}): {text}. It was deleted or has expired")]
    Gone {
        /// HTTP status.
        status: StatusCode,
        /// Reason that the server gave.
        text: String,
    },
    /// The server or the network only failed for too long.
    #[error("gave up after {} of failures", human_duration(*.after))]
    GaveUp {
        /// Duration of the failures.
        after: Duration,
        /// The last failure.
        #[source]
        cause: Box<ClientError>,
    },
    /// The server only demanded pauses for too long.
    #[error(
        "the server only asks for pauses (Retry-After): {} so far, and now one until {until}; this client accepts {} without progress",
        human_duration(*.waited),
        human_duration(*.longest)
    )]
    OnlyPauses {
        /// Sum of the pauses so far.
        waited: Duration,
        /// The longest accepted sum.
        longest: Duration,
        /// End of the pause that the server demands now.
        until: String,
        /// The last answer of the server.
        #[source]
        cause: Box<ClientError>,
    },
    /// The download of a file takes longer than the client waits.
    #[error("the download did not end within {} (--max-wait-hours)", human_duration(*.0))]
    DownloadTooLong(Duration),
    /// A file could not be downloaded.
    #[error("`{file}` was not downloaded")]
    NotDownloaded {
        /// Local name.
        file: String,
        /// Reason.
        #[source]
        cause: Box<ClientError>,
    },
    /// The export takes longer than the client waits.
    #[error("the export did not finish within {} (--max-wait-hours); the next status request would be at {next_poll}", human_duration(*.waited))]
    WaitedTooLong {
        /// The longest time to wait.
        waited: Duration,
        /// Time of the next poll.
        next_poll: String,
    },
    /// A request was not signed.
    #[error("a request could not be signed")]
    Signature(#[source] BoxError),
    /// Failure to obtain an access token.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// A URL that this client does not use.
    #[error(transparent)]
    Url(#[from] UnsafeUrl),
    /// A response violates the Bulk Data standard or HTTP.
    #[error("the server does not conform to the standard: {0}")]
    NotConformant(String),
    /// The server sends more than a limit of this client.
    #[error("{what} is more than this client accepts: {limit}")]
    TooMuch {
        /// Description of what was sent.
        what: String,
        /// The limit.
        limit: String,
    },
    /// A downloaded file is not what the manifest says.
    #[error("`{file}`: {problem}")]
    File {
        /// Local name.
        file: String,
        /// Problem.
        problem: String,
    },
    /// A file could not be written.
    #[error("`{}` cannot be written", printable(&.path.to_string_lossy()))]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: std::io::Error,
    },
}

/// A request that got no complete response.
#[derive(Debug, thiserror::Error)]
#[error("{request} to {url} failed")]
pub struct RequestFailure {
    /// Name of the request.
    pub request: &'static str,
    /// URL without its query.
    pub url: String,
    /// Reason.
    #[source]
    pub cause: TransportError,
}

impl RequestFailure {
    /// Creates the failure of a request to this URL.
    pub fn new(request: &'static str, url: &Url, cause: TransportError) -> Self {
        Self { request, url: shown_url(url), cause }
    }
}

/// Reason why a request got no complete response.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The connection failed, or the response is not HTTP.
    #[error("{}", connection_fault(.0))]
    Connection(#[from] reqwest::Error),
    /// The URL begins with https, and the server does not speak TLS.
    #[error("the server does not speak TLS at this port; if it speaks plain HTTP, the URL begins with {0}")]
    NotTls(String),
    /// The URL begins with http, and the response is not HTTP.
    #[error("the answer is not HTTP; if the server speaks TLS at this port, the URL begins with {0}")]
    NotHttp(String),
    /// The header fields of the response did not arrive in time.
    #[error("the server did not answer within {}", human_duration(*.0))]
    NoAnswer(Duration),
    /// The body stopped to arrive.
    #[error("the server sent nothing more for {}", human_duration(*.0))]
    Stalled(Duration),
    /// The body arrives too slowly.
    #[error("the body of the answer did not end within {}", human_duration(*.0))]
    TooSlow(Duration),
    /// The body cannot be decoded.
    #[error("its gzip or zstd encoding is damaged or ends early")]
    Encoding,
    /// The body has a content coding that was not requested.
    #[error("its Content-Encoding `{0}` was not requested; this client reads gzip and zstd")]
    UnknownEncoding(String),
    /// The body is longer than this client accepts.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
}

/// Returns a sentence about a failed connection. The causes of the error have the details.
fn connection_fault(error: &reqwest::Error) -> &'static str {
    if error.is_connect() {
        "no connection to the server could be made; check its URL, and that it runs"
    } else if error.is_builder() {
        "the request cannot be sent"
    } else {
        "the connection failed, or the answer is not valid HTTP"
    }
}

/// Worth of another attempt after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The failure is likely to end: the network, a proxy or an overloaded server.
    Transient,
    /// The failure may end, or repeat for ever.
    Doubtful {
        /// Number of attempts.
        attempts: u32,
    },
    /// Another attempt would fail in the same way.
    Final,
}

/// A failed attempt.
#[derive(Debug)]
pub struct Failure {
    /// The error.
    pub error: ClientError,
    /// The worth of another attempt.
    pub persistence: Persistence,
    /// The pause that the server demands.
    pub retry_after: Option<Duration>,
}

/// Number of attempts after failures that may repeat for ever.
pub const DOUBTFUL_ATTEMPTS: u32 = 5;

impl Failure {
    /// Creates a failure after which no attempt is made.
    pub fn terminal(error: ClientError) -> Self {
        Self { error, persistence: Persistence::Final, retry_after: None }
    }

    /// Creates a failure after which few attempts are made.
    pub fn doubtful(error: ClientError) -> Self {
        Self { error, persistence: Persistence::Doubtful { attempts: DOUBTFUL_ATTEMPTS }, retry_after: None }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let persistence = error.persistence();
        Self { error, persistence, retry_after: None }
    }
}

impl ClientError {
    /// Returns how long this failure is worth another attempt, if no answer of the server says more.
    pub fn persistence(&self) -> Persistence {
        match self {
            Self::Http(failure) | Self::Login(LoginError::Http(failure)) => failure.cause.persistence(),
            Self::Login(LoginError::Rejected { status, .. } | LoginError::NotDiscovered { status: Some(status), .. }) => {
                status_persistence(*status)
            }
            Self::Rejected { .. }
            | Self::ExportFailed { .. }
            | Self::Gone { .. }
            | Self::GaveUp { .. }
            | Self::OnlyPauses { .. }
            | Self::DownloadTooLong(_)
            | Self::NotDownloaded { .. }
            | Self::WaitedTooLong { .. }
            | Self::Signature(_)
            | Self::Login(_)
            | Self::Url(_)
            | Self::NotConformant(_)
            | Self::TooMuch { .. }
            | Self::File { .. }
            | Self::Write { .. } => Persistence::Final,
        }
    }
}

/// Returns how long a rejection is worth another attempt, by its status alone.
pub fn status_persistence(status: StatusCode) -> Persistence {
    match status.as_u16() {
        408 | 425 | 429 | 502 | 503 | 504 => Persistence::Transient,
        // Gateways of several vendors: the server behind them does not answer.
        520..=524 | 527 | 529 | 530 => Persistence::Transient,
        501 | 505 => Persistence::Final,
        500..=599 => Persistence::Doubtful { attempts: DOUBTFUL_ATTEMPTS },
        _ => Persistence::Final,
    }
}

impl TransportError {
    /// Creates the error of a connection to a URL. Names the other scheme if the server seems to have that.
    pub(crate) fn from_connection(error: reqwest::Error, url: &Url) -> Self {
        let hint = match url.scheme() {
            "https" if has_cause(&error, is_no_tls) => other_origin(url, "http").map(Self::NotTls),
            "http" if has_cause(&error, is_no_http) => other_origin(url, "https").map(Self::NotHttp),
            _ => None,
        };
        hint.unwrap_or_else(|| Self::Connection(error.without_url()))
    }

    /// Returns how long this failure is worth another attempt.
    fn persistence(&self) -> Persistence {
        let doubtful = Persistence::Doubtful { attempts: DOUBTFUL_ATTEMPTS };
        match self {
            Self::Connection(error) if error.is_builder() => Persistence::Final,
            Self::Connection(error) if is_protocol_error(error) => doubtful,
            Self::Connection(_) | Self::NoAnswer(_) | Self::Stalled(_) | Self::TooSlow(_) => Persistence::Transient,
            Self::Encoding | Self::NotHttp(_) => doubtful,
            Self::UnknownEncoding(_) | Self::TooLong(_) | Self::NotTls(_) => Persistence::Final,
        }
    }
}

/// Returns true if the peer does not speak HTTP, or its certificate is not accepted.
fn is_protocol_error(error: &reqwest::Error) -> bool {
    // TLS reports an invalid certificate as invalid data.
    let is_invalid = |error: &(dyn Error + 'static)| {
        error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData)
    };
    has_cause(error, |error| is_no_http(error) || is_invalid(error))
}

/// Returns true if a cause of an error has a property.
fn has_cause(error: &reqwest::Error, has_property: impl Fn(&(dyn Error + 'static)) -> bool) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if has_property(error) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Returns true if a response is not HTTP.
fn is_no_http(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
}

/// Returns true if the first bytes of a connection are not TLS. Only the text of the TLS library tells it from an invalid certificate.
fn is_no_tls(error: &(dyn Error + 'static)) -> bool {
    error.to_string().contains("InvalidContentType")
}

/// Returns scheme, host and port of a URL with another scheme.
fn other_origin(url: &Url, scheme: &str) -> Option<String> {
    let mut other = url.clone();
    other.set_scheme(scheme).ok()?;
    Some(printable(&other.origin().ascii_serialization()).into_owned())
}

/// Returns a URL as messages show it: without query, fragment, user name and password, which may be credentials.
pub fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    if has_credentials && (shown.set_username("").is_err() || shown.set_password(None).is_err()) {
        return printable(shown.scheme()).into_owned();
    }
    printable(shown.as_str()).into_owned()
}

/// Formats a duration in the largest unit that fits, such as `2 h` or `1.5 min`.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (count, unit) = match seconds {
        ..1.0 => return format!("{} ms", duration.as_millis()),
        ..120.0 => (seconds, "s"),
        ..7_200.0 => (seconds / 60.0, "min"),
        ..172_800.0 => (seconds / 3_600.0, "h"),
        _ => (seconds / 86_400.0, "days"),
    };
    let count = format!("{count:.1}");
    format!("{} {unit}", count.strip_suffix(".0").unwrap_or(&count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_urls_are_readable_and_hold_no_secret() {
        for (seconds, expected) in
            [(0.25, "250 ms"), (1.0, "1 s"), (90.0, "90 s"), (150.0, "2.5 min"), (7_200.0, "2 h"), (604_800.0, "7 days")]
        {
            assert_eq!(human_duration(Duration::from_secs_f64(seconds)), expected);
        }
        let url = Url::parse("https://me:secret@h.example/a/b?X-Amz-Signature=secret#secret").unwrap();
        assert_eq!(shown_url(&url), "https://h.example/a/b");
    }
}
