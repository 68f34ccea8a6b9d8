//! Runs all handlers, workers and the reaper in one process over a directory, as `template.yaml` does on AWS.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cancel::handler::CancelHandler;
use files::handler::FilesHandler;
use groups::handler::GroupsHandler;
use headrace_aws::DynamoJobStore;
use headrace_core::flow::client::estimate::{EstimateSettings, Fleet};
use headrace_core::flow::upkeep::reap::recover;
use headrace_core::flow::upkeep::seal::SealSettings;
use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::job::ExportError;
use headrace_core::ports::{LeaseSettings, NoFeed, OutputStore as _, Ports, ResourceSource as _};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::lake_settings::LakeSettings;
use headrace_edge::auth::Authenticator;
use headrace_edge::config::{AccessControl, CapabilitySettings, ExportSettings, IdentityProviderSettings, SmartSettings};
use headrace_edge::event_targets::EventTargets;
use headrace_edge::jwks::{JwksCache, UrlPolicy};
use headrace_edge::system::{SystemClock, random_job_id};
use headrace_edge::webhook::{WebhookClient, WebhookSettings};
use kickoff::handler::KickoffHandler;
use metadata::handler::MetadataHandler;
use reaper::events::EventDeliverer;
use reaper::handler::ReaperHandler;
use reaper::schedules::{ScheduleRunner, random_job};
use status::handler::StatusHandler;
use token::handler::TokenHandler;
use tokio::task::JoinSet;

use crate::server::feed::no_feed;
use crate::server::open_by_default::is_no_longer_open;
use crate::server::page::PageTable;
use crate::server::queue::LocalQueue;
use crate::server::state::{
    AUDIT_FOLDER, FILES_FOLDER, KEYS_FOLDER, SECRETS_KEY_FILE, StateError, StateFolder, lock_state_folder, mark_stopped,
};
use crate::server::state_access::{RunningAccess, record_running_access};
use crate::server::workers::{LocalPorts, Workers, clone_ports};
use crate::stores::directory::{DirectoryAudit, DirectoryLake, DirectoryOutputStore, GivenConfiguration};
use crate::stores::embedded::{TableFault, TableSpace};
use crate::stores::encryptor::FileSecretEncryptor;
use crate::stores::signer::FileSigner;

/// Duration of a lease. It only matters for a worker that hangs: after a crash, the next start recovers all tasks.
const LEASE_DURATION: Duration = Duration::from_secs(20);

/// Minimum size of a slice, in bytes. A few slices keep a few workers busy, and fewer slices leave fewer fragments to merge at the
/// end.
const MIN_SLICE_BYTES: u64 = 256 << 20;

/// The number of bytes of version records that one task resolves: of 400,000 resources. The workers share those of a lake of half a gigabyte.
const RESOLVE_BYTES: u64 = 16 << 20;

/// Number of files of a lake up to which the job table of a single export is in memory. The tasks of so many take 2 MB.
const MAX_FILES_IN_MEMORY: usize = 10_000;

/// Time between two runs of the reaper. On AWS it is one minute.
const REAPER_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two deletions of expired items in the job table.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Time after which a task records its cursor. A record costs a millisecond here, and a stop then repeats little.
const CURSOR_INTERVAL: Duration = Duration::from_secs(1);

/// Reason why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The source, the destination or the job table cannot be used.
    #[error(transparent)]
    Port(#[from] ExportError),
}

/// Configuration of the service.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// The directory of NDJSON files.
    pub lake: PathBuf,
    /// The state folder.
    pub state: PathBuf,
    /// Settings of the request handlers.
    pub settings: ExportSettings,
    /// Settings for reading the lake.
    pub lake_settings: LakeSettings,
    /// True if files are skipped whose names indicate a resource type that is not exported.
    pub trust_object_names: bool,
    /// Number of tasks that run at the same time.
    pub workers: usize,
    /// Access control.
    pub access: ServerAccess,
    /// The webhook that gets the events of all exports.
    pub webhook: Option<WebhookSettings>,
    /// The anonymization configuration of a service that runs a single export. Its keys, and the secrets of the export, are
    /// in memory only.
    pub given_configuration: Option<GivenConfiguration>,
}

