//! Sends events to a bus of EventBridge.

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use headrace_core::events::{EventTarget, ExportEvent};
use headrace_core::ports::EventSender;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::BoxError;
use headrace_core::vocab::setting::Setting;
use serde_json::Value;

use crate::errors::Service;

/// The source of every event. Rules match it, and the reaper's role may send no other.
const SOURCE: &str = "headrace";

/// The type of every event. Its state is in the detail.
const DETAIL_TYPE: &str = "Export State Change";

/// The name of the bus in errors.
const STORE: &str = "the event bus";

/// A bus of EventBridge, by its name or ARN.
#[derive(Clone, Debug)]
pub struct EventBus {
    client: Client,
    name: String,
    service: Service,
}

/// The bus has rejected an event.
#[derive(Debug, thiserror::Error)]
#[error("the event bus rejected the event: {0}")]
struct RejectedEvent(String);

impl EventBus {
    /// Creates a client of the bus with this name or ARN.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        let name = name.into();
        let service = Service::new(STORE, Setting::EventBusName.as_str(), &name);
        Self { client, name, service }
    }

    /// Returns an event as an entry of the bus. EventBridge gives it an id of its own each time, so that the stable id is in the detail.
    fn entry(&self, event: &ExportEvent) -> PutEventsRequestEntry {
        let mut detail = event.detail();
        if let Some(members) = detail.as_object_mut() {
            members.insert("id".to_owned(), Value::from(event.id()));
        }
        let entry = PutEventsRequestEntry::builder().event_bus_name(&self.name).source(SOURCE).detail_type(DETAIL_TYPE);
        entry.time(DateTime::from_millis(i64::try_from(event.at.0).unwrap_or(i64::MAX))).detail(detail.to_string()).build()
    }
}

impl EventSender for EventBus {
    fn targets(&self) -> Vec<EventTarget> {
        vec![EventTarget::EventBus]
    }

    async fn send(&self, _: EventTarget, event: &ExportEvent, _: Millis) -> Result<(), BoxError> {
        let answer = self.client.put_events().entries(self.entry(event)).send().await;
        let answer = answer.map_err(|error| self.service.store_error(error))?;
        // The call succeeds although its only entry is rejected.
        match answer.entries().iter().find_map(|entry| entry.error_code()) {
            Some(code) => Err(RejectedEvent(code.to_owned()).into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_eventbridge::config::{BehaviorVersion, Credentials, Region};
    use headrace_core::job::{Job, JobState};
    use headrace_core::request::ExportRequest;
    use headrace_core::vocab::ids::{Caller, JobId};
    use serde_json::json;

    use super::*;
    use crate::script::{Answer, Script};

    /// Returns a bus whose client gets these answers.
    fn bus(script: &Script) -> EventBus {
        let config = aws_sdk_eventbridge::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
            .http_client(script.http_client());
        EventBus::new(Client::from_conf(config.build()), "exports")
    }

    fn event() -> ExportEvent {
        let job = Job::accepted(JobId::from_random([7; 16]), Caller("lab".into()), ExportRequest::default(), Millis(1_769_846_400_000));
        ExportEvent::from_move(&job, JobState::Accepted, Millis(1_769_846_400_000), None)
    }

    #[tokio::test]
    async fn an_event_is_an_entry_with_source_type_time_and_stable_id() {
        let script = Script::new([Answer::Http(200, r#"{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}"#.to_owned())]);
        bus(&script).send(EventTarget::EventBus, &event(), Millis(0)).await.unwrap();
        let sent: Value = serde_json::from_str(&script.sent()[0].body).unwrap();
        let entry = &sent["Entries"][0];
        assert_eq!((&entry["Source"], &entry["DetailType"]), (&json!("headrace"), &json!("Export State Change")));
        assert_eq!((&entry["EventBusName"], entry["Time"].as_f64()), (&json!("exports"), Some(1_769_846_400.0)));
        let detail: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
        assert_eq!((&detail["state"], &detail["id"]), (&json!("accepted"), &json!(event().id())));
    }

    #[tokio::test]
    async fn a_rejected_entry_and_a_missing_permission_are_failed_deliveries() {
        let rejected = r#"{"FailedEntryCount":1,"Entries":[{"ErrorCode":"ThrottlingException","ErrorMessage":"slow down"}]}"#;
        let script = Script::new([Answer::Http(200, rejected.to_owned())]);
        let error = bus(&script).send(EventTarget::EventBus, &event(), Millis(0)).await.unwrap_err().to_string();
        assert!(error.contains("ThrottlingException"), "{error}");
        let denied = r#"{"__type":"AccessDeniedException","Message":"not authorized to perform: events:PutEvents"}"#;
        let script = Script::new([Answer::Http(400, denied.to_owned())]);
        let error = bus(&script).send(EventTarget::EventBus, &event(), Millis(0)).await.unwrap_err().to_string();
        assert!(error.contains("HEADRACE_EVENT_BUS_NAME") || error.contains("exports"), "{error}");
    }
}
