//! A simulation: a deployment, a client that exports the whole lake from it, and the proof that the export is exact.

mod client;
mod deployment;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use headrace_aws::TableSchema;
use headrace_core::flow::client::estimate::{Forecast, Volume};
use headrace_core::job::{Job, JobState, Usage};

use crate::fleet::Fleet;
use crate::meter::Measurements;
use crate::parameters::{AwsParameters, Scenario};
use crate::random;
use crate::scale::Scale;
use crate::verify::{Exactness, verify};

pub use deployment::{Deployment, TABLE};

/// The time for which the simulation continues after the end of the job: the reaper cleans up 150 seconds after it.
const AFTER_END: Duration = Duration::from_secs(240);

/// The result of a simulation.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The scenario.
    pub scenario: Scenario,
    /// The scale of the model.
    pub scale: Scale,
    /// The end of the job.
    pub end: JobEnd,
    /// The number of tasks that took over a part of another one.
    pub split_tasks: u32,
    /// The time from the kick-off to the end of the job.
    pub duration: Duration,
    /// The measurements.
    pub measured: Measurements,
    /// The usage, as the export itself has counted it.
    pub usage: Usage,
    /// The number of messages that were delivered too often.
    pub parked_messages: u32,
    /// The result of the comparison of the export with the lake.
    pub exactness: Exactness,
    /// The real stored size of the lake, in bytes.
    pub stored_bytes: u64,
    /// The number of objects of the lake.
    pub objects: usize,
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// The export is complete.
    Complete,
    /// The job has failed with this reason.
    Failed(String),
    /// The job did not end within the time limit.
    TimeLimit(String),
}

/// Error that keeps a simulation from running.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The lake could not be made.
    #[error("the lake could not be made")]
    Lake(#[from] io::Error),
    /// The kick-off was rejected.
    #[error("the export was not accepted: {0}")]
    KickOff(String),
    /// No task can continue.
    #[error("the simulation stands still: every task waits for another")]
    Standstill,
}

/// Runs a simulation.
pub fn simulate(scenario: &Scenario, aws: &AwsParameters) -> Result<Outcome, SimulationError> {
    random::set_seed(scenario.seed);
    let deployment = Arc::new(Deployment::new(scenario, aws)?);
    let time = deployment.time.clone();
    let main = Box::pin(run(Arc::clone(&deployment)));
    time.run(main).ok_or(SimulationError::Standstill)?
}

/// Estimates the export of a scenario without running it.
pub fn estimate(scenario: &Scenario, aws: &AwsParameters) -> Result<(Volume, Forecast), SimulationError> {
    random::set_seed(scenario.seed);
    let deployment = Arc::new(Deployment::new(scenario, aws)?);
    let time = deployment.time.clone();
    let main = Box::pin(async move {
        let fleet = Fleet::new(&deployment);
        client::Client::new(&deployment, &fleet).estimate().await
    });
    time.run(main).ok_or(SimulationError::Standstill)?
}

/// Exports the lake and waits until the job has ended and was cleaned up.
async fn run(deployment: Arc<Deployment>) -> Result<Outcome, SimulationError> {
    let fleet = Fleet::new(&deployment);
    let client = client::Client::new(&deployment, &fleet);
    let created = TableSchema::create(client.table(), TABLE).await;
    created.map_err(|error| SimulationError::KickOff(error.to_string()))?;
    deployment.time.spawn(fleet.clone().ramp());
    deployment.time.spawn(client::run_reaper(Arc::clone(&deployment), fleet.clone()));
    let id = client.kick_off().await?;
    client.wait(&id).await;
    deployment.time.sleep(AFTER_END).await;
    let job = client.job(&id).await;
    let (end, duration) = match job.as_ref().and_then(|job| Some((job, job.ended_at?))) {
        Some((job, ended_at)) => (job_end(job), ended_at.since(job.created_at)),
        None => (JobEnd::TimeLimit(client::progress(job.as_ref())), deployment.scenario.time_limit),
    };
    let exactness = match &job {
        Some(job) => verify(&deployment, job, &client.output_files(job).await),
        None => Exactness::default(),
    };
    Ok(Outcome {
        scenario: deployment.scenario.clone(),
        scale: deployment.scale,
        end,
        split_tasks: job.as_ref().map(|job| job.split_tasks).unwrap_or_default(),
        duration,
        measured: deployment.meter.snapshot(),
        usage: job.as_ref().map(|job| job.counters.usage).unwrap_or_default(),
        parked_messages: fleet.parked(),
        exactness,
        stored_bytes: deployment.lake.stored_bytes(),
        objects: deployment.lake.object_count(),
    })
}

/// Returns the end of a job that has ended.
fn job_end(job: &Job) -> JobEnd {
    match (job.state, &job.reason) {
        (JobState::Complete, _) => JobEnd::Complete,
        (_, Some(reason)) => JobEnd::Failed(reason.text.clone()),
        (state, None) => JobEnd::Failed(state.as_str().to_owned()),
    }
}
