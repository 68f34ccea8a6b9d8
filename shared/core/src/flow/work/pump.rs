//! Reads the inputs of a task and writes them to output files and fragments, checkpoint by checkpoint.

use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::job::Counters;
use crate::job::ExportError;
use crate::job::file::{FileName, Fragment, FragmentPart, OutputFile, OutputFileName, OutputKind};
use crate::job::task::{Checkpoint, Cursor, Encoding, Lease, Slice, TaskCompletion, TaskUpdate, Work};
use crate::lake::ndjson::Segment;
use crate::lake::reader::{LineReader, ReadRequest};
use crate::lines::checkpoint::{AddOutcome, OpenCheckpoint, OpenFile};
use crate::lines::line_processor::LineProcessor;
use crate::ports::{AllPorts, ByteStream, FileWriter as _, JobStore as _, OUTPUT_FILES_PER_CHECKPOINT, OutputStore, ResourceSource as _};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;

use super::completed_files::CompletedFiles;
use super::fragments::write_chunks;
use super::heartbeat::{send_heartbeat_if_due, update_leased_task};
use super::reading::{first_reading, second_reading};
use super::round::overwrites_files;
use super::settings::{CURSOR_INTERVALS_WITH_FILES, WorkerSettings};
use super::split_task::{is_nearly_over, split_interval, split_of, split_task};
use super::task_end::{TaskEnd, complete_task, yield_task};

/// The total size of the open files and of the file that is being written up to which a task reads on meanwhile: two files of the default
/// size. It bounds memory.
const READ_AHEAD_LIMIT_BYTES: u64 = 128 << 20;

/// Runs a read, reread or merge task from its cursor to its end, or until `stop_at`.
pub(super) async fn pump(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
) -> Result<TaskEnd, ExportError> {
    let (inputs, processor) = match &lease.work {
        Work::Read(_) => (inputs_of(&lease.work), Some(first_reading(ports, lease, &settings.lake).await?)),
        Work::Reread(reread) => {
            let (slices, processor) = second_reading(ports, lease, &settings.lake, *reread).await?;
            (slice_inputs(&slices), Some(processor))
        }
        Work::Merge(_)
        | Work::Plan(_)
        | Work::MergeRecords(_)
        | Work::Resolve(_)
        | Work::MergeCorrections(_)
        | Work::SortPatients(_)
        | Work::GroupByPatient(_)
        | Work::Fetch(_)
        | Work::Publish(_)
        | Work::Finalize
        | Work::FinalizeSync(_) => (inputs_of(&lease.work), None),
    };
    let (mut inputs, mut index) = (inputs, lease.cursor.item);
    let mut pump = Pump::new(ports, lease, settings, stop_at);
    pump.slices = slice_extents(&inputs);
    pump.processor = processor;
    while let Some(input) = inputs.get(index as usize) {
        match pump.read(input, index).await? {
            Progress::Done => index += 1,
            Progress::TimeUp => return yield_task(ports, pump.lease, settings).await,
            // The input ends earlier now. Its reader has fetched more, so another one continues.
            Progress::InputCut => {}
        }
        if std::mem::take(&mut pump.has_split) {
            inputs = inputs_of(&pump.lease.work);
        }
    }
    pump.commit_checkpoint(Cursor { item: u32::try_from(inputs.len()).unwrap_or(u32::MAX), offset: 0 }).await?;
    complete_task(ports, pump.lease, TaskCompletion::Done).await
}

/// Returns the slices or fragments of a task as inputs.
fn inputs_of(work: &Work) -> Vec<Input> {
    let fragments = work.fragments().iter().cloned().map(Input::Fragment);
    slice_inputs(work.slices()).into_iter().chain(fragments).collect()
}

/// Returns each slice as an input.
fn slice_inputs(slices: &[Slice]) -> Vec<Input> {
    slices.iter().cloned().map(Input::Slice).collect()
}

/// Returns the extents of the slices among the inputs.
fn slice_extents(inputs: &[Input]) -> Vec<SliceExtent> {
    inputs.iter().filter_map(Input::slice_extent).collect()
}

