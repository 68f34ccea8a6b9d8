//! The reader of attributes, and of items as what they hold.

use std::time::Duration;

use headrace_core::job::file::{FileSummary, Fragment, FragmentName, OutputFile, OutputFileName, OutputKind};
use headrace_core::job::file_list::FileListPart;
use headrace_core::job::task::{Cursor, PlanProgress, TaskState, Work};
use headrace_core::job::{Counters, ExportTime, Job, JobState, NoticeCounts, Phase, PinnedConfig, Planned, Usage};
use headrace_core::ports::{DueItem, DueSubject, QueuedJob};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, ListCursor, TaskId};
use serde::Deserialize;

use super::keys::JOB_SK;
use super::{
    ENCRYPTED_SECRET, Item, JobDefinition, PAUSED_MILLIS, PAUSED_UNTIL, RESERVED_FILES, ROUND_SPLIT_TASKS, SPLIT_TASKS, STORE, SWEPT_TO,
};

/// The state of a task.
pub(in crate::dynamo) struct StoredTask {
    pub(in crate::dynamo) state: TaskState,
    pub(in crate::dynamo) attempt: u32,
    pub(in crate::dynamo) fencing_token: u32,
    pub(in crate::dynamo) attempts_since_progress: u32,
    pub(in crate::dynamo) lease_until: Option<Millis>,
    pub(in crate::dynamo) paused_until: Option<Millis>,
    pub(in crate::dynamo) paused: Duration,
    pub(in crate::dynamo) cursor: Cursor,
    pub(in crate::dynamo) reserved_files: Vec<OutputFileName>,
    pub(in crate::dynamo) counters: Counters,
    pub(in crate::dynamo) export_time: Option<ExportTime>,
    pub(in crate::dynamo) plan_progress: Option<PlanProgress>,
    pub(in crate::dynamo) fault: Option<String>,
}

/// A reader of an item's attributes. Its errors name the attribute that is malformed.
pub(in crate::dynamo) struct Attributes<'a>(pub(in crate::dynamo) &'a Item);

