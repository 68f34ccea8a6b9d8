//! Wrappers that inject faults into the calls of every port.

use std::ops::Range;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use headrace_core::access::{Agent, Client, ClientPage, TokenKey};
use headrace_core::audit::chain::{AuditFileName, ChainState, PendingFile};
use headrace_core::audit::{AuditRecord, AuditRecordKey};
use headrace_core::events::{EventTarget, ExportEvent, OutboxEvent};
use headrace_core::job::JobSecrets;
use headrace_core::job::file::{FileName, FileSummary, Fragment, FragmentName, OutputFile, OutputFileName};
use headrace_core::job::file_list::FileListPart;
use headrace_core::job::file_names::FileNames;
use headrace_core::job::folder::Folder;
use headrace_core::job::task::{Lease, LeaseOutcome, Pin, PlanInput, TaskCompletion, TaskSplit, TaskUpdate, Work};
use headrace_core::job::{FailureReason, Job, JobEvent, Quotas, RecordConditions, RecordOutcome, Transition};
use headrace_core::ports::{
    AccessStore, AuditFileListing, AuditFiles, AuditTrail, AuditWrite, ByteStream, DeletedPart, DueItem, EventOutbox, EventReceiver,
    EventResults, EventSender, FileAccess, FileRequest, FileWriter, FragmentSelection, JobLists, JobPage, JobSecretEncryptor, JobStore,
    LeaseSettings, ObjectPage, OutputStore, QueueStart, QueuedJob, ResourceSource, ScheduleStore, TaskQueue, TaskStore,
};
use headrace_core::ports::{ConfigLookup, MetadataObject};
use headrace_core::request::ConfigName;
use headrace_core::schedule::Schedule;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::{BoxError, SourceError, StoreError};
use headrace_core::vocab::ids::{Caller, JobId, ListCursor, TaskId};
use headrace_core::vocab::schedule_key::ScheduleName;

use super::faults::FaultInjector;

/// Port whose calls go through a fault injector.
#[derive(Clone)]
pub(super) struct FaultyPort<T> {
    pub(super) port: T,
    pub(super) faults: FaultInjector,
}

impl<T> FaultyPort<T> {
    /// Wraps a port. Its calls go through `faults`.
    pub(super) fn new(port: T, faults: &FaultInjector) -> Self {
        Self { port, faults: faults.clone() }
    }
}

impl<T: JobLists> JobLists for FaultyPort<T> {
    async fn queued_jobs(&self, after: Option<&QueuedJob>, limit: u16) -> Result<Vec<QueuedJob>, StoreError> {
        self.faults.intercept("jobs.queued_jobs", self.port.queued_jobs(after, limit)).await
    }

    async fn queue_position(&self, job: &Job) -> Result<u32, StoreError> {
        self.faults.intercept("jobs.queue_position", self.port.queue_position(job)).await
    }

    async fn start_queued(&self, waiting: &QueuedJob, quotas: &Quotas, now: Millis) -> Result<QueueStart, StoreError> {
        self.faults.intercept("jobs.start_queued", self.port.start_queued(waiting, quotas, now)).await
    }

    async fn list_jobs(&self, owner: &Caller, before: Option<&ListCursor>, limit: u16) -> Result<JobPage, StoreError> {
        self.faults.intercept("jobs.list_jobs", self.port.list_jobs(owner, before, limit)).await
    }
}

impl<T: AccessStore> AccessStore for FaultyPort<T> {
    async fn client(&self, id: &Caller) -> Result<Option<Client>, StoreError> {
        self.faults.intercept("access.client", self.port.client(id)).await
    }

    async fn clients(&self, after: Option<&Caller>, limit: u16) -> Result<ClientPage, StoreError> {
        self.faults.intercept("access.clients", self.port.clients(after, limit)).await
    }

    async fn put_client(&self, client: &Client, seen: Option<Millis>) -> Result<bool, StoreError> {
        self.faults.intercept("access.put_client", self.port.put_client(client, seen)).await
    }

    async fn remove_client(&self, id: &Caller, seen: Millis) -> Result<bool, StoreError> {
        self.faults.intercept("access.remove_client", self.port.remove_client(id, seen)).await
    }

    async fn remember_assertion(&self, digest: &str, until: Millis) -> Result<bool, StoreError> {
        self.faults.intercept("access.remember_assertion", self.port.remember_assertion(digest, until)).await
    }

