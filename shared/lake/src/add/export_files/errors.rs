//! The errors of an export: OperationOutcomes in the files that its manifest lists under `error`. One of severity error or fatal says that
//! the server could not export something.

use std::sync::{Arc, Mutex};

use headrace_core::lake::ndjson::{Segment, lines};
use headrace_core::vocab::plural::counted;
use headrace_fhir::searchset::reports_error;

use super::read_segments;
use crate::add::input::InputFile;
use crate::add::manifest::Manifest;
use crate::add::{AddError, Addition};

/// The folder of errors of `headrace export` and of other programs.
const ERROR_FOLDER: &str = "error";

/// Returns true if a file has errors of the export, and no resources.
pub(super) fn is_error_file(manifest: Option<&Manifest>, file: &InputFile) -> bool {
    file.name.split('/').any(|segment| segment == ERROR_FOLDER) || manifest.is_some_and(|manifest| manifest.lists_error(file.file_name()))
}

impl Addition<'_> {
    /// Checks that the files with errors of the export are there, and that they have warnings and information only.
    pub(super) fn check_errors(&self, manifest: &Manifest) -> Result<(), String> {
        let files: Vec<&InputFile> = self.files.iter().filter(|file| is_error_file(Some(manifest), file)).collect();
        if let Some(name) = manifest.missing_error_file(&files) {
            return Err(format!("the manifest lists errors of the export in `{name}`, which is not among the files"));
        }
        for file in files {
            let errors = count_errors(file, &self.large_resources);
            let errors = errors.map_err(|_| format!("the errors of the export in `{}` cannot be read", file.name))?;
            if errors > 0 {
                let errors = counted(errors, "error", "errors");
                return Err(format!("the server reports {errors} in `{}`, so the export may not have everything", file.name));
            }
        }
        Ok(())
    }
}

/// Counts the lines of a file that report an error, or that are no OperationOutcomes.
fn count_errors(file: &InputFile, large_resources: &Mutex<()>) -> Result<u64, AddError> {
    let mut errors = 0;
    read_segments(file, &Arc::default(), large_resources, |segment| {
        errors += match segment {
            Segment::OverlongLine { .. } => 1,
            Segment::Lines { offset, bytes } => lines(bytes, *offset).filter(|line| !line.is_blank() && is_error(line.text)).count() as u64,
        };
        Ok(())
    })?;
    Ok(errors)
}

/// Returns true for a line that reports an error, or that is not text.
fn is_error(line: &[u8]) -> bool {
    match std::str::from_utf8(line) {
        Ok(text) => reports_error(text),
        Err(_) => true,
    }
}
