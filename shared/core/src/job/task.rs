//! The tasks of a job.

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::file::{Fragment, FragmentPart, OutputFile, OutputFileName, OutputKind};
use crate::job::file_list::FileListPart;
use crate::job::sync::{FetchTask, FinalizeSync, Publication, SyncRequest};
use crate::job::{Counters, ExportTime, Job, Phase, Planned};
use crate::vocab::clock::Millis;
use crate::vocab::ids::TaskId;

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Available: no worker holds a lease.
    Open,
    /// An attempt holds the lease.
    Leased,
    /// Completed and counted in the job.
    Completed,
}

impl TaskState {
    /// The list of states.
    pub const ALL: [Self; 3] = [Self::Open, Self::Leased, Self::Completed];

    /// Returns the stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Leased => "leased",
            Self::Completed => "completed",
        }
    }

    /// Parses the output of [`Self::as_str`]. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// The work of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Lists the lake, pins its objects and divides them into tasks.
    Plan(PlanInput),
    /// Reads slices of the lake.
    Read(Vec<Slice>),
    /// Merges the version records or links of some tasks into one sorted file.
    MergeRecords(RecordMerge),
    /// Evaluates the version records or links of a range of resources and writes corrections.
    Resolve(ResolveRange),
    /// Collects the corrections of the lines that some tasks have read.
    MergeCorrections(CorrectionMerge),
    /// Reads the slices of an earlier task again and applies the corrections.
    Reread(RereadTask),
    /// Sorts the resources of one bucket of patients roughly.
    SortPatients(PatientSort),
    /// Groups the resources of some buckets by patient.
    GroupByPatient(PatientGrouping),
    /// Merges fragments of one kind into output files and at most one fragment for the next round.
    Merge(Vec<FragmentPart>),
    /// Reads resources from the FHIR server that the lake is filled from.
    Fetch(FetchTask),
    /// Stores fragments as objects of the lake.
    Publish(Vec<Publication>),
    /// Runs after all other tasks have completed: starts the next round, or merges the remaining fragments, deletes leftover
    /// files and completes the job.
    Finalize,
    /// Runs after all other tasks of a synchronization have completed: publishes what they have fetched and moves the watermark of the
    /// lake.
    FinalizeSync(Box<FinalizeSync>),
}

impl Work {
    /// Returns the name for logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Plan(_) => "plan",
            Self::Read(_) => "read",
            Self::MergeRecords(_) => "merge-records",
            Self::Resolve(_) => "resolve",
            Self::MergeCorrections(_) => "merge-corrections",
            Self::Reread(_) => "reread",
            Self::SortPatients(_) => "sort-patients",
            Self::GroupByPatient(_) => "group-by-patient",
            Self::Merge(_) => "merge",
            Self::Fetch(_) => "fetch",
            Self::Publish(_) => "publish",
            Self::Finalize => "finalize",
            Self::FinalizeSync(_) => "finalize-sync",
        }
    }

    /// Returns the slices of a read task. Other work has none.
    pub fn slices(&self) -> &[Slice] {
        if let Self::Read(slices) = self { slices } else { &[] }
    }

    /// Returns the slices of a read task like [`Self::slices`], without a copy.
    pub fn into_slices(self) -> Vec<Slice> {
        if let Self::Read(slices) = self { slices } else { Vec::new() }
    }

    /// Returns the fragments of a merge task. Other work has none.
    pub fn fragments(&self) -> &[FragmentPart] {
        if let Self::Merge(fragments) = self { fragments } else { &[] }
    }

    /// Returns the byte range of a slice or a fragment by its index. `None` if there is none.
    pub fn input_range(&self, index: usize) -> Option<Range<u64>> {
        let slice = self.slices().get(index).map(|slice| slice.start..slice.end);
        slice.or_else(|| self.fragments().get(index).map(FragmentPart::range))
    }

    /// Returns true for the work of the task that runs after all others of a round.
    pub fn is_finalize(&self) -> bool {
        matches!(self, Self::Finalize | Self::FinalizeSync(_))
    }

    /// Returns the number of stored bytes that the task reads, as far as its work tells.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Read(slices) => slices.iter().map(|slice| slice.end - slice.start).sum(),
            Self::Merge(fragments) => fragments.iter().map(|part| part.range().end - part.range().start).sum(),
            Self::Publish(publications) => publications.iter().map(|publication| publication.fragment.summary.bytes).sum(),
            Self::Plan(_)
            | Self::MergeRecords(_)
            | Self::Resolve(_)
            | Self::MergeCorrections(_)
            | Self::Reread(_)
            | Self::SortPatients(_)
            | Self::GroupByPatient(_)
            | Self::Fetch(_)
            | Self::Finalize
            | Self::FinalizeSync(_) => 0,
        }
    }
}

