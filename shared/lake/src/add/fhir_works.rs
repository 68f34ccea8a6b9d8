//! Adds a table of FHIR Works on AWS from its export to S3. The first reading finds the current version of each resource, the second one
//! converts these items.

mod binary;
mod item;
mod manifest;
mod tenants;
mod versions;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headrace_core::lake::ndjson::{LineSplitter, Segment, lines};
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::ResourceHead;
use headrace_fhir::instant::Instant;
use headrace_fhir::semantics::deletion::deletion_bundle;

use super::completeness::Completeness;
use super::input::{ContentHash, InputFile, LargeResourcePermit, read_chunks};
use super::late::LateCollector;
use super::names::NameHasher;
use super::report::{Counts, InputPosition, LeftOutReason};
use super::{AddError, AddReport, Addition, in_order};
use crate::pool::for_each_item;
use crate::progress::Progress;
use crate::sorting::{GroupedRecords, RecordSorter};
use crate::writing::{LakeLines, LakeLock, LineSink, Staging};

use binary::{BinaryData, BinaryFolder};
use item::{ItemLine, TableItem};
use manifest::TableExport;
use tenants::add_name;
use versions::{Decision, ItemVersion, PlacedDecision, decide};

/// The longest name of a tenant, which becomes the name of a folder.
const MAX_TENANT_CHARS: usize = 64;

