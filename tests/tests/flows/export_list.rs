//! List of a caller's exports (`GET /_operations/export`).

use std::time::Duration;

use headrace_tests::flows::{
    ANN, BEN, Deployment, ManualClock, REAPER_INTERVAL, Result, ServiceProcess, TestRequest, TestResponse, run, seed, set_next_job_number,
};
use serde::Deserialize;

/// Requests one page of the list.
async fn list<S: Deployment>(service: &ServiceProcess<S>, caller: &str, query: &str) -> Result<TestResponse> {
    service.send(&TestRequest::new("GET", format!("/_operations/export{query}")).with_identity(caller)).await
}

/// Page of the list, as a client parses it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    #[serde(rename = "resourceType")]
    resource_type: String,
    #[serde(rename = "type")]
    bundle_type: String,
    link: Vec<BundleLink>,
    #[serde(default)]
    entry: Option<Vec<BundleEntry>>,
}

/// Link to a page.
#[derive(Deserialize)]
struct BundleLink {
    relation: String,
    url: String,
}

/// Entry of the Bundle.
#[derive(Deserialize)]
struct BundleEntry {
    resource: Task,
}

/// FHIR Task of an export.
#[derive(Deserialize)]
struct Task {
    id: String,
    status: String,
}

/// Returns the last two digits of the ids on a page, and the query of its `next` link.
fn parse_page(response: &TestResponse) -> Result<(Vec<String>, Option<String>)> {
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/fhir+json")));
    let bundle: Bundle = serde_json::from_slice(&response.body)?;
    assert_eq!((bundle.resource_type.as_str(), bundle.bundle_type.as_str()), ("Bundle", "searchset"));
    assert!(bundle.entry.as_ref().is_none_or(|entries| !entries.is_empty()), "FHIR does not allow empty arrays");
    let ids = bundle.entry.into_iter().flatten().map(|entry| entry.resource.id.get(30..).unwrap_or_default().to_owned()).collect();
    assert!(bundle.link.iter().any(|link| link.relation == "self"));
    let next = bundle.link.into_iter().find(|link| link.relation == "next").map(|link| {
        let (path, query) = link.url.split_once('?').unwrap_or((&link.url, ""));
        assert!(path.starts_with("https://") && path.ends_with("/_operations/export"), "{}", link.url);
        format!("?{query}")
    });
    Ok((ids, next))
}

/// Follows the `next` links and returns the ids of each page.
async fn pages<S: Deployment>(service: &ServiceProcess<S>, caller: &str, query: &str) -> Result<Vec<Vec<String>>> {
    let (mut pages, mut query) = (Vec::new(), Some(query.to_owned()));
    while let Some(page_query) = query {
        let (ids, next) = parse_page(&list(service, caller, &page_query).await?)?;
        pages.push(ids);
        query = next;
    }
    Ok(pages)
}

/// Kicks off a system export one second after the previous one.
async fn kick_off<S: Deployment>(service: &ServiceProcess<S>, caller: &str) -> Result<()> {
    service.clock.advance(Duration::from_secs(1));
    assert_eq!(service.send(&TestRequest::new("GET", "/$export").with_identity(caller)).await?.status, 202);
    Ok(())
}

#[test]
fn a_caller_lists_only_its_own_exports_newest_first() -> Result<()> {
    run(async || {
        set_next_job_number(1);
        let service = ServiceProcess::start(&seed::aws_deployment().await?, &ManualClock::default(), seed::settings());
        assert_eq!(parse_page(&list(&service, ANN, "").await?)?, (vec![], None));
        for caller in [ANN, BEN, ANN, ANN, BEN, ANN] {
            kick_off(&service, caller).await?;
        }
        assert_eq!(pages(&service, ANN, "").await?, [["06", "04", "03", "01"]]);
        assert_eq!(pages(&service, ANN, "?_count=3").await?, [vec!["06", "04", "03"], vec!["01"]]);
        assert_eq!(pages(&service, ANN, "?_count=2").await?, [["06", "04"], ["03", "01"]]);
        assert_eq!(pages(&service, BEN, "?_count=1").await?, [["05"], ["02"]]);
        // Ann's `next` link shows Ben only his own exports.
        let (_, next) = parse_page(&list(&service, ANN, "?_count=1").await?)?;
        assert_eq!(parse_page(&list(&service, BEN, &next.ok_or("no next page")?).await?)?.0, ["05"]);
        let anonymous = service.send(&TestRequest::new("GET", "/_operations/export")).await?;
        assert_eq!((anonymous.status, anonymous.outcome()?.1.as_str()), (401, "login"));
        for query in ["?_count=0", "?_count=x", "?page=1", "?page=", "?_sort=_id", "?_count=1&_count=2"] {
            let response = list(&service, ANN, query).await?;
            response.outcome()?;
            assert_eq!(response.status, 400, "{query}");
        }
        Ok(())
    })
}

#[test]
fn cancelled_and_expired_exports_are_not_listed_and_pages_stay_full() -> Result<()> {
    run(async || {
        set_next_job_number(1);
        let service = ServiceProcess::start(&seed::aws_deployment().await?, &ManualClock::default(), seed::settings());
        kick_off(&service, ANN).await?;
        service.deliver_all().await?;
        service.clock.advance(24 * 60 * REAPER_INTERVAL);
        kick_off(&service, ANN).await?;
        service.deliver_all().await?;
        kick_off(&service, ANN).await?;
        for number in 4..=34 {
            kick_off(&service, ANN).await?;
            let status = format!("/_operations/export/{}{number:02x}", "0".repeat(30));
            assert_eq!(service.request("DELETE", &status).await?.status, 202);
        }
        assert_eq!(pages(&service, ANN, "?_count=2").await?, [["03", "02"]]);
        let bundle: Bundle = serde_json::from_slice(&list(&service, ANN, "").await?.body)?;
        let states: Vec<_> = bundle.entry.iter().flatten().map(|entry| entry.resource.status.as_str()).collect();
        assert_eq!(states, ["accepted", "completed"]);
        Ok(())
    })
}
