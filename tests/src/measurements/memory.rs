//! The peak memory of workers, for each mode in which they run.
//!
//! A worker runs in a process of its own: the real handlers and adapters of AWS over an S3 of files. Its memory includes that of the
//! stand-ins, which is small, because they keep only the job table and the queue.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::ValueEnum;
use headrace_aws::{DynamoJobStore, S3LakeWriter};
use headrace_core::flow::client::start_sync::start_sync;
use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::job::JobSettings;
use headrace_core::job::sync::SyncRequest;
use headrace_core::ports::{Clock as _, Feed, Ports, TaskStore as _};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{JobId, TaskId};
use headrace_core::vocab::lake_settings::{LakeSettings, LakeVersions};
use headrace_edge::config::OriginConfig;
use headrace_edge::system::{SystemClock, random_job_id};
use sync_worker::handler::SyncWorkerHandler;
use sync_worker::origin::DeployedOrigin;

use super::functions::{ExportFunctions, LAKE, OUT, TaskMessages, complete_job, create_job_store};
use super::peak;
use crate::flows::Result;
use crate::lake::Compression;
use crate::lake::generated::{Content, LakeShape};
use crate::standins::disk_s3;
use crate::standins::dynamo_model::DynamoModel;

/// The memory that a worker may need at most, in MiB.
pub const LIMIT_MIB: u64 = 256;

/// The configuration of de-identified exports. It keeps tags, so that the export is as large as the lake.
const DEID_CONFIG: &str = include_str!("../../samples/anonymization/study.json");

/// The name of the step before the first task.
const IDLE: &str = "idle";

/// The path below the FHIR base, with its query, of an export of everything.
const EVERYTHING: &str = "/$export";

/// A mode in which a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// All resources, `LakeVersions=one`.
    One,
    /// All resources, `LakeVersions=auto`.
    Auto,
    /// All patients.
    Patients,
    /// The group of every second patient.
    Group,
    /// All patients, grouped by patient.
    ByPatient,
    /// All patients, with the Provenance of their resources.
    Provenance,
    /// All resources, de-identified.
    Deidentified,
    /// Objects of all types.
    Mixed,
    /// Objects in Zstandard of 1 GB before compression.
    Zstd,
    /// Objects in gzip of 1 GB before compression.
    Gzip,
    /// The resources that changed since the fourth of eight versions.
    Since,
    /// All of eight versions.
    History,
    /// Lines of up to 62 MiB.
    LongLines,
    /// A synchronization of a lake with a FHIR server.
    Sync,
}

impl Mode {
    /// Returns the lake that is read. A synchronization reads none.
    pub fn lake(self, bytes: u64) -> Option<LakeShape> {
        let plain = LakeShape { bytes, compression: Compression::Plain, content: Content::ByType, versions: 1 };
        match self {
            Self::One | Self::Auto | Self::Patients | Self::Group | Self::ByPatient | Self::Provenance | Self::Deidentified => Some(plain),
            Self::Mixed => Some(LakeShape { content: Content::Mixed, ..plain }),
            Self::Zstd => Some(LakeShape { compression: Compression::Zstd, ..plain }),
            Self::Gzip => Some(LakeShape { compression: Compression::Gzip, ..plain }),
            Self::Since | Self::History => Some(LakeShape { versions: 8, ..plain }),
            Self::LongLines => Some(LakeShape { content: Content::LongLines, ..plain }),
            Self::Sync => None,
        }
    }

