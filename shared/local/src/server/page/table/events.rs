//! Requests of the page about events that are not delivered.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use headrace_core::events::OutboxEvent;
use headrace_core::job::ExportError;
use headrace_core::ports::{Clock as _, EventOutbox as _};
use headrace_core::request::RequestError;
use headrace_core::vocab::outcome::IssueCode;
use headrace_edge::reply::Reply;
use headrace_edge::system::SystemClock;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{PageTable, json_reply, read_json, respond};

/// The largest number of pending events that are listed.
const MAX_LISTED: u16 = 1_000;

/// The body of a request to send events again.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReplayBody {
    /// The ids of the events. All that are given up, if it is missing.
    ids: Option<Vec<String>>,
}

/// Lists the events that are not delivered.
pub(super) async fn list(State(table): State<Arc<PageTable>>) -> Response {
    respond(list_events(&table).await)
}

/// Delivers events again that were given up.
pub(super) async fn replay(State(table): State<Arc<PageTable>>, request: Request) -> Response {
    respond(replay_events(&table, request).await)
}

/// Returns the events that are still sent, and those that are given up, oldest first.
async fn list_events(table: &PageTable) -> Result<Reply, ExportError> {
    let (pending, undelivered) = (table.store.pending_events(MAX_LISTED).await?, table.store.undelivered_events().await?);
    let pending: Vec<Value> = pending.iter().map(describe).collect();
    let undelivered: Vec<Value> = undelivered.iter().map(describe).collect();
    Ok(json_reply(200, &json!({ "sendsEvents": table.sends_events, "pending": pending, "undelivered": undelivered })))
}

/// Moves events that were given up back to those that are sent.
async fn replay_events(table: &PageTable, request: Request) -> Result<Reply, ExportError> {
    let ReplayBody { ids } = read_json(request).await?;
    let undelivered = table.store.undelivered_events().await?;
    let is_given_up = |id: &&String| undelivered.iter().any(|event| event.event.id() == **id);
    if let Some(unknown) = ids.iter().flatten().find(|id| !is_given_up(id)) {
        let text = format!("the event {unknown} does not wait for a replay: it is delivered, or still sent without one");
        return Err(RequestError::new(409, IssueCode::Conflict, "ids", text).into());
    }
    let is_chosen = |event: &&OutboxEvent| ids.as_ref().is_none_or(|ids| ids.contains(&event.event.id()));
    let mut replayed = 0_u32;
    for event in undelivered.iter().filter(is_chosen) {
        replayed += u32::from(table.store.replay_event(event, SystemClock.now()).await?);
    }
    Ok(json_reply(200, &json!({ "replayed": replayed })))
}

/// Returns an event as the page gets it.
fn describe(event: &OutboxEvent) -> Value {
    json!({
        "id": event.event.id(),
        "at": event.event.at.instant(),
        "state": event.event.state,
        "job": event.event.job,
        "schedule": event.event.schedule.as_ref().map(|schedule| &schedule.name),
        "nextAt": event.next_at().instant(),
        "failures": failures(event),
    })
}

/// Returns the failed deliveries of an event, one entry for each target.
fn failures(event: &OutboxEvent) -> Vec<Value> {
    let failures = event.failures.iter();
    failures
        .map(|(target, failure)| json!({ "target": target.to_string(), "attempts": failure.attempts, "lastError": failure.fault }))
        .collect()
}
