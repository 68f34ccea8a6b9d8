//! The outbox of events. An event is an item, written in the same transaction as the change of state that it describes.

use headrace_core::events::{ExportEvent, OutboxEvent};
use headrace_core::job::{FailureReason, Job, JobState};
use headrace_core::ports::EventOutbox;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;

use super::DynamoJobStore;
use super::items::{self, Attributes, Item, OUTBOX_PK, UNDELIVERED_PK};
use super::transact::{Write, WriteOutcome};

/// The time for which an event is kept in the outbox if nothing delivers it, and one that could not be delivered after that.
const RETENTION_SECONDS: u64 = 30 * 86_400;

/// Returns the primary key of an event. Events sort by time, and those of one export by their moves.
fn event_key(partition: &str, event: &ExportEvent) -> Item {
    items::plain_key(partition, &format!("{:016}#{}#{}", event.at.0, event.job, event.state.rank()))
}

/// Returns the item of an event in this partition.
fn event_item(partition: &str, outbox: &OutboxEvent) -> Result<Item, StoreError> {
    let mut item = event_key(partition, &outbox.event);
    item.extend([
        ("event".to_owned(), items::json(&outbox.event)?),
        ("since".to_owned(), items::millis(outbox.since)),
        ("accepted_by".to_owned(), items::json(&outbox.accepted_by)?),
        ("failures".to_owned(), items::json(&outbox.failures)?),
        ("ttl".to_owned(), items::number(outbox.since.0.div_ceil(1_000) + RETENTION_SECONDS)),
    ]);
    Ok(item)
}

/// Reads an item as an event.
fn read_event(item: &Item) -> Result<OutboxEvent, StoreError> {
    let attributes = Attributes(item);
    Ok(OutboxEvent {
        event: attributes.required_json("event")?,
        since: Millis(attributes.count("since")?),
        accepted_by: attributes.required_json("accepted_by")?,
        failures: attributes.required_json("failures")?,
    })
}

impl DynamoJobStore {
    /// Returns the write of the event for a move of a job, or `None` if no target gets it.
    pub(super) fn event_write(
        &self,
        job: &Job,
        state: JobState,
        at: Millis,
        reason: Option<&FailureReason>,
    ) -> Result<Option<Write>, StoreError> {
        // Events tell of exports.
        if !(self.writes_events || job.has_webhook) || job.is_sync() {
            return Ok(None);
        }
        let event = ExportEvent::from_move(job, state, at, reason);
        let since = event.at;
        Ok(Some(Write::Put(event_item(OUTBOX_PK, &OutboxEvent::new(event, since))?)))
    }

    /// Lists up to `limit` events of a partition, oldest first.
    async fn events(&self, partition: &str, limit: usize) -> Result<Vec<OutboxEvent>, StoreError> {
        self.query_all(self.partition_query(partition), limit, read_event).await
    }
}

impl EventOutbox for DynamoJobStore {
    async fn pending_events(&self, limit: u16) -> Result<Vec<OutboxEvent>, StoreError> {
        self.events(OUTBOX_PK, usize::from(limit)).await
    }

    async fn remove_event(&self, event: &OutboxEvent) -> Result<(), StoreError> {
        self.transact(&[Write::Delete(event_key(OUTBOX_PK, &event.event))]).await.map(drop)
    }

    async fn update_event(&self, event: &OutboxEvent) -> Result<(), StoreError> {
        self.transact(&[Write::Put(event_item(OUTBOX_PK, event)?)]).await.map(drop)
    }

    async fn give_up_event(&self, event: &OutboxEvent) -> Result<(), StoreError> {
        let given_up = Write::Put(event_item(UNDELIVERED_PK, event)?);
        self.transact(&[Write::Delete(event_key(OUTBOX_PK, &event.event)), given_up]).await.map(drop)
    }

    async fn undelivered_events(&self) -> Result<Vec<OutboxEvent>, StoreError> {
        self.events(UNDELIVERED_PK, usize::MAX).await
    }

    async fn replay_event(&self, event: &OutboxEvent, now: Millis) -> Result<bool, StoreError> {
        let key = event_key(UNDELIVERED_PK, &event.event);
        let replayed = OutboxEvent { accepted_by: event.accepted_by.clone(), ..OutboxEvent::new(event.event.clone(), now) };
        let delete = Write::DeleteWhen(key, "attribute_exists(pk)", Item::new());
        let writes = [delete, Write::Put(event_item(OUTBOX_PK, &replayed)?)];
        Ok(self.transact(&writes).await? == WriteOutcome::Applied)
    }
}
