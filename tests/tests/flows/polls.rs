//! What a client is told while it waits and when it is done, beyond the usual: the export's status apart from the poll's,
//! and manifests in pages.

use std::collections::BTreeSet;

use headrace_tests::flows::{ANN, Ask, ManualClock, OneMachine, Result, Stage as _, Terms, World, run};
use serde_json::Value;

async fn kick_off(world: &World<OneMachine>, target: &str, prefer: &str) -> Result<String> {
    let mut ask = Ask::new("GET", target).by(ANN);
    ask.headers.retain(|(name, _)| *name != "prefer");
    ask.headers.push(("prefer", prefer.to_owned()));
    let answer = world.send(&ask).await?;
    let url = answer.header("content-location").ok_or_else(|| format!("{answer:?}"))?;
    Ok(url.find("/_operations").and_then(|at| url.get(at..)).ok_or("no status URL")?.to_owned())
}

fn lines(count: usize) -> Vec<u8> {
    (0..count).map(|n| format!("{{\"resourceType\":\"Basic\",\"id\":\"{n}\"}}\n")).collect::<String>().into_bytes()
}

// Holds: S20
#[test]
fn a_poll_says_the_exports_status_in_a_header_to_whoever_asked_for_it_so() -> Result<()> {
    run(async || {
        let stage = OneMachine::with(&[("Basic.ndjson", &lines(3))]).await?;
        let world = World::start(&stage, &ManualClock::default(), Terms::default());
        let status = kick_off(&world, "/$export", "respond-async, separate-export-status").await?;
        let waiting = world.ask("GET", &status).await?;
        assert_eq!((waiting.status, waiting.header("x-export-status")), (200, Some("202 Accepted")));
        assert!(waiting.header("retry-after").is_some() && waiting.header("x-progress").is_some() && waiting.body.is_empty());
        world.drain().await?;
        let done = world.ask("GET", &status).await?;
        assert_eq!((done.status, done.header("x-export-status")), (200, Some("200 OK")));
        assert_eq!(done.json()?["output"][0]["count"], 3);
        // Whether the poll itself finds the export is still its own status.
        world.ask("DELETE", &status).await?;
        let gone = world.ask("GET", &status).await?;
        assert_eq!((gone.status, gone.header("x-export-status")), (404, None));
        Ok(())
    })
}

// Holds: P90, S6
#[test]
fn a_manifest_of_many_files_comes_in_pages_if_the_client_can_take_them() -> Result<()> {
    run(async || {
        let stage = OneMachine::with(&[("Basic.ndjson", &lines(1))]).await?;
        let world = World::start(&stage, &ManualClock::default(), Terms::default());
        let status = kick_off(&world, "/$export?allowPartialManifests=true", "respond-async").await?;
        world.drain().await?;
        let one = world.ask("GET", &status).await?.json()?;
        assert!(one.get("link").is_none() && one["output"].as_array().is_some_and(|files| files.len() == 1));
        // As if it had been an export of thousands of files.
        let items = stage.items().await?;
        let (_, part) = items.iter().find(|(key, _)| key.ends_with("PART#Basic#0000000001")).ok_or("no part")?;
        for number in 2..=5_003 {
            let mut part = part.clone();
            part["sk"] = serde_json::json!({ "S": format!("PART#Basic#{number:010}") });
            stage.put_item(&part).await?;
        }
        let (mut target, mut sizes, mut urls) = (Some(status.clone()), Vec::new(), BTreeSet::new());
        while let Some(page) = target.take() {
            let manifest: Value = world.ask("GET", &page).await?.json()?;
            let files = manifest["output"].as_array().ok_or("no output")?;
            sizes.push(files.len());
            urls.extend(files.iter().filter_map(|file| file["url"].as_str().map(str::to_owned)));
            let next = manifest["link"][0]["url"].as_str();
            target = next.and_then(|url| url.find("/_operations").and_then(|at| url.get(at..))).map(str::to_owned);
        }
        assert_eq!((sizes, urls.len()), (vec![5_000, 3], 5_003));
        let beyond = world.ask("GET", &format!("{status}?page=3")).await?;
        assert_eq!(beyond.status, 404);
        Ok(())
    })
}
