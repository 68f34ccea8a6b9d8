//! `headrace events`: lists events that are not delivered, and retries those that could not be delivered within a day.

use headrace_core::events::OutboxEvent;
use headrace_core::ports::{Clock as _, EventOutbox as _};
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
            let undelivered = store.undelivered_events().await?;
            if let Some(unknown) = replay.ids.iter().find(|id| !undelivered.iter().any(|event| event.event.id() == **id)) {
                return Err(EventsCommandError::NotFound(unknown.clone()));
            }
            let mut replayed = 0;
            for event in undelivered.iter().filter(|event| replay.all || replay.ids.contains(&event.event.id())) {
                replayed += u64::from(store.replay_event(event, SystemClock.now()).await?);
            }
            format!("{} delivered again at the next check\n", counted(replayed, "event is", "events are"))
        }
    };
    print_result(&output);
    Ok(())
}

/// Formats events as a table, one per line.
fn format_events(events: &[(&OutboxEvent, &str)]) -> String {
    if events.is_empty() {
        return "all events are delivered\n".to_owned();
    }
    let mut rows = vec![["ID", "TIME", "STATE", "TRIES", "LAST ERROR"].map(str::to_owned)];
    rows.extend(events.iter().map(|(event, state)| {
        let fault = event.fault.clone().unwrap_or_default();
        [event.event.id(), event.event.at.instant(), (*state).to_owned(), event.attempts.to_string(), fault]
    }));
    format_table(&rows)
}

/// Returns an event as JSON.
fn event_json(event: &OutboxEvent, state: &str) -> Value {
    json!({
        "id": event.event.id(),
        "state": state,
        "attempts": event.attempts,
        "nextAt": event.next_at.instant(),
        "lastError": event.fault,
        "event": event.event.payload(),
    })
}
