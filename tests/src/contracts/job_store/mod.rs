//! Contract of `JobStore` and `TaskStore`.

mod jobs;
mod keys;
mod leases;
mod lists;
mod quotas;
mod records;
mod rounds;
mod splits;

use std::ops::RangeInclusive;
use std::time::Duration;

use headrace_core::access::Agent;
use headrace_core::job::OmittedSubjects;
use headrace_core::job::file::{FileSummary, Fragment, FragmentName, OutputFile, OutputFileName, OutputKind};
use headrace_core::job::file_list::FileListPart;
use headrace_core::job::task::{
    Checkpoint, Cursor, Encoding, Lease, LeaseOutcome, NextRound, Pin, PlanInput, Slice, TaskCompletion, TaskUpdate, Work,
};
use headrace_core::job::{
    Counters, ExportTime, Job, JobSettings, NoticeCounts, Phase, Planned, ReadMode, RecordConditions, RecordOutcome, Usage, Watermark,
};
use headrace_core::ports::{FragmentSelection, JobStore, LeaseSettings, TaskStore};
use headrace_core::request::ExportRequest;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::container::Container;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, RegistrationId, TaskId};
use headrace_core::vocab::schedule_key::{ScheduleKey, ScheduleName};
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::instant::Instant;

use super::{BoxError, CaseResult};

pub use jobs::*;
pub use keys::*;
pub use leases::*;
pub use lists::*;
pub use quotas::*;
pub use records::*;
pub use rounds::*;
pub use splits::*;

/// Runs the suite: `job_store_contract!(name, crate::open)`.
#[macro_export]
macro_rules! job_store_contract {
    ($name:ident, $open:path) => {
        $crate::contract_cases!(
            job_store,
            $name,
            $open,
            [
                a_recorded_job_is_read_back_unchanged,
                recording_a_job_again_changes_nothing,
                a_job_ends_according_to_the_state_table,
                only_written_output_files_are_listed,
                due_items_are_found_and_postponed_only_once,
                a_sweep_goes_on_at_its_position_until_the_job_moves,
                a_task_is_leased_only_in_its_phase,
                a_task_is_not_leased_again_before_its_lease_expires,
                a_void_lease_does_not_count_as_an_attempt_whatever_its_time,
                a_stop_does_not_count_as_an_attempt,
                a_paused_task_is_available_after_its_pause_and_keeps_their_sum,
                a_plan_keeps_its_progress_within_the_listing,
                attempts_without_progress_are_limited_and_the_last_error_is_kept,
                a_checkpoint_resets_the_attempt_count_and_a_yield_does_not,
                an_attempt_with_an_old_fencing_token_changes_nothing,
                p10_nothing_is_recorded_after_a_job_has_ended,
                tasks_of_an_abandoned_plan_attempt_are_never_leased,
                p5_files_and_cursor_are_recorded_together_or_not_at_all,
                file_numbers_are_never_given_twice,
                a_reserved_file_number_survives_its_attempt,
                several_files_are_reserved_and_recorded_together,
                names_of_several_kinds_are_reserved_in_one_update,
                p6_a_task_is_counted_once,
                an_update_whose_response_was_lost_is_not_applied_twice,
                the_finalize_task_runs_again_after_each_merge_round,
                fragments_are_listed_by_round_in_order,
                a_round_runs_the_work_of_its_phase_and_may_reset_the_counters,
                the_work_of_a_task_can_be_read_after_it_closed,
                a_round_that_starts_over_discards_all_output_files_and_numbers,
                the_usage_of_every_task_is_counted_once,
                a_failed_job_keeps_the_usage_of_its_last_round,
                a_file_is_renumbered_once_and_only_under_the_lease,
                a_round_of_many_tasks_is_counted_exactly,
                a_task_is_split_only_under_its_lease,
                the_finalize_task_waits_for_both_parts_of_a_split_task,
                of_two_tasks_that_split_at_once_one_changes_nothing,
                a_task_that_merges_is_split_within_its_round,
                a_list_of_files_is_read_back_in_parts,
                fragments_are_selected_by_kind_task_and_bucket,
                quotas_are_exact_under_concurrent_kick_offs,
                a_quota_that_is_set_later_counts_running_jobs,
                every_ended_job_frees_exactly_one_slot,
                a_synchronization_has_a_slot_of_its_own,
                a_queued_job_has_no_task_to_lease_and_ends_without_freeing_a_slot,
                a_queued_job_starts_once_and_only_if_a_slot_is_free,
                queued_jobs_are_listed_oldest_first,
                a_clients_own_quota_applies_and_is_kept_with_a_queued_job,
                an_idempotency_key_starts_only_one_job,
                an_idempotency_key_belongs_to_one_caller_and_one_request,
                a_rejected_kick_off_leaves_its_idempotency_key_unused,
                a_caller_lists_its_own_jobs_newest_first_in_pages,
                a_list_cursor_reaches_only_the_callers_own_jobs,
            ]
        );
    };
}

