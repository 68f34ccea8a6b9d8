//! One process of the service, with all handlers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use bytes::Bytes;
use cancel::handler::CancelHandler;
use chunk_worker::handler::ChunkWorkerHandler;
use files::handler::{FilesHandler, LocalFile};
use groups::handler::GroupsHandler;
use headrace_aws::DynamoJobStore;
use headrace_core::access::{self, Agent, ClientKeys, Origin, Permissions, Principal, Scopes};
use headrace_core::flow::client::estimate::{EstimateSettings, Fleet, FunctionFleet};
use headrace_core::flow::client::kick_off::{KickOff, KickOffSettings, kick_off};
use headrace_core::flow::resolve_patients::PatientResolutionSettings;
use headrace_core::flow::upkeep::deliver_events::DeliveredEvents;
use headrace_core::flow::upkeep::fire_schedules::FiredSchedules;
use headrace_core::flow::upkeep::reap::Reaped;
use headrace_core::flow::upkeep::seal::SealSettings;
use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::job::ExportError;
use headrace_core::job::JobSecret;
use headrace_core::job::task::PlanInput;
use headrace_core::job::{Job, JobSettings, Quotas, RecordConditions};
use headrace_core::ports::{AccessStore as _, Clock as _, EventSender, JobStore as _, NoFeed, Ports, TaskQueue as _, TaskReceiver};
use headrace_core::request::{AcceptedRemarks, ExportPolicy, ExportRequest, RawKickOff};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{Caller, TaskId};
use headrace_core::vocab::lake_settings::{LakeSettings, LakeWatermark};
use headrace_edge::auth::Authenticator;
use headrace_edge::config::{AccessControl, CapabilitySettings, SmartSettings};
use headrace_edge::gateway;
use headrace_edge::jwks::{JwksCache, UrlPolicy};
use headrace_fhir::definitions::FhirVersion;
use headrace_local::server::service::ServerAccess;
use headrace_local::stores::signer::FileSigner;
use kickoff::handler::KickoffHandler;
use metadata::handler::MetadataHandler;
use reaper::events::EventDeliverer;
use reaper::handler::ReaperHandler;
use reaper::schedules::ScheduleRunner;
use serde_json::{Map, Value, json};
use status::handler::StatusHandler;
use sync_worker::handler::SyncWorkerHandler;
use token::handler::TokenHandler;

use super::clock::next_job_id;
use super::faulty_ports::FaultyPort;
use super::http::{GATEWAY_BASE, OWN_BASE};
use super::permissions::run_as;
use super::{Deployment, FaultInjector, ManualClock, Result, SmartClient, TestRequest, TestResponse, token_request_form};

/// ARN of the caller in most tests.
pub const ANN: &str = "arn:aws:sts::111122223333:assumed-role/Export/ann";

/// ARN of another caller.
pub const BEN: &str = "arn:aws:iam::111122223333:user/ben";

/// Settings of a deployment under test.
#[derive(Clone, Debug, Default)]
pub struct DeploymentSettings {
    /// Settings that are recorded with each job.
    pub job: JobSettings,
    /// Settings of workers.
    pub worker: WorkerSettings,
    /// Limits on concurrent exports.
    pub quotas: Quotas,
    /// Access control. `None` is the default: IAM on AWS, no authentication on the local server.
    pub access: Option<ServerAccess>,
    /// True if the moves of exports become events.
    pub events: bool,
    /// Remarks about anonymization configurations that do not stop an export.
    pub accepted_remarks: AcceptedRemarks,
}

impl DeploymentSettings {
    /// Returns settings with output files of this size, and slices that may be as small as that.
    pub fn with_file_bytes(bytes: u64) -> Self {
        let mut settings = Self::default();
        settings.job.file_bytes = bytes;
        settings.worker.min_slice_bytes = 1;
        settings
    }

    /// Admits registered clients with access tokens, which are signed with a new key.
    pub fn with_smart_access(mut self) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        self.access = Some(ServerAccess::Smart(FileSigner::open_or_create(folder.path(), Millis(0))?));
        Ok(self)
    }

    /// Sets the total size of the fragments up to which the finalize task merges them by itself. Above it, merge tasks do.
    #[must_use]
    pub fn with_merge_limit_bytes(mut self, bytes: u64) -> Self {
        self.worker.merge_limit_bytes = bytes;
        self
    }
}

