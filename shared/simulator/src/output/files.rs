//! The files of the destination.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headrace_core::job::file::{FileName, FileSummary, OutputKind};
use headrace_core::job::folder::Folder;
use headrace_core::vocab::error::StoreError;

use crate::lake::line_number;
use crate::lock;
use crate::scale::Scale;

/// The name of the store in errors.
pub(super) const STORE: &str = "the destination";

/// The files of all jobs. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Destination(Arc<Mutex<BTreeMap<String, StoredFile>>>);

/// A file.
#[derive(Clone, Debug)]
pub(super) struct StoredFile {
    pub(super) summary: FileSummary,
    pub(super) content: Content,
}

/// The content of a file.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// The bytes of a fragment.
    Bytes(Bytes),
    /// The lines of an output file, which the service never reads again.
    Lines(StoredLines),
}

/// The numbers of the lines in an output file.
#[derive(Clone, Debug, Default)]
pub struct StoredLines {
    /// The numbers.
    pub numbers: Arc<Vec<u32>>,
    /// The number of lines that are not lines of the lake.
    pub others: u64,
}

impl StoredLines {
    /// Reads the numbers of lines.
    fn from_bytes(bytes: &Bytes) -> Self {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let (mut numbers, mut others) = (Vec::new(), 0);
        for line in lines {
            match line_number(line) {
                Some(number) => numbers.push(number),
                None => others += 1,
            }
        }
        Self { numbers: Arc::new(numbers), others }
    }
}

/// Returns the path of a file.
pub(super) fn path(folder: &Folder, name: &FileName) -> String {
    format!("{}/{name}", folder.path)
}

/// Returns the number of real bytes for which one byte of a file stands.
pub(super) fn weight(kind: OutputKind, scale: Scale) -> u64 {
    match kind {
        OutputKind::Output(_)
        | OutputKind::Deleted
        | OutputKind::Error
        | OutputKind::PatientBlocks
        | OutputKind::UnreportedDeletions
        | OutputKind::PatientPages
        | OutputKind::SyncRecords
        | OutputKind::SyncProgress
        | OutputKind::Bucket(_) => scale.bytes,
        OutputKind::VersionRecords
        | OutputKind::MergedVersionRecords
        | OutputKind::Links
        | OutputKind::Corrections
        | OutputKind::MergedCorrections
        | OutputKind::PatientSet => scale.lines,
    }
}

/// Returns the kind of a file.
pub(super) fn kind(name: &FileName) -> OutputKind {
    match name {
        FileName::Output(name) | FileName::Overwrite(name) => name.kind,
        FileName::Fragment(name) => name.kind,
    }
}

impl Destination {
    /// Stores a file under its name, with the condition that rule P4 requires.
    pub(super) fn put(&self, folder: &Folder, name: FileName, bytes: Bytes, summary: FileSummary) -> Result<(), StoreError> {
        let content = match name {
            FileName::Fragment(_) => Content::Bytes(bytes),
            FileName::Output(_) | FileName::Overwrite(_) => Content::Lines(StoredLines::from_bytes(&bytes)),
        };
        let mut files = lock(&self.0);
        let path = path(folder, &name);
        match (files.get(&path), name) {
            (Some(existing), FileName::Output(_)) if existing.summary != summary => Err(StoreError::Stale),
            _ => {
                files.insert(path, StoredFile { summary, content });
                Ok(())
            }
        }
    }

    /// Stores the content of a file under a name, instead of the file that has it.
    pub(super) fn replace(&self, folder: &Folder, name: FileName, content: Content, summary: FileSummary) {
        lock(&self.0).insert(path(folder, &name), StoredFile { summary, content });
    }

    /// Returns a file.
    pub(super) fn get(&self, folder: &Folder, name: &FileName) -> Option<StoredFile> {
        lock(&self.0).get(&path(folder, name)).cloned()
    }

    /// Returns the lines of an output file. `None` if it does not exist.
    pub fn output_lines(&self, folder: &Folder, name: FileName) -> Option<(FileSummary, StoredLines)> {
        match self.get(folder, &name)? {
            StoredFile { summary, content: Content::Lines(lines) } => Some((summary, lines)),
            StoredFile { content: Content::Bytes(_), .. } => None,
        }
    }

    /// Returns the paths of all files in a folder.
    pub fn paths(&self, folder: &Folder) -> Vec<String> {
        let prefix = format!("{}/", folder.path);
        lock(&self.0).range(prefix.clone()..).map(|(path, _)| path).take_while(|path| path.starts_with(&prefix)).cloned().collect()
    }

    /// Deletes files.
    pub(super) fn delete(&self, paths: &[String]) {
        let mut files = lock(&self.0);
        paths.iter().for_each(|path| drop(files.remove(path)));
    }
}