/// Input of the plan task in addition to the job's request.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlanInput {
    /// The sorted ids of the parameter `patient`. If empty, all patients of the level are exported. The ids are not stored in
    /// the job's own item, because there may be thousands and that item is read often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patients: Vec<String>,
    /// The request of a synchronization. `None` for an export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<Box<SyncRequest>>,
}

/// The files of records that some tasks of the previous round have written. All of them have the keys of the same range, one of `parts`
/// equal ranges of all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordFiles {
    /// The number of the first task.
    pub first_task: u32,
    /// The number after that of the last task.
    pub end_task: u32,
    /// The number of ranges into which all keys are divided.
    pub parts: u32,
}

/// A range of keys of files of one kind, which a task merges into one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordMerge {
    /// The kind: version records or links.
    pub kind: OutputKind,
    /// The files.
    pub files: RecordFiles,
    /// The index of the range, from 0.
    pub range: u32,
    /// The number of equal ranges of all keys. The keys of a file are one or several whole ranges.
    pub ranges: u32,
    /// The number of equal parts of the range that are in memory one after the other.
    pub steps: u32,
}

/// The corrections in some bands of every file of corrections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorrectionMerge {
    /// The first band.
    pub first_band: u32,
    /// The band after the last one.
    pub end_band: u32,
}

/// A range of the recorded resources, by the hash of their type and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveRange {
    /// The records to evaluate.
    pub stage: ResolveStage,
    /// The index of the range, from 0.
    pub range: u32,
    /// The number of ranges.
    pub ranges: u32,
    /// The files with the range, if the records were merged in the previous round. Otherwise all files of that round have a part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<RecordFiles>,
}

/// The stage of resolving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResolveStage {
    /// Determines the current version of each resource, and which resources are deleted.
    Versions,
    /// Determines the resources that are exported because other resources refer to them.
    Links,
}

/// A task whose slices are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RereadTask {
    /// The number of the task that read the slices first.
    pub task: u32,
    /// True if only the lines that corrections add are written, because the others were written before.
    pub additions_only: bool,
    /// The number of the task that has merged the corrections of these slices. `None` if they are in the files of all resolve tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_task: Option<u32>,
}

/// The resources of one bucket that some tasks have read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatientSort {
    /// The number of the bucket.
    pub bucket: u8,
    /// The number of the first task.
    pub first_task: u32,
    /// The number after that of the last task.
    pub end_task: u32,
}

/// Buckets whose resources are grouped by patient. The task finds the fragments of these buckets itself, because there may be
/// more than fit into its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatientGrouping {
    /// The number of the first bucket.
    pub first_bucket: u8,
    /// The number after that of the last bucket.
    pub end_bucket: u8,
    /// The index of the range of patients within these buckets, from 0.
    pub range: u32,
    /// The number of ranges.
    pub ranges: u32,
    /// True if the resources were sorted roughly in the previous round. Otherwise they are in the files of the reading tasks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_sorted: bool,
}

/// An object of the lake in the state in which the plan task found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The name of the object below the root of the lake, with `/` between folders.
    pub object: String,
    /// A tag that changes with the content: the ETag in S3; size, modification time and inode in a directory.
    pub etag: String,
    /// The stored size in bytes.
    pub size: u64,
}

/// The compression of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Plain text, without compression.
    Plain,
    /// gzip, with one or more members.
    Gzip,
    /// Zstandard, with one or more frames.
    Zstd,
}

