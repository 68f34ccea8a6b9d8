//! Writes lines to the files of a checkpoint: the inner loop of a worker.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use headrace_fhir::deid::{DeidFailure, DeidFailureScope};

use crate::job::file::{FileSummary, FragmentName, OutputKind};
use crate::job::folder::Folder;
use crate::job::task::Lease;
use crate::job::{Counters, ExportError};
use crate::lake::ndjson::{self, LINE_LIMIT_BYTES};
use crate::lines::line_processor::{DeletionCounts, LineOutput, LineProcessor};
use crate::lines::report_limit::ReportLimit;
use crate::output::content::ContentDigest;
use crate::patients::{SectionedFrames, Sections, is_block_header};
use crate::ports::{FRAGMENTS_PER_CHECKPOINT, FileWriter, OutputStore};
use crate::versions::record::{LinePosition, RecordChunks, VersionLog};
use crate::vocab::error::StoreError;
use crate::vocab::outcome::{IssueCode, OperationOutcome};

/// Maximum total size of the open files except the largest one, if the store buffers them. It bounds memory: mixed input writes to many
/// files at once.
const SMALL_FILES_LIMIT_BYTES: u64 = 48 << 20;

/// Maximum number of files in a checkpoint, in addition to the fragments of versions, links and patients.
const FILES_PER_CHECKPOINT: usize = FRAGMENTS_PER_CHECKPOINT - 3;

/// The subject of the entries about rejected lines, in the plural.
const REJECTED_LINES: &str = "lines of the lake were left out";

/// The files written since the last checkpoint.
pub struct OpenCheckpoint<'s, P: OutputStore> {
    store: &'s P,
    folder: Folder,
    file_bytes: u64,
    /// Task, attempt, and a number that only grows within the attempt, at first its fencing token, for the names of fragments.
    writer: (u32, u32, u32),
    files: BTreeMap<OutputKind, OpenFile<P::Writer>>,
    total_bytes: u64,
    /// Size of the largest file.
    largest_bytes: u64,
    /// [`SMALL_FILES_LIMIT_BYTES`], or no limit. Each commit leaves fragments, which are read and written once more.
    small_files_limit_bytes: u64,
    /// Kind of the file that has reached its full size.
    full_kind: Option<OutputKind>,
    /// Versions and links recorded since the last checkpoint.
    version_log: VersionLog,
    /// Resources to be grouped by patient, by bucket.
    patient_page: SectionedFrames,
    /// Lines that were left out since the last checkpoint.
    rejected_lines: ReportLimit,
    /// Resources that could not be de-identified since the last checkpoint.
    deid_failures: ReportLimit,
    /// Counters since the last checkpoint.
    pub counters: Counters,
}

/// A file that is being written.
pub struct OpenFile<W> {
    /// Name of the file, unless it becomes an output file.
    pub fragment: FragmentName,
    writer: W,
    content: ContentDigest,
}

impl<W: FileWriter> OpenFile<W> {
    /// Returns the size, line count and checksum of the content so far.
    pub fn summary(&self) -> FileSummary {
        self.content.summary()
    }

    /// Returns the writer, with which the caller commits the file.
    pub fn into_writer(self) -> W {
        self.writer
    }
}

/// Consecutive lines of one kind that are appended together: either a range of the block, or rewritten lines.
struct Run {
    kind: OutputKind,
    range: Range<usize>,
    rewritten: BytesMut,
    lines: u64,
}

/// Lines to add to a run.
enum RunLines<'a> {
    /// The unchanged line in the block.
    Unchanged,
    /// Other lines, with line feeds, and their number.
    Rewritten(&'a [u8], u64),
}

impl Run {
    /// Returns the size of the run's lines, in bytes.
    fn bytes(&self) -> u64 {
        (self.range.len() + self.rewritten.len()) as u64
    }

    /// Returns true if the lines can be added to this run.
    fn accepts(&self, lines: &RunLines<'_>, range: &Range<usize>) -> bool {
        match lines {
            RunLines::Unchanged => self.rewritten.is_empty() && self.range.end == range.start,
            RunLines::Rewritten(..) => self.range.is_empty(),
        }
    }
}

/// Returns the error of a job that ends because of this resource. Only the log names the resource, so that operators can find
/// it.
fn deid_job_failure(object: &str, offset: u64, failure: &DeidFailure) -> ExportError {
    tracing::warn!(object, offset, "a resource cannot be de-identified");
    ExportError::NotDeidentified(format!("a resource cannot be de-identified: {failure}"))
}

