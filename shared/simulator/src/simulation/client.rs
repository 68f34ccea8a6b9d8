//! The client that exports, and the reaper.

use std::sync::Arc;
use std::time::Duration;

use headrace_aws::Workload;
use headrace_core::access::{Origin, Permissions, Principal};
use headrace_core::flow::client::estimate::{self, EstimateSettings, Forecast, FunctionFleet, Volume, estimate_job, forecast};
use headrace_core::flow::client::kick_off::{KickOff, KickOffSettings, kick_off};
use headrace_core::flow::client::status::{self, Status};
use headrace_core::flow::resolve_patients::PatientResolutionSettings;
use headrace_core::flow::upkeep::reap::reap;
use headrace_core::job::file::OutputFile;
use headrace_core::job::{ExportTime, Job, JobSecret, JobSettings, Quotas, Watermark};
use headrace_core::lines::selection::read_mode;
use headrace_core::ports::{Clock as _, JobStore as _, NoFeed, Ports};
use headrace_core::request::{ExportPolicy, ExportRequest, Preferences, RawKickOff};
use headrace_core::vocab::ids::{Caller, JobId};
use headrace_core::vocab::lake_settings::LakeWatermark;
use headrace_core::vocab::level::Level;

use super::{Deployment, SimulationError};
use crate::fleet::{Fleet, Sandbox};

/// The interval at which the reaper runs.
const REAPER_INTERVAL: Duration = Duration::from_secs(60);

/// The memory of the small functions, in MB.
const SMALL_FUNCTION_MB: u32 = 256;

/// The simulated bytes that an estimate samples: a part of the lake.
const SAMPLED_BYTES: u64 = 4 << 20;

/// The client, with the functions that answer it.
pub(super) struct Client {
    deployment: Arc<Deployment>,
    functions: Sandbox,
    principal: Principal,
}

impl Client {
    /// Creates a client.
    pub(super) fn new(deployment: &Arc<Deployment>, fleet: &Fleet) -> Self {
        let functions = Sandbox::new(deployment, fleet, 0, Workload::Requests);
        let principal = Principal {
            caller: Caller("client".to_owned()),
            is_authenticated: true,
            permissions: Permissions::default(),
            origin: Origin::default(),
        };
        Self { deployment: Arc::clone(deployment), functions, principal }
    }

    /// Starts the export of the whole lake. Returns its job.
    pub(super) async fn kick_off(&self) -> Result<JobId, SimulationError> {
        let ports = &self.functions.ports;
        let policy = ExportPolicy::default();
        let settings = KickOffSettings {
            policy: &policy,
            job: self.deployment.job_settings(),
            quotas: Quotas::default(),
            watermark: LakeWatermark::default(),
            patient_resolution: PatientResolutionSettings::default(),
        };
        let parameters = self.deployment.scenario.partial_manifests.then(|| ("allowPartialManifests".to_owned(), "true".to_owned()));
        let request = KickOff {
            id: JobId::from_random(fastrand::u128(..).to_be_bytes()),
            raw: RawKickOff { level: Level::System, preferences: Preferences::default(), parameters: parameters.into_iter().collect() },
            principal: self.principal.clone(),
            base: "https://headrace.model.invalid".to_owned(),
            request_url: "https://headrace.model.invalid/$export".to_owned(),
            idempotency_key: None,
            secret: JobSecret([0; 32]),
            firing: None,
        };
        let stores = (&ports.jobs, &ports.queue);
        let job = Box::pin(kick_off(stores, (&ports.source, &ports.output), &ports.clock, settings, request)).await;
        Ok(job.map_err(|error| SimulationError::KickOff(error.to_string()))?.id)
    }

