//! The versions and deletions of a lake, sorted in the order of exports.

use std::collections::BTreeSet;
use std::io::{self, Read};

use headrace_core::lake::line::LakeLine;
use headrace_core::versions::key::ResourceKeyHasher;
use headrace_core::versions::record::{change_time, deletion_time, version_rank};
use headrace_fhir::head::{MemberIndex, Resource};

use crate::reading::SliceLine;
use crate::sorting::{GroupedRecord, RecordSorter, SortRecord, read_array};

/// A version of a resource, or a deletion. Those of a resource sort from the oldest to the newest, in the order of exports: by time, then
/// by version id, then by position in the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CompactedVersion {
    pub(super) key: u128,
    pub(super) changed: i64,
    pub(super) rank: u64,
    pub(super) line: KeptLine,
    pub(super) is_deletion: bool,
}

/// The position of a line, or of one deletion in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeptLine {
    /// The index of the object in the listing.
    pub(super) object: u64,
    /// The offset in the object, in decompressed bytes.
    pub(super) offset: u64,
    /// The index of the entry in a Bundle of deletions.
    pub(super) entry: u32,
}

impl SortRecord for KeptLine {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.object.to_be_bytes());
        to.extend_from_slice(&self.offset.to_be_bytes());
        to.extend_from_slice(&self.entry.to_be_bytes());
    }

    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(object) = read_array(from)?.map(u64::from_be_bytes) else { return Ok(None) };
        let (Some(offset), Some(entry)) = (read_array(from)?, read_array(from)?) else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        Ok(Some(Self { object, offset: u64::from_be_bytes(offset), entry: u32::from_be_bytes(entry) }))
    }
}

impl GroupedRecord for KeptLine {
    const BYTES: usize = 20;

    fn group(&self) -> usize {
        usize::try_from(self.object).unwrap_or(usize::MAX)
    }
}

impl CompactedVersion {
    /// Returns this version or deletion of a resource, and the others that differ from it in nothing but their position.
    pub(super) fn tied<'r>(&self, resource: &'r [Self]) -> impl Iterator<Item = &'r Self> + use<'r> {
        let (order, is_deletion) = ((self.changed, self.rank), self.is_deletion);
        let start = resource.partition_point(|other| (other.changed, other.rank) < order);
        let same_order = resource.iter().skip(start).take_while(move |other| (other.changed, other.rank) == order);
        same_order.filter(move |other| other.is_deletion == is_deletion)
    }
}

impl SortRecord for CompactedVersion {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.key.to_be_bytes());
        to.extend_from_slice(&self.changed.to_be_bytes());
        to.extend_from_slice(&self.rank.to_be_bytes());
        self.line.write(to);
        to.push(u8::from(self.is_deletion));
    }

    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(key) = read_array(from)?.map(u128::from_be_bytes) else { return Ok(None) };
        let (Some(changed), Some(rank), Some(line), Some([is_deletion])) =
            (read_array(from)?, read_array(from)?, KeptLine::read(from)?, read_array(from)?)
        else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let (changed, rank) = (i64::from_be_bytes(changed), u64::from_be_bytes(rank));
        Ok(Some(Self { key, changed, rank, line, is_deletion: is_deletion == 1 }))
    }
}

/// A collector of the versions in a lake.
pub(super) struct VersionReader {
    keys: ResourceKeyHasher,
    pub(super) sorter: RecordSorter<CompactedVersion>,
    /// The objects with lines that are not valid.
    pub(super) invalid_objects: BTreeSet<usize>,
}

impl VersionReader {
    /// Creates a reader.
    pub(super) fn new(keys: ResourceKeyHasher, sorter: RecordSorter<CompactedVersion>) -> Self {
        Self { keys, sorter, invalid_objects: BTreeSet::new() }
    }

    /// Adds a line of an object.
    pub(super) fn add_line(&mut self, object: usize, line: SliceLine<'_>) -> io::Result<()> {
        let position = |entry| KeptLine { object: object as u64, offset: line.offset, entry };
        let Some(text) = line.text else {
            self.invalid_objects.insert(object);
            return Ok(());
        };
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        match LakeLine::parse(text) {
            LakeLine::Outcome => Ok(()),
            LakeLine::Rejected(_) => {
                self.invalid_objects.insert(object);
                Ok(())
            }
            LakeLine::Deletions(deletions) => {
                // A request that does not name one resource is no deletion that could be written again.
                if deletions.unread > 0 {
                    self.invalid_objects.insert(object);
                }
                (0..).zip(&deletions).try_for_each(|(entry, deletion)| {
                    let key = self.keys.key(deletion.resource_type, deletion.id.as_bytes()).0;
                    let changed = deletion_time(deletion.deleted_at);
                    self.sorter.push(CompactedVersion { key, changed, rank: u64::from(entry), line: position(entry), is_deletion: true })
                })
            }
            LakeLine::Resource(head, identity) => {
                let mut members = MemberIndex::default();
                // The fast parser of heads does not read every valid line.
                let (key, rank) = match identity {
                    Some(identity) => (self.keys.key(head.resource_type, identity.id.as_bytes()), version_rank(identity.version_id)),
                    None => match Resource::parse(text, &mut members) {
                        Ok(resource) => {
                            (self.keys.key(head.resource_type, resource.id().as_bytes()), version_rank(resource.version_id().as_deref()))
                        }
                        Err(_) => {
                            self.invalid_objects.insert(object);
                            return Ok(());
                        }
                    },
                };
                let changed = change_time(head.last_updated);
                self.sorter.push(CompactedVersion { key: key.0, changed, rank, line: position(0), is_deletion: false })
            }
        }
    }
}
