//! The search result of groups as a Bundle.

use headrace_core::flow::client::groups::GroupPage;
use headrace_edge::percent;
use serde_json::Value;

/// Writes a page as a searchset Bundle. Resources are included byte for byte as they are in the lake.
pub(crate) fn searchset(base: &str, query: &str, page: &GroupPage) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let link = |relation: &str, query: &str| {
        let url = if query.is_empty() { format!("{base}/Group") } else { format!("{base}/Group?{query}") };
        format!(r#"{{"relation":"{relation}","url":{}}}"#, text(&url))
    };
    let mut links = link("self", query);
    if let Some(last) = &page.next {
        let rest: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("page=")).collect();
        let page = format!("page={}", percent::encode(last));
        let next: Vec<&str> = rest.into_iter().chain([page.as_str()]).collect();
        links = format!("{links},{}", link("next", &next.join("&")));
    }
    let entry = |(id, resource): &(String, String)| {
        let url = text(&format!("{base}/Group/{}", percent::encode(id)));
        format!(r#"{{"fullUrl":{url},"resource":{resource},"search":{{"mode":"match"}}}}"#)
    };
    let entries: Vec<String> = page.groups.iter().map(entry).collect();
    // FHIR does not allow empty arrays.
    let entries = if entries.is_empty() { String::new() } else { format!(r#","entry":[{}]"#, entries.join(",")) };
    format!(r#"{{"resourceType":"Bundle","type":"searchset","total":{},"link":[{links}]{entries}}}"#, page.total)
}
