//! From the poll to the job's state and back.

use headrace_core::error::{ExportError, StoreError};
use headrace_core::flow::status::{Status, status};
use headrace_core::outcome::Outcome;
use headrace_core::ports::{Clock, JobStore};
use headrace_edge::reply::{Reply, refuse};
use headrace_edge::{caller, request};
use lambda_http::http::Response;
use lambda_http::http::header::{EXPIRES, HeaderName, RETRY_AFTER};
use lambda_http::{Body, Request};

const X_PROGRESS: HeaderName = HeaderName::from_static("x-progress");

/// What a poll needs, for the life of the process.
pub struct StatusOf<J, C> {
    jobs: J,
    clock: C,
}

impl<J: JobStore, C: Clock> StatusOf<J, C> {
    /// With these ports.
    pub fn new(jobs: J, clock: C) -> Self {
        Self { jobs, clock }
    }

    /// Answers one request. Never 406: whatever a client accepts, it wants to know.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        self.answer(&request).await.map_or_else(|error| refuse(&request, &error), Reply::into_response)
    }

    async fn answer(&self, request: &Request) -> Result<Reply, ExportError> {
        let identity = caller::identity(request)?;
        let id = request::job_id(request)?;
        match status(&self.jobs, &self.clock, &id, &identity.caller).await? {
            Status::InProgress { progress, retry_after } => {
                Ok(Reply::empty(202).with(X_PROGRESS, progress).with(RETRY_AFTER, retry_after.as_secs().to_string()))
            }
            Status::Complete { manifest, expires } => {
                let json = manifest.json().map_err(|error| StoreError::NotApplied { what: "the manifest", cause: error.into() })?;
                Ok(Reply::json(200, "application/json", json).with(EXPIRES, expires.http_date()))
            }
            Status::Failed(reason) => Ok(Reply::outcome(500, &Outcome::error(reason.kind.code(), reason.text))),
        }
    }
}
