//! Reads what a task names and writes it into parts and tails, page by page.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Millis;
use crate::error::{ExportError, StoreError};
use crate::job::Tally;
use crate::ndjson::Piece;
use crate::page::{Fill, OpenPage, Selection};
use crate::part::{FileName, Part, PartKind, PartName, Tail};
use crate::ports::{AllPorts, ByteStream, Draft as _, PartStore as _, ResourceSource as _, TaskQueue as _, TaskStore as _};
use crate::reader::{Extent, LineReader};
use crate::task::{Close, Cursor, Encoding, Lease, Page, Record, Release, Slice, Work};

use super::run_task::{TaskEnd, WorkTerms, announce_finish_after_last};

/// Runs a reading or gathering task from its cursor to its end, or to `stop_at`.
pub(super) async fn pump(ports: &impl AllPorts, lease: &mut Lease, terms: &WorkTerms, stop_at: Millis) -> Result<TaskEnd, ExportError> {
    let items: Vec<Item> = match &lease.work {
        Work::Read(slices) => slices.iter().cloned().map(Item::Slice).collect(),
        Work::Gather(tails) => tails.iter().copied().map(Item::Tail).collect(),
        Work::Plan(_) | Work::Resolve(_) | Work::Reread(_) | Work::Organize(_) | Work::Finish => Vec::new(),
    };
    let mut pump = Pump::new(ports, lease, terms, stop_at);
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

/// What a task reads.
pub(super) enum Item {
    /// Lines of the lake: each is judged.
    Slice(Slice),
    /// Lines that were selected before, all of one kind.
    Tail(Tail),
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
    terms: &'a WorkTerms,
    stop_at: Millis,
    selection: Selection,
    page: OpenPage<'a, W::Parts>,
    beat_at: Millis,
}

impl<'a, W: AllPorts> Pump<'a, W> {
    pub(super) fn new(ports: &'a W, lease: &'a mut Lease, terms: &'a WorkTerms, stop_at: Millis) -> Self {
        let selection = Selection::of(&lease.job.request);
        let page = OpenPage::new(ports.parts(), lease);
        let beat_at = ports.now() + terms.lease.length / 3;
        Self { ports, lease, terms, stop_at, selection, page, beat_at }
    }

    /// Reads one item, from the cursor if that stands in it.
    pub(super) async fn read(&mut self, item: &Item, index: u32) -> Result<Flow, ExportError> {
        let offset = if self.lease.cursor.item == index { self.lease.cursor.offset } else { 0 };
        let ports = self.ports;
        match item {
            Item::Slice(slice) => {
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
        }
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
                    self.page.refuse_overlong(&slice.pin.object, offset).await?;
                    continue;
                }
                // Its lines were read before.
                (Piece::Overlong { .. }, Item::Tail(_)) => continue,
            };
            if self.pulse(Cursor { item: index, offset: end }).await? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::GoOn)
    }

    async fn feed(&mut self, block: &Bytes, offset: u64, item: &Item, index: u32) -> Result<(), ExportError> {
        let mut from = 0;
        while from < block.len() {
            let fill = match item {
                Item::Slice(slice) => self.page.feed(block, offset, from, &slice.pin.object, self.selection).await?,
                Item::Tail(tail) => self.page.feed_tail(block, offset, from, tail.name.kind).await?,
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
        let now = self.ports.now();
        // A claim is kept by writing its part first: the attempt before wrote it within one lease, so can this one.
        if now >= self.stop_at && self.lease.claim.is_none() {
            if !self.is_finish() {
                self.turn_page(cursor).await?;
            }
            return Ok(Flow::Stop);
        }
        if now >= self.beat_at {
            self.ports.jobs().record(self.lease, Record::Heartbeat, now + self.terms.lease.length).await?;
            self.beat_at = now + self.terms.lease.length / 3;
        }
        Ok(Flow::GoOn)
    }

    /// Settles what was written and records it together with the cursor behind it (rule P5).
    ///
    /// A draft that has reached the size of a file becomes a part, in a finish any draft; the others become tails.
    pub(super) async fn turn_page(&mut self, cursor: Cursor) -> Result<(), ExportError> {
        let full = self.page.full();
        let mut page = Page { cursor, tally: self.tally_at(cursor), ..Page::default() };
        for (kind, open) in self.page.take_drafts() {
            let content = open.content();
            if full == Some(kind) || self.is_finish() {
                let name = self.claim(kind).await?;
                open.into_draft().settle(FileName::Part(name), content).await?;
                page.part = Some(Part { name, content });
            } else {
                let name = open.tail;
                open.into_draft().settle(FileName::Tail(name), content).await?;
                page.tails.push(Tail { name, content });
            }
        }
        self.record_page(page).await
    }

    /// Makes a part of a whole tail.
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
    async fn claim(&mut self, kind: PartKind) -> Result<PartName, ExportError> {
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
        if let Work::Read(slices) = &self.lease.work {
            let (done, rest) = slices.split_at(slices.len().min(cursor.item as usize));
            let partly = rest.first().filter(|slice| slice.encoding == Encoding::Plain);
            tally.source_bytes = done.iter().map(|slice| slice.end - slice.start).sum::<u64>()
                + partly.map_or(0, |slice| cursor.offset.clamp(slice.start, slice.end) - slice.start);
        }
        tally
    }
}
