//! Generation of lakes of a given size.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use headrace_tests::lake::{self, Compression, multiply};

use crate::BoxError;

/// Properties of a generated lake.
pub(crate) struct GeneratedLake {
    source: String,
    copies: u64,
    bytes: u64,
    resources: u64,
}

impl GeneratedLake {
    /// Returns the size before compression.
    pub(crate) fn megabytes(&self) -> u64 {
        self.bytes / 1_000_000
    }
}

impl fmt::Display for GeneratedLake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        write!(f, "lake: {} MB, {} resources ({} x {}); {cores} cores", self.megabytes(), self.resources, self.source, self.copies)
    }
}

/// Generates a lake of about `bytes` before compression, by multiplying the lake in `source`.
pub(crate) fn generate(source: &Path, to: &Path, bytes: u64, compression: Compression) -> Result<GeneratedLake, BoxError> {
    let source_bytes: u64 = lake::count(source)?.values().map(|tally| tally.bytes).sum();
    let copies = (bytes + source_bytes / 2).checked_div(source_bytes).unwrap_or_default().max(1);
    let written = multiply(source, to, u32::try_from(copies)?, compression)?;
    let shown =
        source.strip_prefix(env!("CARGO_MANIFEST_DIR")).map_or_else(|_| source.to_owned(), |inside| Path::new("tests").join(inside));
    Ok(GeneratedLake { source: shown.display().to_string(), copies, bytes: written.bytes, resources: written.lines })
}

/// Returns the total size of all files as stored.
pub(crate) fn stored_bytes(dir: &Path) -> Result<u64, BoxError> {
    let sizes = lake::files(dir)?.into_iter().map(|file| Ok(fs::metadata(dir.join(file))?.len()));
    sizes.sum()
}

/// Returns the median `meta.lastUpdated`, weighted by the size of lines. Samples every hundredth line.
pub(crate) fn middle_instant(dir: &Path) -> Result<String, BoxError> {
    let mut seen: Vec<(String, usize)> = Vec::new();
    for file in lake::files(dir)? {
        for line in BufReader::new(File::open(dir.join(file))?).lines().step_by(100) {
            let line = line?;
            if let Some((_, rest)) = line.split_once(r#""lastUpdated":""#)
                && let Some((instant, _)) = rest.split_once('"')
            {
                seen.push((instant.to_owned(), line.len()));
            }
        }
    }
    seen.sort_unstable();
    let half = seen.iter().map(|(_, bytes)| bytes).sum::<usize>() / 2;
    let mut passed = 0;
    let middle = seen.into_iter().find(|(_, bytes)| {
        passed += bytes;
        passed >= half
    });
    middle.map(|(instant, _)| instant).ok_or_else(|| "no line of the lake has a meta.lastUpdated".into())
}

/// Returns types with about half of the lake's bytes, smallest types first, as the value of `_type`.
pub(crate) fn half_of_the_types(dir: &Path) -> Result<String, BoxError> {
    let mut types: Vec<(u64, String)> = lake::count(dir)?.into_iter().map(|(kind, tally)| (tally.bytes, kind)).collect();
    types.sort_unstable();
    let half = types.iter().map(|(bytes, _)| bytes).sum::<u64>() / 2;
    let mut passed = 0;
    let selected: Vec<String> = types
        .into_iter()
        .take_while(|(bytes, _)| {
            let fits = passed < half;
            passed += bytes;
            fits
        })
        .map(|(_, kind)| kind)
        .collect();
    Ok(selected.join(","))
}