impl Addition<'_> {
    /// Adds a table.
    pub(super) fn add_table(self, lake: &LakeLock) -> Result<AddReport, AddError> {
        let export = TableExport::find(self.files)?;
        export.files.iter().for_each(|(file, _)| self.progress.expect(2 * file.size));
        let binaries = self.settings.binaries.as_deref();
        let binaries = binaries
            .map(|folder| BinaryFolder::open(folder, &self.settings.rewrite.temp_folder, self.settings.rewrite.sort_bytes))
            .transpose()?;
        let TableVersionsRead { hashes, sorters, tenants, is_tenant_known, counts } = self.read_versions(&export)?;
        self.check_tenants(lake, &tenants)?;
        let options = format!(
            "fhir-works {:?} {} {}",
            self.settings.versions,
            self.settings.tenant.as_deref().unwrap_or_default(),
            self.settings.binaries.is_some()
        );
        let (mut receipt, mut report) = self.identify_run(&hashes, &options);
        report.files = export.files.len() as u64;
        if is_tenant_known {
            receipt.tenants = self.unrecorded_tenants(lake, &tenants)?;
        }
        if report.is_repeat {
            let watermarks = self.table_watermarks(&export, &tenants, self.added.lost(&receipt.run), &mut report);
            return self.publish_repeat(lake, &receipt, &watermarks, report);
        }
        let staging = Staging::begin(lake, &receipt.run)?;
        let (decisions, decided) = decide(sorters, &export.files, self.settings).map_err(self.temporary())?;
        let decisions =
            GroupedRecords::write(decisions, export.files.len(), &self.settings.rewrite.temp_folder).map_err(self.temporary())?;
        report.merge(decided);
        counts.into_iter().for_each(|counts| report.merge(counts));
        let lake_lines = LakeLines::new(&staging);
        let is_one_lake = self.settings.tenant.is_some();
        let late = self.late_collectors(lake, tenants.iter().map(|tenant| folder_of(tenant, is_one_lake)));
        // The record makes the folder of a tenant a lake, also if it has no watermark: exports tell it by its internal folder.
        receipt.folders.extend(tenants.iter().map(|tenant| folder_of(tenant, is_one_lake)).filter(|folder| !folder.is_empty()));
        let writer = |(sink, late)| ItemWriter {
            sink,
            counts: Counts::default(),
            late,
            binaries: binaries.as_ref(),
            large_resources: &self.large_resources,
            line: Vec::new(),
        };
        let writers = self.settings.rewrite.sinks(&lake_lines)?.into_iter().zip(late).map(writer).collect();
        let (progress, temporary) = (self.progress, self.temporary());
        let writers = for_each_item(&export.files, writers, |writer, number, (file, _)| {
            let hash = writer.add_file(file, decisions.of_group(number), is_one_lake, progress, &temporary)?;
            file.check_content(hashes.get(number), hash)
        })?;
        let mut late = Vec::new();
        for mut writer in writers {
            writer.sink.flush()?;
            report.merge(writer.counts);
            late.push(writer.late);
        }
        report.late = self.count_late_changes(lake, late)?;
        let objects = lake_lines.finish(self.settings.rewrite.now)?;
        let watermarks = self.table_watermarks(&export, &tenants, Some(report.lost()), &mut report);
        self.publish(staging, objects, &receipt, &watermarks, &mut report)?;
        Ok(report)
    }

    /// Returns for the folder of each tenant the statement up to when it is complete: that of the operator, else that of the export.
    ///
    /// * `lost`: the number of resources that were left out although they belong to the lake, if it is known.
    fn table_watermarks(
        &self,
        export: &TableExport,
        tenants: &BTreeSet<String>,
        lost: Option<u64>,
        report: &mut AddReport,
    ) -> Vec<(String, Completeness)> {
        let of_export = || export.period.clone().and_then(|period| period.check_time(self.settings.rewrite.now)?.check_losses(lost));
        match self.settings.complete_up_to.map_or_else(of_export, |time| Ok(Completeness::Stated(time))) {
            Ok(completeness) => {
                let is_one_lake = self.settings.tenant.is_some();
                tenants.iter().map(|tenant| (folder_of(tenant, is_one_lake), completeness)).collect()
            }
            Err(problem) => {
                report.watermark_problem = Some(problem);
                Vec::new()
            }
        }
    }

    /// Reads all files for the first time.
    fn read_versions(&self, export: &TableExport) -> Result<TableVersionsRead, AddError> {
        let workers = self.settings.rewrite.workers();
        let names = NameHasher::new(&self.settings.rewrite.seed);
        let readers = (0..workers).map(|_| VersionReader {
            names,
            sorter: RecordSorter::new(&self.settings.rewrite.temp_folder, self.settings.rewrite.sort_bytes / workers),
            hashes: Vec::new(),
            tenants: BTreeSet::new(),
            other_tenants: BTreeSet::new(),
            counts: Counts::default(),
            only_tenant: self.settings.tenant.clone(),
        });
        let (progress, temporary) = (self.progress, self.temporary());
        let readers = for_each_item(&export.files, readers.collect(), |reader, number, (file, expected)| {
            reader.read_file(number, file, *expected, progress, &temporary)
        })?;
        let (mut read, mut hashes, mut other_tenants) = (TableVersionsRead::default(), Vec::new(), BTreeSet::new());
        for reader in readers {
            other_tenants.extend(reader.other_tenants);
            hashes.extend(reader.hashes);
            read.sorters.push(reader.sorter);
            read.tenants.extend(reader.tenants);
            read.counts.push(reader.counts);
        }
        read.hashes = in_order(hashes);
        read.is_tenant_known = self.settings.tenant.is_some() || !read.tenants.is_empty();
        if read.tenants.is_empty() {
            self.check_tenant_exists(&other_tenants)?;
            read.tenants.insert(self.settings.tenant.clone().unwrap_or_default());
        }
        Ok(read)
    }
}

/// The result of the first reading of a table.
#[derive(Default)]
struct TableVersionsRead {
    hashes: Vec<ContentHash>,
    sorters: Vec<RecordSorter<ItemVersion>>,
    tenants: BTreeSet<String>,
    /// True if the tenants are those of items or of the operator. A table without items may be that of any tenant.
    is_tenant_known: bool,
    counts: Vec<Counts>,
}

/// Returns the folder of a tenant in the lake, empty or ending in `/`.
///
/// * `is_one_lake`: true if only this tenant is added, directly to the lake.
fn folder_of(tenant: &str, is_one_lake: bool) -> String {
    if tenant.is_empty() || is_one_lake { String::new() } else { format!("{tenant}/") }
}

