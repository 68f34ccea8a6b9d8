//! Resolves a range of resource keys: reads its version records and links, and writes corrections.

use std::ops::Range;

use futures_util::{StreamExt as _, stream};

use crate::job::file::{Fragment, FragmentName, OutputKind};
use crate::job::task::{Checkpoint, Cursor, Lease, ResolveRange, ResolveStage, TaskCompletion, TaskUpdate};
use crate::job::{Counters, ExportError};
use crate::ports::{AllPorts, TaskStore as _};
use crate::request::AssociatedData;
use crate::versions::correction::write_corrections;
use crate::versions::record::{FixedSizeRecord, ResourceLink, VersionRecord, write_sorted};
use crate::versions::resolution::{self, Associations, ResolvedVersions, resolve_links};

use super::fragments::{CONCURRENT_READS, read_fragment, write_fragment};
use super::heartbeat::Heartbeat;
use super::settings::WorkerSettings;
use super::task_end::{TaskEnd, complete_task};

/// The cursor of a task that has written everything.
const WRITTEN: Cursor = Cursor { item: 1, offset: 0 };

/// Runs a resolve task: reads the version records and links of a range of resource keys and writes the corrections. Its only checkpoint
/// is at the end, so it must fit into one attempt: reading a range takes seconds.
pub(super) async fn run_resolve_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    task: ResolveRange,
) -> Result<TaskEnd, ExportError> {
    if lease.cursor < WRITTEN {
        let associations = Associations::new(&lease.job.request, settings.lake.adds_referenced);
        let range = KeyRange::new(task);
        let links = read_records::<ResourceLink>(ports, lease, settings, OutputKind::Links, range).await?;
        let resolved = match task.stage {
            ResolveStage::Versions => {
                let versions = read_records::<VersionRecord>(ports, lease, settings, OutputKind::VersionRecords, range).await?;
                let exports_history = lease.job.request.associated_data.contains(&AssociatedData::History);
                resolution::resolve_versions(versions, links, associations, exports_history)
            }
            ResolveStage::Links => ResolvedVersions { corrections: resolve_links(links, associations), ..ResolvedVersions::default() },
        };
        let counters = Counters { notices: resolved.notices, ..Counters::default() };
        let fragments = write_resolved(ports, lease, resolved).await?;
        let checkpoint = Checkpoint { fragments, cursor: WRITTEN, counters, ..Checkpoint::default() };
        ports.jobs().update_task(lease, TaskUpdate::Checkpoint(checkpoint), ports.now() + settings.lease.duration).await?;
    }
    complete_task(ports, lease, TaskCompletion::Done).await
}

/// Writes the corrections and the links for the next stage to one fragment each. Writes no empty fragment.
async fn write_resolved(ports: &impl AllPorts, lease: &Lease, resolved: ResolvedVersions) -> Result<Vec<Fragment>, ExportError> {
    let tasks = lease.job.planned.map_or(0, |planned| planned.tasks);
    let (corrections, links) = (resolved.corrections.len() as u64, resolved.links.len() as u64);
    let files = [
        (OutputKind::Corrections, corrections, write_corrections(resolved.corrections, tasks)),
        (OutputKind::Links, links, write_sorted(resolved.links)),
    ];
    let mut fragments = Vec::new();
    for (kind, count, bytes) in files.into_iter().filter(|(_, count, _)| *count > 0) {
        let name = FragmentName { kind, task: lease.task.task, attempt: lease.attempt, fencing_token: lease.fencing_token };
        fragments.push(write_fragment(ports.output(), &lease.job.folder(), name, bytes, count).await?);
    }
    Ok(fragments)
}

/// A range of resource keys by their high bits: `start..end`, or to the last key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeyRange {
    start: u64,
    end: Option<u64>,
}

impl KeyRange {
    /// Returns the key range of a resolve task: one of `task.ranges` equal parts of all keys.
    fn new(task: ResolveRange) -> Self {
        let ranges = u128::from(task.ranges.max(1));
        let start_of = |range: u32| u64::try_from((u128::from(range) << 64) / ranges).ok();
        Self { start: start_of(task.range).unwrap_or(u64::MAX), end: start_of(task.range + 1) }
    }

    /// Returns true if keys with these high bits are in the range.
    fn contains(self, high_bits: u64) -> bool {
        high_bits >= self.start && self.end.is_none_or(|end| high_bits < end)
    }

    /// Returns true if keys with these high bits come after the range.
    fn ends_before(self, high_bits: u64) -> bool {
        self.end.is_some_and(|end| high_bits >= end)
    }
}

