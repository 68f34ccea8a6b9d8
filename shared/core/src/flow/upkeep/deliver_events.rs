//! Delivers events: at least once, and for each target in order for each export.
//!
//! An event stays in the outbox until every target has accepted it. A process that stops between an acceptance and its record sends the
//! event again, with the same id. After a failure the later events of the same export wait for this target. Other exports and other
//! targets go on.

mod queue;
mod targets;

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Mutex;

use crate::events::{ExportEvent, FailedDelivery};
use crate::ports::{AccessStore, Clock, EventOutbox, EventReceiver, EventSender, JobSecretEncryptor, ScheduleStore};
use crate::vocab::clock::Millis;
use crate::vocab::error::{BoxError, StoreError};

use queue::TargetQueue;
use targets::{PendingEvent, find_targets};

/// The largest number of events that one run reads.
const MAX_EVENTS: u16 = 10_000;

/// The number of failed calls after which a target gets no more events in a run: it is down, and each failure may take the time limit
/// of a request.
const MAX_FAILURES: u32 = 3;

/// The number of targets that get events at the same time.
const CONCURRENT_TARGETS: usize = 8;

/// The time after which a run starts no further call. The next run goes on.
const RUN_LIMIT: Duration = Duration::from_secs(20);

/// The time after which an event counts as undeliverable.
const GIVE_UP_AFTER: Duration = Duration::from_secs(86_400);

/// The pause after the first failed delivery. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(30);

/// The longest pause between two deliveries.
const MAX_PAUSE: Duration = Duration::from_secs(3_600);

/// The result of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DeliveredEvents {
    /// The number of events that all targets have accepted.
    pub delivered: u32,
    /// The number of failed deliveries of an event to a target. They are repeated.
    pub failed: u32,
    /// The number of events that at least one target has not accepted within a day.
    pub undelivered: u32,
}

/// Delivers the events that are due.
pub async fn deliver_events<J>(stores: &J, sender: &impl EventSender, clock: &impl Clock) -> Result<DeliveredEvents, StoreError>
where
    J: EventOutbox + AccessStore + ScheduleStore + JobSecretEncryptor,
{
    let pending = stores.pending_events(MAX_EVENTS).await?;
    let (events, queues) = find_targets(stores, &sender.targets(), pending).await?;
    let progress = Mutex::new(Progress { events, delivered: DeliveredEvents::default() });
    let run = DeliveryRun { stores, sender, clock, started_at: clock.now(), progress };
    run.store_settled_events().await?;
    let mut queues = queues.into_iter();
    let mut deliveries: FuturesUnordered<_> = queues.by_ref().take(CONCURRENT_TARGETS).map(|queue| run.deliver_to(queue)).collect();
    while let Some(result) = deliveries.next().await {
        result?;
        deliveries.extend(queues.next().map(|queue| run.deliver_to(queue)));
    }
    drop(deliveries);
    Ok(run.progress.into_inner().delivered)
}

/// The events of a run, and what was done with them so far.
struct Progress {
    events: Vec<PendingEvent>,
    delivered: DeliveredEvents,
}

/// A run of deliveries. Targets get events at the same time, and the outbox is written by one of them at a time.
struct DeliveryRun<'a, J, E, C> {
    stores: &'a J,
    sender: &'a E,
    clock: &'a C,
    started_at: Millis,
    progress: Mutex<Progress>,
}

