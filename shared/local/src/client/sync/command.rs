//! Runs `headrace sync`: a job in a job table of its own, by the flows that the functions on AWS run.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headrace_core::access::Agent;
use headrace_core::flow::client::end_job::end_job_and_free_space;
use headrace_core::flow::client::start_sync::{start_sync, sync_owner};
use headrace_core::flow::upkeep::reap::{reap, recover};
use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::job::sync::SyncRequest;
use headrace_core::job::task::Work;
use headrace_core::job::{ExportError, Job, JobEvent, JobSettings, JobState, Quotas};
use headrace_core::lake::sync_report::{SYNC_REPORT_OBJECT, SyncReport};
use headrace_core::ports::{
    Clock as _, Feed, JobLists as _, JobStore as _, LeaseSettings, NoFeed, OriginError, OriginRequest, OriginServer as _, Ports,
    ResourceSource as _, TaskStore as _,
};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::TaskId;
use headrace_edge::system::{SystemClock, random_job_id};
use headrace_fhir::definitions::ResourceType;
use headrace_lake::writing::{SyncLock, WriteError};
use tokio::task::JoinSet;

use crate::cli::{AuthMethod, ExportArgs, ExportLevel, ExportOptions, OriginOptions, Source, SourceError, SyncArgs};
use crate::client::bulk::ClientError;
use crate::client::credential::read_credential;
use crate::client::progress::print_line;
use crate::server::feed::SharedOrigin;
use crate::server::queue::LocalQueue;
use crate::server::signals::stop_signal;
use crate::server::state::{FILES_FOLDER, StateError, StateFolder, lock_state_folder, mark_stopped};
use crate::server::workers::{LocalPorts, Workers, clone_ports};
use crate::stores::client_key::KeyError;
use crate::stores::deployment::{self, DeploymentError};
use crate::stores::directory::{DirectoryLake, DirectoryLakeWriter, DirectoryOutputStore};
use crate::stores::embedded::TableSpace;
use crate::stores::encryptor::FileSecretEncryptor;
use crate::stores::private::create_private_folder;
use crate::terminal::{print_result, printable_json, shorten};

use super::lake_check::check_lake;
use super::progress::SyncProgress;
use super::{HttpOrigin, OriginSettings, report};

/// Name of the state folder below the root of the lake. Listings skip it.
const STATE_FOLDER: &str = "_headrace/sync-state";

/// Duration of a lease. It only matters for a worker that hangs: after a crash, the next start recovers all tasks.
const LEASE_DURATION: Duration = Duration::from_secs(60);

/// Time between two looks at the job.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Time between two runs of the reaper.
const REAPER_INTERVAL: Duration = Duration::from_secs(5);

/// Number of jobs that are searched for an unfinished one.
const RECENT_JOBS: u16 = 20;

/// Number of attempts at the first request, before anything is written.
const FIRST_ATTEMPTS: u32 = 3;

/// Longest pause that a server may demand before it answers the first request. Later pauses are limited by the deadline of the job.
const LONGEST_FIRST_PAUSE: Duration = Duration::from_secs(3_600);

