//! Samples of the lake: what an export would write of a part of the lines.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::job::ExportError;
use crate::job::file::OutputKind;
use crate::job::task::Encoding;
use crate::lake::ndjson::{Segment, lines};
use crate::lake::reader::{LineReader, ReadRequest};
use crate::lines::line_processor::{LineOutput, LineProcessor};
use crate::ports::{ByteStream, Clock, ResourceSource};
use crate::versions::record::{LinePosition, VersionLog, VersionRecord};
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;

use super::listing::{EncodingKey, Listing, SampleObject, Stratum, StratumKey};

/// The number of samples into which the sampled bytes are divided.
const SAMPLES: u64 = 128;

/// The fewest samples of a stratum that has as many objects.
const SAMPLES_OF_STRATUM: usize = 2;

/// The ratio by which compressed objects count more, because their lines are longer than the stored bytes.
const COMPRESSED_WEIGHT: u64 = 8;

/// The fewest stored bytes of a sample of a compressed object: Zstandard compresses 128 KiB at a time, and a part of such a block cannot be
/// decompressed.
const LEAST_COMPRESSED_BYTES: u64 = 256 << 10;

/// The number of samples that are read concurrently.
const CONCURRENT_READS: usize = 8;

/// The counts of the samples of a stratum.
#[derive(Clone, Debug, Default)]
pub(super) struct StratumSample {
    /// The stored bytes that were read.
    pub(super) stored: u64,
    /// The bytes of the lines.
    pub(super) line_bytes: u64,
    /// The lines of which versions are compared.
    pub(super) records: u64,
    /// The lines that are no resources.
    pub(super) rejected: u64,
    /// The bytes and lines that are written, by kind of file.
    pub(super) output: BTreeMap<OutputKind, (u64, u64)>,
}

/// The counts of all samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    pub(super) strata: BTreeMap<StratumKey, StratumSample>,
    /// True if the whole lake was read.
    pub(super) is_whole: bool,
    /// True if a line that a first reading exports is not the current version, so that the lake is read again.
    pub(super) has_outdated_lines: bool,
    /// The time of processing the lines.
    pub(super) processing: Duration,
}

/// A version of a resource, and what is written if it is the current one.
struct SampledVersion {
    record: VersionRecord,
    stratum: StratumKey,
    /// The kind of file, and the bytes of the line. `None` if nothing is written.
    output: Option<(OutputKind, u64)>,
}

/// Reads samples until the time is up. `sample_bytes` are read, and all of a lake that is not larger.
pub(super) async fn read_samples(
    (source, clock): (&impl ResourceSource, &impl Clock),
    listing: &Listing,
    processor: &mut LineProcessor,
    (sample_bytes, until): (u64, Millis),
) -> Result<Samples, ExportError> {
    let (planned, is_whole) = plan_samples(listing, sample_bytes);
    let reads = planned.into_iter().map(|(key, object, range)| read_sample(source, key, object, (range, sample_bytes)));
    let mut reads = stream::iter(reads).buffered(CONCURRENT_READS);
    let mut counter = SampleCounter::default();
    let mut samples = Samples { is_whole, ..Samples::default() };
    while let Some(read) = reads.next().await {
        let Some(sample) = read? else {
            samples.is_whole = false;
            continue;
        };
        samples.is_whole &= !sample.is_cut;
        let started = clock.now();
        counter.add(processor, &sample);
        samples.processing += clock.now().since(started);
        if clock.now() >= until {
            samples.is_whole = false;
            break;
        }
    }
    Ok(counter.into_samples(samples))
}

/// Chooses the objects and ranges to read. Returns them, and whether they are the whole lake.
fn plan_samples(listing: &Listing, sample_bytes: u64) -> (Vec<(StratumKey, SampleObject, Range<u64>)>, bool) {
    let weight = |encoding: EncodingKey| if encoding == EncodingKey::Compressed { COMPRESSED_WEIGHT } else { 1 };
    let weighted = |(key, stratum): (&StratumKey, &Stratum)| stratum.bytes.saturating_mul(weight(key.1));
    let total: u64 = listing.strata.iter().map(weighted).sum();
    let is_whole = listing.is_complete && total <= sample_bytes && listing.strata.values().all(Stratum::is_complete);
    let mut planned = Vec::new();
    for (key, stratum) in &listing.strata {
        let share = u128::from(weighted((key, stratum))) * u128::from(SAMPLES) / u128::from(total.max(1));
        let count = if is_whole { usize::MAX } else { usize::try_from(share).unwrap_or(usize::MAX).max(SAMPLES_OF_STRATUM) };
        let least = if key.1 == EncodingKey::Compressed { LEAST_COMPRESSED_BYTES } else { 1 };
        let length = if is_whole { u64::MAX } else { (sample_bytes / SAMPLES / weight(key.1)).max(least) };
        let samples = stratum.kept.iter().take(count).map(|object| (*key, object.clone(), sample_range(object, length)));
        planned.extend((0_usize..).zip(samples));
    }
    // If the time is up, all strata have about the same part of their samples.
    planned.sort_by_key(|(turn, _)| *turn);
    (planned.into_iter().map(|(_, sample)| sample).collect(), is_whole)
}

/// Returns the part of an object that is read: all of it, or a part somewhere within a plain object, or the beginning of a compressed one.
fn sample_range(object: &SampleObject, length: u64) -> Range<u64> {
    let size = object.pin.size;
    if length >= size {
        return 0..size;
    }
    match object.encoding {
        Encoding::Plain => {
            let start = object.order() % (size - length);
            start..start + length
        }
        Encoding::Gzip | Encoding::Zstd => 0..length,
    }
}

