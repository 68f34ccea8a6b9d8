//! The volume of an export, extrapolated from samples to the whole lake.

use std::collections::BTreeMap;

use crate::job::file::OutputKind;

use super::listing::{EncodingKey, Listing, StratumKey};
use super::sample::{Samples, StratumSample};

/// The volume of an export: what it would read and write. Numbers of lines and bytes are expected values, so they have fractions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volume {
    /// The number of objects.
    pub objects: u64,
    /// The number of these objects that are compressed.
    pub compressed: u64,
    /// The number of NDJSON objects that are skipped, because their names hold another type or they are empty.
    pub skipped: u64,
    /// The stored bytes of the objects.
    pub source_bytes: u64,
    /// The bytes of all lines.
    pub line_bytes: f64,
    /// The bytes of the lines that have to be decompressed.
    pub compressed_line_bytes: f64,
    /// The lines of which versions are compared.
    pub records: f64,
    /// The lines that are no resources.
    pub rejected: f64,
    /// The number of tasks that read the lake.
    pub read_tasks: u64,
    /// The files by kind.
    pub kinds: BTreeMap<OutputKind, KindVolume>,
    /// True if the whole lake is read twice.
    pub reads_twice: bool,
}

/// The volume of a kind of files.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KindVolume {
    /// Bytes.
    pub bytes: f64,
    /// Lines.
    pub lines: f64,
    /// The number of files that reading tasks fill.
    pub full_files: f64,
    /// The number of fragments that reading tasks leave.
    pub fragments: f64,
    /// The bytes of these fragments.
    pub fragment_bytes: f64,
}

impl KindVolume {
    /// Returns the number of files of this size that hold all lines.
    pub fn files(&self, file_bytes: u64) -> u64 {
        to_count((self.bytes / file_bytes.max(1) as f64).ceil()).max(u64::from(self.bytes > 0.0))
    }
}

/// Converts an expected value to a count.
#[expect(clippy::cast_possible_truncation, reason = "the value is within the range of counts, and a fraction is not counted")]
pub(super) fn to_count(value: f64) -> u64 {
    value.max(0.0).round() as u64
}

impl Volume {
    /// Extrapolates samples to the whole lake.
    ///
    /// * `file_bytes`: the size at which a file is closed.
    /// * `reads_twice`: true if the lake is read twice whatever the lines are.
    pub(super) fn new(listing: &Listing, samples: &Samples, file_bytes: u64, reads_twice: bool) -> Self {
        let (objects, source_bytes) = listing.size();
        let mut volume = Self {
            objects,
            compressed: listing.compressed(),
            skipped: listing.skipped,
            source_bytes,
            read_tasks: listing.tasks.len() as u64,
            reads_twice: reads_twice || samples.has_outdated_lines,
            ..Self::default()
        };
        let average = average(samples);
        let sample = |key: &StratumKey| samples.strata.get(key).filter(|sample| sample.line_bytes > 0).unwrap_or(&average);
        for (key, stratum) in &listing.strata {
            let sample = sample(key);
            let factor = stratum.bytes as f64 / sample.stored.max(1) as f64;
            let line_bytes = sample.line_bytes as f64 * factor;
            volume.line_bytes += line_bytes;
            volume.compressed_line_bytes += if key.1 == EncodingKey::Compressed { line_bytes } else { 0.0 };
            volume.records += sample.records as f64 * factor;
            volume.rejected += sample.rejected as f64 * factor;
            for (kind, (bytes, lines)) in &sample.output {
                let kind = volume.kinds.entry(*kind).or_default();
                kind.bytes += *bytes as f64 * factor;
                kind.lines += *lines as f64 * factor;
            }
        }
        for task in &listing.tasks {
            volume.add_task(task.iter().map(|(key, bytes)| (sample(key), *bytes)), file_bytes);
        }
        volume
    }

    /// Adds the files and fragments that a task writes, which reads these stored bytes of each stratum.
    fn add_task<'a>(&mut self, read: impl Iterator<Item = (&'a StratumSample, u64)>, file_bytes: u64) {
        let file_bytes = file_bytes.max(1) as f64;
        let mut written = BTreeMap::<OutputKind, f64>::new();
        for (sample, stored) in read {
            for (kind, (bytes, _)) in &sample.output {
                *written.entry(*kind).or_default() += *bytes as f64 * stored as f64 / sample.stored.max(1) as f64;
            }
        }
        for (kind, bytes) in written {
            let kind = self.kinds.entry(kind).or_default();
            let full = (bytes / file_bytes).floor();
            kind.full_files += full;
            kind.fragments += 1.0;
            kind.fragment_bytes += bytes - full * file_bytes;
        }
    }

    /// Returns the bytes of all files.
    pub fn output_bytes(&self) -> f64 {
        self.kinds.values().map(|kind| kind.bytes).sum()
    }

    /// Multiplies all bytes by a factor, and all lines by another. A simulation reads a lake in which a byte stands for many.
    #[must_use]
    pub fn scaled(mut self, bytes: f64, lines: f64) -> Self {
        self.source_bytes = to_count(self.source_bytes as f64 * bytes);
        self.line_bytes *= bytes;
        self.compressed_line_bytes *= bytes;
        self.records *= lines;
        self.rejected *= lines;
        for kind in self.kinds.values_mut() {
            kind.bytes *= bytes;
            kind.lines *= lines;
            kind.fragment_bytes *= bytes;
        }
        self
    }
}

/// Returns the sum of all samples, for strata of which no sample was read.
fn average(samples: &Samples) -> StratumSample {
    let mut sum = StratumSample::default();
    for sample in samples.strata.values() {
        sum.stored += sample.stored;
        sum.line_bytes += sample.line_bytes;
        sum.records += sample.records;
        sum.rejected += sample.rejected;
        for (kind, (bytes, lines)) in &sample.output {
            let (all_bytes, all_lines) = sum.output.entry(*kind).or_default();
            (*all_bytes, *all_lines) = (*all_bytes + bytes, *all_lines + lines);
        }
    }
    sum
}
