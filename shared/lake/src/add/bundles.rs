//! Adds Bundles. The first reading collects the names and versions of resources, of the input and of the lake. The second one resolves
//! references and writes lines.

mod histories;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use headrace_core::lake::ndjson::LINE_LIMIT_BYTES;
use headrace_fhir::bundle::{BundleEntry, BundleHeader, BundlePart, BundleSplitter};
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::ResourceHead;
use headrace_fhir::instant::Instant;
use headrace_fhir::semantics::deletion::deletion_bundle;
use headrace_fhir::semantics::reference::{BaseUrls, LocalReference, rewrite_references};

use super::entry::{EntryContent, EntryResource, is_usable_id};
use super::format::is_manifest;
use super::index::{IndexReader, Lookup, NamedTarget};
use super::input::{ContentHash, FileContent, InputFile, InputReader, LargeResourcePermit, list_objects, read_chunks};
use super::known_versions::{KnownVersion, RepeatedEntry, VersionDecider, VersionPosition};
use super::lake_objects::{LakeReader, read_object};
use super::late::LateCollector;
use super::names::{BundleNumber, ConditionalReference, NameHasher, is_urn, urn_uuid};
use super::report::{Counts, InputPosition, LeftOutReason, ReferenceCounts};
use super::{AddError, AddReport, Addition, in_order};
use crate::pool::for_each_item;
use crate::progress::Progress;
use crate::sorting::RecordSorter;
use crate::writing::{LakeLines, LakeLock, LineSink, Staging};

use histories::Histories;

/// The memory for a line that a thread keeps, in bytes.
const LINE_CAPACITY_BYTES: usize = 1 << 20;

/// The most deletions of one Bundle that have no time of their own. They wait for the time of the Bundle, which may come at its end.
const MAX_WAITING_DELETIONS: usize = 100_000;

