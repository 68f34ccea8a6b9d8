//! The settings of the functions behind the API.

use std::collections::BTreeSet;

use headrace_core::flow::client::estimate::{EstimateSettings, Fleet, FunctionFleet};
use headrace_core::vocab::setting::Setting;
use headrace_fhir::definitions::FhirVersion;

use super::{
    AccessControl, Bucket, CapabilitySettings, CommonConfig, ConfigError, ExportSettings, LogSettings, SettingSource, read_client_buckets,
    shared,
};

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
        let (source, destination) = Bucket::read_source_and_destination(settings)?;
        Ok(Self {
            common: CommonConfig::read(settings)?,
            access: AccessControl::read(settings)?,
            queue_url: settings.required(Setting::QueueUrl)?,
            client_buckets: read_client_buckets(settings, &source)?,
            job_secret_key: settings.get(Setting::JobSecretKmsKey),
            source,
            destination,
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
    let memory_mb = number(Setting::WorkerMemoryMb, (128, 512, 10_240))?;
    let fleet = Fleet::Functions(FunctionFleet { workers: queue_workers + started_workers, started_workers, memory_mb });
    Ok(EstimateSettings::new(shared::read_lake_settings(settings)?, settings.flag(Setting::TrustObjectNames, false)?, fleet))
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
