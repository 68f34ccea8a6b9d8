//! Contract of `EventOutbox`, and of the events that the job store writes.

use headrace_core::access::Agent;
use headrace_core::events::{EventState, EventTarget, FailedDelivery, OutboxEvent};
use headrace_core::job::task::PlanInput;
use headrace_core::job::{FailureKind, FailureReason, Job, JobEvent, RecordConditions, RecordOutcome};
use headrace_core::ports::{EventOutbox, JobStore};
use headrace_core::request::ExportRequest;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{Caller, JobId};

use super::{BoxError, CaseResult};

/// Runs the suite: `event_outbox_contract!(name, crate::open)`. The store must write events.
#[macro_export]
macro_rules! event_outbox_contract {
    ($name:ident, $open:path) => {
        $crate::contract_cases!(
            event_outbox,
            $name,
            $open,
            [
                a_move_writes_its_event_once,
                events_are_listed_in_the_order_of_the_moves,
                a_delayed_event_keeps_its_place,
                an_event_that_is_given_up_can_be_replayed_once,
            ]
        );
    };
}

/// Creates the `n`th job, accepted at this time.
fn job(n: u8, at: u64) -> Job {
    Job::accepted(JobId::from_random([n; 16]), Caller("lab".to_owned()), ExportRequest::default(), Millis(at))
}

/// Records a job.
async fn record(store: &impl JobStore, job: &Job) -> CaseResult {
    let recorded = store.record_job(job, &PlanInput::default(), &RecordConditions::default(), &Agent::service()).await?;
    assert_eq!(recorded, RecordOutcome::Recorded);
    Ok(())
}

/// Returns the ids of all events that are not delivered.
async fn pending(store: &impl EventOutbox) -> Result<Vec<String>, BoxError> {
    Ok(store.pending_events(100).await?.iter().map(|event| event.event.id()).collect())
}

/// Returns the first event.
async fn first(store: &impl EventOutbox) -> Result<OutboxEvent, BoxError> {
    Ok(store.pending_events(1).await?.into_iter().next().ok_or("no event")?)
}

/// Checks that a repeated call writes no second event, and that an event has the reason of a failure.
pub async fn a_move_writes_its_event_once(store: &(impl JobStore + EventOutbox)) -> CaseResult {
    let job = job(1, 5);
    record(store, &job).await?;
    record(store, &job).await?;
    let reason = FailureReason { kind: FailureKind::Deadline, text: "too late".to_owned() };
    for _ in 0..2 {
        store.end_job(&job.id, JobEvent::Failed, Some(reason.clone()), &Agent::service(), Millis(9)).await?;
    }
    let events = store.pending_events(100).await?;
    let states: Vec<EventState> = events.iter().map(|event| event.event.state).collect();
    assert_eq!(states, [EventState::Accepted, EventState::Failed]);
    assert_eq!(events.last().and_then(|event| event.event.reason.clone()), Some(reason));
    Ok(())
}

/// Checks the order of events of two jobs, also if the clock of the second move is behind that of the first.
pub async fn events_are_listed_in_the_order_of_the_moves(store: &(impl JobStore + EventOutbox)) -> CaseResult {
    let (one, two) = (job(1, 100), job(2, 50));
    record(store, &one).await?;
    record(store, &two).await?;
    store.end_job(&one.id, JobEvent::CancelRequested, None, &Agent::service(), Millis(70)).await?;
    let expected = [format!("{}-accepted", two.id), format!("{}-accepted", one.id), format!("{}-cancelled", one.id)];
    assert_eq!(pending(store).await?, expected);
    assert_eq!(store.pending_events(2).await?.len(), 2);
    Ok(())
}

/// Checks that the result of a failed delivery is stored, and that a delivered event is removed.
pub async fn a_delayed_event_keeps_its_place(store: &(impl JobStore + EventOutbox)) -> CaseResult {
    record(store, &job(1, 5)).await?;
    record(store, &job(2, 6)).await?;
    let mut event = first(store).await?;
    let failure = FailedDelivery { attempts: 3, next_at: Millis(1_000_000), fault: "status 500".to_owned(), is_given_up: false };
    event.failures.insert(EventTarget::ClientWebhook(Caller("lab".to_owned())), failure);
    event.accept(&EventTarget::Webhook);
    store.update_event(&event).await?;
    assert_eq!(first(store).await?, event);
    store.remove_event(&event).await?;
    store.remove_event(&event).await?;
    assert_eq!(pending(store).await?, [format!("{}-accepted", job(2, 6).id)]);
    Ok(())
}

/// Checks that an event is in one of the two lists.
pub async fn an_event_that_is_given_up_can_be_replayed_once(store: &(impl JobStore + EventOutbox)) -> CaseResult {
    record(store, &job(1, 5)).await?;
    let mut event = first(store).await?;
    event.accept(&EventTarget::EventBus);
    let failure = FailedDelivery { attempts: 9, next_at: Millis(8), fault: "status 500".to_owned(), is_given_up: true };
    event.failures.insert(EventTarget::Webhook, failure);
    store.give_up_event(&event).await?;
    assert_eq!((store.pending_events(10).await?.len(), store.undelivered_events().await?), (0, vec![event.clone()]));
    assert!(store.replay_event(&event, Millis(77)).await?);
    assert!(!store.replay_event(&event, Millis(78)).await?);
    let replayed = first(store).await?;
    assert_eq!((replayed.event, replayed.since, replayed.failures.len()), (event.event, Millis(77), 0));
    assert_eq!(replayed.accepted_by, event.accepted_by);
    assert_eq!(store.undelivered_events().await?, []);
    Ok(())
}
