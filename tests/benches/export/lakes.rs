//! Lakes of a wanted size.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use headrace_tests::lake::{self, Packing, multiply};

use crate::BoxError;

/// What was made.
pub(crate) struct Made {
    from: &'static str,
    times: u64,
    bytes: u64,
    resources: u64,
}

impl Made {
    /// Its size unpacked.
    pub(crate) fn megabytes(&self) -> u64 {
        self.bytes / 1_000_000
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        write!(f, "lake: {} MB, {} resources ({} x {}); {cores} cores", self.megabytes(), self.resources, self.from, self.times)
    }
}

/// Makes a lake of about `bytes`, counted unpacked.
pub(crate) fn make(to: &Path, bytes: u64, packing: Packing) -> Result<Made, BoxError> {
    let (from, dir) = match lake::hundred_patients() {
        Some(dir) => ("100-patients", dir),
        None => ("the shipped sample", lake::sample_dir()),
    };
    let once: u64 = lake::count(&dir)?.values().map(|tally| tally.bytes).sum();
    let times = (bytes + once / 2).checked_div(once).unwrap_or_default().max(1);
    let written = multiply(&dir, to, u32::try_from(times)?, packing)?;
    Ok(Made { from, times, bytes: written.bytes, resources: written.lines })
}

/// The size of all files together, as stored.
pub(crate) fn stored_bytes(dir: &Path) -> Result<u64, BoxError> {
    let sizes = lake::files(dir)?.into_iter().map(|file| Ok(fs::metadata(dir.join(file))?.len()));
    sizes.sum()
}

/// The `meta.lastUpdated` that half of the lake's bytes are newer than, judged by every hundredth line.
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

/// Types with about half of the lake's bytes, the smallest types first.
pub(crate) fn half_of_the_types(dir: &Path) -> Result<String, BoxError> {
    let mut types: Vec<(u64, String)> = lake::count(dir)?.into_iter().map(|(kind, tally)| (tally.bytes, kind)).collect();
    types.sort_unstable();
    let half = types.iter().map(|(bytes, _)| bytes).sum::<u64>() / 2;
    let mut passed = 0;
    let first: Vec<String> = types
        .into_iter()
        .take_while(|(bytes, _)| {
            let fits = passed < half;
            passed += bytes;
            fits
        })
        .map(|(_, kind)| kind)
        .collect();
    Ok(first.join(","))
}
