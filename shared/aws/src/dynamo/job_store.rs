//! Jobs, their output files and their secrets.

use std::ops::RangeInclusive;

use headrace_core::access::Agent;
use headrace_core::audit::AuditRecord;
use headrace_core::job::file::{OutputFile, OutputFileName};
use headrace_core::job::file_list::FileListPart;
use headrace_core::job::task::PlanInput;
use headrace_core::job::{FailureReason, Job, JobEvent, JobSecrets, JobState, RecordConditions, RecordOutcome, Transition};
use headrace_core::ports::{DueItem, DueSubject, JobSecretEncryptor, JobStore};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;

use super::items::{self, Attributes, DUE_SHARDS, JOB_SK};
use super::partitions::file_list_pk;
use super::transact::{Update, Write, WriteOutcome};
use super::{CLEANUP_DELAY, DynamoJobStore, schema};
use crate::encryptor;

impl JobStore for DynamoJobStore {
    async fn record_job(
        &self,
        job: &Job,
        plan: &PlanInput,
        conditions: &RecordConditions,
        agent: &Agent,
    ) -> Result<RecordOutcome, StoreError> {
        self.record_new_job(job, plan, conditions, agent).await
    }

    async fn job(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        let item = self.get_key(items::job_key(id, JOB_SK)).await?;
        item.map(|item| Attributes(&item).job()).transpose()
    }

    async fn with_progress(&self, job: Job) -> Result<Job, StoreError> {
        self.add_progress(job).await
    }

    async fn end_job(
        &self,
        id: &JobId,
        event: JobEvent,
        reason: Option<FailureReason>,
        agent: &Agent,
        now: Millis,
    ) -> Result<Option<Transition>, StoreError> {
        loop {
            let Some(job) = self.job(id).await? else { return Ok(None) };
            let to = match job.state.transition(event) {
                Ok(Transition::To(state)) => state,
                Ok(Transition::AlreadyDone) => return Ok(Some(Transition::AlreadyDone)),
                Err(_) => return Ok(None),
            };
            let mut update = Update::new(items::job_key(id, JOB_SK))
                .when("#state = :from")
                .name("#state", "state")
                .value(":from", items::text(job.state.as_str()))
                .set("#state", items::text(to.as_str()))
                .set("due_shard", items::due_shard(0))
                .set("due_at", items::millis(now + CLEANUP_DELAY))
                .remove(items::ENCRYPTED_SECRET)
                .remove(items::SWEPT_TO);
            if to == JobState::Failed {
                update = update.set("ended_at", items::millis(now));
            }
            if let Some(reason) = &reason {
                update = update.set("reason", items::json(reason)?);
            }
            let mut writes = vec![Write::Update(update)];
            let record = AuditRecord::from_job_end(now, to, agent.clone(), &job, reason.as_ref());
            writes.extend(record.map(|record| Write::AuditRecord(Box::new(record))));
            writes.extend(self.event_write(&job, to, now, reason.as_ref())?);
            let outcome = if job.state.has_slot() {
                self.transact_and_free_slot(writes, &job.owner, None).await?
            } else {
                if job.state == JobState::Queued {
                    writes.push(Write::Delete(items::queue_key(job.created_at, id)));
                }
                self.transact(&writes).await?
            };
            match outcome {
                WriteOutcome::Applied => return Ok(Some(Transition::To(to))),
                // The state has changed since it was read. The event may still be legal in the new state.
                WriteOutcome::ConditionFailed(_) => {}
            }
        }
    }

    async fn output_files(&self, job: &Job) -> Result<Vec<OutputFile>, StoreError> {
        let first = items::output_files_since(job.files_since_round);
        let last = items::output_files_since(job.files_since_round + 1);
        let mut files = self.query_partitions(&job.id, &[first, last], |item| Attributes(item).output_file()).await?;
        files.sort_unstable_by_key(|file| file.name);
        Ok(files)
    }