/// A byte range of an object: the lines that begin in `start..end`. A compressed object is a single slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The object.
    #[serde(flatten)]
    pub pin: Pin,
    /// The compression.
    pub encoding: Encoding,
    /// The offset of the first byte, in stored bytes.
    pub start: u64,
    /// The offset after the last byte, in stored bytes.
    pub end: u64,
    /// True if the object arrived in the lake after `_since`, and the watermark makes this matter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub arrived_after_since: bool,
}

/// The progress of a task. Everything before the cursor is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// The index of the current slice or fragment of the task.
    pub item: u32,
    /// The offset of the next line in that item, in decompressed bytes. 0 at its start.
    pub offset: u64,
}

impl Cursor {
    /// The cursor of a task with a single checkpoint, which has written everything.
    pub const WRITTEN: Self = Self { item: 1, offset: 0 };
}

/// The lease of a task. Every update carries `attempt` and `fencing_token`, so that an attempt whose lease has ended cannot
/// record anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// The work.
    pub work: Work,
    /// The job when the lease was granted.
    pub job: Job,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The number of updates of the task so far, over all attempts.
    pub fencing_token: u32,
    /// The number of attempts since the task last made progress, including this one.
    pub attempts_since_progress: u32,
    /// The time since the task last made progress, in pauses that the FHIR server has demanded and in the attempts that ended with them.
    pub paused: Duration,
    /// The end of the lease.
    pub until: Millis,
    /// The progress of all attempts.
    pub cursor: Cursor,
    /// The names of output files that are reserved for this task and not recorded as written, in the order in which it writes them: those
    /// of one [`Checkpoint`] at most.
    pub reserved_files: Vec<OutputFileName>,
    /// The counters of the task so far.
    pub counters: Counters,
    /// The time of the export, if the task is the plan and an attempt has taken it.
    pub export_time: Option<ExportTime>,
    /// The progress of all attempts at the plan within the listing.
    pub plan_progress: Option<PlanProgress>,
}

impl Lease {
    /// Returns the end of the lease after an update at `now`.
    ///
    /// Only an update after a third of the lease extends it. An extension moves the task in the index of due items, which is more
    /// expensive than the update itself, and fast workers update their tasks several times a second.
    pub fn end_after_update(&self, now: Millis, duration: Duration) -> Millis {
        let extended = now + duration;
        if extended.since(self.until) >= duration / 3 { extended } else { self.until }
    }

    /// Returns the reserved names that are still reserved after these files were recorded.
    pub fn names_left_after(&self, recorded: &[OutputFile]) -> Vec<OutputFileName> {
        let is_recorded = |name: &OutputFileName| recorded.iter().any(|file| file.name == *name);
        self.reserved_files.iter().filter(|name| !is_recorded(name)).copied().collect()
    }
}

/// The answer to a request for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// The lease is granted.
    Granted(Box<Lease>),
    /// Another worker holds the lease, or the job is not ready for the task. The worker must leave the task alone.
    Unavailable,
    /// The task is completed, or the job has ended. The task will never be available again.
    Obsolete,
    /// The task has used up its attempts. Contains the error of the last attempt, if it was recorded.
    Exhausted(Option<String>),
}

/// An update of a leased task, recorded in one conditional transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskUpdate {
    /// Extends the lease.
    Heartbeat,
    /// Records the time of the export, before the lake is listed. It never changes again (rule P3).
    TakeTime(ExportTime),
    /// Records that the lake was listed up to this point, and that all tasks of the objects so far are added.
    ListedUpTo(PlanProgress),
    /// Adds tasks to the job, at most [`crate::ports::TASKS_PER_UPDATE`].
    AddTasks(Vec<(u32, Work)>),
    /// Reserves a file number of each of these kinds that no other task has. Numbers may be left out; see [`Self::Renumber`].
    ReserveFiles(Vec<OutputKind>),
    /// Records written files and the cursor.
    Checkpoint(Checkpoint),
    /// Records an output file under another number of its kind, which no file has. For the finalize task, which closes the gaps in the
    /// numbers.
    Renumber {
        /// The recorded file.
        file: OutputFile,
        /// The new number.
        number: u32,
    },
    /// Stores a part of the list of the export's files. For the finalize task, just before it completes the job.
    ListFiles(FileListPart),
    /// Ends the lease early.
    Release(Release),
}