/// Failure of a synchronization.
#[derive(Debug, thiserror::Error)]
pub enum SyncCommandError {
    /// The URL is not that of a server.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The first argument is a directory.
    #[error("`{0}` is not the URL of a FHIR server: write http:// or https://")]
    NotServer(String),
    /// A type is unknown.
    #[error("`{0}` is not a resource type of FHIR; types are separated by commas, such as Patient,Observation")]
    UnknownType(String),
    /// The lake cannot be created.
    #[error("`{}` cannot be used as the lake", .path.display())]
    Lake {
        /// Path of the lake.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The lake is inside another one, or another run fills it.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Another server has filled the lake.
    #[error(
        "the lake `{}` is filled from {filled_from}, and its watermark is about that server: choose another directory for {requested}",
        .lake.display()
    )]
    OtherOrigin {
        /// Path of the lake.
        lake: PathBuf,
        /// Base URL of the server that has filled the lake.
        filled_from: String,
        /// Base URL of the server that was to fill it.
        requested: String,
    },
    /// The server cannot be used.
    #[error("the server cannot be used; nothing was written")]
    Origin(#[source] OriginError),
    /// The server demands a long pause before its first answer.
    #[error("the server is busy until {0}, and nothing was written: run the command again then")]
    BusyUntil(String),
    /// The client cannot be created.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The client's key or secret cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Requests cannot be signed.
    #[error(transparent)]
    Signature(#[from] DeploymentError),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The job table cannot be written, and no retry can mend that.
    #[error("{0}; the same command continues the synchronization")]
    Table(String),
    /// A store failed.
    #[error(transparent)]
    Port(#[from] ExportError),
    /// The job has failed.
    #[error("the synchronization failed: {0}")]
    Failed(String),
    /// The user has interrupted the synchronization.
    #[error("interrupted; the same command continues it")]
    Interrupted,
    /// The report cannot be read.
    #[error("the report of the synchronization cannot be read")]
    Report,
}

impl From<StoreError> for SyncCommandError {
    fn from(error: StoreError) -> Self {
        Self::Port(error.into())
    }
}

/// Result of a synchronization, for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncStatus {
    /// The lake is complete up to the new watermark.
    Complete,
    /// The fetched resources are not complete, and the lake is as before.
    Incomplete,
}

/// Runs `headrace sync` and prints its progress and its report.
pub async fn run_sync(args: &SyncArgs) -> Result<SyncStatus, SyncCommandError> {
    let base = match Source::parse(&args.url)? {
        Source::Server(base) => base.trim_end_matches('/').to_owned(),
        Source::Directory(_) => return Err(SyncCommandError::NotServer(shorten(&args.url, 200))),
    };
    let types = args.types.as_deref().map(parse_types).transpose()?;
    let credential = match args.signing.auth {
        Some(AuthMethod::Sigv4) => deployment::signature(&base, args.signing.region.clone(), &args.signing.sigv4_service).await?,
        None => read_credential(&args.login.credential)?,
    };
    let settings = origin_settings(credential, args.login.token_origins.clone(), &args.requests);
    let origin = HttpOrigin::new(&base, settings)?;
    let origin_name = check_lake(&args.lake, &base).await?;
    check_origin(&origin).await?;
    let sync = Sync {
        origin,
        request: sync_request(origin_name, types, args.full, &args.requests),
        lake: args.lake.clone(),
        state: args.state.clone().unwrap_or_else(|| args.lake.join(STATE_FOLDER)),
        deadline_hours: args.requests.sync_deadline_hours,
        workers: args.requests.requests_at_once,
        is_quiet: args.quiet,
    };
    let report = sync.run().await?;
    print_report(&report, args);
    Ok(if report.is_complete { SyncStatus::Complete } else { SyncStatus::Incomplete })
}

/// Prints the report to standard output and remarks to standard error.
fn print_report(report: &SyncReport, args: &SyncArgs) {
    if args.json {
        print_result(&serde_json::to_string(report).map(|json| printable_json(&json).into_owned() + "\n").unwrap_or_default());
    } else if !args.quiet {
        print_result(&report::result(report, &args.lake.to_string_lossy()));
    }
    print_remarks(report, args.quiet);
    if !args.quiet
        && let Some(types) = report::types_of_unknown_deletions(report, false)
    {
        print_line(&format!("note: it is not known which resources the server has deleted, of {types}"));
    }
}

/// Prints the remarks of a report to standard error, or only the errors.
fn print_remarks(report: &SyncReport, is_quiet: bool) {
    report::remarks(report).iter().filter(|remark| !is_quiet || remark.starts_with("error")).for_each(|remark| print_line(remark));
}

/// Parses the names of types.
fn parse_types(text: &str) -> Result<BTreeSet<ResourceType>, SyncCommandError> {
    let parse = |name: &str| ResourceType::parse(name).ok_or_else(|| SyncCommandError::UnknownType(shorten(name, 100)));
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(parse).collect()
}

/// Returns the settings of the access to the server.
pub(crate) fn origin_settings(
    credential: crate::client::bulk::Credential,
    token_origins: Vec<reqwest::Url>,
    options: &OriginOptions,
) -> OriginSettings {
    OriginSettings {
        credential,
        token_origins,
        requests_at_once: options.requests_at_once,
        requests_per_second: options.requests_per_second,
        aliases: options.origin_aliases.iter().map(|alias| alias.trim_end_matches('/').to_owned()).collect(),
    }
}

/// Returns the request of a synchronization with this server.
pub(crate) fn sync_request(origin: String, types: Option<BTreeSet<ResourceType>>, is_full: bool, options: &OriginOptions) -> SyncRequest {
    SyncRequest {
        origin,
        types,
        lag_seconds: options.lag_seconds,
        window_resources: options.window_resources,
        page_size: options.page_size,
        is_full,
        reconciles: options.reconcile,
        ignores_totals: options.ignore_totals,
        deletions_since: None,
    }
}

/// Checks that the server answers, before anything is written.
pub(crate) async fn check_origin(origin: &HttpOrigin) -> Result<(), SyncCommandError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match origin.get(OriginRequest::Query("metadata")).await {
            Ok(_) => return Ok(()),
            Err(OriginError::Unavailable(_)) if attempts < FIRST_ATTEMPTS => origin.pause(Duration::from_secs(1)).await,
            Err(OriginError::Busy { retry_after }) if attempts < FIRST_ATTEMPTS => {
                let delay = retry_after.unwrap_or(Duration::from_secs(1));
                let until = (SystemClock.now() + delay).instant();
                if delay > LONGEST_FIRST_PAUSE {
                    return Err(SyncCommandError::BusyUntil(until));
                }
                if delay > Duration::from_secs(1) {
                    print_line(&format!("the server is busy; next request at {until}"));
                }
                origin.pause(delay).await;
            }
            Err(error) => return Err(SyncCommandError::Origin(error)),
        }
    }
}