/// Creation time of the sample jobs.
const T0: Millis = Millis(1_769_846_400_000);

const LEASE_SETTINGS: LeaseSettings = LeaseSettings { duration: Duration::from_secs(60), max_attempts: 3 };

/// Returns the time `seconds` after [`T0`].
fn after(seconds: u64) -> Millis {
    T0 + Duration::from_secs(seconds)
}

/// Creates the `n`th job, with a value in every field that a new job can have.
fn sample_job(n: u8) -> Result<Job, BoxError> {
    let types = ["Observation", "Patient"].into_iter().filter_map(ResourceType::parse).collect();
    let request = ExportRequest {
        types: Some(types),
        since: Some(Instant::parse("2025-01-01T00:00:00.123456789Z")?),
        container: Container::parse("place-1"),
        ..ExportRequest::default()
    };
    Ok(Job {
        request_url: "https://example.org/fhir/$export?_type=Observation%2CPatient".into(),
        base: "https://example.org/fhir".into(),
        settings: JobSettings { file_bytes: 5_000_000_000, retention_seconds: 7, deadline_seconds: 11 },
        requires_access_token: true,
        owner_registration: Some(RegistrationId("8".repeat(32))),
        schedule: Some(ScheduleKey { name: ScheduleName::parse("nightly")?, id: "7".repeat(32) }),
        ..Job::accepted(JobId::from_random([n; 16]), Caller("arn:aws:iam::111122223333:user/ß☃".into()), request, T0)
    })
}

/// Stores a job without quotas and idempotency key.
async fn record_job(store: &impl JobStore, job: &Job) -> CaseResult {
    assert_eq!(
        store.record_job(job, &PlanInput::default(), &RecordConditions::default(), &Agent::service()).await?,
        RecordOutcome::Recorded
    );
    Ok(())
}

/// Returns the id of the task with this number.
fn task(job: &Job, task: u32) -> TaskId {
    TaskId { job: job.id.clone(), task }
}

/// Parses the name of an output kind, such as `Patient`.
fn kind(name: &str) -> Result<OutputKind, BoxError> {
    Ok(OutputKind::parse(name).ok_or("no such kind")?)
}

/// Returns the summary of a file with `n` lines. Different numbers give different summaries.
fn sample_summary(n: u64) -> FileSummary {
    FileSummary { bytes: 1_000 + n, lines: n, crc64: u64::MAX - n }
}

/// Returns the work of a read task: one slice of an object whose name contains `n`.
fn read_work(n: u32) -> Work {
    let pin = Pin { object: format!("Patient/{n} ß.ndjson"), etag: "\"e-1\"".into(), size: 1 << 40 };
    Work::Read(vec![Slice { pin, encoding: Encoding::Plain, start: 5, end: 1 << 40, arrived_after_since: true }])
}

/// Returns the result of a plan task that created this number of tasks.
fn plan_result(tasks: u32) -> Planned {
    Planned {
        time: ExportTime::new(after(2), Watermark::Object(after(1))),
        tasks,
        source_bytes: 1 << 50,
        read_mode: ReadMode::SinglePass,
        patient_set: None,
        omitted: OmittedSubjects::default(),
        group_patients: 0,
    }
}

/// Returns a merge round with this number of tasks.
fn next_round(tasks: u32, round: u32) -> NextRound {
    NextRound { tasks, phase: Phase::Merge, first_unmerged_round: round, starts_over: false }
}

/// Leases a task. Fails if the lease is refused.
async fn lease(store: &impl TaskStore, job: &Job, number: u32, now: Millis) -> Result<Lease, BoxError> {
    match store.lease_task(&task(job, number), LEASE_SETTINGS, now).await? {
        LeaseOutcome::Granted(lease) => Ok(*lease),
        other @ (LeaseOutcome::Unavailable | LeaseOutcome::Obsolete | LeaseOutcome::Exhausted(_)) => {
            Err(format!("task {number} was not leased: {other:?}").into())
        }
    }
}

/// Tries to lease a task and returns why it is refused. Fails if the lease is granted.
async fn lease_refusal(store: &impl TaskStore, job: &Job, number: u32, now: Millis) -> Result<LeaseOutcome, BoxError> {
    match store.lease_task(&task(job, number), LEASE_SETTINGS, now).await? {
        LeaseOutcome::Granted(lease) => Err(format!("task {number} was leased: {lease:?}").into()),
        refused @ (LeaseOutcome::Unavailable | LeaseOutcome::Obsolete | LeaseOutcome::Exhausted(_)) => Ok(refused),
    }
}

/// Returns the job as it is stored now, with its progress.
async fn reload(store: &impl JobStore, job: &Job) -> Result<Job, BoxError> {
    let job = store.job(&job.id).await?.ok_or("the job is not found")?;
    Ok(store.with_progress(job).await?)
}

