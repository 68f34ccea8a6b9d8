//! The handlers over one directory: what `template.yaml` wires on AWS.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use cancel::handler::Cancel;
use chunk_worker::handler::ChunkWorker;
use files::handler::Files;
use groups::handler::Groups;
use headrace_aws::DynamoJobStore;
use headrace_core::flow::upkeep::reap::recover;
use headrace_core::flow::upkeep::seal::SealTerms;
use headrace_core::flow::work::run_task::WorkerSettings;
use headrace_core::ports::{Clock, LeaseSettings, OutputStore as _, Ports, ResourceSource as _, TaskQueue as _};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::{ExportError, StoreError};
use headrace_core::vocab::ids::TaskId;
use headrace_edge::config::{AccessControl, ExternalTerms, LakeTerms, Offer, SmartTerms, Terms};
use headrace_edge::door::Door;
use headrace_edge::jwks::{JwksSource, Trust};
use headrace_edge::system::{SystemClock, random_job_id};
use kickoff::handler::Kickoff;
use metadata::handler::Metadata;
use reaper::handler::Reaper;
use status::handler::Exports;
use token::handler::Token;
use tokio::task::JoinSet;

use crate::server::queue::LocalQueue;
use crate::server::state::{AUDIT_FOLDER, FILES_FOLDER, KEYS_FOLDER, SECRETS_KEY_FILE, StateFolder, StateError, lock_state_folder};
use crate::stores::directory::{DirectoryAudit, DirectoryLake, DirectoryOutputStore};
use crate::stores::encryptor::FileSecretEncryptor;
use crate::stores::signer::FileSigner;

/// A dead process is noticed at the next start; this is for a worker that hangs.
const LEASE_DURATION: Duration = Duration::from_secs(20);

/// Slices are no smaller than this: a few workers are kept busy by a few slices, and the fewer there are, the less is left
/// over to be joined at the end.
const MIN_SLICE_BYTES: u64 = 256 << 20;

/// How often the reaper looks. On AWS it is once a minute.
const REAPER_INTERVAL: Duration = Duration::from_secs(5);

/// How often items whose time is over leave the table.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// How long a message waits before it is delivered again.
const REDELIVERY_DELAY: Duration = Duration::from_secs(5);

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state cannot be used.
    #[error(transparent)]
    StateFolder(#[from] StateError),
    /// Source, destination or job table refused.
    #[error(transparent)]
    Port(#[from] ExportError),
}

/// What is to be served.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// The directory of NDJSON files.
    pub lake: PathBuf,
    /// Where jobs and their files are kept.
    pub state: PathBuf,
    /// What jobs are promised.
    pub settings: Terms,
    /// How the lake is understood.
    pub lake_settings: LakeTerms,
    /// Pass over files whose names promise a type that was not asked for.
    pub trust_object_names: bool,
    /// Tasks worked on at the same time.
    pub workers: usize,
    /// Who may ask.
    pub access: ServerAccess,
}

/// Who may ask, on one machine.
#[derive(Clone, Debug)]
pub enum ServerAccess {
    /// Registered clients, with access tokens that this key signs.
    Smart(FileSigner),
    /// Whoever has an access token of the operator's identity provider.
    External(ExternalTerms),
    /// Everybody who reaches the server.
    None,
}

impl ServerAccess {
    /// As a door takes it, where this is promised.
    fn control(&self, terms: &Terms) -> AccessControl {
        match self {
            Self::Smart(_) => AccessControl::Smart(SmartTerms { base: terms.base.clone(), version: terms.policy.version }),
            Self::External(external) => AccessControl::External(external.clone()),
            Self::None => AccessControl::None,
        }
    }
}

/// The service, at work from [`Service::start`] until it is dropped.
pub struct Service {
    pub(crate) kickoff: Kickoff<DynamoJobStore, LocalQueue, DirectoryLake, DirectoryOutputStore, SystemClock>,
    pub(crate) exports: Exports<DynamoJobStore, SystemClock>,
    pub(crate) cancel: Cancel<DynamoJobStore, DirectoryOutputStore, SystemClock>,
    pub(crate) files: Files<DynamoJobStore, DirectoryOutputStore, SystemClock>,
    pub(crate) groups: Groups<DynamoJobStore, DirectoryLake, SystemClock>,
    pub(crate) metadata: Metadata,
    /// Only where it signs tokens itself.
    pub(crate) token: Option<Token<DynamoJobStore, FileSigner, SystemClock>>,
    /// The FHIR base, if it is not that of each request.
    pub(crate) base: Option<String>,
    /// Whether whoever asks has to show who that is.
    pub(crate) requires_authentication: bool,
    /// Workers and the reaper; they end with the service.
    _background_tasks: JoinSet<()>,
    /// Held as long as the service lives.
    _lock: File,
}

