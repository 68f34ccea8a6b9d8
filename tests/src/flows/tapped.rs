//! Every port behind a script.

use std::collections::BTreeSet;
use std::ops::Range;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use headrace_core::access::{Agent, Client, ClientPage, TokenKey};
use headrace_core::audit::AuditEntry;
use headrace_core::audit::chain::{AuditFileName, Claim, RecordName, Standing};
use headrace_core::job::anonymization::{ConfigName, Configuration, JobSecret};
use headrace_core::job::folder::Folder;
use headrace_core::job::task::{Close, Lease, LeaseAnswer, Pin, Planning, Record, Work};
use headrace_core::job::{Conditions, Job, JobEvent, Quotas, Reason, Recorded, Step};
use headrace_core::output::file::{Content, FileName, FragmentName, OutputFileName, Part, Tail};
use headrace_core::ports::{
    Access, AccessStore, Admission, AuditFiles, AuditListing, AuditTrail, ByteStream, Draft, DueItem, JobLists, JobPage, JobStore, Kept,
    LeaseSettings, Listing, OutputStore, ResourceSource, TaskQueue, TaskStore, Waiting,
};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::{SourceError, StoreError};
use headrace_core::vocab::ids::{Caller, JobId, ListCursor, TaskId};

use super::script::Script;

/// A port whose calls go by a script.
#[derive(Clone)]
pub(super) struct Tapped<T> {
    pub(super) port: T,
    pub(super) script: Script,
}

impl<T> Tapped<T> {
    pub(super) fn new(port: T, script: &Script) -> Self {
        Self { port, script: script.clone() }
    }
}

impl<T: JobLists> JobLists for Tapped<T> {
    async fn waiting(&self, after: Option<&Waiting>, limit: u16) -> Result<Vec<Waiting>, StoreError> {
        self.script.around("jobs.waiting", self.port.waiting(after, limit)).await
    }

    async fn waiting_before(&self, job: &Job) -> Result<u32, StoreError> {
        self.script.around("jobs.waiting_before", self.port.waiting_before(job)).await
    }

    async fn admit(&self, waiting: &Waiting, quotas: &Quotas, now: Millis) -> Result<Admission, StoreError> {
        self.script.around("jobs.admit", self.port.admit(waiting, quotas, now)).await
    }

    async fn jobs_of(&self, owner: &Caller, before: Option<&ListCursor>, limit: u16) -> Result<JobPage, StoreError> {
        self.script.around("jobs.jobs_of", self.port.jobs_of(owner, before, limit)).await
    }
}

impl<T: AccessStore> AccessStore for Tapped<T> {
    async fn client(&self, id: &Caller) -> Result<Option<Client>, StoreError> {
        self.script.around("access.client", self.port.client(id)).await
    }

    async fn clients(&self, after: Option<&Caller>, limit: u16) -> Result<ClientPage, StoreError> {
        self.script.around("access.clients", self.port.clients(after, limit)).await
    }

    async fn put_client(&self, client: &Client, seen: Option<Millis>) -> Result<bool, StoreError> {
        self.script.around("access.put_client", self.port.put_client(client, seen)).await
    }

    async fn remove_client(&self, id: &Caller, seen: Millis) -> Result<bool, StoreError> {
        self.script.around("access.remove_client", self.port.remove_client(id, seen)).await
    }

    async fn remember_assertion(&self, digest: &str, until: Millis) -> Result<bool, StoreError> {
        self.script.around("access.remember_assertion", self.port.remember_assertion(digest, until)).await
    }

    async fn token_key(&self, kid: &str) -> Result<Option<TokenKey>, StoreError> {
        self.script.around("access.token_key", self.port.token_key(kid)).await
    }

    async fn put_token_key(&self, key: &TokenKey) -> Result<(), StoreError> {
        self.script.around("access.put_token_key", self.port.put_token_key(key)).await
    }
}

impl<T: AuditTrail> AuditTrail for Tapped<T> {
    async fn note(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.script.around("audit.note", self.port.note(entry)).await
    }

    async fn unsealed(&self, until: Millis, limit: u16) -> Result<Vec<AuditEntry>, StoreError> {
        self.script.around("audit.unsealed", self.port.unsealed(until, limit)).await
    }

    async fn records(&self, names: &[RecordName]) -> Result<Vec<AuditEntry>, StoreError> {
        self.script.around("audit.records", self.port.records(names)).await
    }

    async fn standing(&self) -> Result<Standing, StoreError> {
        self.script.around("audit.standing", self.port.standing()).await
    }

