//! `headrace events`: lists events that are not delivered, and retries those that could not be delivered within a day.

use headrace_core::events::OutboxEvent;
use headrace_core::ports::{Clock as _, EventOutbox as _};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::plural::counted;
use headrace_edge::system::SystemClock;
use serde_json::{Value, json};

use crate::cli::{EventsArgs, EventsCommand};
use crate::commands::job_table::{JobTableError, open_existing_job_table};
use crate::commands::table::format_table;
use crate::terminal::{json_text, print_result};

/// The largest number of pending events that are listed.
const MAX_LISTED: u16 = 1_000;

/// Failure of `headrace events`.
#[derive(Debug, thiserror::Error)]
pub enum EventsCommandError {
    /// The event is not among those that could not be delivered.
    #[error("no event `{0}` waits for a replay; `headrace events list` lists them")]
    NotFound(String),
    /// The event is still being sent.
    #[error(
        "the event `{id}` is still being retried by itself, next at {next_at}; only events that are given up after a day need a replay"
    )]
    StillPending {
        /// The id of the event.
        id: String,
        /// The time of the next attempt.
        next_at: Millis,
    },
    /// The job table cannot be opened.
    #[error(transparent)]
    JobTable(#[from] JobTableError),
    /// The job table failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The events cannot be serialized.
    #[error("the events cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Runs `headrace events` and prints its result.
pub async fn run_events(args: &EventsArgs) -> Result<(), EventsCommandError> {
    let output = match &args.command {
        EventsCommand::List(list) => {
            let store = open_existing_job_table(&list.registry).await?;
            let (pending, undelivered) = (store.pending_events(MAX_LISTED).await?, store.undelivered_events().await?);
            let events = pending.iter().map(|event| (event, "pending")).chain(undelivered.iter().map(|event| (event, "undelivered")));
            if list.json {
                let events: Vec<Value> = events.map(|(event, state)| event_json(event, state)).collect();
                json_text(&events)?
            } else {
                format_events(&events.collect::<Vec<_>>())
            }
        }
        EventsCommand::Replay(replay) => {
            let store = open_existing_job_table(&replay.registry).await?;
            let (pending, undelivered) = (store.pending_events(MAX_LISTED).await?, store.undelivered_events().await?);
            if let Some(unknown) = replay.ids.iter().find(|id| !undelivered.iter().any(|event| event.event.id() == **id)) {
                let pending = pending.iter().find(|event| event.event.id() == *unknown);
                return Err(pending.map_or_else(
                    || EventsCommandError::NotFound(unknown.clone()),
                    |event| EventsCommandError::StillPending { id: unknown.clone(), next_at: event.next_at() },
                ));
            }
            let mut replayed = 0;
            for event in undelivered.iter().filter(|event| replay.all || replay.ids.contains(&event.event.id())) {
                replayed += u64::from(store.replay_event(event, SystemClock.now()).await?);
            }
            let next_at = pending.iter().map(OutboxEvent::next_at).min();
            describe_replay(replayed, pending.len() as u64, next_at)
        }
    };
    print_result(&output);
    Ok(())
}

/// Describes a replay, and the events that need none, because the server still retries them.
fn describe_replay(replayed: u64, pending: u64, next_at: Option<Millis>) -> String {
    let pending = next_at.map(|next_at| {
        let events = counted(pending, "event is", "events are");
        format!("{events} still being retried, and left alone; next at {next_at}\n")
    });
    match (replayed, pending) {
        (0, None) => "no event waits for a replay: all are delivered\n".to_owned(),
        (0, Some(pending)) => pending,
        (_, pending) => {
            format!("{} delivered again at the next check\n{}", counted(replayed, "event is", "events are"), pending.unwrap_or_default())
        }
    }
}

/// Formats events as a table, with a line for each target that has not accepted an event.
fn format_events(events: &[(&OutboxEvent, &str)]) -> String {
    if events.is_empty() {
        return "all events are delivered\n".to_owned();
    }
    let mut rows = vec![["ID", "TIME", "STATE", "TARGET", "TRIES", "LAST ERROR"].map(str::to_owned)];
    for (event, state) in events {
        let row = |target: String, tries: u32, fault: String| {
            [event.event.id(), event.event.at.instant(), (*state).to_owned(), target, tries.to_string(), fault]
        };
        if event.failures.is_empty() {
            rows.push(row("-".to_owned(), 0, String::new()));
        }
        rows.extend(event.failures.iter().map(|(target, failure)| row(target.to_string(), failure.attempts, failure.fault.clone())));
    }
    format_table(&rows)
}

/// Returns an event as JSON.
fn event_json(event: &OutboxEvent, state: &str) -> Value {
    let failures = event.failures.iter().map(|(target, failure)| {
        json!({
            "target": target.to_string(),
            "attempts": failure.attempts,
            "nextAt": failure.next_at.instant(),
            "lastError": failure.fault,
            "givenUp": failure.is_given_up,
        })
    });
    let failures: Vec<Value> = failures.collect();
    json!({
        "id": event.event.id(),
        "state": state,
        "nextAt": event.next_at().instant(),
        "acceptedBy": event.accepted_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "failures": failures,
        "event": event.event.payload(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_says_what_is_retried_without_it() {
        let next_at = Some(Millis(1_769_846_400_000));
        let retried = "5 events are still being retried, and left alone; next at 2026-01-31T08:00:00.000Z\n";
        assert_eq!(describe_replay(0, 5, next_at), retried);
        assert_eq!(describe_replay(1, 5, next_at), format!("1 event is delivered again at the next check\n{retried}"));
        assert_eq!(describe_replay(2, 0, None), "2 events are delivered again at the next check\n");
        assert_eq!(describe_replay(0, 0, None), "no event waits for a replay: all are delivered\n");
    }
}
