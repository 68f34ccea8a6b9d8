//! `JobStore` and `TaskStore`.

mod jobs;
mod keys;
mod leases;
mod lists;
mod quotas;
mod records;
mod rounds;

use std::time::Duration;

use headrace_core::access::Agent;
use headrace_core::cohort::LeftOut;
use headrace_core::job::task::{Close, Cursor, Encoding, Lease, LeaseAnswer, Page, Pin, Planning, Record, Regroup, Slice, Work};
use headrace_core::job::{Conditions, Job, Limits, Pass, Phase, Planned, Recorded, Tally};
use headrace_core::output::file::{Content, FragmentName, OutputFileName, OutputKind, Part, Tail};
use headrace_core::ports::{JobStore, LeaseSettings, TaskStore};
use headrace_core::request::{Container, ExportRequest};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, TaskId};
use headrace_fhir::{Instant, ResourceType};

use super::{BoxError, Held};

pub use jobs::*;
pub use keys::*;
pub use leases::*;
pub use lists::*;
pub use quotas::*;
pub use records::*;
pub use rounds::*;

/// Runs the suite: `job_store_contract!(name, crate::open)`.
#[macro_export]
macro_rules! job_store_contract {
    ($name:ident, $open:path) => {
        $crate::contract_cases!(
            job_store,
            $name,
            $open,
            [
                a_recorded_job_is_read_back_whole,
                recording_a_job_again_changes_nothing,
                a_job_ends_as_the_state_table_says,
                only_written_parts_are_listed,
                what_is_due_is_found_and_put_off_once,
                a_task_is_leased_when_its_turn_has_come,
                a_lease_keeps_others_away_until_it_runs_out,
                a_restart_of_the_only_process_voids_leases,
                tries_without_progress_are_used_up_and_the_last_fault_is_remembered,
                progress_and_yielding_give_all_tries_back,
                a_fenced_off_attempt_changes_nothing,
                p10_after_a_job_has_ended_nothing_is_recorded,
                what_a_dead_plan_left_behind_is_never_leased,
                p5_files_and_cursor_are_recorded_together_or_not_at_all,
                numbers_have_no_gaps_however_many_claim_at_once,
                a_claim_survives_its_attempt,
                p6_a_task_is_counted_once,
                a_step_that_landed_unanswered_is_not_repeated,
                rounds_of_gathering_come_back_to_the_finish,
                tails_are_listed_by_round_in_order,
                a_round_does_what_its_phase_says_and_a_fresh_one_forgets_what_was_counted,
                what_a_task_has_to_do_can_be_read_again,
                dropped_parts_leave_no_gap_and_their_numbers_are_free_again,
                a_fenced_off_finish_drops_no_parts,
                limits_are_exact_however_many_ask_at_once,
                a_limit_that_is_set_later_counts_what_is_at_work_already,
                every_end_frees_one_place_and_none_frees_two,
                a_job_that_waits_is_nobodys_work_and_ends_without_freeing_a_place,
                a_waiting_job_begins_once_and_only_where_there_is_room,
                those_that_wait_stand_in_line_oldest_first,
                a_clients_own_limit_counts_and_stays_with_a_job_that_waits,
                a_key_starts_one_job_however_often_it_comes,
                a_key_belongs_to_one_caller_and_one_request,
                a_kick_off_that_is_refused_leaves_its_key_unused,
                a_caller_lists_its_own_jobs_newest_first_page_by_page,
                a_cursor_leads_nowhere_but_into_the_callers_own_list,
            ]
        );
    };
}

/// When the sample job was recorded.
const T0: Millis = Millis(1_769_846_400_000);

const TERMS: LeaseSettings = LeaseSettings { length: Duration::from_secs(60), tries: 3, void_before: Millis(0) };

fn after(seconds: u64) -> Millis {
    T0 + Duration::from_secs(seconds)
}

/// A job with something in every field that can be set at its beginning.
fn sample(n: u8) -> Result<Job, BoxError> {
    let types = ["Observation", "Patient"].into_iter().filter_map(ResourceType::named).collect();
    let request = ExportRequest {
        types: Some(types),
        since: Some(Instant::parse("2025-01-01T00:00:00.123456789Z")?),
        container: Container::parse("place-1"),
        ..ExportRequest::default()
    };
    Ok(Job {
        request_url: "https://example.org/fhir/$export?_type=Observation%2CPatient".into(),
        base: "https://example.org/fhir".into(),
        limits: Limits { file_bytes: 5_000_000_000, retention_seconds: 7, deadline_seconds: 11 },
        requires_access_token: true,
        ..Job::accepted(JobId::from_random([n; 16]), Caller("arn:aws:iam::111122223333:user/ß☃".into()), request, T0)
    })
}

/// Records a job without limits and keys.
async fn record(store: &impl JobStore, job: &Job) -> Held {
    assert_eq!(store.record_job(job, &Planning::default(), &Conditions::default(), &Agent::service()).await?, Recorded::Yes);
    Ok(())
}

fn task(job: &Job, task: u32) -> TaskId {
    TaskId { job: job.id.clone(), task }
}

fn kind(name: &str) -> Result<OutputKind, BoxError> {
    Ok(OutputKind::named(name).ok_or("no such kind")?)
}