/// Passes the number and the text of each line of a file to `visit`. Returns the hash of its content, and the number of items.
fn read_items(
    file: &InputFile,
    progress: &Arc<Progress>,
    mut visit: impl FnMut(u64, Option<&[u8]>) -> Result<(), AddError>,
) -> Result<(ContentHash, u64), AddError> {
    let mut splitter = LineSplitter::from_line_start(0, u64::MAX);
    let (mut number, mut items) = (0, 0);
    let mut add = |segment: &Segment| -> Result<(), AddError> {
        match segment {
            Segment::OverlongLine { .. } => {
                (number, items) = (number + 1, items + 1);
                visit(number, None)
            }
            Segment::Lines { offset, bytes } => lines(bytes, *offset).try_for_each(|line| {
                number += 1;
                if line.is_blank() {
                    return Ok(());
                }
                items += 1;
                visit(number, Some(line.text))
            }),
        }
    };
    let reader = read_chunks(file, progress, |chunk| splitter.push(Bytes::copy_from_slice(chunk)).try_for_each(|segment| add(&segment)))?;
    if let Some(segment) = splitter.finish() {
        add(&segment)?;
    }
    let (hash, md5) = reader.into_hashes().map_err(|cause| file.read_error(cause))?;
    file.check_md5(md5, manifest::FILE_LIST)?;
    Ok((hash, items))
}

/// A collector of the versions of resources.
struct VersionReader {
    names: NameHasher,
    sorter: RecordSorter<ItemVersion>,
    hashes: Vec<(usize, ContentHash)>,
    tenants: BTreeSet<String>,
    /// Some of the tenants that are not added.
    other_tenants: BTreeSet<String>,
    counts: Counts,
    only_tenant: Option<String>,
}

impl VersionReader {
    /// Reads a file.
    ///
    /// * `expected`: the number of items in the manifest.
    fn read_file(
        &mut self,
        number: usize,
        file: &InputFile,
        expected: Option<u64>,
        progress: &Arc<Progress>,
        temporary: &impl Fn(io::Error) -> AddError,
    ) -> Result<(), AddError> {
        let (hash, items) = read_items(file, progress, |line, text| self.add_item(number, file, line, text, temporary))?;
        if let Some(expected) = expected.filter(|expected| *expected != items) {
            let reason = format!("it has {items} items, and {} says {expected}", manifest::FILE_LIST);
            return Err(AddError::Input { file: file.name.clone(), reason });
        }
        self.hashes.push((number, hash));
        Ok(())
    }

