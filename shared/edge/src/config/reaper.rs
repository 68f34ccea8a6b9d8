//! The settings of the reaper function.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headrace_core::vocab::lake_settings::LakeWatermark;
use headrace_core::vocab::setting::Setting;

use super::{Bucket, CommonConfig, ConfigError, ExportSettings, SettingSource, SyncConfig, read_client_buckets, shared};
use crate::jwks::UrlPolicy;

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

impl ReaperConfig {
    /// Returns true if a target gets the events of all exports.
    pub fn makes_events(&self) -> bool {
        self.webhook.is_some() || self.event_bus.is_some()
    }

    /// Reads and validates the settings of the reaper function.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        let (source, destination) = Bucket::read_source_and_destination(settings)?;
        let (mut export, api_url) = (ExportSettings::read(settings)?, shared::read_api_url(settings)?);
        export.base = export.base.or(api_url);
        Ok(Self {
            common: CommonConfig::read(settings)?,
            queue_url: settings.required(Setting::QueueUrl)?,
            destination,
            audit: Bucket::read_audit(settings, &source)?,
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