impl Service {
    /// Opens the state, takes up unfinished exports, and starts the workers and the reaper.
    pub async fn start(config: ServiceConfig) -> Result<Self, StartError> {
        let lock = lock_state_folder(&config.state)?;
        let StateFolder { dynamo, jobs } = StateFolder::open(&config.state).await?;
        let jobs = jobs.with_sealer(FileSecretEncryptor::new(config.state.join(KEYS_FOLDER).join(SECRETS_KEY_FILE)));
        let parts = DirectoryOutputStore::open(config.state.join(FILES_FOLDER)).separate_from_lake(&config.lake);
        let lake = DirectoryLake::open(config.lake);
        lake.check().await.map_err(ExportError::from)?;
        parts.check(None).await.map_err(ExportError::from)?;
        let (queue, clock) = (LocalQueue::default(), SystemClock);
        let ports = Ports { jobs: jobs.clone(), queue: queue.clone(), source: lake.clone(), parts: parts.clone(), clock };
        let taken_up = recover(&ports).await?;
        if taken_up > 0 {
            tracing::info!(tasks = taken_up, "unfinished exports go on");
        }
        let quotas = config.settings.quotas;
        let lease = LeaseSettings { length: LEASE_DURATION, void_before: clock.now(), ..LeaseSettings::default() };
        let access = config.access.control(&config.settings);
        let offer = Offer { access: access.clone(), ..Offer::of_one_machine(&config.settings, &config.lake_settings) };
        let metadata = Metadata::new(&clock, offer);
        let terms = WorkerSettings {
            lease,
            slice_floor_bytes: MIN_SLICE_BYTES,
            trust_object_names: config.trust_object_names,
            quotas,
            ..config.lake_settings.work_terms()
        };
        let worker = Arc::new(ChunkWorker::new(ports, terms));
        let mut at_work = JoinSet::new();
        for _ in 0..config.workers.max(1) {
            let (worker, queue) = (worker.clone(), queue.clone());
            at_work.spawn(async move {
                while let Some(task) = queue.next().await {
                    deliver_task(&worker, &queue, task).await;
                }
            });
        }
        let audit = DirectoryAudit::open(config.state.join(AUDIT_FOLDER));
        // Within this process no answer is lost and no clock differs: records need no rest.
        let seals = SealTerms { rest: Duration::ZERO, ..SealTerms::default() };
        let reaper = Reaper::new((jobs.clone(), queue.clone()), (parts.clone(), audit), clock, quotas, seals);
        at_work.spawn(async move {
            loop {
                tokio::time::sleep(REAPER_INTERVAL).await;
                if let Err(error) = reaper.handle().await {
                    tracing::warn!(error = %error, "the reaper could not look");
                }
            }
        });
        at_work.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_INTERVAL).await;
                if let Err(error) = dynamo.sweep_expired().await {
                    tracing::warn!(error = %error, "expired items stay for now");
                }
            }
        });
        let door = || Door::new(jobs.clone(), clock, access.clone());
        let keys = || JwksSource::new(Trust::ClientsOfOneMachine, clock);
        let token = match config.access {
            ServerAccess::Smart(signer) => Some(Token::new(door(), (jobs.clone(), signer), keys(), clock)),
            ServerAccess::External(_) | ServerAccess::None => None,
        };
        Ok(Self {
            token,
            base: config.settings.base.clone(),
            requires_authentication: access.knows_callers(),
            groups: Groups::new(door(), lake.clone(), clock, config.settings.base.clone(), config.settings.policy.version),
            exports: Exports::new(door(), jobs.clone(), clock, config.settings.base.clone()),
            kickoff: Kickoff::new(door(), (jobs.clone(), queue), (lake, parts.clone()), clock, config.settings, random_job_id),
            cancel: Cancel::new(door(), jobs.clone(), parts.clone(), clock),
            files: Files::new(door(), jobs.clone(), parts, clock),
            metadata,
            _background_tasks: at_work,
            _lock: lock,
        })
    }
}

type LocalWorker = ChunkWorker<DynamoJobStore, LocalQueue, DirectoryLake, DirectoryOutputStore, SystemClock>;

/// Delivers one task as SQS would: in an event, and again if that is asked for.
async fn deliver_task(worker: &LocalWorker, queue: &LocalQueue, task: TaskId) {
    let mut message = SqsMessage::default();
    message.message_id = Some(task.to_string());
    message.body = serde_json::to_string(&task).ok();
    let mut event = SqsEvent::default();
    event.records = vec![message];
    // No end is near: this process is stopped by its user alone.
    let again = match worker.handle(event, Millis(u64::MAX)).await {
        Ok(response) => !response.batch_item_failures.is_empty(),
        Err(_) => true,
    };
    if again && let Err(error) = queue.announce(&[task], REDELIVERY_DELAY).await {
        tracing::warn!(error = %error, "a task was not announced again, the reaper will do it");
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Port(error.into())
    }
}