type Jobs = FaultyPort<DynamoJobStore>;
type Queue<S> = FaultyPort<<S as Deployment>::Queue>;
type Lake<S> = FaultyPort<<S as Deployment>::Lake>;
type Output<S> = FaultyPort<<S as Deployment>::Output>;
type Audit<S> = FaultyPort<<S as Deployment>::Audit>;
type TestKickoffHandler<S> = KickoffHandler<Jobs, Queue<S>, Lake<S>, Output<S>, ManualClock>;
type WorkerHandler<S> = ChunkWorkerHandler<Jobs, Queue<S>, Lake<S>, Output<S>, ManualClock>;

/// Process of the service over a deployment, with fault injection at all ports.
pub struct ServiceProcess<S: Deployment> {
    /// Stores and queue, which outlive the process.
    pub deployment: S,
    /// Clock of all handlers.
    pub clock: ManualClock,
    /// Faults of its port calls.
    pub faults: FaultInjector,
    job_settings: JobSettings,
    watermark: LakeWatermark,
    queue: S::Queue,
    kickoff: TestKickoffHandler<S>,
    status: StatusHandler<Jobs, ManualClock>,
    metadata: MetadataHandler,
    cancel: CancelHandler<Jobs, Output<S>, ManualClock>,
    files: FilesHandler<Jobs, Output<S>, ManualClock>,
    groups: GroupsHandler<Jobs, Lake<S>, ManualClock>,
    worker: WorkerHandler<S>,
    sync_worker: SyncWorkerHandler<Jobs, Queue<S>, Lake<S>, Output<S>, ManualClock, NoFeed>,
    reaper: ReaperHandler<Jobs, Queue<S>, Output<S>, Audit<S>, ManualClock>,
    outbox: Jobs,
    schedules: ScheduleRunner<Jobs, Queue<S>, Lake<S>, Output<S>, ManualClock>,
    /// True if access control is on, so that schedules need clients.
    requires_client: bool,
    token: Option<TokenHandler<Jobs, FileSigner, ManualClock>>,
    /// Client and scopes of requests that name no other client.
    current_client: Mutex<Option<(SmartClient, String)>>,
}

impl<S: Deployment> ServiceProcess<S> {
    /// Starts a process without injected faults.
    pub fn start(deployment: &S, clock: &ManualClock, settings: DeploymentSettings) -> Arc<Self> {
        Self::start_with_faults(deployment, clock, settings, FaultInjector::none())
    }

    /// Starts a process with injected faults.
    pub fn start_with_faults(deployment: &S, clock: &ManualClock, settings: DeploymentSettings, faults: FaultInjector) -> Arc<Self> {
        Self::start_with_ports(deployment, clock, settings, faults, deployment.ports())
    }

