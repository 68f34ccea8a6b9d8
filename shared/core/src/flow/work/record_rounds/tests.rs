use super::*;
use crate::job::file::{FileSummary, FragmentName};
use crate::job::{Job, Phase};
use crate::request::ExportRequest;
use crate::vocab::clock::Millis;
use crate::vocab::ids::{Caller, JobId};

/// Returns fragments of this size: how many each of these tasks has written.
fn fragments(bytes: u64, tasks: impl IntoIterator<Item = (u32, u32)>) -> Vec<Fragment> {
    let name = |task, fencing_token| FragmentName { kind: OutputKind::VersionRecords, task, attempt: 1, fencing_token };
    let summary = FileSummary { bytes, lines: 1, crc64: 0 };
    let of_task = |(task, count): (u32, u32)| (0..count).map(move |token| Fragment { name: name(task, token), summary });
    tasks.into_iter().flat_map(of_task).collect()
}

/// Returns a running job in this round.
fn job(round: u32, round_tasks: u32) -> Job {
    let job = Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), ExportRequest::default(), Millis(0));
    Job { round, round_tasks, phase: Phase::MergeVersionRecords, ..job }
}

/// Returns the range of keys of a merge and of each of its files, in parts of the least common multiple.
fn merges(works: &[Work]) -> Vec<RecordMerge> {
    works.iter().filter_map(|work| if let Work::MergeRecords(merge) = work { Some(*merge) } else { None }).collect()
}

/// Runs all rounds of merging. Returns the reads of each, and those of the tasks that evaluate ranges at last.
///
/// Checks that each record is merged into exactly one file of each round.
fn reads_of_rounds(bytes: u64, files: u32, settings: &WorkerSettings) -> Vec<u64> {
    let mut kinds = vec![(OutputKind::VersionRecords, fragments(bytes, (2..2 + files).map(|task| (task, 1))))];
    let least = u32::try_from((bytes * u64::from(files)).div_ceil(settings.resolve_bytes)).unwrap();
    let (mut merged, mut reads) = (None::<MergedRound>, Vec::new());
    for round in 1.. {
        let ranges = merged.map_or(least, |merged| merged.ranges(least));
        let Some(works) = record_merges(&kinds, merged, ranges, settings) else {
            let files_of = |range| merged.map_or(u64::from(files), |merged| u64::from(merged.groups_of(range, ranges)));
            reads.push((0..ranges).map(files_of).sum());
            return reads;
        };
        let merges = merges(&works);
        assert_eq!(merges.len(), works.len());
        let (mut read, mut written) = (0, Vec::new());
        let mut read_parts = BTreeMap::<u32, u64>::new();
        for (task, merge) in (round * ROUND_TASKS..).zip(&merges) {
            let sources = merge.sources(&kinds[0].1);
            read += sources.len() as u64 * u64::from(merge.steps);
            // A file has the keys of one of `parts` ranges, and the task reads one of `ranges` ranges of all keys out of it.
            assert_eq!(merge.ranges % merge.files.parts, 0);
            let share = u64::from(merge.ranges / merge.files.parts);
            sources.iter().for_each(|fragment| *read_parts.entry(fragment.name.task).or_default() += merge.ranges as u64 / share);
            let size = sources.iter().map(|fragment| fragment.summary.bytes).sum::<u64>() / share;
            assert!(size <= u64::from(merge.steps) * settings.resolve_bytes, "{size} in {} steps", merge.steps);
            written.push((task, size));
        }
        assert!(kinds[0].1.iter().all(|fragment| read_parts[&fragment.name.task] == u64::from(merges[0].ranges)), "each record once");
        reads.push(read);
        merged = MergedRound::of_job(&job(round, u32::try_from(works.len()).unwrap()), works.first());
        let written = written.into_iter().flat_map(|(task, size)| fragments(size, [(task, 1)]));
        kinds = vec![(OutputKind::MergedVersionRecords, written.collect())];
    }
    reads
}

#[test]
fn few_reads_need_no_merge() {
    assert_eq!(reads_of_rounds(4_800_000, 420, &WorkerSettings::default()), [420 * 31]);
}

#[test]
fn the_reads_of_large_lakes_grow_with_the_lake_and_not_with_its_square() {
    let settings = WorkerSettings::default();
    // The version records of lakes of 300 GB, 1 TB, 10 TB and 100 TB.
    for (bytes, files, limit) in
        [(4_800_000, 1_250, 20_000), (5_600_000, 3_600, 60_000), (5_600_000, 36_000, 300_000), (5_600_000, 360_000, 3_000_000)]
    {
        let reads = reads_of_rounds(bytes, files, &settings);
        println!("{files} files of {bytes} bytes: {reads:?}");
        assert!(reads.iter().sum::<u64>() < limit, "{files}: {reads:?}");
        assert!(reads.iter().all(|reads| *reads < limit / 2), "{files}: {reads:?}");
    }
}

#[test]
fn many_tiny_files_become_few() {
    let reads = reads_of_rounds(56, 36_000, &WorkerSettings::default());
    assert_eq!(reads, [36_000, 180]);
}

#[test]
fn all_files_of_a_task_are_in_one_group() {
    let settings = WorkerSettings { resolve_bytes: 400, max_record_reads: 0, ..WorkerSettings::default() };
    let kinds = [(OutputKind::VersionRecords, fragments(40, (2..30).map(|task| (task, 1 + task % 3))))];
    let works = record_merges(&kinds, None, 7, &settings).unwrap();
    for fragment in &kinds[0].1 {
        let of_first_range = merges(&works).into_iter().filter(|merge| merge.range == 0 && merge.is_of(fragment.name.task));
        assert_eq!(of_first_range.count(), 1);
    }
}

impl MergedRound {
    /// Returns the number of files that have keys of a range.
    fn groups_of(self, range: u32, ranges: u32) -> u32 {
        let files = self.files_of_range(range, ranges);
        files.end_task - files.first_task
    }
}

impl RecordMerge {
    /// Returns those of these fragments, which are sorted by task, that the task merges.
    fn sources<'f>(&self, fragments: &'f [Fragment]) -> &'f [Fragment] {
        let before = |task: u32| fragments.partition_point(|fragment| fragment.name.task < task);
        &fragments[before(self.files.first_task)..before(self.files.end_task)]
    }

    /// Returns true if the task merges files of this one.
    fn is_of(&self, task: u32) -> bool {
        (self.files.first_task..self.files.end_task).contains(&task)
    }
}
