//! The list of a complete export's files, from which its manifest is built.
//!
//! It is stored in parts when the job completes: one for each page of the manifest, and one with the files of `error`, which every page has. So
//! a page is one read, however many files the export has.

use super::file::{OutputFile, OutputFileName, OutputKind};
use crate::vocab::error::StoreError;

/// The maximum number of `output` and `deleted` files on a page of the manifest. This leaves 1.2 kB of
/// [`crate::output::manifest::MAX_MANIFEST_BYTES`] for each, several times the length of a file's URL.
pub const FILES_PER_PAGE: usize = 5_000;

/// The number of the part with the files of `error`. The parts with the files of the pages have the numbers of the pages, from 1.
pub const ERROR_PART: u32 = 0;

/// Returns the error for a complete job whose list was not stored.
pub fn missing_list() -> StoreError {
    StoreError::Unreadable { store: "the job table", detail: "a complete export without a list of its files".to_owned() }
}

/// A file in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// The name.
    pub name: OutputFileName,
    /// The number of lines.
    pub lines: u64,
}

impl From<&OutputFile> for ListedFile {
    fn from(file: &OutputFile) -> Self {
        Self { name: file.name, lines: file.summary.lines }
    }
}

/// A part of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileListPart {
    /// The number: [`ERROR_PART`], or that of a page.
    pub number: u32,
    /// The files, sorted by kind and number.
    pub files: Vec<ListedFile>,
}

impl FileListPart {
    /// Divides files into the parts of a list. The part of `error` is always there, so that a list without it was not stored.
    pub fn from_files(files: &[OutputFile]) -> Vec<Self> {
        let mut listed: Vec<ListedFile> = files.iter().map(ListedFile::from).collect();
        listed.sort_unstable_by_key(|file| file.name);
        let (errors, others): (Vec<_>, Vec<_>) = listed.into_iter().partition(|file| file.name.kind == OutputKind::Error);
        let pages = (ERROR_PART + 1..).zip(others.chunks(FILES_PER_PAGE)).map(|(number, files)| Self { number, files: files.to_vec() });
        std::iter::once(Self { number: ERROR_PART, files: errors }).chain(pages).collect()
    }

    /// Returns the stored text: a line for each file, with its name and the number of its lines.
    pub fn text(&self) -> String {
        self.files.iter().map(|file| format!("{} {}\n", file.name, file.lines)).collect()
    }

    /// Parses the output of [`Self::text`]. Returns `None` for any other text.
    pub fn parse(number: u32, text: &str) -> Option<Self> {
        let parse = |line: &str| {
            let (name, lines) = line.split_once(' ')?;
            Some(ListedFile { name: OutputFileName::parse(name)?, lines: lines.parse().ok()? })
        };
        Some(Self { number, files: text.lines().map(parse).collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use headrace_fhir::definitions::ResourceType;

    use super::*;
    use crate::job::file::FileSummary;

    fn file(kind: OutputKind, number: u32) -> OutputFile {
        let summary = FileSummary { bytes: 1, lines: u64::from(number) * 7, crc64: 3 };
        OutputFile { name: OutputFileName { kind, number }, summary }
    }

    #[test]
    fn a_list_has_the_pages_of_the_manifest_and_fits_into_small_items() {
        let longest = ResourceType::all().max_by_key(|kind| kind.as_str().len()).unwrap();
        let mut files: Vec<_> = (1..=12_001).rev().map(|number| file(OutputKind::Output(longest), number)).collect();
        files.extend([file(OutputKind::Error, 2), file(OutputKind::Deleted, 1), file(OutputKind::Error, 1)]);
        let parts = FileListPart::from_files(&files);
        assert_eq!(
            parts.iter().map(|part| (part.number, part.files.len())).collect::<Vec<_>>(),
            [(0, 2), (1, 5_000), (2, 5_000), (3, 2_002)]
        );
        for part in &parts {
            assert!(part.text().len() < 390_000, "an item of DynamoDB has at most 400 kB");
            assert_eq!(FileListPart::parse(part.number, &part.text()).as_ref(), Some(part));
            assert!(part.files.is_sorted_by_key(|file| file.name));
        }
        assert_eq!(FileListPart::from_files(&[]).iter().map(|part| part.files.len()).collect::<Vec<_>>(), [0]);
        assert_eq!(FileListPart::parse(1, "Patient-1.ndjson\n"), None);
    }
}
