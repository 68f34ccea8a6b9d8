//! Lines on their way into files: the byte pump's inner loop.

use std::collections::BTreeMap;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use headrace_fhir::{Instant, ResourceType, TypeSet, head};

use crate::error::StoreError;
use crate::job::Tally;
use crate::ndjson::{self, LINE_LIMIT_BYTES, Line};
use crate::outcome::{IssueCode, Outcome};
use crate::part::{Content, PartKind, TailName};
use crate::ports::{Draft, PartStore, TAILS_PER_PAGE};
use crate::request::ExportRequest;
use crate::task::Lease;

/// The most bytes that wait in drafts besides the largest one. It bounds memory where drafts are buffers: mixed files
/// fill many drafts at once.
const BESIDE_LIMIT_BYTES: u64 = 48 << 20;

/// Which lines are exported.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    types: Option<TypeSet>,
    since: Option<Instant>,
}

/// What becomes of a line.
enum Verdict {
    Keep(ResourceType),
    LeaveOut,
    /// Why it is not a resource.
    Refuse(String),
}

impl Selection {
    /// What `request` selects.
    pub fn of(request: &ExportRequest) -> Self {
        Self { types: request.type_set(), since: request.since }
    }

    /// A resource without a readable `meta.lastUpdated` is exported whatever `_since` says (Bulk Data Access,
    /// "_since": resources without a maintained time may be included): nothing is lost silently.
    fn judge(&self, line: Line<'_>) -> Verdict {
        if line.is_blank() {
            return Verdict::LeaveOut;
        }
        let head = match head(line.text) {
            Ok(head) => head,
            Err(reason) => return Verdict::Refuse(reason.to_string()),
        };
        let is_old = self.since.zip(head.last_updated).is_some_and(|(since, changed)| changed <= since);
        let is_other = self.types.is_some_and(|types| !types.contains(head.kind));
        if is_old || is_other { Verdict::LeaveOut } else { Verdict::Keep(head.kind) }
    }
}

/// The files that are being written since the last recorded page.
pub struct OpenPage<'s, P: PartStore> {
    store: &'s P,
    folder: String,
    file_bytes: u64,
    /// Task, attempt and step, for the names of tails.
    writer: (u32, u32, u32),
    drafts: BTreeMap<PartKind, OpenDraft<P::Draft>>,
    pending_bytes: u64,
    /// The size of the largest draft.
    largest_bytes: u64,
    /// [`BESIDE_LIMIT_BYTES`].
    beside_limit_bytes: u64,
    /// The kind whose draft has reached the size of a file.
    full: Option<PartKind>,
    /// What has been counted since the last recorded page.
    pub tally: Tally,
}

/// One draft and what it holds.
pub struct OpenDraft<D> {
    /// Its name, unless it becomes a part.
    pub tail: TailName,
    draft: D,
    crc: Digest,
    content: Content,
}

impl<D: Draft> OpenDraft<D> {
    /// What it holds so far.
    pub fn content(&self) -> Content {
        Content { crc64: self.crc.finalize(), ..self.content }
    }

    /// The draft, to be settled.
    pub fn into_draft(self) -> D {
        self.draft
    }
}

/// Whether to go on feeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// All of the block is taken.
    Taken,
    /// The page must be recorded before more is fed; lines up to this offset of the object are taken, perhaps none.
    FullAt(u64),
}

