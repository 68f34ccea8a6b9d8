//! Synchronizations of a lake with a FHIR server, with fault injection at all ports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use headrace_aws::DynamoJobStore;
use headrace_core::flow::client::start_sync::{start_sync, sync_owner};
use headrace_core::flow::upkeep::reap::{reap, recover};
use headrace_core::flow::work::run_task::run_task;
use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::job::sync::SyncRequest;
use headrace_core::job::{Job, JobSettings, Quotas};
use headrace_core::lake::sync_report::{SYNC_REPORT_OBJECT, SyncReport};
use headrace_core::lake::watermark::WATERMARK_OBJECT;
use headrace_core::ports::{
    ByteStream, Clock as _, Feed, JobLists as _, JobStore as _, LakeWriter, NoFeed, OriginError, OriginPage, OriginRequest, OriginServer,
    Ports, TaskQueue,
};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;
use headrace_fhir::instant::Instant;
use headrace_local::server::queue::LocalQueue;
use headrace_local::stores::directory::{DirectoryLake, DirectoryLakeWriter, DirectoryOutputStore};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use super::clock::next_job_id;
use super::completion::REAPER_INTERVAL;
use super::deployment::{Deployment as _, LocalDeployment};
use super::faults::{FaultInjector, InjectedError};
use super::faulty_ports::FaultyPort;
use super::{ManualClock, Result};
use crate::standins::fhir_server::{FakeOrigin, FhirServer};

/// The number of times that the reaper helps before a synchronization counts as stuck.
const REAPER_RUNS: usize = 60;

impl InjectedError for OriginError {
    fn not_applied() -> Self {
        Self::Unavailable("injected fault".into())
    }

    fn overloaded() -> Self {
        Self::Busy { retry_after: None }
    }

    fn unknown_outcome() -> Self {
        Self::Unavailable("injected fault".into())
    }

    fn permanent() -> Self {
        Self::Misconfigured("injected fault".to_owned())
    }
}

impl<T: OriginServer> OriginServer for FaultyPort<T> {
    async fn get(&self, request: OriginRequest<'_>) -> Result<OriginPage, OriginError> {
        self.faults.intercept("origin.get", self.port.get(request)).await
    }

    async fn pause(&self, duration: Duration) {
        self.port.pause(duration).await;
    }
}

impl<T: LakeWriter> LakeWriter for FaultyPort<T> {
    async fn put(&self, object: &str, content: ByteStream) -> Result<(), StoreError> {
        self.faults.intercept("lake.put", self.port.put(object, content)).await
    }

    async fn put_metadata(&self, object: &str, content: Bytes) -> Result<(), StoreError> {
        self.faults.intercept("lake.put_metadata", self.port.put_metadata(object, content)).await
    }

    async fn replace_metadata(&self, object: &str, expected: Option<&[u8]>, content: Bytes) -> Result<bool, StoreError> {
        self.faults.intercept("lake.replace_metadata", self.port.replace_metadata(object, expected, content)).await
    }
}

type SyncPorts<F> =
    Ports<FaultyPort<DynamoJobStore>, FaultyPort<LocalQueue>, FaultyPort<DirectoryLake>, FaultyPort<DirectoryOutputStore>, ManualClock, F>;

/// A process that synchronizes the lake of a local deployment.
pub struct SyncProcess {
    deployment: LocalDeployment,
    clock: ManualClock,
    queue: LocalQueue,
    ports: SyncPorts<Feed<FaultyPort<FakeOrigin>, FaultyPort<DirectoryLakeWriter>>>,
    upkeep: SyncPorts<NoFeed>,
    /// The faults of its port calls.
    pub faults: FaultInjector,
    /// The settings of its workers.
    pub settings: WorkerSettings,
}

/// Returns the request of a synchronization with small windows and pages.
pub fn small_request() -> SyncRequest {
    SyncRequest {
        origin: "https://fhir.example.org/r4".to_owned(),
        types: None,
        lag_seconds: 60,
        window_resources: 8,
        page_size: 3,
        is_full: false,
        reconciles: false,
        ignores_totals: false,
        deletions_since: None,
    }
}

impl SyncProcess {
    /// Starts a process on the deployment.
    pub fn start(deployment: &LocalDeployment, clock: &ManualClock, server: &FhirServer, faults: FaultInjector) -> Self {
        let (queue, source, output) = deployment.ports();
        let jobs = FaultyPort::new(deployment.job_store(), &faults);
        let (source, output) = (FaultyPort::new(source, &faults), FaultyPort::new(output, &faults));
        let feed = Feed {
            origin: FaultyPort::new(FakeOrigin::new(server, clock), &faults),
            lake: FaultyPort::new(DirectoryLakeWriter::open(deployment.lake()), &faults),
        };
        let ports = Ports {
            jobs: jobs.clone(),
            queue: FaultyPort::new(queue.clone(), &faults),
            source: source.clone(),
            output: output.clone(),
            clock: clock.clone(),
            feed,
        };
        let upkeep = Ports { jobs, queue: FaultyPort::new(queue.clone(), &faults), source, output, clock: clock.clone(), feed: NoFeed };
        let settings = WorkerSettings::default();
        Self { deployment: deployment.clone(), clock: clock.clone(), queue, ports, upkeep, faults, settings }
    }

    /// Starts a synchronization. Returns its job.
    pub async fn kick_off(&self, request: SyncRequest) -> Result<Job> {
        let settings = JobSettings::default();
        let start = start_sync((&self.ports.jobs, &self.ports.queue), next_job_id()?, request, settings, self.clock.now());
        Ok(Box::pin(start).await?)
    }

