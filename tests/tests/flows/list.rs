//! The caller's list of exports.

use std::time::Duration;

use headrace_tests::flows::{ANN, Answer, Ask, BEN, MINUTE, ManualClock, Result, Stage, World, count_ids_from, run, seed};
use serde::Deserialize;

async fn list<S: Stage>(world: &World<S>, caller: &str, query: &str) -> Result<Answer> {
    world.send(&Ask::new("GET", format!("/_operations/export{query}")).by(caller)).await
}

/// A page as a client reads it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    #[serde(rename = "resourceType")]
    resource_type: String,
    #[serde(rename = "type")]
    kind: String,
    link: Vec<Link>,
    #[serde(default)]
    entry: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Link {
    relation: String,
    url: String,
}

#[derive(Deserialize)]
struct Entry {
    resource: Task,
}

#[derive(Deserialize)]
struct Task {
    id: String,
    status: String,
}

/// The last two digits of the ids of a page, and the query of its link `next`.
fn read(answer: &Answer) -> Result<(Vec<String>, Option<String>)> {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/fhir+json")));
    let bundle: Bundle = serde_json::from_slice(&answer.body)?;
    assert_eq!((bundle.resource_type.as_str(), bundle.kind.as_str()), ("Bundle", "searchset"));
    assert!(bundle.entry.as_ref().is_none_or(|entries| !entries.is_empty()), "FHIR knows no empty arrays");
    let ids = bundle.entry.into_iter().flatten().map(|entry| entry.resource.id.get(30..).unwrap_or_default().to_owned()).collect();
    assert!(bundle.link.iter().any(|link| link.relation == "self"));
    let next = bundle.link.into_iter().find(|link| link.relation == "next").map(|link| {
        let (path, query) = link.url.split_once('?').unwrap_or((&link.url, ""));
        assert!(path.starts_with("https://") && path.ends_with("/_operations/export"), "{}", link.url);
        format!("?{query}")
    });
    Ok((ids, next))
}

async fn pages<S: Stage>(world: &World<S>, caller: &str, query: &str) -> Result<Vec<Vec<String>>> {
    let (mut pages, mut query) = (Vec::new(), Some(query.to_owned()));
    while let Some(asked) = query {
        let (ids, next) = read(&list(world, caller, &asked).await?)?;
        pages.push(ids);
        query = next;
    }
    Ok(pages)
}

async fn kick_off<S: Stage>(world: &World<S>, caller: &str) -> Result<()> {
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.send(&Ask::new("GET", "/$export").by(caller)).await?.status, 202);
    Ok(())
}

#[test]
fn a_caller_sees_its_own_exports_newest_first_and_nobody_elses() -> Result<()> {
    run(async || {
        count_ids_from(1);
        let world = World::start(&seed::aws().await?, &ManualClock::default(), seed::terms());
        assert_eq!(read(&list(&world, ANN, "").await?)?, (vec![], None));
        for caller in [ANN, BEN, ANN, ANN, BEN, ANN] {
            kick_off(&world, caller).await?;
        }
        assert_eq!(pages(&world, ANN, "").await?, [["06", "04", "03", "01"]]);
        assert_eq!(pages(&world, ANN, "?_count=3").await?, [vec!["06", "04", "03"], vec!["01"]]);
        assert_eq!(pages(&world, ANN, "?_count=2").await?, [["06", "04"], ["03", "01"]]);
        assert_eq!(pages(&world, BEN, "?_count=1").await?, [["05"], ["02"]]);
        // Ann's link in Ben's hands.
        let (_, next) = read(&list(&world, ANN, "?_count=1").await?)?;
        assert_eq!(read(&list(&world, BEN, &next.ok_or("no next page")?).await?)?.0, ["05"]);
        let nobody = world.send(&Ask::new("GET", "/_operations/export")).await?;
        assert_eq!((nobody.status, nobody.outcome()?.1.as_str()), (401, "login"));
        for query in ["?_count=0", "?_count=x", "?page=1", "?page=", "?_sort=_id", "?_count=1&_count=2"] {
            let answer = list(&world, ANN, query).await?;
            answer.outcome()?;
            assert_eq!(answer.status, 400, "{query}");
        }
        Ok(())
    })
}

#[test]
fn what_was_cancelled_or_has_expired_is_left_out_and_leaves_no_short_page() -> Result<()> {
    run(async || {
        count_ids_from(1);
        let world = World::start(&seed::aws().await?, &ManualClock::default(), seed::terms());
        kick_off(&world, ANN).await?;
        world.drain().await?;
        world.clock.advance(24 * 60 * MINUTE);
        kick_off(&world, ANN).await?;
        world.drain().await?;
        kick_off(&world, ANN).await?;
        for number in 4..=34 {
            kick_off(&world, ANN).await?;
            let status = format!("/_operations/export/{}{number:02x}", "0".repeat(30));
            assert_eq!(world.ask("DELETE", &status).await?.status, 202);
        }
        assert_eq!(pages(&world, ANN, "?_count=2").await?, [["03", "02"]]);
        let bundle: Bundle = serde_json::from_slice(&list(&world, ANN, "").await?.body)?;
        let states: Vec<_> = bundle.entry.iter().flatten().map(|entry| entry.resource.status.as_str()).collect();
        assert_eq!(states, ["accepted", "completed"]);
        Ok(())
    })
}
