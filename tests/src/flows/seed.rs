//! A job table with an export in every state, for replays and golden files. The same bytes every time.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Aws, ManualClock, Result, Script, Stage, Terms, Twist, World, count_ids_from};

/// The objects of a small lake: slices of two types in turns, an object of several types with a line that is no resource.
pub fn lake() -> Vec<(&'static str, Vec<u8>)> {
    let line = |kind: &str, n: usize| format!("{{\"resourceType\":\"{kind}\",\"id\":\"{kind}-{n}\",\"text\":\"{}\"}}\n", "~".repeat(n % 7));
    let lines = |kind: &str, range: std::ops::Range<usize>| range.map(|n| line(kind, n)).collect::<String>();
    let mixed =
        [line("Patient", 90), "not a resource\n".to_owned(), line("Basic", 91), line("Observation", 92), line("Patient", 93)].concat();
    vec![
        ("1/Observation.ndjson", lines("Observation", 0..9).into_bytes()),
        ("2/Patient.ndjson", lines("Patient", 20..23).into_bytes()),
        ("3/Observation.ndjson", lines("Observation", 30..32).into_bytes()),
        ("4/Patient.ndjson", lines("Patient", 40..42).into_bytes()),
        ("5/Observation.ndjson", lines("Observation", 50..52).into_bytes()),
        ("mixed.ndjson", mixed.into_bytes()),
    ]
}

/// Terms under which that lake shows everything: files roll, and tails are gathered in a round of its own.
pub fn terms() -> Terms {
    Terms::file_bytes(300).join_limit_bytes(700)
}

/// A deployment over the lake.
pub async fn aws() -> Result<Aws> {
    let stage = Aws::empty().await?;
    for (object, bytes) in lake() {
        stage.change_lake(object, Some(bytes.into())).await?;
    }
    Ok(stage)
}

/// The first seeded job: the others follow in the order of [`jobs`].
const FIRST: u8 = 0x21;

/// The items of one job in each state, as DynamoDB JSON, by the state's name.
pub async fn jobs() -> Result<BTreeMap<&'static str, Vec<Value>>> {
    let (stage, clock) = (aws().await?, ManualClock::default());
    let world = World::start(&stage, &clock, terms());
    let scripted = |script| World::scripted(&stage, &clock, terms(), script);
    count_ids_from(FIRST);
    let mut names = Vec::new();

    names.push("complete");
    let status = world.kick_off("?_since=2020-01-01").await?;
    world.finish(&status).await?;

    names.push("failed");
    world.kick_off("?_type=Patient").await?;
    scripted(Script::of(|call| if call.name == "source.read" { Twist::FailBefore } else { Twist::Pass })).drain().await?;

    names.push("cancelled");
    let status = world.kick_off("?_container=my-place").await?;
    world.drain().await?;
    world.ask("DELETE", &status).await?;

    names.push("gathering");
    let status = world.kick_off("").await?;
    while !world.ask("GET", &status).await?.header("x-progress").is_some_and(|progress| progress.contains("gather")) {
        let message = world.receive().await?.ok_or("nothing is gathered")?;
        world.deliver(message).await?;
    }
    while let Some(message) = world.receive().await? {
        drop(message);
    }

    // Half of its tasks are closed; a worker died with a name claimed for a file.
    names.push("running");
    world.kick_off("").await?;
    let plan = world.receive().await?.ok_or("no plan")?;
    world.deliver(plan).await?;
    let mut messages = Vec::new();
    while let Some(message) = world.receive().await? {
        messages.push(message);
    }
    messages.sort_by(|one, other| other.body.cmp(&one.body));
    let script = Script::of(|call| if call.name == "tasks.record claim" { Twist::StopAfter } else { Twist::Pass });
    let dying = scripted(script.clone());
    for message in messages {
        drop(script.while_alive(dying.deliver(message)).await);
    }

    names.push("accepted");
    world.kick_off("").await?;

    let mut jobs = BTreeMap::<&'static str, Vec<Value>>::new();
    // Counters belong to no job.
    for (key, item) in stage.items().await?.into_iter().filter(|(key, _)| key.starts_with("JOB#")) {
        let number = key.split_once(' ').and_then(|(pk, _)| u8::from_str_radix(pk.get(pk.len() - 2..)?, 16).ok()).ok_or("a strange key")?;
        let name = names.get(usize::from(number - FIRST)).ok_or("a job too many")?;
        jobs.entry(name).or_default().push(item);
    }
    Ok(jobs)
}
