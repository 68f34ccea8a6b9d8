//! Settings, read once before the first event. Nothing else reads the environment.

use std::collections::BTreeSet;
use std::time::Duration;

use headrace_core::flow::run_task::WorkTerms;
use headrace_core::job::Limits;
use headrace_core::ports::LeaseTerms;
use headrace_core::request::{Container, Policy};

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
}

/// What every function is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// The job table.
    pub table: String,
    /// Which events are logged: a level for ours, or `target=level` pairs.
    pub log: String,
    /// The function's name in AWS, which Lambda itself sets: the dimension of its metrics.
    pub function: Option<String>,
}

impl Common {
    fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            table: settings.required("HEADRACE_TABLE")?,
            log: settings.get("HEADRACE_LOG").unwrap_or_else(|| "info".to_owned()),
            function: settings.get("AWS_LAMBDA_FUNCTION_NAME"),
        })
    }
}

/// What a kick-off promises a job.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The FHIR base, if it is not to be taken from each request.
    pub base: Option<String>,
    /// What the operator allows.
    pub policy: Policy,
    /// File size, retention, deadline.
    pub limits: Limits,
}

impl Terms {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        let default = Limits::default();
        let hours = |variable, default: u64| Ok(settings.number(variable, (1, default / 3600, 24 * 365))? * 3600);
        Ok(Self {
            base: settings.get("HEADRACE_BASE_URL").map(|base| read_base(&base)).transpose()?,
            policy: Policy {
                containers: settings.get("HEADRACE_CONTAINERS").map(|names| read_containers(&names)).transpose()?,
                ..Policy::default()
            },
            limits: Limits {
                // One CopyObject takes at most 5 GB, and a worker must fill a file within its time.
                file_bytes: settings.number("HEADRACE_FILE_SIZE_MB", (1, default.file_bytes / 1_000_000, 1_000))? * 1_000_000,
                retention_seconds: hours("HEADRACE_RETENTION_HOURS", default.retention_seconds)?,
                deadline_seconds: hours("HEADRACE_DEADLINE_HOURS", default.deadline_seconds)?,
            },
        })
    }
}

/// Reads a base URL; a slash at its end is dropped.
pub fn read_base(text: &str) -> Result<String, ConfigError> {
    let base = text.trim_end_matches('/');
    let host = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://")).unwrap_or_default();
    let is_plain = host.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'@' | b'"' | b'<' | b'>' | b'\\'));
    if host.is_empty() || host.starts_with('/') || !is_plain {
        let problem = format!("is `{text}`: set an absolute URL such as https://fhir.example.org/r4, without query or user");
        return Err(ConfigError { variable: "HEADRACE_BASE_URL", problem });
    }
    Ok(base.to_owned())
}

/// Reads a comma-separated list of containers.
pub fn read_containers(names: &str) -> Result<BTreeSet<Container>, ConfigError> {
    let read = |name: &str| {
        let problem = || format!("names `{name}`: a container is 3 to 63 characters of a-z, 0-9 and the hyphen");
        Container::parse(name.trim()).ok_or_else(|| ConfigError { variable: "HEADRACE_CONTAINERS", problem: problem() })
    };
    names.split(',').map(read).collect()
}

/// How long a lease lives: less than the time after a job's end at which late writers are swept.
fn read_lease(settings: &impl Settings) -> Result<Duration, ConfigError> {
    Ok(Duration::from_secs(settings.number("HEADRACE_LEASE_SECONDS", (5, LeaseTerms::default().length.as_secs(), 120))?))
}

/// The kickoff function's settings.
#[derive(Clone, Debug)]
pub struct KickoffConfig {
    /// Table and log.
    pub common: Common,
    /// The task queue's URL.
    pub queue_url: String,
    /// The lake; looked at once, so that a wrong setting fails here.
    pub source: Bucket,
    /// The destination; looked at once.
    pub destination: Bucket,
    /// What jobs are promised.
    pub terms: Terms,
}

impl KickoffConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            common: Common::read(settings)?,
            queue_url: settings.required("HEADRACE_QUEUE_URL")?,
            source: Bucket::source(settings)?,
            destination: Bucket::destination(settings)?,
            terms: Terms::read(settings)?,
        })
    }
}

