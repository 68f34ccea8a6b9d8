//! The command line.

mod access;
mod audit;
mod clients;
mod deid;
mod keys;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use headrace_core::job::{Limits, Quotas};
use headrace_core::request::Policy;
use headrace_edge::config::{
    ConfigError, LakeTerms, Terms, read_base, read_bases, read_containers, read_lake_versions, read_layouts, read_version,
};
use reqwest::Url;

pub use access::{AccessMode, AccessOptions};
pub use audit::{Audit, AuditCommand, AuditLocation, ShowRecordsArgs, Verify};
pub use clients::{Action, Add, Clients, Keygen, KeySetArgs, Place};
pub use deid::{Deid, DeidCommand, DeidCheckArgs, DeidPreviewArgs, FhirVersionArgs};
pub use keys::{Keys, KeysCommand};

/// FHIR Bulk Data export on one machine.
///
/// Serves the Bulk Data API over a directory of NDJSON files, or does a whole export and leaves you the files. The same
/// code runs as AWS Lambda functions; see template.yaml.
#[derive(Debug, Parser)]
#[command(name = "headrace", version, arg_required_else_help = true, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Which events are logged: error, warn, info or debug for our own, or target=level pairs [default: warn; serve: info]
    #[arg(long, env = "HEADRACE_LOG", global = true, value_name = "FILTER")]
    pub log: Option<String>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Export a directory, or a FHIR server, into a directory of files
    ///
    /// Goes the way of every Bulk Data client: kick-off, polls, downloads. For a directory, the server is this program
    /// itself, on a free loopback port.
    ///
    /// Exit status: 0 all exported, 1 failed, 3 exported, but lines of the lake were no resources (see error-1.ndjson).
    #[command(
        after_long_help = "Examples:\n  headrace export lake out\n  headrace export lake out --type Patient,Observation --since 2026-01-01\n  headrace export lake out --level group:cohort-7 --type-filter 'Observation?category=laboratory'\n  headrace export http://127.0.0.1:8080/fhir out\n  headrace export https://fhir.example.org/r4 out --client-id lab --client-key private.jwk"
    )]
    Export(Box<Export>),
    /// Serve the Bulk Data API over a directory
    ///
    /// Prints its base once it is ready. Until a client is registered (headrace clients add), whoever reaches it may export:
    /// only this machine can, unless you ask for more. Unfinished exports go on after a restart with the same --state.
    #[command(
        after_long_help = "Examples:\n  headrace serve lake\n  curl -i -H 'Accept: application/fhir+json' -H 'Prefer: respond-async' 'http://127.0.0.1:8080/fhir/$export'"
    )]
    Serve(Box<Serve>),
    /// Say who may export: the clients of a server on this machine, or of a deployment on AWS
    ///
    /// A server that runs sees every change at its next request.
    Clients(Clients),
    /// Look after the keys that sign the tokens of a server on this machine
    Keys(Keys),
    /// Read and check the records for auditors: who exported what, when, from where, and how it ended
    Audit(Audit),
    /// Look at a configuration of de-identified exports before one goes by it
    Deid(Deid),
}

/// `headrace export`.
#[derive(Debug, Args)]
pub struct Export {
    /// A directory of NDJSON files (plain, .gz, .zst), or the base URL of a FHIR server
    pub from: String,
    /// Where the files go; created if absent
    pub out: PathBuf,
    #[command(flatten)]
    /// What of it.
    pub wishes: ExportOptions,
    /// Write into OUT although it is not empty; files of the same names are replaced
    #[arg(long)]
    pub overwrite: bool,
    /// A bearer token for the server
    #[arg(long, env = "HEADRACE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    #[command(flatten)]
    /// Who asks, where tokens are had by a key.
    pub login: LoginOptions,
    #[command(flatten)]
    /// How a directory is exported.
    pub terms: ServiceOptions,
}

