//! What a deployment promises and how it understands its lake: settings that several functions, and one machine, share.

use std::collections::{BTreeMap, BTreeSet};

use headrace_core::flow::work::run_task::{LakeVersions, WorkerSettings};
use headrace_core::job::{Limits, Quotas};
use headrace_core::request::{Container, JobKey, Layout, Policy};
use headrace_fhir::{Bases, FhirVersion};

use super::{AccessControl, ConfigError, Settings};

/// What a kick-off promises a job.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The FHIR base, if it is not to be taken from each request.
    pub base: Option<String>,
    /// What the operator allows.
    pub policy: Policy,
    /// File size, retention, deadline.
    pub limits: Limits,
    /// How many exports may be at work.
    pub quotas: Quotas,
}

impl Terms {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        let default = Limits::default();
        let hours = |variable, default: u64| Ok(settings.number(variable, (1, default / 3600, 24 * 365))? * 3600);
        Ok(Self {
            base: base(settings)?,
            policy: Policy {
                version: version(settings)?,
                bases: bases(settings)?,
                containers: settings.get("HEADRACE_CONTAINERS").map(|names| read_containers(&names)).transpose()?,
                layouts: settings.get("HEADRACE_FORMATS").map(|text| read_layouts(&text)).transpose()?.unwrap_or_default(),
                keys: settings.get("HEADRACE_JOB_KEYS").map(|text| read_keys(&text)).transpose()?.unwrap_or_default(),
            },
            limits: Limits {
                file_bytes: file_bytes(settings)?,
                retention_seconds: hours("HEADRACE_RETENTION_HOURS", default.retention_seconds)?,
                deadline_seconds: hours("HEADRACE_DEADLINE_HOURS", default.deadline_seconds)?,
            },
            quotas: read_quotas(settings)?,
        })
    }
}

/// How a worker understands the lake.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LakeTerms {
    /// How many versions of one resource it holds.
    pub versions: LakeVersions,
    /// Whether resources that exported ones refer to come along, below the system's level.
    pub adds_referenced: bool,
    /// Whether `_since` does not count for members who joined a group after it.
    pub adds_new_members: bool,
    /// Which absolute references are to resources of the lake.
    pub bases: Bases,
}

impl LakeTerms {
    /// Reads them.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        let versions = settings.get("HEADRACE_LAKE_VERSIONS").map(|name| read_lake_versions(&name)).transpose()?;
        Ok(Self {
            versions: versions.unwrap_or_default(),
            adds_referenced: settings.flag("HEADRACE_REFERENCED_RESOURCES", false)?,
            adds_new_members: settings.flag("HEADRACE_GROUP_NEW_MEMBERS", false)?,
            bases: bases(settings)?,
        })
    }

    /// As a worker takes them.
    pub fn work_terms(self) -> WorkerSettings {
        WorkerSettings {
            lake_versions: self.versions,
            adds_referenced: self.adds_referenced,
            adds_new_members: self.adds_new_members,
            bases: self.bases,
            ..WorkerSettings::default()
        }
    }
}

/// What a deployment says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The FHIR base, if it is not to be taken from each request.
    pub base: Option<String>,
    /// The version of FHIR that the lake's resources are in.
    pub version: FhirVersion,
    /// When a file is full, in bytes.
    pub file_bytes: u64,
    /// Whether resources that exported ones refer to come along.
    pub adds_referenced: bool,
    /// Whether `_since` does not count for members who joined a group after it.
    pub adds_new_members: bool,
    /// Who may ask.
    pub access: AccessControl,
}

impl Offer {
    /// Reads what a function behind API Gateway offers.
    pub fn read(settings: &impl Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            base: base(settings)?,
            version: version(settings)?,
            file_bytes: file_bytes(settings)?,
            adds_referenced: settings.flag("HEADRACE_REFERENCED_RESOURCES", false)?,
            adds_new_members: settings.flag("HEADRACE_GROUP_NEW_MEMBERS", false)?,
            access: AccessControl::read(settings)?,
        })
    }

    /// What one machine offers.
    pub fn of_one_machine(terms: &Terms, lake: &LakeTerms) -> Self {
        Self {
            base: terms.base.clone(),
            version: terms.policy.version,
            file_bytes: terms.limits.file_bytes,
            adds_referenced: lake.adds_referenced,
            adds_new_members: lake.adds_new_members,
            access: AccessControl::None,
        }
    }
}

