//! The settings of each function, read from the environment before the first event.

mod access;
mod shared;
mod sync;

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headrace_core::flow::client::estimate::{EstimateSettings, Fleet, FunctionFleet};
use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::ports::LeaseSettings;
use headrace_core::vocab::ids::is_bucket_name;
use headrace_core::vocab::lake_settings::LakeWatermark;
use headrace_core::vocab::setting::Setting;
use headrace_fhir::definitions::FhirVersion;

use crate::jwks::UrlPolicy;

pub use access::{AccessControl, IdentityProviderSettings, SCOPE_CLAIM, SmartSettings, parse_https_url};
pub use shared::{
    CapabilitySettings, ExportSettings, parse_accepted_remarks, parse_base_url, parse_containers, parse_fhir_version, parse_folder_layouts,
    parse_lake_versions, parse_lake_watermark, parse_source_base_urls, read_quotas,
};
pub use sync::{OriginConfig, SyncConfig, SyncWorkerConfig};

/// The error for a setting that is missing or invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {problem}")]
pub struct ConfigError {
    /// The setting to correct.
    pub setting: Setting,
    /// The problem, and what a valid value looks like.
    pub problem: String,
}

/// A source of settings: the environment, or a table in tests.
pub trait SettingSource {
    /// Returns the value of a setting. An empty value counts as not set.
    fn get(&self, setting: Setting) -> Option<String>;

    /// Returns the value of a setting, or an error if it is not set.
    fn required(&self, setting: Setting) -> Result<String, ConfigError> {
        self.get(setting).ok_or(ConfigError { setting, problem: "is not set".to_owned() })
    }

    /// Reads a whole number within bounds. Returns the default if the setting is not set.
    fn number(&self, setting: Setting, (min, default, max): (u64, u64, u64)) -> Result<u64, ConfigError> {
        let Some(text) = self.get(setting) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| ConfigError { setting, problem: format!("is `{text}`: set a whole number from {min} to {max}") })
    }

    /// Reads `true` or `false`. Returns the default if the setting is not set.
    fn flag(&self, setting: Setting, default: bool) -> Result<bool, ConfigError> {
        match self.get(setting).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(text) => Err(ConfigError { setting, problem: format!("is `{text}`: set true or false") }),
        }
    }
}

/// The environment of this process.
#[derive(Clone, Copy, Debug)]
pub struct Environment;

impl SettingSource for Environment {
    fn get(&self, setting: Setting) -> Option<String> {
        #[expect(clippy::disallowed_methods, reason = "settings are read here and nowhere else")]
        std::env::var(setting.as_str()).ok().filter(|value| !value.is_empty())
    }
}

/// A bucket and the key prefix that limits its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket's name.
    pub name: String,
    /// The key prefix. An empty one means the whole bucket.
    pub prefix: String,
}

impl Bucket {
    /// Reads the settings of the source bucket, which holds the lake. The default prefix is empty.
    fn read_source(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        Ok(Self { name: settings.required(Setting::SourceBucket)?, prefix: settings.get(Setting::SourcePrefix).unwrap_or_default() })
    }

    /// Reads the settings of the destination bucket, which receives exported files. The default prefix is empty.
    fn read_destination(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        Ok(Self {
            name: settings.required(Setting::DestinationBucket)?,
            prefix: settings.get(Setting::DestinationPrefix).unwrap_or_default(),
        })
    }

    /// Reads the settings of the audit bucket, which holds sealed audit files. The default prefix is `audit/`.
    fn read_audit(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        Ok(Self {
            name: settings.required(Setting::AuditBucket)?,
            prefix: settings.get(Setting::AuditPrefix).unwrap_or_else(|| "audit/".to_owned()),
        })
    }
}

/// Settings of a function's logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The log filter: a level for Headrace's own events, or `target=level` pairs.
    pub log: String,
    /// The function's name in AWS, the dimension of its metrics. Lambda sets it.
    pub function: Option<String>,
}

impl LogSettings {
    /// Reads the log settings. The default log filter is `info`.
    fn read(settings: &impl SettingSource) -> Self {
        Self { log: settings.get(Setting::Log).unwrap_or_else(|| "info".to_owned()), function: settings.get(Setting::FunctionName) }
    }
}

