//! Which version of a resource counts.

use headrace_fhir::Instant;

use crate::versions::record::{changed, deleted, version_rank};

/// Where a line begins: which object of the listing, and where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinePlace {
    pub(crate) object: u32,
    pub(crate) offset: u64,
}

/// One version of a resource; the greater one is the newer: by `meta.lastUpdated` (absent is the oldest), then by
/// `meta.versionId` (as a number, else its first eight bytes), then the one that stands later in the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    changed: i64,
    rank: u64,
    place: LinePlace,
}

impl Version {
    pub(crate) fn of(last_updated: Option<Instant>, version_id: Option<&str>, place: LinePlace) -> Self {
        Self { changed: changed(last_updated), rank: version_rank(version_id), place }
    }
}

/// The newest version of a resource that has been met, and its deletion.
#[derive(Clone, Debug)]
pub(crate) struct Latest<T> {
    newest: Option<(Version, T)>,
    deleted: Option<i64>,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { newest: None, deleted: None }
    }
}

impl<T> Latest<T> {
    /// Takes a version, if no newer one is known.
    pub(crate) fn meet(&mut self, version: Version, content: impl FnOnce() -> T) {
        if self.newest.as_ref().is_none_or(|(newest, _)| *newest < version) {
            self.newest = Some((version, content()));
        }
    }

    /// Takes a deletion; one without a time is later than every version.
    pub(crate) fn delete(&mut self, at: Option<Instant>) {
        self.deleted = self.deleted.max(Some(deleted(at)));
    }

    /// The version that counts; `None` if there is none, or the resource was deleted no earlier than that.
    pub(crate) fn alive(self) -> Option<(Version, T)> {
        let deleted = self.deleted;
        self.newest.filter(|(newest, _)| deleted.is_none_or(|deleted| newest.changed > deleted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(changed: &str, id: &str, offset: u64) -> Version {
        Version::of(Instant::parse(changed).ok(), Some(id).filter(|id| !id.is_empty()), LinePlace { object: 0, offset })
    }

    #[test]
    fn the_newest_version_counts_in_whatever_order_they_come() {
        let in_order = [
            version("", "9", 9),
            version("2020", "", 9),
            version("2021", "2", 9),
            version("2021", "10", 1),
            version("2021", "10", 2),
            version("2022", "1", 0),
        ];
        assert!(in_order.is_sorted());
        for turn in 0..in_order.len() {
            let mut latest = Latest::default();
            let versions = in_order.iter().enumerate();
            versions.clone().skip(turn).chain(versions.take(turn)).for_each(|(at, version)| latest.meet(*version, || at));
            assert_eq!(latest.alive().unwrap().1, 5);
        }
    }

    #[test]
    fn a_deletion_counts_until_a_later_version() {
        let alive = |changed: &str, deletions: &[Option<&str>]| {
            let mut latest = Latest::default();
            latest.meet(version(changed, "", 0), || ());
            deletions.iter().for_each(|at| latest.delete(at.map(|at| Instant::parse(at).unwrap())));
            latest.alive().is_some()
        };
        assert!(alive("2021", &[]));
        assert!(alive("2021", &[Some("2020")]));
        assert!(!alive("2021", &[Some("2021")]));
        assert!(!alive("2021", &[Some("2022"), Some("2020")]));
        assert!(!alive("2021", &[None, Some("2020")]));
        assert!(!alive("", &[Some("2000")]));
    }
}
