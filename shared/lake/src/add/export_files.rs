//! Adds NDJSON files of resources, such as the export of another server. Lines are copied into files that are named for their type.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headrace_core::lake::line::LakeLine;
use headrace_core::lake::ndjson::{LineSplitter, Segment, lines};
use headrace_fhir::definitions::ResourceType;
use serde::de::IgnoredAny;

use super::completeness::Completeness;
use super::format::is_manifest;
use super::input::{ContentHash, FileContent, InputFile, LargeResourcePermit, read_chunks};
use super::manifest::{FileLines, Manifest};
use super::report::{Counts, InputPosition, LeftOutReason};
use super::{AddError, AddReport, Addition, in_order};
use crate::pool::for_each_item;
use crate::progress::Progress;
use crate::writing::{LakeLines, LakeLock, LineSink, Staging};

impl Addition<'_> {
    /// Adds NDJSON files of resources.
    pub(super) fn add_export_files(self, lake: &LakeLock) -> Result<AddReport, AddError> {
        let manifest = self.find_manifest()?;
        let errors: HashSet<&str> = manifest.iter().flat_map(Manifest::error_files).collect();
        let is_data = |file: &&InputFile| {
            let is_error = errors.contains(file.file_name()) || file.name.split('/').any(|segment| segment == "error");
            file.content == FileContent::Lines && !is_error
        };
        let files: Vec<InputFile> = self.files.iter().filter(is_data).cloned().collect();
        if files.is_empty() {
            return Err(AddError::NoFiles(self.from.to_owned()));
        }
        files.iter().for_each(|file| self.progress.expect(2 * file.size));
        let progress = self.progress;
        let hashers = for_each_item(&files, vec![Vec::new(); self.settings.rewrite.workers()], |hashes, number, file| {
            hashes.push((number, file.hash(progress).map_err(|cause| file.read_error(cause))?));
            Ok::<_, AddError>(())
        })?;
        let hashes = in_order(hashers.into_iter().flatten());
        let (receipt, mut report) = self.identify_run(&hashes, "ndjson");
        report.files_without_data = (self.files.len() - files.len()) as u64;
        // A manifest is compared with all files, also with those that were added before.
        let needs_counts = manifest.is_some() && self.settings.complete_up_to.is_none();
        if report.is_repeat && !needs_counts {
            return self.publish_repeat(lake, &receipt, &self.operator_statement(), report);
        }
        let staging = Staging::begin(lake, &receipt.run)?;
        let lake_lines = LakeLines::new(&staging);
        let sinks = self.settings.rewrite.sinks(&lake_lines)?;
        let writers = sinks.into_iter().map(|sink| LineWriter { sink, counts: Counts::default(), lines: Vec::new() }).collect();
        let (is_new, large_resources) = (self.new_files(&hashes), &self.large_resources);
        let writers = for_each_item(&files, writers, |writer, number, file| {
            let is_added = is_new.get(number).copied().unwrap_or_default();
            if !is_added && !needs_counts {
                return Ok(());
            }
            let hash = writer.add_file(file, is_added, progress, large_resources)?;
            file.check_content(hashes.get(number), hash)
        })?;
        let mut lines = Vec::new();
        for mut writer in writers {
            writer.sink.flush()?;
            report.merge(writer.counts);
            lines.append(&mut writer.lines);
        }
        report.files_added_before = is_new.iter().filter(|is_new| !**is_new).count() as u64;
        let completeness = match self.completeness(manifest.as_ref(), &lines) {
            Ok(completeness) => completeness,
            Err(problem) => {
                report.watermark_problem = Some(problem);
                None
            }
        };
        let watermarks: Vec<_> = completeness.map(|completeness| (String::new(), completeness)).into_iter().collect();
        let objects = lake_lines.finish(self.settings.rewrite.now)?;
        self.publish(staging, objects, &receipt, &watermarks, &mut report)?;
        Ok(report)
    }

    /// Reads the manifest of the export, if there is one.
    fn find_manifest(&self) -> Result<Option<Manifest>, AddError> {
        let mut found = None;
        for file in self.files.iter().filter(|file| file.content == FileContent::Json) {
            if !is_manifest(file)? {
                // What is left of a manifest must not be taken for a file without data.
                check_json(file)?;
                continue;
            }
            if found.replace(Manifest::read(file)?).is_some() {
                return Err(AddError::Refused("there are several manifests: add one export at a time".to_owned()));
            }
        }
        Ok(found)
    }

    /// Returns the statement up to when the lake is complete: that of the operator, else that of the manifest, if the files are all that it
    /// lists. Fails with the reason if the statement of the manifest cannot be taken.
    fn completeness(&self, manifest: Option<&Manifest>, files: &[FileLines]) -> Result<Option<Completeness>, String> {
        if let Some(time) = self.settings.complete_up_to {
            return Ok(Some(Completeness::Stated(time)));
        }
        let Some(manifest) = manifest else { return Ok(None) };
        manifest.check_files(files)?;
        let period = manifest.period()?.check_time(self.settings.rewrite.now)?;
        period.check_losses(Some(files.iter().map(|file| file.lost).sum())).map(Some)
    }
}

