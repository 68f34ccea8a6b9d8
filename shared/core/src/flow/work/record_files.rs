//! Files of sorted records: reads a range of keys out of many of them.

use std::ops::Range;

use futures_util::{StreamExt as _, stream};

use crate::job::ExportError;
use crate::job::file::Fragment;
use crate::job::task::{Lease, RecordFiles};
use crate::ports::{AllPorts, FragmentSelection, TaskStore as _};
use crate::versions::record::{EncodedRecords, FixedSizeRecord};

use super::fragments::{CONCURRENT_READS, read_fragment};
use super::heartbeat::send_heartbeat_if_due;
use super::settings::WorkerSettings;

/// The number of files that are read before a heartbeat may be sent.
const READS_PER_BATCH: usize = CONCURRENT_READS * 4;

/// A range of resource keys by their high bits: `start..end`, or to the last key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyRange {
    start: u64,
    end: Option<u64>,
}

impl KeyRange {
    /// Returns the range with this index among `ranges` equal parts of all keys.
    pub(super) fn new(range: u32, ranges: u32) -> Self {
        let count = u128::from(ranges.max(1));
        let start_of = |range: u32| u64::try_from((u128::from(range) << 64) / count).ok();
        Self { start: start_of(range).unwrap_or(u64::MAX), end: start_of(range + 1) }
    }

    /// Returns the range of all keys in files of records that has one of the `ranges` equal ranges of all keys.
    pub(super) fn of_files(files: RecordFiles, range: u32, ranges: u32) -> Self {
        let part = u64::from(range) * u64::from(files.parts) / u64::from(ranges.max(1));
        Self::new(u32::try_from(part).unwrap_or(u32::MAX), files.parts)
    }

    /// Returns the number of records with a lower key than these high bits, of `count` records that are evenly distributed over the range.
    fn expected_index(self, high_bits: u64, count: u64) -> u64 {
        let start = u128::from(self.start);
        let width = self.end.map_or(1 << 64, u128::from).saturating_sub(start).max(1);
        let index = u128::from(high_bits).saturating_sub(start) * u128::from(count) / width;
        u64::try_from(index).unwrap_or(count).min(count)
    }

    /// Returns true if keys with these high bits are in the range.
    fn contains(self, high_bits: u64) -> bool {
        high_bits >= self.start && !self.ends_before(high_bits)
    }

    /// Returns true if keys with these high bits come after the range.
    fn ends_before(self, high_bits: u64) -> bool {
        self.end.is_some_and(|end| high_bits >= end)
    }
}

/// Lists the selected fragments of the previous round.
pub(super) async fn previous_fragments(
    ports: &impl AllPorts,
    lease: &Lease,
    selection: &FragmentSelection,
) -> Result<Vec<Fragment>, ExportError> {
    let previous = lease.job.round.saturating_sub(1);
    Ok(ports.jobs().fragments(&lease.job.id, previous..=previous, selection).await?)
}

/// Reads the records of a key range from each of these fragments, in any order. The fragments have the keys of `all`.
pub(super) async fn read_records<T: FixedSizeRecord>(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    fragments: &[Fragment],
    (all, range): (KeyRange, KeyRange),
) -> Result<Vec<T>, ExportError> {
    let mut records = Vec::new();
    read_files::<T>(ports, lease, settings, (fragments, all, range), |file| records.extend(file.decode::<T>())).await?;
    Ok(records)
}

/// Reads the serialized records of a key range from each of these fragments, in any order, which takes less memory. The fragments have the
/// keys of `all`.
pub(super) async fn read_encoded_records<T: FixedSizeRecord>(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    fragments: &[Fragment],
    (all, range): (KeyRange, KeyRange),
) -> Result<Vec<EncodedRecords>, ExportError> {
    let mut files = Vec::new();
    read_files::<T>(ports, lease, settings, (fragments, all, range), |file| files.push(file)).await?;
    Ok(files)
}

/// Reads the records of a key range from each of these fragments and passes them to `add`.
async fn read_files<T: FixedSizeRecord>(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    (fragments, all, range): (&[Fragment], KeyRange, KeyRange),
    mut add: impl FnMut(EncodedRecords),
) -> Result<(), ExportError> {
    for batch in fragments.chunks(READS_PER_BATCH) {
        let reader: &Lease = lease;
        // An empty fragment has no bytes that could be read.
        let filled = batch.iter().filter(|fragment| fragment.summary.bytes > 0);
        let reads: Vec<_> = filled.map(|fragment| read_range::<T>(ports, reader, fragment, (all, range))).collect();
        let mut reads = stream::iter(reads).buffer_unordered(CONCURRENT_READS);
        while let Some(read) = reads.next().await {
            add(read?);
        }
        drop(reads);
        send_heartbeat_if_due(ports, lease, settings.lease.duration).await?;
    }
    Ok(())
}

/// Reads the records of a key range from one fragment.
async fn read_range<T: FixedSizeRecord>(
    ports: &impl AllPorts,
    lease: &Lease,
    fragment: &Fragment,
    (all, keys): (KeyRange, KeyRange),
) -> Result<EncodedRecords, ExportError> {
    let mut search = RangeSearch::new((all, keys), fragment.summary.bytes / T::BYTES as u64);
    loop {
        let indexes = search.indexes();
        let bytes = read_fragment(ports, lease, fragment, indexes.start * T::BYTES as u64..indexes.end * T::BYTES as u64).await?;
        let mut records = EncodedRecords { bytes, task: fragment.name.task };
        if search.is_complete(records.first_and_last_key::<T>()) {
            records.retain_keys::<T>(|high_bits| keys.contains(high_bits));
            return Ok(records);
        }
        search.widen();
    }
}

