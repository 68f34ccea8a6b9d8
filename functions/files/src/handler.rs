//! Handles download requests.

use std::path::PathBuf;

use headrace_core::access::Principal;
use headrace_core::audit::{AuditAction, AuditRecord};
use headrace_core::flow::client::download::grant_download;
use headrace_core::job::ExportError;
use headrace_core::job::file::FileSummary;
use headrace_core::ports::{AccessStore, AuditTrail, Clock, FileAccess, FileRequest, JobStore, OutputStore};
use headrace_edge::auth::Authenticator;
use headrace_edge::reply::Reply;
use headrace_edge::request;
use lambda_http::http::header::{CONTENT_TYPE, LOCATION};
use lambda_http::http::{Method, Response};
use lambda_http::{Body, Request};

/// The media type of exported files (Bulk Data Access, "Bulk Data Output File Request").
pub const NDJSON: &str = "application/fhir+ndjson";

/// The file that a local server must stream as the body of the response, as an extension of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    /// The path.
    pub path: PathBuf,
    /// The recorded size and checksum.
    pub summary: FileSummary,
}

/// The handler that gives access to exported files. It lives as long as the process.
pub struct FilesHandler<J, P, C> {
    authenticator: Authenticator<J, C>,
    jobs: J,
    output: P,
    clock: C,
}

impl<J: JobStore + AccessStore + AuditTrail, P: OutputStore, C: Clock> FilesHandler<J, P, C> {
    /// Creates the handler.
    pub fn new(authenticator: Authenticator<J, C>, jobs: J, output: P, clock: C) -> Self {
        Self { authenticator, jobs, output, clock }
    }

    /// Gives access to the file that the request names. The response is 307 to a presigned URL on AWS, and 200 with a
    /// [`LocalFile`] on a local server.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let principal = match self.authenticator.authenticate(&request).await {
            Ok(principal) => principal,
            Err(error) => return self.authenticator.error_response(&request, AuditAction::Download, None, &error).await,
        };
        match self.answer(&request, &principal).await {
            Ok(response) => response,
            Err(error) => self.authenticator.error_response(&request, AuditAction::Download, Some(&principal), &error).await,
        }
    }

    /// Grants the download of the file that the path names and records it in the audit trail. Answers with a redirect or a local
    /// file.
    async fn answer(&self, request: &Request, principal: &Principal) -> Result<Response<Body>, ExportError> {
        let (id, name) = (request::job_id(request)?, request::output_file_name(request)?);
        // The redirect keeps the method, and S3 rejects a HEAD of a URL that is signed for GET.
        let file_request = if *request.method() == Method::HEAD { FileRequest::Headers } else { FileRequest::Content };
        let (file, access) = grant_download(&self.jobs, &self.output, &self.clock, (&id, name, file_request), principal).await?;
        let fill_details = |record: &mut AuditRecord| record.set_output_file((&id, &principal.caller), &file);
        self.authenticator.record(AuditAction::Download, principal, fill_details).await?;
        tracing::info!(job.id = %id, file = %name, size_bytes = file.summary.bytes, "download granted");
        match access {
            // 307, not 308: clients would cache a permanent redirect, but the URL expires after five minutes.
            FileAccess::Redirect(url) => Ok(Reply::empty(307).with_header(LOCATION, url).into_response()),
            FileAccess::Local(path) => {
                let mut response = Reply::empty(200).with_header(CONTENT_TYPE, NDJSON).into_response();
                response.extensions_mut().insert(LocalFile { path, summary: file.summary });
                Ok(response)
            }
        }
    }
}
