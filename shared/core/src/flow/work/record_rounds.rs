//! Plans rounds that merge sorted records, before ranges of them are evaluated.
//!
//! A task evaluates a range of keys, which it reads out of every file that has keys of it. With ranges and files, the number of such reads
//! grows with the square of the lake. So files are merged first, as often as this makes the sum of all reads smaller.
//! `docs/adr/0043-levels-of-merging.md` has the calculation.
//!
//! A group of neighbouring files becomes one sorted sequence of records. If that is too much for one task, several tasks write a range of its
//! keys each. All groups are divided into the same ranges. The number of a task is that of its range times the number of groups, plus that of
//! its group, so that the files of one range have neighbouring numbers.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::job::file::{Fragment, OutputKind};
use crate::job::task::{RecordFiles, RecordMerge, Work};
use crate::job::{Job, ROUND_TASKS};

use super::settings::WorkerSettings;

/// The most files of a group. Each costs at least one read.
const FILES_PER_GROUP: u64 = 200;

/// The number of tasks of a round above which a task takes several steps. Further workers would wait for the store.
const TASKS_OF_ONE_STEP: u64 = 1_000;

/// The most steps of a task. It has no cursor, so that a task which stops repeats all of them.
const MAX_STEPS: u64 = 8;

/// The most rounds of merging, and the most reads of each file in one of them, that are considered.
const MAX_ROUNDS: u16 = 12;
const MAX_READS_OF_FILE: u64 = 10_000;

/// The price of a round in reads, as a multiple of [`WorkerSettings::max_record_reads`]: its tasks are recorded, started and counted.
const ROUND_PRICE: f64 = 3.0;

/// The price of a step of a merge task in reads: it reads and writes records.
const STEP_PRICE: f64 = 2.0;

/// The numbers that determine how often files of records are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordReads {
    /// The number of files.
    pub(crate) files: f64,
    /// The total size of the records, in steps of merge tasks.
    pub(crate) steps: f64,
    /// The number of ranges that are evaluated, of the keys of one file.
    pub(crate) ranges: f64,
}

impl RecordReads {
    /// Returns the number of reads in each of `rounds` rounds of merging, and in the round that evaluates the records after them.
    ///
    /// The product of the reads of all these rounds does not depend on how often each file is read in which of them. So their sum is
    /// smallest if all have the same number.
    fn per_round(self, rounds: u16) -> f64 {
        (self.files * self.ranges * self.steps.powi(rounds.into())).powf(1.0 / f64::from(rounds + 1))
    }

    /// Returns the best number of rounds of merging, at least `least`, and the number of reads in each.
    ///
    /// * `max_record_reads`: the number of reads that needs no round of merging.
    pub(crate) fn best_rounds(self, least: u16, max_record_reads: f64) -> (u16, f64) {
        let price = ROUND_PRICE * max_record_reads + STEP_PRICE * self.steps;
        let cost = |rounds: u16| f64::from(rounds + 1) * self.per_round(rounds) + f64::from(rounds) * price;
        let best = (least..=MAX_ROUNDS).min_by(|one, other| cost(*one).total_cmp(&cost(*other))).unwrap_or(least);
        (best, self.per_round(best))
    }
}

/// The arrangement of the files that a round of merge tasks has written.
#[derive(Clone, Copy, Debug)]
pub(super) struct MergedRound {
    first_task: u32,
    /// The number of groups: of tasks with the same range of keys.
    groups: u32,
    /// The number of ranges of keys.
    parts: u32,
}

impl MergedRound {
    /// Returns the arrangement of the current round of a job by the work of its first task. `None` if the round has not merged.
    pub(super) fn of_job(job: &Job, first_work: Option<&Work>) -> Option<Self> {
        match first_work {
            Some(Work::MergeRecords(merge)) => {
                let parts = merge.ranges.max(1);
                Some(Self { first_task: job.round * ROUND_TASKS, groups: (job.round_tasks / parts).max(1), parts })
            }
            Some(_) | None => None,
        }
    }

    /// Returns the number of ranges of all keys, at least `least`, so that each is in files of one part.
    pub(super) fn ranges(self, least: u32) -> u32 {
        least.div_ceil(self.parts).saturating_mul(self.parts)
    }

    /// Returns the files with the keys of one of `ranges` equal ranges.
    pub(super) fn files_of_range(self, range: u32, ranges: u32) -> RecordFiles {
        self.files(range / (ranges / self.parts).max(1), &(0..self.groups))
    }

    /// Returns the files of these groups with the keys of a part.
    fn files(self, part: u32, groups: &Range<u32>) -> RecordFiles {
        let first = self.first_task + part * self.groups;
        RecordFiles { first_task: first + groups.start, end_task: first + groups.end, parts: self.parts }
    }
}

/// A sequence of sorted records: the files of one task, or those with the ranges of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Sequence {
    files: u64,
    bytes: u64,
}

/// Neighbouring sequences that are merged to one: tasks, or groups of the last round.
#[derive(Clone, Debug)]
struct Group {
    kind: OutputKind,
    members: Range<u32>,
    size: Sequence,
}

