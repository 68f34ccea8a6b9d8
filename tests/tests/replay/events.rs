//! Invokes the handlers with the events below `events/`, over a job table with an export in every state, and checks the responses.
//!
//! `events/README.md` describes the files, and their use with `sam local invoke` and `cargo lambda invoke`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headrace_core::access::{self, ClientKeys};
use headrace_tests::flows::{Deployment as _, ManualClock, Result, ServiceProcess, SmartClient, run, seed, set_next_job_number};
use serde_json::Value;

/// Placeholder in expectations for any value, or for any part of a text.
const ANY: &str = "<any>";

/// Public key of the client `warehouse`. The private key, which signed the events, no longer exists.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-384","kid":"2026","use":"sig",
"x":"lu-O7fCWR_M7O5WsdiQHzTl4wmwAWcNBKSGuN_mqjyhNIBz_Dyc56MTup5GVWJkj",
"y":"pjmobIkbobxSFPFeyytcy80Ol0PsuJfU3yEElGXsHXOTDqLoJ15pY0867gcnN-d6"}]}"#;

/// Registered scopes of that client.
const SCOPES: &str = "system/Patient.rs system/Observation.rs";

/// Folder of the events that the service puts on a bus.
const EVENT_BUS: &str = "event-bus";

/// Suffix of the names of events for a deployment with access tokens.
const TOKEN_EVENT_SUFFIX: &str = "access-token";

fn events_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../events")
}

/// Event and expected response. Either is missing if its file is missing.
type EventPair = (Option<Value>, Option<Value>);

/// Reads all events and expected responses, by `function/name`.
fn event_pairs() -> Result<BTreeMap<String, EventPair>> {
    let mut event_pairs = BTreeMap::<String, EventPair>::new();
    for function in std::fs::read_dir(events_dir())? {
        let function = function?.path();
        if !function.is_dir() || function.ends_with(EVENT_BUS) {
            continue;
        }
        for file in std::fs::read_dir(&function)? {
            let path = file?.path();
            let path_text = path.strip_prefix(events_dir())?.to_str().ok_or("a file name is not UTF-8")?;
            let json = serde_json::from_slice(&std::fs::read(&path)?).map_err(|error| format!("{path_text}: {error}"))?;
            match (path_text.strip_suffix(".expected.json"), path_text.strip_suffix(".json")) {
                (Some(name), _) => event_pairs.entry(name.to_owned()).or_default().1 = Some(json),
                (None, Some(name)) => event_pairs.entry(name.to_owned()).or_default().0 = Some(json),
                (None, None) => return Err(format!("{path_text} is neither an event nor an expectation").into()),
            }
        }
    }
    Ok(event_pairs)
}

/// Describes the first difference between response and expectation. Headers that the expectation does not mention are ignored.
fn difference(expected: &Value, response: &Value, path_text: &str) -> Option<String> {
    let differ = || Some(format!("{path_text}: expected {expected}, but the response has {response}"));
    match (expected, response) {
        (Value::String(expected), _) if expected == ANY => None,
        (Value::String(expected), Value::String(text)) => {
            if matches_pattern(expected, text) {
                None
            } else {
                differ()
            }
        }
        (Value::Array(expected), Value::Array(items)) if expected.len() == items.len() => expected
            .iter()
            .zip(items)
            .enumerate()
            .find_map(|(index, (expected, item))| difference(expected, item, &format!("{path_text}[{index}]"))),
        (Value::Object(expected), Value::Object(members)) => {
            let extra = (!path_text.ends_with(".headers")).then(|| members.keys().find(|name| !expected.contains_key(*name))).flatten();
            if let Some(extra) = extra {
                return Some(format!("{path_text}.{extra}: not expected"));
            }
            expected.iter().find_map(|(name, expected)| {
                difference(expected, members.get(name).unwrap_or(&Value::Null), &format!("{path_text}.{name}"))
            })
        }
        _ => {
            if expected == response {
                None
            } else {
                differ()
            }
        }
    }
}

/// Returns true if the text matches a pattern with [`ANY`] as placeholder.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once(ANY) else { return pattern == text };
    let Some(text) = text.strip_prefix(before) else { return false };
    (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| matches_pattern(rest, text)))
}

/// Invokes the event's function over the stored items of this version and returns its response.
async fn replay(name: &str, event: &Value) -> Result<Value> {
    let deployment = seed::aws_deployment().await?;
    for item in crate::golden::stored_items()? {
        deployment.put_job_table_item(&item).await?;
    }
    let (function, _) = name.split_once('/').ok_or("the path of an event has no function")?;
    let is_smart = function == "token" || name.ends_with(TOKEN_EVENT_SUFFIX);
    let settings = if is_smart { seed::settings().with_smart_access()? } else { seed::settings() };
    let service = ServiceProcess::start(&deployment, &ManualClock::default(), settings);
    if is_smart {
        let registration = service.registration(&SmartClient::new_es384("warehouse")?, SCOPES)?;
        service.put_client(&access::Client { keys: ClientKeys::Jwks(KEYS.to_owned()), ..registration }).await?;
    }
    set_next_job_number(1);
    service.invoke(function, event).await
}

// Holds: K6, K20, K21, K23, S7, G2, SEC-A5, SEC-A10, SEC-A11
#[test]
fn every_event_gives_the_expected_response() -> Result<()> {
    let event_pairs = event_pairs()?;
    let mut wrong = Vec::new();
    for (name, pair) in &event_pairs {
        let (Some(event), Some(expected)) = pair else {
            wrong.push(format!("{name}: the event or its expected response is missing"));
            continue;
        };
        match run(async || replay(name, event).await) {
            Ok(response) => wrong.extend(difference(expected, &response, name)),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let functions: std::collections::BTreeSet<_> = event_pairs.keys().filter_map(|name| name.split('/').next()).collect();
    assert!(functions.into_iter().eq([
        "cancel",
        "chunk-worker",
        "files",
        "groups",
        "kickoff",
        "metadata",
        "reaper",
        "status",
        "sync-worker",
        "token"
    ]));
    Ok(())
}

#[test]
fn the_placeholder_matches_any_text() {
    for (pattern, text) in [("a", "a"), ("<any>", ""), ("<any>", "x"), ("a<any>c", "abc"), ("<any>-<any>", "1-2-3")] {
        assert!(matches_pattern(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("a", "b"), ("a<any>c", "ab"), ("<any>c", "cb"), ("", "x")] {
        assert!(!matches_pattern(pattern, text), "{pattern} {text}");
    }
}