/// Reads the records of a key range from every fragment of a kind that the previous round has written.
async fn read_records<T: FixedSizeRecord>(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    kind: OutputKind,
    range: KeyRange,
) -> Result<Vec<T>, ExportError> {
    let previous = lease.job.round.saturating_sub(1);
    let fragments = ports.jobs().fragments(&lease.job.id, previous..=previous).await?;
    let fragments: Vec<Fragment> = fragments.into_iter().filter(|fragment| fragment.name.kind == kind).collect();
    let mut records = Vec::new();
    let mut heartbeat = Heartbeat::new(settings.lease.duration, ports.now());
    for batch in fragments.chunks(CONCURRENT_READS * 4) {
        let reader: &Lease = lease;
        let reads: Vec<_> = batch.iter().map(|fragment| read_range::<T>(ports, reader, fragment, range)).collect();
        let mut reads = stream::iter(reads).buffer_unordered(CONCURRENT_READS);
        while let Some(read) = reads.next().await {
            records.extend(read?);
        }
        drop(reads);
        heartbeat.beat(ports, lease).await?;
    }
    Ok(records)
}

/// Reads the records of a key range from one fragment.
async fn read_range<T: FixedSizeRecord>(
    ports: &impl AllPorts,
    lease: &Lease,
    fragment: &Fragment,
    keys: KeyRange,
) -> Result<Vec<T>, ExportError> {
    let mut search = RangeSearch::new(keys, fragment.summary.bytes / T::BYTES as u64);
    loop {
        let indexes = search.indexes();
        let bytes = read_fragment(ports, lease, fragment, indexes.start * T::BYTES as u64..indexes.end * T::BYTES as u64).await?;
        let records: Vec<T> = bytes.chunks_exact(T::BYTES).map(|bytes| T::read(bytes, fragment.name.task)).collect();
        if search.is_complete(&records) {
            return Ok(records.into_iter().filter(|record| keys.contains(record.key().high_bits())).collect());
        }
        search.widen();
    }
}

/// The search for a key range in a sorted fragment.
///
/// Keys are hashes and evenly distributed. Therefore the range is read where it should be, with a margin on both sides. The margin grows
/// until the records read show that none of the range lies outside.
struct RangeSearch {
    keys: KeyRange,
    /// The number of records in the fragment.
    count: u64,
    margin: u64,
}

impl RangeSearch {
    /// Starts the search in a fragment of `count` records.
    fn new(keys: KeyRange, count: u64) -> Self {
        // Eight times the standard deviation in the middle of a fragment.
        Self { keys, count, margin: 4 * count.isqrt() + 64 }
    }

    /// Returns the indexes of the records to read.
    fn indexes(&self) -> Range<u64> {
        let expected = |high_bits: u64| u64::try_from((u128::from(high_bits) * u128::from(self.count)) >> 64).unwrap_or(self.count);
        let start = expected(self.keys.start).saturating_sub(self.margin);
        let end = self.keys.end.map_or(self.count, |end| expected(end).saturating_add(self.margin).min(self.count));
        start..end
    }

    /// Returns true if no record of the range can lie outside `records`, which were read at [`Self::indexes`].
    fn is_complete<T: FixedSizeRecord>(&self, records: &[T]) -> bool {
        let indexes = self.indexes();
        let includes_start = indexes.start == 0 || records.first().is_some_and(|first| first.key().high_bits() < self.keys.start);
        let includes_end = indexes.end == self.count || records.last().is_some_and(|last| self.keys.ends_before(last.key().high_bits()));
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
    use crate::versions::record::{LinePosition, VersionFlags};
    use crate::vocab::ids::JobId;

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

    /// Searches the records of a range. Returns them, and the number of records that were read.
    fn search(all: &[VersionRecord], keys: KeyRange) -> (Vec<VersionRecord>, usize) {
        let mut search = RangeSearch::new(keys, all.len() as u64);
        let mut read = 0;
        loop {
            let indexes = search.indexes();
            let records = &all[usize::try_from(indexes.start).unwrap()..usize::try_from(indexes.end).unwrap()];
            read += records.len();
            if search.is_complete(records) {
                return (records.iter().filter(|record| keys.contains(record.key.high_bits())).copied().collect(), read);
            }
            search.widen();
        }
    }

    fn key_ranges(ranges: u32) -> impl Iterator<Item = KeyRange> {
        (0..ranges).map(move |range| KeyRange::new(ResolveRange { stage: ResolveStage::Versions, range, ranges }))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Covers the worst case, many records of few resources, because their keys are not evenly distributed.
        #[test]
        fn every_record_is_found_in_exactly_one_range(
            ids in prop::collection::vec(prop_oneof![3 => 0_u32..5, 1 => any::<u32>()], 0..700), ranges in 1_u32..40,
        ) {
            let records = sorted_records(&ids);
            let found: Vec<VersionRecord> = key_ranges(ranges).flat_map(|keys| search(&records, keys).0).collect();
            prop_assert_eq!(found, records);
        }
    }

    #[test]
    fn little_more_than_the_range_is_read_of_a_large_fragment() {
        let records = sorted_records(&(0..100_000).collect::<Vec<_>>());
        for keys in key_ranges(50) {
            let (found, read) = search(&records, keys);
            assert!((1_700..2_300).contains(&found.len()), "{}", found.len());
            assert!(read < 5_000, "{read}");
        }
    }
}
