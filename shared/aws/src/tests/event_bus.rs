//! Tests of the event bus, with answers as AWS documents them.

use aws_sdk_eventbridge::config::{BehaviorVersion, Credentials, Region};
use headrace_core::job::{Job, JobState};
use headrace_core::request::ExportRequest;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{Caller, JobId};
use serde_json::json;

use super::*;
use crate::script::{Answer, Script};

/// The time of the events.
const AT: Millis = Millis(1_769_846_400_250);

/// Returns a bus whose client gets these answers. It repeats no call.
fn bus(script: &Script) -> EventBridgeBus {
    let config = aws_sdk_eventbridge::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
        .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
        .http_client(script.http_client());
    EventBridgeBus::new(Client::from_conf(config.build()), "exports")
}

/// Returns the events of this many accepted exports.
fn events(count: u8) -> Vec<ExportEvent> {
    let job = |n| Job::accepted(JobId::from_random([n; 16]), Caller("lab".into()), ExportRequest::default(), AT);
    (1..=count).map(|n| ExportEvent::from_move(&job(n), JobState::Accepted, AT, None)).collect()
}

/// Returns the body of an answer in which the entries with a code are rejected.
fn answer(codes: &[Option<&str>]) -> Answer {
    let entries: Vec<Value> = codes
        .iter()
        .map(|code| match code {
            None => json!({ "EventId": "11710aed-b79e-4468-a20b-bb3c0c3b4860" }),
            Some(code) => json!({ "ErrorCode": code, "ErrorMessage": "a text of AWS" }),
        })
        .collect();
    let failed = codes.iter().flatten().count();
    Answer::Http(200, json!({ "FailedEntryCount": failed, "Entries": entries }).to_string())
}

/// Returns the errors of a call with their causes. `None` is an accepted event.
fn faults(results: &EventResults) -> Vec<Option<String>> {
    let with_causes = |error: &BoxError| {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
    };
    results.iter().map(|result| result.as_ref().err().map(with_causes)).collect()
}

#[tokio::test]
async fn an_event_is_an_entry_with_source_type_time_and_stable_id() {
    let script = Script::new([answer(&[None])]);
    let event = events(1);
    let results = bus(&script).put_events(&event).await.unwrap();
    assert_eq!(faults(&results), [None]);
    let sent: Value = serde_json::from_str(&script.sent()[0].body).unwrap();
    let entry = &sent["Entries"][0];
    assert_eq!((&entry["Source"], &entry["DetailType"]), (&json!("headrace"), &json!("Export State Change")));
    assert_eq!((&entry["EventBusName"], entry["Time"].as_f64()), (&json!("exports"), Some(1_769_846_400.25)));
    let detail: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
    assert_eq!((&detail["state"], &detail["id"]), (&json!("accepted"), &json!(format!("{}-accepted", "01".repeat(16)))));
}

#[tokio::test]
async fn rejected_entries_fail_by_themselves() {
    let script = Script::new([answer(&[None, Some("ThrottlingException"), Some("InternalFailure"), None, Some("AccessDeniedException")])]);
    let faults = faults(&bus(&script).put_events(&events(5)).await.unwrap());
    let has = |index: usize, text: &str| faults[index].as_ref().is_some_and(|fault| fault.contains(text));
    assert!(faults[0].is_none() && faults[3].is_none(), "{faults:?}");
    assert!(has(1, "ThrottlingException") && has(2, "InternalFailure"), "{faults:?}");
    assert!(has(4, "HEADRACE_EVENT_BUS_NAME is `exports`") && has(4, "no permission"), "{faults:?}");
    assert!(!faults.iter().flatten().any(|fault| fault.contains("a text of AWS")), "{faults:?}");
}

#[tokio::test]
async fn an_answer_with_too_few_results_fails_the_events_without_one() {
    let script = Script::new([answer(&[None])]);
    let faults = faults(&bus(&script).put_events(&events(2)).await.unwrap());
    assert!(faults[0].is_none() && faults[1].is_some(), "{faults:?}");
}

#[tokio::test]
async fn a_failed_call_fails_all_its_events() {
    let error = |kind: &str| json!({ "__type": kind, "message": "a text of AWS" }).to_string();
    for (response, words) in [
        (Answer::Http(400, error("ThrottlingException")), "overloaded"),
        (Answer::Http(500, error("InternalException")), "did not answer"),
        (Answer::Http(503, String::new()), "did not answer"),
        (Answer::Lost, "did not answer"),
        (Answer::Http(400, error("ResourceNotFoundException")), "HEADRACE_EVENT_BUS_NAME is `exports`, which does not exist"),
        (Answer::Http(400, error("AccessDeniedException")), "no permission"),
    ] {
        let script = Script::new([response.clone()]);
        let faults = faults(&bus(&script).put_events(&events(3)).await.unwrap());
        assert_eq!(faults.len(), 3);
        assert!(faults.iter().all(|fault| fault.as_ref().is_some_and(|fault| fault.contains(words))), "{response:?}: {faults:?}");
    }
}

#[test]
fn a_call_has_ten_entries_and_256_kib_at_most() {
    assert_eq!(calls(&[]), []);
    assert_eq!((calls(&[1; 10]).len(), calls(&[1; 11])), (1, vec![0..10, 10..11]));
    assert_eq!(calls(&[1; 21]), [0..10, 10..20, 20..21]);
    let half = MAX_CALL_BYTES / 2;
    assert_eq!(calls(&[half, half, 1]), [0..2, 2..3]);
    assert_eq!(calls(&[1, MAX_CALL_BYTES + 1, 1]), [0..1, 1..2, 2..3]);
}

#[test]
fn the_size_of_an_entry_is_what_aws_counts() {
    let bus = bus(&Script::new([answer(&[])]));
    let entry = bus.entry(&events(1).remove(0));
    assert_eq!(entry_bytes(&entry), 14 + "headrace".len() + "Export State Change".len() + entry.detail().unwrap().len());
}