impl Addition<'_> {
    /// Adds files of Bundles.
    pub(super) fn add_bundles(self, lake: &LakeLock) -> Result<AddReport, AddError> {
        let mut files = Vec::new();
        for file in self.files {
            // Many exports and downloads have a manifest beside the data.
            if file.content == FileContent::Lines || !is_manifest(file)? {
                files.push(file.clone());
            }
        }
        if files.is_empty() {
            return Err(AddError::NoFiles(self.from.to_owned()));
        }
        let objects = list_objects(lake)?;
        // Both readings.
        files.iter().for_each(|file| self.progress.expect(2 * file.size));
        let names = NameHasher::new(&self.settings.rewrite.seed);
        let FirstReading { hashes, full_urls, mut versions, histories } = self.read_names(&files, objects.len(), names)?;
        let (receipt, mut report) = self.identify_run(&hashes, "bundles");
        report.files_without_data = (self.files.len() - files.len()) as u64;
        let watermarks = self.operator_statement();
        if report.is_repeat {
            return self.publish_repeat(lake, &receipt, &watermarks, report);
        }
        let is_new = self.new_files(&hashes);
        versions.extend(self.read_lake(&objects, names)?);
        let decider = VersionDecider::new(objects.len(), &is_new, &self.settings.rewrite.temp_folder, self.sort_bytes());
        let decisions =
            RecordSorter::finish(versions).and_then(|versions| decider.decide(versions, full_urls)).map_err(self.temporary())?;
        let staging = Staging::begin(lake, &receipt.run)?;
        let lines = LakeLines::new(&staging);
        let sinks = self.settings.rewrite.sinks(&lines)?;
        let late = self.late_collectors(lake, [String::new()]);
        let writer = |(sink, late)| BundleWriter::new(names, IndexReader::new(&decisions.index), &histories, sink, late);
        let writers = sinks.into_iter().zip(late).map(writer).collect();
        let (progress, large_resources) = (self.progress, &self.large_resources);
        let temporary = self.temporary();
        let writers = for_each_item(&files, writers, |writer, number, file| {
            let is_added = is_new.get(number).copied().unwrap_or_default();
            if !is_added {
                return Ok(());
            }
            let repeated = decisions.repeated.of_group(objects.len() + number);
            let hash = writer.add_file((number, file), repeated, progress, large_resources, &temporary)?;
            file.check_content(hashes.get(number), hash)
        })?;
        let writers = for_each_item(&objects, writers, |writer, number, object| {
            writer.resolve_in_lake(object, decisions.open.of_group(number), progress, large_resources, &temporary)
        })?;
        let mut late = Vec::new();
        for mut writer in writers {
            writer.sink.flush()?;
            report.merge(writer.counts);
            late.push(writer.late);
        }
        report.late = self.count_late_changes(lake, late)?;
        report.replaced = decisions.replaced;
        report.files_added_before = is_new.iter().filter(|is_new| !**is_new).count() as u64;
        let objects = lines.finish(self.settings.rewrite.now)?;
        self.publish(staging, objects, &receipt, &watermarks, &mut report)?;
        Ok(report)
    }

    /// Returns the memory for each kind of records: full URLs, versions of the input, those of the lake, and decisions.
    fn sort_bytes(&self) -> usize {
        self.settings.rewrite.sort_bytes / 4
    }

    /// Reads all files for the first time.
    ///
    /// * `objects`: the number of objects in the lake.
    fn read_names(&self, files: &[InputFile], objects: usize, names: NameHasher) -> Result<FirstReading, AddError> {
        let workers = self.settings.rewrite.workers();
        let folder = &self.settings.rewrite.temp_folder;
        let collectors = (0..workers).map(|_| NameCollector {
            names,
            full_urls: RecordSorter::new(folder, self.sort_bytes() / workers),
            versions: RecordSorter::new(folder, self.sort_bytes() / workers),
            hashes: Vec::new(),
            histories: BTreeMap::new(),
        });
        let (progress, large_resources, temporary) = (self.progress, &self.large_resources, self.temporary());
        let collectors = for_each_item(files, collectors.collect(), |collector, number, file| {
            let source = (objects + number) as u64;
            let reader =
                read_bundles(file, progress, large_resources, |bundle, part| collector.add((number, bundle), source, part, &temporary))?;
            let hash = reader.into_content_hash().map_err(|cause| file.read_error(cause))?;
            collector.hashes.push((number, hash));
            Ok::<_, AddError>(())
        })?;
        let (mut hashes, mut full_urls, mut versions, mut histories) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        for collector in collectors {
            histories.extend(collector.histories);
            hashes.extend(collector.hashes);
            full_urls.push(collector.full_urls);
            versions.push(collector.versions);
        }
        Ok(FirstReading { hashes: in_order(hashes), full_urls, versions, histories })
    }

    /// Reads the versions in the lake.
    fn read_lake(&self, objects: &[InputFile], names: NameHasher) -> Result<Vec<RecordSorter<KnownVersion>>, AddError> {
        objects.iter().for_each(|object| self.progress.expect(object.size));
        let workers = self.settings.rewrite.workers();
        let reader = || LakeReader { names, sorter: RecordSorter::new(&self.settings.rewrite.temp_folder, self.sort_bytes() / workers) };
        let (progress, large_resources, temporary) = (self.progress, &self.large_resources, self.temporary());
        let readers = for_each_item(objects, (0..workers).map(|_| reader()).collect(), |reader, number, object| {
            read_object(object, progress, large_resources, |offset, line| {
                reader.add_line(VersionPosition { source: number as u64, offset }, line).map_err(&temporary)
            })
        })?;
        Ok(readers.into_iter().map(|reader| reader.sorter).collect())
    }
}

/// The result of the first reading of the input.
struct FirstReading {
    hashes: Vec<ContentHash>,
    full_urls: Vec<RecordSorter<NamedTarget>>,
    versions: Vec<RecordSorter<KnownVersion>>,
    /// The histories of each file that has some, by its number.
    histories: BTreeMap<usize, Histories>,
}