impl<'s, P: PartStore> OpenPage<'s, P> {
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
            tally: Tally::default(),
        }
    }

    /// The kind that has reached the size of a file, if one has.
    pub fn full(&self) -> Option<PartKind> {
        self.full
    }

    /// Everything written since the last page.
    pub fn take_drafts(&mut self) -> BTreeMap<PartKind, OpenDraft<P::Draft>> {
        self.full = None;
        self.pending_bytes = 0;
        self.largest_bytes = 0;
        std::mem::take(&mut self.drafts)
    }

    /// Begins the next page, after `lease` has recorded this one.
    pub fn turn(&mut self, lease: &Lease) {
        self.writer = (lease.task.task, lease.attempt, lease.step);
        self.tally = Tally::default();
    }

    /// Takes the lines of a lake's block from its byte `from`, as far as the page goes.
    ///
    /// * `object`, `offset`: where the block stands, for the errors of lines that are not resources.
    /// * Runs of lines of one type are copied as one slice of the block, never line by line.
    pub async fn feed(&mut self, block: &Bytes, offset: u64, from: usize, object: &str, selection: Selection) -> Result<Fill, StoreError> {
        let mut run: Option<(PartKind, usize)> = None;
        let mut run_lines = 0;
        let skipped = block.slice(from..);
        let origin = offset + from as u64;
        if self.must_be_recorded() {
            // An overlong line stood before this block.
            return Ok(Fill::FullAt(origin));
        }
        for line in ndjson::lines(&skipped, origin) {
            let verdict = selection.judge(line);
            let kind = match &verdict {
                Verdict::Keep(kind) => Some(PartKind::Output(*kind)),
                Verdict::LeaveOut | Verdict::Refuse(_) => None,
            };
            if let Some((running, start)) = run
                && (kind != Some(running) || !line.is_verbatim())
            {
                self.append(running, skipped.slice(start..line.start), run_lines).await?;
                (run, run_lines) = (None, 0);
            }
            match (verdict, kind) {
                (Verdict::Refuse(reason), _) => self.refuse(object, origin + line.start as u64, &reason).await?,
                (Verdict::Keep(_), Some(kind)) => {
                    self.tally.resources += 1;
                    if line.is_verbatim() {
                        let start = run.map_or(line.start, |(_, start)| start);
                        run = Some((kind, start));
                        run_lines += 1;
                        if self.would_end(kind, (line.next - start) as u64) {
                            self.append(kind, skipped.slice(start..line.next), run_lines).await?;
                            (run, run_lines) = (None, 0);
                        }
                    } else {
                        self.append(kind, [line.text, b"\n"].concat().into(), 1).await?;
                    }
                }
                (Verdict::LeaveOut | Verdict::Keep(_), _) => {}
            }
            if run.is_none() && self.must_be_recorded() {
                return Ok(Fill::FullAt(origin + line.next as u64));
            }
        }
        if let Some((kind, start)) = run {
            self.append(kind, skipped.slice(start..), run_lines).await?;
        }
        Ok(Fill::Taken)
    }

    /// Takes lines of one kind that are known to be good: a tail's.
    pub async fn feed_tail(&mut self, block: &Bytes, offset: u64, from: usize, kind: PartKind) -> Result<Fill, StoreError> {
        let mut taken = from;
        let mut count = 0;
        let rest = block.slice(from..);
        for line in ndjson::lines(&rest, 1) {
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
    pub async fn refuse_overlong(&mut self, object: &str, offset: u64) -> Result<(), StoreError> {
        let reason = format!("longer than {} MiB", LINE_LIMIT_BYTES >> 20);
        self.refuse(object, offset, &reason).await
    }

    async fn refuse(&mut self, object: &str, offset: u64, reason: &str) -> Result<(), StoreError> {
        self.tally.refused += 1;
        let text = format!("a line of the lake was left out: object `{object}`, byte {offset}: {reason}");
        let outcome = format!("{}\n", Outcome::error(IssueCode::Structure, text));
        self.append(PartKind::Error, outcome.into(), 1).await
    }

    /// Whether the page must be recorded once so many more bytes of a kind are in it. Asked line by line, so that pages
    /// end where the lines say and not where blocks do: a second attempt writes the same bytes under a claimed name.
    fn would_end(&self, kind: PartKind, more: u64) -> bool {
        let open = self.drafts.get(&kind);
        let held = open.map_or(0, |open| open.content.bytes) + more;
        let beside = self.pending_bytes + more - self.largest_bytes.max(held);
        // One kind of a page may become a part; a page holds only so many tails.
        let files = self.drafts.len() + usize::from(open.is_none());
        held >= self.file_bytes || beside >= self.beside_limit_bytes || files >= TAILS_PER_PAGE
    }

    fn must_be_recorded(&self) -> bool {
        let beside = self.pending_bytes - self.largest_bytes;
        self.full.is_some() || beside >= self.beside_limit_bytes || self.drafts.len() >= TAILS_PER_PAGE
    }

    async fn append(&mut self, kind: PartKind, bytes: Bytes, lines: u64) -> Result<(), StoreError> {
        let open = match self.drafts.entry(kind) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                let (task, attempt, step) = self.writer;
                let tail = TailName { kind, task, attempt, step };
                let draft = self.store.draft(&self.folder, tail).await?;
                free.insert(OpenDraft {
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