/// A client of SMART Backend Services. Tokens are fetched as they are needed, and renewed as they end.
#[derive(Debug, Args)]
pub struct LoginOptions {
    /// The client_id that the server knows you by
    #[arg(long, env = "HEADRACE_CLIENT_ID", value_name = "ID", requires = "client_key", conflicts_with = "token")]
    pub client_id: Option<String>,
    /// Your private key, a file: a JSON Web Key, or PEM
    #[arg(long, env = "HEADRACE_CLIENT_KEY", value_name = "FILE", requires = "client_id")]
    pub client_key: Option<PathBuf>,
    /// By what name (kid) the server knows the key; a JSON Web Key says so itself
    #[arg(long, value_name = "KID", requires = "client_key")]
    pub client_key_id: Option<String>,
    /// The scopes to ask for [default: system/*.rs, or system/*.read of a server that knows no other]
    #[arg(long, value_name = "SCOPES", requires = "client_id")]
    pub scope: Option<String>,
    /// Where tokens are given out [default: what the server's SMART configuration says]
    #[arg(long, value_name = "URL", requires = "client_id")]
    pub token_url: Option<Url>,
}

/// Whose data.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ExportLevel {
    /// Everything.
    #[default]
    System,
    /// All patients.
    Patients,
    /// One patient's, by id.
    Patient(String),
    /// A group's, by id.
    Group(String),
}

impl FromStr for ExportLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "system" => Ok(Self::System),
            None if text == "patient" => Ok(Self::Patients),
            Some(("patient", id)) if !id.is_empty() => Ok(Self::Patient(id.to_owned())),
            Some(("group", id)) if !id.is_empty() => Ok(Self::Group(id.to_owned())),
            None | Some(_) => Err("write system, patient, patient:ID or group:ID".to_owned()),
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, Args)]
pub struct ExportOptions {
    /// Whose data: system, patient (all of them), patient:ID or group:ID
    #[arg(long, value_name = "LEVEL", default_value = "system")]
    pub level: ExportLevel,
    /// Only these resource types, separated by commas
    #[arg(long = "type", value_name = "TYPES")]
    pub types: Option<String>,
    /// Only resources of the query's type that match it, such as 'Observation?category=laboratory'. Several: any of them
    #[arg(long = "type-filter", value_name = "QUERY")]
    pub type_filters: Vec<String>,
    /// Only these elements, separated by commas, as element or Type.element
    #[arg(long, value_name = "ELEMENTS")]
    pub elements: Option<String>,
    /// Only resources changed later than this: an instant or a date
    #[arg(long, value_name = "INSTANT")]
    pub since: Option<String>,
    /// Only resources changed earlier than this
    #[arg(long, value_name = "INSTANT")]
    pub until: Option<String>,
    /// LatestProvenanceResources, RelevantProvenanceResources, _history or _deleted, separated by commas
    #[arg(long, value_name = "WHAT")]
    pub include_associated_data: Option<String>,
    /// Files of blocks, a patient's resources each, instead of files of one type each
    #[arg(long, value_name = "TYPE", value_parser = ["patient"])]
    pub organize_by: Option<String>,
    /// Leave out what the server does not support instead of failing; its error file says what that was
    #[arg(long)]
    pub lenient: bool,
    /// The output format's name; NDJSON by any of its three names
    #[arg(long, value_name = "FORMAT")]
    pub output_format: Option<String>,
    /// A named place inside the server's destination
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// De-identify by this anonymization configuration: of a directory a file, of a server the name that it has there
    #[arg(long, value_name = "CONFIG")]
    pub anonymization_config: Option<String>,
}

impl ExportOptions {
    /// The operation's path below the base, with ids encoded as path segments.
    pub fn path(&self) -> String {
        match &self.level {
            ExportLevel::System => "$export".to_owned(),
            ExportLevel::Patients => "Patient/$export".to_owned(),
            ExportLevel::Patient(id) => format!("Patient/{}/$export", segment(id)),
            ExportLevel::Group(id) => format!("Group/{}/$export", segment(id)),
        }
    }

    /// The parameters.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let organize_by = self.organize_by.as_ref().map(|_| "Patient".to_owned());
        let once = [
            ("_type", &self.types),
            ("_elements", &self.elements),
            ("_since", &self.since),
            ("_until", &self.until),
            ("includeAssociatedData", &self.include_associated_data),
            ("organizeOutputBy", &organize_by),
            ("_outputFormat", &self.output_format),
            ("_container", &self.container),
            ("_anonymizationConfig", &self.anonymization_config),
        ];
        let once = once.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        once.chain(self.type_filters.iter().map(|query| ("_typeFilter", query.clone()))).collect()
    }
}

