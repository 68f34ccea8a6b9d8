use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::access::{Client, ClientKeys, FixedConfigurations, Scopes};
use crate::flow::resolve_patients::tests::{Lake, deletion, sent};
use crate::vocab::ids::Caller;

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Millis {
        Millis(1_769_846_400_000)
    }
}

const SETTINGS: PatientResolutionSettings = PatientResolutionSettings { untyped_bytes: 1 << 20, time_limit: Duration::from_secs(1) };

fn group(id: &str, changed: &str, name: &str) -> Value {
    json!({
        "resourceType": "Group", "id": id, "meta": { "lastUpdated": changed }, "type": "person", "actual": true, "name": name,
        "identifier": [{ "system": "urn:cohorts", "value": id }],
        "member": [{ "entity": { "reference": "Patient/p" } }]
    })
}

fn lake() -> Lake {
    Lake::default()
        .with(
            "Group/1.ndjson",
            [group("b", "2025-01-01", "Diabetes north"), group("a", "2025-01-01", "Asthma"), group("gone", "2025-01-01", "Diabetes")],
        )
        .with(
            "Group/2.ndjson",
            [group("a", "2025-02-01", "Diabetes south"), group("b", "2024-02-01", "Old"), group("d", "2027-01-01", "Diabetes")],
        )
        .with("deleted-1.ndjson", [deletion("Group/gone", "2025-03-01")])
        .with("mixed.ndjson", [group("c", "2025-01-01", "diabetes"), json!({ "resourceType": "Patient", "id": "Group" })])
}

fn visible(permissions: &Permissions) -> Result<VisibleGroups, RequestError> {
    VisibleGroups::from_permissions(permissions, FhirVersion::R4, Instant::from_millis(FixedClock.now().0))
}

async fn search(lake: &Lake, query: &str) -> Result<GroupPage, ExportError> {
    search_within(&Permissions::default(), lake, query, None).await
}

async fn search_within(permissions: &Permissions, lake: &Lake, query: &str, after: Option<String>) -> Result<GroupPage, ExportError> {
    let now = Instant::from_millis(FixedClock.now().0);
    let (search, visible) = (GroupSearch::parse(query, after, FhirVersion::R4, now)?, visible(permissions)?);
    sent(search_groups(lake, &FixedClock, SETTINGS, &visible, &search)).await
}

async fn read_within(permissions: &Permissions, lake: &Lake, id: &str) -> Result<String, ExportError> {
    sent(read_group(lake, &FixedClock, SETTINGS, &visible(permissions)?, id)).await
}