impl AsRef<Self> for LogSettings {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Settings of every function that uses the job table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonConfig {
    /// The job table.
    pub table: String,
    /// The log settings.
    pub logging: LogSettings,
}

impl CommonConfig {
    /// Reads the job table's name and the log settings. Returns an error if the table is not set.
    fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        Ok(Self { table: settings.required(Setting::Table)?, logging: LogSettings::read(settings) })
    }
}

impl AsRef<LogSettings> for CommonConfig {
    fn as_ref(&self) -> &LogSettings {
        &self.logging
    }
}

/// Settings of the kickoff function.
#[derive(Clone, Debug)]
pub struct KickoffConfig {
    /// The job table and the log settings.
    pub common: CommonConfig,
    /// The access mode.
    pub access: AccessControl,
    /// The URL of the task queue.
    pub queue_url: String,
    /// The lake. A wrong setting fails at kick-off, not later in the worker.
    pub source: Bucket,
    /// The destination. A wrong setting fails at kick-off, not later in the worker.
    pub destination: Bucket,
    /// The buckets that clients may have destinations in.
    pub client_buckets: BTreeSet<String>,
    /// The KMS key that encrypts job secrets. Without it, exports cannot be de-identified.
    pub job_secret_key: Option<String>,
    /// The limits and options of exports.
    pub export: ExportSettings,
    /// The settings of estimates.
    pub estimate: EstimateSettings,
    /// True if the moves of exports become events.
    pub events: bool,
}

impl KickoffConfig {
    /// Reads and validates the settings of the kickoff function.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        let source = Bucket::read_source(settings)?;
        Ok(Self {
            common: CommonConfig::read(settings)?,
            access: AccessControl::read(settings)?,
            queue_url: settings.required(Setting::QueueUrl)?,
            client_buckets: read_client_buckets(settings, &source)?,
            job_secret_key: settings.get(Setting::JobSecretKmsKey),
            source,
            destination: Bucket::read_destination(settings)?,
            export: ExportSettings::read(settings)?,
            estimate: read_estimate_settings(settings)?,
            events: settings.flag(Setting::Events, false)?,
        })
    }
}

/// Reads the settings of estimates: those of the workers that would do the work.
fn read_estimate_settings(settings: &impl SettingSource) -> Result<EstimateSettings, ConfigError> {
    let number = |setting, bounds| Ok(u32::try_from(settings.number(setting, bounds)?).unwrap_or(u32::MAX));
    let queue_workers: u32 = number(Setting::WorkerConcurrency, (1, 100, 1_000))?;
    let started_workers = number(Setting::StartedWorkers, (0, 0, 1_000))?;
    let memory_mb = number(Setting::WorkerMemoryMb, (128, 768, 10_240))?;
    let fleet = Fleet::Functions(FunctionFleet { workers: queue_workers + started_workers, started_workers, memory_mb });
    Ok(EstimateSettings::new(shared::read_lake_settings(settings)?, settings.flag(Setting::TrustObjectNames, false)?, fleet))
}

/// Reads a comma-separated list of bucket names. The lake's bucket is rejected: exported files would be read as part of the
/// lake.
fn read_client_buckets(settings: &impl SettingSource, lake: &Bucket) -> Result<BTreeSet<String>, ConfigError> {
    let parse = |name: &str| {
        let invalid = |problem| Err(ConfigError { setting: Setting::ClientBuckets, problem });
        match name.trim() {
            name if !is_bucket_name(name) => {
                invalid(format!("names `{name}`: a bucket name is 3 to 63 characters of a-z, 0-9, hyphen and dot"))
            }
            name if name == lake.name => {
                invalid(format!("names `{name}`, the bucket of the lake: name only buckets that hold no source data"))
            }
            name => Ok(name.to_owned()),
        }
    };
    let list = settings.get(Setting::ClientBuckets);
    list.iter().flat_map(|list| list.split(',')).map(parse).collect()
}

/// Settings of the token function.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// The job table and the log settings.
    pub common: CommonConfig,
    /// The access mode.
    pub access: AccessControl,
    /// The KMS key that signs access tokens: its id, ARN or alias.
    pub signing_key: String,
}

impl TokenConfig {
    /// Reads and validates the settings of the token function.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        Ok(Self {
            common: CommonConfig::read(settings)?,
            access: AccessControl::read(settings)?,
            signing_key: settings.required(Setting::SigningKey)?,
        })
    }
}

