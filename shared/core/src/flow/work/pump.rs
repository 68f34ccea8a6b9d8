//! Reads what a task names and writes it into parts and tails, page by page.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};

use crate::job::Tally;
use crate::job::folder::Folder;
use crate::job::task::{Close, Cursor, Encoding, Lease, Page, Record, Release, Slice, Work};
use crate::lake::ndjson::Piece;
use crate::lake::reader::{Extent, LineReader};
use crate::lines::checkpoint::{Fill, OpenCheckpoint};
use crate::lines::reading::Reading;
use crate::output::file::{Content, FileName, FragmentName, OutputFileName, OutputKind, Part, Tail};
use crate::ports::{AllPorts, ByteStream, Draft as _, OutputStore, ResourceSource as _, TaskQueue as _, TaskStore as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::{ExportError, StoreError};

use super::reread;
use super::run_task::{TaskEnd, WorkerSettings, announce_finish_after_last};

/// Runs a reading or gathering task from its cursor to its end, or to `stop_at`.
pub(super) async fn pump(
    ports: &impl AllPorts,
    lease: &mut Lease,
    terms: &WorkerSettings,
    stop_at: Millis,
) -> Result<TaskEnd, ExportError> {
    let (items, reading) = match &lease.work {
        Work::Read(slices) => (of_slices(slices), Some(reread::first(ports, lease, terms).await?)),
        Work::Reread(rereading) => {
            let (slices, reading) = reread::again(ports, lease, terms, *rereading).await?;
            (of_slices(&slices), Some(reading))
        }
        Work::Gather(tails) => (tails.iter().copied().map(Item::Tail).collect(), None),
        Work::Plan(_) | Work::Resolve(_) | Work::Organize(_) | Work::Finish => (Vec::new(), None),
    };
    let writes_anew = reread::parts_were_taken_back(ports, lease).await?;
    let mut pump = Pump::new(ports, lease, terms, stop_at);
    pump.writes_anew = writes_anew;
    pump.sizes = items.iter().filter_map(Item::sizes).collect();
    pump.reading = reading;
    for (index, item) in (0..).zip(&items).skip(pump.lease.cursor.item as usize) {
        if pump.read(item, index).await? == Flow::Stop {
            return pump.hand_on().await;
        }
    }
    pump.turn_page(Cursor { item: u32::try_from(items.len()).unwrap_or(u32::MAX), offset: 0 }).await?;
    let job = ports.jobs().close_task(lease, Close::Done).await?;
    announce_finish_after_last(ports.queue(), &job).await?;
    Ok(TaskEnd::Closed(Box::new(lease.clone()), Box::new(job)))
}

fn of_slices(slices: &[Slice]) -> Vec<Item> {
    slices.iter().cloned().map(Item::Slice).collect()
}

/// What a task reads.
pub(super) enum Item {
    /// Lines of the lake: each is judged.
    Slice(Slice),
    /// Lines that were selected before, all of one kind.
    Tail(Tail),
    /// Lines that are in no file yet, all of one kind.
    Lines(OutputKind, Bytes),
}

impl Item {
    /// Of a slice, where it begins and ends, if progress within it can be told.
    fn sizes(&self) -> Option<Measured> {
        match self {
            Self::Slice(slice) => Some(Measured { range: slice.start..slice.end, is_plain: slice.encoding == Encoding::Plain }),
            Self::Tail(_) | Self::Lines(..) => None,
        }
    }
}

/// How far a slice reaches, as it is stored.
struct Measured {
    range: Range<u64>,
    is_plain: bool,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    GoOn,
    /// The time is up. All that was read is recorded; in a finish, all up to its last whole file.
    Stop,
}

/// A leased task at work.
pub(super) struct Pump<'a, W: AllPorts> {
    ports: &'a W,
    pub(super) lease: &'a mut Lease,
    terms: &'a WorkerSettings,
    stop_at: Millis,
    /// How lines of the lake are read; `None` where only tails are.
    reading: Option<Reading>,
    /// The slices that are read.
    sizes: Vec<Measured>,
    /// Whether parts take the place of whatever lies under their names; see [`reread::parts_were_taken_back`].
    pub(super) writes_anew: bool,
    pub(super) page: OpenCheckpoint<'a, W::Parts>,
    beat_at: Millis,
}

impl<'a, W: AllPorts> Pump<'a, W> {
    pub(super) fn new(ports: &'a W, lease: &'a mut Lease, terms: &'a WorkerSettings, stop_at: Millis) -> Self {
        let page = OpenCheckpoint::new(ports.parts(), lease);
        let beat_at = ports.now() + terms.lease.length / 3;
        Self { ports, lease, terms, stop_at, reading: None, sizes: Vec::new(), writes_anew: false, page, beat_at }
    }

