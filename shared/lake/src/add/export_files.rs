//! Adds NDJSON files of resources, such as the export of another server. Lines are copied into files that are named for their type.

use std::collections::HashSet;
use std::io::Read as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headrace_core::lake::line::LakeLine;
use headrace_core::lake::ndjson::{LineSplitter, Segment, lines};
use headrace_core::vocab::clock::Millis;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::instant::Instant;
use serde::Deserialize;

use super::format::is_manifest;
use super::input::{ContentHash, FileContent, InputFile, LargeResourcePermit, read_chunks};
use super::report::{Counts, InputPosition, LeftOutReason};
use super::{AddError, AddReport, Addition, in_order};
use crate::pool::for_each_item;
use crate::progress::Progress;
use crate::writing::{LakeLines, LakeLock, LineSink, Staging};

/// The largest manifest that is read, in bytes.
const MANIFEST_LIMIT_BYTES: u64 = 64 << 20;

/// The manifest of an export.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    transaction_time: String,
    #[serde(default)]
    output: Vec<ManifestFile>,
    #[serde(default)]
    error: Vec<ManifestFile>,
}

/// A file of a manifest.
#[derive(Debug, Deserialize)]
struct ManifestFile {
    #[serde(default)]
    url: String,
    count: Option<u64>,
}

impl ManifestFile {
    /// Returns the last segment of the URL, which is often the name of the downloaded file.
    fn file_name(&self) -> &str {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }
}

impl Manifest {
    /// Reads a manifest.
    fn read(file: &InputFile) -> Result<Self, AddError> {
        let mut bytes = Vec::new();
        let opened = file.open(&Arc::new(Progress::default()));
        let read = opened.and_then(|reader| reader.take(MANIFEST_LIMIT_BYTES).read_to_end(&mut bytes));
        read.map_err(|cause| file.read_error(cause))?;
        serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes)).map_err(|error| AddError::Input {
            file: file.name.clone(),
            reason: format!("it is not the manifest of an export: line {}, column {}", error.line(), error.column()),
        })
    }

    /// Returns the number of resources that the manifest promises, if it says that of each file.
    fn resource_count(&self) -> Option<u64> {
        self.output.iter().map(|file| file.count).sum()
    }

    /// Returns the moment up to which the export is complete.
    fn complete_up_to(&self) -> Option<Millis> {
        Millis::from_instant(Instant::parse(&self.transaction_time).ok()?)
    }
}

impl Addition<'_> {
    /// Adds NDJSON files of resources.
    pub(super) fn add_export_files(self, lake: &LakeLock) -> Result<AddReport, AddError> {
        let manifest = self.find_manifest()?;
        let errors: HashSet<&str> = manifest.iter().flat_map(|manifest| &manifest.error).map(ManifestFile::file_name).collect();
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
        if report.is_repeat {
            return Ok(report);
        }
        let staging = Staging::begin(lake, &receipt.run)?;
        let lake_lines = LakeLines::new(&staging);
        let sinks = self.settings.rewrite.sinks(&lake_lines)?;
        let writers = sinks.into_iter().map(|sink| LineWriter { sink, counts: Counts::default() }).collect();
        let (is_new, large_resources) = (self.new_files(&hashes), &self.large_resources);
        let writers = for_each_item(&files, writers, |writer, number, file| {
            let is_added = is_new.get(number).copied().unwrap_or_default();
            if !is_added {
                return Ok(());
            }
            let hash = writer.add_file(file, progress, large_resources)?;
            file.check_content(hashes.get(number), hash)
        })?;
        for mut writer in writers {
            writer.sink.flush()?;
            report.merge(writer.counts);
        }
        report.files_added_before = is_new.iter().filter(|is_new| !**is_new).count() as u64;
        let watermark = self.watermark(manifest.as_ref(), &mut report);
        let objects = lake_lines.finish(self.settings.rewrite.now)?;
        self.publish(staging, objects, &receipt, &watermark, &mut report)?;
        Ok(report)
    }

    /// Reads the manifest of the export, if there is one.
    fn find_manifest(&self) -> Result<Option<Manifest>, AddError> {
        let mut found = None;
        for file in self.files.iter().filter(|file| file.content == FileContent::Json) {
            if !is_manifest(file)? {
                continue;
            }
            if found.replace(Manifest::read(file)?).is_some() {
                return Err(AddError::Refused("there are several manifests: add one export at a time".to_owned()));
            }
        }
        Ok(found)
    }

    /// Returns the moment up to which the lake is complete: as the operator says, else as the manifest does, if the files are those that it
    /// promises.
    fn watermark(&self, manifest: Option<&Manifest>, report: &mut AddReport) -> Vec<(String, Millis)> {
        if let Some(time) = self.settings.complete_up_to {
            return vec![(String::new(), time)];
        }
        let Some(manifest) = manifest else { return Vec::new() };
        let found = report.resource_count();
        let promised = manifest.resource_count().filter(|promised| report.files_added_before == 0 && *promised != found);
        match (manifest.complete_up_to(), promised) {
            (_, Some(promised)) => {
                report.watermark_problem = Some(format!("the manifest promises {promised} resources, and the files have {found}"));
                Vec::new()
            }
            (None, None) => {
                report.watermark_problem = Some("the transactionTime of the manifest is not an instant".to_owned());
                Vec::new()
            }
            (Some(time), None) => vec![(String::new(), time)],
        }
    }
}