/// A part of a Bundle that was read.
enum ReadPart<'a> {
    Entry(u64, BundleEntry<'a>),
    End(BundleHeader),
}

/// Reads the Bundles of a file. Passes each part, with the number of its Bundle in the file, to `visit`.
fn read_bundles(
    file: &InputFile,
    progress: &Arc<Progress>,
    large_resources: &Mutex<()>,
    mut visit: impl FnMut(u64, ReadPart<'_>) -> Result<(), AddError>,
) -> Result<InputReader, AddError> {
    let refused = |error: headrace_fhir::bundle::BundleError| AddError::Input { file: file.name.clone(), reason: error.to_string() };
    let mut splitter = BundleSplitter::new(LINE_LIMIT_BYTES);
    let mut number = 0;
    let mut permit = LargeResourcePermit::new(large_resources);
    let reader = read_chunks(file, progress, |chunk| {
        permit.hold(splitter.buffered_bytes() + chunk.len());
        splitter.push(chunk);
        while let Some(part) = splitter.next_part().map_err(refused)? {
            match part {
                BundlePart::Entry { offset, text } => {
                    visit(number, ReadPart::Entry(offset, BundleEntry::parse(text, offset).map_err(refused)?))?;
                }
                BundlePart::End { header, .. } => {
                    visit(number, ReadPart::End(header))?;
                    number += 1;
                }
            }
        }
        permit.hold(splitter.buffered_bytes());
        Ok(())
    })?;
    splitter.finish().map_err(refused)?;
    Ok(reader)
}

/// A collector of the names and versions of resources.
struct NameCollector {
    names: NameHasher,
    full_urls: RecordSorter<NamedTarget>,
    versions: RecordSorter<KnownVersion>,
    /// The hash of each file, by its number.
    hashes: Vec<(usize, ContentHash)>,
    /// The histories of each file that has some, by its number.
    histories: BTreeMap<usize, Histories>,
}

impl NameCollector {
    /// Adds the names of an entry's resource, or the type of a Bundle.
    ///
    /// * `source`: the number of the file behind the objects of the lake.
    fn add(
        &mut self,
        bundle: BundleNumber,
        source: u64,
        part: ReadPart<'_>,
        temporary: &impl Fn(io::Error) -> AddError,
    ) -> Result<(), AddError> {
        let (offset, entry) = match part {
            ReadPart::Entry(offset, entry) => (offset, entry),
            ReadPart::End(header) => {
                if header.bundle_type.as_deref() == Some("history") {
                    self.histories.entry(bundle.0).or_default().add(bundle.1);
                }
                return Ok(());
            }
        };
        // Only events without a resource depend on the type of the Bundle, which may come later.
        let EntryContent::Resource(resource) = EntryContent::from_entry(&entry, false) else { return Ok(()) };
        let target = format!("{}/{}", resource.kind, resource.id);
        if let Some(url) = entry.full_url.as_deref().filter(|url| needs_name(url, &target)) {
            for name in [self.names.url(url), self.names.url_in_bundle(bundle, url)] {
                self.full_urls.push(NamedTarget { name, target: target.clone() }).map_err(temporary)?;
            }
        }
        let version = KnownVersion::from_resource(&self.names, &resource.text, VersionPosition { source, offset });
        version.map_or(Ok(()), |version| self.versions.push(version)).map_err(temporary)
    }
}

/// Returns true if references to a full URL must be replaced: it does not end in the `Type/id` of its resource.
fn needs_name(url: &str, target: &str) -> bool {
    let is_target = |reference: LocalReference<'_>| format!("{}/{}", reference.resource_type, reference.id) == target;
    !LocalReference::parse(url, &BaseUrls::any()).is_some_and(is_target)
}

/// A writer of the resources of Bundles.
struct BundleWriter<'i, 'l> {
    resolver: ReferenceResolver<'i>,
    /// The histories of each file that has some, by its number.
    histories: &'i BTreeMap<usize, Histories>,
    sink: LineSink<'l>,
    counts: Counts,
    late: LateCollector,
    /// A line that is made.
    line: Vec<u8>,
    /// The deletions of the current Bundle that have no time of their own.
    waiting: Vec<(ResourceType, String)>,
}

impl<'i, 'l> BundleWriter<'i, 'l> {
    /// Creates a writer.
    fn new(
        names: NameHasher,
        index: IndexReader<'i>,
        histories: &'i BTreeMap<usize, Histories>,
        sink: LineSink<'l>,
        late: LateCollector,
    ) -> Self {
        let resolver = ReferenceResolver { names, index, bundle: None, counts: ReferenceCounts::default(), failure: None };
        Self { resolver, histories, sink, counts: Counts::default(), late, line: Vec::new(), waiting: Vec::new() }
    }

    /// Adds a file. Returns the hash of its content.
    ///
    /// * `repeated`: the entries that are left out.
    fn add_file(
        &mut self,
        (number, file): (usize, &InputFile),
        mut repeated: impl Iterator<Item = io::Result<RepeatedEntry>>,
        progress: &Arc<Progress>,
        large_resources: &Mutex<()>,
        temporary: &impl Fn(io::Error) -> AddError,
    ) -> Result<ContentHash, AddError> {
        self.resolver.counts = ReferenceCounts::default();
        let mut next = repeated.next().transpose().map_err(temporary)?;
        let histories = self.histories.get(&number);
        let reader = read_bundles(file, progress, large_resources, |bundle, part| {
            self.resolver.bundle = Some((number, bundle));
            match part {
                ReadPart::Entry(offset, _) if next.is_some_and(|entry| entry.position.offset == offset) => {
                    let is_conflict = next.is_some_and(|entry| entry.has_other_content);
                    let reason = if is_conflict { LeftOutReason::Conflicting } else { LeftOutReason::Repeated };
                    next = repeated.next().transpose().map_err(temporary)?;
                    self.counts.leave_out(reason, &file.name, InputPosition::Byte(offset), String::new());
                    Ok(())
                }
                ReadPart::Entry(offset, entry) => {
                    let is_history = histories.is_some_and(|histories| histories.contains(bundle));
                    self.add_entry(file, (offset, is_history), &entry, temporary)
                }
                ReadPart::End(header) => self.add_waiting_deletions(&header),
            }
        })?;
        self.counts.references.merge(&self.resolver.counts);
        reader.into_content_hash().map_err(|cause| file.read_error(cause))
    }

    /// Writes the lines of an object again in which references can be resolved now.
    ///
    /// * `open`: the lines with open references that are the newest versions of their resources.
    fn resolve_in_lake(
        &mut self,
        object: &InputFile,
        mut open: impl Iterator<Item = io::Result<VersionPosition>>,
        progress: &Arc<Progress>,
        large_resources: &Mutex<()>,
        temporary: &impl Fn(io::Error) -> AddError,
    ) -> Result<(), AddError> {
        let mut next = open.next().transpose().map_err(temporary)?;
        if next.is_none() {
            return Ok(());
        }
        progress.expect(object.size);
        self.resolver.bundle = None;
        read_object(object, progress, large_resources, |offset, line| {
            if next.is_none_or(|position| position.offset != offset) {
                return Ok(());
            }
            next = open.next().transpose().map_err(temporary)?;
            self.resolve_line(line, temporary)
        })
    }

    /// Writes a line of the lake again if a reference in it can be resolved. Its time and version id stay, so that an export takes the
    /// later one of both lines.
    fn resolve_line(&mut self, line: &[u8], temporary: &impl Fn(io::Error) -> AddError) -> Result<(), AddError> {
        let (Ok(text), Ok(head)) = (std::str::from_utf8(line), ResourceHead::parse(line)) else { return Ok(()) };
        self.resolver.counts = ReferenceCounts::default();
        self.rewrite(text, temporary)?;
        if self.resolver.counts.resolved > 0 {
            self.sink.add("", head.resource_type, &self.line)?;
            self.counts.rewritten += 1;
        }
        self.line.shrink_to(LINE_CAPACITY_BYTES);
        Ok(())
    }

    /// Makes the line of a resource, with references that are resolved.
    fn rewrite(&mut self, text: &str, temporary: &impl Fn(io::Error) -> AddError) -> Result<(), AddError> {
        self.line.clear();
        let resolver = &mut self.resolver;
        rewrite_references(text, &mut self.line, &mut |reference| resolver.resolve(reference));
        self.resolver.failure.take().map_or(Ok(()), |cause| Err(temporary(cause)))
    }

    /// Adds an entry.
    fn add_entry(
        &mut self,
        file: &InputFile,
        (offset, is_history): (u64, bool),
        entry: &BundleEntry<'_>,
        temporary: &impl Fn(io::Error) -> AddError,
    ) -> Result<(), AddError> {
        match EntryContent::from_entry(entry, is_history) {
            EntryContent::Resource(resource) => self.add_resource((file, offset), &resource, temporary),
            EntryContent::Deletion(url) => self.add_deletion(file, offset, &url, entry.last_modified.as_deref(), temporary),
            EntryContent::LeftOut(reason, detail) => {
                self.counts.leave_out(reason, &file.name, InputPosition::Byte(offset), detail);
                Ok(())
            }
        }
    }

    /// Adds a resource.
    fn add_resource(
        &mut self,
        (file, offset): (&InputFile, u64),
        resource: &EntryResource<'_>,
        temporary: &impl Fn(io::Error) -> AddError,
    ) -> Result<(), AddError> {
        let position = InputPosition::Byte(offset);
        self.rewrite(&resource.text, temporary)?;
        // An id and resolved references may make a line too long for exports.
        if self.line.len() > LINE_LIMIT_BYTES {
            self.counts.leave_out(LeftOutReason::OverlongLine, &file.name, position, String::new());
            self.line.shrink_to(LINE_CAPACITY_BYTES);
            return Ok(());
        }
        self.counts.check_id((resource.kind, &resource.id), &file.name, position);
        self.sink.add("", resource.kind, &self.line)?;
        self.late.add_written("", &self.line)?;
        self.counts.add_resource("", resource.kind);
        // A long line must not keep its memory.
        self.line.shrink_to(LINE_CAPACITY_BYTES);
        Ok(())
    }

    /// Adds a deletion of the resource that the URL of a DELETE request identifies.
    fn add_deletion(
        &mut self,
        file: &InputFile,
        offset: u64,
        url: &str,
        time: Option<&str>,
        temporary: &impl Fn(io::Error) -> AddError,
    ) -> Result<(), AddError> {
        let target = if ConditionalReference::is_conditional(url) {
            self.resolver.resolve_conditional(url).map_err(temporary)?.map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(url))
        };
        let deleted = target.as_deref().and_then(|target| LocalReference::parse(target, &BaseUrls::any()));
        // The deletion of a version does not delete the resource.
        let deleted = deleted.filter(|deleted| is_usable_id(deleted.id) && !url.contains("/_history/"));
        let Some(deleted) = deleted else {
            self.counts.leave_out(LeftOutReason::UnknownDeletion, &file.name, InputPosition::Byte(offset), String::new());
            return Ok(());
        };
        if let Some(time) = time.and_then(|time| Instant::parse(time).ok()) {
            return self.write_deletion(deleted.resource_type, deleted.id, Some(time));
        }
        if self.waiting.len() >= MAX_WAITING_DELETIONS {
            let reason = format!("a Bundle has more than {MAX_WAITING_DELETIONS} deletions without a time, up to the one at byte {offset}");
            return Err(AddError::Input { file: file.name.clone(), reason });
        }
        self.waiting.push((deleted.resource_type, deleted.id.to_owned()));
        Ok(())
    }

    /// Adds the deletions that have the time of their Bundle.
    fn add_waiting_deletions(&mut self, header: &BundleHeader) -> Result<(), AddError> {
        let instant = |text: &Option<String>| text.as_deref().and_then(|text| Instant::parse(text).ok());
        let time = instant(&header.last_updated).or_else(|| instant(&header.timestamp));
        for (kind, id) in std::mem::take(&mut self.waiting) {
            self.write_deletion(kind, &id, time)?;
        }
        Ok(())
    }

    /// Writes a deletion in the form that exports read.
    fn write_deletion(&mut self, kind: ResourceType, id: &str, time: Option<Instant>) -> Result<(), AddError> {
        self.counts.deletions += 1;
        self.counts.deletions_without_time += u64::from(time.is_none());
        let bundle = deletion_bundle(kind, id, time);
        self.late.add_written("", bundle.as_bytes())?;
        Ok(self.sink.add("", ResourceType::BUNDLE, bundle.as_bytes())?)
    }
}