pub(super) fn base(settings: &impl Settings) -> Result<Option<String>, ConfigError> {
    settings.get("HEADRACE_BASE_URL").map(|base| read_base(&base)).transpose()
}

pub(super) fn version(settings: &impl Settings) -> Result<FhirVersion, ConfigError> {
    Ok(settings.get("HEADRACE_FHIR_VERSION").map(|version| read_version(&version)).transpose()?.unwrap_or_default())
}

fn bases(settings: &impl Settings) -> Result<Bases, ConfigError> {
    Ok(settings.get("HEADRACE_LAKE_BASES").map(|bases| read_bases(&bases)).transpose()?.unwrap_or_default())
}

/// One CopyObject takes at most 5 GB, and a worker must fill a file within its time.
fn file_bytes(settings: &impl Settings) -> Result<u64, ConfigError> {
    Ok(settings.number("HEADRACE_FILE_SIZE_MB", (1, Limits::default().file_bytes / 1_000_000, 1_000))? * 1_000_000)
}

/// Reads how many exports may be at work; a limit that is not set is none.
pub fn read_quotas(settings: &impl Settings) -> Result<Quotas, ConfigError> {
    let limit = |variable| match settings.get(variable) {
        Some(_) => settings.number(variable, (1, 1, 1_000_000)).map(|number| u32::try_from(number).ok()),
        None => Ok(None),
    };
    Ok(Quotas {
        per_caller: limit("HEADRACE_JOBS_PER_CALLER")?,
        global: limit("HEADRACE_JOBS")?,
        waits: settings.flag("HEADRACE_QUEUE_JOBS", false)?,
    })
}

/// Reads a base URL; a slash at its end is dropped.
pub fn read_base(text: &str) -> Result<String, ConfigError> {
    absolute("HEADRACE_BASE_URL", text)
}

/// Reads a comma-separated list of the bases that the lake's own absolute references begin with.
pub fn read_bases(text: &str) -> Result<Bases, ConfigError> {
    let bases: Vec<String> = text.split(',').map(|base| absolute("HEADRACE_LAKE_BASES", base.trim())).collect::<Result<_, _>>()?;
    Ok(Bases::only(bases))
}

fn absolute(variable: &'static str, text: &str) -> Result<String, ConfigError> {
    let base = text.trim_end_matches('/');
    let host = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://")).unwrap_or_default();
    let is_plain = host.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'@' | b'"' | b'<' | b'>' | b'\\'));
    if host.is_empty() || host.starts_with('/') || !is_plain {
        let problem = format!("is `{text}`: set an absolute URL such as https://fhir.example.org/r4, without query or user");
        return Err(ConfigError { variable, problem });
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

/// Reads the version of FHIR that the lake's resources are in.
pub fn read_version(text: &str) -> Result<FhirVersion, ConfigError> {
    let problem = || format!("is `{text}`: set 4.0.1, 4.3.0 or 5.0.0");
    FhirVersion::named(text).ok_or_else(|| ConfigError { variable: "HEADRACE_FHIR_VERSION", problem: problem() })
}

/// Reads how many versions of one resource the lake holds.
pub fn read_lake_versions(text: &str) -> Result<LakeVersions, ConfigError> {
    match text {
        "auto" => Ok(LakeVersions::Auto),
        "one" => Ok(LakeVersions::One),
        "many" => Ok(LakeVersions::Many),
        _ => Err(ConfigError { variable: "HEADRACE_LAKE_VERSIONS", problem: format!("is `{text}`: set auto, one or many") }),
    }
}

/// Reads the folder layouts that `_format` may name: `name=layout`, with semicolons between them.
pub fn read_layouts(text: &str) -> Result<BTreeMap<String, Layout>, ConfigError> {
    Layout::parse_named(text).map_err(|error| ConfigError { variable: "HEADRACE_FORMATS", problem: error.to_string() })
}

/// Reads the keys that `_encryptionKey` may name: `name=arn`, with semicolons between them.
fn read_keys(text: &str) -> Result<BTreeMap<String, JobKey>, ConfigError> {
    JobKey::parse_named(text).map_err(|error| ConfigError { variable: "HEADRACE_JOB_KEYS", problem: error.to_string() })
}
