//! NDJSON lakes for tests and benchmarks: the shipped samples, their generators, and a multiplier.
//!
//! This module is simple, blocking and independent of the code under test, so that tests can use it as an oracle.
//! The program `lake` (`tests/src/bin/lake.rs`) offers the same on the command line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub mod broken;
mod compression;
pub mod generated;
mod json;
pub mod multiply;
pub mod sample;
pub mod synthea_bundles;
#[cfg(test)]
mod tests;

pub use compression::Compression;
pub use multiply::multiply;

/// Byte order mark, which some tools write at the start of a file.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Error of reading, writing or multiplying a lake.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// Input/output error.
    #[error("cannot read or write {path}")]
    File {
        /// Affected file or folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        cause: io::Error,
    },
    /// Lake without NDJSON files.
    #[error("no .ndjson, .ndjson.gz or .ndjson.zst file under {0}")]
    Empty(PathBuf),
    /// Target folder that is not empty.
    #[error("{0} is not an empty folder")]
    Occupied(PathBuf),
    /// Two files of a lake that would get the same name.
    #[error("two files of the lake would both become {0}")]
    SameName(PathBuf),
    /// Id that has too few replacements of the same length for the number of copies.
    #[error("there are not enough ids of the length of '{0}' for this number of copies")]
    IdsExhausted(String),
}

impl LakeError {
    /// Returns a function for `map_err` that adds the path to an I/O error.
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self::File { path, cause }
    }
}

/// Returns the folder of the sample lake.
pub fn sample_lake_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join("lake")
}

/// Returns the folder of the sample lake with invalid lines. [`broken::bad_lines`] lists those.
pub fn broken_lake_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join("broken")
}

/// Returns the folder of the Synthea sample: two synthetic patients in 162 resources of 13 types.
pub fn synthea_lake_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join("synthea")
}

/// Returns the folder of a larger lake, `../shared/data/<name>` beside the workspace. The repository does not contain it, so only
/// ignored tests use it.
pub fn external_lake_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name)
}

/// Lists the NDJSON files below `dir` at any depth, as sorted relative paths. Other files are ignored.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>, LakeError> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(LakeError::at(&folder))? {
            let path = entry.map_err(LakeError::at(&folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if Compression::from_path(&path).is_some()
                && let Ok(relative) = path.strip_prefix(dir)
            {
                files.push(relative.to_path_buf());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Reads all lines of a lake that are not blank, decompressed, without line endings and byte order marks.
///
/// A system export of a valid lake must consist of exactly these lines.
pub fn lines(dir: &Path) -> Result<Vec<Vec<u8>>, LakeError> {
    let mut all = Vec::new();
    for file in files(dir)? {
        each_line(&dir.join(file), |raw, _| {
            let line = trim_line(raw);
            if !is_blank(line) {
                all.push(line.to_vec());
            }
            Ok(())
        })?;
    }
    Ok(all)
}

/// Number of lines and bytes of one resource type.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Number of lines that are not blank.
    pub lines: u64,
    /// Number of bytes in those lines, with one newline each.
    pub bytes: u64,
}

/// Counts lines and bytes per resource type. Lines without a type count under the empty name.
pub fn count(dir: &Path) -> Result<BTreeMap<String, Tally>, LakeError> {
    let mut tallies = BTreeMap::<String, Tally>::new();
    for file in files(dir)? {
        each_line(&dir.join(file), |raw, _| {
            let line = trim_line(raw);
            if !is_blank(line) {
                let head = ResourceHead::parse(line).unwrap_or_default();
                let tally = tallies.entry(head.resource_type.map_or_else(String::new, |kind| kind.0.into_owned())).or_default();
                tally.lines += 1;
                tally.bytes += line.len() as u64 + 1;
            }
            Ok(())
        })?;
    }
    Ok(tallies)
}

/// Top-level members that every resource has.
#[derive(Debug, Default, Deserialize)]
struct ResourceHead<'a> {
    #[serde(borrow, rename = "resourceType")]
    resource_type: Option<Text<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
}

/// String that is borrowed from the line if it has no escapes. Serde would always copy an `Option<Cow<str>>`.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> ResourceHead<'a> {
    /// Parses a line. Returns `None` if it is not a JSON object or has one of the members twice.
    fn parse(line: &'a [u8]) -> Option<Self> {
        // Serde would also accept an array, as the members in their order.
        let first = line.iter().find(|byte| !byte.is_ascii_whitespace());
        (first == Some(&b'{')).then(|| serde_json::from_slice(line).ok()).flatten()
    }
}

/// Calls `visit` with every line of a file, without its newline. The flag is true if the line ended with a newline.
fn each_line(path: &Path, mut visit: impl FnMut(&[u8], bool) -> Result<(), LakeError>) -> Result<(), LakeError> {
    let mut reader = compression::open(path).map_err(LakeError::at(path))?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(LakeError::at(path))? == 0 {
            return Ok(());
        }
        match line.strip_suffix(b"\n") {
            Some(line) => visit(line, true)?,
            None => visit(&line, false)?,
        }
    }
}

/// Removes a byte order mark and a trailing CR.
fn trim_line(line: &[u8]) -> &[u8] {
    let line = line.strip_prefix(BOM).unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Returns true if the line is empty or consists of whitespace.
fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Returns an error if the folder exists and is not empty.
fn check_is_empty(dir: &Path) -> Result<(), LakeError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(LakeError::Occupied(dir.to_path_buf())),
        },
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(LakeError::File { path: dir.to_path_buf(), cause }),
    }
}