    /// Adds an item.
    fn add_item(
        &mut self,
        file_number: usize,
        file: &InputFile,
        line: u64,
        text: Option<&[u8]>,
        temporary: &impl Fn(io::Error) -> AddError,
    ) -> Result<(), AddError> {
        let position = InputPosition::Line(line);
        let Some(text) = text else {
            self.counts.leave_out(LeftOutReason::OverlongLine, &file.name, position, String::new());
            return Ok(());
        };
        let item = match ItemLine::parse(text) {
            Ok(ItemLine::Item(item)) => item,
            Ok(ItemLine::Removed { was_usable: false }) => return Ok(()),
            Ok(ItemLine::Removed { was_usable: true }) => {
                self.counts.leave_out(LeftOutReason::RemovedItem, &file.name, position, String::new());
                return Ok(());
            }
            Err(reason) => {
                self.counts.leave_out(LeftOutReason::InvalidItem, &file.name, position, reason.to_owned());
                return Ok(());
            }
        };
        if self.only_tenant.as_ref().is_some_and(|only| *only != item.tenant) {
            add_name(&mut self.other_tenants, &item.tenant);
            self.counts.leave_out(LeftOutReason::OtherTenant, &file.name, position, String::new());
            return Ok(());
        }
        // The name becomes that of a folder.
        let is_valid = |tenant: &str| {
            tenant.len() <= MAX_TENANT_CHARS && tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if !is_valid(&item.tenant) || item.tenant.starts_with('_') {
            let reason = format!("the tenant of the item in line {line} has a name that cannot be one of a folder");
            return Err(AddError::Input { file: file.name.clone(), reason });
        }
        if !self.tenants.contains(&item.tenant) {
            self.tenants.insert(item.tenant.clone());
        }
        let resource = self.names.resource(&item.tenant, item.resource_type, &item.id);
        self.sorter.push(ItemVersion::new(resource, &item, file_number, line)).map_err(temporary)
    }
}

/// A writer of items as resources.
struct ItemWriter<'b, 'l> {
    sink: LineSink<'l>,
    counts: Counts,
    late: LateCollector,
    binaries: Option<&'b BinaryFolder>,
    /// Lets one thread at a time hold the data of a large Binary.
    large_resources: &'b Mutex<()>,
    line: Vec<u8>,
}

impl ItemWriter<'_, '_> {
    /// Adds the items of a file that become resources or deletions. Returns the hash of its content.
    fn add_file(
        &mut self,
        file: &InputFile,
        mut decisions: impl Iterator<Item = io::Result<PlacedDecision>>,
        is_one_lake: bool,
        progress: &Arc<Progress>,
        temporary: &impl Fn(io::Error) -> AddError,
    ) -> Result<ContentHash, AddError> {
        let mut next = decisions.next().transpose().map_err(temporary)?;
        let (hash, _) = read_items(file, progress, |line, text| {
            while let Some(PlacedDecision { decision, .. }) = next.filter(|placed| placed.decision.line == line) {
                if let Some(Ok(ItemLine::Item(item))) = text.map(ItemLine::parse) {
                    self.add_item(file, line, &item, &decision, is_one_lake, temporary)?;
                }
                next = decisions.next().transpose().map_err(temporary)?;
            }
            Ok(())
        })?;
        Ok(hash)
    }

    /// Adds an item as a resource or as a deletion.
    fn add_item(
        &mut self,
        file: &InputFile,
        line: u64,
        item: &TableItem<'_>,
        decision: &Decision,
        is_one_lake: bool,
        temporary: &impl Fn(io::Error) -> AddError,
    ) -> Result<(), AddError> {
        let folder = folder_of(&item.tenant, is_one_lake);
        let position = InputPosition::Line(line);
        if let Some(deleted_at) = decision.deleted_at {
            let bundle = deletion_bundle(item.resource_type, &item.id, Some(Instant::from_millis(deleted_at)));
            self.counts.deletions += 1;
            self.late.add_written(&folder, bundle.as_bytes())?;
            return Ok(self.sink.add(&folder, ResourceType::BUNDLE, bundle.as_bytes())?);
        }
        let mut permit = LargeResourcePermit::new(self.large_resources);
        let mut data = None;
        if let Some(binaries) = self.binaries.filter(|_| item.needs_binary_data()) {
            match binaries.read(item, &mut permit).map_err(temporary)? {
                BinaryData::Base64(text) => data = Some(text),
                BinaryData::NotFound => self.counts.leave_out(LeftOutReason::BinaryNotFound, &file.name, position, String::new()),
                BinaryData::TooLarge => self.counts.leave_out(LeftOutReason::BinaryTooLarge, &file.name, position, String::new()),
            }
        } else if item.needs_binary_data() {
            self.counts.leave_out(LeftOutReason::BinaryNotFound, &file.name, position, String::new());
        }
        self.line.clear();
        let written = item.write_resource(&mut self.line, data.as_deref());
        let checked = written.map_err(str::to_owned).and_then(|()| ResourceHead::parse(&self.line).map_err(|error| error.to_string()));
        match checked {
            Ok(_) => {
                self.counts.check_id((item.resource_type, &item.id), &file.name, position);
                self.counts.add_resource(&folder, item.resource_type);
                self.late.add_written(&folder, &self.line)?;
                Ok(self.sink.add(&folder, item.resource_type, &self.line)?)
            }
            Err(reason) => {
                self.counts.leave_out(LeftOutReason::InvalidItem, &file.name, position, reason);
                Ok(())
            }
        }
    }
}
