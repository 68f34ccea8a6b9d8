//! Finds the targets of events.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::queue::TargetQueue;
use crate::events::{EventTarget, ExportEvent, OutboxEvent};
use crate::ports::{AccessStore, ScheduleStore};
use crate::vocab::error::StoreError;
use crate::vocab::ids::RegistrationId;
use crate::vocab::webhook::RegisteredWebhook;

/// An event of the outbox, with the targets that are to get it.
pub(super) struct PendingEvent {
    pub(super) outbox: OutboxEvent,
    pub(super) targets: Vec<EventTarget>,
}

impl PendingEvent {
    /// Returns true if a target has not accepted the event, and it is not given up for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.targets.iter().any(|target| self.outbox.awaits(target))
    }
}

/// Finds the targets of events: those of all exports, and the webhooks that are registered now for the owner and the schedule. Returns the
/// events, and for each target the queue of those that it is to get.
pub(super) async fn find_targets<J: AccessStore + ScheduleStore>(
    stores: &J,
    shared: &[EventTarget],
    pending: Vec<OutboxEvent>,
) -> Result<(Vec<PendingEvent>, Vec<TargetQueue>), StoreError> {
    let (mut webhooks, mut queues, mut events) = (BTreeMap::new(), BTreeMap::<EventTarget, TargetQueue>::new(), Vec::new());
    for outbox in pending {
        let mut targets = shared.to_vec();
        for target in registered_targets(&outbox.event) {
            let webhook: &mut Option<FoundWebhook> = match webhooks.entry(target.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(find_webhook(stores, &target).await?),
            };
            if webhook.as_ref().is_some_and(|found| found.is_for(&outbox.event)) {
                targets.push(target);
            }
        }
        for target in targets.iter().filter(|target| outbox.awaits(target)) {
            let webhook = || webhooks.get(target)?.as_ref().map(|found| found.webhook.clone());
            queues.entry(target.clone()).or_insert_with(|| TargetQueue::new(target.clone(), webhook())).push(events.len());
        }
        events.push(PendingEvent { outbox, targets });
    }
    Ok((events, queues.into_values().collect()))
}

/// Returns the targets that get an event if a webhook is registered for them.
fn registered_targets(event: &ExportEvent) -> impl Iterator<Item = EventTarget> {
    let client = EventTarget::ClientWebhook(event.owner.clone());
    std::iter::once(client).chain(event.schedule.clone().map(EventTarget::ScheduleWebhook))
}

/// A webhook, with the registration of its client. That of a schedule belongs to no client.
struct FoundWebhook {
    webhook: RegisteredWebhook,
    client_registration: Option<ClientRegistration>,
}

/// The id of a client's registration. `None` for one of an earlier version.
struct ClientRegistration(Option<RegistrationId>);

impl FoundWebhook {
    /// Returns true if the webhook gets the event: a client that was registered later under the owner's name is another one.
    fn is_for(&self, event: &ExportEvent) -> bool {
        self.client_registration.as_ref().is_none_or(|ClientRegistration(id)| *id == event.owner_registration)
    }
}

/// Reads the webhook that is registered for a target. A schedule of the same name that was added later is another one.
async fn find_webhook<J: AccessStore + ScheduleStore>(stores: &J, target: &EventTarget) -> Result<Option<FoundWebhook>, StoreError> {
    Ok(match target {
        EventTarget::EventBus | EventTarget::Webhook => None,
        EventTarget::ClientWebhook(client) => stores.client(client).await?.and_then(|client| {
            let client_registration = Some(ClientRegistration(client.registration_id));
            client.webhook.map(|webhook| FoundWebhook { webhook, client_registration })
        }),
        EventTarget::ScheduleWebhook(key) => {
            let schedule = stores.schedule(&key.name).await?.filter(|schedule| schedule.key == *key);
            schedule.and_then(|schedule| schedule.state.webhook).map(|webhook| FoundWebhook { webhook, client_registration: None })
        }
    })
}