    async fn token_key(&self, kid: &str) -> Result<Option<TokenKey>, StoreError> {
        self.faults.intercept("access.token_key", self.port.token_key(kid)).await
    }

    async fn put_token_key(&self, key: &TokenKey) -> Result<(), StoreError> {
        self.faults.intercept("access.put_token_key", self.port.put_token_key(key)).await
    }
}

impl<T: ScheduleStore> ScheduleStore for FaultyPort<T> {
    async fn schedule(&self, name: &ScheduleName) -> Result<Option<Schedule>, StoreError> {
        self.faults.intercept("schedules.schedule", self.port.schedule(name)).await
    }

    async fn schedules(&self) -> Result<Vec<Schedule>, StoreError> {
        self.faults.intercept("schedules.schedules", self.port.schedules()).await
    }

    async fn put_schedule(&self, schedule: &Schedule, seen: Option<u64>) -> Result<bool, StoreError> {
        self.faults.intercept("schedules.put_schedule", self.port.put_schedule(schedule, seen)).await
    }

    async fn remove_schedule(&self, schedule: &Schedule) -> Result<bool, StoreError> {
        self.faults.intercept("schedules.remove_schedule", self.port.remove_schedule(schedule)).await
    }
}

impl<T: EventOutbox> EventOutbox for FaultyPort<T> {
    async fn pending_events(&self, limit: u16) -> Result<Vec<OutboxEvent>, StoreError> {
        self.faults.intercept("events.pending_events", self.port.pending_events(limit)).await
    }

    async fn remove_event(&self, event: &OutboxEvent) -> Result<(), StoreError> {
        self.faults.intercept("events.remove_event", self.port.remove_event(event)).await
    }

    async fn update_event(&self, event: &OutboxEvent) -> Result<(), StoreError> {
        self.faults.intercept("events.update_event", self.port.update_event(event)).await
    }

    async fn give_up_event(&self, event: &OutboxEvent) -> Result<(), StoreError> {
        self.faults.intercept("events.give_up_event", self.port.give_up_event(event)).await
    }

    async fn undelivered_events(&self) -> Result<Vec<OutboxEvent>, StoreError> {
        self.faults.intercept("events.undelivered_events", self.port.undelivered_events()).await
    }

    async fn replay_event(&self, event: &OutboxEvent, now: Millis) -> Result<bool, StoreError> {
        self.faults.intercept("events.replay_event", self.port.replay_event(event, now)).await
    }
}

impl<T: EventSender> EventSender for FaultyPort<T> {
    fn targets(&self) -> Vec<EventTarget> {
        self.port.targets()
    }

    async fn send(&self, receiver: &EventReceiver, events: &[ExportEvent], now: Millis) -> Result<EventResults, BoxError> {
        let sent =
            async { self.port.send(receiver, events, now).await.map_err(|cause| StoreError::NotApplied { store: "a target", cause }) };
        Ok(self.faults.intercept("sender.send", sent).await?)
    }
}

impl<T: AuditTrail> AuditTrail for FaultyPort<T> {
    async fn add_record(&self, entry: &AuditRecord) -> Result<(), StoreError> {
        self.faults.intercept("audit.add_record", self.port.add_record(entry)).await
    }

    async fn unsealed(&self, until: Millis, limit: u16) -> Result<Vec<AuditRecord>, StoreError> {
        self.faults.intercept("audit.unsealed", self.port.unsealed(until, limit)).await
    }

    async fn records(&self, names: &[AuditRecordKey]) -> Result<Vec<AuditRecord>, StoreError> {
        self.faults.intercept("audit.records", self.port.records(names)).await
    }

    async fn chain_state(&self) -> Result<ChainState, StoreError> {
        self.faults.intercept("audit.chain_state", self.port.chain_state()).await
    }

    async fn reserve_file(&self, seen: &ChainState, claim: &PendingFile) -> Result<bool, StoreError> {
        self.faults.intercept("audit.reserve_file", self.port.reserve_file(seen, claim)).await
    }

    async fn seal(&self, seen: &ChainState, claim: &PendingFile) -> Result<bool, StoreError> {
        self.faults.intercept("audit.seal", self.port.seal(seen, claim)).await
    }
}

impl<T: AuditFiles> AuditFiles for FaultyPort<T> {
    async fn write(&self, name: &AuditFileName, bytes: Bytes) -> Result<AuditWrite, StoreError> {
        self.faults.intercept("audit files.write", self.port.write(name, bytes)).await
    }

