//! Handles kick-off requests, and requests for estimates.

use headrace_core::access::Principal;
use headrace_core::audit::AuditAction;
use headrace_core::flow::client::estimate::{Estimate, EstimateSettings, estimate};
use headrace_core::flow::client::kick_off::{KickOff, KickOffSettings, kick_off};
use headrace_core::flow::resolve_patients::PatientResolutionSettings;
use headrace_core::job::ExportError;
use headrace_core::job::Job;
use headrace_core::ports::{AccessStore, AuditTrail, Clock, JobSecretEncryptor, JobStore, OutputStore, ResourceSource, TaskQueue};
use headrace_core::request::{IgnoredParameter, RequestError};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;
use headrace_core::vocab::outcome::{IssueCode, OperationOutcome};
use headrace_edge::auth::Authenticator;
use headrace_edge::config::ExportSettings;
use headrace_edge::reply::Reply;
use headrace_edge::system::random_job_secret;
use headrace_edge::telemetry::{Metric, record_metrics};
use headrace_edge::{base_url, request};
use lambda_http::http::header::{CONTENT_LOCATION, HeaderName};
use lambda_http::http::{Method, Response};
use lambda_http::{Body, Request};
use tokio::sync::OnceCell;

use crate::estimate::estimate_reply;

/// The handler that accepts and estimates exports. It lives as long as the process.
pub struct KickoffHandler<J, Q, S, P, C> {
    authenticator: Authenticator<J, C>,
    jobs: J,
    queue: Q,
    source: S,
    output: P,
    clock: C,
    settings: ExportSettings,
    estimates: EstimateSettings,
    new_id: fn() -> Result<JobId, StoreError>,
    /// Set after the buckets were found accessible. A wrong setting must fail the kick-off instead of leaving a job that hangs.
    buckets_checked: OnceCell<()>,
}

