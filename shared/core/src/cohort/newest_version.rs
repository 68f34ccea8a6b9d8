//! Finds the current version of a resource among the versions and deletions read so far.

use headrace_fhir::instant::Instant;

use crate::versions::record::{change_time, deletion_time, version_rank};

/// The position of a line in the lake: object and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectPosition {
    /// Index of the object in the listing.
    pub(crate) object: u32,
    /// Offset in the object, in decompressed bytes.
    pub(crate) offset: u64,
}

/// The order of the versions of a resource, from the oldest to the newest: by `meta.lastUpdated` (absent is oldest), then by
/// `meta.versionId` (as a number, else its first eight bytes), then by position in the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VersionOrder {
    changed: i64,
    rank: u64,
    position: ObjectPosition,
}

impl VersionOrder {
    /// Creates the sort value of a version from its `meta.lastUpdated`, `meta.versionId` and position in the lake.
    pub(crate) fn new(last_updated: Option<Instant>, version_id: Option<&str>, position: ObjectPosition) -> Self {
        Self { changed: change_time(last_updated), rank: version_rank(version_id), position }
    }
}

/// The newest version and the newest deletion of a resource, of those added so far. `T` is the content of a version.
#[derive(Clone, Debug)]
pub(crate) struct NewestVersion<T> {
    newest: Option<(VersionOrder, T)>,
    deleted: Option<i64>,
}

impl<T> Default for NewestVersion<T> {
    fn default() -> Self {
        Self { newest: None, deleted: None }
    }
}

impl<T> NewestVersion<T> {
    /// Adds a version. Calls `content` only if the version is the newest so far.
    pub(crate) fn add_version(&mut self, version: VersionOrder, content: impl FnOnce() -> T) {
        if self.newest.as_ref().is_none_or(|(newest, _)| *newest < version) {
            self.newest = Some((version, content()));
        }
    }

    /// Adds a deletion. A deletion without a time is newer than every version.
    pub(crate) fn add_deletion(&mut self, at: Option<Instant>) {
        self.deleted = self.deleted.max(Some(deletion_time(at)));
    }

    /// Returns the current version. Returns `None` if there is no version, or if a deletion is at least as new.
    pub(crate) fn into_current(self) -> Option<(VersionOrder, T)> {
        let deleted = self.deleted;
        self.newest.filter(|(newest, _)| deleted.is_none_or(|deleted| newest.changed > deleted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(changed: &str, id: &str, offset: u64) -> VersionOrder {
        VersionOrder::new(Instant::parse(changed).ok(), Some(id).filter(|id| !id.is_empty()), ObjectPosition { object: 0, offset })
    }

    #[test]
    fn the_newest_version_is_current_in_any_order_of_reading() {
        let oldest_first = [
            version("", "9", 9),
            version("2020", "", 9),
            version("2021", "2", 9),
            version("2021", "10", 1),
            version("2021", "10", 2),
            version("2022", "1", 0),
        ];
        assert!(oldest_first.is_sorted());
        for rotation in 0..oldest_first.len() {
            let mut newest = NewestVersion::default();
            let versions = oldest_first.iter().enumerate();
            let rotated = versions.clone().skip(rotation).chain(versions.take(rotation));
            rotated.for_each(|(index, version)| newest.add_version(*version, || index));
            assert_eq!(newest.into_current().unwrap().1, 5);
        }
    }

    #[test]
    fn a_deletion_removes_all_versions_that_are_not_newer() {
        let exists = |changed: &str, deletions: &[Option<&str>]| {
            let mut newest = NewestVersion::default();
            newest.add_version(version(changed, "", 0), || ());
            deletions.iter().for_each(|at| newest.add_deletion(at.map(|at| Instant::parse(at).unwrap())));
            newest.into_current().is_some()
        };
        assert!(exists("2021", &[]));
        assert!(exists("2021", &[Some("2020")]));
        assert!(!exists("2021", &[Some("2021")]));
        assert!(!exists("2021", &[Some("2022"), Some("2020")]));
        assert!(!exists("2021", &[None, Some("2020")]));
        assert!(!exists("", &[Some("2000")]));
    }
}
