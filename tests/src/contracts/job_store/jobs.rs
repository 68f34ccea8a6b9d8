//! Jobs, parts, and what is due.

use headrace_core::access::Agent;
use headrace_core::job::task::{Close, Record};
use headrace_core::job::{Job, JobEvent, JobState, Reason, ReasonKind, Step};
use headrace_core::output::file::OutputFileName;
use headrace_core::ports::{DueItem, JobStore, Subject, TaskStore};
use headrace_core::vocab::ids::{JobId, TaskId};

use super::{T0, after, current, is_refused, kind, lease, page, planned, record, running, sample};
use crate::contracts::{BoxError, Held};

/// Every field comes back as it was; an unknown job is none.
pub async fn a_recorded_job_is_read_back_whole(store: &impl TaskStore) -> Held {
    let bare = {
        let mut job = sample(2)?;
        job.request.types = None;
        job.request.since = None;
        job.request.container = None;
        job.requires_access_token = false;
        job
    };
    for job in [sample(1)?, bare] {
        assert_eq!(store.job(&job.id).await?, None);
        record(store, &job).await?;
        assert_eq!(store.job(&job.id).await?, Some(job.clone()));
        let plan = lease(store, &job, 0, T0).await?;
        assert_eq!(plan.job, job);
        let running = store.close_task(&plan, Close::Planned(planned(3))).await?;
        let expected = headrace_core::job::Job { state: JobState::Running, planned: Some(planned(3)), open_tasks: 3, ..job };
        assert_eq!(running, expected);
        assert_eq!(current(store, &expected).await?, expected);
    }
    assert_eq!(store.job(&JobId::from_random([99; 16])).await?, None);
    Ok(())
}

/// A second call, its answer lost, neither fails nor takes the job back to its beginning.
pub async fn recording_a_job_again_changes_nothing(store: &impl TaskStore) -> Held {
    let job = running(store, 1).await?;
    record(store, &sample(1)?).await?;
    assert_eq!(current(store, &job).await?, job);
    is_refused(store, &job, 0, after(1_000)).await?;
    Ok(())
}

/// A job of its own in this state.
async fn in_state(store: &impl TaskStore, n: u8, state: JobState) -> Result<headrace_core::job::Job, BoxError> {
    let job = Job { state: if state == JobState::Queued { state } else { JobState::Accepted }, ..sample(n)? };
    record(store, &job).await?;
    if state == JobState::Queued {
        return current(store, &job).await;
    }
    let plan = lease(store, &job, 0, T0).await?;
    if matches!(state, JobState::Running | JobState::Complete | JobState::Expired) {
        let mut plan = plan;
        store.record(&mut plan, Record::Tasks(vec![(1, headrace_core::job::task::Work::Finish)]), after(60)).await?;
        store.close_task(&plan, Close::Planned(planned(0))).await?;
    }
    if matches!(state, JobState::Complete | JobState::Expired) {
        let finish = lease(store, &job, 1, T0).await?;
        store.close_task(&finish, Close::Finished(after(5))).await?;
    }
    match state {
        JobState::Failed => drop(store.end_job(&job.id, JobEvent::GivenUp, Some(reason("first")), &Agent::service(), after(5)).await?),
        JobState::Cancelled => drop(store.end_job(&job.id, JobEvent::CancelAsked, None, &Agent::service(), after(5)).await?),
        JobState::Expired => drop(store.end_job(&job.id, JobEvent::RetentionOver, None, &Agent::service(), after(6)).await?),
        JobState::Queued | JobState::Accepted | JobState::Running | JobState::Complete => {}
    }
    let job = current(store, &job).await?;
    assert_eq!(job.state, state);
    Ok(job)
}

fn reason(text: &str) -> Reason {
    Reason { kind: ReasonKind::Exhausted, text: text.into() }
}

/// What the table refuses changes nothing; what it allows is recorded with time and reason.
pub async fn a_job_ends_as_the_state_table_says(store: &impl TaskStore) -> Held {
    let mut n = 0;
    for state in JobState::ALL {
        for event in [JobEvent::GivenUp, JobEvent::CancelAsked, JobEvent::RetentionOver] {
            n += 1;
            let before = in_state(store, n, state).await?;
            let given = (event == JobEvent::GivenUp).then(|| reason("second"));
            let step = store.end_job(&before.id, event, given.clone(), &Agent::service(), after(8)).await?;
            assert_eq!(step, state.after(event).ok(), "{state:?} {event:?}");
            let now = current(store, &before).await?;
            match step {
                None | Some(Step::Already) => assert_eq!(now, before),
                Some(Step::To(to)) => {
                    assert_eq!(now.state, to);
                    assert_eq!(now.reason, given.or(before.reason));
                    let ended_at = if to == JobState::Failed { Some(after(8)) } else { before.ended_at };
                    assert_eq!(now.ended_at, ended_at, "{state:?} {event:?}");
                }
            }
        }
    }
    assert_eq!(store.end_job(&JobId::from_random([99; 16]), JobEvent::CancelAsked, None, &Agent::service(), T0).await?, None);
    Ok(())
}