/// A writer of the lines of files.
struct LineWriter<'l> {
    sink: LineSink<'l>,
    counts: Counts,
}

impl LineWriter<'_> {
    /// Adds a file. Returns the hash of its content.
    fn add_file(&mut self, file: &InputFile, progress: &Arc<Progress>, large_resources: &Mutex<()>) -> Result<ContentHash, AddError> {
        let mut splitter = LineSplitter::from_line_start(0, u64::MAX);
        let (mut number, mut pending_bytes) = (0, 0);
        let mut permit = LargeResourcePermit::new(large_resources);
        let reader = read_chunks(file, progress, |chunk| {
            pending_bytes += chunk.len();
            permit.hold(pending_bytes);
            splitter.push(Bytes::copy_from_slice(chunk)).try_for_each(|segment| {
                pending_bytes = chunk.len();
                self.add_segment(file, &mut number, &segment)
            })
        })?;
        splitter.finish().map_or(Ok(()), |segment| self.add_segment(file, &mut number, &segment))?;
        reader.into_content_hash().map_err(|cause| file.read_error(cause))
    }

    /// Adds the lines of a segment. `number` is the number of the line before.
    fn add_segment(&mut self, file: &InputFile, number: &mut u64, segment: &Segment) -> Result<(), AddError> {
        match segment {
            Segment::OverlongLine { .. } => {
                *number += 1;
                self.counts.leave_out(LeftOutReason::OverlongLine, &file.name, InputPosition::Line(*number), String::new());
            }
            Segment::Lines { offset, bytes } => {
                for line in lines(bytes, *offset) {
                    *number += 1;
                    if !line.is_blank() {
                        self.add_line(file, *number, line.text)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds a line that is not blank.
    fn add_line(&mut self, file: &InputFile, number: u64, line: &[u8]) -> Result<(), AddError> {
        let (reason, detail) = match LakeLine::parse(line) {
            LakeLine::Resource(head, _) => {
                self.counts.add_resource("", head.resource_type);
                return Ok(self.sink.add("", head.resource_type, line)?);
            }
            LakeLine::Deletions(deletions) => {
                self.counts.deletions += deletions.len() as u64;
                return Ok(self.sink.add("", ResourceType::BUNDLE, line)?);
            }
            LakeLine::Outcome => (LeftOutReason::SearchOutcome, String::new()),
            LakeLine::Rejected(reason) => (LeftOutReason::InvalidResource, reason.to_string()),
        };
        self.counts.leave_out(reason, &file.name, InputPosition::Line(number), detail);
        Ok(())
    }
}
