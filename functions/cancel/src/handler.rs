//! From the request to the cancelled job and back.

use headrace_core::error::ExportError;
use headrace_core::flow::cancel::cancel;
use headrace_core::job::Job;
use headrace_core::outcome::Outcome;
use headrace_core::ports::{Clock, JobStore, PartStore};
use headrace_edge::reply::{Reply, refuse};
use headrace_edge::telemetry::{Metric, count};
use headrace_edge::{caller, request};
use lambda_http::http::Response;
use lambda_http::{Body, Request};

/// What a cancellation needs, for the life of the process.
pub struct Cancel<J, P, C> {
    jobs: J,
    parts: P,
    clock: C,
}

impl<J: JobStore, P: PartStore, C: Clock> Cancel<J, P, C> {
    /// With these ports.
    pub fn new(jobs: J, parts: P, clock: C) -> Self {
        Self { jobs, parts, clock }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        match self.cancel(&request).await {
            Ok(job) => {
                tracing::info!(job.id = %job.id, was = job.state.as_str(), "cancelled");
                count(&[(Metric::JobsCancelled, 1)]);
                let text = "the export was cancelled and its files are deleted";
                Reply::outcome(202, &Outcome::information(text)).into_response()
            }
            Err(error) => refuse(&request, &error),
        }
    }

    async fn cancel(&self, request: &Request) -> Result<Job, ExportError> {
        let identity = caller::identity(request)?;
        let id = request::job_id(request)?;
        cancel(&self.jobs, &self.parts, &self.clock, &id, &identity.caller).await
    }
}
