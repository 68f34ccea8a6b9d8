//! A sandbox: a process of the worker function, with its clients of the services.

use std::sync::Arc;

use aws_sdk_dynamodb::config::SharedAsyncSleep;
use headrace_aws::{DynamoJobStore, Workload};
use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::ports::{LeaseSettings, NoFeed, Ports};

use super::{Fleet, ModelQueue};
use crate::aws::pauses::WorkerPauses;
use crate::aws::worker::{Worker, WorkerSize};
use crate::lake::ModelLake;
use crate::output::ModelOutput;
use crate::simulation::{Deployment, TABLE};
use crate::table::table_client;
use crate::time::VirtualTime;

/// The number by which the speed of a slow worker is divided.
const SLOWNESS: u32 = 10;

/// The ports of a process.
pub type SandboxPorts = Ports<DynamoJobStore, ModelQueue, ModelLake, ModelOutput, VirtualTime>;

/// A sandbox.
#[derive(Clone)]
pub struct Sandbox {
    /// The process.
    pub worker: Worker,
    /// The ports of the process.
    pub ports: Arc<SandboxPorts>,
    /// The SDK client of the job table.
    pub table: aws_sdk_dynamodb::Client,
    /// The settings of the worker function.
    pub settings: WorkerSettings,
}

impl Sandbox {
    /// Starts a process. `fleet` is the queue that it announces tasks to.
    pub fn new(deployment: &Deployment, fleet: &Fleet, number: u32, workload: Workload) -> Self {
        let Deployment { time, meter, aws, scenario, scale, .. } = deployment;
        let slowness = if (1..=scenario.slow_workers).contains(&number) { SLOWNESS } else { 1 };
        let size = WorkerSize { number, memory_mb: scenario.worker_memory_mb, slowness, lost_answers: scenario.lost_answers };
        let worker = Worker::new(time, meter, aws, size);
        let pauses = WorkerPauses(worker.clone());
        let sleep = SharedAsyncSleep::new(pauses.clone());
        let table = table_client(&deployment.table, &worker, workload.retry(), sleep);
        let patience = workload.patience();
        let jobs = DynamoJobStore::new(table.clone(), TABLE).with_patience(patience).with_pause_clock(pauses);
        let has_versions = scenario.mode.has_version_records();
        let seconds_per_gb = if has_versions { aws.processor.read_with_versions } else { aws.processor.read };
        let source = ModelLake {
            lake: Arc::clone(&deployment.lake),
            prefix: deployment.lake_prefix.clone(),
            worker: worker.clone(),
            patience,
            seconds_per_gb,
        };
        let output = ModelOutput {
            destination: deployment.destination.clone(),
            prefix: deployment.output_prefix.clone(),
            worker: worker.clone(),
            scale: *scale,
            patience,
        };
        let queue = ModelQueue { fleet: fleet.clone(), worker: worker.clone() };
        let ports = Arc::new(Ports { jobs, queue, source, output, clock: time.clone(), feed: NoFeed });
        Self { worker, ports, table, settings: deployment.worker_settings() }
    }
}

/// Returns the workload of the worker function.
pub(super) fn worker_workload() -> Workload {
    Workload::Tasks { lease: LeaseSettings::default().duration }
}
