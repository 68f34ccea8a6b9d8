use std::ops::Range;

use bytes::Bytes;
use futures_util::stream;
use headrace_core::job::task::Pin;
use headrace_core::ports::{ByteStream, ListedObject, MetadataObject, ObjectPage};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::SourceError;
use serde_json::{Value, json};

use super::*;

/// A lake with one object, in memory.
struct Lake(Bytes);

impl ResourceSource for Lake {
    async fn check(&self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn list(&self, _: Option<&str>) -> Result<ObjectPage, SourceError> {
        let pin = Pin { object: "Group.ndjson".into(), etag: String::new(), size: self.0.len() as u64 };
        Ok(ObjectPage { objects: vec![ListedObject { pin, arrived: Millis(0) }], ..ObjectPage::default() })
    }

    fn read(&self, _: &Pin, range: Range<u64>) -> ByteStream {
        let bytes = self.0.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        Box::pin(stream::iter([Ok(bytes)]))
    }

    async fn read_metadata(&self, _: &str) -> Result<Option<MetadataObject>, SourceError> {
        Ok(None)
    }
}

/// A clock that is always at 2026-10-01T08:00:00Z.
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Millis {
        Millis(1_790_841_600_000)
    }
}

const LINES: [&str; 3] = [
    r#"{"resourceType":"Group","id":"a b","type":"person","actual":true,"quantity":1.0,"name":"Asthma","member":[{"entity":{"reference":"Patient/p"}}]}"#,
    r#"{"resourceType":"Group","id":"b","type":"person","actual":true,"quantity":1.0,"name":"Asthma"}"#,
    r#"{"resourceType":"Group","id":"c","type":"person","actual":true,"quantity":1.0,"name":"Gout"}"#,
];

/// Reads the group with this id. Returns the status, the body as JSON, and the body as text.
async fn send_read(id: &str) -> (u16, Value, String) {
    send("", Some(id)).await
}

/// Searches groups. Returns the status, the body as JSON, and the body as text.
async fn send_search(query: &str) -> (u16, Value, String) {
    send(query, None).await
}

async fn send(query: &str, id: Option<&str>) -> (u16, Value, String) {
    let source = Lake(LINES.join("\n").into());
    let groups = Reader { source, clock: FixedClock, base: Some("https://h/fhir".into()), version: FhirVersion::R4 };
    let path = id.map_or_else(|| format!("/Group?{query}"), |id| format!("/Group/{id}"));
    let request = lambda_http::http::Request::builder().uri(path).body(Body::Empty).unwrap();
    let parameters = id.map(|id| ("id".to_owned(), vec![id.to_owned()]));
    let request = request.with_path_parameters(parameters.into_iter().collect::<std::collections::HashMap<_, _>>());
    let answer = groups.answer(&request, &Permissions::default()).await;
    let response = answer.unwrap_or_else(|error| headrace_edge::reply::error_reply(&error)).into_response();
    assert_eq!(response.headers()["content-type"], "application/fhir+json");
    let Body::Text(text) = response.body() else { panic!("no text") };
    (response.status().as_u16(), serde_json::from_str(text).unwrap(), text.clone())
}

#[tokio::test]
async fn a_group_is_returned_unchanged() {
    let (status, _, text) = send_read("b").await;
    assert_eq!((status, text.as_str()), (200, LINES[1]));
    let (status, outcome, _) = send_read("x").await;
    assert_eq!((status, &outcome["issue"][0]["code"]), (404, &json!("not-found")));
}

#[tokio::test]
async fn a_search_returns_a_bundle_with_a_link_to_the_next_page() {
    let (status, page, text) = send_search("name=asthma&_count=1").await;
    assert_eq!((status, &page["type"], &page["total"]), (200, &json!("searchset"), &json!(2)));
    assert_eq!(page["entry"][0]["fullUrl"], "https://h/fhir/Group/a%20b");
    assert_eq!(page["entry"][0]["search"]["mode"], "match");
    assert!(text.contains(LINES[0]), "unchanged");
    assert_eq!(page["link"][0], json!({ "relation": "self", "url": "https://h/fhir/Group?name=asthma&_count=1" }));
    assert_eq!(page["link"][1], json!({ "relation": "next", "url": "https://h/fhir/Group?name=asthma&_count=1&page=a%20b" }));
    let (_, page, _) = send_search("name=asthma&_count=1&page=a%20b").await;
    assert_eq!((&page["entry"][0]["resource"]["id"], page["link"].as_array().map(Vec::len)), (&json!("b"), Some(1)));
}

#[tokio::test]
async fn a_search_without_matches_has_no_entry() {
    let (status, page, _) = send_search("name=nobody").await;
    assert_eq!((status, &page["total"], page.get("entry")), (200, &json!(0), None));
}

#[tokio::test]
async fn an_unsupported_parameter_is_rejected_by_name() {
    let (status, outcome, _) = send_search("_summary=true").await;
    assert_eq!(status, 400);
    assert!(outcome["issue"][0]["diagnostics"].as_str().unwrap().contains("_summary"));
}

#[tokio::test]
async fn a_page_with_invalid_encoding_is_rejected() {
    for query in ["page=%zz", "page=%", "page=%+1"] {
        let (status, outcome, _) = send_search(query).await;
        assert_eq!((status, &outcome["issue"][0]["location"]), (400, &json!(["http.page"])), "{query}");
    }
}