    /// Starts a process with injected faults whose queue, lake and output store are those of the tuple instead of the deployment's.
    pub fn start_with_ports(
        deployment: &S,
        clock: &ManualClock,
        settings: DeploymentSettings,
        faults: FaultInjector,
        (queue, source, output): (S::Queue, S::Lake, S::Output),
    ) -> Arc<Self> {
        // The queue without faults is for the test itself. All handlers share the ports with faults.
        let own_queue = queue.clone();
        let (jobs, queue) =
            (FaultyPort::new(deployment.job_store().with_events(settings.events), &faults), FaultyPort::new(queue, &faults));
        let (source, output) = (FaultyPort::new(source, &faults), FaultyPort::new(output, &faults));
        let audit = FaultyPort::new(deployment.audit_files(), &faults);
        let new_clock = || clock.clone();
        let watermark = settings.worker.lake.watermark;
        let policy = ExportPolicy { accepted_remarks: settings.accepted_remarks, ..ExportPolicy::default() };
        let export_settings =
            headrace_edge::config::ExportSettings { policy, job: settings.job, quotas: settings.quotas, watermark, ..Default::default() };
        let access = match &settings.access {
            Some(ServerAccess::Smart(_)) => AccessControl::Smart(SmartSettings::default()),
            Some(ServerAccess::External(settings)) => AccessControl::External(settings.clone()),
            Some(ServerAccess::None | ServerAccess::OpenByDefault) => AccessControl::None,
            // The defaults of the two kinds of deployment.
            None if S::HAS_GATEWAY => AccessControl::AwsIam,
            None => AccessControl::None,
        };
        let capabilities =
            CapabilitySettings { access: access.clone(), ..CapabilitySettings::from_local(&export_settings, &LakeSettings::default()) };
        let new_ports = || Ports {
            jobs: jobs.clone(),
            queue: queue.clone(),
            source: source.clone(),
            output: output.clone(),
            clock: new_clock(),
            feed: NoFeed,
        };
        let (ports, schedule_ports, sync_ports) = (new_ports(), new_ports(), new_ports());
        let own_base = if S::HAS_GATEWAY { GATEWAY_BASE } else { OWN_BASE };
        let schedule_settings = headrace_edge::config::ExportSettings { base: Some(own_base.to_owned()), ..export_settings.clone() };
        let new_job = || Ok((next_job_id()?, JobSecret([7; 32])));
        let schedules = ScheduleRunner::new(schedule_ports, schedule_settings, new_job);
        let requires_client = access.requires_authentication();
        let authenticator = || Authenticator::new(jobs.clone(), clock.clone(), access.clone());
        let keys = || JwksCache::new(UrlPolicy::LocalClients, clock.clone());
        let token = match settings.access {
            Some(ServerAccess::Smart(signer)) => Some(TokenHandler::new(authenticator(), (jobs.clone(), signer), keys(), new_clock())),
            Some(ServerAccess::External(_) | ServerAccess::None | ServerAccess::OpenByDefault) | None => None,
        };
        let WorkerSettings { lake, trust_object_names, min_slice_bytes, memory_mb, .. } = settings.worker.clone();
        let fleet = match memory_mb {
            0 => Fleet::Process(1),
            memory_mb => Fleet::Functions(FunctionFleet { workers: 100, started_workers: 0, memory_mb }),
        };
        let estimates = EstimateSettings { min_slice_bytes, ..EstimateSettings::new(lake, trust_object_names, fleet) };
        Arc::new(Self {
            sync_worker: SyncWorkerHandler::new(sync_ports, source.clone(), WorkerSettings::default()),
            deployment: deployment.clone(),
            clock: clock.clone(),
            job_settings: settings.job,
            watermark,
            token,
            current_client: Mutex::default(),
            schedules,
            requires_client,
            outbox: jobs.clone(),
            queue: own_queue,
            groups: GroupsHandler::new(authenticator(), source.clone(), new_clock(), None, export_settings.policy.version),
            kickoff: KickoffHandler::new(
                authenticator(),
                (jobs.clone(), queue.clone()),
                (source, output.clone()),
                new_clock(),
                export_settings,
                next_job_id,
            )
            .with_estimates(estimates),
            status: StatusHandler::new(authenticator(), jobs.clone(), new_clock(), None),
            metadata: MetadataHandler::new(clock, capabilities),
            cancel: CancelHandler::new(authenticator(), jobs.clone(), output.clone(), new_clock()),
            files: FilesHandler::new(authenticator(), jobs.clone(), output.clone(), new_clock()),
            worker: ChunkWorkerHandler::new(ports, WorkerSettings { quotas: settings.quotas, ..settings.worker }),
            reaper: ReaperHandler::new((jobs.clone(), queue), (output, audit), new_clock(), settings.quotas, SealSettings::default()),
            faults,
        })
    }