/// Checks that a file has one JSON value.
fn check_json(file: &InputFile) -> Result<(), AddError> {
    let failed = |cause| file.read_error(cause);
    let mut reader = BufReader::new(file.open(&Arc::new(Progress::default())).map_err(failed)?);
    if reader.fill_buf().map_err(failed)?.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    let parsed = serde_json::from_reader::<_, IgnoredAny>(reader);
    parsed.map(drop).map_err(|error| AddError::Input {
        file: file.name.clone(),
        reason: format!("it is not JSON, or it was cut off: line {}, column {}", error.line(), error.column()),
    })
}

/// A writer of the lines of files.
struct LineWriter<'l> {
    sink: LineSink<'l>,
    counts: Counts,
    /// The lines of each file.
    lines: Vec<FileLines>,
}

/// A file whose lines are read.
struct LineReading<'f> {
    file: &'f InputFile,
    /// False if the lines are only counted.
    is_added: bool,
    /// The number of the last line.
    number: u64,
    counts: FileLines,
}

impl LineWriter<'_> {
    /// Adds a file, or counts its lines. Returns the hash of its content.
    fn add_file(
        &mut self,
        file: &InputFile,
        is_added: bool,
        progress: &Arc<Progress>,
        large_resources: &Mutex<()>,
    ) -> Result<ContentHash, AddError> {
        let mut splitter = LineSplitter::from_line_start(0, u64::MAX);
        let counts = FileLines { name: file.file_name().to_owned(), ..FileLines::default() };
        let mut reading = LineReading { file, is_added, number: 0, counts };
        let mut pending_bytes = 0;
        let mut permit = LargeResourcePermit::new(large_resources);
        let reader = read_chunks(file, progress, |chunk| {
            pending_bytes += chunk.len();
            permit.hold(pending_bytes);
            splitter.push(Bytes::copy_from_slice(chunk)).try_for_each(|segment| {
                pending_bytes = chunk.len();
                self.add_segment(&mut reading, &segment)
            })
        })?;
        splitter.finish().map_or(Ok(()), |segment| self.add_segment(&mut reading, &segment))?;
        self.lines.push(reading.counts);
        reader.into_content_hash().map_err(|cause| file.read_error(cause))
    }

    /// Adds the lines of a segment.
    fn add_segment(&mut self, reading: &mut LineReading<'_>, segment: &Segment) -> Result<(), AddError> {
        match segment {
            Segment::OverlongLine { .. } => {
                reading.number += 1;
                reading.counts.lines += 1;
                self.leave_out(LeftOutReason::OverlongLine, reading, String::new());
            }
            Segment::Lines { offset, bytes } => {
                for line in lines(bytes, *offset) {
                    reading.number += 1;
                    if !line.is_blank() {
                        reading.counts.lines += 1;
                        self.add_line(reading, line.text)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds a line that is not blank.
    fn add_line(&mut self, reading: &mut LineReading<'_>, line: &[u8]) -> Result<(), AddError> {
        let (reason, detail) = match LakeLine::parse(line) {
            LakeLine::Resource(..) | LakeLine::Deletions(_) if !reading.is_added => return Ok(()),
            LakeLine::Resource(head, _) => {
                self.counts.add_resource("", head.resource_type);
                return Ok(self.sink.add("", head.resource_type, line)?);
            }
            LakeLine::Deletions(deletions) => {
                self.counts.deletions += deletions.len() as u64;
                self.counts.deletions_without_time += deletions.iter().filter(|deletion| deletion.deleted_at.is_none()).count() as u64;
                return Ok(self.sink.add("", ResourceType::BUNDLE, line)?);
            }
            LakeLine::Outcome => (LeftOutReason::SearchOutcome, String::new()),
            LakeLine::Rejected(reason) => (LeftOutReason::InvalidResource, reason.to_string()),
        };
        self.leave_out(reason, reading, detail);
        Ok(())
    }

    /// Counts a line that is left out. One of a file that was added before was reported then.
    fn leave_out(&mut self, reason: LeftOutReason, reading: &mut LineReading<'_>, detail: String) {
        reading.counts.lost += u64::from(reason.is_loss());
        if reading.is_added {
            self.counts.leave_out(reason, &reading.file.name, InputPosition::Line(reading.number), detail);
        }
    }
}
