//! Every file below `events/` through the real handler of its function, over a job table with an export in every state.
//!
//! `events/README.md` says what the files are and how `sam local invoke` and `cargo lambda invoke` take them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headrace_core::access::{self, ClientKeys};
use headrace_tests::flows::{Client, ManualClock, Result, Stage as _, World, count_ids_from, run, seed};
use serde_json::Value;

/// Stands for any value, or for any text within a text.
const ANY: &str = "<any>";

/// The keys of the client `warehouse`. Nobody has their private half any more: it signed the events once.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-384","kid":"2026","use":"sig",
"x":"lu-O7fCWR_M7O5WsdiQHzTl4wmwAWcNBKSGuN_mqjyhNIBz_Dyc56MTup5GVWJkj",
"y":"pjmobIkbobxSFPFeyytcy80Ol0PsuJfU3yEElGXsHXOTDqLoJ15pY0867gcnN-d6"}]}"#;

/// What that client is registered for.
const SCOPES: &str = "system/Patient.rs system/Observation.rs";

/// The end of the names of events that come with an access token, or without the one that they should have.
const WITH_TOKENS: &str = "access-token";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../events")
}

/// An event and its expectation; one of the two may be missing.
type Pair = (Option<Value>, Option<Value>);

/// Every pair, by `function/name`.
fn pairs() -> Result<BTreeMap<String, Pair>> {
    let mut pairs = BTreeMap::<String, Pair>::new();
    for function in std::fs::read_dir(folder())? {
        let function = function?.path();
        if !function.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&function)? {
            let path = file?.path();
            let place = path.strip_prefix(folder())?.to_str().ok_or("a name that is not UTF-8")?;
            let json = serde_json::from_slice(&std::fs::read(&path)?).map_err(|error| format!("{place}: {error}"))?;
            match (place.strip_suffix(".expected.json"), place.strip_suffix(".json")) {
                (Some(name), _) => pairs.entry(name.to_owned()).or_default().1 = Some(json),
                (None, Some(name)) => pairs.entry(name.to_owned()).or_default().0 = Some(json),
                (None, None) => return Err(format!("{place} is neither an event nor an expectation").into()),
            }
        }
    }
    Ok(pairs)
}

/// Where the answer differs from the expectation; headers that are not named there may be anything.
fn difference(expected: &Value, answer: &Value, place: &str) -> Option<String> {
    let differ = || Some(format!("{place}: expected {expected}, answered {answer}"));
    match (expected, answer) {
        (Value::String(expected), _) if expected == ANY => None,
        (Value::String(expected), Value::String(text)) => {
            if fits(expected, text) {
                None
            } else {
                differ()
            }
        }
        (Value::Array(expected), Value::Array(items)) if expected.len() == items.len() => expected
            .iter()
            .zip(items)
            .enumerate()
            .find_map(|(index, (expected, item))| difference(expected, item, &format!("{place}[{index}]"))),
        (Value::Object(expected), Value::Object(members)) => {
            let extra = (!place.ends_with(".headers")).then(|| members.keys().find(|name| !expected.contains_key(*name))).flatten();
            if let Some(extra) = extra {
                return Some(format!("{place}.{extra}: answered, but not expected"));
            }
            expected
                .iter()
                .find_map(|(name, expected)| difference(expected, members.get(name).unwrap_or(&Value::Null), &format!("{place}.{name}")))
        }
        _ => {
            if expected == answer {
                None
            } else {
                differ()
            }
        }
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once(ANY) else { return pattern == text };
    let Some(text) = text.strip_prefix(before) else { return false };
    (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| fits(rest, text)))
}

async fn replay(name: &str, event: &Value) -> Result<Value> {
    let stage = seed::aws().await?;
    for item in crate::golden::seeds()? {
        stage.put_item(&item).await?;
    }
    let (function, _) = name.split_once('/').ok_or("an event without a function")?;
    let is_smart = function == "token" || name.ends_with(WITH_TOKENS);
    let terms = if is_smart { seed::terms().smart()? } else { seed::terms() };
    let world = World::start(&stage, &ManualClock::default(), terms);
    if is_smart {
        let registration = world.registration(&Client::es384("warehouse")?, SCOPES)?;
        world.put_client(&access::Client { keys: ClientKeys::Jwks(KEYS.to_owned()), ..registration }).await?;
    }
    count_ids_from(1);
    world.invoke(function, event).await
}

// Holds: K6, K20, K21, K23, S7, G2, SEC-A5, SEC-A10, SEC-A11
#[test]
fn every_event_is_answered_as_expected() -> Result<()> {
    let pairs = pairs()?;
    let mut wrong = Vec::new();
    for (name, pair) in &pairs {
        let (Some(event), Some(expected)) = pair else {
            wrong.push(format!("{name}: one of event and expectation is missing"));
            continue;
        };
        match run(async || replay(name, event).await) {
            Ok(answer) => wrong.extend(difference(expected, &answer, name)),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let functions: std::collections::BTreeSet<_> = pairs.keys().filter_map(|name| name.split('/').next()).collect();
    assert!(functions.into_iter().eq(["cancel", "chunk-worker", "files", "groups", "kickoff", "metadata", "reaper", "status", "token"]));
    Ok(())
}

#[test]
fn the_placeholder_stands_for_any_text_and_nothing_else() {
    for (pattern, text) in [("a", "a"), ("<any>", ""), ("<any>", "x"), ("a<any>c", "abc"), ("<any>-<any>", "1-2-3")] {
        assert!(fits(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("a", "b"), ("a<any>c", "ab"), ("<any>c", "cb"), ("", "x")] {
        assert!(!fits(pattern, text), "{pattern} {text}");
    }
}
