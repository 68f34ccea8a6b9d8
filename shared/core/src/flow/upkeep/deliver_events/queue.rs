//! The events that one target is to get in a run.

use std::collections::{BTreeSet, VecDeque};

use super::targets::PendingEvent;
use crate::events::{EventTarget, ExportEvent};
use crate::ports::{DecryptedWebhook, EventReceiver, JobSecretEncryptor};
use crate::vocab::clock::Millis;
use crate::vocab::error::StoreError;
use crate::vocab::ids::JobId;
use crate::vocab::webhook::RegisteredWebhook;

/// The events of one target, oldest first, by their indexes in the run.
pub(super) struct TargetQueue {
    pub(super) target: EventTarget,
    /// The exports whose events wait for a later run.
    pub(super) held_back: BTreeSet<JobId>,
    /// The number of calls with a failed event.
    pub(super) failures: u32,
    webhook: Option<RegisteredWebhook>,
    waiting: VecDeque<usize>,
}

impl TargetQueue {
    /// Creates an empty queue. `webhook` is that of a client or a schedule.
    pub(super) fn new(target: EventTarget, webhook: Option<RegisteredWebhook>) -> Self {
        Self { target, held_back: BTreeSet::new(), failures: 0, webhook, waiting: VecDeque::new() }
    }

    /// Adds an event.
    pub(super) fn push(&mut self, index: usize) {
        self.waiting.push_back(index);
    }

    /// Removes the events of the next call and returns them. A call has one event of an export at most: the result of one event must not
    /// come too late for the next.
    pub(super) fn next_batch(&mut self, events: &[PendingEvent], now: Millis) -> Vec<(usize, ExportEvent)> {
        let (mut batch, mut jobs, mut later) = (Vec::new(), BTreeSet::new(), VecDeque::new());
        while batch.len() < self.target.batch_size()
            && let Some(index) = self.waiting.pop_front()
        {
            let Some(PendingEvent { outbox, .. }) = events.get(index) else { continue };
            let job = &outbox.event.job;
            if self.held_back.contains(job) {
                continue;
            }
            if outbox.due_at(&self.target) > now {
                self.held_back.insert(job.clone());
            } else if jobs.insert(job.clone()) {
                batch.push((index, outbox.event.clone()));
            } else {
                later.push_back(index);
            }
        }
        later.append(&mut self.waiting);
        self.waiting = later;
        batch
    }

    /// Returns the receiver of the target. The secret of a registered webhook is decrypted if `known` does not have it.
    pub(super) async fn find_receiver<'a>(
        &self,
        encryptor: &impl JobSecretEncryptor,
        known: &'a mut Option<EventReceiver>,
    ) -> Result<&'a EventReceiver, StoreError> {
        let receiver = match (known.take(), &self.target, &self.webhook) {
            (Some(receiver), ..) => receiver,
            (None, EventTarget::EventBus, _) => EventReceiver::EventBus,
            (None, _, None) => EventReceiver::Webhook,
            (None, _, Some(webhook)) => {
                let secret = encryptor.decrypt_webhook_secret(&webhook.encrypted_secret).await?;
                EventReceiver::Registered(DecryptedWebhook { url: webhook.url.clone(), secret })
            }
        };
        Ok(known.insert(receiver))
    }
}
