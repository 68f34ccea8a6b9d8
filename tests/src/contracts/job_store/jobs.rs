//! Jobs, output files and due items.

use headrace_core::access::Agent;
use headrace_core::job::file::OutputFileName;
use headrace_core::job::task::{TaskCompletion, TaskUpdate};
use headrace_core::job::{FailureKind, FailureReason, Job, JobEvent, JobState, Transition};
use headrace_core::ports::{DueItem, DueSubject, JobStore, TaskStore};
use headrace_core::vocab::ids::{JobId, TaskId};

use super::{T0, after, checkpoint, kind, lease, lease_refusal, plan_result, record_job, reload, running_job, sample_job};
use crate::contracts::{BoxError, CaseResult};

/// Checks that every field of a job is stored, and that an unknown job is not found.
pub async fn a_recorded_job_is_read_back_unchanged(store: &impl TaskStore) -> CaseResult {
    let bare = {
        let mut job = sample_job(2)?;
        job.request.types = None;
        job.request.since = None;
        job.request.container = None;
        job.requires_access_token = false;
        job
    };
    for job in [sample_job(1)?, bare] {
        assert_eq!(store.job(&job.id).await?, None);
        record_job(store, &job).await?;
        assert_eq!(store.job(&job.id).await?, Some(job.clone()));
        let plan = lease(store, &job, 0, T0).await?;
        assert_eq!(plan.job, job);
        let running = store.complete_task(&plan, TaskCompletion::Planned(plan_result(3))).await?;
        let expected = headrace_core::job::Job { state: JobState::Running, planned: Some(plan_result(3)), open_tasks: 3, ..job };
        assert_eq!(running, expected);
        assert_eq!(reload(store, &expected).await?, expected);
    }
    assert_eq!(store.job(&JobId::from_random([99; 16])).await?, None);
    Ok(())
}

/// Checks that a repeated call, as after a lost response, neither fails nor resets the job.
pub async fn recording_a_job_again_changes_nothing(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 1).await?;
    record_job(store, &sample_job(1)?).await?;
    assert_eq!(reload(store, &job).await?, job);
    lease_refusal(store, &job, 0, after(1_000)).await?;
    Ok(())
}

/// Creates the `n`th job and brings it into this state.
async fn job_in_state(store: &impl TaskStore, n: u8, state: JobState) -> Result<headrace_core::job::Job, BoxError> {
    let job = Job { state: if state == JobState::Queued { state } else { JobState::Accepted }, ..sample_job(n)? };
    record_job(store, &job).await?;
    if state == JobState::Queued {
        return reload(store, &job).await;
    }
    let plan = lease(store, &job, 0, T0).await?;
    if matches!(state, JobState::Running | JobState::Complete | JobState::Expired) {
        let mut plan = plan;
        store.update_task(&mut plan, TaskUpdate::AddTasks(vec![(1, headrace_core::job::task::Work::Finalize)]), after(60)).await?;
        store.complete_task(&plan, TaskCompletion::Planned(plan_result(0))).await?;
    }
    if matches!(state, JobState::Complete | JobState::Expired) {
        let finalize = lease(store, &job, 1, T0).await?;
        store.complete_task(&finalize, TaskCompletion::JobComplete(after(5))).await?;
    }
    match state {
        JobState::Failed => drop(store.end_job(&job.id, JobEvent::Failed, Some(reason("first")), &Agent::service(), after(5)).await?),
        JobState::Cancelled => drop(store.end_job(&job.id, JobEvent::CancelRequested, None, &Agent::service(), after(5)).await?),
        JobState::Expired => drop(store.end_job(&job.id, JobEvent::RetentionExpired, None, &Agent::service(), after(6)).await?),
        JobState::Queued | JobState::Accepted | JobState::Running | JobState::Complete => {}
    }
    let job = reload(store, &job).await?;
    assert_eq!(job.state, state);
    Ok(job)
}

/// Returns a failure reason with this text.
fn reason(text: &str) -> FailureReason {
    FailureReason { kind: FailureKind::Exhausted, text: text.into() }
}

