//! From the request to a fresh way to the file.

use std::path::PathBuf;

use headrace_core::access::Principal;
use headrace_core::audit::{AuditEntry, Deed};
use headrace_core::flow::client::hand_out::hand_out;
use headrace_core::ports::{Access, AccessStore, AuditTrail, Clock, JobStore, OutputStore};
use headrace_core::vocab::error::ExportError;
use headrace_edge::door::Door;
use headrace_edge::reply::Reply;
use headrace_edge::request;
use lambda_http::http::Response;
use lambda_http::http::header::{CONTENT_TYPE, LOCATION};
use lambda_http::{Body, Request};

/// The media type of every file (Bulk Data Access, "Bulk Data Output File Request").
pub const NDJSON: &str = "application/fhir+ndjson";

/// On one machine: the file to stream, as an extension of the response. The server in front reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile(pub PathBuf);

/// What a file request needs, for the life of the process.
pub struct Files<J, P, C> {
    door: Door<J, C>,
    jobs: J,
    parts: P,
    clock: C,
}

impl<J: JobStore + AccessStore + AuditTrail, P: OutputStore, C: Clock> Files<J, P, C> {
    /// Behind this door, with these ports.
    pub fn new(door: Door<J, C>, jobs: J, parts: P, clock: C) -> Self {
        Self { door, jobs, parts, clock }
    }

    /// Answers one request: 307 to a presigned URL on AWS, 200 with a [`LocalFile`] on one machine.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let visitor = match self.door.admit(&request).await {
            Ok(visitor) => visitor,
            Err(error) => return self.door.refuse(&request, Deed::HandOut, None, &error).await,
        };
        match self.answer(&request, &visitor).await {
            Ok(response) => response,
            Err(error) => self.door.refuse(&request, Deed::HandOut, Some(&visitor), &error).await,
        }
    }

    async fn answer(&self, request: &Request, visitor: &Principal) -> Result<Response<Body>, ExportError> {
        let (id, name) = (request::job_id(request)?, request::part_name(request)?);
        let (part, access) = hand_out(&self.jobs, &self.parts, &self.clock, (&id, name), visitor).await?;
        let about = |entry: &mut AuditEntry| entry.about_part((&id, &visitor.caller), &part);
        self.door.note(Deed::HandOut, visitor, about).await?;
        tracing::info!(job.id = %id, file = %name, size_bytes = part.content.bytes, "handed out");
        match access {
            // 307, not 308: a permanent redirect would be remembered beyond the URL's five minutes.
            Access::Redirect(url) => Ok(Reply::empty(307).with(LOCATION, url).into_response()),
            Access::Local(path) => {
                let mut response = Reply::empty(200).with(CONTENT_TYPE, NDJSON).into_response();
                response.extensions_mut().insert(LocalFile(path));
                Ok(response)
            }
        }
    }
}