/// The work of a task that gives a part of its slices or fragments to a new task of the same round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSplit {
    /// The work that the task keeps: its first slices or fragments, of which the last may end earlier than before. So the positions of their
    /// lines stay the same.
    pub kept: Work,
    /// The work of the new task.
    pub given: Work,
}

/// The progress of the plan task within the listing of the lake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanProgress {
    /// The token of the next page: [`crate::ports::ObjectPage::next`].
    pub after: String,
    /// The number of the next task.
    pub next_task: u32,
    /// The stored size of the plain objects to read so far.
    pub plain_bytes: u64,
    /// The stored size of the compressed objects to read so far.
    pub compressed_bytes: u64,
}

/// The files written since the last checkpoint, and the cursor after them (rule P5).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The output files with the reserved names: at most [`crate::ports::OUTPUT_FILES_PER_CHECKPOINT`], or, without fragments, at most
    /// [`crate::ports::PROMOTIONS_PER_CHECKPOINT`].
    pub output_files: Vec<OutputFile>,
    /// The fragments.
    pub fragments: Vec<Fragment>,
    /// The cursor after all of them.
    pub cursor: Cursor,
    /// The counters of the task up to the cursor.
    pub counters: Counters,
}

/// The reason of an early end of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// The process is about to be stopped, and another worker continues the task. The attempt counts against the maximum
    /// only if it recorded nothing.
    Yield,
    /// The operator stops the process. The attempt does not count against the maximum.
    Stop,
    /// The attempt failed with this error, which is shown to the client.
    Fault(String),
    /// The attempt met an overloaded store. It does not count.
    Overload,
    /// The FHIR server demands a pause. The task is not available before its end, and the attempt does not count.
    Pause {
        /// The end of the pause.
        until: Millis,
        /// [`Lease::paused`] at the end of the pause.
        total: Duration,
    },
}

/// The completion of a task, counted in the job in the same transaction (rule P6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskCompletion {
    /// The plan task has recorded all tasks.
    Planned(Planned),
    /// The task has done its work.
    Done,
    /// The finalize task has recorded a new round of tasks. It stays open and runs again after them.
    NextRound(NextRound),
    /// The finalize task has completed the job at this time: everything is in output files.
    JobComplete(Millis),
}

/// A new round of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextRound {
    /// The number of tasks.
    pub tasks: u32,
    /// The phase.
    pub phase: Phase,
    /// The first round whose fragments are not merged yet.
    pub first_unmerged_round: u32,
    /// True if the lake is read again from the start: the counters restart at zero, and the output files of earlier rounds do not belong to
    /// the export any more.
    pub starts_over: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_update_after_a_third_of_a_lease_extends_it() {
        let id = crate::vocab::ids::JobId::from_random([7; 16]);
        let owner = crate::vocab::ids::Caller("ann".into());
        let job = Job::accepted(id.clone(), owner, crate::request::ExportRequest::default(), Millis(0));
        let lease = Lease {
            task: TaskId::plan(&id),
            work: Work::Finalize,
            job,
            attempt: 1,
            fencing_token: 1,
            attempts_since_progress: 1,
            paused: Duration::ZERO,
            until: Millis(60_000),
            cursor: Cursor::default(),
            reserved_files: Vec::new(),
            counters: Counters::default(),
            export_time: None,
            plan_progress: None,
        };
        let duration = Duration::from_secs(60);
        let ends = [0, 19_999, 20_000, 59_000].map(|now| lease.end_after_update(Millis(now), duration).0);
        assert_eq!(ends, [60_000, 60_000, 80_000, 119_000]);
    }

    #[test]
    fn every_state_round_trips_through_text() {
        for state in TaskState::ALL {
            assert_eq!(TaskState::parse(state.as_str()), Some(state));
        }
    }
}