/// A resolver of references to resources of the input and of the lake.
struct ReferenceResolver<'i> {
    names: NameHasher,
    index: IndexReader<'i>,
    /// The current Bundle, whose own names come first. `None` for a line of the lake.
    bundle: Option<BundleNumber>,
    counts: ReferenceCounts,
    /// The error of a lookup.
    failure: Option<io::Error>,
}

impl ReferenceResolver<'_> {
    /// Returns `Type/id` in place of a reference. `None` if the reference stays. Counts both.
    fn resolve(&mut self, text: &str) -> Option<String> {
        if text.starts_with('#') {
            return None;
        }
        let found = if ConditionalReference::is_conditional(text) {
            self.find_by_identifier(text)
        } else if is_urn(text) || text.contains(':') {
            self.find_by_url(text)
        } else {
            return None;
        };
        match found {
            Ok(Some(Lookup::Found(target))) => {
                self.counts.resolved += 1;
                return Some(target);
            }
            Ok(Some(Lookup::Ambiguous)) => self.counts.ambiguous += 1,
            Ok(Some(Lookup::Absent)) if is_urn(text) => self.counts.unknown_urls += 1,
            Ok(Some(Lookup::Absent)) if ConditionalReference::is_conditional(text) => self.counts.unknown_identifiers += 1,
            // An address may be that of a resource elsewhere.
            Ok(Some(Lookup::Absent)) => {}
            Ok(None) => self.counts.other_searches += 1,
            Err(cause) => self.failure = Some(cause),
        }
        None
    }

    /// Returns the `Type/id` of the resource that a search finds.
    fn resolve_conditional(&mut self, text: &str) -> io::Result<Option<String>> {
        Ok(match self.find_by_identifier(text)? {
            Some(Lookup::Found(target)) => Some(target),
            Some(Lookup::Ambiguous | Lookup::Absent) | None => None,
        })
    }

    /// Looks up an identifier. `None` if the text is a search for something else.
    fn find_by_identifier(&mut self, text: &str) -> io::Result<Option<Lookup>> {
        let Some(ConditionalReference { resource_type, value }) = ConditionalReference::parse(text) else { return Ok(None) };
        self.index.look_up(self.names.identifier(resource_type, &value)).map(Some)
    }

    /// Looks up a full URL: first in the Bundle itself, then in the input, and then among the ids that are UUIDs.
    fn find_by_url(&mut self, url: &str) -> io::Result<Option<Lookup>> {
        let uuid = urn_uuid(url);
        let mut names = Vec::new();
        names.extend(self.bundle.map(|bundle| self.names.url_in_bundle(bundle, url)));
        // In a line of the lake, a name that is no UUID may mean a resource of its own Bundle that was not added.
        names.extend((self.bundle.is_some() || uuid.is_some()).then(|| self.names.url(url)));
        names.extend(uuid.map(|uuid| self.names.uuid(uuid)));
        for name in names {
            let found = self.index.look_up(name)?;
            if found != Lookup::Absent {
                return Ok(Some(found));
            }
        }
        Ok(Some(Lookup::Absent))
    }
}
