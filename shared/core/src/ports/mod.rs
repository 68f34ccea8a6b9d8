//! What the rules need from the world. Each port has two real implementations: AWS, and one machine.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::pin::Pin as StdPin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;

use crate::access::{Agent, Client, ClientPage, PublicKey, TokenKey};
use crate::audit::AuditEntry;
use crate::audit::chain::{AuditFileName, Claim, RecordName, Standing};
use crate::job::anonymization::{ConfigName, Configuration, JobSecret};
use crate::job::folder::Folder;
use crate::job::task::{Close, Lease, LeaseAnswer, Pin, Planning, Record, Work};
use crate::job::{Conditions, Job, JobEvent, Limit, Quotas, Reason, Recorded, Step};
use crate::output::file::{Content, FileName, FragmentName, OutputFileName, Part, Tail};
use crate::vocab::clock::Millis;
use crate::vocab::error::{SourceError, StoreError};
use crate::vocab::ids::{Caller, JobId, ListCursor, TaskId};

/// The most tasks that one [`Record::Tasks`] holds: a DynamoDB transaction has 100 items, and a task takes two.
pub const TASKS_PER_RECORD: usize = 49;

/// The most bytes of JSON that the tasks of one [`Record::Tasks`] have: a DynamoDB transaction takes 4 MB in all.
pub const TASK_BYTES_PER_RECORD: usize = 3_000_000;

/// The most tails that one [`crate::job::task::Page`] holds: the other items of the transaction are the task and a part.
pub const TAILS_PER_PAGE: usize = 98;

/// Bytes as they come. An error ends the stream.
pub type ByteStream = StdPin<Box<dyn Stream<Item = Result<Bytes, SourceError>> + Send>>;

/// The system's clock; a manual one in tests.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Millis;
}

/// Jobs and their parts. Moves are decided by [`crate::job::JobState::after`]; a store persists them conditionally, each
/// together with its record for the audit trail ([`AuditEntry`]).
pub trait JobStore: JobLists {
    /// Records a new job and its planning task together (rule P1), counts it, and keeps its key: all of it or nothing.
    /// Recording the same job again changes nothing.
    fn record_job(
        &self,
        job: &Job,
        plan: &Planning,
        conditions: &Conditions,
        by: &Agent,
    ) -> impl Future<Output = Result<Recorded, StoreError>> + Send;

    /// The job as it is now.
    fn job(&self, id: &JobId) -> impl Future<Output = Result<Option<Job>, StoreError>> + Send;

    /// Ends the job by `event`; `None` if the job is unknown or the state table refuses.
    fn end_job(
        &self,
        id: &JobId,
        event: JobEvent,
        reason: Option<Reason>,
        by: &Agent,
        now: Millis,
    ) -> impl Future<Output = Result<Option<Step>, StoreError>> + Send;

    /// Seals a job's secret, so that whoever reads the job table does not know it. Ended jobs keep none.
    fn seal(&self, id: &JobId, secret: &JobSecret) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;

    /// Opens what [`Self::seal`] has sealed for this very job.
    fn unseal(&self, id: &JobId, sealed: &[u8]) -> impl Future<Output = Result<JobSecret, StoreError>> + Send;

    /// The recorded parts of a job, by kind and number.
    fn parts(&self, id: &JobId) -> impl Future<Output = Result<Vec<Part>, StoreError>> + Send;

    /// One recorded part.
    fn part(&self, id: &JobId, name: OutputFileName) -> impl Future<Output = Result<Option<Part>, StoreError>> + Send;

    /// Jobs and tasks that somebody should look at by `now`, the longest overdue first, at most `limit` of each shard.
    fn due(&self, now: Millis, limit: u16) -> impl Future<Output = Result<Vec<DueItem>, StoreError>> + Send;

    /// Moves the time of the next look; `None` is never. `false` if somebody else has moved it since it was read.
    fn put_off(&self, due: &DueItem, until: Option<Millis>) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Jobs in their order: those that wait for their turn, and those of one caller.
pub trait JobLists: Send + Sync {
    /// The jobs that wait, the oldest first, at most `limit`, those behind `after`.
    fn waiting(&self, after: Option<&Waiting>, limit: u16) -> impl Future<Output = Result<Vec<Waiting>, StoreError>> + Send;