/// An input of a task.
pub(super) enum Input {
    /// Lines of the lake, which have to be selected.
    Slice(Slice),
    /// Lines of one kind that are already selected.
    Fragment(FragmentPart),
    /// Lines of one kind that are in no file yet.
    Lines(OutputKind, Bytes),
}

impl Input {
    /// Returns the extent of a slice, and `None` for other inputs.
    fn slice_extent(&self) -> Option<SliceExtent> {
        match self {
            Self::Slice(slice) => Some(SliceExtent { range: slice.start..slice.end, is_plain: slice.encoding == Encoding::Plain }),
            Self::Fragment(_) | Self::Lines(..) => None,
        }
    }
}

/// The stored byte range of a slice.
struct SliceExtent {
    range: Range<u64>,
    /// True if the object is not compressed, so that the cursor's offset counts stored bytes.
    is_plain: bool,
}

/// The result of reading an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The input was read to its end.
    Done,
    /// The time is up. Everything read is recorded; in a finalize task, everything up to the last full output file.
    TimeUp,
    /// The task has given the rest of the input that is being read to another one. The same input is read on, to its new end.
    InputCut,
}

/// A leased task that is reading and writing lines.
pub(super) struct Pump<'a, W: AllPorts> {
    ports: &'a W,
    pub(super) lease: &'a mut Lease,
    settings: &'a WorkerSettings,
    stop_at: Millis,
    /// The processor of lines of the lake. `None` if the task reads fragments only.
    processor: Option<LineProcessor>,
    /// The extents of the slices that the task reads.
    slices: Vec<SliceExtent>,
    /// The position from which on its input is read: the recorded cursor when the attempt began, or the cursor at the last cut of an input.
    /// Other inputs are read from their start.
    start: Cursor,
    /// True if output files replace existing files of the same name, see [`overwrites_files`].
    overwrites: bool,
    pub(super) checkpoint: OpenCheckpoint<'a, W::Output>,
    /// The output files that belong to the open checkpoint.
    completed: CompletedFiles<'a>,
    /// The time at which the cursor was last recorded, or at which the attempt began.
    recorded_at: Millis,
    /// The time at which the attempt last looked whether its task should be split, or at which it began.
    progress_checked_at: Millis,
    /// True if the task was split, and the caller of [`Self::read`] does not know its slices yet.
    has_split: bool,
}

impl<'a, W: AllPorts> Pump<'a, W> {
    /// Creates a pump for the leased task, without slices and processor.
    pub(super) fn new(ports: &'a W, lease: &'a mut Lease, settings: &'a WorkerSettings, stop_at: Millis) -> Self {
        let overwrites = overwrites_files(&lease.job);
        let checkpoint = OpenCheckpoint::new(ports.output(), lease);
        let now = ports.now();
        let (processor, slices, completed) = (None, Vec::new(), CompletedFiles::default());
        let (recorded_at, progress_checked_at) = (now, now);
        let start = lease.cursor;
        let has_split = false;
        Self {
            ports,
            lease,
            settings,
            stop_at,
            processor,
            slices,
            start,
            overwrites,
            checkpoint,
            completed,
            recorded_at,
            progress_checked_at,
            has_split,
        }
    }

