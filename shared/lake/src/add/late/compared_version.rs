//! The versions of a resource in the lake and in an addition, and the one that is late.

use std::io::{self, Read};

use headrace_fhir::definitions::ResourceType;

use crate::sorting::{SortRecord, read_array};

/// A version of a resource, or a deletion. Those of a resource sort from the oldest to the newest, in the order of exports. Of equal ones
/// that of the lake comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ComparedVersion {
    pub(super) key: u128,
    pub(super) changed: i64,
    pub(super) rank: u64,
    pub(super) is_added: bool,
    pub(super) is_deletion: bool,
    /// True if the addition brings it, and it is not later than the watermark.
    pub(super) is_late: bool,
    pub(super) kind: ResourceType,
    /// The index of the folder.
    pub(super) folder: u64,
}

impl SortRecord for ComparedVersion {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.key.to_be_bytes());
        to.extend_from_slice(&self.changed.to_be_bytes());
        to.extend_from_slice(&self.rank.to_be_bytes());
        to.extend_from_slice(&self.folder.to_be_bytes());
        let kind = self.kind.as_str();
        to.extend([self.is_added, self.is_deletion, self.is_late].map(u8::from));
        to.push(u8::try_from(kind.len()).unwrap_or_default());
        to.extend_from_slice(kind.as_bytes());
    }

    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(key) = read_array(from)?.map(u128::from_be_bytes) else { return Ok(None) };
        let changed = read_array(from)?.map(i64::from_be_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let rank = read_array(from)?.map(u64::from_be_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let folder = read_array(from)?.map(u64::from_be_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let [is_added, is_deletion, is_late, length]: [u8; 4] = read_array(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut name = vec![0; usize::from(length)];
        from.read_exact(&mut name)?;
        let kind = std::str::from_utf8(&name).ok().and_then(ResourceType::parse).ok_or(io::ErrorKind::InvalidData)?;
        let (is_added, is_deletion, is_late) = (is_added == 1, is_deletion == 1, is_late == 1);
        Ok(Some(Self { key, changed, rank, is_added, is_deletion, is_late, kind, folder }))
    }
}

/// Returns the state of a resource that a full export shows from now on and increments do not: it is late, and the lake did not have it.
/// `None` if there is no such state. `versions` are all of the resource, from the oldest to the newest.
pub(super) fn late_change(versions: &[ComparedVersion]) -> Option<ComparedVersion> {
    let newest = |is_deletion| versions.iter().rev().find(|version| version.is_deletion == is_deletion);
    let (resource, deletion) = (newest(false), newest(true));
    let is_deleted = deletion.is_some_and(|deletion| resource.is_none_or(|resource| deletion.changed >= resource.changed));
    let state = if is_deleted { deletion } else { resource }?;
    let is_same =
        |other: &ComparedVersion| (other.is_deletion, other.changed, other.rank) == (state.is_deletion, state.changed, state.rank);
    let mut existing = versions.iter().filter(|version| !version.is_added);
    if !state.is_late || existing.clone().any(is_same) {
        return None;
    }
    // No client has a resource that the lake never had.
    (!state.is_deletion || existing.any(|version| !version.is_deletion)).then_some(*state)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a version or deletion of the lake, or one that is added.
    fn version(changed: i64, is_deletion: bool, is_added: bool) -> ComparedVersion {
        let is_late = is_added && changed <= 5;
        ComparedVersion { key: 1, changed, rank: 0, is_added, is_deletion, is_late, kind: ResourceType::PATIENT, folder: 0 }
    }

    #[test]
    fn a_late_change_is_a_new_state_that_no_increment_shows() {
        let (old, new) = (|changed| version(changed, false, false), |changed| version(changed, false, true));
        let (deleted, deletion) = (|changed| version(changed, true, false), |changed| version(changed, true, true));
        for (versions, expected) in [
            (vec![new(3)], Some(3)),
            (vec![new(5)], Some(5)),
            (vec![new(6)], None),
            (vec![old(3), new(3)], None),
            (vec![old(2), new(3)], Some(3)),
            (vec![new(3), old(4)], None),
            (vec![new(3), old(6)], None),
            (vec![new(3), new(6)], None),
            (vec![new(3), deleted(4)], None),
            (vec![deleted(2), new(3)], Some(3)),
            (vec![old(2), deletion(3)], Some(3)),
            (vec![deletion(3)], None),
            (vec![old(2), deleted(3), deletion(3)], None),
            (vec![old(2), deletion(6)], None),
            (vec![old(2), deletion(3), old(4)], None),
            (vec![old(2)], None),
            (Vec::new(), None),
        ] {
            assert_eq!(late_change(&versions).map(|late| late.changed), expected, "{versions:?}");
        }
    }

    #[test]
    fn a_version_is_read_as_it_was_written() {
        let versions = [version(-7, false, true), version(i64::MAX, true, false)];
        let mut bytes = Vec::new();
        versions.iter().for_each(|version| version.write(&mut bytes));
        let mut rest = bytes.as_slice();
        for version in versions {
            assert_eq!(ComparedVersion::read(&mut rest).unwrap(), Some(version));
        }
        assert_eq!(ComparedVersion::read(&mut rest).unwrap(), None);
    }
}