/// A claimed number is no file yet (rule P4).
pub async fn only_written_parts_are_listed(store: &impl TaskStore) -> Held {
    let job = running(store, 2).await?;
    let patient = kind("Patient")?;
    let name = |number| OutputFileName { kind: patient, number };
    let mut first = lease(store, &job, 2, T0).await?;
    let mut second = lease(store, &job, 3, T0).await?;
    store.record(&mut first, Record::Claim(patient), after(60)).await?;
    store.record(&mut second, Record::Claim(patient), after(60)).await?;
    assert_eq!((first.claim, second.claim), (Some(name(1)), Some(name(2))));
    assert!(store.parts(&job.id).await?.is_empty());
    assert_eq!(store.part(&job.id, name(1)).await?, None);
    let written = page(&second, &[], 50);
    store.record(&mut second, Record::Page(written.clone()), after(60)).await?;
    assert_eq!(store.parts(&job.id).await?, Vec::from_iter(written.part));
    assert_eq!(store.part(&job.id, name(2)).await?, written.part);
    let late = page(&first, &[], 60);
    store.record(&mut first, Record::Page(late.clone()), after(60)).await?;
    assert_eq!(store.parts(&job.id).await?, Vec::from_iter(late.part.into_iter().chain(written.part)));
    assert_eq!(store.part(&job.id, name(3)).await?, None);
    assert!(store.parts(&JobId::from_random([99; 16])).await?.is_empty());
    Ok(())
}

async fn due_of(store: &impl JobStore, subject: &Subject, seconds: u64) -> Result<Option<DueItem>, BoxError> {
    let all = store.due(after(seconds), 1_000).await?;
    assert!(all.iter().all(|due| due.at <= after(seconds)));
    assert!(all.is_sorted_by_key(|due| due.at));
    Ok(all.into_iter().find(|due| due.subject == *subject))
}

/// Jobs and tasks come up for a look, the longest overdue first, and only one looker puts each off.
pub async fn what_is_due_is_found_and_put_off_once(store: &impl TaskStore) -> Held {
    let job = sample(1)?;
    record(store, &job).await?;
    let subjects = [Subject::Job(job.id.clone()), Subject::Task(TaskId::plan(&job.id))];
    for subject in &subjects {
        assert_eq!(due_of(store, subject, 0).await?, None);
        let seen = due_of(store, subject, 3_600).await?.ok_or("a recorded job and its plan come up")?;
        assert!(store.put_off(&seen, Some(after(5_000))).await?);
        assert!(!store.put_off(&seen, Some(after(6_000))).await?, "somebody else has moved it");
        assert!(!store.put_off(&seen, None).await?);
        assert_eq!(due_of(store, subject, 4_999).await?, None);
        let again = due_of(store, subject, 5_000).await?;
        assert_eq!(again, Some(DueItem { subject: subject.clone(), at: after(5_000) }));
    }
    for subject in &subjects {
        let seen = due_of(store, subject, 5_000).await?.ok_or("it is due")?;
        assert!(store.put_off(&seen, None).await?);
        assert_eq!(due_of(store, subject, u64::from(u32::MAX)).await?, None);
    }
    // A lease brings its task up again when it runs out, a close never.
    let plan = lease(store, &job, 0, T0).await?;
    assert_eq!(due_of(store, &Subject::Task(TaskId::plan(&job.id)), 60).await?.map(|due| due.at), Some(plan.until));
    store.close_task(&plan, Close::Planned(planned(0))).await?;
    assert_eq!(due_of(store, &Subject::Task(TaskId::plan(&job.id)), u64::from(u32::MAX)).await?, None);
    // An ended job comes up to be swept.
    store.end_job(&job.id, JobEvent::CancelAsked, None, &Agent::service(), after(10)).await?;
    assert!(due_of(store, &Subject::Job(job.id.clone()), 3_600).await?.is_some_and(|due| due.at > after(10)));
    Ok(())
}
