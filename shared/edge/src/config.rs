//! Settings, read once before the first event. Nothing else reads the environment.

mod access;
mod terms;

use std::collections::BTreeSet;
use std::time::Duration;

use headrace_core::flow::work::run_task::WorkerSettings;
use headrace_core::job::Quotas;
use headrace_core::ports::LeaseSettings;
use headrace_fhir::FhirVersion;

pub use access::{AccessControl, ExternalTerms, SCOPE_CLAIM, SmartTerms, read_secure_url};
pub use terms::{
    LakeTerms, Offer, Terms, read_base, read_bases, read_containers, read_lake_versions, read_layouts, read_quotas, read_version,
};

/// A setting that is missing or cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {problem}")]
pub struct ConfigError {
    /// The environment variable.
    pub variable: &'static str,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

/// Where settings come from: the environment, or a table in tests.
pub trait Settings {
    /// The value; an empty one counts as absent.
    fn get(&self, variable: &'static str) -> Option<String>;

    /// A value that must be there.
    fn required(&self, variable: &'static str) -> Result<String, ConfigError> {
        self.get(variable).ok_or(ConfigError { variable, problem: "is not set".to_owned() })
    }

    /// A whole number within bounds, or the default.
    fn number(&self, variable: &'static str, (least, default, most): (u64, u64, u64)) -> Result<u64, ConfigError> {
        let Some(text) = self.get(variable) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| ConfigError { variable, problem: format!("is `{text}`: set a whole number from {least} to {most}") })
    }

    /// `true` or `false`, or the default; presence alone means nothing.
    fn flag(&self, variable: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.get(variable).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(text) => Err(ConfigError { variable, problem: format!("is `{text}`: set true or false") }),
        }
    }
}

/// The process's environment.
#[derive(Clone, Copy, Debug)]
pub struct Environment;

impl Settings for Environment {
    fn get(&self, variable: &'static str) -> Option<String> {
        #[expect(clippy::disallowed_methods, reason = "settings are read here and nowhere else")]
        std::env::var(variable).ok().filter(|value| !value.is_empty())
    }
}

/// A bucket and the prefix below which everything lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Empty means the whole bucket.
    pub prefix: String,
}

impl Bucket {
    fn source(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self { name: settings.required("HEADRACE_SOURCE_BUCKET")?, prefix: settings.get("HEADRACE_SOURCE_PREFIX").unwrap_or_default() })
    }

    fn destination(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            name: settings.required("HEADRACE_DESTINATION_BUCKET")?,
            prefix: settings.get("HEADRACE_DESTINATION_PREFIX").unwrap_or_default(),
        })
    }

    fn audit(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            name: settings.required("HEADRACE_AUDIT_BUCKET")?,
            prefix: settings.get("HEADRACE_AUDIT_PREFIX").unwrap_or_else(|| "audit/".to_owned()),
        })
    }
}

/// How a function tells what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Which events are logged: a level for ours, or `target=level` pairs.
    pub log: String,
    /// The function's name in AWS, which Lambda itself sets: the dimension of its metrics.
    pub function: Option<String>,
}

impl Logging {
    fn read(settings: &impl Settings) -> Self {
        Self { log: settings.get("HEADRACE_LOG").unwrap_or_else(|| "info".to_owned()), function: settings.get("AWS_LAMBDA_FUNCTION_NAME") }
    }
}

impl AsRef<Self> for Logging {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// What every function that knows jobs is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// The job table.
    pub table: String,
    /// What it logs.
    pub logging: Logging,
}

impl Common {
    fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self { table: settings.required("HEADRACE_TABLE")?, logging: Logging::read(settings) })
    }
}

impl AsRef<Logging> for Common {
    fn as_ref(&self) -> &Logging {
        &self.logging
    }
}

/// How long a lease lives: less than the time after a job's end at which late writers are swept.
fn read_lease(settings: &impl Settings) -> Result<Duration, ConfigError> {
    Ok(Duration::from_secs(settings.number("HEADRACE_LEASE_SECONDS", (5, LeaseSettings::default().length.as_secs(), 120))?))
}

/// The kickoff function's settings.
#[derive(Clone, Debug)]
pub struct KickoffConfig {
    /// Table and log.
    pub common: Common,
    /// Who may come in.
    pub access: AccessControl,
    /// The task queue's URL.
    pub queue_url: String,
    /// The lake; looked at once, so that a wrong setting fails here.
    pub source: Bucket,
    /// The destination; looked at once.
    pub destination: Bucket,
    /// The buckets in which clients may have destinations of their own.
    pub client_buckets: BTreeSet<String>,
    /// The KMS key under which jobs' secrets are sealed; without it no export can be de-identified.
    pub secrets_key: Option<String>,
    /// What jobs are promised.
    pub terms: Terms,
}

impl KickoffConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        let source = Bucket::source(settings)?;
        Ok(Self {
            common: Common::read(settings)?,
            access: AccessControl::read(settings)?,
            queue_url: settings.required("HEADRACE_QUEUE_URL")?,
            client_buckets: read_client_buckets(settings, &source)?,
            secrets_key: settings.get("HEADRACE_SECRETS_KEY"),
            source,
            destination: Bucket::destination(settings)?,
            terms: Terms::read(settings)?,
        })
    }
}

