//! Delivers events.

use headrace_core::flow::upkeep::deliver_events::{DeliveredEvents, deliver_events};
use headrace_core::ports::{AccessStore, Clock, EventOutbox, EventSender, JobSecretEncryptor, ScheduleStore};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::setting::Setting;
use headrace_edge::config::{ConfigError, EncryptedWebhook};
use headrace_edge::jwks::UrlPolicy;
use headrace_edge::telemetry::{Metric, record_metrics};
use headrace_edge::webhook::{InvalidWebhookSecret, WebhookSecret, WebhookSettings};
use lambda_runtime::Error;

/// Decrypts the secret of the webhook for all exports, which the operator has encrypted like the keys of anonymization configurations.
pub async fn decrypt_webhook(encryptor: &impl JobSecretEncryptor, webhook: EncryptedWebhook) -> Result<WebhookSettings, Error> {
    let secret = encryptor.decrypt_webhook_secret(&webhook.encrypted_secret).await?;
    let invalid = |problem: String, setting| ConfigError { setting, problem };
    let secret = std::str::from_utf8(&secret).map_err(|_| InvalidWebhookSecret).and_then(WebhookSecret::parse);
    let secret = secret.map_err(|error| invalid(error.to_string(), Setting::EventWebhookSecret))?;
    let settings = WebhookSettings::new(webhook.url, secret, UrlPolicy::Clients);
    Ok(settings.map_err(|error| invalid(error.to_string(), Setting::EventWebhookUrl))?)
}

/// The deliverer of events. It lives as long as the process.
pub struct EventDeliverer<J, E, C> {
    outbox: J,
    sender: E,
    clock: C,
}

impl<J, E, C> EventDeliverer<J, E, C>
where
    J: EventOutbox + AccessStore + ScheduleStore + JobSecretEncryptor,
    E: EventSender,
    C: Clock,
{
    /// Creates the deliverer. Besides the targets of the sender, it delivers to the webhooks that are registered for clients and schedules.
    pub fn new(outbox: J, sender: E, clock: C) -> Self {
        Self { outbox, sender, clock }
    }

    /// Delivers the events that are due.
    pub async fn run(&self) -> Result<DeliveredEvents, StoreError> {
        let delivered = Box::pin(deliver_events(&self.outbox, &self.sender, &self.clock)).await?;
        if delivered == DeliveredEvents::default() {
            return Ok(delivered);
        }
        let DeliveredEvents { delivered: count, failed, undelivered } = delivered;
        tracing::info!(delivered = count, failed, undelivered, "events delivered");
        let metrics = [(Metric::EventsDelivered, count), (Metric::EventDeliveriesFailed, failed), (Metric::EventsUndelivered, undelivered)];
        for (metric, count) in metrics.into_iter().filter(|(_, count)| *count > 0) {
            record_metrics(&[(metric, u64::from(count))]);
        }
        Ok(delivered)
    }
}