impl<J: EventOutbox + JobSecretEncryptor, E: EventSender, C: Clock> DeliveryRun<'_, J, E, C> {
    /// Removes the events that no target is to get: a process has stopped after the last acceptance, or the target was removed.
    async fn store_settled_events(&self) -> Result<(), StoreError> {
        let mut progress = self.progress.lock().await;
        let Progress { events, delivered } = &mut *progress;
        for pending in events.iter().filter(|pending| !pending.is_awaited()) {
            if pending.targets.is_empty() && !pending.outbox.is_given_up() {
                tracing::warn!(event.id = pending.outbox.event.id(), "an event has no target any more and is dropped");
                self.stores.remove_event(&pending.outbox).await?;
            } else {
                self.store(pending, delivered).await?;
            }
        }
        Ok(())
    }

    /// Delivers the events of one target until none is due, the target is down, or the time of the run is over.
    async fn deliver_to(&self, mut queue: TargetQueue) -> Result<(), StoreError> {
        let mut receiver = None;
        while queue.failures < MAX_FAILURES && self.clock.now().since(self.started_at) < RUN_LIMIT {
            let batch = {
                let progress = self.progress.lock().await;
                queue.next_batch(&progress.events, self.clock.now())
            };
            if batch.is_empty() {
                break;
            }
            let (indexes, events): (Vec<usize>, Vec<ExportEvent>) = batch.into_iter().unzip();
            let results = self.send(&queue, &mut receiver, &events).await;
            queue.failures += u32::from(results.iter().any(Result::is_err));
            for (index, result) in indexes.into_iter().zip(results) {
                self.record(&mut queue, index, result).await?;
            }
        }
        Ok(())
    }

    /// Sends events to the target of a queue. Returns the result of each, with a description of its error. The secret of a registered
    /// webhook is decrypted for the first events, and kept in `receiver`.
    async fn send(&self, queue: &TargetQueue, receiver: &mut Option<EventReceiver>, events: &[ExportEvent]) -> Vec<Result<(), String>> {
        let sent = match queue.find_receiver(self.stores, receiver).await {
            Ok(receiver) => self.sender.send(receiver, events, self.clock.now()).await,
            Err(error) => Err(error.into()),
        };
        match sent {
            Ok(results) => {
                let mut results = results.into_iter().map(|result| result.map_err(|error| describe(&error)));
                let missing = || Err("the answer has no result of the event".to_owned());
                events.iter().map(|_| results.next().unwrap_or_else(missing)).collect()
            }
            Err(error) => vec![Err(describe(&error)); events.len()],
        }
    }

    /// Records the result of a delivery.
    async fn record(&self, queue: &mut TargetQueue, index: usize, result: Result<(), String>) -> Result<(), StoreError> {
        let mut progress = self.progress.lock().await;
        let Progress { events, delivered } = &mut *progress;
        let Some(pending) = events.get_mut(index) else { return Ok(()) };
        match result {
            Ok(()) => pending.outbox.accept(&queue.target),
            Err(fault) => {
                delivered.failed += 1;
                let failure = failed_again(pending, queue, fault, self.clock.now());
                if !failure.is_given_up {
                    queue.held_back.insert(pending.outbox.event.job.clone());
                }
                pending.outbox.failures.insert(queue.target.clone(), failure);
            }
        }
        self.store(pending, delivered).await
    }

    /// Stores the results of an event: removes it if it is delivered, and moves it if it is given up.
    async fn store(&self, pending: &PendingEvent, delivered: &mut DeliveredEvents) -> Result<(), StoreError> {
        if pending.is_awaited() {
            return self.stores.update_event(&pending.outbox).await;
        }
        if pending.outbox.is_given_up() {
            delivered.undelivered += 1;
            return self.stores.give_up_event(&pending.outbox).await;
        }
        delivered.delivered += 1;
        self.stores.remove_event(&pending.outbox).await
    }
}

/// Returns the failure of a target after one more failed delivery, and logs it. After a day the event is given up for the target.
fn failed_again(pending: &PendingEvent, queue: &TargetQueue, fault: String, now: Millis) -> FailedDelivery {
    let (event, target) = (&pending.outbox, &queue.target);
    let attempts = event.failures.get(target).map_or(0, |failure| failure.attempts).saturating_add(1);
    let is_given_up = now.since(event.since) >= GIVE_UP_AFTER;
    let id = event.event.id();
    if is_given_up {
        tracing::error!(event.id = id, %target, attempts, fault, "an event could not be delivered within a day and is given up");
    } else {
        tracing::warn!(event.id = id, %target, attempts, fault, "an event was not delivered, it is sent again later");
    }
    FailedDelivery { attempts, next_at: now + pause_after(attempts), fault, is_given_up }
}

/// Returns the pause after this number of failed deliveries.
fn pause_after(attempts: u32) -> Duration {
    crate::vocab::back_off::doubled_pause(FIRST_PAUSE, attempts.saturating_sub(1), MAX_PAUSE)
}

/// Describes an error for the operator, with its causes.
fn describe(error: &BoxError) -> String {
    crate::vocab::error::error_chain(&**error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        let seconds = |attempts| pause_after(attempts).as_secs();
        assert_eq!([1, 2, 3, 7, 8, 9, 200].map(seconds), [30, 60, 120, 1_920, 3_600, 3_600, 3_600]);
    }
}
