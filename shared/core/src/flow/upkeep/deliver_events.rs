//! Delivers events: at least once, and in order for each export.
//!
//! An event stays in the outbox until every target has accepted it. A process that stops between an acceptance and the removal sends the
//! event again, with the same id. After a failure the later events of the same export wait, and those of others go on.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::events::OutboxEvent;
use crate::ports::{Clock, EventOutbox, EventSender};
use crate::vocab::clock::Millis;
use crate::vocab::error::{BoxError, StoreError};

/// The largest number of events that one run reads.
const MAX_EVENTS: u16 = 1_000;

/// The number of failed deliveries after which a run ends: the target is down, and each failure may take the time limit of a request.
const MAX_FAILURES: u32 = 3;

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
    /// The number of failed deliveries. They are repeated.
    pub failed: u32,
    /// The number of events given up after a day.
    pub undelivered: u32,
}

/// Delivers the events that are due.
pub async fn deliver_events(
    outbox: &impl EventOutbox,
    sender: &impl EventSender,
    clock: &impl Clock,
) -> Result<DeliveredEvents, StoreError> {
    let (mut result, mut waiting) = (DeliveredEvents::default(), BTreeSet::new());
    if sender.targets().is_empty() {
        return Ok(result);
    }
    for mut event in outbox.pending_events(MAX_EVENTS).await? {
        if result.failed == MAX_FAILURES {
            break;
        }
        if waiting.contains(&event.event.job) {
            continue;
        }
        if event.next_at > clock.now() {
            waiting.insert(event.event.job.clone());
            continue;
        }
        let Err(error) = send_to_all(sender, &mut event, clock).await else {
            outbox.remove_event(&event).await?;
            result.delivered += 1;
            continue;
        };
        result.failed += 1;
        let is_given_up = record_failure(outbox, &mut event, &error, clock.now()).await?;
        if is_given_up {
            result.undelivered += 1;
        } else {
            waiting.insert(event.event.job.clone());
        }
    }
    Ok(result)
}

/// Sends an event to the targets that have not accepted it yet, and notes those that do.
async fn send_to_all(sender: &impl EventSender, event: &mut OutboxEvent, clock: &impl Clock) -> Result<(), BoxError> {
    for target in sender.targets() {
        if !event.accepted_by.contains(&target) {
            sender.send(target, &event.event, clock.now()).await?;
            event.accepted_by.insert(target);
        }
    }
    Ok(())
}

/// Delays an event after a failed delivery, or gives it up after a day. Returns true if it is given up.
async fn record_failure(outbox: &impl EventOutbox, event: &mut OutboxEvent, error: &BoxError, now: Millis) -> Result<bool, StoreError> {
    event.attempts = event.attempts.saturating_add(1);
    event.next_at = now + pause_after(event.attempts);
    event.fault = Some(describe(error));
    let (id, attempts) = (event.event.id(), event.attempts);
    if now.since(event.since) < GIVE_UP_AFTER {
        tracing::warn!(event.id = id, attempts, error = %error, "an event was not delivered, it is sent again later");
        outbox.delay_event(event).await?;
        return Ok(false);
    }
    tracing::error!(event.id = id, attempts, error = %error, "an event could not be delivered within a day and is given up");
    outbox.give_up_event(event).await?;
    Ok(true)
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