/// Checks that forbidden transitions change nothing, and that allowed ones are recorded with time and reason.
pub async fn a_job_ends_according_to_the_state_table(store: &impl TaskStore) -> CaseResult {
    let mut n = 0;
    for state in JobState::ALL {
        for event in [JobEvent::Failed, JobEvent::CancelRequested, JobEvent::RetentionExpired] {
            n += 1;
            let before = job_in_state(store, n, state).await?;
            let given = (event == JobEvent::Failed).then(|| reason("second"));
            let step = store.end_job(&before.id, event, given.clone(), &Agent::service(), after(8)).await?;
            assert_eq!(step, state.transition(event).ok(), "{state:?} {event:?}");
            let now = reload(store, &before).await?;
            match step {
                None | Some(Transition::AlreadyDone) => assert_eq!(now, before),
                Some(Transition::To(to)) => {
                    assert_eq!(now.state, to);
                    assert_eq!(now.reason, given.or(before.reason));
                    let ended_at = if to == JobState::Failed { Some(after(8)) } else { before.ended_at };
                    assert_eq!(now.ended_at, ended_at, "{state:?} {event:?}");
                }
            }
        }
    }
    assert_eq!(store.end_job(&JobId::from_random([99; 16]), JobEvent::CancelRequested, None, &Agent::service(), T0).await?, None);
    Ok(())
}

/// Checks that a reserved file number is not listed before its file is written (rule P4).
pub async fn only_written_output_files_are_listed(store: &impl TaskStore) -> CaseResult {
    let job = running_job(store, 2).await?;
    let patient = kind("Patient")?;
    let name = |number| OutputFileName { kind: patient, number };
    let mut first = lease(store, &job, 2, T0).await?;
    let mut second = lease(store, &job, 3, T0).await?;
    store.update_task(&mut first, TaskUpdate::ReserveFiles(vec![patient]), after(60)).await?;
    store.update_task(&mut second, TaskUpdate::ReserveFiles(vec![patient]), after(60)).await?;
    assert_eq!((&first.reserved_files, &second.reserved_files), (&vec![name(1)], &vec![name(2)]));
    assert!(store.output_files(&job).await?.is_empty());
    assert_eq!(store.output_file(&job, name(1)).await?, None);
    let written = checkpoint(&second, &[], 50);
    store.update_task(&mut second, TaskUpdate::Checkpoint(written.clone()), after(60)).await?;
    assert_eq!(store.output_files(&job).await?, written.output_files);
    assert_eq!(store.output_file(&job, name(2)).await?, written.output_files.first().copied());
    let late = checkpoint(&first, &[], 60);
    store.update_task(&mut first, TaskUpdate::Checkpoint(late.clone()), after(60)).await?;
    assert_eq!(store.output_files(&job).await?, [late.output_files, written.output_files].concat());
    assert_eq!(store.output_file(&job, name(3)).await?, None);
    assert!(store.output_files(&sample_job(99)?).await?.is_empty());
    Ok(())
}

/// Returns the item of a job or task that is due `seconds` after [`T0`], and checks the order of all due items.
async fn find_due(store: &impl JobStore, subject: &DueSubject, seconds: u64) -> Result<Option<DueItem>, BoxError> {
    let all = store.due(after(seconds), 1_000).await?;
    assert!(all.iter().all(|due| due.due_at <= after(seconds)));
    assert!(all.is_sorted_by_key(|due| due.due_at));
    Ok(all.into_iter().find(|due| due.subject == *subject))
}

