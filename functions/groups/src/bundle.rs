//! Groups as a Bundle.

use headrace_core::flow::client::groups::GroupPage;
use serde_json::Value;

/// The page as FHIR's search answers: resources stand in it byte for byte as they were found.
pub(crate) fn searchset(base: &str, query: &str, page: &GroupPage) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let link = |relation: &str, query: &str| {
        let url = if query.is_empty() { format!("{base}/Group") } else { format!("{base}/Group?{query}") };
        format!(r#"{{"relation":"{relation}","url":{}}}"#, text(&url))
    };
    let mut links = link("self", query);
    if let Some(last) = &page.next {
        let rest: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("page=")).collect();
        let page = format!("page={}", encoded(last));
        let next: Vec<&str> = rest.into_iter().chain([page.as_str()]).collect();
        links = format!("{links},{}", link("next", &next.join("&")));
    }
    let entry = |(id, resource): &(String, String)| {
        let url = text(&format!("{base}/Group/{}", encoded(id)));
        format!(r#"{{"fullUrl":{url},"resource":{resource},"search":{{"mode":"match"}}}}"#)
    };
    let entries: Vec<String> = page.groups.iter().map(entry).collect();
    // FHIR knows no empty arrays.
    let entries = if entries.is_empty() { String::new() } else { format!(r#","entry":[{}]"#, entries.join(",")) };
    format!(r#"{{"resourceType":"Bundle","type":"searchset","total":{},"link":[{links}]{entries}}}"#, page.total)
}

/// Percent-encodes an id for a URL: ids of real servers hold more than FHIR allows.
fn encoded(id: &str) -> String {
    id.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
