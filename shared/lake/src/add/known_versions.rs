//! The versions of resources in the lake and in the input: which one of each resource is the newest, and which names it has.

use std::io::{self, Read};
use std::path::Path;

use headrace_core::versions::record::{change_time, deletion_time, version_rank};
use headrace_fhir::head::{MemberIndex, Resource, ResourceHead, ResourceIdentity};
use headrace_fhir::json::JsonValue;
use headrace_fhir::semantics::deletion::Deletion;

use super::index::{NameIndex, NamedTarget};
use super::names::{NameHasher, identifier_values, is_uuid};
use crate::sorting::{GroupedRecord, GroupedRecords, RecordSorter, SortRecord, SortedRecords, read_array};

/// The position of a version: a line of the lake, or an entry of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VersionPosition {
    /// The number of the object or file: first the objects of the lake in the order of their names, then the files of the input.
    pub(super) source: u64,
    /// The offset in the decompressed content, in bytes.
    pub(super) offset: u64,
}

impl SortRecord for VersionPosition {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.source.to_be_bytes());
        to.extend_from_slice(&self.offset.to_be_bytes());
    }

    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(source) = read_array(from)?.map(u64::from_be_bytes) else { return Ok(None) };
        let offset = read_array(from)?.map(u64::from_be_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Some(Self { source, offset }))
    }
}

impl GroupedRecord for VersionPosition {
    const BYTES: usize = 16;

    fn group(&self) -> usize {
        usize::try_from(self.source).unwrap_or(usize::MAX)
    }
}

/// A version of a resource, or a deletion in the lake. Those of a resource sort from the oldest to the newest, in the order of exports:
/// by time, then by version id, then by position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KnownVersion {
    key: u128,
    changed: i64,
    rank: u64,
    position: VersionPosition,
    is_deletion: bool,
    /// True for a line of the lake with references that a later addition may resolve.
    pub(super) has_open_references: bool,
    /// The hash of the content without references.
    content: u128,
    /// `Type/id`.
    target: String,
    /// The hashes of the names by which references find the resource, beside its full URL.
    names: Vec<u128>,
}

impl KnownVersion {
    /// Describes a resource. Returns `None` if the text is not a valid one.
    pub(super) fn from_resource(names: &NameHasher, text: &str, position: VersionPosition) -> Option<Self> {
        let (head, identity) = ResourceHead::parse_with_identity(text.as_bytes()).ok()?;
        let (id, rank) = id_and_rank(identity, text)?;
        let kind = head.resource_type;
        let mut found: Vec<u128> =
            identifier_values(JsonValue::from_valid(text)).iter().map(|value| names.identifier(kind, value)).collect();
        if is_uuid(&id) {
            found.push(names.uuid(&id));
        }
        let version = Self::new(names, &head, (&id, rank), text, position);
        Some(Self { target: format!("{kind}/{id}"), names: found, ..version })
    }

