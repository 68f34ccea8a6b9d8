//! `tests/golden`: what must not change unnoticed. Manifests, OperationOutcomes, stored items.
//!
//! After a change that is meant: `cargo test -p headrace-tests --test replay -- --ignored regenerate_golden_files`, then
//! read what git says. Stored items are kept per version: those of earlier versions are never written again and must
//! always be read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headrace_core::job::JobState;
use headrace_core::ports::{JobStore as _, LeaseSettings, TaskStore as _};
use headrace_core::vocab::ids::{JobId, TaskId};
use headrace_tests::flows::{Answer, Ask, Aws, ManualClock, OneMachine, Result, Stage, Terms, World, count_ids_from, run, seed};
use headrace_tests::lake;
use serde_json::Value;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The files that are there, by their path below the folder.
fn files() -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let place = path.strip_prefix(self::folder())?.to_str().ok_or("a name that is not UTF-8")?;
                files.insert(place.to_owned(), std::fs::read_to_string(&path)?);
            }
        }
    }
    files.remove("README.md");
    Ok(files)
}

/// The stored items of this version, for whoever wants a table with a job in every state.
pub(crate) fn seeds() -> Result<Vec<Value>> {
    let ours = format!("items/{VERSION}/");
    let files = files()?.into_iter().filter(|(place, _)| place.starts_with(&ours));
    let items = files.map(|(_, json)| Ok(serde_json::from_str::<Vec<Value>>(&json)?)).collect::<Result<Vec<_>>>()?;
    Ok(items.concat())
}

fn pretty(json: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(json)? + "\n")
}

async fn manifest<S: Stage>(stage: &S, query: &str) -> Result<(Answer, BTreeMap<String, bytes::Bytes>)> {
    count_ids_from(1);
    let world = World::start(stage, &ManualClock::default(), Terms::default());
    let status = world.kick_off(query).await?;
    let finished = world.finish(&status).await?;
    Ok((world.ask("GET", &status).await?, finished.files))
}

/// An OperationOutcome for every way in which a request can be refused, and some in which one cannot.
async fn outcomes() -> Result<BTreeMap<String, String>> {
    let world = World::start(&Aws::empty().await?, &ManualClock::default(), Terms::default());
    let without = |name: &str, target: &str| {
        let mut ask = Ask::new("GET", target).by(headrace_tests::flows::ANN);
        ask.headers.retain(|(given, _)| *given != name);
        ask
    };
    let get = |target: &str| without("", target);
    let lenient = |target: &str| {
        let mut ask = without("prefer", target);
        ask.headers.push(("prefer", "respond-async, handling=lenient".to_owned()));
        ask
    };
    let job = "f".repeat(32);
    let mut files = BTreeMap::new();
    for (name, ask) in [
        ("accepted", get("/$export")),
        ("accept-missing", without("accept", "/$export")),
        ("prefer-missing", without("prefer", "/$export")),
        ("accepted-lenient", lenient("/$export?_type=Patient,Watermill&_colour=blue")),
        ("type-outside-the-compartment", get("/Patient/$export?_type=Organization")),
        ("patients-of-the-whole-system", get("/$export?patient=Patient/p-1")),
        ("group-id", get("/Group/..%2Fg-1/$export")),
        ("unknown-operation", get("/$import")),
        ("unknown-parameter", get("/$export?_colour=blue")),
        ("unknown-type", get("/$export?_type=Watermill")),
        ("empty-type", get("/$export?_type=Patient,")),
        ("since-not-an-instant", get("/$export?_since=yesterday")),
        ("since-twice", get("/$export?_since=2020-01-01&_since=2021-01-01")),
        ("until-before-since", get("/$export?_since=2020-01-02&_until=2020-01-01")),
        ("filter-of-an-unknown-parameter", get("/$export?_typeFilter=Patient?status=active")),
        ("filter-of-another-type", get("/$export?_type=Patient&_typeFilter=Observation?status=final")),
        ("unknown-element", get("/$export?_elements=wheels")),
        ("associated-data", get("/$export?includeAssociatedData=_custom")),
        ("history-of-a-patient", get("/Patient/p-1/$export?includeAssociatedData=_history")),
        ("organized-by-encounter", get("/$export?organizeOutputBy=Encounter")),
        ("not-a-boolean", get("/$export?allowPartialManifests=perhaps")),
        ("max-count", get("/$export?_maxCount=0")),
        ("unknown-format", get("/$export?_format=daily")),
        ("unknown-encryption-key", get("/$export?_encryptionKey=trial")),
        ("anonymization", get("/$export?_anonymizationConfig=config.json")),
        ("since-in-the-future", get("/$export?_since=2999-01-01")),
        ("output-format", get("/$export?_outputFormat=text/csv")),
        ("container", get("/$export?_container=..%2Fetc")),
        ("query-not-utf-8", get("/$export?_type=%ff")),
        ("no-identity", Ask::new("GET", "/$export")),
        ("unknown-export", get(&format!("/_operations/export/{job}"))),
        ("unknown-file", get(&format!("/_operations/files/{job}/Patient-1.ndjson"))),
    ] {
        let answer = world.send(&ask).await?;
        answer.outcome()?;
        files.insert(format!("outcomes/{}-{name}.json", answer.status), pretty(&answer.json()?)?);
    }
    Ok(files)
}

