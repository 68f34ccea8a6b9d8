//! The settings of each function, read from the environment before the first event.

mod access;
mod api;
mod bucket;
mod reaper;
mod shared;
mod sync;
mod worker;

use headrace_core::vocab::setting::Setting;

pub use access::{AccessControl, IdentityProviderSettings, SCOPE_CLAIM, SmartSettings, parse_https_url};
pub use api::{GroupsConfig, KickoffConfig, MetadataConfig, OutputConfig, StatusConfig, TokenConfig};
pub use bucket::Bucket;
pub use reaper::{EncryptedWebhook, ReaperConfig, WatermarkLimit};
pub use shared::{
    CapabilitySettings, ExportSettings, parse_accepted_remarks, parse_base_url, parse_containers, parse_fhir_version, parse_folder_layouts,
    parse_lake_versions, parse_lake_watermark, parse_source_base_urls, read_quotas,
};
pub use sync::{OriginConfig, SyncConfig, SyncWorkerConfig};
pub use worker::WorkerConfig;

use bucket::read_client_buckets;

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

#[cfg(test)]
mod tests;
