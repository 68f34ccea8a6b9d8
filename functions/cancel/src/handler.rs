//! Handles cancellation requests.

use headrace_core::access::Principal;
use headrace_core::audit::AuditAction;
use headrace_core::flow::client::cancel::cancel;
use headrace_core::job::ExportError;
use headrace_core::job::Job;
use headrace_core::ports::{AccessStore, AuditTrail, Clock, JobStore, OutputStore};
use headrace_core::vocab::outcome::OperationOutcome;
use headrace_edge::auth::Authenticator;
use headrace_edge::reply::Reply;
use headrace_edge::request;
use headrace_edge::telemetry::{Metric, record_metrics};
use lambda_http::http::Response;
use lambda_http::{Body, Request};

/// The handler that cancels exports. It lives as long as the process.
pub struct CancelHandler<J, P, C> {
    authenticator: Authenticator<J, C>,
    jobs: J,
    output: P,
    clock: C,
}

impl<J: JobStore + AccessStore + AuditTrail, P: OutputStore, C: Clock> CancelHandler<J, P, C> {
    /// Creates the handler.
    pub fn new(authenticator: Authenticator<J, C>, jobs: J, output: P, clock: C) -> Self {
        Self { authenticator, jobs, output, clock }
    }

    /// Cancels the export that the request names. Answers with 202, or with the error.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let principal = match self.authenticator.authenticate(&request).await {
            Ok(principal) => principal,
            Err(error) => return self.authenticator.error_response(&request, AuditAction::Cancel, None, &error).await,
        };
        match self.cancel(&request, &principal).await {
            Ok(job) => {
                tracing::info!(job.id = %job.id, previous_state = job.state.as_str(), "export cancelled");
                record_metrics(&[(Metric::JobsCancelled, 1)]);
                let text = "the export was cancelled and its files are deleted";
                Reply::outcome(202, &OperationOutcome::information(text)).for_client(request.headers()).into_response()
            }
            Err(error) => self.authenticator.error_response(&request, AuditAction::Cancel, Some(&principal), &error).await,
        }
    }

    /// Cancels the client's job that the path names and deletes its files. Returns the job as it was before.
    async fn cancel(&self, request: &Request, principal: &Principal) -> Result<Job, ExportError> {
        let id = request::job_id(request)?;
        cancel(&self.jobs, &self.output, &self.clock, &id, principal).await
    }
}
