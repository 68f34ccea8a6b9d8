//! Lines on their way into files: the byte pump's inner loop.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use headrace_fhir::{DeidEnds, DeidFailure, ResourceType};

use crate::job::Tally;
use crate::job::folder::Folder;
use crate::job::task::Lease;
use crate::lake::ndjson::{self, LINE_LIMIT_BYTES};
use crate::lines::reading::{Reading, Taken};
use crate::output::file::{Content, FragmentName, OutputKind};
use crate::patients::is_header;
use crate::ports::{Draft, OutputStore, TAILS_PER_PAGE};
use crate::versions::record::{Link, Notebook, Place, VersionRecord, written};
use crate::vocab::error::{ExportError, StoreError};
use crate::vocab::outcome::{IssueCode, Outcome};

/// The most bytes that wait in drafts besides the largest one. It bounds memory where drafts are buffers: mixed files
/// fill many drafts at once.
const BESIDE_LIMIT_BYTES: u64 = 48 << 20;

/// The most files that a page holds beside its notes and links.
const FILES_PER_PAGE: usize = TAILS_PER_PAGE - 2;

/// The files that are being written since the last recorded page.
pub struct OpenCheckpoint<'s, P: OutputStore> {
    store: &'s P,
    folder: Folder,
    file_bytes: u64,
    /// Task, attempt and step, for the names of tails.
    writer: (u32, u32, u32),
    drafts: BTreeMap<OutputKind, OpenFile<P::Draft>>,
    pending_bytes: u64,
    /// The size of the largest draft.
    largest_bytes: u64,
    /// [`BESIDE_LIMIT_BYTES`].
    beside_limit_bytes: u64,
    /// The kind whose draft has reached the size of a file.
    full: Option<OutputKind>,
    /// What has been noted since the last recorded page.
    notebook: Notebook,
    /// What has been counted since the last recorded page.
    pub tally: Tally,
}

/// One draft and what it holds.
pub struct OpenFile<D> {
    /// Its name, unless it becomes a part.
    pub tail: FragmentName,
    draft: D,
    crc: Digest,
    content: Content,
}

impl<D: Draft> OpenFile<D> {
    /// What it holds so far.
    pub fn content(&self) -> Content {
        Content { crc64: self.crc.finalize(), ..self.content }
    }

    /// The draft, to be settled.
    pub fn into_draft(self) -> D {
        self.draft
    }
}

/// Lines of one kind that are appended together: either neighbours in a block, or written anew.
struct Run {
    kind: OutputKind,
    here: Range<usize>,
    other: BytesMut,
    lines: u64,
}

/// What a run goes on with.
enum Lines<'a> {
    /// The line as it stands in the block.
    Here,
    /// These lines, so many.
    Other(&'a [u8], u64),
}

impl Run {
    fn bytes(&self) -> u64 {
        (self.here.len() + self.other.len()) as u64
    }

    fn goes_on_with(&self, lines: &Lines<'_>, here: &Range<usize>) -> bool {
        match lines {
            Lines::Here => self.other.is_empty() && self.here.end == here.start,
            Lines::Other(..) => self.here.is_empty(),
        }
    }
}

/// The log says which resource it was: whoever runs the service has to find it.
fn given_up(object: &str, offset: u64, failure: &DeidFailure) -> ExportError {
    tracing::warn!(object, offset, "a resource cannot be de-identified");
    ExportError::NotDeidentified(format!("a resource cannot be de-identified: {failure}"))
}

/// Into which kind of file a resource is written.
fn written_as(kind: ResourceType) -> OutputKind {
    OutputKind::Output(kind)
}

/// Whether to go on feeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// All of the block is taken.
    Taken,
    /// The page must be recorded before more is fed; lines up to this offset of the object are taken, perhaps none.
    FullAt(u64),
}

impl<'s, P: OutputStore> OpenCheckpoint<'s, P> {
    /// An empty page for files of the leased task.
    pub fn new(store: &'s P, lease: &Lease) -> Self {
        Self {
            store,
            folder: lease.job.folder(),
            file_bytes: lease.job.limits.file_bytes,
            writer: (lease.task.task, lease.attempt, lease.step),
            drafts: BTreeMap::new(),
            pending_bytes: 0,
            largest_bytes: 0,
            beside_limit_bytes: BESIDE_LIMIT_BYTES,
            full: None,
            notebook: Notebook::of_task(lease.task.task),
            tally: Tally::default(),
        }
    }

    /// Whether something of this kind is in it.
    pub fn holds(&self, kind: OutputKind) -> bool {
        self.drafts.contains_key(&kind)
    }

    /// The kind that has reached the size of a file, if one has.
    pub fn full(&self) -> Option<OutputKind> {
        self.full
    }

    /// Everything written since the last page.
    pub fn take_drafts(&mut self) -> BTreeMap<OutputKind, OpenFile<P::Draft>> {
        self.full = None;
        self.pending_bytes = 0;
        self.largest_bytes = 0;
        std::mem::take(&mut self.drafts)
    }