    /// Returns the path below the FHIR base, with its query, of the kick-off.
    fn target(self) -> &'static str {
        match self {
            Self::One | Self::Auto | Self::Mixed | Self::Zstd | Self::Gzip | Self::LongLines | Self::Sync => EVERYTHING,
            Self::Patients => "/Patient/$export",
            Self::Group => "/Group/group/$export",
            Self::ByPatient => "/Patient/$export?organizeOutputBy=Patient",
            Self::Provenance => "/Patient/$export?includeAssociatedData=RelevantProvenanceResources",
            Self::Deidentified => "/$export?_container=study&_anonymizationConfig=config.json",
            Self::Since => "/$export?_since=2024-01-04T00:00:00Z",
            Self::History => "/$export?includeAssociatedData=_history",
        }
    }

    /// Returns the interpretation of the lake.
    fn lake_settings(self) -> LakeSettings {
        let versions = match self {
            Self::One => LakeVersions::One,
            Self::History => LakeVersions::Many,
            Self::Auto
            | Self::Patients
            | Self::Group
            | Self::ByPatient
            | Self::Provenance
            | Self::Deidentified
            | Self::Mixed
            | Self::Zstd
            | Self::Gzip
            | Self::Since
            | Self::LongLines
            | Self::Sync => LakeVersions::Auto,
        };
        LakeSettings { versions, ..LakeSettings::default() }
    }
}

/// Work and memory of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Peak resident memory of each step in kB, by the name of its work.
    pub steps: BTreeMap<String, u64>,
    /// Number of resources that were exported or fetched.
    pub resources: u64,
}

impl Usage {
    /// Returns the peak before the first task, in MiB.
    pub fn idle_mib(&self) -> u64 {
        self.steps.get(IDLE).copied().unwrap_or_default() >> 10
    }

    /// Returns the step with the highest peak, and its peak in MiB.
    pub fn peak_mib(&self) -> (&str, u64) {
        let highest = self.steps.iter().max_by_key(|(_, kilobytes)| **kilobytes);
        highest.map_or((IDLE, 0), |(step, kilobytes)| (step, kilobytes.div_ceil(1 << 10)))
    }

    /// Records the peak of a step that has just ended, and starts to measure the next one.
    fn record(&mut self, step: &str) -> Result<()> {
        let highest = self.steps.entry(step.to_owned()).or_default();
        *highest = (*highest).max(peak::kilobytes()?);
        peak::reset()
    }

    /// Formats it for [`Self::parse`].
    fn to_line(&self) -> String {
        let steps: Vec<String> = self.steps.iter().map(|(step, kilobytes)| format!("{step}={kilobytes}")).collect();
        format!("{} {}", self.resources, steps.join(" "))
    }

    /// Parses the output of [`Self::to_line`].
    fn parse(line: &str) -> Result<Self> {
        let (resources, steps) = line.split_once(' ').ok_or("the worker has printed nothing")?;
        let parse = |step: &str| {
            let (name, kilobytes) = step.split_once('=').ok_or("a step without its memory")?;
            Ok((name.to_owned(), kilobytes.parse()?))
        };
        Ok(Self { resources: resources.parse()?, steps: steps.split_whitespace().map(parse).collect::<Result<_>>()? })
    }
}

/// Runs a worker in a process of its own, and returns its usage.
///
/// * `program`: the program `memory`.
/// * `input`: the folder of the lake, or the base URL of the FHIR server of a synchronization.
/// * `scratch`: an empty folder, which is empty afterwards.
pub fn measure(program: &Path, mode: Mode, input: &str, scratch: &Path) -> Result<Usage> {
    let name = mode.to_possible_value().ok_or("a mode without a name")?;
    let folder = tempfile::tempdir_in(scratch)?;
    let mut command = Command::new(program);
    command.args(["--worker", name.get_name(), input]).arg(folder.path());
    let done = command.stderr(Stdio::inherit()).output()?;
    if !done.status.success() {
        return Err(format!("the worker of mode `{}` failed", name.get_name()).into());
    }
    Usage::parse(std::str::from_utf8(&done.stdout)?.trim())
}

/// Runs a worker in this process, and returns its usage as [`measure`] reads it.
pub async fn run_worker(mode: Mode, input: &str, folder: &Path) -> Result<String> {
    let usage = if mode == Mode::Sync { run_sync(input, folder).await? } else { run_export(mode, Path::new(input), folder).await? };
    Ok(usage.to_line())
}