    async fn claim(&self, seen: &Standing, claim: &Claim) -> Result<bool, StoreError> {
        self.script.around("audit.claim", self.port.claim(seen, claim)).await
    }

    async fn seal(&self, seen: &Standing, claim: &Claim) -> Result<bool, StoreError> {
        self.script.around("audit.seal", self.port.seal(seen, claim)).await
    }
}

impl<T: AuditFiles> AuditFiles for Tapped<T> {
    async fn write(&self, name: &AuditFileName, bytes: Bytes) -> Result<Kept, StoreError> {
        self.script.around("audit files.write", self.port.write(name, bytes)).await
    }

    async fn list(&self) -> Result<AuditListing, StoreError> {
        self.script.around("audit files.list", self.port.list()).await
    }

    async fn read(&self, name: &AuditFileName) -> Result<Bytes, StoreError> {
        self.script.around("audit files.read", self.port.read(name)).await
    }
}

impl<T: JobStore> JobStore for Tapped<T> {
    async fn record_job(&self, job: &Job, plan: &Planning, conditions: &Conditions, by: &Agent) -> Result<Recorded, StoreError> {
        self.script.around("jobs.record_job", self.port.record_job(job, plan, conditions, by)).await
    }

    async fn seal(&self, id: &JobId, secret: &JobSecret) -> Result<Vec<u8>, StoreError> {
        self.script.around("jobs.seal", self.port.seal(id, secret)).await
    }

    async fn unseal(&self, id: &JobId, sealed: &[u8]) -> Result<JobSecret, StoreError> {
        self.script.around("jobs.unseal", self.port.unseal(id, sealed)).await
    }

    async fn job(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        self.script.around("jobs.job", self.port.job(id)).await
    }

    async fn end_job(
        &self,
        id: &JobId,
        event: JobEvent,
        reason: Option<Reason>,
        by: &Agent,
        now: Millis,
    ) -> Result<Option<Step>, StoreError> {
        self.script.around("jobs.end_job", self.port.end_job(id, event, reason, by, now)).await
    }

    async fn parts(&self, id: &JobId) -> Result<Vec<Part>, StoreError> {
        self.script.around("jobs.parts", self.port.parts(id)).await
    }

    async fn part(&self, id: &JobId, name: OutputFileName) -> Result<Option<Part>, StoreError> {
        self.script.around("jobs.part", self.port.part(id, name)).await
    }

    async fn due(&self, now: Millis, limit: u16) -> Result<Vec<DueItem>, StoreError> {
        self.script.around("jobs.due", self.port.due(now, limit)).await
    }

    async fn put_off(&self, due: &DueItem, until: Option<Millis>) -> Result<bool, StoreError> {
        self.script.around("jobs.put_off", self.port.put_off(due, until)).await
    }
}

impl<T: TaskStore> TaskStore for Tapped<T> {
    async fn lease_task(&self, task: &TaskId, terms: LeaseSettings, now: Millis) -> Result<LeaseAnswer, StoreError> {
        self.script.around("tasks.lease_task", self.port.lease_task(task, terms, now)).await
    }

    async fn record(&self, lease: &mut Lease, record: Record, until: Millis) -> Result<(), StoreError> {
        let name = match record {
            Record::Heartbeat => "tasks.record heartbeat",
            Record::Tasks(_) => "tasks.record tasks",
            Record::Claim(_) => "tasks.record claim",
            Record::Page(_) => "tasks.record page",
            Record::Release(_) => "tasks.record release",
        };
        // A call whose answer is lost has not moved the caller's lease.
        let before = lease.clone();
        let recorded = self.script.around(name, self.port.record(lease, record, until)).await;
        if recorded.is_err() {
            *lease = before;
        }
        recorded
    }

    async fn close_task(&self, lease: &Lease, close: Close) -> Result<Job, StoreError> {
        self.script.around("tasks.close_task", self.port.close_task(lease, close)).await
    }

    async fn work(&self, task: &TaskId) -> Result<Option<Work>, StoreError> {
        self.script.around("tasks.work", self.port.work(task)).await
    }

    async fn tails(&self, id: &JobId, rounds: RangeInclusive<u32>) -> Result<Vec<Tail>, StoreError> {
        self.script.around("tasks.tails", self.port.tails(id, rounds)).await
    }

    async fn drop_parts(&self, lease: &mut Lease, until: Millis) -> Result<Vec<OutputFileName>, StoreError> {
        let before = lease.clone();
        let dropped = self.script.around("tasks.drop_parts", self.port.drop_parts(lease, until)).await;
        if dropped.is_err() {
            *lease = before;
        }
        dropped
    }
}

