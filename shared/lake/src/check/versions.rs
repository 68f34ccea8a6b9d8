//! Counts distinct resources and their versions by sorting hashes of their ids.

use std::io::{self, Read};

use headrace_core::versions::key::ResourceKey;
use headrace_fhir::definitions::ResourceType;

use super::report::LakeReport;
use crate::sorting::{RecordSorter, SortRecord, read_array};

/// A version of a resource, or a deletion, that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeenVersion {
    kind: u8,
    key: u128,
    /// The time of the change, in the order of the exporter's version records.
    changed: i64,
    /// The rank of the version id.
    rank: u64,
    /// The hash of the content without references.
    content: u128,
    is_deletion: bool,
}

impl SeenVersion {
    /// Creates a record of a version.
    pub(super) fn from_resource(kind: ResourceType, key: ResourceKey, changed: i64, rank: u64, content: u128) -> Self {
        Self { kind: kind.to_byte(), key: key.0, changed, rank, content, is_deletion: false }
    }

    /// Creates a record of a deletion.
    pub(super) fn from_deletion(kind: ResourceType, key: ResourceKey, changed: i64) -> Self {
        Self { kind: kind.to_byte(), key: key.0, changed, rank: 0, content: 0, is_deletion: true }
    }
}

impl SortRecord for SeenVersion {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(self.kind);
        to.extend_from_slice(&self.key.to_be_bytes());
        to.extend_from_slice(&self.changed.to_be_bytes());
        to.extend_from_slice(&self.rank.to_be_bytes());
        to.extend_from_slice(&self.content.to_be_bytes());
        to.push(u8::from(self.is_deletion));
    }

    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some([kind]) = read_array(from)? else { return Ok(None) };
        let (Some(key), Some(changed), Some(rank)) = (read_array(from)?, read_array(from)?, read_array(from)?) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let (Some(content), Some([is_deletion])) = (read_array(from)?, read_array(from)?) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        Ok(Some(Self {
            kind,
            key: u128::from_be_bytes(key),
            changed: i64::from_be_bytes(changed),
            rank: u64::from_be_bytes(rank),
            content: u128::from_be_bytes(content),
            is_deletion: is_deletion != 0,
        }))
    }
}

/// The versions of one resource.
#[derive(Default)]
struct ResourceVersions {
    versions: u64,
    newest: Option<i64>,
    deleted: Option<i64>,
    /// The last version: its time, its rank and its content.
    last: Option<(i64, u64, u128)>,
    /// True if the newest versions have the same time and version id, and different content.
    has_conflict: bool,
}

impl ResourceVersions {
    /// Compares the content of the next version with that of the last one. They come in the order of times and version ids, so that a newer
    /// version ends a conflict of older ones.
    fn compare_content(&mut self, next: &SeenVersion) {
        let last = self.last.replace((next.changed, next.rank, next.content));
        let content = last.filter(|(changed, rank, _)| (*changed, *rank) == (next.changed, next.rank)).map(|(.., content)| content);
        self.has_conflict = content.is_some_and(|content| self.has_conflict || content != next.content);
    }
}

/// Counts the resources, older versions and deleted resources of each type.
pub(super) fn count_versions(sorters: Vec<RecordSorter<SeenVersion>>, report: &mut LakeReport) -> io::Result<()> {
    let mut current: Option<((u8, u128), ResourceVersions)> = None;
    for record in RecordSorter::finish(sorters)? {
        let record = record?;
        let id = (record.kind, record.key);
        if current.as_ref().is_none_or(|(key, _)| *key != id) {
            if let Some(((kind, _), versions)) = current.take() {
                add_resource(kind, &versions, report);
            }
            current = Some((id, ResourceVersions::default()));
        }
        let Some((_, versions)) = &mut current else { continue };
        if record.is_deletion {
            versions.deleted = versions.deleted.max(Some(record.changed));
        } else {
            versions.versions += 1;
            versions.newest = versions.newest.max(Some(record.changed));
            versions.compare_content(&record);
        }
    }
    if let Some(((kind, _), versions)) = current {
        add_resource(kind, &versions, report);
    }
    Ok(())
}

/// Adds a resource to the report of its type. As in an export, a deletion removes all versions that are not newer.
fn add_resource(kind: u8, versions: &ResourceVersions, report: &mut LakeReport) {
    let Some(kind) = ResourceType::from_byte(kind) else { return };
    let counts = report.types.entry(kind).or_default();
    let is_deleted = versions.deleted.is_some_and(|deleted| versions.newest.is_none_or(|newest| newest <= deleted));
    counts.ids += u64::from(versions.versions > 0);
    counts.older_versions += versions.versions.saturating_sub(1);
    counts.deleted += u64::from(is_deleted && versions.versions > 0);
    counts.conflicting += u64::from(versions.has_conflict && !is_deleted);
}
