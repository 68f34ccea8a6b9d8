//! A synchronization of a directory: a job in a job table of its own, by the flows that the functions on AWS run.

use std::fs::File;
use std::path::PathBuf;
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
    Clock as _, Feed, JobLists as _, JobStore as _, LeaseSettings, NoFeed, Ports, ResourceSource as _, TaskStore as _,
};
use headrace_core::vocab::ids::TaskId;
use headrace_edge::system::{SystemClock, random_job_id};
use headrace_lake::writing::SyncLock;
use tokio::task::JoinSet;

use crate::client::progress::print_line;
use crate::server::feed::SharedOrigin;
use crate::server::queue::LocalQueue;
use crate::server::signals::stop_signal;
use crate::server::state::{FILES_FOLDER, StateFolder, lock_state_folder, mark_stopped};
use crate::server::workers::{LocalPorts, Workers, clone_ports};
use crate::stores::directory::{DirectoryLake, DirectoryLakeWriter, DirectoryOutputStore};
use crate::stores::embedded::TableSpace;
use crate::stores::encryptor::FileSecretEncryptor;
use crate::stores::private::create_private_folder;

use super::HttpOrigin;
use super::error::SyncCommandError;
use super::progress::SyncProgress;
use super::state_binding::{bind_state_to_lake, check_state_of_lake};

/// Name of the state folder below the root of the lake. Listings skip it.
pub(super) const STATE_FOLDER: &str = "_headrace/sync-state";

/// Duration of a lease. It only matters for a worker that hangs: after a crash, the next start recovers all tasks.
const LEASE_DURATION: Duration = Duration::from_secs(60);

/// Time between two looks at the job.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Time between two runs of the reaper.
const REAPER_INTERVAL: Duration = Duration::from_secs(5);

/// Number of jobs that are searched for an unfinished one.
const RECENT_JOBS: u16 = 20;

/// A synchronization of a lake in a directory.
pub(super) struct Sync {
    pub(super) origin: HttpOrigin,
    pub(super) request: SyncRequest,
    pub(super) lake: PathBuf,
    pub(super) state: PathBuf,
    pub(super) deadline_hours: u64,
    pub(super) workers: usize,
    pub(super) is_quiet: bool,
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
    pub(super) async fn run(&self) -> Result<SyncReport, SyncCommandError> {
        let open = self.open().await?;
        // Boxed: the future of a server and its workers is too large for the stack.
        let result = Box::pin(self.run_open(&open)).await;
        mark_stopped(&self.state);
        result
    }

    /// Opens the lake and the state folder.
    async fn open(&self) -> Result<OpenSync, SyncCommandError> {
        check_state_of_lake(&self.state, &self.lake)?;
        create_private_folder(&self.lake).map_err(|cause| SyncCommandError::Lake { path: self.lake.clone(), cause })?;
        let lake_lock = SyncLock::lock(&self.lake)?;
        let source = DirectoryLake::open(&self.lake);
        source.check().await.map_err(ExportError::from)?;
        let encryptor = FileSecretEncryptor::in_memory()?;
        let lock = lock_state_folder(&self.state)?;
        bind_state_to_lake(&self.state, &self.lake)?;
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