/// A comma-separated list of buckets. Not the lake's: what is written there would be read as part of it.
fn read_client_buckets(settings: &impl Settings, lake: &Bucket) -> Result<BTreeSet<String>, ConfigError> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let read = |name: &str| {
        let wrong = |problem| Err(ConfigError { variable: "HEADRACE_CLIENT_BUCKETS", problem });
        match name.trim() {
            name if !(3..=63).contains(&name.len()) || !name.bytes().all(is_plain) => {
                wrong(format!("names `{name}`: a bucket is 3 to 63 characters of a-z, 0-9, the hyphen and the dot"))
            }
            name if name == lake.name => wrong(format!("names `{name}`, the lake's bucket: name buckets that are only written to")),
            name => Ok(name.to_owned()),
        }
    };
    let list = settings.get("HEADRACE_CLIENT_BUCKETS");
    list.iter().flat_map(|list| list.split(',')).map(read).collect()
}

/// The token function's settings.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Table and log.
    pub common: Common,
    /// Who may come in.
    pub access: AccessControl,
    /// The KMS key that signs tokens: its id, ARN or alias.
    pub signing_key: String,
}

impl TokenConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            common: Common::read(settings)?,
            access: AccessControl::read(settings)?,
            signing_key: settings.required("HEADRACE_SIGNING_KEY")?,
        })
    }
}

/// The status function's settings.
#[derive(Clone, Debug)]
pub struct StatusConfig {
    /// Table and log.
    pub common: Common,
    /// Who may come in.
    pub access: AccessControl,
    /// The FHIR base, if it is not to be taken from each request.
    pub base: Option<String>,
}

impl StatusConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self { common: Common::read(settings)?, access: AccessControl::read(settings)?, base: terms::base(settings)? })
    }
}

/// The metadata function's settings.
#[derive(Clone, Debug)]
pub struct MetadataConfig {
    /// Log.
    pub logging: Logging,
    /// What it tells of.
    pub offer: Offer,
}

impl MetadataConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self { logging: Logging::read(settings), offer: Offer::read(settings)? })
    }
}

/// The groups function's settings.
#[derive(Clone, Debug)]
pub struct GroupsConfig {
    /// Table and log.
    pub common: Common,
    /// Who may come in.
    pub access: AccessControl,
    /// The lake.
    pub source: Bucket,
    /// The FHIR base, if it is not to be taken from each request.
    pub base: Option<String>,
    /// The version of FHIR that the lake's resources are in.
    pub version: FhirVersion,
}

impl GroupsConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            common: Common::read(settings)?,
            access: AccessControl::read(settings)?,
            source: Bucket::source(settings)?,
            base: terms::base(settings)?,
            version: terms::version(settings)?,
        })
    }
}

/// The settings of the functions that touch recorded files: cancel and files.
#[derive(Clone, Debug)]
pub struct PartsConfig {
    /// Table and log.
    pub common: Common,
    /// Who may come in.
    pub access: AccessControl,
    /// The destination.
    pub destination: Bucket,
}

impl PartsConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self { common: Common::read(settings)?, access: AccessControl::read(settings)?, destination: Bucket::destination(settings)? })
    }
}

/// The chunk-worker function's settings.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Table and log.
    pub common: Common,
    /// The task queue's URL.
    pub queue_url: String,
    /// The dead-letter queue's URL.
    pub dlq_url: String,
    /// The lake.
    pub source: Bucket,
    /// The destination.
    pub destination: Bucket,
    /// The KMS key under which jobs' secrets are sealed.
    pub secrets_key: Option<String>,
    /// How it works.
    pub terms: WorkerSettings,
}

impl WorkerConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        let tries = settings.number("HEADRACE_TASK_TRIES", (1, u64::from(LeaseSettings::default().tries), 100))?;
        let lease =
            LeaseSettings { length: read_lease(settings)?, tries: u32::try_from(tries).unwrap_or(u32::MAX), ..LeaseSettings::default() };
        Ok(Self {
            common: Common::read(settings)?,
            queue_url: settings.required("HEADRACE_QUEUE_URL")?,
            dlq_url: settings.required("HEADRACE_DLQ_URL")?,
            source: Bucket::source(settings)?,
            destination: Bucket::destination(settings)?,
            secrets_key: settings.get("HEADRACE_SECRETS_KEY"),
            terms: WorkerSettings {
                lease,
                trust_object_names: settings.flag("HEADRACE_TRUST_LAKE_NAMES", false)?,
                quotas: read_quotas(settings)?,
                ..LakeTerms::read(settings)?.work_terms()
            },
        })
    }
}

/// The reaper function's settings.
#[derive(Clone, Debug)]
pub struct ReaperConfig {
    /// Table and log.
    pub common: Common,
    /// The task queue's URL.
    pub queue_url: String,
    /// The destination.
    pub destination: Bucket,
    /// Where the audit files lie.
    pub audit: Bucket,
    /// How many exports may be at work.
    pub quotas: Quotas,
}

impl ReaperConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            common: Common::read(settings)?,
            queue_url: settings.required("HEADRACE_QUEUE_URL")?,
            destination: Bucket::destination(settings)?,
            audit: Bucket::audit(settings)?,
            quotas: read_quotas(settings)?,
        })
    }
}

#[cfg(test)]
mod tests;
