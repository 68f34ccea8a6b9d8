//! The files that describe the export of a table: `manifest-summary.json` and `manifest-files.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::Arc;
use std::time::Duration;

use headrace_core::vocab::clock::Millis;
use serde::Deserialize;

use crate::add::AddError;
use crate::add::completeness::{BEGINNING, Completeness, period_end, period_start};
use crate::add::format::TABLE_SUMMARY;
use crate::add::input::{InputFile, InputReader, Md5Digest, md5_from_base64};
use crate::progress::Progress;

/// The name of the list of data files.
pub(super) const FILE_LIST: &str = "manifest-files.json";

/// The largest summary that is read, in bytes.
const SUMMARY_LIMIT_BYTES: u64 = 1 << 20;

/// The endings of the files with the MD5 of the summary and of the list.
const CHECKSUM_ENDINGS: [&str; 2] = ["md5", "checksum"];

/// The largest such file that is read, in bytes.
const CHECKSUM_LIMIT_BYTES: u64 = 1 << 10;

/// The longest line of the list, in bytes.
const LIST_LINE_LIMIT_BYTES: usize = 64 << 10;

/// The time in which FHIR Works commits a version: a transaction locks resources for 35 seconds at most. The rest is for clocks that differ. A
/// version that is committed after an export has a `lastUpdated` from before, and only the next increment has it.
const COMMIT_MARGIN: Duration = Duration::from_secs(60);

/// The content of `manifest-summary.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    output_format: Option<String>,
    item_count: Option<u64>,
    export_time: Option<String>,
    export_type: Option<String>,
    /// The start of the period of an incremental export.
    export_from_time: Option<String>,
    /// The end of that period.
    export_to_time: Option<String>,
}

/// A line of `manifest-files.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedFile {
    item_count: Option<u64>,
    #[serde(rename = "dataFileS3Key")]
    key: String,
    /// The MD5 of the file as it is stored, in base64.
    md5_checksum: Option<String>,
}

impl ListedFile {
    /// Returns the MD5 of the file, if the list has one.
    fn md5(&self, list: &InputFile) -> Result<Option<Md5Digest>, AddError> {
        let Some(text) = &self.md5_checksum else { return Ok(None) };
        let invalid = || refused(list, "an md5Checksum is not an MD5 in base64".to_owned());
        md5_from_base64(text).ok_or_else(invalid).map(Some)
    }
}

/// The export of a table.
#[derive(Debug)]
pub(super) struct TableExport {
    /// The folder of the export in the input, empty or ending in `/`.
    folder: String,
    /// The data files, with the number of items in each.
    pub(super) files: Vec<(InputFile, Option<u64>)>,
    /// The period whose changes the export has, or the reason why it is not known.
    pub(super) period: Result<Completeness, String>,
}

impl TableExport {
    /// Finds the only export among files, and checks that it has exactly the data files that it lists.
    pub(super) fn find(files: &[InputFile]) -> Result<Self, AddError> {
        let mut summaries = files.iter().filter(|file| file.file_name() == TABLE_SUMMARY);
        let (Some(summary_file), None) = (summaries.next(), summaries.next()) else {
            return Err(AddError::Refused(format!("the input must have one {TABLE_SUMMARY}: add one export of a table at a time")));
        };
        let folder = summary_file.name.strip_suffix(TABLE_SUMMARY).unwrap_or_default();
        check_checksum(summary_file)?;
        let summary = Summary::read(summary_file)?;
        if let Some(format) = summary.output_format.as_ref().filter(|format| *format != "DYNAMODB_JSON") {
            return Err(refused(summary_file, format!("its outputFormat is {format:?}: export the table as DYNAMODB_JSON")));
        }
        let list_name = format!("{folder}{FILE_LIST}");
        let list = files.iter().find(|file| file.name == list_name);
        let list = list.ok_or_else(|| refused(summary_file, format!("there is no `{list_name}` beside it")))?;
        check_checksum(list)?;
        let mut data: BTreeMap<&str, &InputFile> =
            files.iter().filter_map(|file| Some((file.name.strip_prefix(folder)?.strip_prefix("data/")?, file))).collect();
        let mut listed_files = Vec::new();
        let mut seen = BTreeSet::new();
        for listed in read_list(list)? {
            let name = listed.key.rsplit('/').next().unwrap_or_default();
            if !seen.insert(name.to_owned()) {
                return Err(refused(list, format!("it lists `{name}` twice")));
            }
            let Some(file) = data.remove(name) else {
                return Err(refused(list, format!("it lists `{name}`, which is not in `{folder}data`")));
            };
            listed_files.push((file.clone().with_md5(listed.md5(list)?), listed.item_count));
        }
        if let Some((_, file)) = data.first_key_value() {
            return Err(refused(file, format!("`{list_name}` does not list it")));
        }
        let items = listed_files.iter().map(|(_, count)| *count).sum::<Option<u64>>();
        if let (Some(items), Some(expected)) = (items, summary.item_count)
            && items != expected
        {
            return Err(refused(summary_file, format!("its itemCount is {expected}, and the files of `{list_name}` have {items} items")));
        }
        Ok(Self { folder: folder.to_owned(), files: listed_files, period: summary.period() })
    }

