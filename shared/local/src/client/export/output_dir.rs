//! The output directory of an export: it is empty, or may be overwritten.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use headrace_lake::writing::OWN_FOLDER;

use crate::client::earlier_export::EarlierExport;
use crate::client::folder::{ExportFolder, STATE_FOLDER};
use crate::client::out_dir::{create_out_dir, is_state_folder};
use crate::client::out_manifest::MANIFEST_FILE;

use super::error::ExportCommandError;

/// Name of the folder in the output directory with the resources that were fetched by searches. It is deleted after the export.
pub(super) const LAKE_FOLDER: &str = ".headrace-lake";

/// The folders of the output directory into which an export writes.
const WRITTEN_FOLDERS: [&str; 4] = ["deleted", "error", STATE_FOLDER, LAKE_FOLDER];

/// Fails if a folder of the output directory is a link: what is exported would be elsewhere, and stay there.
pub(super) fn check_links(out: &Path) -> Result<(), ExportCommandError> {
    let is_link = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    let link = WRITTEN_FOLDERS.into_iter().map(|name| out.join(name)).find(is_link);
    link.map_or(Ok(()), |link| Err(ExportCommandError::Link(link)))
}

/// Creates the output directory, and fails if it is not empty and must not be overwritten.
pub(super) fn prepare_output_dir(out: &Path, overwrite: bool) -> Result<(), ExportCommandError> {
    create_out_dir(out)?;
    check_output_dir(out, overwrite)
}

/// Fails if the output directory exists, is not empty and must not be overwritten, or cannot be that of an export. Changes nothing.
pub(super) fn check_output_dir(out: &Path, overwrite: bool) -> Result<(), ExportCommandError> {
    let unusable = |cause| ExportCommandError::Out { path: out.to_owned(), cause };
    check_links(out)?;
    if out.join(OWN_FOLDER).is_dir() {
        return Err(ExportCommandError::Lake(out.to_owned()));
    }
    let earlier = match EarlierExport::read(out, ExportFolder::unfinished_files(out)) {
        Ok(earlier) => earlier,
        Err(error) if error.kind() == io::ErrorKind::InvalidData && overwrite => {
            return Err(ExportCommandError::ForeignFile(out.join(MANIFEST_FILE)));
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(ExportCommandError::NotEmpty(out.to_owned())),
        Err(cause) => return Err(unusable(cause)),
    };
    if overwrite {
        let foreign = earlier.foreign_file(out).map_err(unusable)?;
        return foreign.map_or(Ok(()), |file| Err(ExportCommandError::ForeignFile(out.join(file))));
    }
    if ExportFolder::holds_unfinished(out) {
        return Err(ExportCommandError::Unfinished(out.to_owned()));
    }
    let entries = match std::fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(unusable(cause)),
    };
    // An export that was never accepted leaves only its folder, and one that was killed its state.
    let mut names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    let is_left_over = |name: OsString| name == STATE_FOLDER || name == LAKE_FOLDER || is_state_folder(&name);
    if names.all(is_left_over) { Ok(()) } else { Err(ExportCommandError::NotEmpty(out.to_owned())) }
}
