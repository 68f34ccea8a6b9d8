//! Optional features of status requests: the export's status in a header of its own, and paged manifests.

use std::collections::BTreeSet;

use headrace_tests::flows::{
    ANN, Deployment as _, DeploymentSettings, LocalDeployment, ManualClock, Result, ServiceProcess, TestRequest, run,
};
use serde_json::Value;

/// Kicks off with this `Prefer` header and returns the path of the status URL.
async fn kick_off(service: &ServiceProcess<LocalDeployment>, target: &str, prefer: &str) -> Result<String> {
    let mut request = TestRequest::new("GET", target).with_identity(ANN);
    request.headers.retain(|(name, _)| *name != "prefer");
    request.headers.push(("prefer", prefer.to_owned()));
    let response = service.send(&request).await?;
    let url = response.header("content-location").ok_or_else(|| format!("{response:?}"))?;
    Ok(url.find("/_operations").and_then(|at| url.get(at..)).ok_or("no status URL")?.to_owned())
}

/// Returns NDJSON of this many resources.
fn lines(count: usize) -> Vec<u8> {
    (0..count).map(|n| format!("{{\"resourceType\":\"Basic\",\"id\":\"{n}\"}}\n")).collect::<String>().into_bytes()
}

// Holds: S20
#[test]
fn a_poll_returns_the_exports_status_in_a_header_if_the_client_prefers_it() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_files(&[("Basic.ndjson", &lines(3))]).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default());
        let status = kick_off(&service, "/$export", "respond-async, separate-export-status").await?;
        let in_progress = service.request("GET", &status).await?;
        assert_eq!((in_progress.status, in_progress.header("x-export-status")), (200, Some("202 Accepted")));
        assert!(in_progress.header("retry-after").is_some() && in_progress.header("x-progress").is_some() && in_progress.body.is_empty());
        service.deliver_all().await?;
        let done = service.request("GET", &status).await?;
        assert_eq!((done.status, done.header("x-export-status")), (200, Some("200 OK")));
        assert_eq!(done.json()?["output"][0]["count"], 3);
        // A poll of an unknown export still fails with its own status.
        service.request("DELETE", &status).await?;
        let deleted = service.request("GET", &status).await?;
        assert_eq!((deleted.status, deleted.header("x-export-status")), (404, None));
        Ok(())
    })
}

// Holds: P90, S6
#[test]
fn a_long_manifest_is_paged_if_the_client_allows_partial_manifests() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_files(&[("Basic.ndjson", &lines(1))]).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default());
        let status = kick_off(&service, "/$export?allowPartialManifests=true", "respond-async").await?;
        service.deliver_all().await?;
        let first_page = service.request("GET", &status).await?.json()?;
        assert!(first_page.get("link").is_none() && first_page["output"].as_array().is_some_and(|files| files.len() == 1));
        // More entries in its list of files make it look like an export of thousands of files.
        let items = deployment.job_table_items().await?;
        let (_, item) = items.iter().find(|(key, _)| key.ends_with("FILES#0000000001")).ok_or("the job has no list of files")?;
        for (part, numbers) in [(1, 1..=5_000), (2, 5_001..=5_003)] {
            let mut item = item.clone();
            let files: String = numbers.map(|number| format!("Basic-{number}.ndjson 1\n")).collect();
            item["sk"] = serde_json::json!({ "S": format!("FILES#{part:010}") });
            item["files"] = serde_json::json!({ "S": files });
            deployment.put_job_table_item(&item).await?;
        }
        let (mut target, mut sizes, mut urls) = (Some(status.clone()), Vec::new(), BTreeSet::new());
        while let Some(page) = target.take() {
            let manifest: Value = service.request("GET", &page).await?.json()?;
            let files = manifest["output"].as_array().ok_or("no output")?;
            sizes.push(files.len());
            urls.extend(files.iter().filter_map(|file| file["url"].as_str().map(str::to_owned)));
            let next = manifest["link"][0]["url"].as_str();
            target = next.and_then(|url| url.find("/_operations").and_then(|at| url.get(at..))).map(str::to_owned);
        }
        assert_eq!((sizes, urls.len()), (vec![5_000, 3], 5_003));
        let past_last_page = service.request("GET", &format!("{status}?page=3")).await?;
        assert_eq!(past_last_page.status, 404);
        Ok(())
    })
}
