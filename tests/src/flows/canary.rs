//! Leak detection in every flow test: no credential, presigned URL or patient data may appear in a log line or an error response.
//!
//! [`run`](super::run) installs the detector and fails the test if it found a leak. Tests plant canary values in their data and
//! credentials, so that leaks of those are found too.

use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use headrace_edge::telemetry::OWN_TARGETS;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, registry};

use super::Result;
use crate::lake;

/// Canary value that tests put into resources of their own lakes.
pub const DATA: &str = "CANARYDATA";

/// Canary value that tests put into credentials.
pub const TOKEN: &str = "CANARYTOKEN";

/// Markers of credentials in URLs, headers and forms.
const CREDENTIALS: [&str; 7] = [
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "AWS4-HMAC-SHA256",
    "client_assertion=",
    "stand-in-secret",
    "ASIAEXAMPLE",
];

/// Log targets of the S3 and SQS stand-ins. They log the requests that they receive, and do not exist in production.
const STANDIN_TARGETS: [&str; 2] = ["s3s", "rustack"];

/// Returns the log filter of the leak detector: all events of our crates, and those of other crates up to INFO.
pub fn log_filter() -> Targets {
    let ours = OWN_TARGETS.map(|target| (target, LevelFilter::TRACE));
    let standins = STANDIN_TARGETS.map(|target| (target, LevelFilter::OFF));
    Targets::new().with_default(LevelFilter::INFO).with_targets(ours).with_targets(standins)
}

/// Data of the sample lake's patients that must not leak.
struct Patients {
    /// Family names and medical record numbers.
    identifying_texts: Vec<String>,
    /// Resource ids.
    ids: Vec<String>,
}

static PATIENTS: LazyLock<Patients> = LazyLock::new(|| {
    // If the sample cannot be read, the empty text matches every log line, and every test fails.
    read_patients().unwrap_or_else(|_| Patients { identifying_texts: vec![String::new()], ids: Vec::new() })
});

