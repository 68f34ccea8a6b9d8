use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::definitions::ResourceType;
use crate::semantics::reference::{BaseUrls, LocalReference};

const MEMBERS: [&str; 3] = ["1", "ä-2", "Patient"];

fn may_mention(line: &str) -> bool {
    may_mention_patient(line.as_bytes(), &|id| MEMBERS.iter().any(|member| member.as_bytes() == id))
}

#[test]
fn a_line_that_names_a_member_may_mention_one() {
    for line in [
        r#"{"subject":{"reference":"Patient/1"}}"#,
        r#"{"subject":{"reference":"Patient\/1"}}"#,
        r#"{"subject":{"reference":" Patient/1 "}}"#,
        "{\"subject\":{\"reference\":\"Patient/1\u{a0}\"}}",
        r#"{"subject":{"reference":"Patient/1/_history/3"}}"#,
        r#"{"subject":{"reference":"Patient\/1\/_history\/3"}}"#,
        r#"{"subject":{"reference":"https://example.org/fhir/Patient/1"}}"#,
        r#"{"subject":{"reference":"Patient/9"},"performer":[{"reference":"Patient/1"}]}"#,
        r#"{"link":[{"other":{"reference":"Patient/ä-2"}}]}"#,
        r#"{"subject":{"reference":"Patient/Patient"}}"#,
        r#"{"subject":{"reference":"https://example.org/Patient/Patient/1"}}"#,
        r#"{"resourceType":"Patient","id":"1"}"#,
        r#"{"id" : "1", "resourceType" : "Patient"}"#,
    ] {
        assert!(may_mention(line), "{line}");
    }
}

#[test]
fn an_escaped_member_may_be_mentioned() {
    for line in [
        r#"{"subject":{"reference":"Patient/\u0031"}}"#,
        r#"{"subject":{"reference":"Patient/\u00e4-2"}}"#,
        r#"{"subject":{"reference":"Pati\u0065nt/1"}}"#,
        r#"{"subject":{"reference":"Patient\u002F1"}}"#,
        r#"{"resourceType":"\u0050atient","id":"1"}"#,
        r#"{"resourceType":"Patient","id":"\u0031"}"#,
        r#"{"resourceType":"Patient","i\u0064":"1"}"#,
    ] {
        assert!(may_mention(line), "{line}");
    }
}

#[test]
fn a_line_without_members_mentions_none() {
    for line in [
        r#"{"resourceType":"Organization","id":"1"}"#,
        r#"{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/11","type":"Patient"}}"#,
        r#"{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/Patient1"}}"#,
        r#"{"resourceType":"Patient","id":"2","text":{"div":"\u003cdiv\u003e Patient 1\nid: 1 \"1\""}}"#,
        r#"{"resourceType":"Patient","id":"11","contact":[{"name":{"text":"Patient"}}]}"#,
        r#"{"subject":{"reference":"patient/1"}}"#,
    ] {
        assert!(!may_mention(line), "{line}");
    }
}

/// Returns true if the tree is a member or one of its strings names a member. A slow reference implementation.
fn names_member(tree: &Value) -> bool {
    let is_member = |id: &str| MEMBERS.contains(&id);
    let is_patient = tree["resourceType"] == "Patient" && tree["id"].as_str().is_some_and(is_member);
    let names_patient = |text: &str| {
        LocalReference::parse(text.trim(), &BaseUrls::any())
            .is_some_and(|reference| reference.resource_type == ResourceType::PATIENT && is_member(reference.id))
    };
    is_patient
        || match tree {
            Value::String(text) => names_patient(text),
            Value::Array(items) => items.iter().any(names_member),
            Value::Object(members) => members.values().any(names_member),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
}

/// Generates a JSON string with each character plain or as one of its escapes.
fn json_string(text: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(0_u8..24, text.chars().count()).prop_map(move |spellings| {
        let spell = |(letter, spelling): (char, u8)| match (spelling, letter) {
            (0, _) => format!("\\u{:04x}", u32::from(letter)),
            (1, _) => format!("\\u{:04X}", u32::from(letter)),
            (2..8, '/') => "\\/".to_owned(),
            _ => letter.to_string(),
        };
        format!("\"{}\"", text.chars().zip(spellings).map(spell).collect::<String>())
    })
}

fn member() -> impl Strategy<Value = String> {
    let name = prop::sample::select(&["resourceType", "id", "reference", "x"][..]).prop_flat_map(json_string);
    let value = prop::sample::select(
        &[
            "Patient",
            "1",
            "9",
            "Patient/1",
            "Patient/9",
            "Patient/ä-2/_history/1",
            "Patient/1 ",
            "http://a.example/Patient/Patient",
            "#1",
            "a \\\\ b",
        ][..],
    );
    (name, prop::sample::select(&[":", " : "][..]), value.prop_flat_map(json_string))
        .prop_map(|(name, colon, value)| format!("{name}{colon}{value}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_line_that_names_a_member_is_never_skipped(members in prop::collection::vec(member(), 1..6)) {
        let line = format!("{{{}}}", members.join(","));
        if let Ok(tree) = serde_json::from_str::<Value>(&line) {
            prop_assert!(may_mention(&line) || !names_member(&tree), "{}", line);
        }
    }

    #[test]
    fn no_bytes_cause_a_panic(line in prop::collection::vec(prop::sample::select(&["Patient", "\"", "/", "\\", "u00", "6", "\"id\"", ":", "1"][..]), 0..20)) {
        may_mention(&line.concat());
    }
}
