//! Lakes of NDJSON for tests and benchmarks: the shipped ones, the generator behind them, and a multiplier.
//!
//! Everything here is blocking, simple and independent of the code under test, so it can serve as its oracle.
//! The program `lake` (`tests/src/bin/lake.rs`) is the same from a shell.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub mod broken;
mod codec;
mod json;
pub mod multiply;
pub mod sample;
#[cfg(test)]
mod tests;

pub use codec::Packing;
pub use multiply::multiply;

/// A byte order mark, which some tools leave at the start of a file.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Why a lake could not be read, written or multiplied.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The file system refused.
    #[error("cannot read or write {path}")]
    File {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// No NDJSON file was found.
    #[error("no .ndjson, .ndjson.gz or .ndjson.zst file under {0}")]
    Empty(PathBuf),
    /// The destination already holds something.
    #[error("{0} is not an empty folder")]
    Occupied(PathBuf),
    /// Two files of a lake would get the same name.
    #[error("two files of the lake would both become {0}")]
    SameName(PathBuf),
    /// There are not enough ids of that length for so many copies.
    #[error("no fresh id of the length of '{0}' is left")]
    NoFreshId(String),
}

impl LakeError {
    /// For `map_err`: an I/O error together with its path.
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self::File { path, cause }
    }
}

/// The lake that the repository ships.
pub fn sample_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join("lake")
}

/// The shipped lake of good lines among lines that are no resources; [`broken::bad_lines`] lists the latter.
pub fn broken_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join("broken")
}

/// `../shared/data/10-patients` beside the workspace (2,523 resources in 16 types), where present.
pub fn ten_patients() -> Option<PathBuf> {
    beside("10-patients")
}

/// `../shared/data/100-patients` beside the workspace (27,861 resources in 16 types), where present.
pub fn hundred_patients() -> Option<PathBuf> {
    beside("100-patients")
}

fn beside(name: &str) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let folder = workspace.parent()?.join("shared").join("data").join(name);
    folder.is_dir().then_some(folder)
}

/// Every NDJSON file under `dir`, at any depth, relative to it, in order of name. Other files are not part of a lake.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>, LakeError> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(LakeError::at(&folder))? {
            let path = entry.map_err(LakeError::at(&folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if Packing::of(&path).is_some()
                && let Ok(relative) = path.strip_prefix(dir)
            {
                found.push(relative.to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// All lines of all files of a lake that are not blank: unpacked, without line ending, CR and byte order mark.
///
/// The simple and slow oracle for exports: of a sound lake, these are the lines that must come out, byte for byte.
pub fn lines(dir: &Path) -> Result<Vec<Vec<u8>>, LakeError> {
    let mut all = Vec::new();
    for file in files(dir)? {
        each_line(&dir.join(file), |raw, _| {
            let line = bare(raw);
            if !is_blank(line) {
                all.push(line.to_vec());
            }
            Ok(())
        })?;
    }
    Ok(all)
}

/// Lines and bytes of one resource type.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Lines that are not blank.
    pub lines: u64,
    /// Their bytes, one for each newline included.
    pub bytes: u64,
}

/// Lines and bytes per resource type; what has no type is counted under the empty name.
pub fn count(dir: &Path) -> Result<BTreeMap<String, Tally>, LakeError> {
    let mut tallies = BTreeMap::<String, Tally>::new();
    for file in files(dir)? {
        each_line(&dir.join(file), |raw, _| {
            let line = bare(raw);
            if !is_blank(line) {
                let head = Head::of(line).unwrap_or_default();
                let tally = tallies.entry(head.resource_type.map_or_else(String::new, |kind| kind.0.into_owned())).or_default();
                tally.lines += 1;
                tally.bytes += line.len() as u64 + 1;
            }
            Ok(())
        })?;
    }
    Ok(tallies)
}

/// The two top-level members that make a line a resource.
#[derive(Debug, Default, Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "resourceType")]
    resource_type: Option<Text<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
}

/// A string, borrowed from the line if it has no escapes; serde would always copy a bare `Option<Cow<str>>`.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Head<'a> {
    /// `None` if the line is not a JSON object or names one of the two twice.
    fn of(line: &'a [u8]) -> Option<Self> {
        // Without this, serde would take an array for the members in their order.
        let first = line.iter().find(|byte| !byte.is_ascii_whitespace());
        (first == Some(&b'{')).then(|| serde_json::from_slice(line).ok()).flatten()
    }
}

/// Hands every line of a file, without its newline but otherwise as it is, to `take`; the flag says whether a newline
/// followed it.
fn each_line(path: &Path, mut take: impl FnMut(&[u8], bool) -> Result<(), LakeError>) -> Result<(), LakeError> {
    let mut reader = codec::open(path).map_err(LakeError::at(path))?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(LakeError::at(path))? == 0 {
            return Ok(());
        }
        match line.strip_suffix(b"\n") {
            Some(line) => take(line, true)?,
            None => take(&line, false)?,
        }
    }
}

/// A line without byte order mark and CR.
fn bare(line: &[u8]) -> &[u8] {
    let line = line.strip_prefix(BOM).unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Refuses a destination that holds anything; one that does not exist is fine.
fn must_be_empty(dir: &Path) -> Result<(), LakeError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(LakeError::Occupied(dir.to_path_buf())),
        },
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(LakeError::File { path: dir.to_path_buf(), cause }),
    }
}