    /// Estimates the export of the whole lake, at its real size.
    pub(super) async fn estimate(&self) -> Result<(Volume, Forecast), SimulationError> {
        let Deployment { scenario, scale, time, .. } = &*self.deployment;
        let ports = &self.functions.ports;
        let worker = self.deployment.worker_settings();
        let id = JobId::from_random(fastrand::u128(..).to_be_bytes());
        let job = Job::accepted(id, self.principal.caller.clone(), ExportRequest::default(), time.now());
        let job = Job { settings: self.deployment.job_settings(), ..job };
        let settings = EstimateSettings {
            min_slice_bytes: worker.min_slice_bytes,
            sample_bytes: SAMPLED_BYTES,
            // A simulated sample is a whole object, and stands for more bytes than a real one has.
            time_limit: Duration::from_secs(3_600),
            patient_resolution: worker.patient_resolution,
            ..EstimateSettings::new(worker.lake.clone(), false, estimate::Fleet::Process(1))
        };
        let export_time = ExportTime::new(time.now(), Watermark::Unstated);
        let estimated = Box::pin(estimate_job((&ports.source, time), (&job, &[]), export_time, &settings)).await;
        let estimated = estimated.map_err(|error| SimulationError::KickOff(error.to_string()))?;
        let volume = estimated.volume.scaled(scale.bytes as f64, scale.lines as f64);
        let fleet =
            FunctionFleet { workers: scenario.workers, started_workers: scenario.started_workers, memory_mb: scenario.worker_memory_mb };
        let forecast = forecast(&volume, fleet, read_mode(&job.request, &worker.lake), JobSettings::default().file_bytes);
        Ok((volume, forecast))
    }

    /// Asks for the status as often as the service allows, until the job has ended or the time limit is reached.
    pub(super) async fn wait(&self, id: &JobId) {
        let ports = &self.functions.ports;
        while self.deployment.time.elapsed() < self.deployment.scenario.time_limit {
            let started = self.deployment.time.elapsed();
            let polled = status::status(&ports.jobs, &ports.clock, (id, 1), &self.principal).await;
            self.deployment.meter.count_invocation(SMALL_FUNCTION_MB, self.deployment.time.elapsed() - started);
            let pause = match polled.map(|polled| polled.status) {
                Ok(Status::Complete { .. } | Status::Failed(_)) => return,
                Ok(Status::InProgress { retry_after, progress }) => {
                    if self.deployment.scenario.shows_progress {
                        eprintln!("{:>6} s  {progress}", self.deployment.time.elapsed().as_secs());
                    }
                    retry_after
                }
                // The table may be overloaded for a moment.
                Err(_) => Duration::from_secs(5),
            };
            self.deployment.time.sleep(pause).await;
        }
    }

    /// Returns the SDK client of the job table.
    pub(super) fn table(&self) -> &aws_sdk_dynamodb::Client {
        &self.functions.table
    }

    /// Reads the job.
    pub(super) async fn job(&self, id: &JobId) -> Option<Job> {
        let job = self.functions.ports.jobs.job(id).await.ok().flatten()?;
        self.functions.ports.jobs.with_progress(job).await.ok()
    }

    /// Lists the recorded output files.
    pub(super) async fn output_files(&self, job: &Job) -> Vec<OutputFile> {
        self.functions.ports.jobs.output_files(job).await.unwrap_or_default()
    }
}

/// Returns the progress of a job that has not ended.
pub(super) fn progress(job: Option<&Job>) -> String {
    job.map_or_else(|| "the job cannot be read".to_owned(), |job| format!("{}: {}", job.state.as_str(), status::progress(job)))
}

/// Runs the reaper on its schedule, as long as the simulation runs.
pub(super) async fn run_reaper(deployment: Arc<Deployment>, fleet: Fleet) {
    let functions = Sandbox::new(&deployment, &fleet, u32::MAX, Workload::Requests);
    let Ports { jobs, queue, output, clock, .. } = &*functions.ports;
    let ports = Ports { jobs: jobs.clone(), queue: queue.clone(), source: (), output: output.clone(), clock: clock.clone(), feed: NoFeed };
    loop {
        deployment.time.sleep(REAPER_INTERVAL).await;
        let started = deployment.time.elapsed();
        // A failed item stays due for the next run.
        drop(Box::pin(reap(&ports, &Quotas::default())).await);
        deployment.meter.count_invocation(SMALL_FUNCTION_MB, deployment.time.elapsed() - started);
    }
}