/// Runs all tasks of an export.
async fn run_export(mode: Mode, lake: &Path, folder: &Path) -> Result<Usage> {
    let configurations = folder.join(OUT).join("anonymization");
    std::fs::create_dir_all(&configurations)?;
    std::fs::write(configurations.join("config.json"), DEID_CONFIG)?;
    let (s3, dynamo) = (disk_s3::client(lake, folder), DynamoModel::default());
    let functions = ExportFunctions::create(&s3, dynamo.client(), mode.lake_settings()).await?;
    let mut usage = Usage::default();
    let id = functions.kick_off(mode.target()).await?;
    usage.record(IDLE)?;
    loop {
        if let Some(task) = functions.run_task().await? {
            usage.record(&step_of(&functions.jobs, &task).await?)?;
        }
        if let Some(job) = complete_job(&functions.jobs, &id).await? {
            usage.resources = job.counters.resources;
            return Ok(usage);
        }
    }
}

/// Returns the name of the work of a task.
async fn step_of(jobs: &DynamoJobStore, task: &TaskId) -> Result<String> {
    Ok(jobs.task_work(task).await?.ok_or("a task that is not recorded")?.as_str().to_owned())
}

/// A function that reads the credential of a server. The server of a measurement has none.
type NoSecret = fn() -> std::future::Ready<Result<String, StoreError>>;

/// Runs all tasks of a synchronization with the server at this URL.
async fn run_sync(base: &str, folder: &Path) -> Result<Usage> {
    let lake = folder.join(LAKE);
    std::fs::create_dir_all(&lake)?;
    let (s3, dynamo) = (disk_s3::client(&lake, folder), DynamoModel::default());
    let (jobs, messages) = (create_job_store(dynamo.client()).await?, TaskMessages::create().await?);
    let source = headrace_aws::S3Lake::new(&s3, LAKE, "");
    let origin = OriginConfig { signing_region: None, url: base.to_owned(), secret: None, aliases: Vec::new() };
    let ports = Ports {
        jobs: jobs.clone(),
        queue: messages.queue(),
        source: source.clone(),
        output: headrace_aws::S3OutputStore::new(&s3, OUT, ""),
        clock: SystemClock,
        feed: Feed { origin: DeployedOrigin::new(origin, None::<NoSecret>), lake: S3LakeWriter::new(&s3, LAKE, "") },
    };
    let worker = SyncWorkerHandler::new(ports, source, WorkerSettings::default());
    let mut usage = Usage::default();
    let id = start_large_sync(&jobs, &messages, base).await?;
    usage.record(IDLE)?;
    loop {
        if let Some(message) = messages.receive().await? {
            let step = step_of(&jobs, &message.task).await?;
            let response = Box::pin(worker.handle(message.event, Millis(u64::MAX))).await?;
            messages.delete(&message.receipt_handle, &response).await?;
            usage.record(&step)?;
        }
        if let Some(job) = complete_job(&jobs, &id).await? {
            usage.resources = job.counters.resources;
            return Ok(usage);
        }
    }
}

/// Starts a synchronization of everything that a server has, with the sizes of the template.
async fn start_large_sync(jobs: &DynamoJobStore, messages: &TaskMessages, base: &str) -> Result<JobId> {
    let request = SyncRequest {
        origin: base.to_owned(),
        types: None,
        lag_seconds: 60,
        window_resources: 30_000,
        page_size: 1_000,
        is_full: false,
        reconciles: false,
        ignores_totals: false,
        deletions_since: None,
    };
    let (queue, id) = (messages.queue(), random_job_id()?);
    let job = Box::pin(start_sync((jobs, &queue), id, request, JobSettings::default(), SystemClock.now())).await?;
    Ok(job.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_round_trips_through_text() {
        let usage = Usage { steps: [(IDLE.to_owned(), 20_480), ("read".to_owned(), 204_801)].into(), resources: 7 };
        assert_eq!(Usage::parse(&usage.to_line()).unwrap(), usage);
        assert_eq!((usage.idle_mib(), usage.peak_mib()), (20, ("read", 201)));
    }
}