    async fn list(&self) -> Result<AuditFileListing, StoreError> {
        self.faults.intercept("audit files.list", self.port.list()).await
    }

    async fn read(&self, name: &AuditFileName) -> Result<Bytes, StoreError> {
        self.faults.intercept("audit files.read", self.port.read(name)).await
    }
}

impl<T: JobStore> JobStore for FaultyPort<T> {
    async fn record_job(
        &self,
        job: &Job,
        plan: &PlanInput,
        conditions: &RecordConditions,
        agent: &Agent,
    ) -> Result<RecordOutcome, StoreError> {
        self.faults.intercept("jobs.record_job", self.port.record_job(job, plan, conditions, agent)).await
    }

    async fn job(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        self.faults.intercept("jobs.job", self.port.job(id)).await
    }

    async fn end_job(
        &self,
        id: &JobId,
        event: JobEvent,
        reason: Option<FailureReason>,
        agent: &Agent,
        now: Millis,
    ) -> Result<Option<Transition>, StoreError> {
        self.faults.intercept("jobs.end_job", self.port.end_job(id, event, reason, agent, now)).await
    }

    async fn with_progress(&self, job: Job) -> Result<Job, StoreError> {
        self.faults.intercept("jobs.with_progress", self.port.with_progress(job)).await
    }

    async fn output_files(&self, job: &Job) -> Result<Vec<OutputFile>, StoreError> {
        self.faults.intercept("jobs.output_files", self.port.output_files(job)).await
    }

    async fn output_file(&self, job: &Job, name: OutputFileName) -> Result<Option<OutputFile>, StoreError> {
        self.faults.intercept("jobs.output_file", self.port.output_file(job, name)).await
    }

    async fn file_list(&self, job: &Job, parts: RangeInclusive<u32>) -> Result<Vec<FileListPart>, StoreError> {
        self.faults.intercept("jobs.file_list", self.port.file_list(job, parts)).await
    }

    async fn due(&self, now: Millis, limit: u16) -> Result<Vec<DueItem>, StoreError> {
        self.faults.intercept("jobs.due", self.port.due(now, limit)).await
    }

    async fn postpone(&self, due: &DueItem, until: Option<Millis>) -> Result<bool, StoreError> {
        self.faults.intercept("jobs.postpone", self.port.postpone(due, until)).await
    }

    async fn record_sweep(&self, due: &DueItem, position: Option<&str>, until: Option<Millis>) -> Result<bool, StoreError> {
        self.faults.intercept("jobs.record_sweep", self.port.record_sweep(due, position, until)).await
    }
}

impl<T: JobSecretEncryptor> JobSecretEncryptor for FaultyPort<T> {
    async fn encrypt(&self, id: &JobId, secrets: &JobSecrets) -> Result<Vec<u8>, StoreError> {
        self.faults.intercept("jobs.encrypt", self.port.encrypt(id, secrets)).await
    }

    async fn decrypt(&self, id: &JobId, ciphertext: &[u8]) -> Result<JobSecrets, StoreError> {
        self.faults.intercept("jobs.decrypt", self.port.decrypt(id, ciphertext)).await
    }

    async fn decrypt_keys(&self, keys: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.faults.intercept("jobs.decrypt_keys", self.port.decrypt_keys(keys)).await
    }

    async fn decrypt_webhook_secret(&self, ciphertext: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.faults.intercept("jobs.decrypt_webhook_secret", self.port.decrypt_webhook_secret(ciphertext)).await
    }
}

impl<T: TaskStore> TaskStore for FaultyPort<T> {
    async fn lease_task(&self, task: &TaskId, settings: LeaseSettings, now: Millis) -> Result<LeaseOutcome, StoreError> {
        self.faults.intercept("tasks.lease_task", self.port.lease_task(task, settings, now)).await
    }

    async fn void_lease(&self, task: &TaskId, now: Millis) -> Result<bool, StoreError> {
        self.faults.intercept("tasks.void_lease", self.port.void_lease(task, now)).await
    }

