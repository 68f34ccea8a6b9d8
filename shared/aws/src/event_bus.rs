//! Puts events on a bus of EventBridge.

use std::ops::Range;
use std::sync::Arc;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::{PutEventsRequestEntry, PutEventsResultEntry};
use headrace_core::events::ExportEvent;
use headrace_core::ports::{EventBus, EventResults};
use headrace_core::vocab::error::{BoxError, StoreError};
use headrace_core::vocab::setting::Setting;
use serde_json::Value;

use crate::errors::Service;

/// The source of every event.
pub const EVENT_SOURCE: &str = "headrace";

/// The detail type of every event. The state is in the detail.
pub const EVENT_DETAIL_TYPE: &str = "Export State Change";

/// The name of the bus in errors.
const STORE: &str = "the event bus";

/// The largest number of entries in one call.
const MAX_ENTRIES: usize = 10;

/// The largest size of the entries of one call, in bytes, as AWS counts them.
const MAX_CALL_BYTES: usize = 256 << 10;

/// The bytes that the time of an entry counts for.
const TIME_BYTES: usize = 14;

/// A bus of EventBridge.
#[derive(Clone, Debug)]
pub struct EventBridgeBus {
    client: Client,
    service: Service,
}

/// The error for an event that the bus has rejected, by the code of AWS.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct RejectedEvent(String);

/// The error for an event whose call has failed. All events of the call share the cause.
#[derive(Debug, thiserror::Error)]
#[error("the call to the event bus has failed")]
struct FailedCall(#[source] Arc<StoreError>);

impl EventBridgeBus {
    /// Creates a client of the bus with this name or ARN.
    pub fn new(client: Client, bus: impl Into<String>) -> Self {
        Self { client, service: Service::new(STORE, Setting::EventBusName.as_str(), bus) }
    }

    /// Returns an event as an entry. EventBridge gives an entry a new id at each call, so the stable id is in the detail.
    fn entry(&self, event: &ExportEvent) -> PutEventsRequestEntry {
        let mut detail = event.detail();
        if let Some(members) = detail.as_object_mut() {
            members.insert("id".to_owned(), Value::from(event.id()));
        }
        let time = DateTime::from_millis(i64::try_from(event.at.0).unwrap_or(i64::MAX));
        let entry = PutEventsRequestEntry::builder().event_bus_name(&self.service.value).source(EVENT_SOURCE);
        entry.detail_type(EVENT_DETAIL_TYPE).time(time).detail(detail.to_string()).build()
    }

    /// Makes one call. Returns the result of each entry.
    async fn put(&self, entries: &[PutEventsRequestEntry]) -> EventResults {
        match self.client.put_events().set_entries(Some(entries.to_vec())).send().await {
            // The call succeeds although entries are rejected. The results are in the order of the entries.
            Ok(answer) => {
                let mut results = answer.entries().iter().map(|result| self.entry_result(result));
                let missing = || Err(RejectedEvent("the answer has no result of the event".to_owned()).into());
                entries.iter().map(|_| results.next().unwrap_or_else(missing)).collect()
            }
            Err(error) => {
                let error = Arc::new(self.service.store_error(error));
                entries.iter().map(|_| Err(FailedCall(Arc::clone(&error)).into())).collect()
            }
        }
    }

    /// Returns the result of one entry.
    fn entry_result(&self, result: &PutEventsResultEntry) -> Result<(), BoxError> {
        match result.error_code() {
            None => Ok(()),
            Some(code) => Err(self.service.store_error_from_code(code, RejectedEvent(code.to_owned()).into()).into()),
        }
    }
}

impl EventBus for EventBridgeBus {
    async fn put_events(&self, events: &[ExportEvent]) -> Result<EventResults, BoxError> {
        let entries: Vec<PutEventsRequestEntry> = events.iter().map(|event| self.entry(event)).collect();
        let mut results = Vec::with_capacity(entries.len());
        for call in calls(&entries.iter().map(entry_bytes).collect::<Vec<_>>()) {
            results.extend(self.put(entries.get(call).unwrap_or_default()).await);
        }
        Ok(results)
    }
}

/// Returns the size of an entry, as AWS counts it.
fn entry_bytes(entry: &PutEventsRequestEntry) -> usize {
    let texts = [entry.source(), entry.detail_type(), entry.detail()];
    TIME_BYTES + texts.into_iter().flatten().map(str::len).sum::<usize>()
}

/// Divides entries of these sizes into calls. An entry that is too large for a call has one of its own, which AWS rejects.
fn calls(sizes: &[usize]) -> Vec<Range<usize>> {
    let (mut calls, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (index, size) in sizes.iter().enumerate() {
        if index > start && (index - start == MAX_ENTRIES || bytes + size > MAX_CALL_BYTES) {
            calls.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    if start < sizes.len() {
        calls.push(start..sizes.len());
    }
    calls
}

#[cfg(test)]
#[path = "tests/event_bus.rs"]
mod tests;
