//! Divides fragments among merge tasks, so that they fill whole output files.
//!
//! The lines that a merge task has left after its last full file are a fragment again, which the next round reads and writes once more. So
//! fragments that together are little more than whole files are merged by one task.

use std::collections::BTreeSet;

use crate::job::file::Fragment;

/// The largest number of fragments that one task merges. Each costs a round trip to the store.
pub(super) const FRAGMENTS_PER_TASK: usize = 200;

/// The number of tasks from which on a round has larger tasks instead of more. Together they read as much as S3 allows in one folder, and more
/// workers would wait for it, and are paid.
const TASKS_PER_ROUND: u64 = 1_000;

/// The number by which the usual largest group is multiplied to get that of a round with many fragments. A worker on AWS merges it in seven
/// seconds.
const LARGE_GROUP_FACTOR: u64 = 8;

/// The part of a file, as a divisor, that may be left of a group without more fragments being added to it.
const SMALL_REST: u64 = 64;

/// The sizes of groups, in bytes.
#[derive(Clone, Copy)]
struct GroupSizes {
    /// The size of an output file, with a longer last line.
    file: u64,
    /// The size from which on a group that fills whole files is complete.
    least: u64,
    /// The size from which on any group is complete. A round lasts as long as its largest task.
    most: u64,
}

/// Divides fragments, which are sorted by kind, into groups of one kind, up to [`FRAGMENTS_PER_TASK`] per group.
///
/// A group fills whole output files of `file_bytes` and hardly more, and has between half of `limit_bytes` and `limit_bytes`. One file may be
/// more than that. If there would be more than [`TASKS_PER_ROUND`] groups, they are up to [`LARGE_GROUP_FACTOR`] times as large. A file exceeds
/// its size by a part of its last line, which is up to one of `lines` equal parts of the file.
pub(super) fn merge_groups(fragments: &[Fragment], (file_bytes, lines): (u64, u64), limit_bytes: u64) -> Vec<Vec<Fragment>> {
    let file = file_bytes.max(1) + file_bytes / lines.max(1);
    let bytes: u64 = fragments.iter().map(|fragment| fragment.summary.bytes).sum();
    let usual = limit_bytes / 2;
    let aim = (bytes / TASKS_PER_ROUND).clamp(usual, usual.saturating_mul(LARGE_GROUP_FACTOR));
    let least = (aim / file).max(1).saturating_mul(file);
    let sizes = GroupSizes { file, least, most: least + least / 2 };
    fragments.chunk_by(|one, next| one.name.kind == next.name.kind).flat_map(|fragments| groups_of_kind(fragments, sizes)).collect()
}

/// Divides fragments of one kind into groups. The last ones may be smaller than the others.
fn groups_of_kind(fragments: &[Fragment], sizes: GroupSizes) -> Vec<Vec<Fragment>> {
    let mut left: BTreeSet<(u64, usize)> = (0..).zip(fragments).map(|(index, fragment)| (fragment.summary.bytes, index)).collect();
    let mut groups = Vec::new();
    while let Some((mut bytes, largest)) = left.pop_last() {
        let mut group = vec![largest];
        while group.len() < FRAGMENTS_PER_TASK
            && !sizes.is_complete(bytes)
            && let Some(next) = sizes.next_fragment(&left, bytes)
        {
            left.remove(&next);
            bytes += next.0;
            group.push(next.1);
        }
        group.sort_unstable();
        groups.push(group.into_iter().filter_map(|index| fragments.get(index)).copied().collect());
    }
    groups
}

impl GroupSizes {
    /// Returns true if a group of this size takes no more fragments.
    fn is_complete(self, bytes: u64) -> bool {
        bytes >= self.most || (bytes >= self.least && bytes % self.file <= self.file / SMALL_REST)
    }

    /// Returns the size and the index of the fragment to add to a group of this size: one that fills its last file and leaves little, or
    /// the largest that does not fill it, or else the smallest, if the group is not large enough yet.
    fn next_fragment(self, left: &BTreeSet<(u64, usize)>, bytes: u64) -> Option<(u64, usize)> {
        let missing = self.file - bytes % self.file;
        let filling = left.range((missing, 0)..).next();
        let smaller = || left.range(..(missing, 0)).next_back();
        let leaves_little = |(size, _): &&(u64, usize)| size - missing <= self.file / SMALL_REST;
        filling.filter(leaves_little).or_else(smaller).or(filling.filter(|_| bytes < self.least)).copied()
    }
}

