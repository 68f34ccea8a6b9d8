//! Starts scheduled exports.

use headrace_core::flow::client::kick_off::KickOffSettings;
use headrace_core::flow::resolve_patients::PatientResolutionSettings;
use headrace_core::flow::upkeep::fire_schedules::{FiredSchedules, RunSettings, fire_schedules};
use headrace_core::job::JobSecret;
use headrace_core::ports::{
    AccessStore, AuditTrail, Clock, JobSecretEncryptor, JobStore, OutputStore, Ports, ResourceSource, ScheduleStore, TaskQueue,
};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;
use headrace_edge::config::ExportSettings;
use headrace_edge::system::{random_job_id, random_job_secret};
use headrace_edge::telemetry::{Metric, record_metrics};

/// The runner of schedules. It lives as long as the process.
pub struct ScheduleRunner<J, Q, S, P, C> {
    ports: Ports<J, Q, S, P, C>,
    settings: ExportSettings,
    new_job: fn() -> Result<(JobId, JobSecret), StoreError>,
}

/// Creates the id and the secret of a new job.
pub fn random_job() -> Result<(JobId, JobSecret), StoreError> {
    Ok((random_job_id()?, random_job_secret()?))
}

impl<J, Q, S, P, C> ScheduleRunner<J, Q, S, P, C>
where
    J: JobStore + JobSecretEncryptor + AccessStore + AuditTrail + ScheduleStore,
    Q: TaskQueue,
    S: ResourceSource,
    P: OutputStore,
    C: Clock,
{
    /// Creates the runner. The settings must have a base URL, because a schedule has no request to derive it from. `new_job` creates ids and
    /// secrets.
    pub fn new(ports: Ports<J, Q, S, P, C>, settings: ExportSettings, new_job: fn() -> Result<(JobId, JobSecret), StoreError>) -> Self {
        Self { ports, settings, new_job }
    }

    /// Starts the exports that are due. `requires_client` is true if access control is on now, so that a schedule needs a client.
    pub async fn run(&self, requires_client: bool) -> Result<FiredSchedules, StoreError> {
        let ExportSettings { base, policy, job, quotas, watermark } = &self.settings;
        let patient_resolution = PatientResolutionSettings::default();
        let kick_off = KickOffSettings { policy, job: *job, quotas: *quotas, watermark: *watermark, patient_resolution };
        let settings = RunSettings { kick_off, base: base.as_deref(), requires_client, new_job: self.new_job };
        let fired = Box::pin(fire_schedules(&self.ports, settings)).await?;
        let FiredSchedules { started, skipped, failed, delayed, deleted } = fired;
        if fired != FiredSchedules::default() {
            tracing::info!(started, skipped, failed, delayed, deleted, "schedules checked");
        }
        let metrics = [(Metric::JobsAccepted, started), (Metric::JobsCancelled, deleted), (Metric::ScheduledRunsFailed, skipped + failed)];
        for (metric, count) in metrics {
            if count > 0 {
                record_metrics(&[(metric, u64::from(count))]);
            }
        }
        Ok(fired)
    }
}
