//! The outbox: events that are not delivered yet, and what became of their deliveries.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ExportEvent;
use crate::vocab::clock::Millis;
use crate::vocab::ids::Caller;
use crate::vocab::schedule_key::{ScheduleKey, ScheduleName};

/// A target of events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EventTarget {
    /// The event bus of the deployment, which gets the events of all exports.
    EventBus,
    /// The webhook of the deployment or the server (Standard Webhooks), which gets the events of all exports.
    Webhook,
    /// The webhook of a client, which gets the events of its exports.
    ClientWebhook(Caller),
    /// The webhook of a schedule, which gets the events of its runs.
    ScheduleWebhook(ScheduleKey),
}

/// The beginning of the stored text of a client's webhook.
const CLIENT: &str = "client:";

/// The beginning of the stored text of a schedule's webhook.
const SCHEDULE: &str = "schedule:";

impl EventTarget {
    /// Returns the largest number of events in one call.
    pub fn batch_size(&self) -> usize {
        match self {
            // The limit of PutEvents.
            Self::EventBus => 10,
            Self::Webhook | Self::ClientWebhook(_) | Self::ScheduleWebhook(_) => 1,
        }
    }

    /// Parses the text that is stored.
    fn parse(text: &str) -> Option<Self> {
        if let Some(client) = text.strip_prefix(CLIENT) {
            return Some(Self::ClientWebhook(Caller(client.to_owned())));
        }
        if let Some(schedule) = text.strip_prefix(SCHEDULE) {
            let (name, id) = schedule.split_once(':')?;
            return Some(Self::ScheduleWebhook(ScheduleKey { name: ScheduleName::parse(name).ok()?, id: id.to_owned() }));
        }
        match text {
            "event-bus" => Some(Self::EventBus),
            "webhook" => Some(Self::Webhook),
            _ => None,
        }
    }
}

impl TryFrom<String> for EventTarget {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::parse(&text).ok_or("not a target of events")
    }
}

impl From<EventTarget> for String {
    fn from(target: EventTarget) -> Self {
        match target {
            EventTarget::EventBus => "event-bus".to_owned(),
            EventTarget::Webhook => "webhook".to_owned(),
            EventTarget::ClientWebhook(client) => format!("{CLIENT}{}", client.0),
            EventTarget::ScheduleWebhook(schedule) => format!("{SCHEDULE}{}:{}", schedule.name, schedule.id),
        }
    }
}

impl fmt::Display for EventTarget {
    /// Formats the target for an operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EventBus => f.write_str("event bus"),
            Self::Webhook => f.write_str("webhook"),
            Self::ClientWebhook(client) => write!(f, "webhook of client {}", client.0),
            Self::ScheduleWebhook(schedule) => write!(f, "webhook of schedule {}", schedule.name),
        }
    }
}

/// The failed deliveries of an event to one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedDelivery {
    /// The number of failed deliveries.
    pub attempts: u32,
    /// The time of the next delivery.
    pub next_at: Millis,
    /// The reason of the last failure.
    pub fault: String,
    /// True if the target gets the event no more, unless somebody replays it.
    #[serde(default)]
    pub is_given_up: bool,
}

/// An event in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    /// The event.
    pub event: ExportEvent,
    /// The time since when it is delivered: that of the move, or of a replay.
    pub since: Millis,
    /// The targets that have accepted the event.
    pub accepted_by: BTreeSet<EventTarget>,
    /// The failed deliveries to other targets.
    pub failures: BTreeMap<EventTarget, FailedDelivery>,
}

impl OutboxEvent {
    /// Creates an event that has not been sent yet.
    pub fn new(event: ExportEvent, since: Millis) -> Self {
        Self { event, since, accepted_by: BTreeSet::new(), failures: BTreeMap::new() }
    }

    /// Returns true if the target has not accepted the event, and it is not given up.
    pub fn awaits(&self, target: &EventTarget) -> bool {
        !self.accepted_by.contains(target) && self.failures.get(target).is_none_or(|failure| !failure.is_given_up)
    }

    /// Returns true if the event is given up for a target.
    pub fn is_given_up(&self) -> bool {
        self.failures.values().any(|failure| failure.is_given_up)
    }

    /// Returns the time from which the event is sent to the target.
    pub fn due_at(&self, target: &EventTarget) -> Millis {
        self.failures.get(target).map_or(self.since, |failure| failure.next_at)
    }

    /// Returns the time of the next delivery to any target.
    pub fn next_at(&self) -> Millis {
        let retried = self.failures.values().filter(|failure| !failure.is_given_up);
        retried.map(|failure| failure.next_at).min().unwrap_or(self.since)
    }

    /// Records that the target has accepted the event.
    pub fn accept(&mut self, target: &EventTarget) {
        self.failures.remove(target);
        self.accepted_by.insert(target.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_stored_as_text() {
        let schedule = ScheduleKey { name: ScheduleName::parse("nightly").unwrap(), id: "1".repeat(32) };
        let arn = Caller("arn:aws:iam::111122223333:role/Export".to_owned());
        for (target, text) in [
            (EventTarget::EventBus, "event-bus".to_owned()),
            (EventTarget::Webhook, "webhook".to_owned()),
            (EventTarget::ClientWebhook(arn), "client:arn:aws:iam::111122223333:role/Export".to_owned()),
            (EventTarget::ScheduleWebhook(schedule), format!("schedule:nightly:{}", "1".repeat(32))),
        ] {
            assert_eq!(String::from(target.clone()), text);
            assert_eq!(EventTarget::try_from(text), Ok(target));
        }
        for text in ["", "bus", "schedule:nightly", "schedule:Nightly:1"] {
            assert!(EventTarget::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
