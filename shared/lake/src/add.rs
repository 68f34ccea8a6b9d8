//! Adds files of other formats to a lake in a directory or a bucket: Bundles, the exports of other servers, and tables of FHIR Works on AWS.
//!
//! The input is read twice: first for its content hashes, and for what references and versions need to know, then to write the lines. A
//! run has an identity from its input: the same input is not added twice, and neither is a file of it.
//!
//! References of Bundles are resolved within the input and the lake. Those of the lake that the input resolves are replaced in the lake:
//! the newest version of such a resource is written again. An older version is never written again.

mod bundles;
mod completeness;
mod entry;
mod export_files;
mod fhir_works;
mod format;
mod index;
mod input;
mod json_space;
mod known_versions;
mod lake_objects;
mod late;
mod manifest;
mod names;
mod receipt;
mod report;
mod tenant_record;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use headrace_core::vocab::clock::Millis;

use crate::progress::Progress;
use crate::writing::{
    LakeBucket, LakeLock, LockClock, RewriteSettings, Staging, WriteError, check_outside_of_bucket_lakes, check_outside_of_lakes,
    check_without_lakes, real_path, recover,
};

pub use format::InputFormat;
pub use report::{AddReport, CountedEntries, EntryExample, InputPosition, LateChanges, LeftOutReason, ReferenceCounts, WatermarkChange};

use completeness::Completeness;
use input::{ContentHash, InputFile, list_files};
use receipt::{AddedFiles, Receipt};
use tenant_record::{tenant_content, tenant_object};

/// Settings of an addition.
#[derive(Clone, Debug)]
pub struct AddSettings {
    /// The format of the input. `None` to find out.
    pub format: Option<InputFormat>,
    /// The moment up to which the lake is complete with this input, if the operator says so.
    pub complete_up_to: Option<Millis>,
    /// The versions of a table that are added.
    pub versions: TableVersions,
    /// The folder with the data of Binary resources of a table.
    pub binaries: Option<PathBuf>,
    /// The only tenant of a table that is added.
    pub tenant: Option<String>,
    /// The time, the memory and the threads.
    pub rewrite: RewriteSettings,
}

/// The versions of a table's resources that are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TableVersions {
    /// The current version of each resource.
    #[default]
    Newest,
    /// Every version.
    All,
}

/// The reason why nothing was added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The input cannot be listed.
    #[error("`{}` cannot be read", .folder.display())]
    Listing {
        /// The folder or file.
        folder: PathBuf,
        /// The error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The input and the lake are in each other.
    #[error(
        "the input `{}` and the lake `{}` must not contain each other: name another directory for the lake, or add a part of the input",
        .from.display(),
        .lake.display()
    )]
    Nested {
        /// The input.
        from: PathBuf,
        /// The lake.
        lake: PathBuf,
    },
    /// The input has no files that can be added.
    #[error(
        "`{}` has nothing to add: no file whose name ends in .json, .ndjson or .jsonl, with or without .gz or .zst", .0.display()
    )]
    NoFiles(PathBuf),
    /// A file does not have the content that its place or name indicates.
    #[error("the file `{file}` cannot be added, and nothing was added: {reason}")]
    Input {
        /// The path below the input.
        file: String,
        /// The reason, with the position.
        reason: String,
    },
    /// An object of the lake cannot be read.
    #[error(
        "the object `{object}` of the lake cannot be read, and nothing was added: {reason}; headrace lake check names all such objects"
    )]
    LakeObject {
        /// The name of the object.
        object: String,
        /// The reason.
        reason: String,
    },
    /// The input as a whole cannot be added.
    #[error("{0}; nothing was added")]
    Refused(String),
    /// The lake cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A temporary file cannot be written or read.
    #[error("temporary files in `{}` cannot be used; free space there, or set TMPDIR", .folder.display())]
    Temporary {
        /// The folder.
        folder: PathBuf,
        /// The error of the file system.
        #[source]
        cause: io::Error,
    },
}

/// Adds the files in `from` to the lake in the directory `lake`, which is created if it does not exist.
pub fn add(from: &Path, lake: &Path, settings: &AddSettings, progress: &Arc<Progress>) -> Result<AddReport, AddError> {
    check_places(from, lake)?;
    let lake = LakeLock::lock(lake)?;
    add_locked(from, &lake, settings, progress)
}

/// Adds the files in `from` to the lake in a bucket. New objects wait in the folder of temporary files until all are complete.
pub fn add_to_bucket(
    from: &Path,
    bucket: Arc<dyn LakeBucket>,
    clock: LockClock,
    settings: &AddSettings,
    progress: &Arc<Progress>,
) -> Result<AddReport, AddError> {
    // A mistake in the input is reported before the lake is locked.
    from.metadata().map_err(|cause| AddError::Listing { folder: from.to_owned(), cause })?;
    check_outside_of_bucket_lakes(bucket.as_ref())?;
    let lake = LakeLock::lock_bucket(bucket, &settings.rewrite.temp_folder, clock)?;
    add_locked(from, &lake, settings, progress)
}

/// Adds files to a lake that is locked.
pub(crate) fn add_locked(from: &Path, lake: &LakeLock, settings: &AddSettings, progress: &Arc<Progress>) -> Result<AddReport, AddError> {
    if let Some(time) = settings.complete_up_to {
        Completeness::Stated(time).check_time(settings.rewrite.now).map_err(AddError::Refused)?;
    }
    // An interrupted run that is completed now has a receipt.
    recover(lake)?;
    let files = list_files(from)?;
    let format = match settings.format {
        Some(format) => format,
        None => InputFormat::detect(&files)?,
    };
    let addition =
        Addition { from, files: &files, format, settings, progress, added: AddedFiles::read(lake)?, large_resources: Mutex::default() };
    match format {
        InputFormat::Bundles => {
            check_without_lakes(lake)?;
            addition.add_bundles(lake)
        }
        InputFormat::Ndjson => {
            check_without_lakes(lake)?;
            addition.add_export_files(lake)
        }
        InputFormat::FhirWorks => addition.add_table(lake),
    }
}

