//! Decides which lines of a lake are kept.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;

use headrace_core::vocab::clock::Millis;
use headrace_fhir::instant::Instant;

use super::versions::{CompactedVersion, KeptLine};
use super::{CompactReport, CompactSettings};
use crate::sorting::{GroupedRecord as _, RecordSorter, SortedRecords, StoredRecords};

/// The lines that a compaction keeps.
pub(super) struct KeptVersions {
    /// The lines that are written to new objects.
    pub(super) lines: SortedRecords<KeptLine>,
    /// The number of lines that are dropped.
    pub(super) dropped: u64,
    /// The objects that stay only because of ties with versions in other objects that stay, by their indexes.
    pub(super) tied: BTreeSet<usize>,
}

/// The objects of a lake that a compaction does not replace.
pub(super) struct StayingObjects<'a> {
    /// Objects with lines that are not valid, by their indexes.
    pub(super) invalid: &'a BTreeSet<usize>,
    /// The index from which on objects are reached through a link. They replace nothing, and nothing replaces them.
    pub(super) first_linked: usize,
}

impl StayingObjects<'_> {
    /// Returns true if no object of the lake stays.
    fn is_empty(&self, objects: usize) -> bool {
        self.invalid.is_empty() && self.first_linked >= objects
    }
}

/// Decides which lines are kept, and counts them in `report`.
///
/// * Up to the watermark, the newest version of each resource is kept, or the newest deletion if there is no newer version. An export up to
///   then finds what it found before.
/// * Everything later is kept. Of several such versions that nothing but their position distinguishes, the last one is.
/// * The objects that stay are not written again: their lines are compared, unless they are reached through a link.
/// * A version whose only advantage over one in an object that stays is its position must keep its position, so its object stays, too.
pub(super) fn keep_newest(
    sorters: Vec<RecordSorter<CompactedVersion>>,
    (staying, objects): (&StayingObjects<'_>, usize),
    settings: &CompactSettings,
    complete_up_to: Millis,
    report: &mut CompactReport,
) -> io::Result<KeptVersions> {
    let watermark = Instant::from_millis(complete_up_to.0).nanos();
    let sorted = RecordSorter::finish(sorters)?;
    let mut selection = Selection { staying, watermark, tied: BTreeSet::new() };
    if staying.is_empty(objects) {
        return selection.select(sorted, settings, report);
    }
    let mut stored = StoredRecords::write(sorted, &settings.rewrite.temp_folder)?;
    // Each object that stays can tie others.
    loop {
        let before = selection.tied.len();
        for_each_resource(stored.read()?, |resource| {
            selection.add_ties(resource);
            Ok(())
        })?;
        if selection.tied.len() == before {
            return selection.select(stored.read()?, settings, report);
        }
    }
}

/// Passes the versions of each resource to `visit`.
fn for_each_resource(
    sorted: SortedRecords<CompactedVersion>,
    mut visit: impl FnMut(&[CompactedVersion]) -> io::Result<()>,
) -> io::Result<()> {
    let mut resource: Vec<CompactedVersion> = Vec::new();
    for version in sorted {
        let version = version?;
        if resource.last().is_some_and(|last| last.key != version.key) {
            visit(&resource)?;
            resource.clear();
        }
        resource.push(version);
    }
    visit(&resource)
}

/// The selection of the lines that are kept.
struct Selection<'a> {
    staying: &'a StayingObjects<'a>,
    watermark: i64,
    /// The objects that stay because of ties.
    tied: BTreeSet<usize>,
}

