//! A canary in every test's mine: no credential, no presigned URL and nothing of a patient reaches a log line or an error,
//! over the whole run.
//!
//! [`run`](super::run) puts it there and asks whether it still sings.

use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use headrace_edge::telemetry::OURS;
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

/// In everything that a resource of a test's own lake holds, where a test looks for it.
pub const DATA: &str = "CANARYDATA";

/// In what a client sends as a credential, where a test looks for it.
pub const TOKEN: &str = "CANARYTOKEN";

/// What gives access, as it stands in URLs, headers and forms.
const CREDENTIALS: [&str; 7] = [
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "AWS4-HMAC-SHA256",
    "client_assertion=",
    "stand-in-secret",
    "ASIAEXAMPLE",
];

/// What stands in for S3 and SQS: it is not there where the service runs, and says itself what it was asked.
const STANDINS: [&str; 2] = ["s3s", "rustack"];

/// Every event of ours, and of others what an operator could ask for.
pub fn watched() -> Targets {
    let ours = OURS.map(|target| (target, LevelFilter::TRACE));
    let standins = STANDINS.map(|target| (target, LevelFilter::OFF));
    Targets::new().with_default(LevelFilter::INFO).with_targets(ours).with_targets(standins)
}

/// The patients of the sample lake: their family names and the numbers that hospitals gave them; and their ids.
struct Patients {
    known_by: Vec<String>,
    ids: Vec<String>,
}

static PATIENTS: LazyLock<Patients> = LazyLock::new(|| {
    // Without their names every text is suspect, and every test fails.
    patients().unwrap_or_else(|_| Patients { known_by: vec![String::new()], ids: Vec::new() })
});

fn patients() -> Result<Patients> {
    let file = std::fs::read_to_string(lake::sample_dir().join("Patient.ndjson"))?;
    let patients: Vec<Value> = file.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    let texts = |path: &'static str, member: &'static str| {
        let all = patients.iter().filter_map(move |patient| patient.pointer(path)?.as_array());
        all.flatten().filter_map(move |one| one.get(member)?.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let ids = patients.iter().filter_map(|patient| patient.get("id")?.as_str().map(str::to_owned)).collect();
    Ok(Patients { known_by: [texts("/name", "family"), texts("/identifier", "value")].concat(), ids })
}

/// What must not be in the answer to a request that was refused or failed. (What the client asked for itself may.)
pub fn never_answered(text: &str) -> Option<&str> {
    let credentials = CREDENTIALS.into_iter().find(|credential| text.contains(credential));
    let patients = || PATIENTS.known_by.iter().map(String::as_str).find(|known| text.contains(known));
    credentials.or_else(patients).or_else(|| jwt(text))
}

/// What must not be in a log line.
pub fn never_logged(text: &str) -> Option<&str> {
    let planted = || [DATA, TOKEN].into_iter().find(|canary| text.contains(canary));
    let ids = || PATIENTS.ids.iter().map(String::as_str).find(|id| text.contains(id));
    never_answered(text).or_else(planted).or_else(ids)
}

/// A JSON Web Token: access token or assertion.
fn jwt(text: &str) -> Option<&str> {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.match_indices("eyJ").filter_map(|(at, _)| text.get(at..)).find(|rest| {
        let header = rest.bytes().take_while(is_base64).count();
        let mut behind = rest.bytes().skip(header);
        header >= 12 && behind.next() == Some(b'.') && behind.next().as_ref().is_some_and(is_base64)
    })
}

type Found = Arc<Mutex<Vec<String>>>;

/// All that was found in this process.
static FOUND: LazyLock<Found> = LazyLock::new(Found::default);

fn note(found: &Found, place: &str, text: &str) {
    if let Some(what) = never_logged(text) {
        found.lock().unwrap_or_else(PoisonError::into_inner).push(format!("`{what}` in {place}: {text}"));
    }
}

/// Looks at a line that another process has written.
pub fn look_at(place: &str, line: &str) {
    note(&FOUND, place, line);
}

/// Looks at every event of this process from now on, unless its thread has a subscriber of its own.
pub(super) fn watch() {
    // Once per process; whoever has set another one before looks for themselves.
    drop(registry().with(Canary(FOUND.clone()).with_filter(watched())).try_init());
}

/// Fails once something was found that should never be logged.
pub(super) fn must_sing() -> Result<()> {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if found.is_empty() { Ok(()) } else { Err(format!("this must never be logged:\n{}", found.join("\n")).into()) }
}

struct Canary(Found);

/// All fields of an event, as they would be printed.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

impl Canary {
    fn look(&self, target: &str, record: impl FnOnce(&mut Text)) {
        let mut text = Text(target.to_owned());
        record(&mut text);
        note(&self.0, "a log line", &text.0);
    }
}

impl<S: tracing::Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Canary {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        self.look(event.metadata().target(), |text| event.record(text));
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        self.look(attributes.metadata().target(), |text| attributes.record(text));
    }

    fn on_record(&self, _: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        self.look("a span", |text| values.record(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_logged_is_heard_in_messages_fields_and_errors() {
        let found = Found::default();
        let _here = tracing::subscriber::set_default(registry().with(Canary(found.clone()).with_filter(watched())));
        let heard = || std::mem::take(&mut *found.lock().unwrap());
        tracing::info!(target: "kickoff", owner = "lab", "accepted");
        tracing::debug!(target: "hyper", "Okonlind");
        assert_eq!(heard(), Vec::<String>::new());
        let error = std::io::Error::other("https://b.example/x?X-Amz-Signature=1");
        tracing::info!(target: "audit", "of Okonlind");
        tracing::trace!(target: "headrace_core::flow", id = "hr-patient-01");
        tracing::warn!(target: "hyper", cause = &error as &dyn std::error::Error);
        tracing::info!(target: "token", token = %"eyJhbGciOiJFUzM4NCJ9.eyJpc3MiOiJsYWIifQ.c2ln");
        drop(tracing::info_span!(target: "files", "span", about = DATA));
        let heard = heard();
        let places = ["audit", "headrace_core::flow", "hyper", "token", "files"];
        assert_eq!(heard.len(), places.len(), "{heard:?}");
        for (line, place) in heard.iter().zip(places) {
            assert!(line.contains(&format!(": {place} ")), "{line}");
        }
    }

    #[test]
    fn a_keys_name_is_no_token() {
        for harmless in ["eyJ", "kid=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzM4NCJ9", "reyJavik.is", "eyJabc.def"] {
            assert_eq!(jwt(harmless), None, "{harmless}");
        }
    }
}