/// Reads the data of the patients in the sample lake.
fn read_patients() -> Result<Patients> {
    let file = std::fs::read_to_string(lake::sample_lake_dir().join("Patient.ndjson"))?;
    let patients: Vec<Value> = file.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    let texts = |path: &'static str, member: &'static str| {
        let all = patients.iter().filter_map(move |patient| patient.pointer(path)?.as_array());
        all.flatten().filter_map(move |one| one.get(member)?.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let ids = patients.iter().filter_map(|patient| patient.get("id")?.as_str().map(str::to_owned)).collect();
    Ok(Patients { identifying_texts: [texts("/name", "family"), texts("/identifier", "value")].concat(), ids })
}

/// Returns the first credential, patient name or patient identifier in the text. None may appear in an error response.
///
/// Patient ids are allowed: an error may repeat the ids that the client sent.
pub fn find_forbidden_in_response(text: &str) -> Option<&str> {
    let credentials = CREDENTIALS.into_iter().find(|credential| text.contains(credential));
    let patients = || PATIENTS.identifying_texts.iter().map(String::as_str).find(|identifying| text.contains(identifying));
    credentials.or_else(patients).or_else(|| find_jwt(text))
}

/// Returns the first credential, patient data, patient id or canary value in the text. None may appear in a log line.
pub fn find_forbidden_in_log(text: &str) -> Option<&str> {
    let planted = || [DATA, TOKEN].into_iter().find(|canary| text.contains(canary));
    let ids = || PATIENTS.ids.iter().map(String::as_str).find(|id| text.contains(id));
    find_forbidden_in_response(text).or_else(planted).or_else(ids)
}

/// Returns the text from the first JSON Web Token (access token or assertion) on.
fn find_jwt(text: &str) -> Option<&str> {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.match_indices("eyJ").filter_map(|(at, _)| text.get(at..)).find(|rest| {
        let header = rest.bytes().take_while(is_base64).count();
        let mut behind = rest.bytes().skip(header);
        header >= 12 && behind.next() == Some(b'.') && behind.next().as_ref().is_some_and(is_base64)
    })
}

/// Descriptions of leaks, shared between the layer and the test runner.
type Leaks = Arc<Mutex<Vec<String>>>;

/// Leaks of this process.
static LEAKS: LazyLock<Leaks> = LazyLock::new(Leaks::default);

/// Adds a leak if `text` contains anything that [`find_forbidden_in_log`] finds.
fn record_leak(leaks: &Leaks, origin: &str, text: &str) {
    if let Some(forbidden) = find_forbidden_in_log(text) {
        leaks.lock().unwrap_or_else(PoisonError::into_inner).push(format!("`{forbidden}` in {origin}: {text}"));
    }
}

/// Checks a log line that another process wrote. A leak fails the current test in [`run`](super::run).
pub fn check_log_line(origin: &str, line: &str) {
    record_leak(&LEAKS, origin, line);
}

/// Installs the detector for all events of this process, except on threads with a subscriber of their own.
pub(super) fn install() {
    // Fails if a subscriber is already installed: the second call in a process, or a test that checks its logs by itself.
    drop(registry().with(LeakDetector(LEAKS.clone()).with_filter(log_filter())).try_init());
}

/// Returns an error if anything forbidden was logged in this process.
pub(super) fn check_no_leaks() -> Result<()> {
    let leaks = LEAKS.lock().unwrap_or_else(PoisonError::into_inner);
    if leaks.is_empty() { Ok(()) } else { Err(format!("this must never be logged:\n{}", leaks.join("\n")).into()) }
}

/// Tracing layer that searches every event and span for forbidden texts.
struct LeakDetector(Leaks);

/// Text of all fields of an event, formatted like a log line.
struct FieldText(String);

impl Visit for FieldText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

impl LeakDetector {
    /// Formats the fields that `record` records, and checks them for leaks.
    fn check(&self, target: &str, record: impl FnOnce(&mut FieldText)) {
        let mut text = FieldText(target.to_owned());
        record(&mut text);
        record_leak(&self.0, "a log line", &text.0);
    }
}

impl<S: tracing::Subscriber + for<'s> LookupSpan<'s>> Layer<S> for LeakDetector {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        self.check(event.metadata().target(), |text| event.record(text));
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        self.check(attributes.metadata().target(), |text| attributes.record(text));
    }

    fn on_record(&self, _: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        self.check("a span", |text| values.record(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaks_in_messages_fields_and_errors_are_found() {
        let leaks = Leaks::default();
        let _guard = tracing::subscriber::set_default(registry().with(LeakDetector(leaks.clone()).with_filter(log_filter())));
        let take_leaks = || std::mem::take(&mut *leaks.lock().unwrap());
        tracing::info!(target: "kickoff", owner = "lab", "accepted");
        tracing::debug!(target: "hyper", "Okonlind");
        assert_eq!(take_leaks(), Vec::<String>::new());
        let error = std::io::Error::other("https://b.example/x?X-Amz-Signature=1");
        tracing::info!(target: "audit", "of Okonlind");
        tracing::trace!(target: "headrace_core::flow", id = "hr-patient-01");
        tracing::warn!(target: "hyper", cause = &error as &dyn std::error::Error);
        tracing::info!(target: "token", token = %"eyJhbGciOiJFUzM4NCJ9.eyJpc3MiOiJsYWIifQ.c2ln");
        drop(tracing::info_span!(target: "files", "span", about = DATA));
        let found = take_leaks();
        let targets = ["audit", "headrace_core::flow", "hyper", "token", "files"];
        assert_eq!(found.len(), targets.len(), "{found:?}");
        for (line, target) in found.iter().zip(targets) {
            assert!(line.contains(&format!(": {target} ")), "{line}");
        }
    }

    #[test]
    fn a_key_id_is_not_reported_as_a_token() {
        for harmless in ["eyJ", "kid=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzM4NCJ9", "reyJavik.is", "eyJabc.def"] {
            assert_eq!(find_jwt(harmless), None, "{harmless}");
        }
    }
}
