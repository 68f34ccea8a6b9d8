//! Puts the resources of buckets into their patients' blocks.

use std::collections::BTreeMap;
use std::ops::Range;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use headrace_fhir::ResourceType;

use crate::job::Phase;
use crate::job::anonymization::Deid;
use crate::job::task::{Close, Cursor, Lease, Organizing, Work};
use crate::output::file::{Bucket, OutputKind, Tail};
use crate::patients::{FrameDecoder, Order, PatientPartitioner, Role, SortBuffer, header, positions, share};
use crate::ports::{AllPorts, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::{ExportError, StoreError};
use crate::vocab::outcome::Outcome;

use super::decide::Next;
use super::deidentify::deid;
use super::pump::Pump;
use super::reread::{READS_AT_ONCE, parts_were_taken_back, read};
use super::run_task::{TaskEnd, WorkerSettings, announce_finish_after_last};

/// Buckets are read in pieces of this size.
const PIECE_BYTES: u64 = 2 << 20;

/// Behind everything that an organizing task writes.
const WRITTEN: Cursor = Cursor { item: 1, offset: 0 };

/// The tasks that organize what earlier rounds have left in buckets; `None` if nothing lies there, or they have been.
pub(super) async fn buckets_left(ports: &impl AllPorts, lease: &Lease, terms: &WorkerSettings) -> Result<Option<Next>, ExportError> {
    let job = &lease.job;
    if !job.request.is_organized || matches!(job.phase, Phase::Organize | Phase::Gather) {
        return Ok(None);
    }
    let mut buckets = BTreeMap::<Bucket, u64>::new();
    for (bucket, tail) in tails_of(ports, lease, 0..Bucket::COUNT).await? {
        *buckets.entry(bucket).or_default() += tail.content.bytes;
    }
    let works: Vec<Work> = share(&buckets, terms.organize_bytes).into_iter().map(Work::Organize).collect();
    let next = Next { works, phase: Phase::Organize, tails_from: job.tails_from, is_fresh: false };
    Ok((!next.works.is_empty()).then_some(next))
}

/// The tails of some buckets, in the order in which their lines were met.
async fn tails_of(ports: &impl AllPorts, lease: &Lease, numbers: Range<u8>) -> Result<Vec<(Bucket, Tail)>, ExportError> {
    let tails = ports.jobs().tails(&lease.job.id, lease.job.tails_from..=lease.job.round).await?;
    let in_bucket = |tail: Tail| {
        let OutputKind::Bucket(bucket) = tail.name.kind else { return None };
        numbers.contains(&bucket.number()).then_some((bucket, tail))
    };
    let mut tails: Vec<_> = tails.into_iter().filter_map(in_bucket).collect();
    tails.sort_unstable_by_key(|(bucket, tail)| (*bucket, tail.name.task, tail.name.step));
    Ok(tails)
}

/// Writes blocks one after the other. The cursor's offset is the position before which all are written; pages end where
/// positions do.
pub(super) async fn organize(
    ports: &impl AllPorts,
    lease: &mut Lease,
    terms: &WorkerSettings,
    stop_at: Millis,
    organizing: Organizing,
) -> Result<TaskEnd, ExportError> {
    if lease.cursor < WRITTEN {
        let own = positions(&organizing);
        let deid = deid(ports, lease).await?;
        let (begin, end) = (own.start.max(lease.cursor.offset), own.end);
        let buckets = Buckets {
            tails: tails_of(ports, lease, organizing.from..organizing.to).await?,
            places: PatientPartitioner::of(&lease.job.id, deid.as_ref().map(|deid| &deid.secret)),
            counts_left_out: organizing.range == 0,
        };
        let writes_anew = parts_were_taken_back(ports, lease).await?;
        let mut pump = Pump::new(ports, lease, terms, stop_at);
        pump.writes_anew = writes_anew;
        let mut after = None::<Order>;
        let left_out = loop {
            let shelf = SortBuffer::new(terms.organize_bytes, begin..end, after.clone());
            // The first pass of an attempt takes the time that it takes, so that each attempt gets on by a block at least.
            let may_stop = after.is_some();
            let Some((shelf, left_out)) = buckets.onto(shelf, ports, &mut pump, may_stop).await? else { return pump.hand_on().await };
            let (books, are_all) = shelf.into_sorted();
            for book in books {
                if after.as_ref().is_none_or(|after| after.position != book.order.position) {
                    let cursor = Cursor { item: 0, offset: book.order.position };
                    if pump.page.full().is_some() {
                        pump.turn_page(cursor).await?;
                    } else if after.is_some() && pump.is_over() {
                        pump.turn_page(cursor).await?;
                        return pump.hand_on().await;
                    }
                }
                if after.as_ref().is_none_or(|after| after.patient != book.order.patient) {
                    let line = format!("{}\n", header(&reference_to(&book.order.patient, deid.as_ref())));
                    pump.page.append(OutputKind::Organized, line.into(), 1).await?;
                }
                pump.page.append(OutputKind::Organized, book.line, 1).await?;
                pump.beat().await?;
                after = Some(book.order);
            }
            if are_all {
                break left_out;
            }
        };
        if pump.page.full().is_some() {
            pump.turn_page(Cursor { item: 0, offset: end }).await?;
        }
        for ((role, kind), count) in left_out {
            let line = format!("{}\n", Outcome::information(said_of_left_out(role, kind, count)));
            pump.page.append(OutputKind::Error, line.into(), 1).await?;
        }
        pump.turn_page(WRITTEN).await?;
    }
    let job = ports.jobs().close_task(lease, Close::Done).await?;
    announce_finish_after_last(ports.queue(), &job).await?;
    Ok(TaskEnd::Closed(Box::new(lease.clone()), Box::new(job)))
}

/// How a block's header refers to its patient.
fn reference_to(patient: &str, deid: Option<&Deid>) -> String {
    deid.map_or_else(|| format!("Patient/{patient}"), |deid| deid.reference_to(patient))
}

/// How many resources were left out, by reason and type.
type LeftOut = BTreeMap<(Role, ResourceType), u64>;

fn said_of_left_out(role: Role, kind: ResourceType, count: u64) -> String {
    let whose = match role {
        Role::OfTooMany => "in the compartments of so many patients that repeating them in the block of each would be too much",
        Role::Patient | Role::Other | Role::WithoutPatient => "in the compartment of no patient that this export is about",
    };
    let resources = if count == 1 { "resource is" } else { "resources are" };
    format!(
        "{count} {} {resources} left out, being {whose}: output organized by Patient holds blocks of patients only; export this type without organizeOutputBy to have all",
        kind.as_str()
    )
}

/// What a task reads.
struct Buckets {
    tails: Vec<(Bucket, Tail)>,
    places: PatientPartitioner,
    /// Of the tasks that read a bucket, one tells what was left out.
    counts_left_out: bool,
}

impl Buckets {
    /// Offers all that lies in the buckets to a shelf; `None` if the time is up and it may stop.
    async fn onto<W: AllPorts>(
        &self,
        mut shelf: SortBuffer,
        ports: &W,
        pump: &mut Pump<'_, W>,
        may_stop: bool,
    ) -> Result<Option<(SortBuffer, LeftOut)>, ExportError> {
        let mut left_out = LeftOut::new();
        let mut arrival = 0;
        let mut unframer = FrameDecoder::default();
        let pieces: Vec<(&Tail, Range<u64>)> = self.tails.iter().flat_map(|(_, tail)| pieces(tail)).collect();
        for batch in pieces.chunks(READS_AT_ONCE) {
            let held: &Lease = pump.lease;
            let reads: Vec<_> = batch.iter().map(|(tail, range)| read(ports, held, tail, range.clone())).collect();
            let bytes: Vec<Vec<u8>> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
            for ((tail, range), bytes) in batch.iter().zip(bytes) {
                let unreadable =
                    |detail: &str| StoreError::Unreadable { what: "the destination", detail: format!("{}: {detail}", tail.name) };
                let mut take = |frame: &crate::patients::Frame<'_>| {
                    arrival += 1;
                    match frame.role {
                        Role::Patient | Role::Other => shelf.offer(frame, self.places.position_of(frame.patient), arrival),
                        Role::WithoutPatient | Role::OfTooMany if self.counts_left_out => {
                            *left_out.entry((frame.role, frame.kind)).or_default() += 1;
                        }
                        Role::WithoutPatient | Role::OfTooMany => {}
                    }
                };
                unframer.feed(&bytes, &mut take).map_err(|malformed| unreadable(&malformed.to_string()))?;
                if range.end == tail.content.bytes && !unframer.is_between_frames() {
                    return Err(unreadable("it ends in the middle of a frame").into());
                }
            }
            if may_stop && pump.is_over() {
                return Ok(None);
            }
            pump.beat().await?;
        }
        Ok(Some((shelf, left_out)))
    }
}

fn pieces(tail: &Tail) -> impl Iterator<Item = (&Tail, Range<u64>)> {
    let size = tail.content.bytes;
    (0..size.div_ceil(PIECE_BYTES)).map(move |piece| (tail, piece * PIECE_BYTES..size.min((piece + 1) * PIECE_BYTES)))
}
