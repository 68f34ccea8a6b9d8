//! The settings of the chunk-worker function.

use std::time::Duration;

use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::ports::LeaseSettings;
use headrace_core::vocab::setting::Setting;

use super::{Bucket, CommonConfig, ConfigError, SettingSource, read_quotas, shared};

/// Settings of the chunk-worker function.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The job table and the log settings.
    pub common: CommonConfig,
    /// The URL of the task queue.
    pub queue_url: String,
    /// The URL of the dead-letter queue.
    pub dead_letter_queue_url: String,
    /// The lake.
    pub source: Bucket,
    /// The destination.
    pub destination: Bucket,
    /// The KMS key that decrypts job secrets.
    pub job_secret_key: Option<String>,
    /// The name of the function, and the largest number of workers that an export starts at once. `None` leaves the start of workers to
    /// the queue.
    pub started_workers: Option<(String, usize)>,
    /// The settings of task execution.
    pub worker: WorkerSettings,
    /// True if the moves of exports become events.
    pub events: bool,
}

impl WorkerConfig {
    /// Reads and validates the settings of the chunk-worker function.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        let (source, destination) = Bucket::read_source_and_destination(settings)?;
        Ok(Self {
            common: CommonConfig::read(settings)?,
            queue_url: settings.required(Setting::QueueUrl)?,
            dead_letter_queue_url: settings.required(Setting::DeadLetterQueueUrl)?,
            source,
            destination,
            job_secret_key: settings.get(Setting::JobSecretKmsKey),
            started_workers: read_started_workers(settings)?,
            worker: WorkerSettings {
                lease: read_lease_settings(settings)?,
                trust_object_names: settings.flag(Setting::TrustObjectNames, false)?,
                quotas: read_quotas(settings)?,
                lake: shared::read_lake_settings(settings)?,
                memory_mb: read_memory_mb(settings)?,
                ..WorkerSettings::default()
            },
            events: settings.flag(Setting::Events, false)?,
        })
    }
}

/// Reads the memory of the function, in MB. 0 outside of Lambda.
fn read_memory_mb(settings: &impl SettingSource) -> Result<u32, ConfigError> {
    Ok(u32::try_from(settings.number(Setting::FunctionMemory, (0, 0, 1_000_000))?).unwrap_or_default())
}

/// Reads the function and the number of workers that an export starts at once.
fn read_started_workers(settings: &impl SettingSource) -> Result<Option<(String, usize)>, ConfigError> {
    let count = usize::try_from(settings.number(Setting::StartedWorkers, (0, 0, 1_000))?).unwrap_or_default();
    Ok(settings.get(Setting::FunctionName).filter(|_| count > 0).map(|function| (function, count)))
}

/// Reads the duration of a lease, and the number of attempts at a task.
pub(super) fn read_lease_settings(settings: &impl SettingSource) -> Result<LeaseSettings, ConfigError> {
    let default = u64::from(LeaseSettings::default().max_attempts);
    let max_attempts = settings.number(Setting::TaskMaxAttempts, (1, default, 100))?;
    Ok(LeaseSettings { duration: read_lease_duration(settings)?, max_attempts: u32::try_from(max_attempts).unwrap_or(u32::MAX) })
}

/// Reads the duration of a lease. At most 120 s: it must be shorter than the time after a job's end at which the files of
/// late writers are deleted.
fn read_lease_duration(settings: &impl SettingSource) -> Result<Duration, ConfigError> {
    Ok(Duration::from_secs(settings.number(Setting::LeaseSeconds, (5, LeaseSettings::default().duration.as_secs(), 120))?))
}
