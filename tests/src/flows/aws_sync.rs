//! Synchronizations of the lake of an AWS deployment with a FHIR server over HTTP, by the functions reaper and sync-worker.

use std::pin::Pin;
use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;
use futures_util::stream;
use headrace_aws::{AwsRequestSigner, DynamoJobStore, S3Lake, S3LakeWriter, S3OutputStore, SqsTaskQueue, StoredSecret};
use headrace_client::signing::RequestSigner;
use headrace_core::flow::upkeep::fire_sync::{SyncSchedule, SyncStart};
use headrace_core::flow::upkeep::reap::Reaped;
use headrace_core::flow::upkeep::seal::SealSettings;
use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::job::{Job, JobSettings, Quotas};
use headrace_core::lake::sync_report::{SYNC_REPORT_OBJECT, SyncReport};
use headrace_core::ports::{ByteStream, Clock as _, Feed, JobStore as _, LakeWriter as _, NoFeed, Ports};
use headrace_core::schedule::Timing;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::{SourceError, StoreError};
use headrace_core::vocab::ids::JobId;
use headrace_edge::config::OriginConfig;
use reaper::handler::ReaperHandler;
use reaper::sync::SyncStarter;
use sync_worker::handler::SyncWorkerHandler;
use sync_worker::origin::DeployedOrigin;

use super::clock::next_job_id;
use super::completion::REAPER_INTERVAL;
use super::deployment::{AwsDeployment, Deployment as _};
use super::permissions::run_as;
use super::sync::small_request;
use super::{ManualClock, Result};
use crate::standins::fhir_server::{FhirServer, HttpFhirServer, RequiredSignature, ServerBehavior};
use crate::standins::secrets::{ORIGIN_SECRET, SecretsStandIn};

/// Name of the queue of synchronizations.
pub const SYNC_QUEUE: &str = "syncs";

/// The token of the server at first.
pub const FIRST_TOKEN: &str = "first-token";

/// The number of messages and reaper runs after which a synchronization counts as stuck.
const PATIENCE: usize = 400;

/// A function that reads a secret.
type ReadSecret = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String, StoreError>> + Send>> + Send + Sync>;

type AwsFeed = Feed<DeployedOrigin<ReadSecret>, S3LakeWriter>;

/// Returns a signer with the credentials that a server requires.
fn signer(required: RequiredSignature) -> RequestSigner {
    let RequiredSignature { access_key, secret_key, session_token, region, service } = required;
    let credentials = Credentials::new(access_key, secret_key, session_token, None, "test");
    RequestSigner::new(AwsRequestSigner::new(SharedCredentialsProvider::new(credentials), region, service).into_fn())
}

/// The functions that synchronize the lake of a deployment, the server, and its credential.
pub struct AwsSync {
    deployment: AwsDeployment,
    clock: ManualClock,
    queue_url: String,
    /// The server.
    pub server: FhirServer,
    http: HttpFhirServer,
    /// The store of the credential.
    pub secrets: SecretsStandIn,
    worker: SyncWorkerHandler<DynamoJobStore, SqsTaskQueue, S3Lake, S3OutputStore, ManualClock, AwsFeed>,
    reaper: ReaperHandler<DynamoJobStore, SqsTaskQueue, S3OutputStore, headrace_aws::S3AuditFiles, ManualClock>,
}

impl AwsSync {
    /// Starts the functions, and a server with some resources that requires a token.
    pub async fn start(deployment: &AwsDeployment, clock: &ManualClock) -> Result<Self> {
        Self::start_with(deployment, clock, None).await
    }