impl Selection<'_> {
    /// Returns true if the object of a version stays as it is.
    fn stays(&self, version: &CompactedVersion) -> bool {
        let object = version.line.group();
        object >= self.staying.first_linked || self.staying.invalid.contains(&object) || self.tied.contains(&object)
    }

    /// Returns the versions of a resource that are compared: those that are not reached through a link.
    fn own<'r>(&self, resource: &'r [CompactedVersion]) -> Cow<'r, [CompactedVersion]> {
        let is_own = |version: &&CompactedVersion| version.line.group() < self.staying.first_linked;
        if resource.iter().all(|version| is_own(&version)) {
            return Cow::Borrowed(resource);
        }
        resource.iter().filter(is_own).copied().collect()
    }

    /// Adds the objects with a version that would lose its advantage over one in an object that stays.
    fn add_ties(&mut self, resource: &[CompactedVersion]) {
        if resource.len() < 2 {
            return;
        }
        let own = self.own(resource);
        let is_tied = |version: &&CompactedVersion| {
            // Deletions of the same time are equal.
            !version.is_deletion
                && !self.stays(version)
                && version.tied(resource).any(|other| self.stays(other))
                && is_kept(version, &own, self.watermark)
        };
        let tied: Vec<usize> = own.iter().filter(is_tied).map(|version| version.line.group()).collect();
        self.tied.extend(tied);
    }

    /// Selects the lines that are kept, and counts them.
    fn select(
        self,
        sorted: SortedRecords<CompactedVersion>,
        settings: &CompactSettings,
        report: &mut CompactReport,
    ) -> io::Result<KeptVersions> {
        let mut kept = RecordSorter::new(&settings.rewrite.temp_folder, settings.rewrite.sort_bytes);
        let mut dropped = 0;
        for_each_resource(sorted, |resource| {
            let own = self.own(resource);
            for version in own.iter() {
                let is_kept = is_kept(version, &own, self.watermark);
                let (before, after) = if version.is_deletion {
                    (&mut report.deletions.0, &mut report.deletions.1)
                } else {
                    (&mut report.versions_before, &mut report.versions_after)
                };
                *before += 1;
                // An object that stays keeps all of its lines, also those that a new object would not have.
                let is_there = is_kept || self.stays(version);
                *after += u64::from(is_there);
                dropped += u64::from(!is_there);
                if is_kept && !self.stays(version) {
                    kept.push(version.line)?;
                }
            }
            Ok(())
        })?;
        Ok(KeptVersions { lines: RecordSorter::finish(vec![kept])?, dropped, tied: self.tied })
    }
}

/// Returns true if a version or deletion is kept. `resource` has all of its resource, from the oldest to the newest.
fn is_kept(version: &CompactedVersion, resource: &[CompactedVersion], watermark: i64) -> bool {
    // A deletion without a time is newer than every version, whatever the watermark is.
    let is_later = |version: &CompactedVersion| version.changed > watermark && !(version.is_deletion && version.changed == i64::MAX);
    if is_later(version) {
        // Both may be written to one object, in any order.
        return version.tied(resource).last() == Some(version);
    }
    let newest = |is_deletion| resource.iter().rev().find(|other| other.is_deletion == is_deletion && !is_later(other));
    let deletion = newest(true);
    let current = newest(false).filter(|current| deletion.is_none_or(|deletion| current.changed > deletion.changed));
    match current {
        Some(current) => version == current,
        None => deletion == Some(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns which of these versions are kept. A version is a time, and true for a deletion.
    fn kept(versions: &[(i64, bool)], watermark: i64) -> Vec<bool> {
        let line = |offset| KeptLine { object: 0, offset, entry: 0 };
        let resource: Vec<CompactedVersion> = (0..)
            .zip(versions)
            .map(|(offset, (changed, is_deletion))| CompactedVersion {
                key: 1,
                changed: *changed,
                rank: 0,
                line: line(offset),
                is_deletion: *is_deletion,
            })
            .collect();
        resource.iter().map(|version| is_kept(version, &resource, watermark)).collect()
    }

    #[test]
    fn the_newest_version_up_to_the_watermark_and_everything_later_are_kept() {
        let all = i64::MAX;
        for (versions, watermark, expected) in [
            (&[(1, false), (2, false)][..], all, &[false, true][..]),
            (&[(1, false), (2, false)], 1, &[true, true]),
            (&[(1, false), (2, false), (3, false)], 2, &[false, true, true]),
            (&[(1, false), (2, true)], all, &[false, true]),
            (&[(1, false), (2, true)], 1, &[true, true]),
            (&[(1, false), (2, false), (2, true)], all, &[false, false, true]),
            (&[(1, true), (2, false)], all, &[false, true]),
            (&[(1, true), (2, true)], all, &[false, true]),
            (&[(i64::MIN, false), (1, false)], all, &[false, true]),
            (&[(5, false), (i64::MAX, true)], 3, &[true, true]),
            (&[(2, false), (i64::MAX, true)], 3, &[false, true]),
            (&[(7, false)], 3, &[true]),
            (&[(7, false), (7, false), (7, true), (8, false)], 3, &[false, true, true, true]),
        ] {
            assert_eq!(kept(versions, watermark), expected, "{versions:?} {watermark}");
        }
    }
}