    async fn update_task(&self, lease: &mut Lease, update: TaskUpdate, until: Millis) -> Result<(), StoreError> {
        let name = match update {
            TaskUpdate::Heartbeat => "tasks.update_task heartbeat",
            TaskUpdate::TakeTime(_) => "tasks.update_task take_time",
            TaskUpdate::ListedUpTo(_) => "tasks.update_task listed_up_to",
            TaskUpdate::AddTasks(_) => "tasks.update_task add_tasks",
            TaskUpdate::ReserveFiles(_) => "tasks.update_task reserve_files",
            TaskUpdate::Checkpoint(_) => "tasks.update_task checkpoint",
            TaskUpdate::Renumber { .. } => "tasks.update_task renumber",
            TaskUpdate::ListFiles(_) => "tasks.update_task list_files",
            TaskUpdate::Release(_) => "tasks.update_task release",
        };
        // If the response of a call is lost, the call has not changed the caller's lease.
        let before = lease.clone();
        let lost_number = matches!(update, TaskUpdate::ReserveFiles(_)) && self.faults.loses_file_numbers();
        let call = async {
            if lost_number {
                // The counter counts before the lease is found to be outdated.
                let mut outdated = Lease { fencing_token: lease.fencing_token + 1_000, ..lease.clone() };
                let lost = self.port.update_task(&mut outdated, update.clone(), until).await;
                if !matches!(lost, Err(StoreError::Stale)) {
                    return Err(StoreError::Unreadable { store: "a store", detail: format!("an outdated lease was accepted: {lost:?}") });
                }
            }
            self.port.update_task(lease, update, until).await
        };
        let result = self.faults.intercept(name, call).await;
        if result.is_err() {
            *lease = before;
        }
        result
    }

    async fn split_task(&self, lease: &mut Lease, split: TaskSplit, until: Millis) -> Result<Option<TaskId>, StoreError> {
        // As for an update, a lost response leaves the caller's lease unchanged.
        let before = lease.clone();
        let result = self.faults.intercept("tasks.split_task", self.port.split_task(lease, split, until)).await;
        if result.is_err() {
            *lease = before;
        }
        result
    }

    async fn complete_task(&self, lease: &Lease, close: TaskCompletion) -> Result<Job, StoreError> {
        self.faults.intercept("tasks.complete_task", self.port.complete_task(lease, close)).await
    }

    async fn task_work(&self, task: &TaskId) -> Result<Option<Work>, StoreError> {
        self.faults.intercept("tasks.task_work", self.port.task_work(task)).await
    }

    async fn fragments(&self, id: &JobId, rounds: RangeInclusive<u32>, selection: &FragmentSelection) -> Result<Vec<Fragment>, StoreError> {
        self.faults.intercept("tasks.fragments", self.port.fragments(id, rounds, selection)).await
    }
}

impl<T: TaskQueue> TaskQueue for FaultyPort<T> {
    /// Announces without delay, because the manual clock does not move by itself.
    async fn announce(&self, tasks: &[TaskId], _: Duration) -> Result<(), StoreError> {
        self.faults.intercept("queue.announce", self.port.announce(tasks, Duration::ZERO)).await
    }

    async fn park(&self, message: &str) -> Result<(), StoreError> {
        self.faults.intercept("queue.park", self.port.park(message)).await
    }
}

/// Wraps a stream. Each chunk, and the end of the stream, counts as a call.
fn faulty_stream(faults: FaultInjector, name: &'static str, inner: ByteStream) -> ByteStream {
    Box::pin(stream::unfold(Some(inner), move |inner| {
        let faults = faults.clone();
        async move {
            let mut inner = inner?;
            let next = faults.intercept(name, async { inner.next().await.transpose() }).await;
            match next {
                Ok(None) => None,
                Ok(Some(bytes)) => Some((Ok::<Bytes, SourceError>(bytes), Some(inner))),
                Err(error) => Some((Err(error), None)),
            }
        }
    }))
}

impl<T: ResourceSource> ResourceSource for FaultyPort<T> {
    async fn check(&self) -> Result<(), SourceError> {
        self.faults.intercept("source.check", self.port.check()).await
    }

    async fn list(&self, after: Option<&str>) -> Result<ObjectPage, SourceError> {
        if !self.faults.lists_objects_singly() {
            return self.faults.intercept("source.list", self.port.list(after)).await;
        }
        let page = async {
            let mut page = self.port.list(None).await?;
            let index: usize = after.and_then(|after| after.parse().ok()).unwrap_or_default();
            page.next = (index + 1 < page.objects.len()).then(|| (index + 1).to_string());
            page.objects = page.objects.into_iter().skip(index).take(1).collect();
            Ok(page)
        };
        self.faults.intercept("source.list", page).await
    }

    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream {
        faulty_stream(self.faults.clone(), "source.read", self.port.read(pin, range))
    }

