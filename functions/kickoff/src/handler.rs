//! From the HTTP request to the recorded job and back.

use headrace_core::access::Principal;
use headrace_core::audit::Deed;
use headrace_core::flow::client::kick_off::{KickOff, Settings, kick_off};
use headrace_core::flow::look_up::LookUpTerms;
use headrace_core::job::Job;
use headrace_core::ports::{AccessStore, AuditTrail, Clock, JobStore, OutputStore, ResourceSource, TaskQueue};
use headrace_core::request::{IgnoredParameter, Refusal};
use headrace_core::vocab::error::{ExportError, StoreError};
use headrace_core::vocab::ids::JobId;
use headrace_core::vocab::outcome::{IssueCode, Outcome};
use headrace_edge::config::Terms;
use headrace_edge::door::Door;
use headrace_edge::reply::Reply;
use headrace_edge::system::random_secret;
use headrace_edge::telemetry::{Metric, count};
use headrace_edge::{base, request};
use lambda_http::http::header::{CONTENT_LOCATION, HeaderName};
use lambda_http::http::{Method, Response};
use lambda_http::{Body, Request};
use tokio::sync::OnceCell;

/// What a kick-off needs, for the life of the process.
pub struct Kickoff<J, Q, S, P, C> {
    door: Door<J, C>,
    jobs: J,
    queue: Q,
    source: S,
    parts: P,
    clock: C,
    terms: Terms,
    new_id: fn() -> Result<JobId, StoreError>,
    /// Set once source and destination have been seen: a wrong setting fails here, not as a job that hangs.
    seen: OnceCell<()>,
}

impl<J, Q, S, P, C> Kickoff<J, Q, S, P, C>
where
    J: JobStore + AccessStore + AuditTrail,
    Q: TaskQueue,
    S: ResourceSource,
    P: OutputStore,
    C: Clock,
{
    /// Behind this door, with these ports; `new_id` names jobs.
    pub fn new(
        door: Door<J, C>,
        (jobs, queue): (J, Q),
        (source, parts): (S, P),
        clock: C,
        terms: Terms,
        new_id: fn() -> Result<JobId, StoreError>,
    ) -> Self {
        Self { door, jobs, queue, source, parts, clock, terms, new_id, seen: OnceCell::new() }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let visitor = match self.door.admit(&request).await {
            Ok(visitor) => visitor,
            Err(error) => return self.door.refuse(&request, Deed::KickOff, None, &error).await,
        };
        match self.accept(&request, &visitor).await {
            Ok(job) => {
                tracing::info!(job.id = %job.id, owner = job.owner.0, types = job.request.types.as_ref().map(std::collections::BTreeSet::len), "accepted");
                count(&[(Metric::JobsAccepted, 1)]);
                accepted(&job).into_response()
            }
            Err(error) => self.door.refuse(&request, Deed::KickOff, Some(&visitor), &error).await,
        }
    }

    async fn accept(&self, request: &Request, visitor: &Principal) -> Result<Job, ExportError> {
        let path = request::kick_off_path(request)?;
        if !matches!(*request.method(), Method::GET | Method::POST) {
            let text = "an export is started with GET or POST";
            return Err(Refusal::of(405, IssueCode::NotSupported, "method", text).into());
        }
        let base = base::base(request, &path.route, self.terms.base.as_deref())?;
        let asked = request::asked(request, path.level)?;
        self.seen.get_or_try_init(|| self.look()).await?;
        let order = KickOff {
            id: (self.new_id)()?,
            asked,
            visitor: visitor.clone(),
            request_url: request::kick_off_url(request, &base, &path.route),
            base,
            idempotency_key: idempotency_key(request),
            secret: random_secret()?,
        };
        let Terms { policy, limits, quotas, .. } = &self.terms;
        let settings = Settings { policy, limits: *limits, quotas: *quotas, look_up: LookUpTerms::default() };
        kick_off((&self.jobs, &self.queue), (&self.source, &self.parts), &self.clock, settings, order).await
    }

    async fn look(&self) -> Result<(), ExportError> {
        let (source, parts) = tokio::join!(self.source.check(), self.parts.check(None));
        source?;
        Ok(parts?)
    }
}

/// The answer to a kick-off that has become a job: where to ask, what was agreed, and what was left out.
fn accepted(job: &Job) -> Reply {
    let outcome = Outcome::information("the export was accepted; ask for its status at the URL in Content-Location");
    let applied = if job.request.separates_status { "respond-async, separate-export-status" } else { "respond-async" };
    Reply::outcome(202, &outcome.with(job.request.ignored.iter().map(IgnoredParameter::issue)))
        .with(CONTENT_LOCATION, job.status_url())
        .with(HeaderName::from_static("preference-applied"), applied)
}

/// Sent twice, the header is a list as in any other header, and no key.
fn idempotency_key(request: &Request) -> Option<String> {
    let values = request.headers().get_all("idempotency-key").iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    values.map(String::from).reduce(|all, next| format!("{all}, {next}"))
}