impl<T: TaskQueue> TaskQueue for Tapped<T> {
    /// At once, whatever the delay: the clock stands still.
    async fn announce(&self, tasks: &[TaskId], _: Duration) -> Result<(), StoreError> {
        self.script.around("queue.announce", self.port.announce(tasks, Duration::ZERO)).await
    }

    async fn park(&self, message: &str) -> Result<(), StoreError> {
        self.script.around("queue.park", self.port.park(message)).await
    }
}

/// Each chunk, and the end, is a call of its own.
fn tapped_stream(script: Script, name: &'static str, inner: ByteStream) -> ByteStream {
    Box::pin(stream::unfold(Some(inner), move |inner| {
        let script = script.clone();
        async move {
            let mut inner = inner?;
            let next = script.around(name, async { inner.next().await.transpose() }).await;
            match next {
                Ok(None) => None,
                Ok(Some(bytes)) => Some((Ok::<Bytes, SourceError>(bytes), Some(inner))),
                Err(error) => Some((Err(error), None)),
            }
        }
    }))
}

impl<T: ResourceSource> ResourceSource for Tapped<T> {
    async fn check(&self) -> Result<(), SourceError> {
        self.script.around("source.check", self.port.check()).await
    }

    async fn list(&self, after: Option<&str>) -> Result<Listing, SourceError> {
        self.script.around("source.list", self.port.list(after)).await
    }

    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream {
        tapped_stream(self.script.clone(), "source.read", self.port.read(pin, range))
    }
}

/// A file being written. If its process is stopped, it is left as it is: nobody cleans up after `kill -9`.
pub(super) struct TappedDraft<D> {
    draft: Option<D>,
    script: Script,
}

impl<D> Drop for TappedDraft<D> {
    fn drop(&mut self) {
        if self.script.is_dead()
            && let Some(draft) = self.draft.take()
        {
            std::mem::forget(draft);
        }
    }
}

/// A draft that is gone can be written to by nobody.
fn gone() -> StoreError {
    StoreError::NotApplied { what: "a draft", cause: "it is gone".into() }
}

impl<D: Draft> Draft for TappedDraft<D> {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let draft = self.draft.as_mut().ok_or_else(gone)?;
        self.script.around("draft.write", draft.write(bytes)).await
    }

    async fn settle(mut self, name: FileName, content: Content) -> Result<(), StoreError> {
        let script = self.script.clone();
        let called = match name {
            FileName::Part(_) | FileName::Anew(_) => "draft.settle part",
            FileName::Tail(_) => "draft.settle tail",
        };
        script.around(called, async { self.draft.take().ok_or_else(gone)?.settle(name, content).await }).await
    }
}

impl<T: OutputStore> OutputStore for Tapped<T> {
    type Draft = TappedDraft<T::Draft>;

    async fn check(&self, own: Option<&str>) -> Result<(), StoreError> {
        self.script.around("parts.check", self.port.check(own)).await
    }

    async fn configuration(&self, own: Option<&str>, name: &ConfigName, etag: Option<&str>) -> Result<Configuration, StoreError> {
        self.script.around("parts.configuration", self.port.configuration(own, name, etag)).await
    }

    async fn draft(&self, folder: &Folder, tail: FragmentName) -> Result<Self::Draft, StoreError> {
        let script = self.script.clone();
        let draft =
            async { Ok::<_, StoreError>(TappedDraft { draft: Some(self.port.draft(folder, tail).await?), script: script.clone() }) };
        self.script.around("parts.draft", draft).await
    }

    async fn adopt(&self, folder: &Folder, tail: &Tail, part: OutputFileName) -> Result<(), StoreError> {
        self.script.around("parts.adopt", self.port.adopt(folder, tail, part)).await
    }

    fn read(&self, folder: &Folder, tail: &FragmentName, range: Range<u64>) -> ByteStream {
        tapped_stream(self.script.clone(), "parts.read", self.port.read(folder, tail, range))
    }

    async fn grant(&self, folder: &Folder, part: &Part) -> Result<Access, StoreError> {
        self.script.around("parts.grant", self.port.grant(folder, part)).await
    }

    async fn sweep(&self, folder: &Folder, keep: &BTreeSet<OutputFileName>) -> Result<u64, StoreError> {
        self.script.around("parts.sweep", self.port.sweep(folder, keep)).await
    }
}