    /// Describes a resource of a line that is compared with other lines only: no reference is resolved to it.
    pub(super) fn from_line(
        names: &NameHasher,
        (head, identity): (&ResourceHead, Option<ResourceIdentity<'_>>),
        text: &str,
        position: VersionPosition,
    ) -> Option<Self> {
        let (id, rank) = id_and_rank(identity, text)?;
        Some(Self::new(names, head, (&id, rank), text, position))
    }

    /// Describes a version without the names by which references find it.
    fn new(names: &NameHasher, head: &ResourceHead, (id, rank): (&str, u64), text: &str, position: VersionPosition) -> Self {
        Self {
            key: names.resource("", head.resource_type, id),
            changed: change_time(head.last_updated),
            rank,
            position,
            is_deletion: false,
            has_open_references: false,
            content: names.content(text),
            target: String::new(),
            names: Vec::new(),
        }
    }

    /// Describes a deletion.
    pub(super) fn from_deletion(names: &NameHasher, deletion: &Deletion<'_>, position: VersionPosition) -> Self {
        Self {
            key: names.resource("", deletion.resource_type, &deletion.id),
            changed: deletion_time(deletion.deleted_at),
            rank: 0,
            position,
            is_deletion: true,
            has_open_references: false,
            content: 0,
            target: String::new(),
            names: Vec::new(),
        }
    }
}

/// Returns the id of a resource and the rank of its version id. `None` if the text is not a valid one.
pub(super) fn id_and_rank(identity: Option<ResourceIdentity<'_>>, text: &str) -> Option<(String, u64)> {
    if let Some(identity) = identity {
        return Some((identity.id.to_owned(), version_rank(identity.version_id)));
    }
    // The fast parser of heads does not read every valid line.
    let mut members = MemberIndex::default();
    let resource = Resource::parse(text.as_bytes(), &mut members).ok()?;
    let rank = version_rank(resource.version_id().as_deref());
    Some((resource.id().into_owned(), rank))
}

impl SortRecord for KnownVersion {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.key.to_be_bytes());
        to.extend_from_slice(&self.changed.to_be_bytes());
        to.extend_from_slice(&self.rank.to_be_bytes());
        self.position.write(to);
        to.extend_from_slice(&[u8::from(self.is_deletion), u8::from(self.has_open_references)]);
        to.extend_from_slice(&self.content.to_be_bytes());
        to.extend_from_slice(&(self.target.len() as u64).to_be_bytes());
        to.extend_from_slice(self.target.as_bytes());
        to.extend_from_slice(&(self.names.len() as u64).to_be_bytes());
        self.names.iter().for_each(|name| to.extend_from_slice(&name.to_be_bytes()));
    }

    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(key) = read_array(from)?.map(u128::from_be_bytes) else { return Ok(None) };
        let changed = read_array(from)?.map(i64::from_be_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let rank = read_array(from)?.map(u64::from_be_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let position = VersionPosition::read(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let [is_deletion, has_open_references] = read_array(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let content = read_array(from)?.map(u128::from_be_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut target = vec![0; read_length(from)?];
        from.read_exact(&mut target)?;
        let target = String::from_utf8(target).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let names = (0..read_length(from)?).map(|_| {
            let name = read_array(from)?.map(u128::from_be_bytes);
            name.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
        });
        let names = names.collect::<io::Result<_>>()?;
        let (is_deletion, has_open_references) = (is_deletion == 1, has_open_references == 1);
        Ok(Some(Self { key, changed, rank, position, is_deletion, has_open_references, content, target, names }))
    }

    fn heap_bytes(&self) -> usize {
        self.target.capacity() + self.names.capacity() * size_of::<u128>()
    }
}

/// Reads a length.
fn read_length(from: &mut impl Read) -> io::Result<usize> {
    let length = read_array(from)?.map(u64::from_be_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
    usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// An entry of the input that a later one repeats, with the same time and version id: nothing but the order of the input tells which of
/// them is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RepeatedEntry {
    pub(super) position: VersionPosition,
    /// True if the later one has other content. Both may be about different persons.
    pub(super) has_other_content: bool,
}

impl SortRecord for RepeatedEntry {
    fn write(&self, to: &mut Vec<u8>) {
        self.position.write(to);
        to.push(u8::from(self.has_other_content));
    }

    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(position) = VersionPosition::read(from)? else { return Ok(None) };
        let [has_other_content] = read_array(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Some(Self { position, has_other_content: has_other_content == 1 }))
    }
}

impl GroupedRecord for RepeatedEntry {
    const BYTES: usize = VersionPosition::BYTES + 1;

    fn group(&self) -> usize {
        self.position.group()
    }
}

/// The result of comparing all versions.
pub(super) struct VersionDecisions {
    /// The names of resources: their full URLs in the input, and the identifiers of the newest versions.
    pub(super) index: NameIndex,
    /// The entries of the input that are left out, because later ones repeat them.
    pub(super) repeated: GroupedRecords<RepeatedEntry>,
    /// The number of resources of the lake that the input replaces by other content with the same time and version id.
    pub(super) replaced: u64,
    /// The lines of the lake with open references. Each is the newest version of its resource, also after this addition.
    pub(super) open: GroupedRecords<VersionPosition>,
}

/// The versions of the resources of one run, in the order of exports.
pub(super) struct VersionDecider<'s> {
    /// The number of objects of the lake.
    objects: usize,
    /// True for each file of the input that is added.
    is_new: &'s [bool],
    folder: &'s Path,
    names: RecordSorter<NamedTarget>,
    repeated: RecordSorter<RepeatedEntry>,
    replaced: u64,
    open: RecordSorter<VersionPosition>,
    /// The newest version so far of the current resource.
    newest: Option<KnownVersion>,
    /// The latest deletion so far of the current resource: its key and its time.
    deleted: Option<(u128, i64)>,
}

impl<'s> VersionDecider<'s> {
    /// Creates a decider without versions.
    ///
    /// * `folder`: the folder of temporary files.
    /// * `sort_bytes`: the memory for records.
    pub(super) fn new(objects: usize, is_new: &'s [bool], folder: &'s Path, sort_bytes: usize) -> Self {
        Self {
            objects,
            is_new,
            folder,
            names: RecordSorter::new(folder, sort_bytes / 2),
            repeated: RecordSorter::new(folder, sort_bytes / 4),
            replaced: 0,
            open: RecordSorter::new(folder, sort_bytes / 4),
            newest: None,
            deleted: None,
        }
    }

    /// Compares sorted versions.
    ///
    /// * `full_urls`: the other names of resources.
    pub(super) fn decide(
        mut self,
        versions: SortedRecords<KnownVersion>,
        mut full_urls: Vec<RecordSorter<NamedTarget>>,
    ) -> io::Result<VersionDecisions> {
        for version in versions {
            let version = version?;
            // The resources of a file that was added before are in the lake, or newer ones have replaced them.
            if self.input_file(version.position).is_none_or(|file| self.is_new.get(file).copied().unwrap_or_default()) {
                self.add(version)?;
            }
        }
        self.finish_resource()?;
        let groups = self.objects + self.is_new.len();
        full_urls.push(self.names);
        Ok(VersionDecisions {
            index: NameIndex::build(RecordSorter::finish(full_urls)?, self.folder)?,
            repeated: GroupedRecords::write(RecordSorter::finish(vec![self.repeated])?, groups, self.folder)?,
            replaced: self.replaced,
            open: GroupedRecords::write(RecordSorter::finish(vec![self.open])?, groups, self.folder)?,
        })
    }

    /// Returns the number of the input file that a position is in. `None` for a line of the lake.
    fn input_file(&self, position: VersionPosition) -> Option<usize> {
        position.group().checked_sub(self.objects)
    }

    /// Adds the next version.
    fn add(&mut self, version: KnownVersion) -> io::Result<()> {
        let key = self.newest.as_ref().map(|newest| newest.key).or(self.deleted.map(|(key, _)| key));
        if key.is_some_and(|key| key != version.key) {
            self.finish_resource()?;
        }
        if version.is_deletion {
            // They sort by their times.
            self.deleted = Some((version.key, version.changed));
            return Ok(());
        }
        let before = self.newest.as_ref().filter(|before| (before.changed, before.rank) == (version.changed, version.rank));
        if let Some((position, content)) = before.map(|before| (before.position, before.content)) {
            let has_other_content = content != version.content;
            if self.input_file(position).is_some() {
                self.repeated.push(RepeatedEntry { position, has_other_content })?;
            } else if self.input_file(version.position).is_some() {
                self.replaced += u64::from(has_other_content);
            }
        }
        self.newest = Some(version);
        Ok(())
    }

    /// Decides about the resource whose versions were added. As in an export, a deletion removes all versions that are not newer.
    fn finish_resource(&mut self) -> io::Result<()> {
        let deleted = self.deleted.take();
        let Some(newest) = self.newest.take() else { return Ok(()) };
        if deleted.is_some_and(|(_, deleted)| deleted >= newest.changed) {
            return Ok(());
        }
        if newest.has_open_references {
            self.open.push(newest.position)?;
        }
        let target = newest.target;
        newest.names.into_iter().try_for_each(|name| self.names.push(NamedTarget { name, target: target.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::add::index::{IndexReader, Lookup};

    #[test]
    fn a_version_is_read_as_it_was_written() {
        let names = NameHasher::new(&[3; 16]);
        let text = r#"{"resourceType":"Patient","id":"00000000-0000-4000-8000-000000000001","identifier":[{"system":"s","value":"1"}],"meta":{"versionId":"4","lastUpdated":"2026-01-02T00:00:00Z"}}"#;
        let mut version = KnownVersion::from_resource(&names, text, VersionPosition { source: 3, offset: 99 }).unwrap();
        version.has_open_references = true;
        assert_eq!((version.names.len(), version.rank), (3, 4), "two forms of the identifier, and the UUID");
        let mut bytes = Vec::new();
        version.write(&mut bytes);
        let mut rest = bytes.as_slice();
        assert_eq!(KnownVersion::read(&mut rest).unwrap(), Some(version));
        assert_eq!(KnownVersion::read(&mut rest).unwrap(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        // A version is the number of its resource, its time, and its position.
        #[test]
        fn the_last_of_equal_versions_counts_and_old_files_do_not(
            versions in prop::collection::vec((0_u8..3, 0_i64..3, 0_u64..6), 1..30),
            is_new in prop::collection::vec(any::<bool>(), 3),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let (names, objects) = (NameHasher::new(&[3; 16]), 3);
            let mut sorter = RecordSorter::new(folder.path(), 2_000);
            let mut all = Vec::new();
            for (offset, (id, changed, source)) in (0..).zip(versions) {
                let position = VersionPosition { source, offset };
                let text = format!(r#"{{"resourceType":"Patient","id":"{id}","identifier":[{{"value":"{source}-{offset}"}}]}}"#);
                let version = KnownVersion { changed, has_open_references: source < objects, ..KnownVersion::from_resource(&names, &text, position).unwrap() };
                sorter.push(version.clone()).unwrap();
                if source < objects || is_new[usize::try_from(source - objects).unwrap()] {
                    all.push(version);
                }
            }
            let decider = VersionDecider::new(3, &is_new, folder.path(), 4_000);
            let decisions = decider.decide(RecordSorter::finish(vec![sorter]).unwrap(), Vec::new()).unwrap();
            let repeated: Vec<VersionPosition> = (0..6).flat_map(|group| decisions.repeated.of_group(group)).map(|entry| entry.unwrap().position).collect();
            let open: Vec<VersionPosition> = (0..6).flat_map(|group| decisions.open.of_group(group)).map(Result::unwrap).collect();
            let mut index = IndexReader::new(&decisions.index);
            for version in &all {
                let position = version.position;
                let is_newest = !all.iter().any(|other| other.key == version.key && (other.changed, other.position) > (version.changed, position));
                let is_followed = all.iter().any(|other| other.key == version.key && other.changed == version.changed && other.position > position);
                prop_assert_eq!(repeated.contains(&position), is_followed && position.source >= objects);
                prop_assert_eq!(open.contains(&position), is_newest && position.source < objects);
                for name in &version.names {
                    prop_assert_eq!(index.look_up(*name).unwrap() == Lookup::Found(version.target.clone()), is_newest);
                }
            }
            prop_assert!(repeated.iter().chain(&open).all(|position| all.iter().any(|version| version.position == *position)));
        }
    }
}