/// Settings of the status function.
#[derive(Clone, Debug)]
pub struct StatusConfig {
    /// The job table and the log settings.
    pub common: CommonConfig,
    /// The access mode.
    pub access: AccessControl,
    /// The FHIR base URL. `None` derives it from each request.
    pub base: Option<String>,
}

impl StatusConfig {
    /// Reads and validates the settings of the status function.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        Ok(Self { common: CommonConfig::read(settings)?, access: AccessControl::read(settings)?, base: shared::read_base_url(settings)? })
    }
}

/// Settings of the metadata function.
#[derive(Clone, Debug)]
pub struct MetadataConfig {
    /// The log settings.
    pub logging: LogSettings,
    /// The settings that the CapabilityStatement describes.
    pub capabilities: CapabilitySettings,
}

impl MetadataConfig {
    /// Reads and validates the settings of the metadata function.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        Ok(Self { logging: LogSettings::read(settings), capabilities: CapabilitySettings::read(settings)? })
    }
}

/// Settings of the groups function.
#[derive(Clone, Debug)]
pub struct GroupsConfig {
    /// The job table and the log settings.
    pub common: CommonConfig,
    /// The access mode.
    pub access: AccessControl,
    /// The lake.
    pub source: Bucket,
    /// The FHIR base URL. `None` derives it from each request.
    pub base: Option<String>,
    /// The FHIR version of the lake's resources.
    pub version: FhirVersion,
}

impl GroupsConfig {
    /// Reads and validates the settings of the groups function.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        Ok(Self {
            common: CommonConfig::read(settings)?,
            access: AccessControl::read(settings)?,
            source: Bucket::read_source(settings)?,
            base: shared::read_base_url(settings)?,
            version: shared::read_fhir_version(settings)?,
        })
    }
}

/// Settings of the functions that access exported files: cancel and files.
#[derive(Clone, Debug)]
pub struct OutputConfig {
    /// The job table and the log settings.
    pub common: CommonConfig,
    /// The access mode.
    pub access: AccessControl,
    /// The destination.
    pub destination: Bucket,
    /// True if the moves of exports become events.
    pub events: bool,
}

impl OutputConfig {
    /// Reads and validates the settings of the cancel or files function.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        Ok(Self {
            common: CommonConfig::read(settings)?,
            access: AccessControl::read(settings)?,
            destination: Bucket::read_destination(settings)?,
            events: settings.flag(Setting::Events, false)?,
        })
    }
}

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
        Ok(Self {
            common: CommonConfig::read(settings)?,
            queue_url: settings.required(Setting::QueueUrl)?,
            dead_letter_queue_url: settings.required(Setting::DeadLetterQueueUrl)?,
            source: Bucket::read_source(settings)?,
            destination: Bucket::read_destination(settings)?,
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
fn read_lease_settings(settings: &impl SettingSource) -> Result<LeaseSettings, ConfigError> {
    let default = u64::from(LeaseSettings::default().max_attempts);
    let max_attempts = settings.number(Setting::TaskMaxAttempts, (1, default, 100))?;
    Ok(LeaseSettings { duration: read_lease_duration(settings)?, max_attempts: u32::try_from(max_attempts).unwrap_or(u32::MAX) })
}

/// Reads the duration of a lease. At most 120 s: it must be shorter than the time after a job's end at which the files of
/// late writers are deleted.
fn read_lease_duration(settings: &impl SettingSource) -> Result<Duration, ConfigError> {
    Ok(Duration::from_secs(settings.number(Setting::LeaseSeconds, (5, LeaseSettings::default().duration.as_secs(), 120))?))
}

/// Settings of the reaper function.
#[derive(Clone, Debug)]
pub struct ReaperConfig {
    /// The job table and the log settings.
    pub common: CommonConfig,
    /// The URL of the task queue.
    pub queue_url: String,
    /// The destination.
    pub destination: Bucket,
    /// The bucket of the audit files.
    pub audit: Bucket,
    /// The buckets that clients may have destinations in.
    pub client_buckets: BTreeSet<String>,
    /// The KMS key that encrypts the secrets of scheduled exports.
    pub job_secret_key: Option<String>,
    /// The limits and options of exports: those of schedules, and the quotas by which queued exports start. The base URL is that of the
    /// API if no other is set, because a scheduled export has no request to derive it from.
    pub export: ExportSettings,
    /// The lake.
    pub source: Bucket,
    /// The watermark to watch. `None` does not watch it.
    pub watermark: Option<WatermarkLimit>,
    /// The webhook that gets the events of all exports.
    pub webhook: Option<EncryptedWebhook>,
    /// The name or ARN of the event bus that gets the events of all exports.
    pub event_bus: Option<String>,
    /// The synchronizations of the lake with a FHIR server. `None` if there is no server.
    pub sync: Option<SyncConfig>,
}

/// A webhook whose secret is not decrypted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedWebhook {
    /// The URL.
    pub url: String,
    /// The ciphertext of the secret.
    pub encrypted_secret: Vec<u8>,
}

impl EncryptedWebhook {
    /// Reads the webhook. Returns `None` if events are off, or there is no URL. The URL must be one that a deployment may call.
    fn read(settings: &impl SettingSource) -> Result<Option<Self>, ConfigError> {
        let (url, text) = (settings.get(Setting::EventWebhookUrl), settings.required(Setting::EventWebhookSecret));
        let is_on = settings.flag(Setting::Events, false)?;
        let Some(url) = url.filter(|_| is_on) else { return Ok(None) };
        let text = text?;
        UrlPolicy::Clients
            .parse_url(&url)
            .map_err(|error| ConfigError { setting: Setting::EventWebhookUrl, problem: error.to_string() })?;
        let problem = "is not base64: set what `aws kms encrypt` prints";
        let encrypted_secret =
            STANDARD.decode(text).map_err(|_| ConfigError { setting: Setting::EventWebhookSecret, problem: problem.to_owned() })?;
        Ok(Some(Self { url, encrypted_secret }))
    }
}

/// The age that the watermark of the lake must not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatermarkLimit {
    /// The rule that gives the watermark.
    pub setting: LakeWatermark,
    /// The largest age.
    pub max_age: Duration,
}