/// A sample that was read.
struct ReadSample {
    key: StratumKey,
    /// The stored bytes.
    stored: u64,
    /// True if the object arrived after `_since`.
    is_new: bool,
    /// The lines.
    blocks: Vec<Bytes>,
    /// True if the lines are not all of the range, because they are too many.
    is_cut: bool,
}

/// Reads the lines of a sample. Returns `None` if the object was changed since it was listed.
///
/// * `limit`: the most bytes of the lines of a compressed object. It may be compressed so well that its lines do not fit into memory.
async fn read_sample(
    source: &impl ResourceSource,
    key: StratumKey,
    object: SampleObject,
    (range, limit): (Range<u64>, u64),
) -> Result<Option<ReadSample>, SourceError> {
    let stored = range.end - range.start;
    let is_part = stored < object.pin.size;
    let is_compressed = key.1 == EncodingKey::Compressed;
    let size = if is_compressed { range.end } else { object.pin.size };
    let request = ReadRequest { object: object.pin.object.clone(), encoding: object.encoding, range, size, offset: 0 };
    let delivered = Arc::new(AtomicU64::new(0));
    let read = |range| -> ByteStream {
        let delivered = delivered.clone();
        Box::pin(source.read(&object.pin, range).inspect_ok(move |chunk| {
            delivered.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }))
    };
    let mut reader = LineReader::open(request, read);
    let (mut blocks, mut length) = (Vec::new(), 0);
    let is_cut = loop {
        match reader.next().await {
            Ok(Some(Segment::Lines { bytes, .. })) => {
                length += bytes.len() as u64;
                blocks.push(bytes);
            }
            // Its rest may be longer than all other lines of the lake.
            Ok(Some(Segment::OverlongLine { .. })) if is_compressed => break true,
            Ok(Some(Segment::OverlongLine { .. })) => {}
            Ok(None) => break false,
            Err(SourceError::Changed { .. }) => return Ok(None),
            // A part of a compressed object ends in the middle of a block.
            Err(SourceError::Unreadable { .. }) if is_part && is_compressed => break false,
            Err(error) => return Err(error),
        }
        if is_compressed && length > limit {
            break true;
        }
    };
    let stored = if is_cut { stored.min(delivered.load(Ordering::Relaxed)) } else { stored };
    Ok(Some(ReadSample { key, stored, is_new: object.arrived_after_since, blocks, is_cut }))
}

/// Counts the lines of samples.
#[derive(Default)]
struct SampleCounter {
    strata: BTreeMap<StratumKey, StratumSample>,
    versions: Vec<SampledVersion>,
}

impl SampleCounter {
    /// Adds the lines of a sample.
    fn add(&mut self, processor: &mut LineProcessor, &ReadSample { key, stored, is_new, ref blocks, .. }: &ReadSample) {
        let sample = self.strata.entry(key).or_default();
        sample.stored += stored;
        let mut log = VersionLog::new(0);
        for block in blocks {
            sample.line_bytes += block.len() as u64;
            for line in lines(block, 0) {
                if line.is_blank() {
                    continue;
                }
                // Slice 1 is an object that arrived after `_since`.
                let position = LinePosition::new(u32::from(is_new), line.start as u64);
                let output = processor.process(line.text, position, &mut log);
                let written = written(&output, line.text.len() as u64 + 1);
                sample.rejected += u64::from(matches!(output, LineOutput::Rejected(_)));
                if log.versions() == 0 {
                    if let Some((kind, bytes)) = written {
                        sample.add_output(kind, bytes);
                    }
                    continue;
                }
                sample.records += log.versions() as u64;
                let versions = log.drain_versions();
                self.versions.extend(versions.map(|record| SampledVersion { record, stratum: key, output: written }));
            }
        }
    }

    /// Returns what was found, with the current version of each resource.
    fn into_samples(mut self, samples: Samples) -> Samples {
        let mut has_outdated_lines = false;
        self.versions.sort_unstable_by_key(|version| version.record);
        for versions in self.versions.chunk_by(|one, next| one.record.key == next.record.key) {
            let Some((current, earlier)) = versions.split_last() else { continue };
            has_outdated_lines |= earlier.iter().any(|version| version.output.is_some());
            let sample = self.strata.entry(current.stratum).or_default();
            if let Some((kind, bytes)) = current.output {
                sample.add_output(kind, bytes);
            } else if current.record.flags.is_deletion && current.record.flags.is_selected {
                sample.add_output(OutputKind::Deleted, DELETION_BYTES);
            }
        }
        Samples { strata: self.strata, has_outdated_lines, ..samples }
    }
}

/// The size of the line of a deletion.
const DELETION_BYTES: u64 = 150;

impl StratumSample {
    /// Adds a line that is written.
    fn add_output(&mut self, kind: OutputKind, bytes: u64) {
        let (written, lines) = self.output.entry(kind).or_default();
        (*written, *lines) = (*written + bytes, *lines + 1);
    }
}

/// Returns the kind of file and the bytes that a line is written as. `None` if it is not written.
fn written(output: &LineOutput<'_>, line_bytes: u64) -> Option<(OutputKind, u64)> {
    match output {
        LineOutput::Unchanged(kind) => Some((OutputKind::Output(*kind), line_bytes)),
        LineOutput::Rewritten(kind, text) | LineOutput::TypeOnly(kind, text, _) => Some((OutputKind::Output(*kind), text.len() as u64)),
        LineOutput::PatientCopies(copies) => {
            let copied = copies.is_exported().then(|| (copies.text.len() as u64 + 1) * copies.patients.len() as u64)?;
            Some((OutputKind::PatientBlocks, copied))
        }
        LineOutput::Deletions(text, ..) => Some((OutputKind::Deleted, text.len() as u64)),
        LineOutput::Nothing | LineOutput::Rejected(_) | LineOutput::DeidFailed(_) => None,
    }
}