/// Access control on one machine.
#[derive(Clone, Debug)]
pub enum ServerAccess {
    /// Registered clients, with access tokens that this key signs (SMART Backend Services).
    Smart(FileSigner),
    /// Clients with an access token of the operator's identity provider.
    External(IdentityProviderSettings),
    /// Unauthenticated, by the operator's choice: anyone who can reach the server.
    None,
    /// Unauthenticated, because nobody has chosen anything: programs on this machine, until access control is set up.
    OpenByDefault,
}

impl ServerAccess {
    /// Returns what other commands on the state folder need to know about a running server.
    fn running_access(&self) -> RunningAccess {
        match self {
            Self::Smart(_) | Self::External(_) => RunningAccess::Controlled,
            Self::None => RunningAccess::Open,
            Self::OpenByDefault => RunningAccess::OpenByDefault,
        }
    }

    /// Returns the access control settings of the handlers.
    fn to_access_control(&self, settings: &ExportSettings) -> AccessControl {
        match self {
            Self::Smart(_) => AccessControl::Smart(SmartSettings { base: settings.base.clone(), version: settings.policy.version }),
            Self::External(external) => AccessControl::External(external.clone()),
            Self::None | Self::OpenByDefault => AccessControl::None,
        }
    }
}

/// The running service. Workers and reaper stop when it is dropped.
pub struct Service {
    pub(crate) kickoff: KickoffHandler<DynamoJobStore, LocalQueue, DirectoryLake, DirectoryOutputStore, SystemClock>,
    pub(crate) exports: StatusHandler<DynamoJobStore, SystemClock>,
    pub(crate) cancel: CancelHandler<DynamoJobStore, DirectoryOutputStore, SystemClock>,
    pub(crate) files: FilesHandler<DynamoJobStore, DirectoryOutputStore, SystemClock>,
    pub(crate) groups: GroupsHandler<DynamoJobStore, DirectoryLake, SystemClock>,
    pub(crate) metadata: MetadataHandler,
    /// Token endpoint, if this server issues its own tokens.
    pub(crate) token: Option<TokenHandler<DynamoJobStore, FileSigner, SystemClock>>,
    /// The configured base URL; `None` derives it from each request.
    pub(crate) base: Option<String>,
    /// True if the state ends with this process.
    is_of_one_export: bool,
    /// True if clients must authenticate.
    pub(crate) requires_authentication: bool,
    /// The state folder, if the server is open only until access control is set up in it.
    pub(crate) open_by_default: Option<Arc<PathBuf>>,
    /// State folder.
    state: PathBuf,
    /// Space of the job table.
    space: TableSpace,
    workers: Workers,
    /// The ports of the handlers.
    ports: LocalPorts<NoFeed>,
    /// Settings of the request handlers.
    settings: ExportSettings,
    /// True if events are sent.
    sends_events: bool,
    /// The reaper and other regular work, which are aborted when this is dropped.
    background_tasks: Mutex<JoinSet<()>>,
    /// Lock of the state folder.
    _lock: Arc<File>,
}

impl Service {
    /// Opens the state folder, resumes unfinished exports, and starts the workers and the reaper.
    pub async fn start(config: ServiceConfig) -> Result<Self, StartError> {
        let shown = config.state.clone();
        Self::start_shown_as(config, &shown).await
    }

    /// Starts as [`Self::start`] does. Errors name the state folder by the path `shown`, one that the user knows.
    pub async fn start_shown_as(config: ServiceConfig, shown: &Path) -> Result<Self, StartError> {
        // The lock comes first: it proves that no other process serves this state, so tasks can be recovered and old leases voided.
        let lock = Arc::new(lock_state_folder(&config.state)?);
        record_running_access(&lock, &config.state, config.access.running_access())?;
        let (opened, state) = (open_table(&config, shown).await?, config.state.clone());
        // A start that fails leaves the folder as a stopped server does. Before it is open, it may be that of a server that was killed.
        Box::pin(Self::start_opened(config, shown, (lock.clone(), opened))).await.inspect_err(|_| mark_stopped(&state))
    }