/// Every golden file of this version.
async fn golden() -> Result<BTreeMap<String, String>> {
    let mut files = outcomes().await?;
    for (name, jobs) in seed::jobs().await? {
        files.insert(format!("items/{VERSION}/{name}.json"), pretty(&jobs.into())?);
    }
    let (sample, _) = manifest(&Aws::over(&lake::sample_dir()).await?, "?_since=2000-01-01").await?;
    files.insert("manifests/sample.json".to_owned(), pretty(&sample.json()?)?);
    let (broken, parts) = manifest(&OneMachine::over(&lake::broken_dir()).await?, "").await?;
    files.insert("manifests/broken.json".to_owned(), pretty(&broken.json()?)?);
    let errors = parts.get("error-1.ndjson").ok_or("no error file")?;
    files.insert("manifests/broken-error-1.ndjson".to_owned(), String::from_utf8(errors.to_vec())?);
    Ok(files)
}

fn is_of_an_earlier_version(place: &str) -> bool {
    place.starts_with("items/") && !place.starts_with(&format!("items/{VERSION}/"))
}

#[test]
fn golden_files_are_what_the_service_writes_and_none_is_left_over() -> Result<()> {
    let mut found = files()?;
    found.retain(|place, _| !is_of_an_earlier_version(place));
    let expected = run(async || golden().await)?;
    let places = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(places(&found), places(&expected));
    for (place, text) in &expected {
        assert_eq!(found.get(place), Some(text), "{place}: if the change is meant, regenerate as the head of this file says");
    }
    Ok(())
}

#[test]
#[ignore = "it writes tests/golden; run it after a change that is meant"]
fn regenerate_golden_files() -> Result<()> {
    for place in files()?.into_keys().filter(|place| !is_of_an_earlier_version(place)) {
        std::fs::remove_file(folder().join(place))?;
    }
    for (place, text) in run(async || golden().await)? {
        let path = folder().join(place);
        std::fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// Which versions have stored items.
fn versions() -> Result<Vec<String>> {
    let names = std::fs::read_dir(folder().join("items"))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

#[test]
fn items_of_every_version_are_still_read_and_worked_on() -> Result<()> {
    for version in versions()? {
        run(async || {
            let stage = seed::aws().await?;
            let mut jobs = BTreeMap::new();
            for (place, json) in files()?.into_iter().filter(|(place, _)| place.starts_with(&format!("items/{version}/"))) {
                let name = place.rsplit('/').next().and_then(|name| name.strip_suffix(".json")).ok_or("a strange name")?.to_owned();
                for item in serde_json::from_str::<Vec<Value>>(&json)? {
                    let id = item["pk"]["S"].as_str().and_then(|pk| pk.strip_prefix("JOB#")).ok_or("no key")?;
                    jobs.insert(name.clone(), JobId::parse(id)?);
                    stage.put_item(&item).await?;
                }
            }
            let store = stage.jobs();
            let state_of = |name: &str| match name {
                "accepted" => JobState::Accepted,
                "complete" => JobState::Complete,
                "failed" => JobState::Failed,
                "cancelled" => JobState::Cancelled,
                _ => JobState::Running,
            };
            let mut tails = 0;
            for (name, id) in &jobs {
                let job = store.job(id).await?.ok_or("no job")?;
                assert_eq!(job.state, state_of(name), "{version} {name}");
                let parts = store.parts(id).await?;
                assert_eq!(parts.is_empty(), matches!(name.as_str(), "accepted" | "failed" | "running"), "{version} {name}: {parts:?}");
                for round in 0..=job.round {
                    tails += store.tails(id, round..=round).await?.len();
                }
            }
            assert!(tails > 5, "{version}");
            // What was being worked on then goes on now, claims and cursors included.
            let clock = ManualClock::default();
            clock.advance(10 * headrace_tests::flows::MINUTE);
            let world = World::start(&stage, &clock, seed::terms());
            for name in ["accepted", "running"] {
                let id = jobs.get(name).ok_or("no such job")?;
                let plan = store.lease_task(&TaskId::plan(id), LeaseSettings::default(), headrace_core::ports::Clock::now(&clock)).await;
                assert!(plan.is_ok(), "{version} {name}: {plan:?}");
            }
            let accepted = format!("/_operations/export/{}", jobs["accepted"]);
            let answer = world.run(&accepted).await?;
            assert_eq!(answer.status, 200, "{version}: {answer:?}");
            Ok(())
        })?;
    }
    Ok(())
}
