//! Golden files in `tests/golden`: manifests, OperationOutcomes and stored items, which must not change unnoticed.
//!
//! After an intended change, run `cargo test -p headrace-tests --test replay -- --ignored regenerate_golden_files` and review the
//! difference in git. Stored items are kept per version: items of earlier versions are never regenerated and must stay readable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headrace_core::flow::upkeep::fire_schedules::FiredSchedules;
use headrace_core::job::JobState;
use headrace_core::ports::{
    Clock as _, EventOutbox as _, FragmentSelection, JobStore as _, LeaseSettings, ScheduleStore as _, TaskStore as _,
};
use headrace_core::vocab::ids::{JobId, TaskId};
use headrace_tests::flows::{
    AwsDeployment, Deployment, DeploymentSettings, LocalDeployment, ManualClock, Result, ServiceProcess, TestRequest, TestResponse, run,
    seed, set_next_job_number,
};
use headrace_tests::lake;
use serde_json::Value;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Reads the golden files, by path relative to the folder.
fn files() -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![golden_dir()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative_path = path.strip_prefix(self::golden_dir())?.to_str().ok_or("a file name is not UTF-8")?;
                files.insert(relative_path.to_owned(), std::fs::read_to_string(&path)?);
            }
        }
    }
    files.remove("README.md");
    Ok(files)
}

/// Returns the stored items of this version: a job in every state, schedules and events.
pub(crate) fn stored_items() -> Result<Vec<Value>> {
    let current = format!("items/{VERSION}/");
    let files = files()?.into_iter().filter(|(relative_path, _)| relative_path.starts_with(&current));
    let items = files.map(|(_, json)| Ok(serde_json::from_str::<Vec<Value>>(&json)?)).collect::<Result<Vec<_>>>()?;
    Ok(items.concat())
}