fn segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// `headrace serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// A directory of NDJSON files (plain, .gz, .zst), in any layout that names types
    pub lake: PathBuf,
    /// The address to listen on
    #[arg(long, env = "HEADRACE_LISTEN", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub listen: IpAddr,
    /// The port; 0 takes a free one
    #[arg(long, env = "HEADRACE_PORT", default_value_t = 8080)]
    pub port: u16,
    /// Needed to listen on anything but a loopback address without access control
    #[arg(long)]
    pub allow_unauthenticated: bool,
    /// Needed to listen on anything but a loopback address with access control: tokens and records must be encrypted on
    /// their way, and this server itself speaks plain HTTP
    #[arg(long)]
    pub behind_tls_proxy: bool,
    #[command(flatten)]
    /// Who may ask.
    pub access: AccessOptions,
    /// Where jobs and their files are kept
    #[arg(long, env = "HEADRACE_STATE", default_value = ".headrace", value_name = "DIR")]
    pub state: PathBuf,
    #[command(flatten)]
    /// What jobs are promised.
    pub terms: ServiceOptions,
}

/// What both have in common.
#[derive(Debug, Args)]
pub struct ServiceOptions {
    /// A new file starts once the current one has reached this many MB (1 MB is 1,000,000 bytes)
    #[arg(long, env = "HEADRACE_FILE_SIZE_MB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000), value_name = "MB")]
    pub file_size_mb: u64,
    /// How long files are kept after an export has finished
    #[arg(long, env = "HEADRACE_RETENTION_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760), value_name = "HOURS")]
    pub retention_hours: u64,
    /// How long an export may take
    #[arg(long, env = "HEADRACE_DEADLINE_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760), value_name = "HOURS")]
    pub deadline_hours: u64,
    /// The containers that clients may name, separated by commas [default: any]
    #[arg(long, env = "HEADRACE_CONTAINERS", value_name = "NAMES")]
    pub containers: Option<String>,
    /// The base that clients use, if a proxy in front does not say so
    #[arg(long, env = "HEADRACE_BASE_URL", value_name = "URL")]
    pub base_url: Option<String>,
    /// Pass over files whose names promise a type that was not asked for. Faster with --type; a line of another type in
    /// such a file is then missed
    #[arg(long, env = "HEADRACE_TRUST_LAKE_NAMES")]
    pub trust_object_names: bool,
    /// The version of FHIR that the resources are in: 4.0.1, 4.3.0 or 5.0.0 [default: 4.0.1]
    #[arg(long, env = "HEADRACE_FHIR_VERSION", value_name = "VERSION")]
    pub fhir_version: Option<String>,
    /// Versions of one resource in the lake: one (each line counts), auto (the newest counts), many (the same, sooner known)
    /// [default: auto]
    #[arg(long, env = "HEADRACE_LAKE_VERSIONS", value_name = "HOW MANY")]
    pub lake_versions: Option<String>,
    /// Below the system's level, also export the practitioners, organizations, locations, medications and devices that
    /// exported resources refer to
    #[arg(long, env = "HEADRACE_REFERENCED_RESOURCES")]
    pub referenced_resources: bool,
    /// With --since, export all of a group's member who joined after it
    #[arg(long, env = "HEADRACE_GROUP_NEW_MEMBERS")]
    pub group_new_members: bool,
    /// The bases that the lake's own absolute references begin with, separated by commas [default: any]
    #[arg(long, env = "HEADRACE_LAKE_BASES", value_name = "URLS")]
    pub lake_bases: Option<String>,
    /// Folder layouts that clients may name as _format: name=layout, separated by semicolons
    #[arg(long, env = "HEADRACE_FORMATS", value_name = "LAYOUTS")]
    pub formats: Option<String>,
    /// Exports of one caller that may be at work [default: any number]
    #[arg(long, env = "HEADRACE_JOBS_PER_CALLER", value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub jobs_per_caller: Option<u32>,
    /// Exports of all callers that may be at work [default: any number]
    #[arg(long, env = "HEADRACE_JOBS", value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "COUNT")]
    pub jobs: Option<u32>,
    /// Let exports beyond these limits wait for their turn instead of refusing them
    #[arg(long, env = "HEADRACE_QUEUE_JOBS")]
    pub queue_jobs: bool,
    /// Tasks worked on at the same time [default: the number of processors]
    #[arg(long, env = "HEADRACE_WORKERS", value_name = "COUNT")]
    pub workers: Option<usize>,
}

