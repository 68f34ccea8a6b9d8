//! Sends events to the event bus and the webhooks.

use headrace_core::events::{EventTarget, ExportEvent};
use headrace_core::ports::{DecryptedWebhook, EventBus, EventReceiver, EventResults, EventSender, NoEventBus};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::BoxError;

use crate::webhook::{InvalidWebhookSecret, WebhookClient, WebhookSecret, WebhookSettings};

/// The sender of events, with the targets that the operator has set for all exports.
#[derive(Debug)]
pub struct EventTargets<B = NoEventBus> {
    webhook: Option<WebhookSettings>,
    bus: Option<B>,
    client: WebhookClient,
}

/// The error for events of a target that is not set.
#[derive(Debug, thiserror::Error)]
#[error("the {0} is not set")]
struct TargetNotSet(EventTarget);

impl EventTargets {
    /// Creates the sender. Without a webhook for all exports it sends to registered ones alone.
    pub fn new(webhook: Option<WebhookSettings>, client: WebhookClient) -> Self {
        Self { webhook, bus: None, client }
    }
}

impl<B> EventTargets<B> {
    /// Sets the event bus.
    #[must_use]
    pub fn with_event_bus<T: EventBus>(self, bus: Option<T>) -> EventTargets<T> {
        EventTargets { webhook: self.webhook, bus, client: self.client }
    }

    /// Sends events to a webhook, one after the other.
    async fn post(&self, webhook: (&str, &WebhookSecret), events: &[ExportEvent], now: Millis) -> EventResults {
        let mut results = Vec::with_capacity(events.len());
        for event in events {
            results.push(self.client.send(webhook, event, now).await);
        }
        results
    }
}

impl<B: EventBus> EventSender for EventTargets<B> {
    fn targets(&self) -> Vec<EventTarget> {
        let bus = self.bus.iter().map(|_| EventTarget::EventBus);
        bus.chain(self.webhook.iter().map(|_| EventTarget::Webhook)).collect()
    }

    async fn send(&self, receiver: &EventReceiver, events: &[ExportEvent], now: Millis) -> Result<EventResults, BoxError> {
        match receiver {
            EventReceiver::EventBus => match &self.bus {
                Some(bus) => bus.put_events(events).await,
                None => Err(TargetNotSet(EventTarget::EventBus).into()),
            },
            EventReceiver::Webhook => match &self.webhook {
                Some(WebhookSettings { url, secret }) => Ok(self.post((url, secret), events, now).await),
                None => Err(TargetNotSet(EventTarget::Webhook).into()),
            },
            EventReceiver::Registered(DecryptedWebhook { url, secret }) => {
                let secret = std::str::from_utf8(secret).map_err(|_| InvalidWebhookSecret).and_then(WebhookSecret::parse)?;
                Ok(self.post((url, &secret), events, now).await)
            }
        }
    }
}
