//! Options of `headrace export` that would have no effect. They are errors, because whoever gives one expects its effect.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};

use super::{DeidKeysOptions, ExportArgs, ExportOptions, LoginOptions, OriginOptions, ServiceOptions, Source, TransferOptions, non_empty};

/// Settings of a server for its clients. The server of an export to a directory has one client and ends with the export.
const SETTINGS_FOR_CLIENTS: [&str; 7] =
    ["retention_hours", "containers", "base_url", "folder_layouts", "max_exports_per_client", "max_concurrent_exports", "queue_when_full"];

/// Hides an option from the help of `headrace export` if no export accepts it.
pub(super) fn hide_setting_for_clients(option: Arg) -> Arg {
    let is_refused = SETTINGS_FOR_CLIENTS.contains(&option.get_id().as_str());
    if is_refused { option.hide(true) } else { option }
}

/// Options, and the reason why they would have no effect.
struct IgnoredOptions {
    options: Vec<Arg>,
    reason: &'static str,
}

impl IgnoredOptions {
    /// Names a whole group of options.
    fn group<G: Args>(reason: &'static str) -> Self {
        Self { options: options_of::<G>(), reason }
    }

    /// Names some options of a group by their ids.
    fn some<G: Args>(ids: &[&str], reason: &'static str) -> Self {
        let mut options = options_of::<G>();
        options.retain(|option| ids.contains(&option.get_id().as_str()));
        Self { options, reason }
    }

    /// Describes those of the options that are on the command line. Variables of the environment may be set for other commands.
    fn describe(&self, given: &ArgMatches) -> Option<String> {
        let is_given = |option: &&Arg| given.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine);
        let names: Vec<String> =
            self.options.iter().filter(is_given).filter_map(|option| Some(format!("--{}", option.get_long()?))).collect();
        (!names.is_empty()).then(|| format!("{} would have no effect: {}", names.join(", "), self.reason))
    }
}

/// Returns the options of a group.
fn options_of<G: Args>() -> Vec<Arg> {
    G::augment_args(Command::new("")).get_arguments().cloned().collect()
}

/// Returns the option that has no effect when a server is exported by searches.
fn ignored_comparison() -> IgnoredOptions {
    let reason = "an export fetches the resources into an empty lake, without ids to compare; this option is for headrace sync";
    IgnoredOptions::some::<OriginOptions>(&["reconcile"], reason)
}

impl ExportArgs {
    /// Returns why some of the given options would have no effect, or `None` if each has one.
    pub(super) fn ignored_options(&self, given: &ArgMatches) -> Option<String> {
        let source = self.source.as_deref().and_then(|source| Source::parse(source).ok());
        let ignored = match (&self.resume, source) {
            (Some(_), _) => vec![
                IgnoredOptions::group::<ExportOptions>("the export that is continued was requested before, and is not changed"),
                IgnoredOptions::group::<ServiceOptions>("an export from a server is continued, which has its own settings"),
                IgnoredOptions::group::<DeidKeysOptions>("an export from a server is continued, which has its own keys"),
            ],
            (None, Some(Source::Server(_))) if self.by_sync => {
                let transfer = "the resources are fetched by searches, and these have --sync-deadline-hours";
                let mut ignored = vec![IgnoredOptions::group::<TransferOptions>(transfer), ignored_comparison()];
                ignored.extend(self.ignored_for_directory());
                ignored
            }
            (None, Some(Source::Server(_))) => {
                let reason =
                    "SOURCE is a server, which has its own settings; this option is for the export of a directory, and for --by-sync";
                vec![
                    IgnoredOptions::group::<ServiceOptions>(reason),
                    IgnoredOptions::group::<DeidKeysOptions>(reason),
                    ignored_comparison(),
                ]
            }
            (None, Some(Source::Directory(_))) => {
                let reason = "SOURCE is a directory; this option is for an export from a FHIR server";
                let mut ignored = vec![
                    IgnoredOptions::group::<LoginOptions>(reason),
                    IgnoredOptions::group::<TransferOptions>(reason),
                    IgnoredOptions::group::<OriginOptions>(reason),
                ];
                ignored.extend(self.ignored_for_directory());
                ignored
            }
            (None, None) => Vec::new(),
        };
        ignored.iter().find_map(|options| options.describe(given)).or_else(|| self.unused_keys_of_environment())
    }

    /// Returns the options that have no effect when this machine exports a directory.
    fn ignored_for_directory(&self) -> Vec<IgnoredOptions> {
        let own_server = "this program exports a directory by itself, for you alone; this option is for headrace serve";
        let mut ignored = vec![
            IgnoredOptions::some::<ServiceOptions>(&SETTINGS_FOR_CLIENTS, own_server),
            IgnoredOptions::some::<ExportOptions>(&["container"], "the files are written to OUT; a server has containers"),
        ];
        if self.options.anonymization_config.is_none() {
            let reason = "nothing is de-identified without --anonymization-config";
            ignored.push(IgnoredOptions::group::<DeidKeysOptions>(reason));
            ignored.push(IgnoredOptions::some::<ServiceOptions>(&["accept_remarks"], reason));
        }
        ignored
    }

    /// Returns why the keys in the environment would have no effect. Whoever supplies keys expects a de-identified export, so that the
    /// variable is not taken for one that is set for other commands.
    fn unused_keys_of_environment(&self) -> Option<String> {
        let has_keys = self.resume.is_none() && non_empty(&self.deid_keys.json).is_some();
        (has_keys && self.options.anonymization_config.is_none()).then(|| {
            "HEADRACE_DEID_KEYS would have no effect: nothing is de-identified without --anonymization-config; give one, or unset the variable"
                .to_owned()
        })
    }
}
