//! The settings of a server as options, and what they are for its parts.

use clap::Args;
use headrace_core::job::{JobSettings, Quotas};
use headrace_core::request::ExportPolicy;
use headrace_core::vocab::lake_settings::{LakeSettings, LakeWatermark};
use headrace_edge::config::{
    ExportSettings, parse_accepted_remarks, parse_base_url, parse_containers, parse_fhir_version, parse_folder_layouts,
    parse_lake_versions, parse_lake_watermark, parse_source_base_urls,
};

use super::whole_number::whole_number;
use super::{OptionError, parse_option};

/// Settings of a server, common to `headrace serve` and `headrace export`.
#[derive(Debug, Args)]
pub struct ServiceOptions {
    /// The size at which an output file is closed and the next one begins, in MB (1,000,000 bytes)
    #[arg(long, env = "HEADRACE_FILE_SIZE_MB", default_value_t = 64, value_parser = whole_number::<u64>(1, 1000), value_name = "MB")]
    pub file_size_mb: u64,
    /// The time for which files are kept after their export has finished, in hours
    #[arg(long, env = "HEADRACE_RETENTION_HOURS", default_value_t = 24, value_parser = whole_number::<u64>(1, 8760), value_name = "HOURS")]
    pub retention_hours: u64,
    /// The time after which an unfinished export fails, in hours
    #[arg(long, env = "HEADRACE_DEADLINE_HOURS", default_value_t = 24, value_parser = whole_number::<u64>(1, 8760), value_name = "HOURS")]
    pub deadline_hours: u64,
    /// The containers that clients may use, separated by commas [default: any]
    #[arg(long, env = "HEADRACE_CONTAINERS", value_name = "NAMES")]
    pub containers: Option<String>,
    /// The server's base URL as clients see it. Set it behind a proxy, whose headers are not read [default: the address and port
    /// that the server listens on]
    #[arg(long, env = "HEADRACE_BASE_URL", value_name = "URL")]
    pub base_url: Option<String>,
    /// Skip files whose names indicate a resource type that is not exported. Faster with --type, but lines of other types in
    /// such a file are missed
    #[arg(long, env = "HEADRACE_TRUST_OBJECT_NAMES")]
    pub trust_object_names: bool,
    /// The FHIR version of the resources: 4.0.1, 4.3.0 or 5.0.0 [default: 4.0.1]
    #[arg(long, env = "HEADRACE_FHIR_VERSION", value_name = "VERSION")]
    pub fhir_version: Option<String>,
    /// Versions of a resource in the source: one (each line is exported), auto (the newest is exported), many (as auto, but
    /// faster if many resources have several versions) [default: auto]
    #[arg(long, env = "HEADRACE_LAKE_VERSIONS", value_name = "MODE")]
    pub lake_versions: Option<String>,
    /// The moment up to which the source is complete: auto (as _headrace/watermark.json in the source says, else now), object (that
    /// file, which must exist), now (no change arrives late), a delay such as PT15M (no change is later), arrival (now; --since
    /// includes the files that arrived after it) [default: auto]
    #[arg(long, env = "HEADRACE_LAKE_WATERMARK", value_name = "RULE")]
    pub lake_watermark: Option<String>,
    /// Add the practitioners, organizations, locations, medications and devices that exported resources refer to, in patient and
    /// group exports
    #[arg(long, env = "HEADRACE_INCLUDE_REFERENCED_RESOURCES")]
    pub include_referenced_resources: bool,
    /// Export all data of members who joined a group after --since, not only later changes
    #[arg(long, env = "HEADRACE_GROUP_NEW_MEMBERS")]
    pub group_new_members: bool,
    /// Base URLs of absolute references to resources in the source, separated by commas [default: any]
    #[arg(long, env = "HEADRACE_SOURCE_BASE_URLS", value_name = "URLS")]
    pub source_base_urls: Option<String>,
    /// Folder layouts that clients may select with _format: name=layout, separated by semicolons
    #[arg(long, env = "HEADRACE_FOLDER_LAYOUTS", value_name = "LAYOUTS")]
    pub folder_layouts: Option<String>,
    /// Export although the anonymization configuration has these remarks of headrace deid check: names, separated by commas, or
    /// CONFIGURATION=NAMES pairs, separated by semicolons
    #[arg(long, env = "HEADRACE_ACCEPT_REMARKS", value_name = "NAMES")]
    pub accept_remarks: Option<String>,
    /// The maximum number of exports of one client that run at the same time [default: unlimited]
    #[arg(long, env = "HEADRACE_MAX_EXPORTS_PER_CLIENT", value_parser = whole_number::<u32>(1, 1_000_000), value_name = "COUNT")]
    pub max_exports_per_client: Option<u32>,
    /// The maximum number of exports of all clients that run at the same time [default: unlimited]
    #[arg(long, env = "HEADRACE_MAX_CONCURRENT_EXPORTS", value_parser = whole_number::<u32>(1, 1_000_000), value_name = "COUNT")]
    pub max_concurrent_exports: Option<u32>,
    /// Queue exports beyond these limits instead of rejecting them
    #[arg(long, env = "HEADRACE_QUEUE_WHEN_FULL")]
    pub queue_when_full: bool,
    /// The number of tasks that run at the same time [default: the number of processors]
    #[arg(long, env = "HEADRACE_WORKERS", value_parser = whole_number::<usize>(1, 1000), value_name = "COUNT")]
    pub workers: Option<usize>,
}

