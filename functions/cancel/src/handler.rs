//! From the request to the cancelled job and back.

use headrace_core::access::Principal;
use headrace_core::audit::Deed;
use headrace_core::flow::client::cancel::cancel;
use headrace_core::job::Job;
use headrace_core::ports::{AccessStore, AuditTrail, Clock, JobStore, OutputStore};
use headrace_core::vocab::error::ExportError;
use headrace_core::vocab::outcome::Outcome;
use headrace_edge::door::Door;
use headrace_edge::reply::Reply;
use headrace_edge::request;
use headrace_edge::telemetry::{Metric, count};
use lambda_http::http::Response;
use lambda_http::{Body, Request};

/// What a cancellation needs, for the life of the process.
pub struct Cancel<J, P, C> {
    door: Door<J, C>,
    jobs: J,
    parts: P,
    clock: C,
}

impl<J: JobStore + AccessStore + AuditTrail, P: OutputStore, C: Clock> Cancel<J, P, C> {
    /// Behind this door, with these ports.
    pub fn new(door: Door<J, C>, jobs: J, parts: P, clock: C) -> Self {
        Self { door, jobs, parts, clock }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let visitor = match self.door.admit(&request).await {
            Ok(visitor) => visitor,
            Err(error) => return self.door.refuse(&request, Deed::Cancel, None, &error).await,
        };
        match self.cancel(&request, &visitor).await {
            Ok(job) => {
                tracing::info!(job.id = %job.id, was = job.state.as_str(), "cancelled");
                count(&[(Metric::JobsCancelled, 1)]);
                let text = "the export was cancelled and its files are deleted";
                Reply::outcome(202, &Outcome::information(text)).into_response()
            }
            Err(error) => self.door.refuse(&request, Deed::Cancel, Some(&visitor), &error).await,
        }
    }

    async fn cancel(&self, request: &Request, visitor: &Principal) -> Result<Job, ExportError> {
        let id = request::job_id(request)?;
        cancel(&self.jobs, &self.parts, &self.clock, &id, visitor).await
    }
}