fn content(n: u64) -> Content {
    Content { bytes: 1_000 + n, lines: n, crc64: u64::MAX - n }
}

fn read_work(n: u32) -> Work {
    let pin = Pin { object: format!("Patient/{n} ß.ndjson"), etag: "\"e-1\"".into(), size: 1 << 40 };
    Work::Read(vec![Slice { pin, encoding: Encoding::Plain, start: 5, end: 1 << 40 }])
}

fn planned(tasks: u32) -> Planned {
    Planned { transaction_time: after(1), tasks, source_bytes: 1 << 50, pass: Pass::Direct, roster: None, left_out: LeftOut::default() }
}

/// A round that gathers.
fn regroup(tasks: u32, round: u32) -> Regroup {
    Regroup { tasks, phase: Phase::Gather, tails_from: round, is_fresh: false }
}

/// The lease that must be given.
async fn lease(store: &impl TaskStore, job: &Job, number: u32, now: Millis) -> Result<Lease, BoxError> {
    match store.lease_task(&task(job, number), TERMS, now).await? {
        LeaseAnswer::Yours(lease) => Ok(*lease),
        other @ (LeaseAnswer::NotNow | LeaseAnswer::Gone | LeaseAnswer::Exhausted(_)) => {
            Err(format!("task {number} was not leased: {other:?}").into())
        }
    }
}

async fn is_refused(store: &impl TaskStore, job: &Job, number: u32, now: Millis) -> Result<LeaseAnswer, BoxError> {
    match store.lease_task(&task(job, number), TERMS, now).await? {
        LeaseAnswer::Yours(lease) => Err(format!("task {number} was leased: {lease:?}").into()),
        refused @ (LeaseAnswer::NotNow | LeaseAnswer::Gone | LeaseAnswer::Exhausted(_)) => Ok(refused),
    }
}

async fn current(store: &impl JobStore, job: &Job) -> Result<Job, BoxError> {
    Ok(store.job(&job.id).await?.ok_or("the job is gone")?)
}

/// A job with so many reading tasks, planned and running.
async fn running(store: &impl TaskStore, tasks: u32) -> Result<Job, BoxError> {
    let job = sample(1)?;
    record(store, &job).await?;
    let mut plan = lease(store, &job, 0, T0).await?;
    let mut work = vec![(1, Work::Finish)];
    work.extend((2..2 + tasks).map(|n| (n, read_work(n))));
    store.record(&mut plan, Record::Tasks(work), after(60)).await?;
    Ok(store.close_task(&plan, Close::Planned(planned(tasks))).await?)
}

fn page(lease: &Lease, tails: &[OutputKind], offset: u64) -> Page {
    let name = |kind| FragmentName { kind, task: lease.task.task, attempt: lease.attempt, step: lease.step };
    let tails = tails.iter().map(|kind| Tail { name: name(*kind), content: content(offset) }).collect();
    let tally = Tally { source_bytes: offset, resources: offset + 1, refused: offset + 2 };
    Page { part: lease.claim.map(|name| Part { name, content: content(offset) }), tails, cursor: Cursor { item: 0, offset }, tally }
}

/// Fails unless somebody else moved it first.
fn must_be_stale<T: std::fmt::Debug>(what: &str, result: Result<T, StoreError>) -> Result<(), BoxError> {
    match result {
        Err(StoreError::Stale) => Ok(()),
        other => Err(format!("{what} must be stale, and is {other:?}").into()),
    }
}

/// Every record and close that there is, tried on copies of a lease that is over: each must be stale and change nothing.
async fn all_must_be_stale(store: &impl TaskStore, lease: &Lease) -> Result<(), BoxError> {
    use headrace_core::job::task::Release;
    let part = Part { name: OutputFileName { kind: kind("Patient")?, number: 1 }, content: content(9) };
    let records = [
        Record::Heartbeat,
        Record::Tasks(vec![(77, read_work(77))]),
        Record::Claim(kind("Patient")?),
        Record::Page(Page { part: Some(part), ..page(lease, &[kind("Observation")?], 9) }),
        Record::Page(page(lease, &[kind("Observation")?], 9)),
        Record::Release(Release::Yield),
        Record::Release(Release::Fault("too late".into())),
    ];
    let job = store.job(&lease.task.job).await?;
    let parts = store.parts(&lease.task.job).await?;
    let tails = store.tails(&lease.task.job, lease.job.round..=lease.job.round).await?;
    for record in records {
        let mut copy = lease.clone();
        let said = format!("{record:?}");
        must_be_stale(&said, store.record(&mut copy, record, lease.until + TERMS.length * 100).await)?;
        assert_eq!(copy, *lease, "{said}");
    }
    for close in [Close::Planned(planned(9)), Close::Done, Close::Regroup(regroup(9, 1)), Close::Finished(after(9))] {
        must_be_stale(&format!("{close:?}"), store.close_task(lease, close).await)?;
    }
    assert_eq!(store.job(&lease.task.job).await?, job);
    assert_eq!(store.parts(&lease.task.job).await?, parts);
    assert_eq!(store.tails(&lease.task.job, lease.job.round..=lease.job.round).await?, tails);
    Ok(())
}
