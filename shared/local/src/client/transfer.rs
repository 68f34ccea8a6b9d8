//! The transfer of one file: a stream of bytes that survives broken connections.

use std::time::Duration;

use aws_lc_rs::digest::Context;
use bytes::Bytes;
use headrace_core::vocab::clock::Millis;
use reqwest::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::client::body::{Coding, PacedBody};
use crate::client::error::{ClientError, Failure, Persistence, RequestFailure, TransportError, shown_url};
use crate::client::limits::MIN_PROGRESS_BYTES;
use crate::client::patience::Patience;
use crate::client::rejection::Rejection;
use crate::client::retry_after::parse_date;
use crate::client::session::Session;
use crate::client::timer::Timer;
use crate::client::transport::Call;
use crate::terminal::error_chain;

/// Name of the request in messages.
pub(crate) const DOWNLOAD: &str = "the download";

/// Media types of files. Servers that also have a wrapped form of a file must not choose that.
const ACCEPTED_TYPES: &str = "application/fhir+ndjson, application/ndjson;q=0.9, */*;q=0.1";

/// The shortest pause that is shown to the user.
const SHOWN_PAUSE: Duration = Duration::from_secs(5);

/// Age that a file must have for its `Last-Modified` to identify its bytes (RFC 9110, section 8.8.2.2).
const LAST_MODIFIED_IS_STRONG_AFTER: Duration = Duration::from_secs(60);

/// Reason why a transfer cannot go on.
#[derive(Debug)]
pub(crate) enum TransferError {
    /// The file must be fetched from its beginning.
    StartAnew(Failure),
    /// The URL is no longer valid. The manifest may have another one.
    Expired(ClientError),
    /// No other attempt is made.
    Failed(ClientError),
}

/// The transfer of one file, over as many connections as it takes.
pub(crate) struct Transfer<'c, T> {
    session: &'c Session,
    timer: &'c T,
    url: Url,
    may_have_token: bool,
    body: Option<PacedBody>,
    /// Validator of the bytes that were received, if they can be continued.
    validator: Option<HeaderValue>,
    coding: Coding,
    /// Bytes received since the beginning of the file, as they were sent.
    received: u64,
    /// The bytes that the last progress had received. Only 1 KiB more than these is progress again.
    progress_bytes: u64,
    patience: Patience,
    started_at: Millis,
    /// Checksum of the bytes as they were sent.
    pub(crate) sent_checksum: Option<Context>,
}

impl<'c, T: Timer> Transfer<'c, T> {
    /// Creates a transfer that has not begun.
    pub(crate) fn new(session: &'c Session, timer: &'c T, url: Url, may_have_token: bool) -> Self {
        Self {
            session,
            timer,
            url,
            may_have_token,
            body: None,
            validator: None,
            coding: Coding::Identity,
            received: 0,
            progress_bytes: 0,
            patience: Patience::new(session.limits.outage, session.limits.demanded_pauses),
            started_at: timer.now(),
            sent_checksum: None,
        }
    }