/// Checks that due jobs and tasks are listed, longest overdue first, and that only one of two callers can postpone an item.
pub async fn due_items_are_found_and_postponed_only_once(store: &impl TaskStore) -> CaseResult {
    let job = sample_job(1)?;
    record_job(store, &job).await?;
    let subjects = [DueSubject::Job(job.id.clone()), DueSubject::Task(TaskId::plan(&job.id))];
    for subject in &subjects {
        assert_eq!(find_due(store, subject, 0).await?, None);
        let seen = find_due(store, subject, 3_600).await?.ok_or("a recorded job and its plan come up")?;
        assert!(store.postpone(&seen, Some(after(5_000))).await?);
        assert!(!store.postpone(&seen, Some(after(6_000))).await?, "another caller has postponed it");
        assert!(!store.postpone(&seen, None).await?);
        assert_eq!(find_due(store, subject, 4_999).await?, None);
        let again = find_due(store, subject, 5_000).await?;
        assert_eq!(again, Some(DueItem { subject: subject.clone(), due_at: after(5_000) }));
    }
    for subject in &subjects {
        let seen = find_due(store, subject, 5_000).await?.ok_or("it is due")?;
        assert!(store.postpone(&seen, None).await?);
        assert_eq!(find_due(store, subject, u64::from(u32::MAX)).await?, None);
    }
    // A leased task is due when the lease expires. A closed task is never due.
    let plan = lease(store, &job, 0, T0).await?;
    assert_eq!(find_due(store, &DueSubject::Task(TaskId::plan(&job.id)), 60).await?.map(|due| due.due_at), Some(plan.until));
    store.complete_task(&plan, TaskCompletion::Planned(plan_result(0))).await?;
    assert_eq!(find_due(store, &DueSubject::Task(TaskId::plan(&job.id)), u64::from(u32::MAX)).await?, None);
    // An ended job becomes due for the removal of its leftover files.
    store.end_job(&job.id, JobEvent::CancelRequested, None, &Agent::service(), after(10)).await?;
    assert!(find_due(store, &DueSubject::Job(job.id.clone()), 3_600).await?.is_some_and(|due| due.due_at > after(10)));
    Ok(())
}

/// Checks that the position of a sweep is recorded with the time of the next check, by one of several callers, and forgotten at the end of the
/// sweep and when the job moves.
pub async fn a_sweep_goes_on_at_its_position_until_the_job_moves(store: &impl TaskStore) -> CaseResult {
    let job = job_in_state(store, 1, JobState::Complete).await?;
    let subject = DueSubject::Job(job.id.clone());
    let position = async || Ok::<_, BoxError>(reload(store, &job).await?.swept_to);
    let due = async |seconds| Ok::<_, BoxError>(find_due(store, &subject, seconds).await?.ok_or("the job is not due")?);
    let first = due(3_600).await?;
    assert_eq!(position().await?, None);
    assert!(store.record_sweep(&first, Some("Patient-7.ndjson"), Some(after(400))).await?);
    assert_eq!(position().await?.as_deref(), Some("Patient-7.ndjson"));
    assert!(!store.record_sweep(&first, Some("Patient-9.ndjson"), Some(after(500))).await?, "another caller goes on with the sweep");
    assert!(!store.record_sweep(&first, None, None).await?);
    let second = due(400).await?;
    assert!(store.record_sweep(&second, Some("_fragments/000002-1-1-Patient.ndjson"), Some(after(500))).await?);
    // A postponed job keeps its position, and a swept one has none.
    assert!(store.postpone(&due(500).await?, Some(after(600))).await?);
    assert_eq!(position().await?.as_deref(), Some("_fragments/000002-1-1-Patient.ndjson"));
    assert!(store.record_sweep(&due(600).await?, None, Some(after(700))).await?);
    assert_eq!((position().await?, due(700).await?.due_at), (None, after(700)));
    // An end needs a sweep from the start of the folder.
    assert!(store.record_sweep(&due(700).await?, Some("Patient-7.ndjson"), Some(after(800))).await?);
    let swept = due(800).await?;
    let cancelled = store.end_job(&job.id, JobEvent::CancelRequested, None, &Agent::service(), after(900)).await?;
    assert_eq!((cancelled, position().await?), (Some(Transition::To(JobState::Cancelled)), None));
    assert!(!store.record_sweep(&swept, Some("Patient-8.ndjson"), None).await?);
    assert!(store.record_sweep(&due(u64::from(u32::MAX)).await?, None, None).await?);
    assert_eq!(find_due(store, &subject, u64::from(u32::MAX)).await?, None);
    Ok(())
}