/// The search for a key range in a sorted fragment.
///
/// Keys are hashes and evenly distributed. Therefore the range is read where it should be, with a margin on both sides. The margin grows
/// until the records read show that none of the range lies outside.
struct RangeSearch {
    /// The keys of the fragment.
    all: KeyRange,
    keys: KeyRange,
    /// The number of records in the fragment.
    count: u64,
    margin: u64,
}

impl RangeSearch {
    /// Starts the search in a fragment of `count` records.
    fn new((all, keys): (KeyRange, KeyRange), count: u64) -> Self {
        // Eight times the standard deviation in the middle of a fragment.
        Self { all, keys, count, margin: 4 * count.isqrt() + 64 }
    }

    /// Returns the indexes of the records to read.
    fn indexes(&self) -> Range<u64> {
        let expected = |high_bits| self.all.expected_index(high_bits, self.count);
        let start = expected(self.keys.start).saturating_sub(self.margin);
        let end = self.keys.end.map_or(self.count, |end| expected(end).saturating_add(self.margin).min(self.count));
        start..end
    }

    /// Returns true if no record of the range can lie outside the records that were read at [`Self::indexes`].
    ///
    /// * `first_and_last`: the high bits of their first and last key.
    fn is_complete(&self, first_and_last: Option<(u64, u64)>) -> bool {
        let indexes = self.indexes();
        let includes_start = indexes.start == 0 || first_and_last.is_some_and(|(first, _)| first < self.keys.start);
        let includes_end = indexes.end == self.count || first_and_last.is_some_and(|(_, last)| self.keys.ends_before(last));
        includes_start && includes_end
    }

    /// Makes the margin on both sides of the read range four times as large.
    fn widen(&mut self) {
        self.margin = self.margin.saturating_mul(4);
    }
}

#[cfg(test)]
mod tests {
    use headrace_fhir::definitions::ResourceType;
    use proptest::prelude::*;

    use super::*;
    use crate::versions::key::ResourceKeyHasher;
    use crate::versions::record::{EncodedRecords, LinePosition, VersionFlags, VersionRecord, write_sorted};
    use crate::vocab::ids::JobId;

    const ALL: KeyRange = KeyRange { start: 0, end: None };

    /// Returns sorted version records of these resources.
    fn sorted_records(ids: &[u32]) -> Vec<VersionRecord> {
        let hasher = ResourceKeyHasher::from_job(&JobId::from_random([7; 16]));
        let record = |id: &u32| VersionRecord {
            key: hasher.key(ResourceType::BASIC, id.to_string().as_bytes()),
            changed: 0,
            version: 0,
            task: 2,
            position: LinePosition::new(0, u64::from(*id)),
            flags: VersionFlags::default(),
        };
        let mut records: Vec<_> = ids.iter().map(record).collect();
        records.sort_unstable();
        records
    }

    /// Searches the records of a range in a file with the records of `all`. Returns them, and the number of records that were read.
    fn search(file: &[VersionRecord], all: KeyRange, keys: KeyRange) -> (Vec<VersionRecord>, usize) {
        let mut search = RangeSearch::new((all, keys), file.len() as u64);
        let mut read = 0;
        loop {
            let indexes = search.indexes();
            let records = &file[usize::try_from(indexes.start).unwrap()..usize::try_from(indexes.end).unwrap()];
            read += records.len();
            let mut encoded = EncodedRecords { bytes: write_sorted(records).to_vec(), task: 2 };
            if search.is_complete(encoded.first_and_last_key::<VersionRecord>()) {
                encoded.retain_keys::<VersionRecord>(|high_bits| keys.contains(high_bits));
                return (encoded.decode().collect(), read);
            }
            search.widen();
        }
    }

    fn key_ranges(ranges: u32) -> impl Iterator<Item = KeyRange> {
        (0..ranges).map(move |range| KeyRange::new(range, ranges))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Covers the worst case, many records of few resources, because their keys are not evenly distributed.
        #[test]
        fn every_record_is_found_in_exactly_one_range(
            ids in prop::collection::vec(prop_oneof![3 => 0_u32..5, 1 => any::<u32>()], 0..700), ranges in 1_u32..40,
        ) {
            let records = sorted_records(&ids);
            let found: Vec<VersionRecord> = key_ranges(ranges).flat_map(|keys| search(&records, ALL, keys).0).collect();
            prop_assert_eq!(found, records);
        }
    }

    #[test]
    fn little_more_than_the_range_is_read_of_a_large_fragment() {
        let records = sorted_records(&(0..100_000).collect::<Vec<_>>());
        for keys in key_ranges(50) {
            let (found, read) = search(&records, ALL, keys);
            assert!((1_700..2_300).contains(&found.len()), "{}", found.len());
            assert!(read < 5_000, "{read}");
        }
    }

    #[test]
    fn a_range_is_found_in_a_file_that_has_a_part_of_all_keys() {
        let records = sorted_records(&(0..100_000).collect::<Vec<_>>());
        let parts = 5;
        for range in 0..50 {
            let files = RecordFiles { first_task: 2, end_task: 3, parts };
            let (all, keys) = (KeyRange::of_files(files, range, 50), KeyRange::new(range, 50));
            let file: Vec<VersionRecord> = records.iter().filter(|record| all.contains(record.key.high_bits())).copied().collect();
            let expected: Vec<VersionRecord> = records.iter().filter(|record| keys.contains(record.key.high_bits())).copied().collect();
            let (found, read) = search(&file, all, keys);
            assert_eq!(found, expected, "{range}");
            assert!(read < 3_400, "{read}");
        }
    }
}