    /// How many jobs of the same caller wait before this one.
    fn waiting_before(&self, job: &Job) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// Gives a waiting job its turn if there is room, and counts it. Its plan is due for a look soon after `now`.
    fn admit(&self, waiting: &Waiting, quotas: &Quotas, now: Millis) -> impl Future<Output = Result<Admission, StoreError>> + Send;

    /// The jobs of one caller, whatever their state, the newest first, at most `limit`, those behind `before`.
    fn jobs_of(&self, owner: &Caller, before: Option<&ListCursor>, limit: u16) -> impl Future<Output = Result<JobPage, StoreError>> + Send;
}

/// A job that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// When it was recorded: its place.
    pub since: Millis,
    /// The job.
    pub job: JobId,
    /// Its caller.
    pub owner: Caller,
    /// The caller's own limit, as it was when the job was recorded: [`Conditions::client_jobs`].
    pub client_jobs: Option<u32>,
}

/// What came of giving a waiting job its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is its turn now.
    Begun,
    /// There is no room yet.
    Full(Limit),
    /// It waits no longer: others have given it its turn, or it has ended.
    Gone,
}

/// Some jobs of one caller.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JobPage {
    /// The newest first.
    pub jobs: Vec<Job>,
    /// Where the next page begins; `None` where there is nothing more.
    pub next: Option<ListCursor>,
}

/// Something that is due for a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueItem {
    /// What.
    pub subject: Subject,
    /// Since when.
    pub at: Millis,
}

/// What can be due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A job: is it stuck, finished, expired?
    Job(JobId),
    /// A task that was recorded and not seen, or whose lease has run out.
    Task(TaskId),
}

/// How long a lease lives and how often one is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// The time without a sign of life after which the task may be taken by another.
    pub length: Duration,
    /// Attempts without progress before the task is parked.
    pub tries: u32,
    /// Leases without a sign of life since then are void: when the only process there can be was started.
    pub void_before: Millis,
}

impl LeaseSettings {
    /// Whether a lease until then keeps others from the task.
    pub fn is_held(&self, until: Millis, now: Millis) -> bool {
        until > now && until >= self.void_before + self.length
    }
}

impl Default for LeaseSettings {
    fn default() -> Self {
        // A minute is a hundred times what a store call takes; five tries outlive a short outage of any one service.
        Self { length: Duration::from_secs(60), tries: 5, void_before: Millis(0) }
    }
}

/// Tasks and their leases.
pub trait TaskStore: JobStore {
    /// Asks for the task. Fences off every earlier attempt.
    fn lease_task(&self, task: &TaskId, terms: LeaseSettings, now: Millis) -> impl Future<Output = Result<LeaseAnswer, StoreError>> + Send;

    /// Records one step, moves `lease` forward and extends it to `until`; [`StoreError::Stale`] if the lease or the job is over.
    /// A step that has landed although its answer was lost is recognised and not repeated.
    fn record(&self, lease: &mut Lease, record: Record, until: Millis) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Closes the task and counts it in the job; the job afterwards.
    fn close_task(&self, lease: &Lease, close: Close) -> impl Future<Output = Result<Job, StoreError>> + Send;

    /// What a task has to do.
    fn work(&self, task: &TaskId) -> impl Future<Output = Result<Option<Work>, StoreError>> + Send;

    /// The tails that were recorded in these rounds, by kind, task and step.
    fn tails(&self, id: &JobId, rounds: RangeInclusive<u32>) -> impl Future<Output = Result<Vec<Tail>, StoreError>> + Send;

    /// Takes every part of the leased finish's job back, written or only claimed; their names. Numbers begin at 1 again.
    fn drop_parts(&self, lease: &mut Lease, until: Millis) -> impl Future<Output = Result<Vec<OutputFileName>, StoreError>> + Send;
}

