//! Adds NDJSON files of resources, such as the export of another server. Lines are copied into files that are named for their type.
//!
//! The first reading collects the versions of resources. Of several lines with the same resource, time and version id, the last one is
//! added: nothing else tells which of them is newer.

mod errors;

use std::borrow::Cow;
use std::io::{self, BufRead as _, BufReader};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headrace_core::lake::line::LakeLine;
use headrace_core::lake::ndjson::{LineSplitter, Segment, lines};
use headrace_core::vocab::plural::counted;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{MemberIndex, Resource, ResourceIdentity};
use serde::de::IgnoredAny;

use super::completeness::Completeness;
use super::format::is_manifest;
use super::input::{ContentHash, FileContent, InputFile, LargeResourcePermit, read_chunks};
use super::known_versions::{KnownVersion, RepeatedEntry, VersionDecider, VersionPosition};
use super::late::LateCollector;
use super::manifest::{FileLines, Manifest};
use super::names::NameHasher;
use super::report::{Counts, InputPosition, LeftOutReason};
use super::{AddError, AddReport, Addition, in_order};
use crate::pool::for_each_item;
use crate::progress::Progress;
use crate::sorting::RecordSorter;
use crate::writing::{LakeLines, LakeLock, LineSink, Staging};

use errors::is_error_file;