    /// Requests the file from its beginning, and again after failures that may end. Returns its content coding.
    pub(crate) async fn begin(&mut self) -> Result<Coding, TransferError> {
        loop {
            match self.request_start().await {
                Ok(()) => return Ok(self.coding),
                Err(TransferError::StartAnew(failure)) => self.pause(failure).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits before the next attempt. Fails if there is none.
    pub(crate) async fn pause(&mut self, failure: Failure) -> Result<(), TransferError> {
        let (delay, cause) = self.patience.next_delay(failure, self.timer.now()).map_err(TransferError::Failed)?;
        if delay >= SHOWN_PAUSE {
            tracing::warn!(cause = %error_chain(&cause), until = %(self.timer.now() + delay).instant(), "a download is continued later");
        } else {
            tracing::debug!(cause = %error_chain(&cause), "a download is continued");
        }
        self.timer.sleep(delay).await;
        Ok(())
    }

    /// Requests the file from its beginning once.
    async fn request_start(&mut self) -> Result<(), TransferError> {
        (self.body, self.validator, self.received) = (None, None, 0);
        let response = self.request(HeaderMap::new()).await?;
        // A proxy that has changed the answer says 203. The content is checked like any other.
        if !matches!(response.status(), StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION) {
            return Err(self.rejection(response).await);
        }
        if let Some(problem) = media_type_problem(response.headers()) {
            let error = ClientError::NotConformant(format!("{} is {problem}, not NDJSON", shown_url(&self.url)));
            return Err(TransferError::StartAnew(Failure::doubtful(error)));
        }
        self.coding = Coding::from_headers(response.headers()).map_err(|cause| TransferError::Failed(self.transport_error(cause)))?;
        self.validator = validator(response.headers());
        self.body = Some(PacedBody::new(response, self.session.limits.idle));
        Ok(())
    }

    /// Returns the next bytes as they were sent, or `None` at the end of the file. Continues after broken connections.
    pub(crate) async fn next_chunk(&mut self) -> Result<Option<Bytes>, TransferError> {
        loop {
            // A server that sends a little in each period could otherwise hold the client for ever.
            let limit = self.session.limits.wait;
            if self.timer.now().since(self.started_at) > limit {
                return Err(TransferError::Failed(ClientError::DownloadTooLong(limit)));
            }
            let Some(body) = &mut self.body else {
                self.resume().await?;
                continue;
            };
            match body.next_chunk().await {
                Ok(chunk) => {
                    self.note_progress(chunk.as_ref().map_or(0, Bytes::len));
                    if let (Some(context), Some(chunk)) = (&mut self.sent_checksum, &chunk) {
                        context.update(chunk);
                    }
                    return Ok(chunk);
                }
                Err(cause) => {
                    self.body = None;
                    let failure = Failure::from(self.transport_error(cause));
                    if self.validator.is_none() {
                        return Err(TransferError::StartAnew(failure));
                    }
                    self.pause(failure).await?;
                }
            }
        }
    }

    /// Counts received bytes. Bytes that no earlier attempt has received restore the patience, if they are enough to be progress: a
    /// server could otherwise demand a pause after each byte.
    fn note_progress(&mut self, bytes: usize) {
        self.received += bytes as u64;
        if self.received >= self.progress_bytes.saturating_add(MIN_PROGRESS_BYTES as u64) {
            self.progress_bytes = self.received;
            self.patience.restore();
        }
    }

    /// Requests the bytes that are missing (RFC 9110, section 14). Leaves `body` empty if another attempt is to be made.
    async fn resume(&mut self) -> Result<(), TransferError> {
        let (Some(validator), Ok(range)) = (self.validator.clone(), HeaderValue::try_from(format!("bytes={}-", self.received))) else {
            return Err(TransferError::StartAnew(Failure::doubtful(self.changed("cannot be continued"))));
        };
        let response = match self.request(HeaderMap::from_iter([(RANGE, range), (IF_RANGE, validator.clone())])).await {
            Ok(response) => response,
            Err(TransferError::StartAnew(failure)) => return self.pause(failure).await,
            Err(error) => return Err(error),
        };
        match response.status() {
            StatusCode::PARTIAL_CONTENT if self.continues(&response, &validator) => {
                self.body = Some(PacedBody::new(response, self.session.limits.idle));
                Ok(())
            }
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED => {
                Err(TransferError::StartAnew(Failure::doubtful(self.changed("was cut off and cannot be continued"))))
            }
            _ => match self.rejection(response).await {
                TransferError::StartAnew(failure) => self.pause(failure).await,
                error @ (TransferError::Expired(_) | TransferError::Failed(_)) => Err(error),
            },
        }
    }

    /// Returns true if a partial response continues the bytes that were received.
    fn continues(&self, response: &Response, validator: &HeaderValue) -> bool {
        let headers = response.headers();
        let starts_here = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).and_then(range_start) == Some(self.received);
        let is_same = match headers.get(ETAG) {
            Some(etag) if validator.as_bytes().starts_with(b"\"") => etag == validator,
            Some(_) | None => true,
        };
        starts_here && is_same && Coding::from_headers(headers).is_ok_and(|coding| coding == self.coding)
    }

    /// Sends one request for the file.
    async fn request(&self, conditions: HeaderMap) -> Result<Response, TransferError> {
        let mut call = Call::new(DOWNLOAD, Method::GET).header(ACCEPT, ACCEPTED_TYPES);
        call.headers.extend(conditions);
        call.may_have_token = self.may_have_token;
        self.session.send(&call, &self.url).await.map_err(|error| TransferError::StartAnew(error.into()))
    }

    /// Returns the error for a rejected request.
    async fn rejection(&self, response: Response) -> TransferError {
        let status = response.status();
        let rejection = Rejection::read(response, &self.session.limits, self.timer.now()).await;
        let (persistence, retry_after) = (rejection.persistence(), rejection.retry_after);
        let mut text = rejection.text;
        if matches!(status.as_u16(), 401 | 403) && self.may_have_token && !self.session.sends_token_to(&self.url) {
            text += "; no access token was sent, because the file is on a server other than that of the base URL: if that server may have the \
                     token, name it with --token-origin";
        }
        let error = ClientError::Rejected { request: DOWNLOAD, status, text };
        match status.as_u16() {
            401 | 403 | 404 | 410 => TransferError::Expired(error),
            _ if persistence == Persistence::Final => TransferError::Failed(error),
            _ => TransferError::StartAnew(Failure { error, persistence, retry_after }),
        }
    }

    /// Returns the error of a transport failure.
    pub(crate) fn transport_error(&self, cause: TransportError) -> ClientError {
        RequestFailure::new(DOWNLOAD, &self.url, cause).into()
    }

    /// Returns the error for a file that is not what it was.
    fn changed(&self, problem: &str) -> ClientError {
        ClientError::NotConformant(format!("{} {problem}", shown_url(&self.url)))
    }
}

/// Returns the first byte of a `Content-Range` such as `bytes 100-199/200`.
fn range_start(text: &str) -> Option<u64> {
    let (unit, range) = text.trim().split_once(' ')?;
    let (start, _) = range.trim().split_once('-')?;
    start.parse().ok().filter(|_| unit.eq_ignore_ascii_case("bytes"))
}

/// Returns the strong validator of a response for `If-Range`: its ETag, or a `Last-Modified` that is old enough.
fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    if let Some(etag) = headers.get(ETAG) {
        return Some(etag.clone()).filter(|etag| etag.as_bytes().starts_with(b"\""));
    }
    let time = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).and_then(parse_date);
    let (modified, sent): (Millis, Millis) = (time(LAST_MODIFIED)?, time(DATE)?);
    headers.get(LAST_MODIFIED).cloned().filter(|_| sent.since(modified) >= LAST_MODIFIED_IS_STRONG_AFTER)
}