/// Who may come in, and what was shown at the door.
pub trait AccessStore: Send + Sync {
    /// The registration of this name.
    fn client(&self, id: &Caller) -> impl Future<Output = Result<Option<Client>, StoreError>> + Send;

    /// Registrations by name, those behind `after`, at most `limit`.
    fn clients(&self, after: Option<&Caller>, limit: u16) -> impl Future<Output = Result<ClientPage, StoreError>> + Send;

    /// Writes a registration: a new one, or one that was last changed at `seen`. `false` if somebody was faster.
    fn put_client(&self, client: &Client, seen: Option<Millis>) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Forgets a registration that was last changed at `seen`. `false` if somebody was faster.
    fn remove_client(&self, id: &Caller, seen: Millis) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Remembers until then that an assertion was shown; `false` if it was before. `digest` names it, not its text.
    fn remember_assertion(&self, digest: &str, until: Millis) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The key of this name that access tokens are checked with.
    fn token_key(&self, kid: &str) -> impl Future<Output = Result<Option<TokenKey>, StoreError>> + Send;

    /// Records a key before a token that it has signed is given out.
    fn put_token_key(&self, key: &TokenKey) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What signs access tokens. The private key never leaves it.
pub trait TokenSigner: Send + Sync {
    /// The public half of its key, the same as long as the process lives.
    fn key(&self) -> impl Future<Output = Result<PublicKey, StoreError>> + Send;

    /// The signature of these bytes, as JOSE wants it of the key's algorithm.
    fn sign(&self, message: &[u8]) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;
}

/// What is recorded for auditors, until it is sealed.
pub trait AuditTrail: Send + Sync {
    /// Records what no move of a job records by itself.
    fn note(&self, entry: &AuditEntry) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Records that were made before `until` and are not sealed, the oldest first, at most `limit`.
    fn unsealed(&self, until: Millis, limit: u16) -> impl Future<Output = Result<Vec<AuditEntry>, StoreError>> + Send;

    /// These records, in this order; those that are sealed are left out.
    fn records(&self, names: &[RecordName]) -> impl Future<Output = Result<Vec<AuditEntry>, StoreError>> + Send;

    /// Where sealing stands.
    fn standing(&self) -> impl Future<Output = Result<Standing, StoreError>> + Send;

    /// Records which file is to be written next; `false` if somebody has moved on since it was `seen`.
    fn claim(&self, seen: &Standing, claim: &Claim) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The claimed file is written: moves the head behind it and deletes its records, all or nothing. `false` as above.
    fn seal(&self, seen: &Standing, claim: &Claim) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// What came of writing an audit file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is there now.
    Written,
    /// A file of this name was there, and stays as it was: its bytes.
    Exists(Bytes),
}

/// Where the audit files lie. None is ever changed or deleted from here.
pub trait AuditFiles: Send + Sync {
    /// Writes a file that is not there yet, whole or not at all.
    fn write(&self, name: &AuditFileName, bytes: Bytes) -> impl Future<Output = Result<Kept, StoreError>> + Send;

    /// The names of all files there, in order; and those of files that are no audit files.
    fn list(&self) -> impl Future<Output = Result<AuditListing, StoreError>> + Send;

    /// A file's bytes.
    fn read(&self, name: &AuditFileName) -> impl Future<Output = Result<Bytes, StoreError>> + Send;
}

/// What lies where audit files do.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AuditListing {
    /// The audit files, in the order of their days and numbers.
    pub files: BTreeSet<AuditFileName>,
    /// What else lies there, by its path.
    pub strangers: BTreeSet<String>,
}