/// The result of adding a block of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddOutcome {
    /// The block was added completely.
    Added,
    /// The checkpoint must be committed before more lines are added. The lines up to this offset of the object were added,
    /// possibly none.
    FullAt(u64),
}

impl<'s, P: OutputStore> OpenCheckpoint<'s, P> {
    /// Creates an empty checkpoint of the leased task.
    pub fn new(store: &'s P, lease: &Lease) -> Self {
        Self {
            store,
            folder: lease.job.folder(),
            file_bytes: lease.job.settings.file_bytes,
            writer: (lease.task.task, lease.attempt, lease.fencing_token),
            files: BTreeMap::new(),
            total_bytes: 0,
            largest_bytes: 0,
            small_files_limit_bytes: if P::BUFFERS_OPEN_FILES { SMALL_FILES_LIMIT_BYTES } else { u64::MAX },
            full_kind: None,
            version_log: VersionLog::new(lease.task.task),
            patient_page: SectionedFrames::new(Sections::Buckets),
            rejected_lines: ReportLimit::from_job(&lease.job),
            deid_failures: ReportLimit::from_job(&lease.job),
            counters: Counters::default(),
        }
    }

    /// Returns true if the checkpoint contains a file of this kind.
    pub fn contains(&self, kind: OutputKind) -> bool {
        self.files.contains_key(&kind)
    }