    /// Sends a request to the handler of its route.
    pub async fn send(&self, request: &TestRequest) -> Result<TestResponse> {
        let lambda_request = request.to_lambda_request(S::HAS_GATEWAY)?;
        match (request.method, request.route()?.0) {
            ("GET", "/_operations/export" | "/_operations/export/{job}") => {
                TestResponse::from_lambda(run_as("status", self.status.handle(lambda_request)).await)
            }
            ("DELETE", "/_operations/export/{job}") => {
                TestResponse::from_lambda(run_as("cancel", self.cancel.handle(lambda_request)).await)
            }
            ("GET", "/_operations/files/{job}/{name}") => {
                let response = run_as("files", self.files.handle(lambda_request)).await;
                match response.extensions().get::<LocalFile>().cloned() {
                    Some(LocalFile { path, .. }) => {
                        Ok(TestResponse { body: std::fs::read(path)?.into(), ..TestResponse::from_lambda(response)? })
                    }
                    None => TestResponse::from_lambda(response),
                }
            }
            ("POST", "/token") => match &self.token {
                Some(token) => TestResponse::from_lambda(run_as("token", token.handle(lambda_request)).await),
                None => Err("this process has no token endpoint: it needs `with_smart_access`".into()),
            },
            ("GET", "/Group" | "/Group/{id}") => TestResponse::from_lambda(run_as("groups", self.groups.handle(lambda_request)).await),
            (_, "/metadata" | "/OperationDefinition" | "/OperationDefinition/{id}" | "/.well-known/smart-configuration") => {
                TestResponse::from_lambda(run_as("metadata", self.metadata.handle(lambda_request)).await)
            }
            (_, _) => TestResponse::from_lambda(run_as("kickoff", self.kickoff.handle(lambda_request)).await),
        }
    }

    /// Sends a request as the current client, or as Ann if none is set.
    pub async fn request(&self, method: &'static str, target: &str) -> Result<TestResponse> {
        let request = TestRequest::new(method, target).with_identity(ANN);
        // The lock must not be held while the request runs.
        let current_client = self.current_client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match current_client {
            Some((client, scopes)) => {
                let token = self.token(&client, &scopes).await?;
                self.send(&request.with_bearer_token(&token)).await
            }
            None => self.send(&request).await,
        }
    }

    /// Makes this client the current one. Each of its requests gets a fresh token for the scopes.
    pub fn set_client(&self, client: &SmartClient, scopes: &str) {
        *self.current_client.lock().unwrap_or_else(PoisonError::into_inner) = Some((client.clone(), scopes.to_owned()));
    }