/// Where tasks are announced. Delivery is at least once, in any order, perhaps late; the job table alone is the truth.
pub trait TaskQueue: Send + Sync {
    /// Announces tasks, to be seen after `delay` (at most 15 minutes).
    fn announce(&self, tasks: &[TaskId], delay: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Puts a message aside for the operator: it names a parked task, or nobody can read it.
    fn park(&self, message: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// One page of a lake's listing.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Objects, ordered by name over all pages.
    pub objects: Vec<Pin>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// Where resources are read from.
pub trait ResourceSource: Send + Sync {
    /// Fails if the source cannot be reached or a setting is wrong.
    fn check(&self) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Lists objects, a page at a time; `after` is what the page before gave.
    fn list(&self, after: Option<&str>) -> impl Future<Output = Result<Listing, SourceError>> + Send;

    /// Reads stored bytes of the object as it was pinned, in order, with bounded buffers.
    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream;
}

/// How a client gets at a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// By this URL, for the next five minutes.
    Redirect(String),
    /// The file itself, on this machine.
    Local(PathBuf),
}

/// A file being written; dropped without [`Draft::settle`], it leaves nothing that anybody could see.
pub trait Draft: Send {
    /// Appends.
    fn write(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives the file its name. A file of that name and content may exist already; one of other content is
    /// [`StoreError::Stale`] and stays as it is (rule P4), unless the name says that it is written anew.
    fn settle(self, name: FileName, content: Content) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Where files are written to: the deployment's destination, and those that clients have of their own. A job's [`Folder`]
/// says which, and a store asks nothing else.
pub trait OutputStore: Send + Sync {
    /// A file being written.
    type Draft: Draft;

    /// Fails if the destination cannot be reached or a setting is wrong. `own` is a client's own destination as it is
    /// registered; `None` is the deployment's.
    fn check(&self, own: Option<&str>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// An anonymization configuration below [`crate::job::anonymization::FOLDER`] of a destination, `own` as in [`Self::check`];
    /// with `etag` in this very state only.
    fn configuration(
        &self,
        own: Option<&str>,
        name: &ConfigName,
        etag: Option<&str>,
    ) -> impl Future<Output = Result<Configuration, StoreError>> + Send;

    /// Begins a file. It will be settled as this tail or as a part.
    fn draft(&self, folder: &Folder, tail: FragmentName) -> impl Future<Output = Result<Self::Draft, StoreError>> + Send;

    /// Makes a part of a whole tail without its bytes passing through here.
    fn adopt(&self, folder: &Folder, tail: &Tail, part: OutputFileName) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads a tail from `offset`.
    fn read(&self, folder: &Folder, tail: &FragmentName, range: Range<u64>) -> ByteStream;

    /// Access to a recorded part.
    fn grant(&self, folder: &Folder, part: &Part) -> impl Future<Output = Result<Access, StoreError>> + Send;

    /// Deletes everything in the folder but `keep`; the number of files deleted.
    fn sweep(&self, folder: &Folder, keep: &BTreeSet<OutputFileName>) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// All ports together, as a worker holds them.
pub struct Ports<J, Q, S, P, C> {
    /// The job table.
    pub jobs: J,
    /// The queue.
    pub queue: Q,
    /// The lake.
    pub source: S,
    /// The destination.
    pub parts: P,
    /// The clock.
    pub clock: C,
}

/// The ports that a worker holds, as one bound: its flows name this instead of five parameters.
pub trait AllPorts: Send + Sync {
    /// The job table.
    type Jobs: TaskStore;
    /// The queue.
    type Queue: TaskQueue;
    /// The lake.
    type Source: ResourceSource;
    /// The destination.
    type Parts: OutputStore;

    /// The job table.
    fn jobs(&self) -> &Self::Jobs;
    /// The queue.
    fn queue(&self) -> &Self::Queue;
    /// The lake.
    fn source(&self) -> &Self::Source;
    /// The destination.
    fn parts(&self) -> &Self::Parts;
    /// The time now.
    fn now(&self) -> Millis;
}

impl<J: TaskStore, Q: TaskQueue, S: ResourceSource, P: OutputStore, C: Clock> AllPorts for Ports<J, Q, S, P, C> {
    type Jobs = J;
    type Queue = Q;
    type Source = S;
    type Parts = P;

    fn jobs(&self) -> &J {
        &self.jobs
    }

    fn queue(&self) -> &Q {
        &self.queue
    }

    fn source(&self) -> &S {
        &self.source
    }

    fn parts(&self) -> &P {
        &self.parts
    }

    fn now(&self) -> Millis {
        self.clock.now()
    }
}
