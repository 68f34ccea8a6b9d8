//! Command line of `headrace lake`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use super::AuditLocation;
use super::whole_number::whole_number;

/// The location of a lake: a directory, or a bucket with a prefix.
pub type LakeLocation = AuditLocation;

/// Arguments of `headrace lake`.
#[derive(Debug, Args)]
pub struct LakeArgs {
    /// Subcommand to run.
    #[command(subcommand)]
    pub command: LakeCommand,
}

/// The subcommands of `headrace lake`.
#[derive(Debug, Subcommand)]
pub enum LakeCommand {
    /// Report what is in a lake, and what an export would refuse, leave out or report
    ///
    /// Reads the whole lake with the rules and readers of exports. Prints for each type the objects, resources, ids, versions,
    /// deletions and times, then the watermark, then what needs attention, with objects and line numbers and without data of
    /// patients.
    ///
    /// Exit status: 0 clean, 1 not checked, 3 something needs attention.
    #[command(
        after_long_help = "Examples:\n  headrace lake check lake\n  headrace lake check lake --json\n  headrace lake check s3://lake-bucket/fhir"
    )]
    Check(CheckLakeArgs),
    /// Add Bundles, the export of another server, or a table of FHIR Works on AWS to a lake
    ///
    /// Bundles: .json files of one Bundle, or files of one Bundle a line. References to a urn:uuid, a urn:oid or an identifier of
    /// another resource of the input or of the lake become Type/id. The export of another server: NDJSON files, and its manifest if there is one.
    /// A table: its export to S3, full or incremental, downloaded to a directory. The kind of input is detected, unless
    /// --format names it.
    ///
    /// Adds everything or nothing. A file is added only once, so a run that was interrupted can be repeated, and new files can be added
    /// alone or together with earlier ones.
    ///
    /// Exit status: 0 everything was added, 1 nothing was added, 3 added except for what is reported.
    #[command(
        after_long_help = "Examples:\n  headrace lake add synthea/output/fhir lake\n  headrace lake add bundles lake --complete-up-to 2026-11-29T10:00:00Z\n  headrace lake add download/AWSDynamoDB/01693685827463-2d8752fd lake --binaries download/binaries\n  headrace lake add synthea/output/fhir s3://lake-bucket/fhir"
    )]
    Add(AddToLakeArgs),
    /// Replace the objects of a lake by new ones with the newest version of each resource
    ///
    /// Exports may run meanwhile. The old objects stay until every export that has pinned them must have ended; the next run, or one
    /// with --now, removes them. In between an export reads each resource twice and exports it once. With --lake-versions one
    /// it would export it twice, so this command then does nothing without --now.
    ///
    /// Exit status: 0 done or nothing to do, 1 not compacted, 3 compacted except for objects that must stay, which it counts.
    #[command(
        after_long_help = "Examples:\n  headrace lake compact lake\n  headrace lake compact lake --now\n  headrace lake compact s3://lake-bucket/fhir"
    )]
    Compact(CompactLakeArgs),
}

/// Arguments of `headrace lake check`.
#[derive(Debug, Args)]
pub struct CheckLakeArgs {
    /// The lake: a directory, or s3://bucket/prefix
    #[arg(value_name = "LAKE")]
    pub lake: LakeLocation,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// Options of all subcommands.
    pub common: LakeOptions,
}

/// Options of all subcommands.
#[derive(Debug, Args)]
pub struct LakeOptions {
    /// Print no progress
    #[arg(long)]
    pub quiet: bool,
    /// The number of threads [default: the number of processors]
    #[arg(long, env = "HEADRACE_WORKERS", value_parser = whole_number::<usize>(1, 1000), value_name = "COUNT")]
    pub workers: Option<usize>,
}

impl LakeOptions {
    /// Returns the number of threads.
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, std::num::NonZero::get))
    }
}

/// The format of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AddedFormat {
    /// Bundles, in files of one Bundle or one a line
    Bundles,
    /// NDJSON files of resources
    Ndjson,
    /// The export of a DynamoDB table of FHIR Works on AWS
    FhirWorks,
}

/// The versions of a table that are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AddedVersions {
    /// The current version of each resource
    Newest,
    /// Every committed version
    All,
}

/// An instant with a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteUpTo(pub headrace_core::vocab::clock::Millis);

impl FromStr for CompleteUpTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        use headrace_core::lake::watermark::parse_watermark;
        use headrace_core::ports::MetadataObject;
        use headrace_core::vocab::clock::Millis;
        let content = serde_json::json!({ "completeUpTo": text }).to_string();
        let object = MetadataObject { size: content.len() as u64, bytes: content.into() };
        // The rule of the watermark object itself, except for its clock.
        let parsed = parse_watermark(&object, Millis(u64::MAX / 2));
        parsed.map(Self).map_err(|_| "write an instant with a time zone, such as 2026-11-29T10:00:00Z".to_owned())
    }
}

/// Arguments of `headrace lake add`.
#[derive(Debug, Args)]
pub struct AddToLakeArgs {
    /// A directory of files, or one file. Files that end in .json, .ndjson or .jsonl are read, also with .gz or .zst
    #[arg(value_name = "FROM")]
    pub from: PathBuf,
    /// The lake: a directory, which is created if it does not exist, or s3://bucket/prefix
    #[arg(value_name = "LAKE")]
    pub lake: LakeLocation,
    /// The format of the input [default: detected]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<AddedFormat>,
    /// The moment up to which the lake is complete with this input; writes the watermark, also for an input that was added before. Exports
    /// of servers and tables say it themselves
    #[arg(long, value_name = "INSTANT")]
    pub complete_up_to: Option<CompleteUpTo>,
    /// The versions of a table that are added
    #[arg(long, value_name = "VERSIONS", default_value = "newest")]
    pub versions: AddedVersions,
    /// The directory with the data of a table's Binary resources: [TENANT/]ID_VERSION.EXTENSION
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,
    /// Add only this tenant of a table, directly to LAKE ('' for the items without a tenant). Without it each tenant has a lake of its own,
    /// LAKE/TENANT
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// Options of all subcommands.
    pub common: LakeOptions,
}

/// Arguments of `headrace lake compact`.
#[derive(Debug, Args)]
pub struct CompactLakeArgs {
    /// The lake: a directory, or s3://bucket/prefix
    #[arg(value_name = "LAKE")]
    pub lake: LakeLocation,
    /// Remove the old objects at once: no export is running
    #[arg(long)]
    pub now: bool,
    /// The time for which old objects stay: the longest that an export of this lake may take, in hours
    #[arg(long, env = "HEADRACE_DEADLINE_HOURS", default_value_t = 24, value_parser = whole_number::<u64>(1, 8760), value_name = "HOURS")]
    pub deadline_hours: u64,
    /// Versions of a resource that exports of this lake expect: one, auto or many [default: auto]
    #[arg(long, env = "HEADRACE_LAKE_VERSIONS", value_name = "MODE")]
    pub lake_versions: Option<String>,
    /// The moment up to which exports of this lake read it, as for headrace export. Everything later is kept [default: auto]
    #[arg(long, env = "HEADRACE_LAKE_WATERMARK", value_name = "RULE")]
    pub lake_watermark: Option<String>,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    /// Options of all subcommands.
    pub common: LakeOptions,
}
