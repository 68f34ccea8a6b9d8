//! In-process EventBridge with one bus. It speaks the JSON protocol of `PutEvents`, and answers as AWS documents it.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_eventbridge::config::retry::RetryConfig;
use aws_sdk_eventbridge::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_types::body::SdkBody;
use headrace_local::stores::embedded::{BoxError, in_process_http_client};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

/// Name of the bus.
pub const EVENT_BUS: &str = "exports";

/// Behaviour of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusState {
    /// Every entry is accepted.
    Available,
    /// The first entry of a call, and every second one after it, is accepted. The others are rejected with this code.
    RejectsEverySecond(&'static str),
    /// Every call is rejected with `ThrottlingException`.
    Throttled,
    /// Every call is answered with this status and no body.
    Broken(u16),
}

/// EventBridge with a bus. Clones share it.
#[derive(Clone, Debug)]
pub struct EventBridgeStandIn(Arc<Mutex<Bus>>);

#[derive(Debug)]
struct Bus {
    state: BusState,
    accepted: Vec<Value>,
    calls: Vec<usize>,
}

impl EventBridgeStandIn {
    /// Starts an EventBridge whose bus accepts every entry.
    #[must_use]
    pub fn start() -> Self {
        Self(Arc::new(Mutex::new(Bus { state: BusState::Available, accepted: Vec::new(), calls: Vec::new() })))
    }

    /// Sets the behaviour of the bus from now on.
    pub fn set_state(&self, state: BusState) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).state = state;
    }

    /// Returns the accepted entries, with their details as JSON.
    #[must_use]
    pub fn accepted(&self) -> Vec<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).accepted.clone()
    }

    /// Returns the number of entries of each call.
    #[must_use]
    pub fn calls(&self) -> Vec<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).calls.clone()
    }

    /// Returns an AWS SDK client that calls this stand-in, and repeats no call.
    #[must_use]
    pub fn client(&self) -> aws_sdk_eventbridge::Client {
        let bus = Arc::clone(&self.0);
        let config = aws_sdk_eventbridge::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(Credentials::new("AKIDSTANDIN", "stand-in-secret", None, None, "stand-in"))
            .retry_config(RetryConfig::disabled())
            .endpoint_url("https://events.standin.invalid")
            .http_client(in_process_http_client(move |request| handle_request(Arc::clone(&bus), request)))
            .build();
        aws_sdk_eventbridge::Client::from_conf(config)
    }
}

/// Handles one request of the SDK and returns the HTTP response.
async fn handle_request(bus: Arc<Mutex<Bus>>, request: http::Request<SdkBody>) -> Result<http::Response<SdkBody>, BoxError> {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default().to_owned();
    let request: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?;
    let entries = request.get("Entries").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut bus = bus.lock().unwrap_or_else(PoisonError::into_inner);
    bus.calls.push(entries.len());
    let error = |kind: &str| json!({ "__type": kind, "message": "a text of AWS" }).to_string();
    let (status, body) = match bus.state {
        _ if target != "AWSEvents.PutEvents" => (400, error("UnknownOperationException")),
        _ if !(1..=10).contains(&entries.len()) => (400, error("ValidationException")),
        BusState::Throttled => (400, error("ThrottlingException")),
        BusState::Broken(status) => (status, String::new()),
        BusState::Available => (200, put(&mut bus, &entries, None)?),
        BusState::RejectsEverySecond(code) => (200, put(&mut bus, &entries, Some(code))?),
    };
    let response = http::Response::builder().status(status).header("content-type", "application/x-amz-json-1.1");
    Ok(response.body(SdkBody::from(body))?)
}

/// Puts entries on the bus. Returns the body of the answer, in which every second entry is rejected with the code, if there is one.
fn put(bus: &mut Bus, entries: &[Value], code: Option<&str>) -> Result<String, BoxError> {
    let mut results = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let detail = text("Detail").and_then(|detail| serde_json::from_str::<Value>(detail).ok()).filter(Value::is_object);
        let fault = match (text("Source"), text("DetailType"), &detail, text("EventBusName")) {
            (None, ..) | (_, None, ..) => Some("InvalidArgument"),
            (_, _, None, _) => Some("MalformedDetail"),
            (_, _, _, bus) if bus != Some(EVENT_BUS) => Some("ResourceNotFoundException"),
            (..) => code.filter(|_| index % 2 == 1),
        };
        match fault {
            Some(code) => results.push(json!({ "ErrorCode": code, "ErrorMessage": "a text of AWS" })),
            None => {
                let mut accepted = entry.clone();
                accepted.as_object_mut().ok_or("an entry is no object")?.insert("Detail".to_owned(), detail.unwrap_or_default());
                bus.accepted.push(accepted);
                results.push(json!({ "EventId": format!("{:032x}", bus.accepted.len()) }));
            }
        }
    }
    let failed = results.iter().filter(|result| result.get("ErrorCode").is_some()).count();
    Ok(json!({ "FailedEntryCount": failed, "Entries": results }).to_string())
}
