//! Settings that several functions and the local server share.

use std::collections::{BTreeMap, BTreeSet};

use headrace_core::job::{JobSettings, Quotas};
use headrace_core::request::{AcceptedRemarks, EncryptionKey, ExportPolicy, FolderLayout};
use headrace_core::vocab::container::Container;
use headrace_core::vocab::lake_settings::{LakeSettings, LakeVersions, LakeWatermark};
use headrace_core::vocab::setting::Setting;
use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::semantics::reference::BaseUrls;
use url::Url;

use super::{AccessControl, ConfigError, SettingSource};

/// Limits and options of the exports that a deployment accepts.
#[derive(Clone, Debug, Default)]
pub struct ExportSettings {
    /// The FHIR base URL. `None` derives it from each request.
    pub base: Option<String>,
    /// The requests that the operator allows.
    pub policy: ExportPolicy,
    /// File size, retention and deadline of a job.
    pub job: JobSettings,
    /// The limits of concurrent exports.
    pub quotas: Quotas,
    /// The moment up to which the lake is complete.
    pub watermark: LakeWatermark,
}

impl ExportSettings {
    /// Reads and validates the limits and options of exports.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        let default = JobSettings::default();
        let hours = |setting, default: u64| Ok(settings.number(setting, (1, default / 3600, 24 * 365))? * 3600);
        Ok(Self {
            base: read_base_url(settings)?,
            policy: ExportPolicy {
                version: read_fhir_version(settings)?,
                bases: read_source_base_urls(settings)?,
                containers: settings.get(Setting::Containers).map(|names| parse_containers(&names)).transpose()?,
                layouts: settings.get(Setting::FolderLayouts).map(|text| parse_folder_layouts(&text)).transpose()?.unwrap_or_default(),
                keys: settings.get(Setting::OutputKmsKeys).map(|text| parse_output_keys(&text)).transpose()?.unwrap_or_default(),
                accepted_remarks: settings
                    .get(Setting::AcceptRemarks)
                    .map(|text| parse_accepted_remarks(&text))
                    .transpose()?
                    .unwrap_or_default(),
            },
            job: JobSettings {
                file_bytes: read_file_bytes(settings)?,
                retention_seconds: hours(Setting::RetentionHours, default.retention_seconds)?,
                deadline_seconds: hours(Setting::DeadlineHours, default.deadline_seconds)?,
            },
            quotas: read_quotas(settings)?,
            watermark: read_lake_watermark(settings)?,
        })
    }
}

/// Reads and validates the settings that tell how to interpret the lake.
pub(super) fn read_lake_settings(settings: &impl SettingSource) -> Result<LakeSettings, ConfigError> {
    let versions = settings.get(Setting::LakeVersions).map(|name| parse_lake_versions(&name)).transpose()?;
    Ok(LakeSettings {
        versions: versions.unwrap_or_default(),
        adds_referenced: settings.flag(Setting::IncludeReferencedResources, false)?,
        adds_new_members: settings.flag(Setting::GroupNewMembers, false)?,
        bases: read_source_base_urls(settings)?,
        watermark: read_lake_watermark(settings)?,
    })
}

/// Reads the moment up to which the lake is complete.
pub(super) fn read_lake_watermark(settings: &impl SettingSource) -> Result<LakeWatermark, ConfigError> {
    Ok(settings.get(Setting::LakeWatermark).map(|text| parse_lake_watermark(&text)).transpose()?.unwrap_or_default())
}

/// Settings that the CapabilityStatement of a deployment describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapabilitySettings {
    /// The FHIR base URL. `None` derives it from each request.
    pub base: Option<String>,
    /// The FHIR version of the lake's resources.
    pub version: FhirVersion,
    /// The size, in bytes, at which a file is closed.
    pub file_bytes: u64,
    /// Exports of patients and groups include the resources that exported ones refer to.
    pub adds_referenced: bool,
    /// `_since` does not apply to members who joined a group after it.
    pub adds_new_members: bool,
    /// The access mode.
    pub access: AccessControl,
}

