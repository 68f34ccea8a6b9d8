//! Reads the inputs of a task and writes them to output files and fragments, checkpoint by checkpoint.

use std::ops::Range;

use bytes::Bytes;

use crate::job::Counters;
use crate::job::ExportError;
use crate::job::file::OutputKind;
use crate::job::task::{Cursor, Encoding, Lease, TaskCompletion, Work};
use crate::lake::ndjson::Segment;
use crate::lake::reader::{LineReader, ReadRequest};
use crate::lines::checkpoint::{AddOutcome, OpenCheckpoint};
use crate::lines::line_processor::LineProcessor;
use crate::ports::{AllPorts, ByteStream, JobStore as _, OutputStore as _, ResourceSource as _};
use crate::vocab::clock::Millis;

use super::completed_files::CompletedFiles;
use super::heartbeat::send_heartbeat_if_due;
use super::reading::{first_reading, second_reading};
use super::round::overwrites_files;
use super::settings::{CURSOR_INTERVALS_WITH_FILES, WorkerSettings};
use super::split_task::{is_nearly_over, split_interval, split_of, split_task};
use super::task_end::{TaskEnd, complete_task, yield_task};

mod files;
mod input;

pub(super) use input::Input;
use input::{SliceExtent, inputs_of, slice_extents, slice_inputs};

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
