//! The arguments of an export, and what is read once before it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use headrace_core::ports::Clock as _;
use headrace_core::request::{ConfigName, MAX_CONFIG_BYTES};
use headrace_edge::system::SystemClock;

use crate::cli::{ExportArgs, ExportOptions, Source};
use crate::client::increment_basis::IncrementBasis;
use crate::client::local_export::config_name;
use crate::client::progress::print_line;
use crate::client::since_file::{SavedTime, SinceFile, SinceFileError, parse_since};
use crate::stores::deid_keys::read_deid_keys;
use crate::stores::directory::GivenConfiguration;

use super::error::ExportCommandError;

/// An export of the command line, with what is read once before it: standard input and pipes cannot be read again.
pub(super) struct ExportTask<'a> {
    pub(super) args: &'a ExportArgs,
    /// The parts on which its increments depend.
    pub(super) basis: IncrementBasis,
    /// The anonymization configuration with its keys, if this machine de-identifies.
    pub(super) configuration: Option<GivenConfiguration>,
    /// True if this machine makes the export, by its own clock.
    is_own: bool,
}

impl<'a> ExportTask<'a> {
    /// Reads the anonymization configuration and its keys, if this machine de-identifies.
    pub(super) fn new(args: &'a ExportArgs, source: &Source) -> Result<Self, ExportCommandError> {
        let is_own = args.by_sync || matches!(source, Source::Directory(_));
        let configuration = if is_own { given_configuration(args)? } else { None };
        let basis = IncrementBasis::new(args, source, configuration.as_ref());
        Ok(Self { args, basis, configuration, is_own })
    }

    /// Returns the same export by searches, after a server without an export operation has rejected it: this machine de-identifies.
    pub(super) fn by_searches(&self) -> Result<Self, ExportCommandError> {
        Ok(Self { args: self.args, basis: self.basis.clone(), configuration: given_configuration(self.args)?, is_own: true })
    }

    /// Returns the file of `--since-file`.
    pub(super) fn since_file(&self) -> Option<SinceFile> {
        self.args.since_file.as_deref().map(|path| SinceFile::new(path, self.basis.clone()))
    }

    /// Returns the time in the file of `--since-file`, and whether it is left out: nobody knows what has changed since a time that has not come
    /// yet, because the clock was ahead when it was written, or is late now. A server knows only its own clock.
    fn saved_time(&self, file: &SinceFile) -> Result<(Option<SavedTime>, bool), SinceFileError> {
        let saved = file.read()?;
        let is_ahead = |saved: &SavedTime| parse_since(&saved.time).is_some_and(|time| time > SystemClock.now());
        if self.is_own && saved.as_ref().is_some_and(is_ahead) { Ok((None, true)) } else { Ok((saved, false)) }
    }
}

/// Container of a de-identified export if none is given. De-identified exports require a container.
const DEIDENTIFIED_CONTAINER: &str = "de-identified";

/// Reads the anonymization configuration and its keys for the server in this process. They stay in memory: a copy in the
/// output directory would remain there if the process is killed.
fn given_configuration(args: &ExportArgs) -> Result<Option<GivenConfiguration>, ExportCommandError> {
    let Some(path) = args.options.anonymization_config.as_ref().map(PathBuf::from) else { return Ok(None) };
    let read = || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        // A device may never end.
        File::open(&path)?.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|cause| ExportCommandError::AnonymizationConfig { path: path.clone(), cause })?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(ExportCommandError::AnonymizationConfigTooLong(path));
    }
    let keys = read_deid_keys(args.deid_keys.file.as_deref(), args.deid_keys.json.as_deref())?.map(|keys| keys.to_json().into());
    Ok(ConfigName::parse(config_name(&path)).map(|name| GivenConfiguration { name, text: text.into(), keys }))
}

/// Returns the export parameters for the server in this process. Allows partial manifests, so that a manifest of any length can
/// be read page by page.
pub(super) fn local_server_parameters(options: &ExportOptions) -> Vec<(&'static str, String)> {
    let mut options = options.clone();
    if let Some(config) = &mut options.anonymization_config {
        *config = config_name(Path::new(config.as_str())).to_owned();
        options.container.get_or_insert_with(|| DEIDENTIFIED_CONTAINER.to_owned());
    }
    let mut parameters = options.parameters();
    parameters.push(("allowPartialManifests", "true".to_owned()));
    parameters
}

/// Returns the time of `--since`, or that in the file of `--since-file`.
pub(super) fn requested_since(task: &ExportTask<'_>) -> Result<Option<String>, SinceFileError> {
    let Some(file) = task.since_file() else { return Ok(task.args.options.since.clone()) };
    Ok(task.saved_time(&file)?.0.map(|saved| saved.time))
}

/// Returns the parameters of the export, with the time in the file of `--since-file`.
pub(super) fn options_with_since<'a>(task: &ExportTask<'a>) -> Result<Cow<'a, ExportOptions>, SinceFileError> {
    let args = task.args;
    let Some(file) = task.since_file() else { return Ok(Cow::Borrowed(&args.options)) };
    let ((saved, is_ahead), shown) = (task.saved_time(&file)?, file.path().display());
    if is_ahead {
        print_line(&format!(
            "attention: the time in {shown} is in the future: the clock of this machine was ahead when it was written, or is late now. Everything is \
             exported, because it is not known what has changed since"
        ));
    } else if !args.quiet {
        print_line(&match &saved {
            Some(SavedTime { time, .. }) => format!("exporting what changed after {time}, the time in {shown}"),
            None => format!("exporting everything, because {shown} does not exist yet"),
        });
    }
    if saved.as_ref().is_some_and(|saved| !saved.has_basis) {
        print_line(&format!("attention: {shown} does not say of which export its time is, so it is taken for a time of this one"));
    }
    Ok(Cow::Owned(ExportOptions { since: saved.map(|saved| saved.time), ..args.options.clone() }))
}