/// A synchronization of a lake in a directory.
pub(crate) struct Sync {
    pub(crate) origin: HttpOrigin,
    pub(crate) request: SyncRequest,
    pub(crate) lake: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) deadline_hours: u64,
    pub(crate) workers: usize,
    pub(crate) is_quiet: bool,
}

/// A synchronization whose state is open.
struct OpenSync {
    ports: LocalPorts,
    /// The same ports for upkeep, which uses neither the server nor the lake.
    upkeep: LocalPorts<NoFeed>,
    /// The space of the job table.
    space: TableSpace,
    _lock: File,
    _lake_lock: SyncLock,
}

impl Sync {
    /// Runs the synchronization to its end, or continues the one that was interrupted. Returns its report.
    pub(crate) async fn run(&self) -> Result<SyncReport, SyncCommandError> {
        let open = self.open().await?;
        // Boxed: the future of a server and its workers is too large for the stack.
        let result = Box::pin(self.run_open(&open)).await;
        mark_stopped(&self.state);
        result
    }

    /// Runs the synchronization for an export of what has changed since a moment, or of everything. A lake that an export has left, because it
    /// was stopped after the lake was complete, is filled anew if it may have resources that the server has deleted.
    async fn run_for_export(&self, since: Option<Millis>) -> Result<SyncReport, SyncCommandError> {
        let report = self.run().await?;
        let is_continued = report.from.is_some();
        if since.is_some() || !is_continued || report::types_of_unknown_deletions(&report, true).is_none() {
            return Ok(report);
        }
        if !self.is_quiet {
            print_line(
                "note: the resources that a stopped export has left are fetched again, because the server does not say which of them it has \
                 deleted meanwhile",
            );
        }
        std::fs::remove_dir_all(&self.lake).map_err(|cause| SyncCommandError::Lake { path: self.lake.clone(), cause })?;
        self.run().await
    }