impl CapabilitySettings {
    /// Reads and validates the settings that the CapabilityStatement and the OperationDefinitions depend on.
    pub fn read(settings: &impl SettingSource) -> Result<Self, ConfigError> {
        Ok(Self {
            base: read_base_url(settings)?,
            version: read_fhir_version(settings)?,
            file_bytes: read_file_bytes(settings)?,
            adds_referenced: settings.flag(Setting::IncludeReferencedResources, false)?,
            adds_new_members: settings.flag(Setting::GroupNewMembers, false)?,
            access: AccessControl::read(settings)?,
        })
    }

    /// Creates the settings of a local server without access control.
    pub fn from_local(export: &ExportSettings, lake: &LakeSettings) -> Self {
        Self {
            base: export.base.clone(),
            version: export.policy.version,
            file_bytes: export.job.file_bytes,
            adds_referenced: lake.adds_referenced,
            adds_new_members: lake.adds_new_members,
            access: AccessControl::None,
        }
    }
}

/// Reads the FHIR base URL. `None` derives it from each request.
pub(super) fn read_base_url(settings: &impl SettingSource) -> Result<Option<String>, ConfigError> {
    settings.get(Setting::BaseUrl).map(|base| parse_base_url(&base)).transpose()
}

/// Reads the API's own address, the base URL where no other is set.
pub(super) fn read_api_url(settings: &impl SettingSource) -> Result<Option<String>, ConfigError> {
    settings.get(Setting::ApiUrl).map(|url| parse_absolute_url(Setting::ApiUrl, &url)).transpose()
}

/// Reads the FHIR version of the lake's resources.
pub(super) fn read_fhir_version(settings: &impl SettingSource) -> Result<FhirVersion, ConfigError> {
    Ok(settings.get(Setting::FhirVersion).map(|version| parse_fhir_version(&version)).transpose()?.unwrap_or_default())
}

/// Reads the base URLs of the lake's own absolute references. Returns none if the setting is not set.
fn read_source_base_urls(settings: &impl SettingSource) -> Result<BaseUrls, ConfigError> {
    Ok(settings.get(Setting::SourceBaseUrls).map(|bases| parse_source_base_urls(&bases)).transpose()?.unwrap_or_default())
}

/// Reads the size at which a file is closed. At most 1,000 MB: CopyObject copies at most 5 GB, and a worker must fill a file
/// within its run time.
fn read_file_bytes(settings: &impl SettingSource) -> Result<u64, ConfigError> {
    Ok(settings.number(Setting::FileSizeMb, (1, JobSettings::default().file_bytes / 1_000_000, 1_000))? * 1_000_000)
}

/// Reads the limits of concurrent exports. A limit that is not set does not apply.
pub fn read_quotas(settings: &impl SettingSource) -> Result<Quotas, ConfigError> {
    let limit = |setting| match settings.get(setting) {
        Some(_) => settings.number(setting, (1, 1, 1_000_000)).map(|number| u32::try_from(number).ok()),
        None => Ok(None),
    };
    Ok(Quotas {
        per_caller: limit(Setting::MaxExportsPerClient)?,
        global: limit(Setting::MaxConcurrentExports)?,
        queue_when_full: settings.flag(Setting::QueueWhenFull, false)?,
    })
}

/// Parses the FHIR base URL. A trailing slash is dropped.
pub fn parse_base_url(text: &str) -> Result<String, ConfigError> {
    parse_absolute_url(Setting::BaseUrl, text)
}

/// Parses a comma-separated list of the base URLs of the lake's own absolute references.
pub fn parse_source_base_urls(text: &str) -> Result<BaseUrls, ConfigError> {
    let bases = text.split(',').map(|base| parse_absolute_url(Setting::SourceBaseUrls, base.trim()));
    Ok(BaseUrls::only(bases.collect::<Result<Vec<String>, _>>()?))
}