#[cfg(test)]
mod tests {
    use headrace_fhir::definitions::ResourceType;
    use proptest::prelude::*;

    use super::*;
    use crate::job::file::{FileSummary, FragmentName, OutputKind};

    const FILE: u64 = 64_000_000;
    const LINES: u64 = 1_024;
    const LIMIT: u64 = 128 << 20;

    /// Returns a fragment of each size.
    fn fragments(kind: OutputKind, sizes: impl IntoIterator<Item = u64>) -> Vec<Fragment> {
        let name = |task| FragmentName { kind, task, attempt: 1, fencing_token: 1 };
        (2..).zip(sizes).map(|(task, bytes)| Fragment { name: name(task), summary: FileSummary { bytes, lines: 1, crc64: 0 } }).collect()
    }

    /// Returns the total size of a group.
    fn size(group: &[Fragment]) -> u64 {
        group.iter().map(|fragment| fragment.summary.bytes).sum()
    }

    #[test]
    fn groups_of_many_fragments_leave_little_behind_their_full_files() {
        // Sizes spread over those of a file, as the ends of tasks are.
        let sizes = (1..=1_000_u64).map(|index| index * 7_919 % 1_000 * (FILE / 1_000) + 1_000);
        let all = fragments(OutputKind::Output(ResourceType::PATIENT), sizes);
        let groups = merge_groups(&all, (FILE, LINES), LIMIT);
        let left: u64 = groups.iter().map(|group| size(group) % FILE).sum();
        assert!(left < size(&all) / 25, "{left} of {} are left", size(&all));
        assert!(groups.iter().all(|group| size(group) <= LIMIT), "no task is larger than the limit");
        assert!(groups.len() > 300, "{} tasks", groups.len());
    }

    #[test]
    fn many_fragments_are_merged_by_about_a_thousand_tasks_that_leave_little() {
        // The ends of the tasks that read 10 TB.
        let sizes = (1..=18_000_u64).map(|index| index * 7_919 % 18_000 * (FILE / 18_000) + 1_000);
        let all = fragments(OutputKind::Output(ResourceType::PATIENT), sizes);
        let groups = merge_groups(&all, (FILE, LINES), LIMIT);
        assert!((1_000..1_300).contains(&groups.len()), "{} tasks", groups.len());
        assert!(groups.iter().all(|group| size(group) <= 8 * LIMIT), "no task is much larger than the others");
        let left: u64 = groups.iter().map(|group| size(group) % FILE).sum();
        assert!(left < size(&all) / 100, "{left} of {} are left", size(&all));
    }

    #[test]
    fn a_group_of_small_files_fills_several() {
        let all = fragments(OutputKind::Error, (0..1_000).map(|index| 400_000 + index));
        let groups = merge_groups(&all, (1_000_000, LINES), LIMIT);
        assert!(groups.len() <= 8, "{} tasks", groups.len());
    }

    proptest! {
        #[test]
        fn every_fragment_is_in_one_group_of_its_kind(
            sizes in prop::collection::vec(1..2 * FILE, 0..300), others in prop::collection::vec(1..10_u64, 0..300),
        ) {
            let mut all = fragments(OutputKind::Output(ResourceType::PATIENT), sizes);
            all.extend(fragments(OutputKind::Error, others));
            let groups = merge_groups(&all, (FILE, LINES), LIMIT);
            prop_assert!(groups.iter().all(|group| group.len() <= FRAGMENTS_PER_TASK));
            prop_assert!(groups.iter().all(|group| group.iter().all(|fragment| fragment.name.kind == group[0].name.kind)));
            let mut grouped = groups.concat();
            let mut expected = all;
            grouped.sort_unstable_by_key(|fragment| fragment.name);
            expected.sort_unstable_by_key(|fragment| fragment.name);
            prop_assert_eq!(grouped, expected);
        }
    }
}
