//! The files of a pump: what is complete becomes output files and fragments, which are recorded with the cursor after them.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::Pump;
use crate::flow::work::fragments::write_chunks;
use crate::flow::work::heartbeat::update_leased_task;
use crate::job::ExportError;
use crate::job::file::{FileName, Fragment, OutputFile, OutputFileName, OutputKind};
use crate::job::task::{Checkpoint, Cursor, TaskUpdate};
use crate::lines::checkpoint::OpenFile;
use crate::ports::{AllPorts, FileWriter as _, OUTPUT_FILES_PER_CHECKPOINT, OutputStore};
use crate::vocab::error::StoreError;

impl<W: AllPorts> Pump<'_, W> {
    /// Handles an open checkpoint that takes no more lines. If a file has reached the size of an output file, it becomes one, and the
    /// checkpoint goes on without it, unless it should be committed now.
    pub(super) async fn complete_full_file(&mut self, cursor: Cursor) -> Result<(), ExportError> {
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
    pub(in crate::flow::work) async fn commit_checkpoint(&mut self, cursor: Cursor) -> Result<(), ExportError> {
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
    pub(in crate::flow::work) async fn promote(&mut self, fragments: &[Fragment], cursor: Cursor) -> Result<(), ExportError> {
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
}