impl<J, Q, S, P, C> KickoffHandler<J, Q, S, P, C>
where
    J: JobStore + JobSecretEncryptor + AccessStore + AuditTrail,
    Q: TaskQueue,
    S: ResourceSource,
    P: OutputStore,
    C: Clock,
{
    /// Creates the handler. `new_id` creates the ids of jobs.
    pub fn new(
        authenticator: Authenticator<J, C>,
        (jobs, queue): (J, Q),
        (source, output): (S, P),
        clock: C,
        settings: ExportSettings,
        new_id: fn() -> Result<JobId, StoreError>,
    ) -> Self {
        let (estimates, buckets_checked) = (EstimateSettings::default(), OnceCell::new());
        Self { authenticator, jobs, queue, source, output, clock, settings, estimates, new_id, buckets_checked }
    }

    /// Sets the settings of estimates.
    #[must_use]
    pub fn with_estimates(self, estimates: EstimateSettings) -> Self {
        Self { estimates, ..self }
    }

    /// Accepts an export. Answers with 202 and the status URL, or with the error.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let (head, body) = request.into_parts();
        self.handle_with_body(Request::from_parts(head, Body::Empty), async { Ok(body) }).await
    }

    /// Handles a request whose body has not been received yet. `body` is awaited only after the caller was authenticated, so that callers
    /// without access cannot fill the memory.
    pub async fn handle_with_body(&self, mut request: Request, body: impl Future<Output = Result<Body, ExportError>>) -> Response<Body> {
        let principal = match self.authenticator.authenticate(&request).await {
            Ok(principal) => principal,
            Err(error) => return self.authenticator.error_response(&request, AuditAction::KickOff, None, &error).await,
        };
        let accepted = match self.receive_body(&mut request, body).await {
            Ok(()) => self.accept(&request, &principal).await,
            Err(error) => Err(error),
        };
        match accepted {
            Ok(Answer::Estimated(job, estimate)) => self.answer_estimate(&request, &principal, (&job, &estimate)).await,
            Ok(Answer::Accepted(job)) => {
                tracing::info!(job.id = %job.id, owner = job.owner.0, types = job.request.types.as_ref().map(std::collections::BTreeSet::len), "export accepted");
                record_metrics(&[(Metric::JobsAccepted, 1)]);
                accepted_reply(&job).into_response()
            }
            Err(error) => self.authenticator.error_response(&request, AuditAction::KickOff, Some(&principal), &error).await,
        }
    }

    /// Receives the body of a request for an export. Other requests are rejected without it.
    async fn receive_body(&self, request: &mut Request, body: impl Future<Output = Result<Body, ExportError>>) -> Result<(), ExportError> {
        request::parse_kick_off_path(request)?;
        *request.body_mut() = body.await?;
        Ok(())
    }

    /// Records an estimate in the audit trail, and answers with it.
    async fn answer_estimate(&self, request: &Request, principal: &Principal, (job, estimate): (&Job, &Estimate)) -> Response<Body> {
        match self.authenticator.record(AuditAction::Estimate, principal, |record| record.set_estimate(&job.request)).await {
            Ok(()) => estimate_reply(job, estimate).into_response(),
            Err(error) => self.authenticator.error_response(request, AuditAction::Estimate, Some(principal), &error).await,
        }
    }

    /// Accepts the export that the request describes, or estimates it. Returns its job; for a repeated idempotency key, the job of the first
    /// request.
    async fn accept(&self, request: &Request, principal: &Principal) -> Result<Answer, ExportError> {
        let path = request::parse_kick_off_path(request)?;
        if !matches!(*request.method(), Method::GET | Method::POST) {
            let text = "an export is started with GET or POST";
            return Err(RequestError::new(405, IssueCode::NotSupported, "method", text).into());
        }
        let base = base_url::base_url(request, self.settings.base.as_deref())?;
        let raw = request::raw_kick_off(request, path.level, self.settings.policy.version)?;
        self.buckets_checked.get_or_try_init(|| self.check_buckets()).await?;
        let kick_off_request = KickOff {
            id: (self.new_id)()?,
            raw,
            principal: principal.clone(),
            request_url: request::kick_off_url(request, &base, &path.route),
            base,
            idempotency_key: idempotency_key(request),
            secret: random_job_secret()?,
            firing: None,
        };
        let ExportSettings { policy, job, quotas, watermark, .. } = &self.settings;
        let patient_resolution = PatientResolutionSettings::default();
        let settings = KickOffSettings { policy, job: *job, quotas: *quotas, watermark: *watermark, patient_resolution };
        let stores = (&self.source, &self.output);
        if kick_off_request.raw.asks_for_estimate()? {
            // Boxed: the future is too large for the stack.
            let estimated = Box::pin(estimate(&self.jobs, stores, &self.clock, settings, &self.estimates, kick_off_request)).await?;
            return Ok(Answer::Estimated(Box::new(estimated.0), Box::new(estimated.1)));
        }
        let job = kick_off((&self.jobs, &self.queue), stores, &self.clock, settings, kick_off_request).await?;
        Ok(Answer::Accepted(Box::new(job)))
    }

    /// Checks that the lake and the destination are accessible.
    async fn check_buckets(&self) -> Result<(), ExportError> {
        let (source, output) = tokio::join!(self.source.check(), self.output.check(None));
        source?;
        Ok(output?)
    }
}

/// The answer to a valid request.
enum Answer {
    /// The export was accepted.
    Accepted(Box<Job>),
    /// The export was estimated. Its job is not recorded.
    Estimated(Box<Job>, Box<Estimate>),
}

/// Creates the response to an accepted kick-off: the status URL, the applied preferences and the ignored parameters.
fn accepted_reply(job: &Job) -> Reply {
    let outcome = OperationOutcome::information("the export was accepted; ask for its status at the URL in Content-Location");
    let applied = if job.request.separates_status { "respond-async, separate-export-status" } else { "respond-async" };
    Reply::outcome(202, &outcome.with_issues(job.request.ignored.iter().map(IgnoredParameter::issue)))
        .with_header(CONTENT_LOCATION, job.status_url())
        .with_header(HeaderName::from_static("preference-applied"), applied)
}

/// Returns the header `Idempotency-Key`. Several headers are joined to a list, which is not a valid key.
fn idempotency_key(request: &Request) -> Option<String> {
    let values = request.headers().get_all("idempotency-key").iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    values.map(String::from).reduce(|list, next| format!("{list}, {next}"))
}