    /// Starts the service on its open state folder.
    async fn start_opened(
        config: ServiceConfig,
        shown: &Path,
        (lock, StateFolder { dynamo, jobs }): (Arc<File>, StateFolder),
    ) -> Result<Self, StartError> {
        let sends_events = config.webhook.is_some();
        let is_open_by_default = config.access.running_access() == RunningAccess::OpenByDefault;
        let open_by_default = is_open_by_default.then(|| Arc::new(config.state.clone()));
        let encryptor = match &config.given_configuration {
            Some(_) => FileSecretEncryptor::in_memory()?,
            None => FileSecretEncryptor::new(config.state.join(KEYS_FOLDER).join(SECRETS_KEY_FILE)),
        };
        let jobs = jobs.with_encryptor(encryptor).with_events(config.webhook.is_some());
        let output = DirectoryOutputStore::open(config.state.join(FILES_FOLDER)).shown_as(shown).separate_from_lake(&config.lake);
        let output = output.with_configuration(config.given_configuration.clone());
        let is_of_one_export = is_of_one_export(&config.state, shown);
        // The client of a single export is in this process, and gets the files within moments after they were written.
        let output = if is_of_one_export { output.trusts_own_files() } else { output };
        let lake_root = config.lake.clone();
        let lake = DirectoryLake::open(config.lake);
        lake.check().await.map_err(ExportError::from)?;
        output.check(None).await.map_err(ExportError::from)?;
        output.report_unusable_keys().await.map_err(ExportError::from)?;
        let (queue, clock) = (LocalQueue::default(), SystemClock);
        let ports = Ports { jobs: jobs.clone(), queue: queue.clone(), source: lake.clone(), output: output.clone(), clock, feed: NoFeed };
        // The state of a single export is new.
        let resumed_tasks = if is_of_one_export { 0 } else { recover(&ports).await? };
        if resumed_tasks > 0 {
            tracing::info!(tasks = resumed_tasks, "resuming unfinished exports");
        }
        let quotas = config.settings.quotas;
        let lease = LeaseSettings { duration: LEASE_DURATION, ..LeaseSettings::default() };
        let access = config.access.to_access_control(&config.settings);
        let capabilities =
            CapabilitySettings { access: access.clone(), ..CapabilitySettings::from_local(&config.settings, &config.lake_settings) };
        let metadata = MetadataHandler::new(&clock, capabilities);
        let worker_settings = WorkerSettings {
            lease,
            cursor_interval: CURSOR_INTERVAL,
            min_slice_bytes: MIN_SLICE_BYTES,
            resolve_bytes: RESOLVE_BYTES,
            trust_object_names: config.trust_object_names,
            quotas,
            lake: config.lake_settings.clone(),
            ..WorkerSettings::default()
        };
        let workers = Workers::start(&clone_ports(&ports).with_feed(no_feed(&lake_root)), &worker_settings, config.workers);
        let mut background_tasks = JoinSet::new();
        let audit = DirectoryAudit::open(config.state.join(AUDIT_FOLDER));
        // Writers and sealer share one process and clock, so records can be sealed without waiting for late ones.
        let seal_settings = SealSettings { min_age: Duration::ZERO, ..SealSettings::default() };
        let reaper = ReaperHandler::new((jobs.clone(), queue.clone()), (output.clone(), audit), clock, quotas, seal_settings);
        let targets = EventTargets::new(config.webhook, WebhookClient::new(UrlPolicy::LocalClients));
        let events = EventDeliverer::new(jobs.clone(), targets, clock);
        let (space, reserve) = (dynamo.space().clone(), dynamo.space().clone());
        background_tasks.spawn(async move {
            loop {
                tokio::time::sleep(REAPER_INTERVAL).await;
                // Once space is freed, it is kept for records again.
                let reserve = reserve.clone();
                drop(tokio::task::spawn_blocking(move || reserve.is_reserved()).await);
                if let Err(error) = reaper.handle().await {
                    tracing::warn!(error = %error, "a reaper run failed");
                }
                if let Err(error) = events.run().await {
                    tracing::warn!(error = %error, "the events could not be read; the next run tries again");
                }
            }
        });
        background_tasks.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_INTERVAL).await;
                if let Err(error) = dynamo.sweep_expired().await {
                    tracing::warn!(error = %error, "expired items could not be removed; the next sweep tries again");
                }
            }
        });
        let authenticator = || Authenticator::new(jobs.clone(), clock, access.clone());
        let keys = || JwksCache::new(UrlPolicy::LocalClients, clock);
        let token = match config.access {
            ServerAccess::Smart(signer) => Some(TokenHandler::new(authenticator(), (jobs.clone(), signer), keys(), clock)),
            ServerAccess::External(_) | ServerAccess::None | ServerAccess::OpenByDefault => None,
        };
        let fleet = Fleet::Process(u32::try_from(config.workers).unwrap_or(u32::MAX));
        let estimates = EstimateSettings::new(config.lake_settings.clone(), config.trust_object_names, fleet);
        Ok(Self {
            token,
            base: config.settings.base.clone(),
            is_of_one_export,
            requires_authentication: access.requires_authentication(),
            open_by_default,
            groups: GroupsHandler::new(authenticator(), lake.clone(), clock, config.settings.base.clone(), config.settings.policy.version),
            exports: StatusHandler::new(authenticator(), jobs.clone(), clock, config.settings.base.clone()),
            kickoff: KickoffHandler::new(
                authenticator(),
                (jobs.clone(), queue),
                (lake, output.clone()),
                clock,
                config.settings.clone(),
                random_job_id,
            )
            .with_estimates(estimates),
            cancel: CancelHandler::new(authenticator(), jobs.clone(), output.clone(), clock),
            files: FilesHandler::new(authenticator(), jobs.clone(), output, clock),
            metadata,
            state: config.state,
            space,
            workers,
            ports,
            settings: config.settings,
            sends_events,
            background_tasks: Mutex::new(background_tasks),
            _lock: lock,
        })
    }

    /// Starts the exports of schedules from now on. `base` is the server's own base URL, if no other is configured. A service that runs a
    /// single export starts no others.
    pub fn start_schedules(&self, base: String) {
        let settings = ExportSettings { base: Some(self.settings.base.clone().unwrap_or(base)), ..self.settings.clone() };
        let runner = ScheduleRunner::new(clone_ports(&self.ports), settings, random_job);
        let (requires_authentication, open_by_default) = (self.requires_authentication, self.open_by_default.clone());
        self.background_tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
            loop {
                // The first registration closes an open server to its schedules, too: from then on, each needs a client.
                let is_closed = match &open_by_default {
                    Some(state) => is_no_longer_open(state).await,
                    None => requires_authentication,
                };
                if let Err(error) = runner.run(is_closed).await {
                    tracing::warn!(error = %error, "the schedules could not be checked; the next check tries again");
                }
                tokio::time::sleep(REAPER_INTERVAL).await;
            }
        });
    }

    /// Returns the job table for the page. `None` if access control is on: a browser has no access token.
    pub(crate) fn page_table(&self) -> Option<PageTable> {
        (!self.requires_authentication).then(|| PageTable {
            store: self.ports.jobs.clone(),
            policy: Some(self.settings.policy.clone()),
            output: Some(self.ports.output.clone()),
            requires_client: false,
            sends_events: Some(self.sends_events),
        })
    }

    /// Stops the workers within a bounded time and hands their leases back, so that unfinished exports continue at the next start. A service
    /// that runs a single export has none.
    pub async fn stop(&self) {
        self.workers.stop().await;
        if !self.is_of_one_export {
            self.workers.hand_back_leases().await;
        }
    }

    /// Waits until a worker ends a task. A task that has ended since the last wait ends this one at once.
    pub(crate) async fn wait_for_task_end(&self) {
        self.workers.wait_for_task_end().await;
    }

    /// Returns the fault that keeps the job table from being written, if there is one.
    pub(crate) fn table_fault(&self) -> Option<TableFault> {
        self.space.fault()
    }
}

/// Returns true for the state folder of a single export, which is deleted with the process. It is shown as another folder.
fn is_of_one_export(state: &Path, shown: &Path) -> bool {
    state != shown
}

/// Opens the state folder. The job table of a single export is in memory, unless the lake has so many files that it would be large.
async fn open_table(config: &ServiceConfig, shown: &Path) -> Result<StateFolder, StateError> {
    if is_of_one_export(&config.state, shown) && !DirectoryLake::open(&config.lake).has_more_files_than(MAX_FILES_IN_MEMORY) {
        return StateFolder::open_in_memory().await;
    }
    StateFolder::open_to_serve(&config.state, shown).await
}

impl Drop for Service {
    fn drop(&mut self) {
        mark_stopped(&self.state);
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Port(error.into())
    }
}