    async fn output_file(&self, job: &Job, name: OutputFileName) -> Result<Option<OutputFile>, StoreError> {
        let item = self.get_key(self.output_file_key(job, name)).await?;
        item.map(|item| Attributes(&item).output_file()).transpose()
    }

    async fn file_list(&self, job: &Job, parts: RangeInclusive<u32>) -> Result<Vec<FileListPart>, StoreError> {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .query()
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":pk", items::text(file_list_pk(&job.id)))
            .expression_attribute_values(":first", items::text(items::file_list_sk(*parts.start())))
            .expression_attribute_values(":last", items::text(items::file_list_sk(*parts.end())))
            .consistent_read(true);
        self.query_all(query, usize::MAX, |item| Attributes(item).file_list_part()).await
    }

    async fn due(&self, now: Millis, limit: u16) -> Result<Vec<DueItem>, StoreError> {
        let mut due = Vec::new();
        for shard in 0..DUE_SHARDS {
            let query = self
                .query()
                .index_name(schema::DUE_INDEX)
                .key_condition_expression("due_shard = :shard AND due_at <= :now")
                .expression_attribute_values(":shard", items::due_shard(shard))
                .expression_attribute_values(":now", items::millis(now))
                .limit(i32::from(limit));
            for item in self.query_page(query).await?.items() {
                due.push(Attributes(item).due_item()?);
            }
        }
        due.sort_by_key(|due| due.due_at);
        Ok(due)
    }

    async fn postpone(&self, due: &DueItem, until: Option<Millis>) -> Result<bool, StoreError> {
        Ok(self.update(self.next_check(due, until)).await? == WriteOutcome::Applied)
    }

    async fn record_sweep(&self, due: &DueItem, position: Option<&str>, until: Option<Millis>) -> Result<bool, StoreError> {
        let update = self.next_check(due, until);
        let update = match position {
            Some(position) => update.set(items::SWEPT_TO, items::text(position)),
            None => update.remove(items::SWEPT_TO),
        };
        Ok(self.update(update).await? == WriteOutcome::Applied)
    }
}

impl DynamoJobStore {
    /// Returns the update that sets the time of the next check of a due job or task, with the condition that nobody has changed it.
    fn next_check(&self, due: &DueItem, until: Option<Millis>) -> Update {
        let (key, shard) = match &due.subject {
            DueSubject::Job(job) => (items::job_key(job, JOB_SK), 0),
            DueSubject::Task(task) => (self.task_key(&task.job, task.task), task.task),
        };
        let update = Update::new(key).when("due_at = :seen").value(":seen", items::millis(due.due_at));
        match until {
            Some(at) => update.set("due_shard", items::due_shard(shard)).set("due_at", items::millis(at)),
            None => update.remove("due_shard").remove("due_at"),
        }
    }
}

impl JobSecretEncryptor for DynamoJobStore {
    async fn encrypt(&self, job: &JobId, secrets: &JobSecrets) -> Result<Vec<u8>, StoreError> {
        self.encryptor.as_ref().ok_or_else(encryptor::no_key_configured)?.encrypt(job, &secrets.to_bytes()).await
    }

    async fn decrypt(&self, job: &JobId, ciphertext: &[u8]) -> Result<JobSecrets, StoreError> {
        let secrets = self.encryptor.as_ref().ok_or_else(encryptor::no_key_configured)?.decrypt(job, ciphertext).await?;
        let invalid = || StoreError::Unreadable { store: encryptor::STORE, detail: "secrets of another form".to_owned() };
        JobSecrets::from_bytes(&secrets).ok_or_else(invalid)
    }

    async fn decrypt_keys(&self, keys: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.encryptor.as_ref().ok_or_else(encryptor::no_key_configured)?.decrypt_keys(keys).await
    }

    async fn decrypt_webhook_secret(&self, ciphertext: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.encryptor.as_ref().ok_or_else(encryptor::no_key_configured)?.decrypt_webhook_secret(ciphertext).await
    }
}