/// Returns what a body is by its `Content-Type`, if it cannot be a file of an export.
fn media_type_problem(headers: &HeaderMap) -> Option<&'static str> {
    let media_type = headers.get(CONTENT_TYPE)?.to_str().ok()?.to_ascii_lowercase();
    match media_type.split(';').next().unwrap_or_default().trim() {
        "text/html" | "application/xhtml+xml" => Some("an HTML page (text/html)"),
        "application/xml" | "text/xml" | "application/fhir+xml" => Some("XML"),
        "multipart/byteranges" => Some("several ranges (multipart/byteranges)"),
        "application/problem+json" => Some("an error document (application/problem+json)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns header fields.
    fn headers(fields: &[(reqwest::header::HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_download_is_continued_only_with_a_strong_validator() {
        let (date, before) = ("Sat, 31 Jan 2026 08:00:00 GMT", "Sat, 31 Jan 2026 07:00:00 GMT");
        for (fields, expected) in [
            (&[(ETAG, "\"a\"")][..], Some("\"a\"")),
            (&[(ETAG, "W/\"a\""), (LAST_MODIFIED, before), (DATE, date)], None),
            (&[(LAST_MODIFIED, before), (DATE, date)], Some(before)),
            (&[(LAST_MODIFIED, "Sat, 31 Jan 2026 07:59:30 GMT"), (DATE, date)], None),
            (&[(LAST_MODIFIED, before)], None),
            (&[(ETAG, "unquoted")], None),
            (&[], None),
        ] {
            assert_eq!(validator(&headers(fields)).as_ref().and_then(|value| value.to_str().ok()), expected, "{fields:?}");
        }
    }

    #[test]
    fn the_start_of_a_content_range_is_read() {
        for (text, expected) in [
            ("bytes 100-199/200", Some(100)),
            ("bytes 0-1/*", Some(0)),
            ("Bytes 5-6/7", Some(5)),
            ("bytes */200", None),
            ("items 1-2/3", None),
            ("", None),
        ] {
            assert_eq!(range_start(text), expected, "{text}");
        }
    }
}
