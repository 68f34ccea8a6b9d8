//! `headrace events`: lists events that are not delivered, and delivers those again that could not be delivered within a day.

use headrace_aws::DynamoJobStore;
use headrace_core::events::OutboxEvent;
use headrace_core::ports::{Clock as _, EventOutbox as _};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::plural::counted;
use headrace_edge::system::SystemClock;
use serde_json::{Value, json};

use crate::cli::{EventsArgs, EventsCommand, RegistryLocation};
use crate::commands::table::format_table;
use crate::server::state::{StateError, StateFolder};
use crate::stores::deployment::{self, DeploymentError};
use crate::terminal::{print_result, printable_json};

/// The largest number of pending events that are listed.
const MAX_LISTED: u16 = 1_000;

/// Failure of `headrace events`.
#[derive(Debug, thiserror::Error)]
pub enum EventsCommandError {
    /// The event is not among those that could not be delivered.
    #[error("no event `{0}` waits for a replay; `headrace events list` lists them")]
    NotFound(String),
    /// The state folder cannot be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// A deployment on AWS cannot be accessed.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
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
            let store = open_existing_store(&list.registry).await?;
            let (pending, undelivered) = (store.pending_events(MAX_LISTED).await?, store.undelivered_events().await?);
            let events = pending.iter().map(|event| (event, "pending")).chain(undelivered.iter().map(|event| (event, "undelivered")));
            if list.json {
                let events: Vec<Value> = events.map(|(event, state)| event_json(event, state)).collect();
                printable_json(&serde_json::to_string_pretty(&events)?).into_owned() + "\n"
            } else {
                format_events(&events.collect::<Vec<_>>())
            }
        }
        EventsCommand::Replay(replay) => {
            let store = open_existing_store(&replay.registry).await?;
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

/// Opens the events of an existing state folder, so that a mistyped path does not create an empty one.
async fn open_existing_store(registry: &RegistryLocation) -> Result<DynamoJobStore, EventsCommandError> {
    match &registry.table {
        Some(table) => Ok(deployment::job_table(table).await?),
        None => Ok(StateFolder::open_existing(&registry.state).await?.jobs),
    }
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