/// Returns a manifest in which every number of the usage is 0: how often a worker calls a store is not fixed.
fn without_usage_numbers(mut manifest: Value) -> Value {
    fn clear(value: &mut Value) {
        match value {
            Value::Number(number) => *number = 0.into(),
            Value::Object(members) => members.values_mut().for_each(clear),
            Value::Array(values) => values.iter_mut().for_each(clear),
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    manifest.pointer_mut("/extension/urn:headrace:usage").into_iter().for_each(clear);
    manifest
}

fn pretty(json: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(json)? + "\n")
}

async fn export_manifest<S: Deployment>(deployment: &S, query: &str) -> Result<(TestResponse, BTreeMap<String, bytes::Bytes>)> {
    set_next_job_number(1);
    let service = ServiceProcess::start(deployment, &ManualClock::default(), DeploymentSettings::default());
    let status = service.kick_off(query).await?;
    let finished = service.complete(&status).await?;
    Ok((service.request("GET", &status).await?, finished.files))
}

/// Returns the OperationOutcome of every kind of rejected request, and of some accepted ones.
async fn operation_outcomes() -> Result<BTreeMap<String, String>> {
    let service = ServiceProcess::start(&AwsDeployment::new().await?, &ManualClock::default(), DeploymentSettings::default());
    let without = |name: &str, target: &str| {
        let mut request = TestRequest::new("GET", target).with_identity(headrace_tests::flows::ANN);
        request.headers.retain(|(given, _)| *given != name);
        request
    };
    let get = |target: &str| without("", target);
    let lenient = |target: &str| {
        let mut request = without("prefer", target);
        request.headers.push(("prefer", "respond-async, handling=lenient".to_owned()));
        request
    };
    let job = "f".repeat(32);
    let mut files = BTreeMap::new();
    for (name, request) in [
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
        ("no-identity", TestRequest::new("GET", "/$export")),
        ("unknown-export", get(&format!("/_operations/export/{job}"))),
        ("unknown-file", get(&format!("/_operations/files/{job}/Patient-1.ndjson"))),
    ] {
        let response = service.send(&request).await?;
        response.outcome()?;
        files.insert(format!("outcomes/{}-{name}.json", response.status), pretty(&response.json()?)?);
    }
    Ok(files)
}

/// Generates every golden file of this version.
async fn golden_files() -> Result<BTreeMap<String, String>> {
    let mut files = operation_outcomes().await?;
    for (name, jobs) in seed::job_items_by_state().await? {
        files.insert(format!("items/{VERSION}/{name}.json"), pretty(&jobs.into())?);
    }
    for (name, items) in Box::pin(seed::schedule_items()).await? {
        files.insert(format!("items/{VERSION}/{name}.json"), pretty(&items.into())?);
    }
    let (sample, _) = export_manifest(&AwsDeployment::with_lake(&lake::sample_lake_dir()).await?, "?_since=2000-01-01").await?;
    files.insert("manifests/sample.json".to_owned(), pretty(&without_usage_numbers(sample.json()?))?);
    let (broken, parts) = export_manifest(&LocalDeployment::with_lake(&lake::broken_lake_dir()).await?, "").await?;
    files.insert("manifests/broken.json".to_owned(), pretty(&without_usage_numbers(broken.json()?))?);
    let errors = parts.get("error-1.ndjson").ok_or("the export has no error file")?;
    files.insert("manifests/broken-error-1.ndjson".to_owned(), String::from_utf8(errors.to_vec())?);
    Ok(files)
}

fn belongs_to_earlier_version(relative_path: &str) -> bool {
    relative_path.starts_with("items/") && !relative_path.starts_with(&format!("items/{VERSION}/"))
}

#[test]
fn golden_files_equal_the_output_of_the_service() -> Result<()> {
    let mut found = files()?;
    found.retain(|relative_path, _| !belongs_to_earlier_version(relative_path));
    let expected = run(async || golden_files().await)?;
    let places = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(places(&found), places(&expected));
    for (relative_path, text) in &expected {
        assert_eq!(
            found.get(relative_path),
            Some(text),
            "{relative_path}: after an intended change, regenerate the files as described at the top of this file"
        );
    }
    Ok(())
}

#[test]
#[ignore = "writes tests/golden; run it after an intended change"]
fn regenerate_golden_files() -> Result<()> {
    for relative_path in files()?.into_keys().filter(|relative_path| !belongs_to_earlier_version(relative_path)) {
        std::fs::remove_file(golden_dir().join(relative_path))?;
    }
    for (relative_path, text) in run(async || golden_files().await)? {
        let path = golden_dir().join(relative_path);
        std::fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// Names of the files with the items of schedules and events, which have a test of their own.
const SCHEDULE_FILES: [&str; 3] = ["events", "schedule-run", "schedules"];

/// Lists the versions that have stored items.
fn versions() -> Result<Vec<String>> {
    let names = std::fs::read_dir(golden_dir().join("items"))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

#[test]
fn stored_items_of_every_version_can_be_read_and_processed() -> Result<()> {
    for version in versions()? {
        run(async || {
            let deployment = seed::aws_deployment().await?;
            let mut jobs = BTreeMap::new();
            for (relative_path, json) in
                files()?.into_iter().filter(|(relative_path, _)| relative_path.starts_with(&format!("items/{version}/")))
            {
                let name = relative_path
                    .rsplit('/')
                    .next()
                    .and_then(|name| name.strip_suffix(".json"))
                    .ok_or("a file of items is not JSON")?
                    .to_owned();
                if SCHEDULE_FILES.contains(&name.as_str()) {
                    continue;
                }
                for item in serde_json::from_str::<Vec<Value>>(&json)? {
                    let id = item["pk"]["S"].as_str().and_then(|pk| pk.strip_prefix("JOB#")).ok_or("no key")?;
                    let id = id.split('#').next().unwrap_or(id);
                    jobs.insert(name.clone(), JobId::parse(id)?);
                    deployment.put_job_table_item(&item).await?;
                }
            }
            let store = deployment.job_store();
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
                let parts = store.output_files(&job).await?;
                assert_eq!(parts.is_empty(), matches!(name.as_str(), "accepted" | "failed" | "running"), "{version} {name}: {parts:?}");
                tails += store.fragments(id, 0..=job.round, &FragmentSelection::Exported).await?.len();
            }
            assert!(tails > 5, "{version}");
            // Work in progress continues, including reserved files and cursors.
            let clock = ManualClock::default();
            clock.advance(10 * headrace_tests::flows::REAPER_INTERVAL);
            let service = ServiceProcess::start(&deployment, &clock, seed::settings());
            for name in ["accepted", "running"] {
                let id = jobs.get(name).ok_or("no such job")?;
                let plan = Box::pin(store.lease_task(&TaskId::plan(id), LeaseSettings::default(), clock.now())).await;
                assert!(plan.is_ok(), "{version} {name}: {plan:?}");
            }
            let accepted = format!("/_operations/export/{}", jobs["accepted"]);
            let response = service.run_until_done(&accepted).await?;
            assert_eq!(response.status, 200, "{version}: {response:?}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn stored_schedules_and_events_of_every_version_can_be_read_and_processed() -> Result<()> {
    for version in versions()? {
        run(async || {
            let deployment = seed::aws_deployment().await?;
            for name in SCHEDULE_FILES {
                let json = files()?.remove(&format!("items/{version}/{name}.json")).ok_or_else(|| format!("{version} has no {name}"))?;
                for item in serde_json::from_str::<Vec<Value>>(&json)? {
                    deployment.put_job_table_item(&item).await?;
                }
            }
            let store = deployment.job_store();
            let schedules = store.schedules().await?;
            let [broken, changed, paused] = schedules.as_slice() else { return Err(format!("{version}: {schedules:?}").into()) };
            assert!(broken.state.problem.as_ref().is_some_and(|problem| problem.text.contains("is not registered")), "{broken:?}");
            assert!(paused.state.is_paused && paused.state.requested_at.is_some(), "{paused:?}");
            let open = changed.state.last_run.as_ref().ok_or("no run")?.job.clone();
            assert!(changed.complete_run.as_ref().is_some_and(|run| run.job != open), "{changed:?}");
            assert_eq!((changed.since(), changed.state.kept.len()), (None, 2), "the next run exports everything");
            assert_eq!(store.job(&open).await?.ok_or("no job")?.schedule, Some(changed.key.clone()));
            let pending = store.pending_events(10).await?;
            let states: Vec<&str> = pending.iter().map(|event| event.event.state.as_str()).collect();
            assert_eq!(states, ["accepted", "complete-with-errors", "accepted"], "{version}");
            assert!(pending.first().is_some_and(|event| event.failures.values().any(|failure| failure.attempts == 1)), "{pending:?}");
            let undelivered = store.undelivered_events().await?;
            assert_eq!(undelivered.iter().map(|event| event.event.state.as_str()).collect::<Vec<_>>(), ["running"]);
            // The open run is past its deadline, so that the next one starts. The other schedules cannot start theirs.
            let clock = ManualClock::default();
            let service = ServiceProcess::start(&deployment, &clock, seed::settings());
            service.put_client(&seed::schedule_client()).await?;
            set_next_job_number(0x41);
            service.reap().await?;
            assert_eq!(store.job(&open).await?.ok_or("no job")?.state, JobState::Failed, "{version}");
            let expected = FiredSchedules { started: 1, failed: 2, ..FiredSchedules::default() };
            assert_eq!(service.fire_schedules().await?, expected, "{version}");
            let next = store.schedule(&changed.key.name).await?.and_then(|schedule| schedule.state.last_run).ok_or("no run")?;
            let next = store.job(&next.job).await?.ok_or("no job")?;
            assert_eq!((next.request.since, next.request.elements), (None, vec!["id".to_owned()]));
            for event in undelivered {
                assert!(store.replay_event(&event, clock.now()).await?, "{version}");
            }
            Ok(())
        })?;
    }
    Ok(())
}