/// What is given and not empty.
pub(crate) fn present(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

impl ServiceOptions {
    /// As the handlers take them.
    pub fn terms(&self) -> Result<Terms, ConfigError> {
        Ok(Terms {
            base: present(&self.base_url).map(read_base).transpose()?,
            policy: Policy {
                version: present(&self.fhir_version).map(read_version).transpose()?.unwrap_or_default(),
                bases: present(&self.lake_bases).map(read_bases).transpose()?.unwrap_or_default(),
                containers: present(&self.containers).map(read_containers).transpose()?,
                layouts: present(&self.formats).map(read_layouts).transpose()?.unwrap_or_default(),
                // A directory encrypts nothing.
                keys: BTreeMap::new(),
            },
            quotas: Quotas { per_caller: self.jobs_per_caller, global: self.jobs, waits: self.queue_jobs },
            limits: Limits {
                file_bytes: self.file_size_mb * 1_000_000,
                retention_seconds: self.retention_hours * 3600,
                deadline_seconds: self.deadline_hours * 3600,
            },
        })
    }

    /// As the workers take them.
    pub fn lake_settings(&self) -> Result<LakeTerms, ConfigError> {
        Ok(LakeTerms {
            versions: present(&self.lake_versions).map(read_lake_versions).transpose()?.unwrap_or_default(),
            adds_referenced: self.referenced_resources,
            adds_new_members: self.group_new_members,
            bases: present(&self.lake_bases).map(read_bases).transpose()?.unwrap_or_default(),
        })
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, std::num::NonZero::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(arguments: &[&str]) -> Result<ExportOptions, clap::Error> {
        let line = ["headrace", "export", "lake", "out"].iter().chain(arguments);
        match Cli::try_parse_from(line)?.command {
            Command::Export(order) => Ok(order.wishes),
            Command::Serve(_) | Command::Clients(_) | Command::Keys(_) | Command::Audit(_) | Command::Deid(_) => panic!("another command"),
        }
    }

    #[test]
    fn a_level_is_the_path_that_the_standard_gives_it() {
        for (level, path) in [
            ("system", "$export"),
            ("patient", "Patient/$export"),
            ("patient:p-1", "Patient/p%2D1/$export"),
            ("group:a/../b", "Group/a%2F%2E%2E%2Fb/$export"),
        ] {
            assert_eq!(wishes(&["--level", level]).unwrap().path(), path);
        }
        for level in ["patients", "group", "group:", "patient:", "Group:1", ""] {
            assert!(wishes(&["--level", level]).is_err(), "{level}");
        }
    }

    #[test]
    fn options_become_the_parameters_of_the_standard() {
        let wishes = wishes(&[
            "--type=Patient,Observation",
            "--type-filter=Observation?category=laboratory",
            "--type-filter=Observation?category=vital-signs",
            "--elements=id",
            "--since=2026-01-01",
            "--until=2026-02-01",
            "--include-associated-data=_deleted",
            "--organize-by=patient",
        ]);
        let parameters: Vec<String> = wishes.unwrap().parameters().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            parameters,
            [
                "_type=Patient,Observation",
                "_elements=id",
                "_since=2026-01-01",
                "_until=2026-02-01",
                "includeAssociatedData=_deleted",
                "organizeOutputBy=Patient",
                "_typeFilter=Observation?category=laboratory",
                "_typeFilter=Observation?category=vital-signs",
            ]
        );
    }

    #[test]
    fn what_a_setting_cannot_be_is_said_with_its_name() {
        let terms = |arguments: &[&str]| match Cli::try_parse_from(["headrace", "serve", "lake"].iter().chain(arguments)).unwrap().command {
            Command::Serve(order) => order.terms,
            Command::Export(_) | Command::Clients(_) | Command::Keys(_) | Command::Audit(_) | Command::Deid(_) => panic!("another command"),
        };
        for (argument, variable) in [
            ("--fhir-version=6", "HEADRACE_FHIR_VERSION"),
            ("--formats=x", "HEADRACE_FORMATS"),
            ("--lake-bases=here", "HEADRACE_LAKE_BASES"),
        ] {
            assert_eq!(terms(&[argument]).terms().unwrap_err().variable, variable);
        }
        assert_eq!(terms(&["--lake-versions=two"]).lake_settings().unwrap_err().variable, "HEADRACE_LAKE_VERSIONS");
        let quotas = terms(&["--jobs-per-caller=2", "--queue-jobs"]).terms().unwrap().quotas;
        assert_eq!(quotas, Quotas { per_caller: Some(2), global: None, waits: true });
    }
}