/// Plans tasks that merge the files of records. Returns `None` if their records can be evaluated without a merge.
///
/// * `merged`: the arrangement of the files, if they are merged already.
/// * `ranges`: the number of ranges that are evaluated in the end.
pub(super) fn record_merges(
    kinds: &[(OutputKind, Vec<Fragment>)],
    merged: Option<MergedRound>,
    ranges: u32,
    settings: &WorkerSettings,
) -> Option<Vec<Work>> {
    let parts = merged.map_or(1, |merged| merged.parts);
    let files: u64 = kinds.iter().map(|(_, fragments)| fragments.len() as u64).sum();
    let bytes: u64 = kinds.iter().flat_map(|(_, fragments)| fragments).map(|fragment| fragment.summary.bytes).sum();
    if merged.is_none() && files * u64::from(ranges) <= settings.max_record_reads {
        return None;
    }
    let step_bytes = settings.merge_step_bytes();
    let steps = bytes.div_ceil(step_bytes);
    let reads = RecordReads { files: files as f64, steps: steps as f64, ranges: f64::from(ranges) / f64::from(parts) };
    let (rounds, reads) = reads.best_rounds(u16::from(merged.is_none()), settings.max_record_reads as f64);
    if rounds == 0 {
        return None;
    }
    let sequences: Vec<_> = kinds.iter().map(|(kind, fragments)| (*kind, sequences(fragments, merged))).collect();
    let count: u64 = sequences.iter().map(|(_, sequences)| sequences.len() as u64).sum();
    // A group of less than two sequences gains nothing.
    let least = (2 * bytes).div_ceil(u64::from(parts) * count.max(1) * step_bytes).max(1);
    let reads_of_file = (least..MAX_READS_OF_FILE).find(|times| (files * times) as f64 >= reads).unwrap_or(MAX_READS_OF_FILE.max(least));
    let steps_of_task = steps.div_ceil(TASKS_OF_ONE_STEP).clamp(1, MAX_STEPS).min(reads_of_file);
    let tasks_of_group = reads_of_file.div_ceil(steps_of_task);
    let group_bytes = tasks_of_group * steps_of_task * step_bytes;
    let groups: Vec<Group> = sequences.iter().flat_map(|(kind, sequences)| groups(*kind, sequences, group_bytes)).collect();
    if groups.len() as u64 >= count {
        return None;
    }
    let ranges = u32::try_from(u64::from(parts) * tasks_of_group).unwrap_or(u32::MAX);
    let range_bytes = tasks_of_group * step_bytes;
    let work = |range: u32, group: &Group| {
        let part = range / (ranges / parts).max(1);
        let unmerged = RecordFiles { first_task: group.members.start, end_task: group.members.end, parts: 1 };
        let files = merged.map_or(unmerged, |merged| merged.files(part, &group.members));
        // A group may be a little larger than planned, so that groups have the planned size on average.
        let steps = (group.size.bytes.saturating_sub(range_bytes / 4)).div_ceil(range_bytes).max(1);
        Work::MergeRecords(RecordMerge { kind: group.kind, files, range, ranges, steps: u32::try_from(steps).unwrap_or(u32::MAX) })
    };
    Some((0..ranges).flat_map(|range| groups.iter().map(move |group| (range, group))).map(|(range, group)| work(range, group)).collect())
}

/// Returns the sequences of records by the number of their task, or of their group: their files and bytes in one range of keys.
fn sequences(fragments: &[Fragment], merged: Option<MergedRound>) -> BTreeMap<u32, Sequence> {
    let (first_task, groups, parts) = merged.map_or((0, u32::MAX, 1), |merged| (merged.first_task, merged.groups, merged.parts));
    let mut sequences = BTreeMap::<u32, Sequence>::new();
    for fragment in fragments {
        let sequence = sequences.entry(fragment.name.task.saturating_sub(first_task) % groups).or_default();
        (sequence.files, sequence.bytes) = (sequence.files + 1, sequence.bytes + fragment.summary.bytes);
    }
    let of_part =
        |sequence: Sequence| Sequence { files: sequence.files.div_ceil(parts.into()), bytes: sequence.bytes.div_ceil(parts.into()) };
    sequences.into_iter().map(|(number, sequence)| (number, of_part(sequence))).collect()
}

/// Divides sequences of one kind into groups of about this size.
fn groups(kind: OutputKind, sequences: &BTreeMap<u32, Sequence>, bytes: u64) -> Vec<Group> {
    let mut groups = Vec::<Group>::new();
    for (number, sequence) in sequences {
        match groups.last_mut() {
            // A group may exceed its size by half of its last sequence, so that groups have that size on average.
            Some(group) if group.size.bytes + sequence.bytes / 2 <= bytes && group.size.files + sequence.files / 2 <= FILES_PER_GROUP => {
                group.members.end = number + 1;
                group.size = Sequence { files: group.size.files + sequence.files, bytes: group.size.bytes + sequence.bytes };
            }
            Some(_) | None => groups.push(Group { kind, members: *number..number + 1, size: *sequence }),
        }
    }
    groups
}

#[cfg(test)]
#[path = "record_rounds/tests.rs"]
mod tests;