/// Parses an absolute http or https URL without query, fragment and user. Returns it without slashes at its end.
pub(super) fn parse_absolute_url(setting: Setting, text: &str) -> Result<String, ConfigError> {
    let base = text.trim_end_matches('/');
    // The text itself is compared and sent, so it must not need the repairs that a URL parser makes.
    let is_plain = base.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'@' | b'"' | b'<' | b'>' | b'\\'));
    // A client would ask for another path than the one in the text.
    let has_dots = base.split('/').any(|segment| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."));
    let is_base = |url: &Url| {
        let authority = base.strip_prefix(url.scheme()).and_then(|rest| rest.strip_prefix("://"));
        matches!(url.scheme(), "http" | "https")
            && authority.is_some_and(|authority| !authority.starts_with('/'))
            && url.query().is_none()
            && url.fragment().is_none()
    };
    if is_plain && !has_dots && Url::parse(base).is_ok_and(|url| is_base(&url)) {
        return Ok(base.to_owned());
    }
    let problem = format!("is `{text}`: set an absolute URL such as https://fhir.example.org/r4, without query or user");
    Err(ConfigError { setting, problem })
}

/// Parses a comma-separated list of containers.
pub fn parse_containers(names: &str) -> Result<BTreeSet<Container>, ConfigError> {
    let parse = |name: &str| {
        let problem = || format!("names `{name}`: a container is {}", Container::RULE);
        Container::parse(name.trim()).ok_or_else(|| ConfigError { setting: Setting::Containers, problem: problem() })
    };
    names.split(',').map(parse).collect()
}

/// Parses the FHIR version of the lake's resources.
pub fn parse_fhir_version(text: &str) -> Result<FhirVersion, ConfigError> {
    let problem = || format!("is `{text}`: set 4.0.1, 4.3.0 or 5.0.0");
    FhirVersion::parse(text).ok_or_else(|| ConfigError { setting: Setting::FhirVersion, problem: problem() })
}

/// Parses the number of versions per resource in the lake.
pub fn parse_lake_versions(text: &str) -> Result<LakeVersions, ConfigError> {
    match text {
        "auto" => Ok(LakeVersions::Auto),
        "one" => Ok(LakeVersions::One),
        "many" => Ok(LakeVersions::Many),
        _ => Err(ConfigError { setting: Setting::LakeVersions, problem: format!("is `{text}`: set auto, one or many") }),
    }
}

/// Parses the moment up to which the lake is complete.
pub fn parse_lake_watermark(text: &str) -> Result<LakeWatermark, ConfigError> {
    let problem = || {
        format!(
            "is `{text}`: set auto, now, object, arrival, or a delay of up to 366 days in weeks, days, hours, minutes and seconds such as PT15M"
        )
    };
    LakeWatermark::parse(text).ok_or_else(|| ConfigError { setting: Setting::LakeWatermark, problem: problem() })
}

/// Parses the folder layouts that `_format` may name: `name=layout` pairs, separated by semicolons.
pub fn parse_folder_layouts(text: &str) -> Result<BTreeMap<String, FolderLayout>, ConfigError> {
    FolderLayout::parse_list(text).map_err(|error| ConfigError { setting: Setting::FolderLayouts, problem: error.to_string() })
}

/// Parses the remarks about anonymization configurations that do not stop an export.
pub fn parse_accepted_remarks(text: &str) -> Result<AcceptedRemarks, ConfigError> {
    AcceptedRemarks::parse(text).map_err(|error| ConfigError { setting: Setting::AcceptRemarks, problem: error.to_string() })
}

/// Parses the KMS keys that `_encryptionKey` may name: `name=arn` pairs, separated by semicolons.
fn parse_output_keys(text: &str) -> Result<BTreeMap<String, EncryptionKey>, ConfigError> {
    EncryptionKey::parse_list(text).map_err(|error| ConfigError { setting: Setting::OutputKmsKeys, problem: error.to_string() })
}