    /// Returns true if nothing was written since the last checkpoint.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.version_log.is_empty() && self.patient_page.frames() == 0
    }

    /// Returns the kind of the file that has reached its full size.
    pub fn full_kind(&self) -> Option<OutputKind> {
        self.full_kind
    }

    /// Returns the total size of the open files, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Removes and returns the file that has reached its full size, if its kind is exported. The others stay open.
    pub fn take_full_file(&mut self) -> Option<(OutputKind, OpenFile<P::Writer>)> {
        let kind = self.full_kind.filter(|kind| kind.is_exported())?;
        let open = self.files.remove(&kind)?;
        self.full_kind = None;
        self.total_bytes -= open.content.bytes();
        self.largest_bytes = self.files.values().map(|open| open.content.bytes()).max().unwrap_or_default();
        // The next file of this kind needs another name, because this one may still be written under its own.
        self.writer.2 += 1;
        Some((kind, open))
    }

    /// Removes and returns the files written since the last checkpoint.
    pub fn take_files(&mut self) -> BTreeMap<OutputKind, OpenFile<P::Writer>> {
        self.full_kind = None;
        self.total_bytes = 0;
        self.largest_bytes = 0;
        std::mem::take(&mut self.files)
    }

    /// Removes the versions and links recorded since the last checkpoint. Returns them as fragments, with the number of
    /// records in each.
    pub fn take_version_fragments(&mut self) -> impl Iterator<Item = (FragmentName, RecordChunks, u64)> + use<P> {
        let (task, attempt, fencing_token) = self.writer;
        let fragments =
            [(OutputKind::VersionRecords, self.version_log.take_versions()), (OutputKind::Links, self.version_log.take_links())];
        let non_empty = fragments.into_iter().filter(|(_, (_, count))| *count > 0);
        non_empty.map(move |(kind, (chunks, count))| (FragmentName { kind, task, attempt, fencing_token }, chunks, count as u64))
    }

    /// Removes the resources to be grouped by patient that were added since the last checkpoint. Returns them as the content of a fragment,
    /// with its name and the number of resources.
    pub fn take_patient_page(&mut self) -> Option<(FragmentName, Vec<Bytes>, u64)> {
        let (task, attempt, fencing_token) = self.writer;
        let count = self.patient_page.frames();
        (count > 0)
            .then(|| (FragmentName { kind: OutputKind::PatientPages, task, attempt, fencing_token }, self.patient_page.take(), count))
    }

    /// Starts the next checkpoint, after `lease` has committed this one. No fragment has a name that an earlier one of the attempt had.
    pub fn start_next(&mut self, lease: &Lease) {
        self.writer.2 = lease.fencing_token.max(self.writer.2 + 1);
        self.counters = Counters::default();
    }

    /// Adds the lines of a block of the lake from its byte `from`, until the checkpoint is full.
    ///
    /// * `object`, `slice`, `offset`: position of the block, for version records and error messages.
    /// * Consecutive unchanged lines of one type are appended as one range of the block, not line by line.
    pub async fn add_lines(
        &mut self,
        block: &Bytes,
        offset: u64,
        from: usize,
        (object, slice): (&str, u32),
        processor: &mut LineProcessor,
    ) -> Result<AddOutcome, ExportError> {
        let mut run = None::<Run>;
        let rest = block.slice(from..);
        let origin = offset + from as u64;
        if self.must_be_committed() {
            // The report of an overlong line before this block filled the checkpoint.
            return Ok(AddOutcome::FullAt(origin));
        }
        let (reports_rejected_lines, is_deidentified) = (processor.reports_rejected_lines(), processor.is_deidentified());
        for line in ndjson::lines(&rest, origin) {
            let line_offset = origin + line.start as u64;
            let range = line.start..line.end;
            let with_line_feed: Vec<u8>;
            let output = if line.is_blank() {
                LineOutput::Nothing
            } else {
                processor.process(line.text, LinePosition::new(slice, line_offset), &mut self.version_log)
            };
            // Lines extend the current run. Everything else first ends it, so that the order of lines is kept.
            match output {
                LineOutput::Unchanged(kind) => {
                    self.counters.resources += 1;
                    let lines = if line.is_verbatim() {
                        RunLines::Unchanged
                    } else {
                        with_line_feed = [line.text, b"\n"].concat();
                        RunLines::Rewritten(&with_line_feed, 1)
                    };
                    self.extend_run(&mut run, OutputKind::Output(kind), lines, &rest, range).await?;
                }
                LineOutput::Rewritten(kind, text) => {
                    self.counters.resources += 1;
                    self.extend_run(&mut run, OutputKind::Output(kind), RunLines::Rewritten(text, 1), &rest, range).await?;
                }
                LineOutput::PatientCopies(copies) => {
                    self.end_run(&mut run, &rest).await?;
                    self.counters.resources += u64::from(copies.is_exported());
                    for (bucket, frame) in copies.frames() {
                        self.patient_page.add(usize::from(bucket.number()), frame.to_bytes());
                    }
                }
                LineOutput::Deletions(text, DeletionCounts { reported, unreported, unread }) => {
                    if reported > 0 {
                        self.extend_run(&mut run, OutputKind::Deleted, RunLines::Rewritten(text, reported), &rest, range.clone()).await?;
                    }
                    if unread > 0 && reports_rejected_lines {
                        self.end_run(&mut run, &rest).await?;
                        let reason = format!("{unread} requests name no single resource such as `Patient/1`; its other deletions are used");
                        self.report_rejected((object, line_offset), is_deidentified, "DELETE requests in a line", &reason).await?;
                    }
                    if unreported > 0 {
                        // Only the number of lines counts. It is recorded with the checkpoint, like everything else.
                        let lines = vec![b'\n'; usize::try_from(unreported).unwrap_or_default()];
                        self.extend_run(&mut run, OutputKind::UnreportedDeletions, RunLines::Rewritten(&lines, unreported), &rest, range)
                            .await?;
                    }
                }
                LineOutput::Rejected(reason) => {
                    self.end_run(&mut run, &rest).await?;
                    if reports_rejected_lines {
                        self.report_rejected((object, line_offset), is_deidentified, "a line", &reason).await?;
                    }
                }
                LineOutput::TypeOnly(kind, text, failure) => {
                    self.counters.resources += 1;
                    self.extend_run(&mut run, OutputKind::Output(kind), RunLines::Rewritten(text, 1), &rest, range).await?;
                    self.end_run(&mut run, &rest).await?;
                    self.report_deid_failure((object, line_offset), "was reduced to its type", &failure).await?;
                }
                LineOutput::DeidFailed(failure) => match failure.scope {
                    DeidFailureScope::Job => return Err(deid_job_failure(object, line_offset, &failure)),
                    DeidFailureScope::Resource => {
                        self.end_run(&mut run, &rest).await?;
                        self.report_deid_failure((object, line_offset), "was left out", &failure).await?;
                    }
                },
                LineOutput::Nothing => {}
            }
            let is_full = run.as_ref().is_some_and(|run| self.would_be_full(run.kind, run.bytes())) || self.version_log.is_full();
            if is_full {
                self.end_run(&mut run, &rest).await?;
            }
            if run.is_none() && self.must_be_committed() {
                self.take_notices();
                return Ok(AddOutcome::FullAt(origin + line.end as u64));
            }
        }
        self.end_run(&mut run, &rest).await?;
        self.take_notices();
        Ok(AddOutcome::Added)
    }

    /// Moves the counts of the lines that were processed to the counters of the checkpoint.
    fn take_notices(&mut self) {
        self.counters.notices = self.counters.notices.plus(std::mem::take(&mut self.version_log.notices));
    }

    /// Adds lines to the run if it accepts them. Otherwise ends the run and starts a new one.
    async fn extend_run(
        &mut self,
        run: &mut Option<Run>,
        kind: OutputKind,
        lines: RunLines<'_>,
        block: &Bytes,
        range: Range<usize>,
    ) -> Result<(), StoreError> {
        if !run.as_ref().is_some_and(|run| run.kind == kind && run.accepts(&lines, &range)) {
            self.end_run(run, block).await?;
        }
        let run = run.get_or_insert_with(|| Run { kind, range: range.start..range.start, rewritten: BytesMut::new(), lines: 0 });
        match lines {
            RunLines::Unchanged => (run.range.end, run.lines) = (range.end, run.lines + 1),
            RunLines::Rewritten(text, count) => {
                run.rewritten.extend_from_slice(text);
                run.lines += count;
            }
        }
        Ok(())
    }

    /// Appends the current run, if there is one, to the file of its kind.
    async fn end_run(&mut self, run: &mut Option<Run>, block: &Bytes) -> Result<(), StoreError> {
        match run.take() {
            Some(Run { kind, range, rewritten, lines }) => {
                let bytes = if rewritten.is_empty() { block.slice(range) } else { rewritten.freeze() };
                self.append(kind, bytes, lines).await
            }
            None => Ok(()),
        }
    }

    /// Adds the lines of a fragment from byte `from` of the block, until the checkpoint is full. Their content is not checked.
    pub async fn add_fragment_lines(
        &mut self,
        block: &Bytes,
        offset: u64,
        from: usize,
        kind: OutputKind,
    ) -> Result<AddOutcome, StoreError> {
        let mut added = from;
        let mut count = 0;
        let rest = block.slice(from..);
        for line in ndjson::lines(&rest, 1) {
            if kind == OutputKind::PatientBlocks {
                // The block of a patient must not be split, so a file ends only before a header.
                let start = from + line.start;
                let size = self.files.get(&kind).map_or(0, |open| open.content.bytes()) + (start - added) as u64;
                if size >= self.file_bytes && is_block_header(line.text) {
                    if start > added {
                        self.append(kind, block.slice(added..start), count).await?;
                    }
                    return Ok(AddOutcome::FullAt(offset + start as u64));
                }
                // The header of a block is not a resource.
                count += u64::from(!is_block_header(line.text));
                continue;
            }
            count += 1;
            if self.would_be_full(kind, (from + line.end - added) as u64) {
                self.append(kind, block.slice(added..from + line.end), count).await?;
                added = from + line.end;
                count = 0;
                if self.must_be_committed() {
                    return Ok(AddOutcome::FullAt(offset + added as u64));
                }
            }
        }
        if added < block.len() {
            self.append(kind, block.slice(added..), count).await?;
        }
        Ok(AddOutcome::Added)
    }

    /// Reports in the `error` file that a line was too long to be read.
    pub async fn report_overlong_line(&mut self, location: (&str, u64), is_deidentified: bool) -> Result<(), StoreError> {
        let reason = format!("longer than {} MiB", LINE_LIMIT_BYTES >> 20);
        self.report_rejected(location, is_deidentified, "a line", &reason).await
    }

    /// Reports in the `error` file that a line or a part of it was left out, and counts the line.
    ///
    /// * `part`: what was left out, such as `a line`.
    ///
    /// The file of a de-identified export does not show the object and the offset of the line, since names of objects can
    /// contain names of patients, and offsets tell the original order. The operator finds them in the log.
    async fn report_rejected(
        &mut self,
        (object, offset): (&str, u64),
        is_deidentified: bool,
        part: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.counters.lines_rejected += 1;
        // The file of a de-identified export must not name objects, so that all its lines are counted together.
        let shown = (!is_deidentified).then_some((object, offset));
        if self.rejected_lines.is_about_another_object(shown)
            && let Some(text) = self.rejected_lines.end_object(REJECTED_LINES)
        {
            self.write_count(IssueCode::Structure, text).await?;
        }
        if !self.rejected_lines.count(shown) {
            return Ok(());
        }
        if is_deidentified {
            tracing::warn!(object, offset, reason, "{part} of the lake was left out of a de-identified export");
        }
        let location = shown.map(|(object, offset)| format!("object `{object}`, byte {offset}: ")).unwrap_or_default();
        self.write_error(IssueCode::Structure, format!("{part} of the lake was left out: {location}{reason}")).await
    }

    /// Reports in the `error` file that a resource cannot be de-identified. Only the log names its object and offset.
    ///
    /// * `result`: what happened to the resource, such as `was left out`.
    async fn report_deid_failure(&mut self, (object, offset): (&str, u64), result: &str, failure: &DeidFailure) -> Result<(), StoreError> {
        if !self.deid_failures.count(None) {
            return Ok(());
        }
        tracing::warn!(object, offset, failure = %failure, "a resource {result}, since it cannot be de-identified");
        self.write_error(IssueCode::Processing, format!("a resource {result}, since it cannot be de-identified: {failure}")).await
    }

    /// Reports in the `error` file how many entries were counted and not written. Call it before the checkpoint is committed.
    pub async fn report_unwritten_entries(&mut self) -> Result<(), StoreError> {
        for text in self.rejected_lines.end_checkpoint(REJECTED_LINES) {
            self.write_count(IssueCode::Structure, text).await?;
        }
        for text in self.deid_failures.end_checkpoint("resources cannot be de-identified") {
            self.write_count(IssueCode::Processing, text).await?;
        }
        Ok(())
    }

    /// Appends an entry that counts others to the `error` file. Each commit makes one output file at most, so this entry must not choose
    /// another one.
    async fn write_count(&mut self, code: IssueCode, text: String) -> Result<(), StoreError> {
        let full_kind = self.full_kind;
        self.write_error(code, text).await?;
        self.full_kind = full_kind.or(self.full_kind);
        Ok(())
    }

    /// Appends an OperationOutcome with this text to the `error` file.
    async fn write_error(&mut self, code: IssueCode, text: String) -> Result<(), StoreError> {
        self.append(OutputKind::Error, format!("{}\n", OperationOutcome::error(code, text)).into(), 1).await
    }

    /// Returns true if the checkpoint is full after adding `bytes` of a kind. It is asked after each line, so that the end of a
    /// checkpoint depends on lines and not on blocks: a second attempt must write the same bytes to a reserved file.
    fn would_be_full(&self, kind: OutputKind, bytes: u64) -> bool {
        let open = self.files.get(&kind);
        let size = open.map_or(0, |open| open.content.bytes()) + bytes;
        let small_files_bytes = self.total_bytes + bytes - self.largest_bytes.max(size);
        let file_count = self.files.len() + usize::from(open.is_none());
        size >= self.file_bytes || small_files_bytes >= self.small_files_limit_bytes || file_count >= FILES_PER_CHECKPOINT
    }

    /// Returns true if the checkpoint is full and must be committed before more lines are added, or, if [`Self::take_full_file`] returns a
    /// file, without that file.
    pub fn must_be_committed(&self) -> bool {
        let small_files_bytes = self.total_bytes - self.largest_bytes;
        self.full_kind.is_some()
            || small_files_bytes >= self.small_files_limit_bytes
            || self.files.len() >= FILES_PER_CHECKPOINT
            || self.version_log.is_full()
            || self.patient_page.bytes() >= self.small_files_limit_bytes.min(SMALL_FILES_LIMIT_BYTES)
    }

    /// Appends lines of one kind to the open file of this kind. Opens the file if necessary.
    pub(crate) async fn append(&mut self, kind: OutputKind, bytes: Bytes, lines: u64) -> Result<(), StoreError> {
        let open = match self.files.entry(kind) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => {
                let (task, attempt, fencing_token) = self.writer;
                let fragment = FragmentName { kind, task, attempt, fencing_token };
                let writer = self.store.new_fragment(&self.folder, fragment).await?;
                vacant.insert(OpenFile { fragment, writer, content: ContentDigest::default() })
            }
        };
        open.content.add(&bytes, lines);
        self.total_bytes += bytes.len() as u64;
        self.largest_bytes = self.largest_bytes.max(open.content.bytes());
        if open.content.bytes() >= self.file_bytes {
            self.full_kind = Some(kind);
        }
        open.writer.write(bytes).await
    }
}

#[cfg(test)]
mod tests;