impl ServiceOptions {
    /// Returns the settings of the request handlers of a server for its clients.
    pub fn settings(&self) -> Result<ExportSettings, OptionError> {
        let own = self.settings_without_clients()?;
        Ok(ExportSettings {
            base: parse_option(&self.base_url, parse_base_url)?,
            policy: ExportPolicy {
                containers: parse_option(&self.containers, parse_containers)?,
                layouts: parse_option(&self.folder_layouts, parse_folder_layouts)?.unwrap_or_default(),
                ..own.policy
            },
            quotas: Quotas {
                per_caller: self.max_exports_per_client,
                global: self.max_concurrent_exports,
                queue_when_full: self.queue_when_full,
            },
            ..own
        })
    }

    /// Returns the settings of the request handlers of a server that this program starts for itself. Variables of the environment may be set
    /// for `headrace serve`: what they say about clients has no effect, not even if it is invalid.
    pub fn settings_without_clients(&self) -> Result<ExportSettings, OptionError> {
        Ok(ExportSettings {
            base: None,
            // A directory does not encrypt its files, so there are no keys to offer.
            policy: ExportPolicy {
                version: parse_option(&self.fhir_version, parse_fhir_version)?.unwrap_or_default(),
                bases: parse_option(&self.source_base_urls, parse_source_base_urls)?.unwrap_or_default(),
                accepted_remarks: parse_option(&self.accept_remarks, parse_accepted_remarks)?.unwrap_or_default(),
                ..ExportPolicy::default()
            },
            quotas: Quotas::default(),
            job: JobSettings {
                file_bytes: self.file_size_mb * 1_000_000,
                retention_seconds: self.retention_hours * 3600,
                deadline_seconds: self.deadline_hours * 3600,
            },
            watermark: self.watermark()?,
        })
    }

    /// Returns the settings for reading the source.
    pub fn lake_settings(&self) -> Result<LakeSettings, OptionError> {
        Ok(LakeSettings {
            versions: parse_option(&self.lake_versions, parse_lake_versions)?.unwrap_or_default(),
            adds_referenced: self.include_referenced_resources,
            adds_new_members: self.group_new_members,
            bases: parse_option(&self.source_base_urls, parse_source_base_urls)?.unwrap_or_default(),
            watermark: self.watermark()?,
        })
    }

    /// Returns the moment up to which the source is complete.
    fn watermark(&self) -> Result<LakeWatermark, OptionError> {
        Ok(parse_option(&self.lake_watermark, parse_lake_watermark)?.unwrap_or_default())
    }

    /// Returns the number of workers.
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, std::num::NonZero::get))
    }
}
