//! Adds Bundles. The first reading collects the names of resources, the second one resolves references and writes lines.

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, Mutex};

use headrace_core::lake::ndjson::LINE_LIMIT_BYTES;
use headrace_fhir::bundle::{BundleEntry, BundleHeader, BundlePart, BundleSplitter};
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::instant::Instant;
use headrace_fhir::json::JsonValue;
use headrace_fhir::semantics::deletion::deletion_bundle;
use headrace_fhir::semantics::reference::{BaseUrls, LocalReference, rewrite_references};

use super::entry::{EntryContent, EntryResource, is_usable_id};
use super::format::is_manifest;
use super::index::{IndexReader, Lookup, NameIndex, NamedTarget};
use super::input::{ContentHash, FileContent, InputFile, InputReader, LargeResourcePermit, read_chunks};
use super::names::{BundleNumber, ConditionalReference, NameHasher, identifier_values, is_urn};
use super::report::{Counts, InputPosition, LeftOutReason, ReferenceCounts};
use super::{AddError, AddReport, Addition, in_order};
use crate::pool::for_each_item;
use crate::progress::Progress;
use crate::sorting::RecordSorter;
use crate::writing::{LakeLines, LakeLock, LineSink, Staging};

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
        // Both readings.
        files.iter().for_each(|file| self.progress.expect(2 * file.size));
        let names = NameHasher::new(&self.settings.rewrite.seed);
        let (hashes, index) = self.index_names(&files, names)?;
        let (mut receipt, mut report) = self.identify_run(&hashes, "bundles");
        report.files_without_data = (self.files.len() - files.len()) as u64;
        if report.is_repeat {
            return Ok(report);
        }
        let staging = Staging::begin(lake, &receipt.run)?;
        let lines = LakeLines::new(&staging);
        let sinks = self.settings.rewrite.sinks(&lines)?;
        let writers = sinks.into_iter().map(|sink| BundleWriter::new(names, IndexReader::new(&index), sink)).collect();
        let is_new = self.new_files(&hashes);
        let (progress, large_resources) = (self.progress, &self.large_resources);
        let temporary = self.temporary();
        let writers = for_each_item(&files, writers, |writer, number, file| {
            let is_added = is_new.get(number).copied().unwrap_or_default();
            if !is_added {
                return Ok(());
            }
            let hash = writer.add_file((number, file), progress, large_resources, &temporary)?;
            file.check_content(hashes.get(number), hash)
        })?;
        for mut writer in writers {
            writer.sink.flush()?;
            for (number, unresolved) in writer.unresolved {
                if let Some(file) = receipt.files.get_mut(number) {
                    file.1 = unresolved;
                }
            }
            report.merge(writer.counts);
        }
        report.files_added_before = is_new.iter().filter(|is_new| !**is_new).count() as u64;
        let objects = lines.finish(self.settings.rewrite.now)?;
        let watermarks: Vec<_> = self.settings.complete_up_to.map(|time| (String::new(), time)).into_iter().collect();
        self.publish(staging, objects, &receipt, &watermarks, &mut report)?;
        Ok(report)
    }

    /// Reads all files for the first time. Returns their hashes, and the index of the names of resources.
    fn index_names(&self, files: &[InputFile], names: NameHasher) -> Result<(Vec<ContentHash>, NameIndex), AddError> {
        let workers = self.settings.rewrite.workers();
        let folder = &self.settings.rewrite.temp_folder;
        let collectors = (0..workers).map(|_| NameCollector {
            names,
            sorter: RecordSorter::new(folder, self.settings.rewrite.sort_bytes / workers),
            hashes: Vec::new(),
        });
        let (progress, large_resources, temporary) = (self.progress, &self.large_resources, self.temporary());
        let collectors = for_each_item(files, collectors.collect(), |collector, number, file| {
            let reader = read_bundles(file, progress, large_resources, |bundle, part| collector.add(number, bundle, part, &temporary))?;
            let hash = reader.into_content_hash().map_err(|cause| file.read_error(cause))?;
            collector.hashes.push((number, hash));
            Ok::<_, AddError>(())
        })?;
        let (mut hashes, mut sorters) = (Vec::new(), Vec::new());
        for collector in collectors {
            hashes.extend(collector.hashes);
            sorters.push(collector.sorter);
        }
        let index = RecordSorter::finish(sorters).and_then(|records| NameIndex::build(records, folder)).map_err(self.temporary())?;
        Ok((in_order(hashes), index))
    }
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

/// A collector of the names of resources.
struct NameCollector {
    names: NameHasher,
    sorter: RecordSorter<NamedTarget>,
    /// The hash of each file, by its number.
    hashes: Vec<(usize, ContentHash)>,
}