    /// Returns the FHIR base URL.
    pub fn base(&self) -> &'static str {
        if S::HAS_GATEWAY { GATEWAY_BASE } else { OWN_BASE }
    }

    /// Returns the URL of the token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.base())
    }

    /// Builds a registration with the client's key and the scopes. [`ServiceProcess::put_client`] stores it.
    pub fn registration(&self, client: &SmartClient, scopes: &str) -> Result<access::Client> {
        let scopes = Scopes::parse(scopes, FhirVersion::default()).0;
        Ok(access::Client::new(Caller(client.id.clone()), ClientKeys::Jwks(client.jwks()?), scopes, self.now()))
    }

    /// Stores a registration. An earlier registration of the client is replaced.
    pub async fn put_client(&self, registration: &access::Client) -> Result<()> {
        let store = self.deployment.job_store();
        let seen = store.client(&registration.id).await?.map(|client| client.changed_at);
        if store.put_client(registration, seen).await? {
            Ok(())
        } else {
            Err("the client was registered at the same time by another caller".into())
        }
    }

    /// Registers a client for the scopes.
    pub async fn register(&self, client: &SmartClient, scopes: &str) -> Result<()> {
        self.put_client(&self.registration(client, scopes)?).await
    }

    /// Obtains an access token of the client for the scopes.
    pub async fn token(&self, client: &SmartClient, scopes: &str) -> Result<String> {
        let response = self.request_token(client, scopes).await?;
        let json = response.json()?;
        let token = json.get("access_token").and_then(Value::as_str).filter(|_| response.status == 200);
        token.map(str::to_owned).ok_or_else(|| format!("the token request was answered with {response:?}").into())
    }

    /// Sends a token request of the client for the scopes.
    pub async fn request_token(&self, client: &SmartClient, scopes: &str) -> Result<TestResponse> {
        let assertion = client.sign(&client.assertion_header(), &client.assertion_claims(&self.token_url(), self.now()))?;
        self.send(&TestRequest::form_post("/token", token_request_form(&assertion, scopes))).await
    }

    /// Kicks off a system export with this query and returns the path of the status URL.
    pub async fn kick_off(&self, query: &str) -> Result<String> {
        let response = self.request("GET", &format!("/$export{query}")).await?;
        if response.status != 202 {
            return Err(format!("the kick-off was answered with {response:?}").into());
        }
        let url = response.header("content-location").ok_or("no Content-Location")?;
        url.find("/_operations").and_then(|at| url.get(at..)).map(str::to_owned).ok_or_else(|| format!("{url} is not a status URL").into())
    }

    /// Starts a job for a validated request: stores it and announces its plan task. Returns the path of the status URL.
    pub async fn start_job(&self, request: ExportRequest) -> Result<String> {
        let job = Job { settings: self.job_settings, ..Job::accepted(next_job_id()?, Self::ann(), request, self.now()) };
        self.deployment.job_store().record_job(&job, &PlanInput::default(), &RecordConditions::default(), &Agent::service()).await?;
        self.queue.announce(&[TaskId::plan(&job.id)], Duration::ZERO).await?;
        Ok(job.status_url())
    }

    /// Kicks off for Ann as if she had this registration, under the operator's policy. Returns the path of the status URL.
    pub async fn kick_off_as(
        &self,
        client: access::Client,
        policy: &ExportPolicy,
        parameters: &[(&str, &str)],
    ) -> Result<String, ExportError> {
        let raw = RawKickOff {
            parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..RawKickOff::default()
        };
        let permissions = Permissions { client: Some(client), ..Permissions::default() };
        let principal = Principal { caller: Self::ann(), is_authenticated: true, permissions, origin: Origin::default() };
        let input = KickOff {
            id: next_job_id()?,
            raw,
            principal,
            base: String::new(),
            request_url: String::new(),
            idempotency_key: None,
            secret: JobSecret([7; 32]),
            firing: None,
        };
        let settings = KickOffSettings {
            policy,
            job: self.job_settings,
            quotas: Quotas::default(),
            watermark: self.watermark,
            patient_resolution: PatientResolutionSettings::default(),
        };
        let (_, source, output) = self.deployment.ports();
        let ports = (&self.deployment.job_store(), &self.queue);
        Ok(Box::pin(kick_off(ports, (&source, &output), &self.clock, settings, input)).await?.status_url())
    }

    /// Returns Ann as the owner of jobs: the ARN of her role, without the session name.
    pub fn ann() -> Caller {
        let owner = if S::HAS_GATEWAY { ANN.rsplit_once('/').map_or(ANN, |(role, _)| role) } else { Caller::LOCAL };
        Caller(owner.to_owned())
    }

    /// Downloads a file, directly or by a redirect to a presigned URL.
    pub async fn download(&self, target: &str) -> Result<Bytes> {
        let response = self.request("GET", target).await?;
        match (response.status, response.header("location")) {
            (200, _) => Ok(response.body),
            (307, Some(url)) => Box::pin(self.deployment.fetch_presigned(url)).await,
            _ => Err(format!("{target} was answered with {response:?}").into()),
        }
    }

    /// Receives the next message, if there is one.
    pub async fn receive(&self) -> Result<Option<SqsMessage>> {
        Box::pin(self.deployment.receive(&self.queue)).await
    }

    /// Delivers a message to the worker, then deletes it or returns it to the queue. Returns true if it will be delivered again.
    pub async fn deliver(&self, message: SqsMessage) -> Result<bool> {
        self.deliver_until(message, Millis(u64::MAX)).await
    }

    /// Delivers a message like [`Self::deliver`], to a worker that must stop at `stop_at`.
    pub async fn deliver_until(&self, message: SqsMessage, stop_at: Millis) -> Result<bool> {
        let mut event = SqsEvent::default();
        event.records = vec![message.clone()];
        // Round trip through JSON, because Lambda delivers events as JSON.
        let event: SqsEvent = serde_json::from_value(serde_json::to_value(event)?)?;
        let response = run_as("chunk-worker", self.worker.handle(event, stop_at)).await?;
        let is_redelivered = !response.batch_item_failures.is_empty();
        Box::pin(self.deployment.finish_message(&self.queue, &message, is_redelivered)).await?;
        Ok(is_redelivered)
    }

    /// Starts a worker without a message, which runs the tasks of the queue until it is empty, or too little time is left before `stop_at`.
    pub async fn start_worker(&self, stop_at: Millis) -> Result<()>
    where
        S::Queue: TaskReceiver,
    {
        run_as("chunk-worker", self.worker.run_waiting_tasks(&self.queue, stop_at)).await
    }

    /// Delivers messages with these bodies in one event. Returns the indexes of the messages that must be delivered again.
    pub async fn deliver_batch(&self, bodies: &[String]) -> Result<Vec<usize>> {
        let mut event = SqsEvent::default();
        for (index, body) in bodies.iter().enumerate() {
            let mut message = SqsMessage::default();
            message.message_id = Some(index.to_string());
            message.body = Some(body.clone());
            event.records.push(message);
        }
        let failures = run_as("chunk-worker", self.worker.handle(event, Millis(u64::MAX))).await?.batch_item_failures;
        failures.into_iter().map(|failure| Ok(failure.item_identifier.parse()?)).collect()
    }

    /// Invokes a function with an event and returns its response as JSON. An HTTP response becomes `status`, `headers` and `body`.
    pub async fn invoke(&self, function: &str, event: &Value) -> Result<Value> {
        let http = || serde_json::from_value(event.clone());
        let response = match function {
            "kickoff" => gateway::handle_event(http()?, |request| run_as("kickoff", self.kickoff.handle(request))).await,
            "status" => gateway::handle_event(http()?, |request| run_as("status", self.status.handle(request))).await,
            "metadata" => gateway::handle_event(http()?, |request| run_as("metadata", self.metadata.handle(request))).await,
            "cancel" => gateway::handle_event(http()?, |request| run_as("cancel", self.cancel.handle(request))).await,
            "files" => gateway::handle_event(http()?, |request| run_as("files", self.files.handle(request))).await,
            "groups" => gateway::handle_event(http()?, |request| run_as("groups", self.groups.handle(request))).await,
            "token" => match &self.token {
                Some(token) => gateway::handle_event(http()?, |request| run_as("token", token.handle(request))).await,
                None => return Err("this process has no token endpoint: it needs `with_smart_access`".into()),
            },
            "chunk-worker" => {
                let response = run_as("chunk-worker", self.worker.handle(serde_json::from_value(event.clone())?, Millis(u64::MAX))).await;
                return Ok(response.map_or_else(|error| json!({ "error": error.to_string() }), |response| json!(response)));
            }
            "sync-worker" => {
                let response =
                    run_as("sync-worker", self.sync_worker.handle(serde_json::from_value(event.clone())?, Millis(u64::MAX))).await;
                return Ok(response.map_or_else(|error| json!({ "error": error.to_string() }), |response| json!(response)));
            }
            "reaper" => {
                let reaped = self.reap().await;
                self.fire_schedules().await?;
                return reaped.map(|_| Value::Null);
            }
            _ => return Err(format!("there is no function {function}").into()),
        };
        let response = TestResponse::from_lambda(response)?;
        let headers: Map<String, Value> = response.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let body = response.json().unwrap_or_else(|_| String::from_utf8_lossy(&response.body).into_owned().into());
        Ok(json!({ "status": response.status, "headers": headers, "body": body }))
    }

    /// Runs the reaper once.
    pub async fn reap(&self) -> Result<Reaped> {
        run_as("reaper", self.reaper.handle()).await
    }

    /// Starts the exports of schedules that are due, as the reaper does after its other work.
    pub async fn fire_schedules(&self) -> Result<FiredSchedules> {
        Ok(run_as("reaper", self.schedules.run(self.requires_client)).await?)
    }

    /// Advances the clock, then runs the reaper once.
    pub async fn reap_after(&self, time: Duration) -> Result<Reaped> {
        self.clock.advance(time);
        self.reap().await
    }

    /// Delivers the events that are due to these targets, as the reaper does after its other work.
    pub async fn deliver_events(&self, targets: impl EventSender) -> Result<DeliveredEvents> {
        let sender = FaultyPort::new(targets, &self.faults);
        let deliverer = EventDeliverer::new(self.outbox.clone(), sender, self.clock.clone());
        Ok(run_as("reaper", deliverer.run()).await?)
    }

    /// Returns the current time of the manual clock.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }
}