    /// Everything noted since the last page, each sort as it is written into a tail, with the number of records.
    pub fn take_notes(&mut self) -> impl Iterator<Item = (FragmentName, Bytes, u64)> + use<P> {
        let (notes, links) = (std::mem::take(&mut self.notebook.notes), std::mem::take(&mut self.notebook.links));
        let (task, attempt, step) = self.writer;
        let sorts =
            [(OutputKind::Notes, notes.len(), written::<VersionRecord>(notes)), (OutputKind::Links, links.len(), written::<Link>(links))];
        let filled = sorts.into_iter().filter(|(_, count, _)| *count > 0);
        filled.map(move |(kind, count, bytes)| (FragmentName { kind, task, attempt, step }, bytes, count as u64))
    }

    /// Begins the next page, after `lease` has recorded this one.
    pub fn turn(&mut self, lease: &Lease) {
        self.writer = (lease.task.task, lease.attempt, lease.step);
        self.tally = Tally::default();
    }

    /// Takes the lines of a lake's block from its byte `from`, as far as the page goes.
    ///
    /// * `object`, `item`, `offset`: where the block stands, for notes and for the errors of lines that are not resources.
    /// * Runs of lines of one type are copied as one slice of the block, never line by line.
    pub async fn feed(
        &mut self,
        block: &Bytes,
        offset: u64,
        from: usize,
        (object, item): (&str, u32),
        reading: &mut Reading,
    ) -> Result<Fill, ExportError> {
        let mut run = None::<Run>;
        let rest = block.slice(from..);
        let origin = offset + from as u64;
        if self.must_be_recorded() {
            // An overlong line stood before this block.
            return Ok(Fill::FullAt(origin));
        }
        for line in ndjson::lines(&rest, origin) {
            let at = origin + line.start as u64;
            let ended: Vec<u8>;
            let taken = if line.is_blank() { Taken::Nothing } else { reading.take(line.text, Place::new(item, at), &mut self.notebook) };
            match taken {
                Taken::Whole(kind) => {
                    self.tally.resources += 1;
                    let lines = if line.is_verbatim() {
                        Lines::Here
                    } else {
                        ended = [line.text, b"\n"].concat();
                        Lines::Other(&ended, 1)
                    };
                    self.go_on(&mut run, written_as(kind), lines, &rest, line.start..line.next).await?;
                }
                Taken::Reduced(kind, text) => {
                    self.tally.resources += 1;
                    self.go_on(&mut run, written_as(kind), Lines::Other(text, 1), &rest, line.start..line.next).await?;
                }
                Taken::Placed(placed) => {
                    self.end(&mut run, &rest).await?;
                    self.tally.resources += u64::from(placed.is_exported());
                    for (bucket, frame) in placed.frames() {
                        self.append(OutputKind::Bucket(bucket), frame.bytes(), 1).await?;
                    }
                }
                Taken::Deleted(text, count) => {
                    self.go_on(&mut run, OutputKind::Deleted, Lines::Other(text, count), &rest, line.start..line.next).await?;
                }
                Taken::Refused(reason) => {
                    self.end(&mut run, &rest).await?;
                    if reading.reports_refused() {
                        self.refuse((!reading.deidentifies()).then_some((object, at)), &reason).await?;
                    }
                }
                Taken::Emptied(kind, text, failure) => {
                    self.tally.resources += 1;
                    self.go_on(&mut run, written_as(kind), Lines::Other(text, 1), &rest, line.start..line.next).await?;
                    self.end(&mut run, &rest).await?;
                    self.tell_of_spoilt("is empty but for its type", &failure).await?;
                }
                Taken::Spoilt(failure) => match failure.ends {
                    DeidEnds::Job => return Err(given_up(object, at, &failure)),
                    DeidEnds::Resource => {
                        self.end(&mut run, &rest).await?;
                        self.tell_of_spoilt("was left out", &failure).await?;
                    }
                },
                Taken::Nothing => {}
            }
            let is_full = run.as_ref().is_some_and(|run| self.would_end(run.kind, run.bytes())) || self.notebook.is_full();
            if is_full {
                self.end(&mut run, &rest).await?;
            }
            if run.is_none() && self.must_be_recorded() {
                return Ok(Fill::FullAt(origin + line.next as u64));
            }
        }
        self.end(&mut run, &rest).await?;
        Ok(Fill::Taken)
    }

    /// Puts lines behind the run if they go on with it, else behind a new one.
    async fn go_on(
        &mut self,
        run: &mut Option<Run>,
        kind: OutputKind,
        lines: Lines<'_>,
        block: &Bytes,
        here: Range<usize>,
    ) -> Result<(), StoreError> {
        if !run.as_ref().is_some_and(|run| run.kind == kind && run.goes_on_with(&lines, &here)) {
            self.end(run, block).await?;
        }
        let run = run.get_or_insert_with(|| Run { kind, here: here.start..here.start, other: BytesMut::new(), lines: 0 });
        match lines {
            Lines::Here => (run.here.end, run.lines) = (here.end, run.lines + 1),
            Lines::Other(text, count) => {
                run.other.extend_from_slice(text);
                run.lines += count;
            }
        }
        Ok(())
    }