/// The status function's settings.
#[derive(Clone, Debug)]
pub struct StatusConfig {
    /// Table and log.
    pub common: Common,
}

impl StatusConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self { common: Common::read(settings)? })
    }
}

/// The settings of the functions that touch recorded files: cancel and files.
#[derive(Clone, Debug)]
pub struct PartsConfig {
    /// Table and log.
    pub common: Common,
    /// The destination.
    pub destination: Bucket,
}

impl PartsConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self { common: Common::read(settings)?, destination: Bucket::destination(settings)? })
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
    /// How it works.
    pub terms: WorkTerms,
}

impl WorkerConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        let tries = settings.number("HEADRACE_TASK_TRIES", (1, u64::from(LeaseTerms::default().tries), 100))?;
        let lease = LeaseTerms { length: read_lease(settings)?, tries: u32::try_from(tries).unwrap_or(u32::MAX), ..LeaseTerms::default() };
        Ok(Self {
            common: Common::read(settings)?,
            queue_url: settings.required("HEADRACE_QUEUE_URL")?,
            dlq_url: settings.required("HEADRACE_DLQ_URL")?,
            source: Bucket::source(settings)?,
            destination: Bucket::destination(settings)?,
            terms: WorkTerms { lease, trust_lake_names: settings.flag("HEADRACE_TRUST_LAKE_NAMES", false)?, ..WorkTerms::default() },
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
}

impl ReaperConfig {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            common: Common::read(settings)?,
            queue_url: settings.required("HEADRACE_QUEUE_URL")?,
            destination: Bucket::destination(settings)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Table(BTreeMap<&'static str, &'static str>);

    impl Settings for Table {
        fn get(&self, variable: &'static str) -> Option<String> {
            self.0.get(variable).map(ToString::to_string).filter(|value| !value.is_empty())
        }
    }

    fn complete() -> BTreeMap<&'static str, &'static str> {
        [
            ("HEADRACE_TABLE", "t"),
            ("HEADRACE_QUEUE_URL", "q"),
            ("HEADRACE_DLQ_URL", "d"),
            ("HEADRACE_SOURCE_BUCKET", "s"),
            ("HEADRACE_DESTINATION_BUCKET", "d"),
        ]
        .into()
    }

    #[test]
    fn what_is_missing_is_named() {
        for variable in complete().into_keys() {
            let mut table = complete();
            table.insert(variable, "");
            assert_eq!(WorkerConfig::read(&Table(table)).unwrap_err().variable, variable);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_what_would_be_right() {
        for (variable, value) in [
            ("HEADRACE_FILE_SIZE_MB", "big"),
            ("HEADRACE_FILE_SIZE_MB", "0"),
            ("HEADRACE_FILE_SIZE_MB", "1001"),
            ("HEADRACE_RETENTION_HOURS", "-1"),
            ("HEADRACE_BASE_URL", "fhir.example.org"),
            ("HEADRACE_BASE_URL", "ftp://x"),
            ("HEADRACE_BASE_URL", "https://"),
            ("HEADRACE_BASE_URL", "https://a b"),
            ("HEADRACE_BASE_URL", "https://user@host"),
            ("HEADRACE_BASE_URL", "https://host/?x"),
            ("HEADRACE_CONTAINERS", "ok-name,../etc"),
            ("HEADRACE_CONTAINERS", ","),
        ] {
            let mut table = complete();
            table.insert(variable, value);
            let error = KickoffConfig::read(&Table(table)).unwrap_err();
            assert_eq!(error.variable, variable, "{value}");
            assert!(error.to_string().starts_with(variable), "{error}");
        }
        for (variable, value) in [("HEADRACE_TRUST_LAKE_NAMES", "yes"), ("HEADRACE_TASK_TRIES", "0"), ("HEADRACE_LEASE_SECONDS", "1")] {
            let mut table = complete();
            table.insert(variable, value);
            assert_eq!(WorkerConfig::read(&Table(table)).unwrap_err().variable, variable, "{value}");
        }
    }

    #[test]
    fn the_defaults_are_azures() {
        let config = KickoffConfig::read(&Table(complete())).unwrap();
        assert_eq!(config.terms.limits, Limits::default());
        assert_eq!(config.terms.limits.file_bytes, 64_000_000);
        assert_eq!(config.terms.policy.containers, None);
    }
}