impl Addition<'_> {
    /// Adds NDJSON files of resources.
    pub(super) fn add_export_files(self, lake: &LakeLock) -> Result<AddReport, AddError> {
        let manifest = self.find_manifest()?;
        let is_data = |file: &&InputFile| file.content == FileContent::Lines && !is_error_file(manifest.as_ref(), file);
        let files: Vec<InputFile> = self.files.iter().filter(is_data).cloned().collect();
        if files.is_empty() {
            return Err(AddError::NoFiles(self.from.to_owned()));
        }
        files.iter().for_each(|file| self.progress.expect(2 * file.size));
        let (hashes, versions) = self.read_line_versions(&files)?;
        let (receipt, mut report) = self.identify_run(&hashes, "ndjson");
        report.files_without_data = (self.files.len() - files.len()) as u64;
        // A manifest is compared with all files, also with those that were added before.
        let needs_counts = manifest.is_some() && self.settings.complete_up_to.is_none();
        if report.is_repeat && !needs_counts {
            return self.publish_repeat(lake, &receipt, &self.operator_statement(), report);
        }
        let is_new = self.new_files(&hashes);
        let decider = VersionDecider::new(0, &is_new, &self.settings.rewrite.temp_folder, self.settings.rewrite.sort_bytes / 2);
        let decisions =
            RecordSorter::finish(versions).and_then(|versions| decider.decide(versions, Vec::new())).map_err(self.temporary())?;
        let staging = Staging::begin(lake, &receipt.run)?;
        let lake_lines = LakeLines::new(&staging);
        let sinks = self.settings.rewrite.sinks(&lake_lines)?;
        let late = self.late_collectors(lake, [String::new()]);
        let writers =
            sinks.into_iter().zip(late).map(|(sink, late)| LineWriter { sink, counts: Counts::default(), late, lines: Vec::new() });
        let (progress, large_resources, temporary) = (self.progress, &self.large_resources, self.temporary());
        let writers = for_each_item(&files, writers.collect(), |writer, number, file| {
            let is_added = is_new.get(number).copied().unwrap_or_default();
            if !is_added && !needs_counts {
                return Ok(());
            }
            let repeated = RepeatedLines::new(decisions.repeated.of_group(number)).map_err(&temporary)?;
            let hash = writer.add_file((file, is_added), repeated, progress, large_resources, &temporary)?;
            file.check_content(hashes.get(number), hash)
        })?;
        let (mut lines, mut late) = (Vec::new(), Vec::new());
        for mut writer in writers {
            writer.sink.flush()?;
            report.merge(writer.counts);
            lines.append(&mut writer.lines);
            late.push(writer.late);
        }
        report.late = self.count_late_changes(lake, late)?;
        report.files_added_before = is_new.iter().filter(|is_new| !**is_new).count() as u64;
        // Conflicts between lines were found when these were added.
        let lost_before = self.added.lost(&receipt.run).unwrap_or_default();
        let completeness = match self.completeness(manifest.as_ref(), &lines, lost_before) {
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

    /// Reads all files for the first time. Returns their hashes, and the versions of their resources.
    fn read_line_versions(&self, files: &[InputFile]) -> Result<(Vec<ContentHash>, Vec<RecordSorter<KnownVersion>>), AddError> {
        let rewrite = &self.settings.rewrite;
        let workers = rewrite.workers();
        let names = NameHasher::new(&rewrite.seed);
        let collectors = (0..workers).map(|_| VersionCollector {
            names,
            versions: RecordSorter::new(&rewrite.temp_folder, rewrite.sort_bytes / 2 / workers),
            hashes: Vec::new(),
        });
        let (progress, large_resources, temporary) = (self.progress, &self.large_resources, self.temporary());
        let collectors = for_each_item(files, collectors.collect(), |collector, number, file| {
            let add = |segment: &Segment| collector.add_segment(number as u64, segment).map_err(&temporary);
            let hash = read_segments(file, progress, large_resources, add)?;
            collector.hashes.push((number, hash));
            Ok::<_, AddError>(())
        })?;
        let (mut hashes, mut versions) = (Vec::new(), Vec::new());
        for collector in collectors {
            hashes.extend(collector.hashes);
            versions.push(collector.versions);
        }
        Ok((in_order(hashes), versions))
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
    /// lists, and the server reports no errors. Fails with the reason if the statement of the manifest cannot be taken.
    ///
    /// * `lost_before`: the number of resources that were left out when the same input was added before.
    fn completeness(&self, manifest: Option<&Manifest>, files: &[FileLines], lost_before: u64) -> Result<Option<Completeness>, String> {
        if let Some(time) = self.settings.complete_up_to {
            return Ok(Some(Completeness::Stated(time)));
        }
        let Some(manifest) = manifest else { return Ok(None) };
        manifest.check_files(files)?;
        self.check_errors(manifest)?;
        let period = manifest.period()?.check_time(self.settings.rewrite.now)?;
        let lost = files.iter().map(|file| file.lost).sum::<u64>();
        period.check_losses(Some(lost.max(lost_before))).map(Some)
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

/// Passes the lines of a file to `visit`. Returns the hash of its content.
fn read_segments(
    file: &InputFile,
    progress: &Arc<Progress>,
    large_resources: &Mutex<()>,
    mut visit: impl FnMut(&Segment) -> Result<(), AddError>,
) -> Result<ContentHash, AddError> {
    let mut splitter = LineSplitter::from_line_start(0, u64::MAX);
    let mut pending_bytes = 0;
    let mut permit = LargeResourcePermit::new(large_resources);
    let reader = read_chunks(file, progress, |chunk| {
        pending_bytes += chunk.len();
        permit.hold(pending_bytes);
        splitter.push(Bytes::copy_from_slice(chunk)).try_for_each(|segment| {
            pending_bytes = chunk.len();
            visit(&segment)
        })
    })?;
    splitter.finish().map_or(Ok(()), |segment| visit(&segment))?;
    reader.into_content_hash().map_err(|cause| file.read_error(cause))
}

/// A collector of the versions of resources.
struct VersionCollector {
    names: NameHasher,
    versions: RecordSorter<KnownVersion>,
    /// The hash of each file, by its number.
    hashes: Vec<(usize, ContentHash)>,
}

impl VersionCollector {
    /// Adds the resources of a segment of the file with this number.
    fn add_segment(&mut self, source: u64, segment: &Segment) -> io::Result<()> {
        let Segment::Lines { offset, bytes } = segment else { return Ok(()) };
        for line in lines(bytes, *offset) {
            let position = VersionPosition { source, offset: *offset + line.start as u64 };
            if let (LakeLine::Resource(head, identity), Ok(text)) = (LakeLine::parse(line.text), std::str::from_utf8(line.text))
                && let Some(version) = KnownVersion::from_line(&self.names, (&head, identity), text, position)
            {
                self.versions.push(version)?;
            }
        }
        Ok(())
    }
}

/// The lines of a file that are left out, because later lines repeat them.
struct RepeatedLines<'f> {
    entries: Box<dyn Iterator<Item = io::Result<RepeatedEntry>> + 'f>,
    next: Option<RepeatedEntry>,
}

impl<'f> RepeatedLines<'f> {
    /// Reads the first one.
    fn new(mut entries: impl Iterator<Item = io::Result<RepeatedEntry>> + 'f) -> io::Result<Self> {
        let next = entries.next().transpose()?;
        Ok(Self { entries: Box::new(entries), next })
    }

    /// Returns the reason for which the line at an offset is left out. `None` if it is added. Lines are asked for in order.
    fn take_reason(&mut self, offset: u64) -> io::Result<Option<LeftOutReason>> {
        let Some(entry) = self.next.filter(|entry| entry.position.offset == offset) else { return Ok(None) };
        self.next = self.entries.next().transpose()?;
        Ok(Some(if entry.has_other_content { LeftOutReason::Conflicting } else { LeftOutReason::Repeated }))
    }
}

/// A writer of the lines of files.
struct LineWriter<'l> {
    sink: LineSink<'l>,
    counts: Counts,
    late: LateCollector,
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
    repeated: RepeatedLines<'f>,
    /// Makes an error about temporary files.
    temporary: &'f dyn Fn(io::Error) -> AddError,
}

impl LineWriter<'_> {
    /// Adds a file, or counts its lines if it is not added. Returns the hash of its content.
    fn add_file(
        &mut self,
        (file, is_added): (&InputFile, bool),
        repeated: RepeatedLines<'_>,
        progress: &Arc<Progress>,
        large_resources: &Mutex<()>,
        temporary: &dyn Fn(io::Error) -> AddError,
    ) -> Result<ContentHash, AddError> {
        let counts = FileLines { name: file.file_name().to_owned(), ..FileLines::default() };
        let mut reading = LineReading { file, is_added, number: 0, counts, repeated, temporary };
        let hash = read_segments(file, progress, large_resources, |segment| self.add_segment(&mut reading, segment))?;
        self.lines.push(reading.counts);
        Ok(hash)
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
                        self.add_line(reading, *offset + line.start as u64, line.text)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds a line that is not blank.
    fn add_line(&mut self, reading: &mut LineReading<'_>, offset: u64, line: &[u8]) -> Result<(), AddError> {
        let (reason, detail) = match LakeLine::parse(line) {
            LakeLine::Resource(..) | LakeLine::Deletions(_) if !reading.is_added => return Ok(()),
            LakeLine::Resource(head, identity) => match reading.repeated.take_reason(offset).map_err(reading.temporary)? {
                Some(reason) => (reason, String::new()),
                None => {
                    self.check_id(reading, (head.resource_type, identity), line);
                    self.counts.add_resource("", head.resource_type);
                    self.late.add_written("", line)?;
                    return Ok(self.sink.add("", head.resource_type, line)?);
                }
            },
            LakeLine::Deletions(deletions) => {
                if deletions.unread > 0 {
                    let detail =
                        counted(deletions.unread, "DELETE request does not name one resource", "DELETE requests do not name one resource");
                    self.leave_out(LeftOutReason::UnknownDeletion, reading, detail);
                }
                self.counts.deletions += deletions.len() as u64;
                self.counts.deletions_without_time += deletions.iter().filter(|deletion| deletion.deleted_at.is_none()).count() as u64;
                self.late.add_written("", line)?;
                return Ok(self.sink.add("", ResourceType::BUNDLE, line)?);
            }
            LakeLine::Outcome => (LeftOutReason::SearchOutcome, String::new()),
            LakeLine::Rejected(reason) => (LeftOutReason::InvalidResource, reason.to_string()),
        };
        self.leave_out(reason, reading, detail);
        Ok(())
    }

    /// Counts a resource whose id breaks the rules of FHIR. The fast parser of heads does not read every valid line.
    fn check_id(&mut self, reading: &LineReading<'_>, (kind, identity): (ResourceType, Option<ResourceIdentity<'_>>), line: &[u8]) {
        let mut members = MemberIndex::default();
        let parsed = if identity.is_none() { Resource::parse(line, &mut members).ok() } else { None };
        let id = identity.map(|identity| Cow::Borrowed(identity.id)).or_else(|| parsed.as_ref().map(Resource::id));
        if let Some(id) = id {
            self.counts.check_id((kind, &id), &reading.file.name, InputPosition::Line(reading.number));
        }
    }

    /// Counts a line that is left out. One of a file that was added before was reported then.
    fn leave_out(&mut self, reason: LeftOutReason, reading: &mut LineReading<'_>, detail: String) {
        reading.counts.lost += u64::from(reason.is_loss());
        if reading.is_added {
            self.counts.leave_out(reason, &reading.file.name, InputPosition::Line(reading.number), detail);
        }
    }
}