async fn ids(query: &str) -> Vec<String> {
    search(&lake(), query).await.unwrap().groups.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn a_group_is_read_in_its_newest_version() {
    let read = async |id: &str| read_within(&Permissions::default(), &lake(), id).await;
    assert_eq!(read("a").await.unwrap(), group("a", "2025-02-01", "Diabetes south").to_string());
    assert_eq!(read("b").await.unwrap(), group("b", "2025-01-01", "Diabetes north").to_string());
    for id in ["gone", "d", "p", "Group", "", "A"] {
        assert!(matches!(read(id).await, Err(ExportError::NotFound(_))), "{id}");
    }
}

#[tokio::test]
async fn groups_are_searched_by_their_newest_version() {
    assert_eq!(ids("name=diabetes").await, ["a", "b", "c"]);
    assert_eq!(ids("name:exact=Diabetes+south").await, ["a"]);
    assert_eq!(ids("name:exact=Diabetes%20south").await, ["a"]);
    assert_eq!(ids("name=asthma").await, [""; 0]);
    assert_eq!(ids("identifier=urn:cohorts|b").await, ["b"]);
    assert_eq!(ids("identifier=urn:cohorts%7Cb,urn:cohorts%7Cc&type=person").await, ["b", "c"]);
    assert_eq!(ids("_id=c").await, ["c"]);
    assert_eq!(ids("_lastUpdated=gt2025-01-15").await, ["a"]);
    assert_eq!(ids("member=Patient/p").await, ["a", "b", "c"]);
    assert_eq!(ids("").await, ["a", "b", "c"]);
    assert_eq!(ids("_format=json").await, ["a", "b", "c"]);
}

#[tokio::test]
async fn pages_hold_every_group_once() {
    for count in 1..5 {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let query = format!("name=diabetes&_count={count}");
            let page = search_within(&Permissions::default(), &lake(), &query, after).await.unwrap();
            assert_eq!(page.total, 3);
            assert!(page.groups.len() <= count);
            ids.extend(page.groups.into_iter().map(|(id, _)| id));
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        assert_eq!(ids, ["a", "b", "c"], "{count}");
    }
    let none = search(&lake(), "_count=0").await.unwrap();
    assert_eq!((none.total, none.groups.len(), none.next), (3, 0, None));
}

#[tokio::test]
async fn unsupported_search_parameters_are_rejected_by_name() {
    for (query, word) in [
        ("shoe-size=12", "shoe-size"),
        ("_summary=true", "_summary"),
        ("_sort=name", "_sort"),
        ("_include=Group:member", "_include"),
        ("_count=101", "_count"),
        ("_count=-1", "_count"),
        ("_format=xml", "_format"),
        ("_lastUpdated=soon", "_lastUpdated"),
    ] {
        let Err(ExportError::Rejected(error)) = search(&lake(), query).await else { panic!("{query}") };
        assert!(error.status == 400 && error.text.contains(word) && !error.text.contains("_typeFilter"), "{}", error.text);
    }
}

#[tokio::test]
async fn a_group_too_large_for_its_page_is_returned_without_members() {
    let mut large = group("large", "2025-01-01", "Everybody");
    large["member"] = (0..100_000).map(|id| json!({ "entity": { "reference": format!("Patient/{id:012}") } })).collect();
    large["modifierExtension"] = json!([{ "url": "http://example.org/x", "valueBoolean": true }]);
    let lake = lake().with("Group/3.ndjson", [large]);
    let page = search(&lake, "").await.unwrap();
    let bytes: usize = page.groups.iter().map(|(_, text)| text.len()).sum();
    assert!(page.groups.len() == 4 && bytes < 4_000_000);
    let text = &page.groups.iter().find(|(id, _)| id == "large").unwrap().1;
    let read: Value = serde_json::from_str(text).unwrap();
    assert_eq!(read["meta"]["tag"][0]["code"], "SUBSETTED");
    assert_eq!((&read["member"], &read["name"]), (&Value::Null, &json!("Everybody")));
    assert_eq!(read["modifierExtension"][0]["valueBoolean"], true, "a modifier extension must not be left out");
    let Err(ExportError::Rejected(error)) = read_within(&Permissions::default(), &lake, "large").await else { panic!() };
    assert_eq!(error.status, 422);
}

fn permissions(scopes: &str, groups: Option<&[&str]>) -> Permissions {
    let client = Client {
        groups: groups.map(|groups| groups.iter().map(ToString::to_string).collect()),
        ..Client::new(Caller("c".into()), ClientKeys::External, Scopes::Everything, Millis(0))
    };
    Permissions { scopes: Scopes::parse(scopes, FhirVersion::R4).0, client: Some(client), ..Permissions::default() }
}

// Holds: K7
#[tokio::test]
async fn a_client_registered_for_some_groups_sees_no_others() {
    let own = permissions("system/*.rs", Some(&["a", "c", "unknown"]));
    let page = search_within(&own, &lake(), "name=diabetes&_count=1", None).await.unwrap();
    assert_eq!((page.total, page.next.as_deref(), page.groups.len()), (2, Some("a"), 1));
    let found = async |query: &str| {
        search_within(&own, &lake(), query, None).await.unwrap().groups.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(found("").await, ["a", "c"]);
    assert_eq!(found("_id=b").await, [""; 0]);
    for (id, is_there) in [("a", true), ("b", false), ("unknown", false)] {
        let read = read_within(&own, &lake(), id).await;
        assert!(if is_there { read.is_ok() } else { matches!(read, Err(ExportError::NotFound(_))) }, "{id}");
    }
    assert_eq!(search_within(&permissions("system/*.rs", Some(&[])), &lake(), "", None).await.unwrap().total, 0);
}

// Holds: SEC-A13
#[test]
fn a_client_with_fixed_configurations_sees_no_group() {
    let unrestricted = permissions("system/*.rs", Some(&["a"]));
    assert!(visible(&unrestricted).is_ok());
    let client = unrestricted.client.map(|client| Client { anonymization_configs: Some(FixedConfigurations::default()), ..client });
    let error = visible(&Permissions { client, ..Permissions::default() }).unwrap_err();
    assert_eq!((error.status, error.code), (403, IssueCode::Forbidden));
}

// Holds: SEC-A13
#[tokio::test]
async fn only_groups_that_the_scopes_allow_are_returned() {
    let some = permissions("system/Group.rs?identifier=urn:cohorts|b,urn:cohorts|c system/Patient.rs", None);
    assert_eq!(search_within(&some, &lake(), "", None).await.unwrap().total, 2);
    assert!(read_within(&some, &lake(), "b").await.is_ok());
    assert!(matches!(read_within(&some, &lake(), "a").await, Err(ExportError::NotFound(_))));
    for scopes in ["system/Patient.rs", ""] {
        let error = visible(&permissions(scopes, None)).unwrap_err();
        assert!(error.is_insufficient_scope(), "{error:?}");
    }
}