impl Attributes<'_> {
    /// Creates the error for a missing or malformed attribute.
    pub(in crate::dynamo) fn unreadable(name: &str) -> StoreError {
        StoreError::Unreadable { store: STORE, detail: format!("the attribute {name}") }
    }

    /// Reads a string attribute. Returns an error if it is missing.
    pub(in crate::dynamo) fn text(&self, name: &str) -> Result<&str, StoreError> {
        self.0.get(name).and_then(|value| value.as_s().ok()).map(String::as_str).ok_or_else(|| Self::unreadable(name))
    }

    /// Reads a number attribute. Returns `None` if it is missing.
    fn optional_number<N: TryFrom<u64>>(&self, name: &str) -> Result<Option<N>, StoreError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let number = value.as_n().ok().and_then(|digits| digits.parse::<u64>().ok());
        number.and_then(|number| N::try_from(number).ok()).map(Some).ok_or_else(|| Self::unreadable(name))
    }

    /// Reads a number attribute. A missing attribute counts as 0.
    pub(in crate::dynamo) fn count<N: TryFrom<u64> + Default>(&self, name: &str) -> Result<N, StoreError> {
        Ok(self.optional_number(name)?.unwrap_or_default())
    }

    /// Reads a number attribute as a time in milliseconds. Returns an error if it is missing.
    fn required_millis(&self, name: &str) -> Result<Millis, StoreError> {
        self.optional_number(name)?.map(Millis).ok_or_else(|| Self::unreadable(name))
    }

    /// Reads an attribute with JSON. Returns `None` if it is missing.
    pub(in crate::dynamo) fn optional_json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, StoreError> {
        if !self.0.contains_key(name) {
            return Ok(None);
        }
        serde_json::from_str(self.text(name)?).map(Some).map_err(|_| Self::unreadable(name))
    }

    /// Reads an attribute with JSON. Returns an error if it is missing.
    pub(in crate::dynamo) fn required_json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T, StoreError> {
        self.optional_json(name)?.ok_or_else(|| Self::unreadable(name))
    }

    /// Reads the counters of a job or task. Missing ones count as 0.
    fn counters(&self) -> Result<Counters, StoreError> {
        Ok(Counters {
            source_bytes: self.count("source_bytes")?,
            resources: self.count("resources")?,
            lines_rejected: self.count("lines_rejected")?,
            notices: NoticeCounts {
                arrived_late: self.count("arrived_late")?,
                ahead_of_clock: self.count("ahead_of_clock")?,
                unreadable_times: self.count("unreadable_times")?,
                members_found: self.count("members_found")?,
            },
            usage: Usage::from_named(|name| self.count(name))?,
        })
    }

    /// Reads the size, line count and checksum of a file.
    fn summary(&self) -> Result<FileSummary, StoreError> {
        let crc64 = u64::from_str_radix(self.text("crc64")?, 16).map_err(|_| Self::unreadable("crc64"))?;
        Ok(FileSummary { bytes: self.count("bytes")?, lines: self.count("lines")?, crc64 })
    }

    /// Reads the id of a job from the partition key, which may name one of the job's partitions after the id.
    fn job_id(&self) -> Result<JobId, StoreError> {
        let id = self.text("pk")?.strip_prefix("JOB#").map(|rest| rest.split_once('#').map_or(rest, |(id, _)| id));
        id.and_then(|id| JobId::parse(id).ok()).ok_or_else(|| Self::unreadable("pk"))
    }

    /// Reads the item as a job. If it is running, its counts are those at the start of the current round.
    pub(in crate::dynamo) fn job(&self) -> Result<Job, StoreError> {
        let definition: JobDefinition = self.required_json("definition")?;
        let mut job = Job {
            id: self.job_id()?,
            owner: Caller(self.text("owner")?.to_owned()),
            owner_registration: definition.owner_registration,
            state: JobState::parse(self.text("state")?).ok_or_else(|| Self::unreadable("state"))?,
            request: definition.request,
            request_url: definition.request_url,
            base: definition.base,
            created_at: self.required_millis("created_at")?,
            settings: definition.settings,
            requires_access_token: definition.requires_access_token,
            destination: definition.destination,
            schedule: definition.schedule,
            has_webhook: definition.has_webhook,
            pinned_config: self.pinned_config()?,
            planned: self.optional_json::<Planned>("planned")?,
            open_tasks: 0,
            round: self.count("round")?,
            round_tasks: self.count("round_tasks")?,
            split_tasks: self.count(SPLIT_TASKS)?,
            round_split_tasks: self.count(ROUND_SPLIT_TASKS)?,
            phase: Phase::parse(self.text("phase")?).ok_or_else(|| Self::unreadable("phase"))?,
            first_unmerged_round: self.count("first_unmerged_round")?,
            files_since_round: self.count("files_since_round")?,
            counters: self.counters()?,
            ended_at: self.optional_number("ended_at")?.map(Millis),
            reason: self.optional_json("reason")?,
            swept_to: self.0.get(SWEPT_TO).and_then(|position| position.as_s().ok()).cloned(),
        };
        if job.state == JobState::Running {
            job.open_tasks = job.tasks_of_round();
        }
        Ok(job)
    }

    /// Reads the item as a counter of a round: the number of completed tasks, and the sum of their counters.
    pub(in crate::dynamo) fn round_counter(&self) -> Result<(u32, Counters), StoreError> {
        Ok((self.count("completed")?, self.counters()?))
    }

    /// Reads the pinned configuration of a de-identified export. Returns `None` for other exports, and after the job has ended.
    fn pinned_config(&self) -> Result<Option<PinnedConfig>, StoreError> {
        let Some(secret) = self.0.get(ENCRYPTED_SECRET) else { return Ok(None) };
        let encrypted_secret = secret.as_b().map_err(|_| Self::unreadable(ENCRYPTED_SECRET))?.as_ref().to_vec();
        Ok(Some(PinnedConfig { etag: self.text("config_etag")?.to_owned(), encrypted_secret }))
    }

    /// Reads the item as the state of a task.
    pub(in crate::dynamo) fn task(&self) -> Result<StoredTask, StoreError> {
        Ok(StoredTask {
            state: TaskState::parse(self.text("state")?).ok_or_else(|| Self::unreadable("state"))?,
            attempt: self.count("attempt")?,
            fencing_token: self.count("fencing_token")?,
            attempts_since_progress: self.count("attempts_since_progress")?,
            lease_until: self.optional_number("lease_until")?.map(Millis),
            paused_until: self.optional_number(PAUSED_UNTIL)?.map(Millis),
            paused: Duration::from_millis(self.count(PAUSED_MILLIS)?),
            cursor: Cursor { item: self.count("cursor_item")?, offset: self.count("cursor_offset")? },
            reserved_files: self.reserved_files()?,
            counters: self.counters()?,
            export_time: self.optional_json("export_time")?,
            plan_progress: self.optional_json("plan_progress")?,
            fault: self.0.get("fault").and_then(|fault| fault.as_s().ok()).cloned(),
        })
    }

    /// Reads the reserved names of output files of a task.
    fn reserved_files(&self) -> Result<Vec<OutputFileName>, StoreError> {
        if !self.0.contains_key(RESERVED_FILES) {
            return Ok(Vec::new());
        }
        let parse = |name| OutputFileName::parse(name).ok_or_else(|| Self::unreadable(RESERVED_FILES));
        self.text(RESERVED_FILES)?.split(' ').map(parse).collect()
    }

    /// Reads the item as the work of a task.
    pub(in crate::dynamo) fn work(&self) -> Result<Work, StoreError> {
        self.required_json("work")
    }

    /// Reads the item as an output file.
    pub(in crate::dynamo) fn output_file(&self) -> Result<OutputFile, StoreError> {
        let segments: Vec<&str> = self.text("sk")?.split('#').collect();
        let name = match segments.as_slice() {
            ["OUTPUT", _, kind, number] => {
                OutputKind::parse(kind).zip(number.parse().ok()).map(|(kind, number)| OutputFileName { kind, number })
            }
            _ => None,
        };
        Ok(OutputFile { name: name.ok_or_else(|| Self::unreadable("sk"))?, summary: self.summary()? })
    }

    /// Reads the item as a part of the list of a job's files.
    pub(in crate::dynamo) fn file_list_part(&self) -> Result<FileListPart, StoreError> {
        let number =
            self.text("sk")?.strip_prefix("FILES#").and_then(|number| number.parse().ok()).ok_or_else(|| Self::unreadable("sk"))?;
        FileListPart::parse(number, self.text("files")?).ok_or_else(|| Self::unreadable("files"))
    }

    /// Reads the item as a fragment, with the round in which it was recorded.
    pub(in crate::dynamo) fn fragment(&self) -> Result<(u32, Fragment), StoreError> {
        let segments: Vec<&str> = self.text("sk")?.split('#').collect();
        let parsed = match segments.as_slice() {
            ["FRAGMENT", _, round, kind, task, attempt, fencing_token] => OutputKind::parse(kind).and_then(|kind| {
                let name = FragmentName {
                    kind,
                    task: task.parse().ok()?,
                    attempt: attempt.parse().ok()?,
                    fencing_token: fencing_token.parse().ok()?,
                };
                Some((round.parse().ok()?, name))
            }),
            _ => None,
        };
        let (round, name) = parsed.ok_or_else(|| Self::unreadable("sk"))?;
        Ok((round, Fragment { name, summary: self.summary()? }))
    }

    /// Reads the position of a job in the list of its owner's jobs.
    pub(in crate::dynamo) fn list_cursor(&self) -> Result<ListCursor, StoreError> {
        Ok(ListCursor { created_at: self.required_millis("created_at")?, id: self.job_id()? })
    }

    /// Reads the item as a queued job.
    pub(in crate::dynamo) fn queued_job(&self) -> Result<QueuedJob, StoreError> {
        let position = self.text("sk")?.split_once('#');
        let position = position.and_then(|(queued_at, job)| Some((Millis(queued_at.parse().ok()?), JobId::parse(job).ok()?)));
        let (queued_at, job) = position.ok_or_else(|| Self::unreadable("sk"))?;
        let client_quota = self.optional_number("client_quota")?;
        Ok(QueuedJob { queued_at, job, owner: Caller(self.text("caller")?.to_owned()), client_quota })
    }

    /// Reads the item as a due job or task.
    pub(in crate::dynamo) fn due_item(&self) -> Result<DueItem, StoreError> {
        let job = self.job_id()?;
        let subject = match self.text("sk")? {
            JOB_SK => DueSubject::Job(job),
            sk => {
                let task = sk.strip_prefix("TASK#").and_then(|task| task.parse().ok()).ok_or_else(|| Self::unreadable("sk"))?;
                DueSubject::Task(TaskId { job, task })
            }
        };
        Ok(DueItem { subject, due_at: self.required_millis("due_at")? })
    }
}