    /// Opens the lake and the state folder.
    async fn open(&self) -> Result<OpenSync, SyncCommandError> {
        create_private_folder(&self.lake).map_err(|cause| SyncCommandError::Lake { path: self.lake.clone(), cause })?;
        let lake_lock = SyncLock::lock(&self.lake)?;
        let source = DirectoryLake::open(&self.lake);
        source.check().await.map_err(ExportError::from)?;
        let encryptor = FileSecretEncryptor::in_memory()?;
        let lock = lock_state_folder(&self.state)?;
        let StateFolder { dynamo, jobs } = StateFolder::open_to_serve(&self.state, &self.lake).await?;
        let jobs = jobs.with_encryptor(encryptor);
        let output = DirectoryOutputStore::open(self.state.join(FILES_FOLDER)).shown_as(&self.lake);
        let (queue, clock) = (LocalQueue::default(), SystemClock);
        let feed = Feed { origin: SharedOrigin::new(self.origin.clone()), lake: DirectoryLakeWriter::open(&self.lake) };
        let ports = Ports { jobs: jobs.clone(), queue: queue.clone(), source: source.clone(), output: output.clone(), clock, feed };
        let upkeep = Ports { jobs, queue, source, output, clock, feed: NoFeed };
        Ok(OpenSync { ports, upkeep, space: dynamo.space().clone(), _lock: lock, _lake_lock: lake_lock })
    }

    /// Starts or continues the job, and runs it to its end.
    async fn run_open(&self, open: &OpenSync) -> Result<SyncReport, SyncCommandError> {
        let OpenSync { ports, upkeep, .. } = open;
        let job = match self.unfinished_job(ports).await? {
            Some(job) => {
                if !self.is_quiet {
                    print_line(&format!("continuing the synchronization that began at {}", job.created_at));
                }
                recover(upkeep).await?;
                job
            }
            None => {
                let settings = JobSettings { deadline_seconds: self.deadline_hours * 3600, ..JobSettings::default() };
                let id = random_job_id()?;
                start_sync((&ports.jobs, &ports.queue), id, self.request.clone(), settings, ports.clock.now()).await?
            }
        };
        let lease = LeaseSettings { duration: LEASE_DURATION, ..LeaseSettings::default() };
        let settings = WorkerSettings { lease, ..WorkerSettings::default() };
        let workers = Workers::start(ports, &settings, self.workers);
        let mut upkeep_tasks = JoinSet::new();
        upkeep_tasks.spawn(run_upkeep(clone_ports(upkeep)));
        let ended = tokio::select! {
            ended = self.wait(open, &job) => ended,
            _ = stop_signal() => Err(SyncCommandError::Interrupted),
        };
        // A second signal ends the process at once.
        tokio::select! {
            () = async { workers.stop().await; workers.hand_back_leases().await } => {}
            _ = stop_signal() => {}
        }
        let job = ended?;
        match job.reason {
            Some(reason) => Err(SyncCommandError::Failed(reason.text)),
            None => self.read_report(&ports.source, &job).await,
        }
    }

    /// Returns the job of an interrupted synchronization, if it has the same request and can still be finished. Ends others.
    async fn unfinished_job(&self, ports: &LocalPorts) -> Result<Option<Job>, SyncCommandError> {
        let jobs = ports.jobs.list_jobs(&sync_owner(), None, RECENT_JOBS).await?.jobs;
        let now = ports.clock.now();
        for job in jobs.into_iter().filter(|job| job.state.is_open()) {
            let plan = ports.jobs.task_work(&TaskId::plan(&job.id)).await?;
            let request = match &plan {
                Some(Work::Plan(input)) => input.sync.as_deref(),
                Some(_) | None => None,
            };
            if request == Some(&self.request) && job.deadline_at() > now {
                return Ok(Some(job));
            }
            if !self.is_quiet {
                print_line("an unfinished synchronization with other options is discarded");
            }
            let cancelled = (JobEvent::CancelRequested, None);
            end_job_and_free_space(&ports.jobs, &ports.output, &job, cancelled, &Agent::service(), now).await?;
        }
        Ok(None)
    }

