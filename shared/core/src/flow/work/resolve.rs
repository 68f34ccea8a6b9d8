//! Goes through what was noted of one range of resources, and writes down what is to be done otherwise.

use std::ops::Range;

use futures_util::{StreamExt as _, stream};

use crate::job::task::{Close, Cursor, Lease, Page, Record, Resolving, Stage};
use crate::output::file::{FragmentName, OutputKind, Tail};
use crate::ports::{AllPorts, TaskStore as _};
use crate::request::Associated;
use crate::versions::correction;
use crate::versions::record::{Link, Record as Noted, VersionRecord, written};
use crate::versions::resolution::{Associations, Resolved, of_links, of_versions};
use crate::vocab::error::ExportError;

use super::pump::write_tail;
use super::reread::{READS_AT_ONCE, read};
use super::run_task::{TaskEnd, WorkerSettings, announce_finish_after_last};

/// Behind everything that a resolving task writes.
const WRITTEN: Cursor = Cursor { item: 1, offset: 0 };

/// Resolves a range. Like the plan it has no cursor within and must fit into one attempt: reading a range of notes takes
/// seconds.
pub(super) async fn resolve(
    ports: &impl AllPorts,
    lease: &mut Lease,
    terms: &WorkerSettings,
    resolving: Resolving,
) -> Result<TaskEnd, ExportError> {
    if lease.cursor < WRITTEN {
        let associations = Associations::of(&lease.job.request, terms.adds_referenced);
        let range = Positions::of(resolving);
        let resolved = match resolving.stage {
            Stage::Versions => {
                let notes = gather::<VersionRecord>(ports, lease, terms, OutputKind::Notes, range).await?;
                let links = gather::<Link>(ports, lease, terms, OutputKind::Links, range).await?;
                of_versions(notes, links, associations, lease.job.request.associated.contains(&Associated::History))
            }
            Stage::Links => {
                let links = gather::<Link>(ports, lease, terms, OutputKind::Links, range).await?;
                Resolved { findings: of_links(links, associations), links: Vec::new() }
            }
        };
        let tails = write(ports, lease, resolved).await?;
        let page = Page { tails, cursor: WRITTEN, ..Page::default() };
        ports.jobs().record(lease, Record::Page(page), ports.now() + terms.lease.length).await?;
    }
    let job = ports.jobs().close_task(lease, Close::Done).await?;
    announce_finish_after_last(ports.queue(), &job).await?;
    Ok(TaskEnd::Closed(Box::new(lease.clone()), Box::new(job)))
}

async fn write(ports: &impl AllPorts, lease: &Lease, resolved: Resolved) -> Result<Vec<Tail>, ExportError> {
    let tasks = lease.job.planned.map_or(0, |planned| planned.tasks);
    let (found, linked) = (resolved.findings.len() as u64, resolved.links.len() as u64);
    let sorts = [
        (OutputKind::Findings, found, correction::written(resolved.findings, tasks)),
        (OutputKind::Links, linked, written(resolved.links)),
    ];
    let mut tails = Vec::new();
    for (kind, count, bytes) in sorts.into_iter().filter(|(_, count, _)| *count > 0) {
        let name = FragmentName { kind, task: lease.task.task, attempt: lease.attempt, step: lease.step };
        tails.push(write_tail(ports.parts(), &lease.job.folder(), name, bytes, count).await?);
    }
    Ok(tails)
}

/// A range of keys by their positions: `from..to`, or to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Positions {
    from: u64,
    to: Option<u64>,
}

impl Positions {
    fn of(resolving: Resolving) -> Self {
        let of = u128::from(resolving.of.max(1));
        let begin = |range: u32| u64::try_from((u128::from(range) << 64) / of).ok();
        Self { from: begin(resolving.range).unwrap_or(u64::MAX), to: begin(resolving.range + 1) }
    }

    fn contain(self, position: u64) -> bool {
        position >= self.from && self.to.is_none_or(|to| position < to)
    }

    fn are_before(self, position: u64) -> bool {
        self.to.is_some_and(|to| position >= to)
    }
}

/// The records of a range out of every tail of a kind that the round before has left.
async fn gather<T: Noted>(
    ports: &impl AllPorts,
    lease: &mut Lease,
    terms: &WorkerSettings,
    kind: OutputKind,
    range: Positions,
) -> Result<Vec<T>, ExportError> {
    let before = lease.job.round.saturating_sub(1);
    let tails = ports.jobs().tails(&lease.job.id, before..=before).await?;
    let tails: Vec<Tail> = tails.into_iter().filter(|tail| tail.name.kind == kind).collect();
    let mut records = Vec::new();
    let mut beat_at = ports.now() + terms.lease.length / 3;
    for batch in tails.chunks(READS_AT_ONCE * 4) {
        let held: &Lease = lease;
        let reads: Vec<_> = batch.iter().map(|tail| read_range::<T>(ports, held, tail, range)).collect();
        let mut reads = stream::iter(reads).buffer_unordered(READS_AT_ONCE);
        while let Some(read) = reads.next().await {
            records.extend(read?);
        }
        drop(reads);
        let now = ports.now();
        if now >= beat_at {
            ports.jobs().record(lease, Record::Heartbeat, now + terms.lease.length).await?;
            beat_at = now + terms.lease.length / 3;
        }
    }
    Ok(records)
}