    /// Starts the functions, and a server with some resources that requires a token, or signed requests.
    pub async fn start_with(deployment: &AwsDeployment, clock: &ManualClock, signature: Option<RequiredSignature>) -> Result<Self> {
        let time = clock.clone();
        let server = FhirServer::new(ServerBehavior { has_history: true, ..ServerBehavior::default() }, move || time.now());
        let start = Millis(clock.now().0 - 86_400_000);
        server.with_store(|store| {
            for number in 0..20_u64 {
                store.put("Patient", &format!("p-{number}"), Millis(start.0 + number * 60_000));
                store.put("Observation", &format!("o.{number}"), Millis(start.0 + number * 61_000));
            }
            store.versions.sort_by_key(|version| version.at);
        });
        match &signature {
            Some(signature) => server.require_signature(signature.clone()),
            None => server.require_authorization(&format!("Bearer {FIRST_TOKEN}")),
        }
        let http = server.listen().await?;
        let (queue_url, _) = deployment.sqs.create_queue_with_dlq(SYNC_QUEUE, 5_400, 5).await?;
        let secrets = SecretsStandIn::start(&format!(r#"{{"token":"{FIRST_TOKEN}"}}"#));
        let client = secrets.client().config().to_builder().interceptor(deployment.permission_log.clone()).build();
        let secret = StoredSecret::new(aws_sdk_secretsmanager::Client::from_conf(client), ORIGIN_SECRET);
        let read_secret: ReadSecret = Box::new(move || {
            let secret = secret.clone();
            Box::pin(async move { secret.read().await })
        });
        let (tasks, source, output) = deployment.ports();
        let signing_region = signature.as_ref().map(|signature| signature.region.clone());
        let secret = signature.is_none().then(|| ORIGIN_SECRET.to_owned());
        let origin = OriginConfig { url: http.base.clone(), secret, signing_region, aliases: Vec::new() };
        let read_secret = signature.is_none().then_some(read_secret);
        let origin = DeployedOrigin::new(origin, read_secret).with_signer(signature.map(signer));
        let ports = Ports {
            jobs: deployment.job_store(),
            queue: deployment.queue_at(&queue_url),
            source: source.clone(),
            output: output.clone(),
            clock: clock.clone(),
            feed: Feed { origin, lake: deployment.lake_writer() },
        };
        let reaper_queue = tasks.with_syncs(&queue_url);
        let stores = (output, deployment.audit_files());
        Ok(Self {
            worker: SyncWorkerHandler::new(ports, source, WorkerSettings::default()),
            reaper: ReaperHandler::new(
                (deployment.job_store(), reaper_queue),
                stores,
                clock.clone(),
                Quotas::default(),
                SealSettings::default(),
            ),
            deployment: deployment.clone(),
            clock: clock.clone(),
            queue_url,
            server,
            http,
            secrets,
        })
    }

    /// Starts a synchronization if one is due, as the reaper does, every hour. Returns its job.
    pub async fn start_due(&self) -> Result<Option<JobId>> {
        self.start_due_with("PT1H").await
    }

    /// Starts a synchronization if one is due by these times.
    pub async fn start_due_with(&self, every: &str) -> Result<Option<JobId>> {
        let (queue, source, _) = self.deployment.ports();
        let ports = Ports {
            jobs: self.deployment.job_store(),
            queue: queue.with_syncs(&self.queue_url),
            source,
            output: (),
            clock: self.clock.clone(),
            feed: NoFeed,
        };
        let mut request = small_request();
        request.origin.clone_from(&self.http.base);
        let schedule = SyncSchedule { request, timing: Timing::parse(every, None, Millis(0))?, job: JobSettings::default() };
        let starter = SyncStarter::new(ports, Some(schedule), next_job_id);
        match run_as("reaper", starter.run()).await? {
            SyncStart::Started(job) => Ok(Some(job)),
            SyncStart::NotDue | SyncStart::StillRunning(_) | SyncStart::StartedByAnother => Ok(None),
        }
    }

    /// Takes a message from the queue of synchronizations.
    pub async fn receive(&self) -> Result<Option<SqsMessage>> {
        let receive = self.deployment.sqs.client().receive_message().queue_url(&self.queue_url).max_number_of_messages(1);
        let Some(received) = receive.send().await?.messages.unwrap_or_default().into_iter().next() else { return Ok(None) };
        let delete = self.deployment.sqs.client().delete_message().queue_url(&self.queue_url);
        delete.receipt_handle(received.receipt_handle.clone().unwrap_or_default()).send().await?;
        let mut message = SqsMessage::default();
        (message.message_id, message.body) = (received.message_id, received.body);
        Ok(Some(message))
    }

    /// Delivers one message, if there is one. Returns true if there was.
    pub async fn deliver_one(&self) -> Result<bool> {
        let Some(message) = self.receive().await? else { return Ok(false) };
        let mut event = SqsEvent::default();
        event.records.push(message);
        let response = run_as("sync-worker", self.worker.handle(event, Millis(u64::MAX))).await?;
        if response.batch_item_failures.is_empty() { Ok(true) } else { Err("a message of a synchronization was not accepted".into()) }
    }

    /// Runs the reaper a while later.
    pub async fn reap_after(&self, time: Duration) -> Result<Reaped> {
        self.clock.advance(time);
        run_as("reaper", self.reaper.handle()).await
    }

    /// Delivers messages and runs the reaper until the job has ended. Returns the job.
    pub async fn complete(&self, id: &JobId) -> Result<Job> {
        for _ in 0..PATIENCE {
            if self.deliver_one().await? {
                continue;
            }
            let job = self.deployment.job_store().job(id).await?.ok_or("the job does not exist")?;
            if !job.state.is_open() {
                return Ok(job);
            }
            self.reap_after(REAPER_INTERVAL).await?;
        }
        Err("the synchronization does not end".into())
    }

    /// Runs a synchronization that is due to its end. Returns its report.
    pub async fn run(&self) -> Result<SyncReport> {
        let id = self.start_due().await?.ok_or("no synchronization is due")?;
        let job = self.complete(&id).await?;
        match job.reason {
            Some(reason) => Err(reason.text.into()),
            None => self.report().await,
        }
    }

    /// Reads the report of the last synchronization.
    pub async fn report(&self) -> Result<SyncReport> {
        let objects = self.deployment.lake_objects().await?;
        Ok(serde_json::from_slice(objects.get(SYNC_REPORT_OBJECT).ok_or("no report")?)?)
    }

    /// Sends a message that names no task.
    pub async fn announce_garbage(&self) -> Result<()> {
        self.deployment.sqs.client().send_message().queue_url(&self.queue_url).message_body("?").send().await?;
        Ok(())
    }

    /// Writes an object of the lake whose content breaks off after the first part.
    pub async fn break_off_an_upload(&self) -> Result<()> {
        let chunks = [Ok(Bytes::from(vec![b' '; 17 << 20])), Err(SourceError::Unavailable("injected fault".into()))];
        let content: ByteStream = Box::pin(stream::iter(chunks));
        match run_as("sync-worker", self.deployment.lake_writer().put("Patient/broken.ndjson", content)).await {
            Err(StoreError::NotApplied { .. }) => Ok(()),
            result => Err(format!("the object was written: {result:?}").into()),
        }
    }
}