impl WatermarkLimit {
    /// Reads the limit. Returns `None` if it is 0 or not set.
    fn read(settings: &impl SettingSource) -> Result<Option<Self>, ConfigError> {
        let seconds = settings.number(Setting::WatermarkMaxAgeSeconds, (0, 0, 31_536_000))?;
        let limit = Self { setting: shared::read_lake_watermark(settings)?, max_age: Duration::from_secs(seconds) };
        Ok((seconds > 0).then_some(limit))
    }
}

/// Reads the name or the ARN of the event bus.
fn read_event_bus(settings: &impl SettingSource) -> Result<Option<String>, ConfigError> {
    let Some(bus) = settings.get(Setting::EventBusName) else { return Ok(None) };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/');
    let name = if bus.starts_with("arn:") { bus.split_once(":event-bus/").map(|(_, name)| name) } else { Some(bus.as_str()) };
    if name.is_some_and(|name| (1..=256).contains(&name.len()) && name.bytes().all(is_plain)) {
        return Ok(Some(bus));
    }
    let problem =
        format!("is `{bus}`: set the name of an event bus, or its ARN such as arn:aws:events:eu-central-1:111122223333:event-bus/exports");
    Err(ConfigError { setting: Setting::EventBusName, problem })
}

impl ReaperConfig {
    /// Returns true if a target gets the events of all exports.
    pub fn makes_events(&self) -> bool {
        self.webhook.is_some() || self.event_bus.is_some()
    }

    /// Reads and validates the settings of the reaper function.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        let source = Bucket::read_source(settings)?;
        let (mut export, api_url) = (ExportSettings::read(settings)?, shared::read_api_url(settings)?);
        export.base = export.base.or(api_url);
        Ok(Self {
            common: CommonConfig::read(settings)?,
            queue_url: settings.required(Setting::QueueUrl)?,
            destination: Bucket::read_destination(settings)?,
            audit: Bucket::read_audit(settings)?,
            client_buckets: read_client_buckets(settings, &source)?,
            job_secret_key: settings.get(Setting::JobSecretKmsKey),
            export,
            source,
            watermark: WatermarkLimit::read(settings)?,
            webhook: EncryptedWebhook::read(settings)?,
            event_bus: read_event_bus(settings)?,
            sync: SyncConfig::read(settings)?,
        })
    }
}

#[cfg(test)]
mod tests;