    /// Reads one input to its end. If the attempt began within it, or it was cut, reading starts there.
    pub(super) async fn read(&mut self, input: &Input, index: u32) -> Result<Progress, ExportError> {
        let offset = if self.start.item == index { self.start.offset } else { 0 };
        let ports = self.ports;
        match input {
            Input::Slice(slice) => {
                let Some(offset) = self.first_relevant_offset(index, offset) else { return Ok(Progress::Done) };
                let request = ReadRequest {
                    object: slice.pin.object.clone(),
                    encoding: slice.encoding,
                    range: slice.start..slice.end,
                    size: slice.pin.size,
                    offset,
                };
                self.read_lines(input, index, LineReader::open(request, |range| ports.source().read(&slice.pin, range))).await
            }
            Input::Fragment(part) => {
                let (folder, fragment) = (self.lease.job.folder(), part.fragment);
                let size = fragment.summary.bytes;
                let object = fragment.name.to_string();
                let request = ReadRequest { object, encoding: Encoding::Plain, range: part.range(), size, offset };
                self.read_lines(input, index, LineReader::open(request, |range| ports.output().read(&folder, &fragment.name, range))).await
            }
            Input::Lines(_, lines) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(lines.len());
                self.add_block(&lines.slice(start..), offset, input, index).await?;
                Ok(Progress::Done)
            }
        }
    }

    /// Returns the offset at which to start reading a slice: `offset`, or the first line that has a correction. Returns `None` if no
    /// line from `offset` on has one.
    fn first_relevant_offset(&self, index: u32, offset: u64) -> Option<u64> {
        match self.processor.as_ref().and_then(|processor| processor.line_range(index)) {
            None => Some(offset),
            Some(lines) => lines.filter(|(_, last)| last.offset() >= offset).map(|(first, _)| offset.max(first.offset())),
        }
    }

    /// Returns true if only lines with corrections are read and none is left from `offset` on.
    fn is_past_last_relevant_line(&self, index: u32, offset: u64) -> bool {
        let lines = self.processor.as_ref().and_then(|processor| processor.line_range(index));
        lines.is_some_and(|lines| lines.is_none_or(|(_, last)| last.offset() < offset))
    }

    /// Adds the lines of a reader to the open checkpoint until the reader ends, the time is up, or no relevant line is left.
    /// Overlong lines are skipped, and reported if they are lines of the lake.
    async fn read_lines(
        &mut self,
        input: &Input,
        index: u32,
        mut reader: LineReader<impl Fn(Range<u64>) -> ByteStream>,
    ) -> Result<Progress, ExportError> {
        while let Some(segment) = self.completed.write_during(reader.next()).await?? {
            let end = match (segment, input) {
                (Segment::Lines { bytes, .. }, _) if bytes.is_empty() => {
                    // The reader skips to the cursor, or the rest of an overlong line. An attempt that ended here because its time is up
                    // would make no progress, and one that is stopped must not lose what it has read.
                    if self.settings.stop.is_set() && !self.has_unused_names() && self.checkpoint.is_empty() {
                        return Ok(Progress::TimeUp);
                    }
                    self.send_heartbeat_if_due().await?;
                    continue;
                }
                (Segment::Lines { offset, bytes }, _) => {
                    self.add_block(&bytes, offset, input, index).await?;
                    offset + bytes.len() as u64
                }
                (Segment::OverlongLine { offset }, Input::Slice(slice)) => {
                    if let Some(processor) = self.processor.as_ref().filter(|processor| processor.reports_rejected_lines()) {
                        let is_deidentified = processor.is_deidentified();
                        self.checkpoint.report_overlong_line((&slice.pin.object, offset), is_deidentified).await?;
                    }
                    continue;
                }
                // Lines that this service has written are never too long.
                (Segment::OverlongLine { .. }, Input::Fragment(_) | Input::Lines(..)) => continue,
            };
            let progress = self.check_time(Cursor { item: index, offset: end }).await?;
            if progress != Progress::Done {
                return Ok(progress);
            }
            if self.is_past_last_relevant_line(index, end) {
                return Ok(Progress::Done);
            }
        }
        Ok(Progress::Done)
    }

    /// Adds whole lines to the open checkpoint. Commits the checkpoint whenever it is full.
    async fn add_block(&mut self, block: &Bytes, offset: u64, input: &Input, index: u32) -> Result<(), ExportError> {
        let mut start = 0;
        while start < block.len() {
            let outcome = match (input, &mut self.processor) {
                (Input::Slice(slice), Some(processor)) => {
                    self.checkpoint.add_lines(block, offset, start, (&slice.pin.object, index), processor).await?
                }
                (Input::Slice(_), None) => AddOutcome::Added,
                (Input::Fragment(part), _) => self.checkpoint.add_fragment_lines(block, offset, start, part.fragment.name.kind).await?,
                (Input::Lines(kind, _), _) => self.checkpoint.add_fragment_lines(block, offset, start, *kind).await?,
            };
            if self.completed.bytes_in_flight() + self.checkpoint.total_bytes() > READ_AHEAD_LIMIT_BYTES {
                self.completed.finish_write().await?;
            }
            match outcome {
                AddOutcome::Added => return Ok(()),
                AddOutcome::FullAt(at) => {
                    self.complete_full_file(Cursor { item: index, offset: at }).await?;
                    start = usize::try_from(at - offset).unwrap_or(usize::MAX);
                }
            }
        }
        Ok(())
    }

    /// Sends a heartbeat, records the cursor or splits the task if that is due. If the time is up, commits what was read and returns
    /// `TimeUp` (rule P7).
    async fn check_time(&mut self, cursor: Cursor) -> Result<Progress, ExportError> {
        if self.is_time_up() {
            // Blocks of patients are never split, so no checkpoint may end within one.
            if !self.is_finalize_task() && !self.checkpoint.contains(OutputKind::PatientBlocks) {
                self.commit_checkpoint(cursor).await?;
            }
            return Ok(Progress::TimeUp);
        }
        if self.split_if_due(cursor).await? {
            return Ok(Progress::InputCut);
        }
        if self.must_record_cursor() {
            self.commit_checkpoint(cursor).await?;
        } else {
            self.send_heartbeat_if_due().await?;
        }
        Ok(Progress::Done)
    }

    /// Returns true if the cursor should be recorded although no file is full, so that a process that is killed repeats little.
    ///
    /// Not while a name is reserved and not used: an earlier attempt has perhaps written the file, and this one must write the same bytes.
    /// Not within the blocks of a patient, and not in a task that only merges, which fills its files soon.
    fn must_record_cursor(&self) -> bool {
        let intervals = if self.checkpoint.is_empty() { 1 } else { CURSOR_INTERVALS_WITH_FILES };
        self.processor.is_some()
            && !self.has_unused_names()
            && self.ports.now() >= self.recorded_at + self.settings.cursor_interval * intervals
    }

    /// Gives a part of the remaining inputs to a new task if that is due and this task is among the last of its round: its worker is slower
    /// than others, or its lines are larger, and the others have nothing to do. Returns true if the input that is being read was cut.
    ///
    /// No checkpoint is committed: the task keeps all that was read since the last one, and a fragment would be written slowly and merged
    /// later.
    async fn split_if_due(&mut self, cursor: Cursor) -> Result<bool, ExportError> {
        let now = self.ports.now();
        let interval = split_interval(&self.lease.work, self.settings.split_interval);
        // While a name is reserved and not used, an earlier attempt has perhaps written its file with lines that would be given away.
        if now < self.progress_checked_at + interval || self.has_unused_names() {
            return Ok(false);
        }
        self.progress_checked_at = now;
        let Some(split) = split_of(self.lease, cursor) else { return Ok(false) };
        if !is_nearly_over(&self.ports.jobs().with_progress(self.lease.job.clone()).await?) {
            return Ok(false);
        }
        let current = cursor.item as usize;
        let is_cut = split.kept.input_range(current) != self.lease.work.input_range(current);
        if !split_task(self.ports, self.lease, self.settings.lease.duration, split).await? {
            return Ok(false);
        }
        self.has_split = true;
        self.slices = slice_extents(&inputs_of(&self.lease.work));
        if is_cut {
            self.start = cursor;
        }
        Ok(is_cut)
    }

    /// Returns true if the task should stop. A task with unused names writes their files first: an earlier attempt has read the same lines
    /// in a few seconds, or within one lease, so this one can, too.
    pub(super) fn is_time_up(&self) -> bool {
        (self.settings.stop.is_set() || self.ports.now() >= self.stop_at) && !self.has_unused_names()
    }

    /// Returns true if an earlier attempt has reserved the names of files that this one has not completed yet.
    fn has_unused_names(&self) -> bool {
        self.lease.reserved_files.len() > self.completed.len()
    }

    /// Sends a heartbeat if one is due.
    pub(super) async fn send_heartbeat_if_due(&mut self) -> Result<(), ExportError> {
        send_heartbeat_if_due(self.ports, self.lease, self.settings.lease.duration).await
    }

    /// Handles an open checkpoint that takes no more lines. If a file has reached the size of an output file, it becomes one, and the
    /// checkpoint goes on without it, unless it should be committed now.
    async fn complete_full_file(&mut self, cursor: Cursor) -> Result<(), ExportError> {
        let full = self.checkpoint.take_full_file();
        let must_record = self.checkpoint.must_be_committed() || full.as_ref().is_none_or(|(kind, _)| self.must_record_with(*kind));
        if let Some((kind, open)) = full {
            self.write_output_file(kind, open).await?;
        }
        if must_record { self.commit_checkpoint(cursor).await } else { Ok(()) }
    }

    /// Returns true if the checkpoint should be committed with its next output file, which is of this kind.
    fn must_record_with(&self, kind: OutputKind) -> bool {
        let completed = self.completed.len() + 1;
        if self.lease.reserved_files.len() > completed {
            // An earlier attempt has completed more files in this checkpoint. Another end of it could change their bytes.
            return false;
        }
        // A finalize task and a task with blocks of patients record nothing when their time is up, only full files.
        self.is_finalize_task()
            || kind == OutputKind::PatientBlocks
            || completed >= OUTPUT_FILES_PER_CHECKPOINT
            || self.ports.now() >= self.recorded_at + self.settings.cursor_interval
    }

    /// Reserves a name for a complete file and begins to write it, after the file before is written.
    async fn write_output_file(&mut self, kind: OutputKind, open: OpenFile<<W::Output as OutputStore>::Writer>) -> Result<(), ExportError> {
        self.reserve_files(&[kind]).await?;
        let name = self.reserved_name(0, kind)?;
        self.completed.finish_write().await?;
        let file = if self.overwrites { FileName::Overwrite(name) } else { FileName::Output(name) };
        let summary = open.summary();
        self.completed.add(OutputFile { name, summary }, Box::pin(open.into_writer().commit(file, summary)));
        Ok(())
    }

    /// Commits the open files and records them, with the completed ones and the cursor after them (rule P5).
    ///
    /// A file that has reached the size of an output file becomes one. In a finalize task, every file does. Others become fragments.
    pub(super) async fn commit_checkpoint(&mut self, cursor: Cursor) -> Result<(), ExportError> {
        self.checkpoint.report_unwritten_entries().await?;
        if let Some((kind, open)) = self.checkpoint.take_full_file() {
            self.write_output_file(kind, open).await?;
        }
        let mut recorded = Checkpoint { cursor, counters: self.counters_at(cursor), ..Checkpoint::default() };
        for (kind, open) in self.checkpoint.take_files() {
            if self.is_finalize_task() {
                self.write_output_file(kind, open).await?;
            } else {
                self.completed.finish_write().await?;
                let (name, summary) = (open.fragment, open.summary());
                open.into_writer().commit(FileName::Fragment(name), summary).await?;
                recorded.fragments.push(Fragment { name, summary });
            }
        }
        // Nothing else is awaited while a file is being written but the reader, because the write only goes on together with that.
        self.completed.finish_write().await?;
        for (name, chunks, lines) in self.checkpoint.take_version_fragments() {
            recorded.fragments.push(write_chunks(self.ports.output(), &self.lease.job.folder(), name, chunks, lines).await?);
        }
        if let Some((name, chunks, lines)) = self.checkpoint.take_patient_page() {
            recorded.fragments.push(write_chunks(self.ports.output(), &self.lease.job.folder(), name, chunks, lines).await?);
        }
        recorded.output_files = self.completed.take().await?;
        self.record_checkpoint(recorded).await
    }

    /// Turns whole fragments of different kinds into output files, and records them together with the cursor after them. No other files may
    /// exist under the names of the output files.
    pub(super) async fn promote(&mut self, fragments: &[Fragment], cursor: Cursor) -> Result<(), ExportError> {
        let kinds: Vec<OutputKind> = fragments.iter().map(|fragment| fragment.name.kind).collect();
        self.reserve_files(&kinds).await?;
        let mut output_files = Vec::with_capacity(fragments.len());
        for (position, fragment) in fragments.iter().enumerate() {
            let name = self.reserved_name(position, fragment.name.kind)?;
            output_files.push(OutputFile { name, summary: fragment.summary });
        }
        self.copy_fragments(fragments, &output_files).await?;
        let counters = self.counters_at(cursor);
        self.record_checkpoint(Checkpoint { output_files, fragments: Vec::new(), cursor, counters }).await
    }

    /// Copies fragments to output files within the store, all at the same time.
    ///
    /// S3 copies a file of several gigabytes for a good part of a lease, so each completed copy is an occasion for a heartbeat. A lease that
    /// ends all the same does no harm: the next attempt has the same names, and finds the files that are complete.
    async fn copy_fragments(&mut self, fragments: &[Fragment], files: &[OutputFile]) -> Result<(), ExportError> {
        let (output, folder) = (self.ports.output(), self.lease.job.folder());
        let mut copies: FuturesUnordered<_> =
            fragments.iter().zip(files).map(|(fragment, file)| output.promote(&folder, fragment, file.name)).collect();
        while let Some(copied) = copies.next().await {
            copied?;
            self.send_heartbeat_if_due().await?;
        }
        Ok(())
    }

    /// Reserves the names of the next output files, which are of these kinds. Names that an earlier attempt has reserved are used first: it
    /// was writing the same files from the same cursor.
    async fn reserve_files(&mut self, kinds: &[OutputKind]) -> Result<(), ExportError> {
        let unused = self.lease.reserved_files.len().saturating_sub(self.completed.len());
        match kinds.get(unused..) {
            None | Some([]) => Ok(()),
            Some(unnamed) => {
                let update = TaskUpdate::ReserveFiles(unnamed.to_vec());
                update_leased_task(self.ports, self.lease, self.settings.lease.duration, update).await
            }
        }
    }

    /// Returns the reserved name of a file, which is of this kind. `position` is its position among the files that are not completed.
    fn reserved_name(&self, position: usize, kind: OutputKind) -> Result<OutputFileName, ExportError> {
        match self.lease.reserved_files.get(self.completed.len() + position) {
            Some(name) if name.kind == kind => Ok(*name),
            other => Err(StoreError::Unreadable { store: "the job table", detail: format!("the reserved file {other:?}") }.into()),
        }
    }

    /// Stores a checkpoint unless it changes nothing, and starts the next one.
    async fn record_checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), ExportError> {
        let has_progress =
            checkpoint.cursor != self.lease.cursor || !checkpoint.output_files.is_empty() || !checkpoint.fragments.is_empty();
        if has_progress {
            update_leased_task(self.ports, self.lease, self.settings.lease.duration, TaskUpdate::Checkpoint(checkpoint)).await?;
        }
        self.recorded_at = self.ports.now();
        self.checkpoint.start_next(self.lease);
        Ok(())
    }

    /// Returns true if the task is the job's finalize task.
    fn is_finalize_task(&self) -> bool {
        self.lease.work == Work::Finalize
    }

    /// Returns the task's counters up to the cursor. Of a compressed slice, bytes are counted once it was read to its end.
    fn counters_at(&self, cursor: Cursor) -> Counters {
        let mut counters = self.lease.counters.plus(self.checkpoint.counters);
        let current = cursor.item as usize;
        let read = self.slices.iter().take(current).map(|slice| slice.range.end - slice.range.start).sum::<u64>();
        let plain = self.slices.get(current).filter(|slice| slice.is_plain);
        let read_of_current = plain.map_or(0, |slice| cursor.offset.clamp(slice.range.start, slice.range.end) - slice.range.start);
        if !self.slices.is_empty() {
            counters.source_bytes = read + read_of_current;
        }
        counters
    }
}
