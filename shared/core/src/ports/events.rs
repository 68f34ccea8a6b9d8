//! The outbox of events, and the sender that delivers them.

use std::fmt;

use crate::events::{EventTarget, ExportEvent, OutboxEvent};
use crate::vocab::clock::Millis;
use crate::vocab::error::{BoxError, StoreError};

/// The outbox of events that are not delivered yet. The job store adds an event in the transaction of its move.
pub trait EventOutbox: Send + Sync {
    /// Lists up to `limit` events that are not delivered, oldest first.
    fn pending_events(&self, limit: u16) -> impl Future<Output = Result<Vec<OutboxEvent>, StoreError>> + Send;

    /// Removes a delivered event.
    fn remove_event(&self, event: &OutboxEvent) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores the results of deliveries of an event that at least one target is still to get.
    fn update_event(&self, event: &OutboxEvent) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Moves an event to those that could not be delivered.
    fn give_up_event(&self, event: &OutboxEvent) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Lists the events that could not be delivered, oldest first.
    fn undelivered_events(&self) -> impl Future<Output = Result<Vec<OutboxEvent>, StoreError>> + Send;

    /// Moves an event that could not be delivered back to those that are delivered, from `now` on. Returns false if it is not there.
    fn replay_event(&self, event: &OutboxEvent, now: Millis) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// A registered webhook with its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct DecryptedWebhook {
    /// The URL.
    pub url: String,
    /// The secret, as the operator has registered it.
    pub secret: Vec<u8>,
}

impl fmt::Debug for DecryptedWebhook {
    /// Formats a placeholder, so that the secret and the URL are never logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a webhook")
    }
}

/// A receiver of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventReceiver {
    /// The event bus of the deployment.
    EventBus,
    /// The webhook of the deployment or the server.
    Webhook,
    /// The webhook of a client or a schedule.
    Registered(DecryptedWebhook),
}

/// The results of the events of one call, in their order.
pub type EventResults = Vec<Result<(), BoxError>>;

/// The sender of events.
pub trait EventSender: Send + Sync {
    /// Returns the targets that get the events of all exports.
    fn targets(&self) -> Vec<EventTarget>;

    /// Sends up to [`EventTarget::batch_size`] events to a receiver. Returns the result of each, or an error if none was accepted.
    fn send(
        &self,
        receiver: &EventReceiver,
        events: &[ExportEvent],
        now: Millis,
    ) -> impl Future<Output = Result<EventResults, BoxError>> + Send;
}

/// An event bus of AWS. One machine has none.
pub trait EventBus: Send + Sync {
    /// Puts events on the bus. Returns the result of each, or an error if none was accepted.
    fn put_events(&self, events: &[ExportEvent]) -> impl Future<Output = Result<EventResults, BoxError>> + Send;
}

/// The event bus of a server that has none.
#[derive(Clone, Copy, Debug)]
pub enum NoEventBus {}

impl EventBus for NoEventBus {
    async fn put_events(&self, _: &[ExportEvent]) -> Result<EventResults, BoxError> {
        match *self {}
    }
}