/// Returns the exported fragments of these rounds.
async fn exported_fragments(store: &impl TaskStore, job: &Job, rounds: RangeInclusive<u32>) -> Result<Vec<Fragment>, BoxError> {
    Ok(store.fragments(&job.id, rounds, &FragmentSelection::Exported).await?)
}

/// Returns the exported fragments of all rounds.
async fn all_fragments(store: &impl TaskStore, job: &Job) -> Result<Vec<Fragment>, BoxError> {
    exported_fragments(store, job, 0..=job.round).await
}

/// Creates a running job with this number of read tasks.
async fn running_job(store: &impl TaskStore, tasks: u32) -> Result<Job, BoxError> {
    let job = sample_job(1)?;
    record_job(store, &job).await?;
    let mut plan = lease(store, &job, 0, T0).await?;
    let mut work = vec![(1, Work::Finalize)];
    work.extend((2..2 + tasks).map(|n| (n, read_work(n))));
    store.update_task(&mut plan, TaskUpdate::AddTasks(work), after(60)).await?;
    Ok(store.complete_task(&plan, TaskCompletion::Planned(plan_result(tasks))).await?)
}

/// Returns a checkpoint at `offset` with a fragment of each of these kinds, and with the output files that the lease has reserved.
fn checkpoint(lease: &Lease, fragments: &[OutputKind], offset: u64) -> Checkpoint {
    let name = |kind| FragmentName { kind, task: lease.task.task, attempt: lease.attempt, fencing_token: lease.fencing_token };
    let fragments = fragments.iter().map(|kind| Fragment { name: name(*kind), summary: sample_summary(offset) }).collect();
    let notices =
        NoticeCounts { arrived_late: offset + 3, ahead_of_clock: offset + 4, unreadable_times: offset + 5, members_found: offset + 6 };
    let usage = Usage { attempts: 1, gets: offset + 7, bytes_written: offset + 8, ..Usage::default() };
    let counters = Counters { source_bytes: offset, resources: offset + 1, lines_rejected: offset + 2, notices, usage };
    Checkpoint {
        output_files: lease.reserved_files.iter().map(|name| OutputFile { name: *name, summary: sample_summary(offset) }).collect(),
        fragments,
        cursor: Cursor { item: 0, offset },
        counters,
    }
}

/// Fails unless the result is [`StoreError::Stale`].
fn assert_stale<T: std::fmt::Debug>(what: &str, result: Result<T, StoreError>) -> Result<(), BoxError> {
    match result {
        Err(StoreError::Stale) => Ok(()),
        other => Err(format!("{what} must be stale, but the result is {other:?}").into()),
    }
}

/// Checks that every update and completion with an outdated lease fails with [`StoreError::Stale`] and changes neither the job, its
/// files nor the lease.
async fn assert_all_updates_are_stale(store: &impl TaskStore, lease: &Lease) -> Result<(), BoxError> {
    use headrace_core::job::task::Release;
    let output_file = OutputFile { name: OutputFileName { kind: kind("Patient")?, number: 1 }, summary: sample_summary(9) };
    let updates = [
        TaskUpdate::Heartbeat,
        TaskUpdate::AddTasks(vec![(77, read_work(77))]),
        TaskUpdate::ReserveFiles(vec![kind("Patient")?]),
        TaskUpdate::Checkpoint(Checkpoint { output_files: vec![output_file], ..checkpoint(lease, &[kind("Observation")?], 9) }),
        TaskUpdate::Checkpoint(checkpoint(lease, &[kind("Observation")?], 9)),
        TaskUpdate::Renumber { file: output_file, number: 9 },
        TaskUpdate::ListFiles(FileListPart { number: 0, files: Vec::new() }),
        TaskUpdate::Release(Release::Yield),
        TaskUpdate::Release(Release::Fault("too late".into())),
        TaskUpdate::Release(Release::Pause { until: after(9_999), total: Duration::from_secs(9) }),
    ];
    let job = store.job(&lease.task.job).await?;
    let job = job.ok_or("no job")?;
    let output_files = store.output_files(&job).await?;
    let fragments = all_fragments(store, &job).await?;
    for update in updates {
        let mut copy = lease.clone();
        let description = format!("{update:?}");
        assert_stale(&description, store.update_task(&mut copy, update, lease.until + LEASE_SETTINGS.duration * 100).await)?;
        assert_eq!(copy, *lease, "{description}");
    }
    for completion in [
        TaskCompletion::Planned(plan_result(9)),
        TaskCompletion::Done,
        TaskCompletion::NextRound(next_round(9, 1)),
        TaskCompletion::JobComplete(after(9)),
    ] {
        assert_stale(&format!("{completion:?}"), store.complete_task(lease, completion).await)?;
    }
    assert_eq!(store.job(&lease.task.job).await?.as_ref(), Some(&job));
    assert_eq!(store.output_files(&job).await?, output_files);
    assert_eq!(all_fragments(store, &job).await?, fragments);
    Ok(())
}
