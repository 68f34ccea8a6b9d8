//! The outbox of events, and the sender that delivers them.

use crate::events::{EventTarget, ExportEvent, OutboxEvent};
use crate::vocab::clock::Millis;
use crate::vocab::error::{BoxError, StoreError};

/// The outbox of events that are not delivered yet. The job store adds an event in the transaction of its move.
pub trait EventOutbox: Send + Sync {
    /// Lists up to `limit` events that are not delivered, oldest first.
    fn pending_events(&self, limit: u16) -> impl Future<Output = Result<Vec<OutboxEvent>, StoreError>> + Send;

    /// Removes a delivered event.
    fn remove_event(&self, event: &OutboxEvent) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores the result of a failed delivery, with the time of the next one.
    fn delay_event(&self, event: &OutboxEvent) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Moves an event to those that could not be delivered.
    fn give_up_event(&self, event: &OutboxEvent) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Lists the events that could not be delivered, oldest first.
    fn undelivered_events(&self) -> impl Future<Output = Result<Vec<OutboxEvent>, StoreError>> + Send;

    /// Moves an event that could not be delivered back to those that are delivered, from `now` on. Returns false if it is not there.
    fn replay_event(&self, event: &OutboxEvent, now: Millis) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The sender of events to the targets that the operator has set.
pub trait EventSender: Send + Sync {
    /// Returns the targets.
    fn targets(&self) -> Vec<EventTarget>;

    /// Sends an event to a target. Fails if the target has not accepted it.
    fn send(&self, target: EventTarget, event: &ExportEvent, now: Millis) -> impl Future<Output = Result<(), BoxError>> + Send;
}