    async fn end(&mut self, run: &mut Option<Run>, block: &Bytes) -> Result<(), StoreError> {
        match run.take() {
            Some(Run { kind, here, other, lines }) => {
                let bytes = if other.is_empty() { block.slice(here) } else { other.freeze() };
                self.append(kind, bytes, lines).await
            }
            None => Ok(()),
        }
    }

    /// Takes lines of one kind that are known to be good: a tail's.
    pub async fn feed_tail(&mut self, block: &Bytes, offset: u64, from: usize, kind: OutputKind) -> Result<Fill, StoreError> {
        let mut taken = from;
        let mut count = 0;
        let rest = block.slice(from..);
        for line in ndjson::lines(&rest, 1) {
            if kind == OutputKind::Organized {
                // Blocks are not split: a file may end where one begins.
                let here = from + line.start;
                let held = self.drafts.get(&kind).map_or(0, |open| open.content.bytes) + (here - taken) as u64;
                if held >= self.file_bytes && is_header(line.text) {
                    if here > taken {
                        self.append(kind, block.slice(taken..here), count).await?;
                    }
                    return Ok(Fill::FullAt(offset + here as u64));
                }
                count += 1;
                continue;
            }
            count += 1;
            if self.would_end(kind, (from + line.next - taken) as u64) {
                self.append(kind, block.slice(taken..from + line.next), count).await?;
                taken = from + line.next;
                count = 0;
                if self.must_be_recorded() {
                    return Ok(Fill::FullAt(offset + taken as u64));
                }
            }
        }
        if taken < block.len() {
            self.append(kind, block.slice(taken..), count).await?;
        }
        Ok(Fill::Taken)
    }

    /// Notes a line that is too long to be read.
    pub async fn refuse_overlong(&mut self, at: Option<(&str, u64)>) -> Result<(), StoreError> {
        let reason = format!("longer than {} MiB", LINE_LIMIT_BYTES >> 20);
        self.refuse(at, &reason).await
    }

    /// Notes a line that is left out; `at` is its object and offset. A de-identified export does not tell them: operators
    /// name objects, and some by patients.
    async fn refuse(&mut self, at: Option<(&str, u64)>, reason: &str) -> Result<(), StoreError> {
        self.tally.refused += 1;
        let place = at.map(|(object, offset)| format!("object `{object}`, byte {offset}: ")).unwrap_or_default();
        self.tell(IssueCode::Structure, format!("a line of the lake was left out: {place}{reason}")).await
    }

    async fn tell_of_spoilt(&mut self, what_became: &str, failure: &DeidFailure) -> Result<(), StoreError> {
        self.tell(IssueCode::Processing, format!("a resource {what_became}, since it cannot be de-identified: {failure}")).await
    }

    async fn tell(&mut self, code: IssueCode, text: String) -> Result<(), StoreError> {
        self.append(OutputKind::Error, format!("{}\n", Outcome::error(code, text)).into(), 1).await
    }

    /// Whether the page must be recorded once so many more bytes of a kind are in it. Asked line by line, so that pages
    /// end where the lines say and not where blocks do: a second attempt writes the same bytes under a claimed name.
    fn would_end(&self, kind: OutputKind, more: u64) -> bool {
        let open = self.drafts.get(&kind);
        let held = open.map_or(0, |open| open.content.bytes) + more;
        let beside = self.pending_bytes + more - self.largest_bytes.max(held);
        // One kind of a page may become a part; a page holds only so many tails.
        let files = self.drafts.len() + usize::from(open.is_none());
        held >= self.file_bytes || beside >= self.beside_limit_bytes || files >= FILES_PER_PAGE
    }

    fn must_be_recorded(&self) -> bool {
        let beside = self.pending_bytes - self.largest_bytes;
        self.full.is_some() || beside >= self.beside_limit_bytes || self.drafts.len() >= FILES_PER_PAGE || self.notebook.is_full()
    }

    /// Writes lines of one kind, or one frame of a bucket.
    pub(crate) async fn append(&mut self, kind: OutputKind, bytes: Bytes, lines: u64) -> Result<(), StoreError> {
        let open = match self.drafts.entry(kind) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                let (task, attempt, step) = self.writer;
                let tail = FragmentName { kind, task, attempt, step };
                let draft = self.store.draft(&self.folder, tail).await?;
                free.insert(OpenFile {
                    tail,
                    draft,
                    crc: Digest::new(CrcAlgorithm::Crc64Nvme),
                    content: Content { bytes: 0, lines: 0, crc64: 0 },
                })
            }
        };
        open.crc.update(&bytes);
        open.content.bytes += bytes.len() as u64;
        open.content.lines += lines;
        self.pending_bytes += bytes.len() as u64;
        self.largest_bytes = self.largest_bytes.max(open.content.bytes);
        if open.content.bytes >= self.file_bytes {
            self.full = Some(kind);
        }
        open.draft.write(bytes).await
    }
}

#[cfg(test)]
mod tests;