    /// Returns true if a file of the input is one of the export.
    pub(super) fn has(&self, file: &InputFile) -> bool {
        let below = file.name.strip_prefix(&self.folder);
        below.is_some_and(|name| name == TABLE_SUMMARY || name == FILE_LIST || name.starts_with("data/"))
    }
}

impl Summary {
    /// Reads a summary.
    fn read(file: &InputFile) -> Result<Self, AddError> {
        let mut bytes = Vec::new();
        let opened = file.open(&Arc::new(Progress::default()));
        opened.and_then(|reader| reader.take(SUMMARY_LIMIT_BYTES).read_to_end(&mut bytes)).map_err(|cause| file.read_error(cause))?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map_err(|error| refused(file, format!("it is not a summary of an export: line {}, column {}", error.line(), error.column())))
    }

    /// Returns the period whose changes the export has, by their `lastUpdated`: from the beginning up to `exportTime`, or the period of an
    /// increment. Both ends are earlier by the time of a commit, so that increments which follow each other leave no gap.
    fn period(&self) -> Result<Completeness, String> {
        let missing = |name: &str| format!("the summary of the table's export has no {name} that is an instant with a time zone");
        let is_increment = self.export_from_time.is_some()
            || self.export_to_time.is_some()
            || self.export_type.as_ref().is_some_and(|kind| kind == "INCREMENTAL_EXPORT");
        if !is_increment {
            let up_to = self.export_time.as_deref().and_then(period_end).ok_or_else(|| missing("exportTime"))?;
            return Ok(Completeness::Period { after: BEGINNING, up_to: before_commit(up_to) });
        }
        let after = self.export_from_time.as_deref().and_then(period_start).ok_or_else(|| missing("exportFromTime"))?;
        let up_to = self.export_to_time.as_deref().and_then(period_end).ok_or_else(|| missing("exportToTime"))?;
        Ok(Completeness::Period { after: before_commit(after), up_to: before_commit(up_to) })
    }
}

/// Returns the latest `lastUpdated` whose versions are all committed at a time.
fn before_commit(time: Millis) -> Millis {
    let margin = u64::try_from(COMMIT_MARGIN.as_millis()).unwrap_or(u64::MAX);
    Millis(time.0.saturating_sub(margin))
}

/// Checks a file by the MD5 in the file beside it, if there is one. What has another form is no MD5.
fn check_checksum(file: &InputFile) -> Result<(), AddError> {
    for ending in CHECKSUM_ENDINGS {
        let Some(md5) = file.read_beside(ending, CHECKSUM_LIMIT_BYTES).as_deref().and_then(md5_from_base64) else { continue };
        let file = file.clone().with_md5(Some(md5));
        let read = file.open(&Arc::new(Progress::default())).and_then(InputReader::into_hashes);
        let (_, found) = read.map_err(|cause| file.read_error(cause))?;
        file.check_md5(found, &format!("the file .{ending} beside it"))?;
    }
    Ok(())
}

/// Reads the list of data files.
fn read_list(file: &InputFile) -> Result<Vec<ListedFile>, AddError> {
    let mut reader = BufReader::new(file.open(&Arc::new(Progress::default())).map_err(|cause| file.read_error(cause))?);
    let (mut listed, mut line, mut number) = (Vec::new(), Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        let limited = reader.by_ref().take(LIST_LINE_LIMIT_BYTES as u64).read_until(b'\n', &mut line);
        if limited.map_err(|cause| file.read_error(cause))? == 0 {
            return Ok(listed);
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        listed.push(serde_json::from_slice(&line).map_err(|_| refused(file, format!("line {number} does not describe a data file")))?);
    }
}

/// Returns the error for a file that does not fit an export of a table.
fn refused(file: &InputFile, reason: String) -> AddError {
    AddError::Input { file: file.name.clone(), reason }
}