/// Checks that the input exists, that neither the input nor the lake contains the other, and that the lake is neither inside another one nor
/// around one.
fn check_places(from: &Path, lake: &Path) -> Result<(), AddError> {
    let from_path = from.canonicalize().map_err(|cause| AddError::Listing { folder: from.to_owned(), cause })?;
    let lake_path = real_path(lake);
    if from_path.starts_with(&lake_path) || lake_path.starts_with(&from_path) {
        return Err(AddError::Nested { from: from.to_owned(), lake: lake.to_owned() });
    }
    Ok(check_outside_of_lakes(lake)?)
}

/// An addition that is running.
struct Addition<'a> {
    from: &'a Path,
    files: &'a [InputFile],
    format: InputFormat,
    settings: &'a AddSettings,
    progress: &'a Arc<Progress>,
    added: AddedFiles,
    /// Lets one thread at a time hold a large resource.
    large_resources: Mutex<()>,
}

impl Addition<'_> {
    /// Returns for each file whether it must be added: it was not added before, and no file before it has the same content.
    fn new_files(&self, hashes: &[ContentHash]) -> Vec<bool> {
        let mut seen = HashSet::new();
        hashes.iter().map(|hash| !self.added.has_file(*hash) && seen.insert(*hash)).collect()
    }

    /// Returns the receipt and the report of a run over files with these hashes. The report says if the same input was added before.
    ///
    /// * `options`: everything else that the result depends on.
    fn identify_run(&self, hashes: &[ContentHash], options: &str) -> (Receipt, AddReport) {
        let receipt = Receipt::new(hashes, options);
        let report = AddReport {
            format: Some(self.format),
            run: receipt.run.clone(),
            files: self.files.len() as u64,
            is_repeat: self.added.has_run(&receipt.run),
            ..AddReport::default()
        };
        (receipt, report)
    }

    /// Returns a function that makes an error about temporary files.
    fn temporary(&self) -> impl Fn(io::Error) -> AddError + use<> {
        let folder = self.settings.rewrite.temp_folder.clone();
        move |cause| AddError::Temporary { folder: folder.clone(), cause }
    }

    /// Makes the lines of a run visible, then its receipt, and then the watermark. A repeated run has a receipt already.
    ///
    /// * `watermarks`: a folder of the lake, empty or ending in `/`, and the statement up to when it is complete.
    fn publish(
        &self,
        staging: Staging<'_>,
        lines: Vec<(String, String)>,
        receipt: &Receipt,
        watermarks: &[(String, Completeness)],
        report: &mut AddReport,
    ) -> Result<(), AddError> {
        let now = self.settings.rewrite.now;
        let mut files = lines;
        report.objects = files.len() as u64;
        for (index, (folder, tenant)) in receipt.tenants.iter().enumerate() {
            let staged = format!("tenant-{index}");
            staging.write(&staged, tenant_content(tenant).as_bytes())?;
            files.push((staged, tenant_object(folder)));
        }
        if !report.is_repeat {
            let late: u64 = report.late.iter().map(LateChanges::count).sum();
            let lines = receipt.to_lines(now, report.lost(), late);
            for (index, folder) in receipt.folders.iter().enumerate() {
                let staged = format!("receipt-{index}");
                staging.write(&staged, lines.as_bytes())?;
                files.push((staged, format!("{folder}{}", AddedFiles::receipt_name(&receipt.run))));
            }
        }
        // A synchronization that ends now must not move the watermark between the comparison and the commit.
        let names = watermarks.iter().map(|(folder, _)| receipt::watermark_name(folder));
        let _locks = names.map(|name| staging.lake().lock_watermark(&name)).collect::<Result<Vec<_>, _>>()?;
        for (index, (folder, completeness)) in watermarks.iter().enumerate() {
            let change = receipt::watermark_file(staging.lake(), folder, *completeness, now);
            if let Some(content) = &change.content {
                let staged = format!("watermark-{index}");
                staging.write(&staged, content.as_bytes())?;
                files.push((staged, receipt::watermark_name(folder)));
            }
            report.watermarks.push((folder.clone(), change.change));
        }
        if files.is_empty() {
            staging.discard()?;
        } else {
            let kept = staging.commit(&files)?;
            for (folder, change) in &mut report.watermarks {
                if kept.contains(&receipt::watermark_name(folder)) {
                    *change = WatermarkChange::KeptOfOthers;
                }
            }
        }
        Ok(())
    }

    /// Moves the watermarks after a run whose input was added before: more may be known now.
    fn publish_repeat(
        &self,
        lake: &LakeLock,
        receipt: &Receipt,
        watermarks: &[(String, Completeness)],
        mut report: AddReport,
    ) -> Result<AddReport, AddError> {
        if !watermarks.is_empty() {
            self.publish(Staging::begin(lake, &receipt.run)?, Vec::new(), receipt, watermarks, &mut report)?;
        }
        Ok(report)
    }

    /// Returns the statement of the operator about the whole lake.
    fn operator_statement(&self) -> Vec<(String, Completeness)> {
        self.settings.complete_up_to.map(|time| (String::new(), Completeness::Stated(time))).into_iter().collect()
    }
}

/// Returns the hashes of files in the order of their numbers.
fn in_order(numbered: impl IntoIterator<Item = (usize, ContentHash)>) -> Vec<ContentHash> {
    numbered.into_iter().collect::<BTreeMap<_, _>>().into_values().collect()
}

#[cfg(test)]
mod tests;
