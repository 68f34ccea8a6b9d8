//! Goes through what was noted of one range of resources, and writes down what is to be done otherwise.

use std::ops::Range;

use futures_util::{StreamExt as _, stream};

use crate::error::ExportError;
use crate::finding;
use crate::note::{Link, Note, Record as Noted, written};
use crate::part::{PartKind, Tail, TailName};
use crate::ports::{AllPorts, TaskStore as _};
use crate::request::Associated;
use crate::resolution::{Associations, Resolved, of_links, of_versions};
use crate::task::{Close, Cursor, Lease, Page, Record, Resolving, Stage};

use super::pump::write_tail;
use super::reread::{READS_AT_ONCE, read};
use super::run_task::{TaskEnd, WorkTerms, announce_finish_after_last};

/// Behind everything that a resolving task writes.
const WRITTEN: Cursor = Cursor { item: 1, offset: 0 };

/// Resolves a range. Like the plan it has no cursor within and must fit into one attempt: reading a range of notes takes
/// seconds.
pub(super) async fn resolve(
    ports: &impl AllPorts,
    lease: &mut Lease,
    terms: &WorkTerms,
    resolving: Resolving,
) -> Result<TaskEnd, ExportError> {
    if lease.cursor < WRITTEN {
        let associations = Associations::of(&lease.job.request, terms.adds_referenced);
        let range = Positions::of(resolving);
        let resolved = match resolving.stage {
            Stage::Versions => {
                let notes = gather::<Note>(ports, lease, terms, PartKind::Notes, range).await?;
                let links = gather::<Link>(ports, lease, terms, PartKind::Links, range).await?;
                of_versions(notes, links, associations, lease.job.request.associated.contains(&Associated::History))
            }
            Stage::Links => {
                let links = gather::<Link>(ports, lease, terms, PartKind::Links, range).await?;
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
    let sorts =
        [(PartKind::Findings, found, finding::written(resolved.findings, tasks)), (PartKind::Links, linked, written(resolved.links))];
    let mut tails = Vec::new();
    for (kind, count, bytes) in sorts.into_iter().filter(|(_, count, _)| *count > 0) {
        let name = TailName { kind, task: lease.task.task, attempt: lease.attempt, step: lease.step };
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
    terms: &WorkTerms,
    kind: PartKind,
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

/// The records of a range out of one tail. Keys are spread evenly, so the range is looked for where it should be, with
/// some room; the room grows until what is read shows that nothing of the range lies outside.
async fn read_range<T: Noted>(ports: &impl AllPorts, lease: &Lease, tail: &Tail, positions: Positions) -> Result<Vec<T>, ExportError> {
    let count = tail.content.bytes / T::BYTES as u64;
    let mut room = 4 * count.isqrt() + 64;
    loop {
        let range = guess(positions, count, room);
        let bytes = read(ports, lease, tail, range.start * T::BYTES as u64..range.end * T::BYTES as u64).await?;
        let records: Vec<T> = bytes.chunks_exact(T::BYTES).map(|bytes| T::read(bytes, tail.name.task)).collect();
        let begins_before = range.start == 0 || records.first().is_some_and(|first| first.key().position() < positions.from);
        let ends_behind = range.end == count || records.last().is_some_and(|last| positions.are_before(last.key().position()));
        if begins_before && ends_behind {
            return Ok(records.into_iter().filter(|record| positions.contain(record.key().position())).collect());
        }
        room = room.saturating_mul(4);
    }
}

fn guess(positions: Positions, count: u64, room: u64) -> Range<u64> {
    let at = |position: u64| u64::try_from((u128::from(position) * u128::from(count)) >> 64).unwrap_or(count);
    let start = at(positions.from).saturating_sub(room);
    let end = positions.to.map_or(count, |to| at(to).saturating_add(room).min(count));
    start..end
}
