//! The pieces of work that a job consists of.

use serde::{Deserialize, Serialize};

use crate::job::{Job, Phase, Planned, Tally};
use crate::output::file::{OutputFileName, OutputKind, Part, Tail};
use crate::vocab::clock::Millis;
use crate::vocab::ids::TaskId;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Nobody works on it.
    Open,
    /// An attempt holds its lease.
    Leased,
    /// Done and counted.
    Closed,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Open, Self::Leased, Self::Closed];

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Leased => "leased",
            Self::Closed => "closed",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What a task has to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// List the lake, pin it, cut it into tasks.
    Plan(Planning),
    /// Read these slices of the lake.
    Read(Vec<Slice>),
    /// Go through what was noted of one range of resources, and find what is to be done otherwise.
    Resolve(Resolving),
    /// Read what an earlier task has read, now that findings say what is to be done otherwise.
    Reread(Rereading),
    /// Put the resources of some buckets into their patients' blocks.
    Organize(Organizing),
    /// Join these tails of one kind into parts and at most one tail of the next round.
    Gather(Vec<Tail>),
    /// Once all others have closed: join what is left, sweep, complete the job.
    Finish,
}

impl Work {
    /// As it is logged.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Plan(_) => "plan",
            Self::Read(_) => "read",
            Self::Resolve(_) => "resolve",
            Self::Reread(_) => "reread",
            Self::Organize(_) => "organize",
            Self::Gather(_) => "gather",
            Self::Finish => "finish",
        }
    }

    /// Bytes to read, as they are stored.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Read(slices) => slices.iter().map(|slice| slice.end - slice.start).sum(),
            Self::Gather(tails) => tails.iter().map(|tail| tail.content.bytes).sum(),
            Self::Plan(_) | Self::Resolve(_) | Self::Reread(_) | Self::Organize(_) | Self::Finish => 0,
        }
    }
}

/// What the plan is told beyond the job's request.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Planning {
    /// `patient`: the ids of the patients to export, sorted; none means all that the level holds. They may be thousands,
    /// and the job's own item is read often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patients: Vec<String>,
}

/// A range of resources, by the hash of type and id, over everything that was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolving {
    /// What is looked for.
    pub stage: Stage,
    /// Which range, from 0.
    pub range: u32,
    /// Of how many.
    pub of: u32,
}

/// What a resolving task looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Which version of each resource counts, and which resources are deleted.
    Versions,
    /// Which resources are exported because of others.
    Links,
}

/// The slices of an earlier task, to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rereading {
    /// The reading task.
    pub task: u32,
    /// Write only what findings add: the rest is written.
    pub only_added: bool,
}

/// Buckets to be organized: the tails that earlier rounds have left of them. There may be more of those than an item
/// can list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organizing {
    /// The number of the first bucket.
    pub from: u8,
    /// One past the number of the last.
    pub to: u8,
    /// Which range of the patients in them, from 0.
    pub range: u32,
    /// Of how many.
    pub of: u32,
}

/// An object of the lake exactly as the plan saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its name below the lake's root, with `/` between folders.
    pub object: String,
    /// What changes when its bytes change: the ETag in S3; size, modification time and inode in a directory.
    pub etag: String,
    /// Its size in bytes, as stored.
    pub size: u64,
}

/// How an object's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As they are.
    Plain,
    /// gzip, one or more members.
    Gzip,
    /// Zstandard, one or more frames.
    Zstd,
}

/// A byte range of one object: the lines that begin in `start..end`. A compressed object is one slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The object.
    #[serde(flatten)]
    pub pin: Pin,
    /// How it is stored.
    pub encoding: Encoding,
    /// First byte, counted as stored.
    pub start: u64,
    /// One past the last byte, counted as stored.
    pub end: u64,
}

/// How far a task has come: everything before it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// Index into the task's slices or tails.
    pub item: u32,
    /// Offset of the next line in that item, counted after decompression; 0 where it has not begun.
    pub offset: u64,
}

/// One attempt's hold on a task. Whatever it records carries `attempt` and `step`, so a late one records nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// What to do.
    pub work: Work,
    /// The job as it was when the lease was taken.
    pub job: Job,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How often the task's item has been moved forward.
    pub step: u32,
    /// Attempts since the task last made progress, this one included.
    pub tries: u32,
    /// Until when nobody else may take the task.
    pub until: Millis,
    /// How far earlier attempts came.
    pub cursor: Cursor,
    /// A part's name that is reserved for this task and not yet recorded as written.
    pub claim: Option<OutputFileName>,
    /// What the task has counted so far.
    pub tally: Tally,
}

/// What came of asking for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// Work on it.
    Yours(Box<Lease>),
    /// Somebody works on it, or its turn has not come: leave it.
    NotNow,
    /// The task is closed, or its job is no longer open: nothing to do, ever.
    Gone,
    /// All attempts are used up; the last fault, if one was noted.
    Exhausted(Option<String>),
}

/// A step of a leased task, recorded in one conditional transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The attempt is alive.
    Heartbeat,
    /// New tasks, at most [`crate::ports::TASKS_PER_RECORD`].
    Tasks(Vec<(u32, Work)>),
    /// The next free number of this kind, for a file that is about to be written.
    Claim(OutputKind),
    /// Written files and the cursor behind them.
    Page(Page),
    /// The lease is handed back before its time.
    Release(Release),
}

/// Files written since the last page, and the cursor behind them (rule P5).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Page {
    /// The part under the task's claim.
    pub part: Option<Part>,
    /// Tails.
    pub tails: Vec<Tail>,
    /// The cursor behind all of them.
    pub cursor: Cursor,
    /// What the task has counted up to the cursor.
    pub tally: Tally,
}

/// Handing a lease back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// The process is about to be stopped; the task goes on elsewhere. A try is lost only if nothing was recorded.
    Yield,
    /// The attempt met this fault (for the client's eyes).
    Fault(String),
}

/// How a task closes; counted in the job in the same transaction (rule P6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Close {
    /// The plan is recorded.
    Planned(Planned),
    /// A slice is read, or tails are gathered.
    Done,
    /// The finish has handed work out; it stays open and comes back after it.
    Regroup(Regroup),
    /// Everything is in parts: the job is complete.
    Finished(Millis),
}

/// A new round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regroup {
    /// How many tasks it has.
    pub tasks: u32,
    /// What they do.
    pub phase: Phase,
    /// The first round whose tails are still to be joined.
    pub tails_from: u32,
    /// Whether the lake is read from the start again: nothing that was counted counts.
    pub is_fresh: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_its_text() {
        for state in TaskState::ALL {
            assert_eq!(TaskState::named(state.as_str()), Some(state));
        }
    }
}