    /// Runs tasks until the queue is empty. Each attempt yields at `stop_after` its start.
    pub async fn deliver_all(&self, stop_after: Option<Duration>) -> Result<()> {
        while let Some(task) = self.queue.try_next().await {
            let stop_at = stop_after.map_or(Millis(u64::MAX), |time| self.clock.now() + time);
            Box::pin(run_task(&self.ports, &task, &self.settings, stop_at)).await?;
        }
        Ok(())
    }

    /// Runs tasks and the reaper until the job has ended. Returns the job.
    pub async fn complete(&self, id: &JobId) -> Result<Job> {
        for _ in 0..REAPER_RUNS {
            self.deliver_all(None).await?;
            let job = self.deployment.job_store().job(id).await?.ok_or("the job does not exist")?;
            if !job.state.is_open() {
                return Ok(job);
            }
            self.clock.advance(REAPER_INTERVAL);
            Box::pin(reap(&self.upkeep, &Quotas::default())).await?;
        }
        Err("the synchronization does not end".into())
    }

    /// Runs tasks that yield at `stop_after` their start, and the reaper in these steps of time, until the job has ended. Returns the job.
    pub async fn complete_in_steps(&self, id: &JobId, stop_after: Option<Duration>, step: Duration) -> Result<Job> {
        for _ in 0..10 * REAPER_RUNS {
            self.deliver_all(stop_after).await?;
            let job = self.deployment.job_store().job(id).await?.ok_or("the job does not exist")?;
            if !job.state.is_open() {
                return Ok(job);
            }
            self.clock.advance(step);
            Box::pin(reap(&self.upkeep, &Quotas::default())).await?;
        }
        Err("the synchronization does not end".into())
    }

    /// Announces all unfinished tasks, like a process after its start.
    pub async fn recover(&self) -> Result<()> {
        Ok(Box::pin(recover(&self.upkeep)).await.map(drop)?)
    }

    /// Runs a synchronization to its end. Returns its report. Fails if the job has failed.
    pub async fn run(&self, request: SyncRequest) -> Result<SyncReport> {
        let job = self.kick_off(request).await?;
        let job = self.complete(&job.id).await?;
        match job.reason {
            Some(reason) => Err(reason.text.into()),
            None => self.report(),
        }
    }

    /// Returns the jobs of the last synchronizations, the newest first.
    pub async fn jobs(&self) -> Result<Vec<Job>> {
        Ok(self.deployment.job_store().list_jobs(&sync_owner(), None, 20).await?.jobs)
    }

    /// Reads the report of the last synchronization.
    pub fn report(&self) -> Result<SyncReport> {
        Ok(serde_json::from_slice(&std::fs::read(self.deployment.lake().join(SYNC_REPORT_OBJECT))?)?)
    }

    /// Announces a task a second time.
    pub async fn announce_again(&self, task: u32, job: &Job) -> Result<()> {
        let task = headrace_core::vocab::ids::TaskId { job: job.id.clone(), task };
        Ok(self.queue.announce(&[task], Duration::ZERO).await?)
    }
}

/// Returns the moment up to which a lake is complete. `None` without a watermark.
pub fn watermark(lake: &Path) -> Result<Option<Millis>> {
    let Ok(text) = std::fs::read(lake.join(WATERMARK_OBJECT)) else { return Ok(None) };
    let json: Value = serde_json::from_slice(&text)?;
    // The first synchronization publishes.
    let Some(time) = json.get("completeUpTo").and_then(Value::as_str) else { return Ok(None) };
    Ok(Some(Millis(u64::try_from(Instant::parse(time)?.nanos() / 1_000_000)?)))
}

/// Returns the names of the NDJSON objects of a lake, sorted.
pub fn lake_objects(lake: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(lake).sort_by_file_name().into_iter().filter_map(std::result::Result::ok);
    let objects = entries.filter(|entry| entry.file_type().is_file() && entry.path().to_string_lossy().contains(".ndjson"));
    objects.map(|entry| entry.into_path()).collect()
}

/// Returns all lines of a lake.
pub async fn lake_lines(lake: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for path in lake_objects(lake) {
        let bytes = std::fs::read(&path)?;
        let mut decoder = async_compression::tokio::bufread::ZstdDecoder::new(bytes.as_slice());
        decoder.multiple_members(true);
        let mut text = String::new();
        decoder.read_to_string(&mut text).await?;
        lines.extend(text.lines().map(str::to_owned));
    }
    Ok(lines)
}

/// Returns the texts of the resources that a lake has just before a moment, by type and id: of each the newest version, unless a later
/// deletion is known. It is written without the code of exports.
pub async fn lake_state_before(lake: &Path, moment: Millis) -> Result<BTreeMap<(String, String), String>> {
    let mut newest = BTreeMap::<(String, String), (i64, Option<String>)>::new();
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let nanos = |value: &Value| Instant::parse(&text(value.get("meta").unwrap_or(value), "lastUpdated")).map(Instant::nanos);
    for line in lake_lines(lake).await? {
        let json: Value = serde_json::from_str(&line)?;
        let at = nanos(&json)?;
        let key = if text(&json, "resourceType") == "Bundle" {
            let url = json.pointer("/entry/0/request/url").and_then(Value::as_str).ok_or("a Bundle without a deletion")?;
            let (kind, id) = url.split_once('/').ok_or("a deletion without an id")?;
            (kind.to_owned(), id.to_owned())
        } else {
            (text(&json, "resourceType"), text(&json, "id"))
        };
        let is_deletion = text(&json, "resourceType") == "Bundle";
        let is_newer = newest.get(&key).is_none_or(|(known, _)| *known <= at);
        if is_newer && at < i64::try_from(moment.0)? * 1_000_000 {
            newest.insert(key, (at, (!is_deletion).then_some(line)));
        }
    }
    Ok(newest.into_iter().filter_map(|(key, (_, line))| Some((key, line?))).collect())
}