    /// Waits until the job has ended, and shows its progress. Returns the ended job.
    async fn wait(&self, OpenSync { ports, space, .. }: &OpenSync, job: &Job) -> Result<Job, SyncCommandError> {
        let mut progress = SyncProgress::new(self.is_quiet);
        loop {
            let current = ports.jobs.job(&job.id).await?.ok_or(SyncCommandError::Report)?;
            match current.state {
                JobState::Complete | JobState::Failed | JobState::Cancelled | JobState::Expired => {
                    progress.finish();
                    return Ok(current);
                }
                JobState::Queued | JobState::Accepted | JobState::Running => {
                    progress.update(&ports.jobs.with_progress(current).await?, self.origin.traffic(), self.origin.busy_until());
                }
            }
            // A job whose end cannot be recorded never ends.
            if let Some(fault) = space.fault() {
                progress.finish();
                return Err(SyncCommandError::Table(fault.text()));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Reads the report of the job.
    async fn read_report(&self, lake: &DirectoryLake, job: &Job) -> Result<SyncReport, SyncCommandError> {
        let object = lake.read_metadata(SYNC_REPORT_OBJECT).await.map_err(ExportError::from)?.ok_or(SyncCommandError::Report)?;
        let report: SyncReport = serde_json::from_slice(&object.bytes).map_err(|_| SyncCommandError::Report)?;
        if report.job == job.id.as_str() { Ok(report) } else { Err(SyncCommandError::Report) }
    }
}

/// Runs the reaper until it is aborted.
async fn run_upkeep(ports: LocalPorts<NoFeed>) {
    loop {
        tokio::time::sleep(REAPER_INTERVAL).await;
        if let Err(error) = Box::pin(reap(&ports, &Quotas::default())).await {
            tracing::warn!(error = %error, "a reaper run failed");
        }
    }
}

/// Fetches the resources that an export needs into a lake. Continues if the lake is that of an interrupted export. Returns the report.
///
/// * `since`: the moment after which the export has changes and deletions. `None` if it has everything.
pub(crate) async fn sync_for_export(
    args: &ExportArgs,
    base: &str,
    lake: &Path,
    since: Option<Millis>,
) -> Result<SyncReport, Box<SyncCommandError>> {
    let run = async {
        let base = base.trim_end_matches('/').to_owned();
        let types = types_for_export(&args.options)?;
        let settings = origin_settings(read_credential(&args.login.credential)?, args.login.token_origins.clone(), &args.searches);
        let origin = HttpOrigin::new(&base, settings)?;
        check_origin(&origin).await?;
        let sync = Sync {
            origin,
            request: SyncRequest { deletions_since: since, ..sync_request(base, types, false, &args.searches) },
            lake: lake.to_owned(),
            state: lake.join(STATE_FOLDER),
            deadline_hours: args.searches.sync_deadline_hours,
            workers: args.searches.requests_at_once,
            is_quiet: args.quiet,
        };
        let report = sync.run_for_export(since).await?;
        print_remarks(&report, args.quiet);
        if since.is_some()
            && let Some(types) = report::types_of_unknown_deletions(&report, true)
        {
            print_line(&format!(
                "attention: it is not known which resources the server has deleted, of {types}: this export of changes has no deletions of \
                 these types, and only an export of everything shows what is left"
            ));
        }
        Ok(report)
    };
    run.await.map_err(Box::new)
}

/// Returns the types that an export needs. `None` means all: groups and patients can refer to any type.
fn types_for_export(options: &ExportOptions) -> Result<Option<BTreeSet<ResourceType>>, SyncCommandError> {
    match (options.level(), &options.types, &options.include_associated_data) {
        (ExportLevel::System, Some(types), None) => parse_types(types).map(Some),
        _ => Ok(None),
    }
}