/// The records of a range out of one tail.
async fn read_range<T: Noted>(ports: &impl AllPorts, lease: &Lease, tail: &Tail, positions: Positions) -> Result<Vec<T>, ExportError> {
    let mut search = Search::new(positions, tail.content.bytes / T::BYTES as u64);
    loop {
        let range = search.range();
        let bytes = read(ports, lease, tail, range.start * T::BYTES as u64..range.end * T::BYTES as u64).await?;
        let records: Vec<T> = bytes.chunks_exact(T::BYTES).map(|bytes| T::read(bytes, tail.name.task)).collect();
        if search.is_enough(&records) {
            return Ok(records.into_iter().filter(|record| positions.contain(record.key().position())).collect());
        }
        search.widen();
    }
}

/// The search for a range in a sorted tail. Keys are spread evenly, so it is looked for where it should be, with some
/// room; the room grows until what is read shows that nothing of the range lies outside.
struct Search {
    positions: Positions,
    count: u64,
    room: u64,
}

impl Search {
    fn new(positions: Positions, count: u64) -> Self {
        // Eight times the deviation that chance has in the middle of a tail.
        Self { positions, count, room: 4 * count.isqrt() + 64 }
    }

    /// Which records to read.
    fn range(&self) -> Range<u64> {
        let at = |position: u64| u64::try_from((u128::from(position) * u128::from(self.count)) >> 64).unwrap_or(self.count);
        let start = at(self.positions.from).saturating_sub(self.room);
        let end = self.positions.to.map_or(self.count, |to| at(to).saturating_add(self.room).min(self.count));
        start..end
    }

    /// Whether these records, which stand there, are all that the range can have.
    fn is_enough<T: Noted>(&self, records: &[T]) -> bool {
        let range = self.range();
        let begins_before = range.start == 0 || records.first().is_some_and(|first| first.key().position() < self.positions.from);
        let ends_behind = range.end == self.count || records.last().is_some_and(|last| self.positions.are_before(last.key().position()));
        begins_before && ends_behind
    }

    fn widen(&mut self) {
        self.room = self.room.saturating_mul(4);
    }
}

#[cfg(test)]
mod tests {
    use headrace_fhir::ResourceType;
    use proptest::prelude::*;

    use super::*;
    use crate::versions::key::Keys;
    use crate::versions::record::{Place, VersionFlags};
    use crate::vocab::ids::JobId;

    /// What a tail of these resources holds, sorted.
    fn tail(ids: &[u32]) -> Vec<VersionRecord> {
        let (keys, kind) = (Keys::of(&JobId::from_random([7; 16])), ResourceType::named("Basic").unwrap());
        let note = |id: &u32| {
            let place = Place::new(0, u64::from(*id));
            VersionRecord {
                key: keys.key(kind, id.to_string().as_bytes()),
                changed: 0,
                version: 0,
                task: 2,
                place,
                facts: VersionFlags::default(),
            }
        };
        let mut notes: Vec<_> = ids.iter().map(note).collect();
        notes.sort_unstable();
        notes
    }

    fn found(tail: &[VersionRecord], positions: Positions) -> (Vec<VersionRecord>, usize) {
        let mut search = Search::new(positions, tail.len() as u64);
        let mut read = 0;
        loop {
            let range = search.range();
            let records = &tail[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
            read += records.len();
            if search.is_enough(records) {
                return (records.iter().filter(|note| positions.contain(note.key.position())).copied().collect(), read);
            }
            search.widen();
        }
    }

    fn ranges(of: u32) -> impl Iterator<Item = Positions> {
        (0..of).map(move |range| Positions::of(Resolving { stage: Stage::Versions, range, of }))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Many notes of few resources are the worst case: their keys are not spread at all.
        #[test]
        fn every_note_is_found_in_one_range_however_keys_are_spread(
            ids in prop::collection::vec(prop_oneof![3 => 0_u32..5, 1 => any::<u32>()], 0..700), of in 1_u32..40,
        ) {
            let tail = tail(&ids);
            let all: Vec<VersionRecord> = ranges(of).flat_map(|positions| found(&tail, positions).0).collect();
            prop_assert_eq!(all, tail);
        }
    }

    #[test]
    fn of_a_large_tail_little_more_than_the_range_is_read() {
        let tail = tail(&(0..100_000).collect::<Vec<_>>());
        for positions in ranges(50) {
            let (found, read) = found(&tail, positions);
            assert!((1_700..2_300).contains(&found.len()), "{}", found.len());
            assert!(read < 5_000, "{read}");
        }
    }
}