impl NameCollector {
    /// Adds the names of an entry's resource.
    fn add(&mut self, file: usize, bundle: u64, part: ReadPart<'_>, temporary: &impl Fn(io::Error) -> AddError) -> Result<(), AddError> {
        let ReadPart::Entry(_, entry) = part else { return Ok(()) };
        let EntryContent::Resource(resource) = EntryContent::from_entry(&entry) else { return Ok(()) };
        let target = format!("{}/{}", resource.kind, resource.id);
        let mut names = Vec::new();
        if let Some(url) = entry.full_url.as_deref().filter(|url| needs_name(url, &target)) {
            names.extend([self.names.url(url), self.names.url_in_bundle((file, bundle), url)]);
        }
        let values = identifier_values(JsonValue::from_valid(&resource.text));
        names.extend(values.iter().map(|value| self.names.identifier(resource.kind, value)));
        names.into_iter().try_for_each(|name| self.sorter.push(NamedTarget { name, target: target.clone() })).map_err(temporary)
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
    sink: LineSink<'l>,
    counts: Counts,
    /// The number of references of each file that are not resolved.
    unresolved: Vec<(usize, u64)>,
    /// A line that is made.
    line: Vec<u8>,
    /// The deletions of the current Bundle that have no time of their own.
    waiting: Vec<(ResourceType, String)>,
}

impl<'i, 'l> BundleWriter<'i, 'l> {
    /// Creates a writer.
    fn new(names: NameHasher, index: IndexReader<'i>, sink: LineSink<'l>) -> Self {
        let resolver = ReferenceResolver { names, index, bundle: (0, 0), counts: ReferenceCounts::default(), failure: None };
        Self { resolver, sink, counts: Counts::default(), unresolved: Vec::new(), line: Vec::new(), waiting: Vec::new() }
    }

    /// Adds a file. Returns the hash of its content.
    fn add_file(
        &mut self,
        (number, file): (usize, &InputFile),
        progress: &Arc<Progress>,
        large_resources: &Mutex<()>,
        temporary: &impl Fn(io::Error) -> AddError,
    ) -> Result<ContentHash, AddError> {
        self.resolver.counts = ReferenceCounts::default();
        let reader = read_bundles(file, progress, large_resources, |bundle, part| {
            self.resolver.bundle = (number, bundle);
            match part {
                ReadPart::Entry(offset, entry) => self.add_entry(file, offset, &entry, temporary),
                ReadPart::End(header) => self.add_waiting_deletions(&header),
            }
        })?;
        let counts = self.resolver.counts;
        self.unresolved.push((number, counts.unresolved()));
        self.counts.references.merge(&counts);
        reader.into_content_hash().map_err(|cause| file.read_error(cause))
    }

    /// Adds an entry.
    fn add_entry(
        &mut self,
        file: &InputFile,
        offset: u64,
        entry: &BundleEntry<'_>,
        temporary: &impl Fn(io::Error) -> AddError,
    ) -> Result<(), AddError> {
        match EntryContent::from_entry(entry) {
            EntryContent::Resource(resource) => self.add_resource(&resource, temporary),
            EntryContent::Deletion(url) => self.add_deletion(file, offset, &url, entry.last_modified.as_deref(), temporary),
            EntryContent::LeftOut(reason, detail) => {
                self.counts.leave_out(reason, &file.name, InputPosition::Byte(offset), detail);
                Ok(())
            }
        }
    }

    /// Adds a resource.
    fn add_resource(&mut self, resource: &EntryResource<'_>, temporary: &impl Fn(io::Error) -> AddError) -> Result<(), AddError> {
        self.line.clear();
        let resolver = &mut self.resolver;
        rewrite_references(&resource.text, &mut self.line, &mut |text| resolver.resolve(text));
        if let Some(cause) = self.resolver.failure.take() {
            return Err(temporary(cause));
        }
        self.sink.add("", resource.kind, &self.line)?;
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
        Ok(self.sink.add("", ResourceType::BUNDLE, deletion_bundle(kind, id, time).as_bytes())?)
    }
}

/// A resolver of references to resources of the input.
struct ReferenceResolver<'i> {
    names: NameHasher,
    index: IndexReader<'i>,
    /// The current Bundle. Its own names come first.
    bundle: BundleNumber,
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

    /// Looks up a full URL, first in the Bundle itself.
    fn find_by_url(&mut self, url: &str) -> io::Result<Option<Lookup>> {
        match self.index.look_up(self.names.url_in_bundle(self.bundle, url))? {
            Lookup::Absent => self.index.look_up(self.names.url(url)).map(Some),
            found @ (Lookup::Found(_) | Lookup::Ambiguous) => Ok(Some(found)),
        }
    }
}