    /// Reads one item, from the cursor if that stands in it.
    pub(super) async fn read(&mut self, item: &Item, index: u32) -> Result<Flow, ExportError> {
        let offset = if self.lease.cursor.item == index { self.lease.cursor.offset } else { 0 };
        let ports = self.ports;
        match item {
            Item::Slice(slice) => {
                let Some(offset) = self.begin_at(index, offset) else { return Ok(Flow::GoOn) };
                let extent = Extent {
                    object: slice.pin.object.clone(),
                    encoding: slice.encoding,
                    range: slice.start..slice.end,
                    size: slice.pin.size,
                    offset,
                };
                self.drain(item, index, LineReader::open(extent, |range| ports.source().read(&slice.pin, range))).await
            }
            Item::Tail(tail) => {
                let folder = self.lease.job.folder();
                let size = tail.content.bytes;
                let extent = Extent { object: tail.name.to_string(), encoding: Encoding::Plain, range: 0..size, size, offset };
                self.drain(item, index, LineReader::open(extent, |range| ports.parts().read(&folder, &tail.name, range))).await
            }
            Item::Lines(_, lines) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(lines.len());
                self.feed(&lines.slice(from..), offset, item, index).await?;
                Ok(Flow::GoOn)
            }
        }
    }

    /// Where to begin to read a slice: where the cursor stands, or at the first line that this reading is about; `None`
    /// if it is about none of it.
    fn begin_at(&self, index: u32, offset: u64) -> Option<u64> {
        match self.reading.as_ref().and_then(|reading| reading.span_of(index)) {
            None => Some(offset),
            Some(span) => span.filter(|(_, last)| last.offset() >= offset).map(|(first, _)| offset.max(first.offset())),
        }
    }

    /// Whether this reading has nothing more to do with a slice.
    fn is_done_with(&self, index: u32, offset: u64) -> bool {
        let span = self.reading.as_ref().and_then(|reading| reading.span_of(index));
        span.is_some_and(|span| span.is_none_or(|(_, last)| last.offset() < offset))
    }

    async fn drain(
        &mut self,
        item: &Item,
        index: u32,
        mut reader: LineReader<impl Fn(std::ops::Range<u64>) -> ByteStream>,
    ) -> Result<Flow, ExportError> {
        while let Some(piece) = reader.next().await? {
            let end = match (piece, item) {
                (Piece::Block { offset, bytes }, _) => {
                    self.feed(&bytes, offset, item, index).await?;
                    offset + bytes.len() as u64
                }
                (Piece::Overlong { offset }, Item::Slice(slice)) => {
                    if let Some(reading) = self.reading.as_ref().filter(|reading| reading.reports_refused()) {
                        let at = (!reading.deidentifies()).then_some((slice.pin.object.as_str(), offset));
                        self.page.refuse_overlong(at).await?;
                    }
                    continue;
                }
                // Its lines were read before.
                (Piece::Overlong { .. }, Item::Tail(_) | Item::Lines(..)) => continue,
            };
            if self.pulse(Cursor { item: index, offset: end }).await? == Flow::Stop {
                return Ok(Flow::Stop);
            }
            if self.is_done_with(index, end) {
                return Ok(Flow::GoOn);
            }
        }
        Ok(Flow::GoOn)
    }

    async fn feed(&mut self, block: &Bytes, offset: u64, item: &Item, index: u32) -> Result<(), ExportError> {
        let mut from = 0;
        while from < block.len() {
            let fill = match (item, &mut self.reading) {
                (Item::Slice(slice), Some(reading)) => self.page.feed(block, offset, from, (&slice.pin.object, index), reading).await?,
                (Item::Slice(_), None) => Fill::Taken,
                (Item::Tail(tail), _) => self.page.feed_tail(block, offset, from, tail.name.kind).await?,
                (Item::Lines(kind, _), _) => self.page.feed_tail(block, offset, from, *kind).await?,
            };
            match fill {
                Fill::Taken => return Ok(()),
                Fill::FullAt(at) => {
                    self.turn_page(Cursor { item: index, offset: at }).await?;
                    from = usize::try_from(at - offset).unwrap_or(usize::MAX);
                }
            }
        }
        Ok(())
    }

    /// A sign of life now and then; stops in time (rule P7).
    async fn pulse(&mut self, cursor: Cursor) -> Result<Flow, ExportError> {
        if self.is_over() {
            // In the middle of a patient's block no page may end.
            if !self.is_finish() && !self.page.holds(OutputKind::Organized) {
                self.turn_page(cursor).await?;
            }
            return Ok(Flow::Stop);
        }
        self.beat().await?;
        Ok(Flow::GoOn)
    }

    /// Whether the time is up. A claim is kept by writing its part first: the attempt before wrote it within one lease, so
    /// can this one.
    pub(super) fn is_over(&self) -> bool {
        self.ports.now() >= self.stop_at && self.lease.claim.is_none()
    }

    /// A sign of life now and then.
    pub(super) async fn beat(&mut self) -> Result<(), ExportError> {
        let now = self.ports.now();
        if now >= self.beat_at {
            self.ports.jobs().record(self.lease, Record::Heartbeat, now + self.terms.lease.length).await?;
            self.beat_at = now + self.terms.lease.length / 3;
        }
        Ok(())
    }

    /// Settles what was written and records it together with the cursor behind it (rule P5).
    ///
    /// A draft that has reached the size of a file becomes a part, in a finish any draft; the others become tails.
    pub(super) async fn turn_page(&mut self, cursor: Cursor) -> Result<(), ExportError> {
        let full = self.page.full();
        let mut page = Page { cursor, tally: self.tally_at(cursor), ..Page::default() };
        for (kind, open) in self.page.take_drafts() {
            let content = open.content();
            if (full == Some(kind) && kind.is_exported()) || self.is_finish() {
                let name = self.claim(kind).await?;
                let file = if self.writes_anew { FileName::Anew(name) } else { FileName::Part(name) };
                open.into_draft().settle(file, content).await?;
                page.part = Some(Part { name, content });
            } else {
                let name = open.tail;
                open.into_draft().settle(FileName::Tail(name), content).await?;
                page.tails.push(Tail { name, content });
            }
        }
        for (name, bytes, lines) in self.page.take_notes() {
            let tail = write_tail(self.ports.parts(), &self.lease.job.folder(), name, bytes, lines).await?;
            page.tails.push(tail);
        }
        self.record_page(page).await
    }

    /// Makes a part of a whole tail, under a name that nothing lies under.
    pub(super) async fn adopt(&mut self, tail: &Tail, cursor: Cursor) -> Result<(), ExportError> {
        let name = self.claim(tail.name.kind).await?;
        self.ports.parts().adopt(&self.lease.job.folder(), tail, name).await?;
        let part = Part { name, content: tail.content };
        self.record_page(Page { part: Some(part), tails: Vec::new(), cursor, tally: self.tally_at(cursor) }).await
    }

    /// Stops in time: the task goes on elsewhere, from its cursor.
    pub(super) async fn hand_on(self) -> Result<TaskEnd, ExportError> {
        let now = self.ports.now();
        self.ports.jobs().record(self.lease, Record::Release(Release::Yield), now).await?;
        self.ports.queue().announce(std::slice::from_ref(&self.lease.task), Duration::ZERO).await?;
        Ok(TaskEnd::Yielded(Box::new(self.lease.clone())))
    }

    /// The name for the part that is about to be written. An earlier attempt may have left one reserved: it filled the
    /// same file from the same cursor.
    async fn claim(&mut self, kind: OutputKind) -> Result<OutputFileName, ExportError> {
        if self.lease.claim.is_none() {
            let until = self.ports.now() + self.terms.lease.length;
            self.ports.jobs().record(self.lease, Record::Claim(kind), until).await?;
        }
        match self.lease.claim {
            Some(name) if name.kind == kind => Ok(name),
            claim => Err(StoreError::Unreadable { what: "the job table", detail: format!("the claim {claim:?}") }.into()),
        }
    }

    async fn record_page(&mut self, page: Page) -> Result<(), ExportError> {
        let is_new = page.cursor != self.lease.cursor || page.part.is_some() || !page.tails.is_empty();
        if is_new {
            let now = self.ports.now();
            self.ports.jobs().record(self.lease, Record::Page(page), now + self.terms.lease.length).await?;
            self.beat_at = now + self.terms.lease.length / 3;
        }
        self.page.turn(self.lease);
        Ok(())
    }

    fn is_finish(&self) -> bool {
        self.lease.work == Work::Finish
    }

    fn tally_at(&self, cursor: Cursor) -> Tally {
        let mut tally = self.lease.tally.plus(self.page.tally);
        let item = cursor.item as usize;
        let done = self.sizes.iter().take(item).map(|slice| slice.range.end - slice.range.start).sum::<u64>();
        let partly = self.sizes.get(item).filter(|slice| slice.is_plain);
        let partly = partly.map_or(0, |slice| cursor.offset.clamp(slice.range.start, slice.range.end) - slice.range.start);
        if !self.sizes.is_empty() {
            tally.source_bytes = done + partly;
        }
        tally
    }
}

/// Writes a tail that is at hand.
pub(super) async fn write_tail(
    parts: &impl OutputStore,
    folder: &Folder,
    name: FragmentName,
    bytes: Bytes,
    lines: u64,
) -> Result<Tail, StoreError> {
    let content = Content { bytes: bytes.len() as u64, lines, crc64: checksum(CrcAlgorithm::Crc64Nvme, &bytes) };
    let mut draft = parts.draft(folder, name).await?;
    draft.write(bytes).await?;
    draft.settle(FileName::Tail(name), content).await?;
    Ok(Tail { name, content })
}
