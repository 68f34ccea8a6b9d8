//! Sends an exported file as RFC 9110 demands: whole, in one range or compressed, and only if the conditions of the request are met.

mod conditions;
mod content;
mod range;

use std::fs::File;
use std::io;
use std::time::SystemTime;

use async_compression::tokio::bufread::GzipEncoder;
use axum::body::Body as HttpBody;
use axum::response::Response;
use files::handler::{LocalFile, NDJSON};
use headrace_core::job::ExportError;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::accept::{AcceptedCodings, ContentCoding};
use headrace_edge::reply::{Reply, error_reply};
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED, RETRY_AFTER,
};
use http::{HeaderMap, Method};
use lambda_http::Body;
use tokio_util::io::{ReaderStream, StreamReader};

use self::conditions::{Condition, Validators};
use self::range::{RequestedRange, requested_range};
use crate::server::gateway_request::into_axum_response;
use crate::stores::io_fault::IoFault;
use crate::stores::regular_file::open_regular_file;

pub(crate) use self::content::Downloads;

/// Size of a compressed block, in bytes.
const COMPRESSED_BLOCK_BYTES: usize = 16 << 10;

/// Sends the file that the handler has authorized. Returns other responses of the handler unchanged.
pub(crate) async fn send_file(downloads: &Downloads, response: http::Response<Body>, method: &Method, request: &HeaderMap) -> Response {
    let Some(local) = response.extensions().get::<LocalFile>().cloned() else { return into_axum_response(response) };
    let path = local.path.clone();
    let opened = tokio::task::spawn_blocking(move || -> io::Result<(File, SystemTime)> {
        let file = open_regular_file(&path)?;
        let modified = file.metadata()?.modified()?;
        Ok((file, modified))
    });
    match opened.await.map_err(io::Error::other).flatten() {
        Ok((file, modified)) => FileVersion { file, local, modified }.respond(downloads, method, request),
        Err(error) => into_axum_response(open_error_reply(&error).into_response()),
    }
}

/// Creates the response for a file that cannot be opened although the handler has found it.
fn open_error_reply(error: &io::Error) -> Reply {
    if error.kind() == io::ErrorKind::NotFound {
        return error_reply(&ExportError::NotFound("this file"));
    }
    tracing::error!(error = %error, "an exported file could not be opened");
    match IoFault::from_error(error) {
        IoFault::Permanent(reason) => {
            let text = format!("the file cannot be read: {reason}");
            Reply::outcome(503, &OperationOutcome::error(IssueCode::Transient, text)).with_header(RETRY_AFTER, "5")
        }
        IoFault::OutOfSpace | IoFault::Passing => {
            Reply::outcome(503, &OperationOutcome::error(IssueCode::Transient, "the file cannot be read; try again"))
                .with_header(RETRY_AFTER, "5")
        }
    }
}

/// An exported file that is open.
struct FileVersion {
    file: File,
    local: LocalFile,
    modified: SystemTime,
}

impl FileVersion {
    /// Responds to a GET or HEAD of the file.
    fn respond(self, downloads: &Downloads, method: &Method, request: &HeaderMap) -> Response {
        let length = self.local.summary.bytes;
        let codings = AcceptedCodings::from_headers(request);
        // Ranges are defined for GET only, and count the bytes of the file as it is.
        let range =
            if *method == Method::GET && codings.accepts_identity() { requested_range(request, length) } else { RequestedRange::Whole };
        let is_plain = range != RequestedRange::Whole || codings.preferred() != Some(ContentCoding::Gzip);
        let validators = self.validators(is_plain);
        match validators.evaluate(request) {
            Condition::Met => {}
            Condition::NotModified => return finish(Reply::empty(304), &validators, HttpBody::empty()),
            Condition::Failed => {
                let text = "the file is not the version that the request has in If-Match or If-Unmodified-Since: download it without the condition";
                return into_axum_response(Reply::outcome(412, &OperationOutcome::error(IssueCode::Conflict, text)).into_response());
            }
        }
        let range = if validators.allows_range(request) { range } else { RequestedRange::Whole };
        let reply = |status| Reply::empty(status).with_header(CONTENT_TYPE, NDJSON);
        match range {
            RequestedRange::Unsatisfiable => unsatisfiable(length),
            RequestedRange::Part(part) => {
                let content_range = format!("bytes {}-{}/{length}", part.start, part.end - 1);
                let reply = reply(206).with_header(CONTENT_RANGE, content_range).with_header(ACCEPT_RANGES, "bytes");
                let reply = reply.with_header(CONTENT_LENGTH, (part.end - part.start).to_string());
                finish(reply, &validators, HttpBody::from_stream(downloads.content(self.file, part)))
            }
            RequestedRange::Whole if is_plain => {
                let reply = reply(200).with_header(CONTENT_LENGTH, length.to_string()).with_header(ACCEPT_RANGES, "bytes");
                let body = if *method == Method::HEAD {
                    HttpBody::empty()
                } else {
                    HttpBody::from_stream(downloads.content(self.file, 0..length))
                };
                finish(reply, &validators, body)
            }
            RequestedRange::Whole => {
                let plain = StreamReader::new(Box::pin(downloads.content(self.file, 0..length)));
                let body = HttpBody::from_stream(ReaderStream::with_capacity(GzipEncoder::new(plain), COMPRESSED_BLOCK_BYTES));
                finish(reply(200).with_header(CONTENT_ENCODING, "gzip"), &validators, body)
            }
        }
    }

    /// Returns the validators. The entity tag of the compressed file is weak: another version of the library may compress differently.
    fn validators(&self, is_plain: bool) -> Validators {
        let summary = self.local.summary;
        let version = format!("{:016x}-{:x}", summary.crc64, summary.bytes);
        Validators::new(if is_plain { format!("\"{version}\"") } else { format!("W/\"{version}-gzip\"") }, self.modified)
    }
}

/// Creates the response to a range behind the end of the file.
fn unsatisfiable(length: u64) -> Response {
    let text = format!("the range begins behind the end of the file, which has {length} bytes");
    let reply =
        Reply::outcome(416, &OperationOutcome::error(IssueCode::Value, text)).with_header(CONTENT_RANGE, format!("bytes */{length}"));
    into_axum_response(reply.with_header(ACCEPT_RANGES, "bytes").into_response())
}

/// Adds the validators and the body to a response.
fn finish(reply: Reply, validators: &Validators, body: HttpBody) -> Response {
    let headers: [(HeaderName, String); 2] = [(ETAG, validators.etag().to_owned()), (LAST_MODIFIED, validators.last_modified())];
    let reply = headers.into_iter().fold(reply, |reply, (name, value)| reply.with_header(name, value));
    let (head, _) = reply.into_response().into_parts();
    Response::from_parts(head, body)
}