    async fn read_metadata(&self, object: &str) -> Result<Option<MetadataObject>, SourceError> {
        self.faults.intercept("source.read_metadata", self.port.read_metadata(object)).await
    }
}

/// File that is being written. After a crash it is leaked instead of dropped, because `kill -9` runs no cleanup.
pub(super) struct FaultyFileWriter<D> {
    writer: Option<D>,
    faults: FaultInjector,
}

impl<D> Drop for FaultyFileWriter<D> {
    fn drop(&mut self) {
        if self.faults.has_crashed()
            && let Some(writer) = self.writer.take()
        {
            std::mem::forget(writer);
        }
    }
}

/// Returns the error of a write after the file was committed.
fn already_committed() -> StoreError {
    StoreError::NotApplied { store: "a file writer", cause: "the file is already committed".into() }
}

impl<D: FileWriter> FileWriter for FaultyFileWriter<D> {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let writer = self.writer.as_mut().ok_or_else(already_committed)?;
        self.faults.intercept("writer.write", writer.write(bytes)).await
    }

    async fn commit(mut self, name: FileName, summary: FileSummary) -> Result<(), StoreError> {
        let faults = self.faults.clone();
        let call_name = match name {
            FileName::Output(_) | FileName::Overwrite(_) => "writer.commit output",
            FileName::Fragment(_) => "writer.commit fragment",
        };
        faults.intercept(call_name, async { self.writer.take().ok_or_else(already_committed)?.commit(name, summary).await }).await
    }
}

impl<T: OutputStore> OutputStore for FaultyPort<T> {
    type Writer = FaultyFileWriter<T::Writer>;

    const BUFFERS_OPEN_FILES: bool = T::BUFFERS_OPEN_FILES;
    const COPIES_TO_PROMOTE: bool = T::COPIES_TO_PROMOTE;

    async fn check(&self, own: Option<&str>) -> Result<(), StoreError> {
        self.faults.intercept("output.check", self.port.check(own)).await
    }

    async fn anonymization_keys(&self, own: Option<&str>, name: &ConfigName) -> Result<Option<Bytes>, StoreError> {
        self.faults.intercept("output.anonymization_keys", self.port.anonymization_keys(own, name)).await
    }

    async fn anonymization_config(&self, own: Option<&str>, name: &ConfigName, etag: Option<&str>) -> Result<ConfigLookup, StoreError> {
        self.faults.intercept("output.anonymization_config", self.port.anonymization_config(own, name, etag)).await
    }

    async fn new_fragment(&self, folder: &Folder, fragment: FragmentName) -> Result<Self::Writer, StoreError> {
        let faults = self.faults.clone();
        let writer = async {
            Ok::<_, StoreError>(FaultyFileWriter { writer: Some(self.port.new_fragment(folder, fragment).await?), faults: faults.clone() })
        };
        self.faults.intercept("output.new_fragment", writer).await
    }

    async fn promote(&self, folder: &Folder, fragment: &Fragment, output_file: OutputFileName) -> Result<(), StoreError> {
        self.faults.intercept("output.promote", self.port.promote(folder, fragment, output_file)).await
    }

    async fn renumber(&self, folder: &Folder, file: &OutputFile, number: u32) -> Result<(), StoreError> {
        self.faults.intercept("output.renumber", self.port.renumber(folder, file, number)).await
    }

    fn read(&self, folder: &Folder, fragment: &FragmentName, range: Range<u64>) -> ByteStream {
        faulty_stream(self.faults.clone(), "output.read", self.port.read(folder, fragment, range))
    }

    async fn file_access(&self, folder: &Folder, output_file: &OutputFile, request: FileRequest) -> Result<FileAccess, StoreError> {
        self.faults.intercept("output.file_access", self.port.file_access(folder, output_file, request)).await
    }

    async fn delete_all_except(&self, folder: &Folder, keep: &FileNames) -> Result<u64, StoreError> {
        self.faults.intercept("output.delete", self.port.delete_all_except(folder, keep)).await
    }

    async fn delete_part_except(&self, folder: &Folder, keep: &FileNames, after: Option<&str>) -> Result<DeletedPart, StoreError> {
        self.faults.intercept("output.delete", self.port.delete_part_except(folder, keep, after)).await
    }
}
