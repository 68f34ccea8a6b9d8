//! Synchronizations that are interrupted while they publish: nobody takes a part of them for the lake.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headrace_core::flow::export_time::determine_export_time;
use headrace_core::job::sync::SyncRequest;
use headrace_core::lake::watermark::{LakeFiller, Publisher, filler_watermark, publishing_watermark};
use headrace_core::ports::Clock as _;
use headrace_core::vocab::ids::JobId;
use headrace_core::vocab::lake_settings::LakeWatermark;
use headrace_fhir::definitions::ResourceType;
use headrace_local::stores::directory::DirectoryLake;
use headrace_tests::flows::sync::{lake_objects, small_request, watermark};
use headrace_tests::flows::{DeploymentSettings, Fault, FaultInjector, LocalDeployment, ManualClock, Result, ServiceProcess, run};
use headrace_tests::standins::fhir_server::ServerBehavior;
use serde_json::Value;

use super::sync::{OBSERVATION, Scenario};
use super::sync_command::headrace;

/// The error of an export of a lake with a part of its first synchronization.
const UNFINISHED: &str = "the first synchronization of the lake is not complete";

/// Returns all rules for the watermark.
fn rules() -> [LakeWatermark; 5] {
    let lag = LakeWatermark::Lag(Duration::from_secs(60));
    [LakeWatermark::Auto, LakeWatermark::Object, LakeWatermark::Now, LakeWatermark::Arrival, lag]
}

/// Returns an injector whose process has this fault at the nth call that changes the lake.
pub(super) fn fault_at_lake_call(nth: usize, fault: Fault) -> FaultInjector {
    let mut calls = 0;
    FaultInjector::new(move |call| {
        let is_change = call.name.starts_with("lake.");
        calls += usize::from(is_change);
        if is_change && calls == nth { fault } else { Fault::None }
    })
}

/// Runs a synchronization that crashes after the nth call that changes the lake, if it has as many. Returns its job, and whether it crashed.
pub(super) async fn crash(scenario: &Scenario, request: SyncRequest, nth: usize, fault: Fault) -> Result<(JobId, bool)> {
    let faults = fault_at_lake_call(nth, fault);
    let process = scenario.process(faults.clone());
    let job = process.kick_off(request).await?;
    let ended = Box::pin(faults.until_crash(process.complete(&job.id))).await;
    let has_crashed = ended.is_none();
    if let Some(ended) = ended {
        assert_eq!(ended?.reason, None);
    }
    Ok((job.id, has_crashed))
}

/// Continues a synchronization after a crash, to its end. Checks that the lake equals the server and is not marked any more.
async fn continue_to_end(scenario: &Scenario, job: &JobId) -> Result<()> {
    let next = scenario.process(FaultInjector::none());
    next.recover().await?;
    assert_eq!(next.complete(job).await?.reason, None);
    let text = fs::read_to_string(scenario.deployment.lake().join("_headrace/watermark.json"))?;
    assert!(!text.contains("publishing"), "{text}");
    scenario.check_equal().await
}

/// Checks that `headrace lake check` reports the publication.
async fn check_reported(scenario: &Scenario) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lake = scenario.deployment.lake().to_string_lossy().into_owned();
    let (code, stdout, stderr) = headrace(folder.path(), &["lake", "check", &lake, "--json"]).await?;
    assert_eq!(code, Some(3), "{stderr}");
    let report: Value = serde_json::from_str(&stdout)?;
    let kinds: Vec<_> =
        report.get("findings").and_then(Value::as_array).into_iter().flatten().filter_map(|finding| finding.get("kind").cloned()).collect();
    assert!(kinds.contains(&"unfinished-publication".into()), "{stdout}");
    Ok(())
}

#[test]
fn p1_to_p6_no_export_takes_a_part_of_a_first_synchronization_that_crashes_at_any_change_of_the_lake() -> Result<()> {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        let mut parts = 0;
        for nth in 1_usize.. {
            let (has_crashed, has_part) = run(async || {
                let scenario = Scenario::new(ServerBehavior::default()).await?;
                let (job, has_crashed) = crash(&scenario, small_request(), nth, fault).await?;
                let lake = scenario.deployment.lake();
                let has_part = !lake_objects(lake).is_empty() && watermark(lake)?.is_none();
                for rule in rules().into_iter().filter(|_| has_part) {
                    let time = determine_export_time(&DirectoryLake::open(lake), rule, scenario.clock.now()).await;
                    let error = time.unwrap_err().to_string();
                    assert!(error.contains(UNFINISHED), "change {nth}, {fault:?}, {rule:?}: {error}");
                }
                if has_crashed {
                    continue_to_end(&scenario, &job).await?;
                }
                Ok((has_crashed, has_part))
            })?;
            if !has_crashed {
                break;
            }
            parts += usize::from(has_part);
        }
        assert!(parts > 1, "{parts}");
    }
    Ok(())
}

#[test]
fn an_export_of_a_part_is_refused_by_name_and_the_check_reports_it() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        // The first change is the mark, the second the first object.
        let (job, has_crashed) = crash(&scenario, small_request(), 2, Fault::CrashAfter).await?;
        assert!(has_crashed);
        let folder = tempfile::tempdir()?;
        let lake = scenario.deployment.lake().to_string_lossy().into_owned();
        for rule in ["auto", "object", "now", "arrival", "PT1M"] {
            let export = ["export", &lake, "out", "--since-file", "since", "--lake-watermark", rule];
            let (code, _, stderr) = headrace(folder.path(), &export).await?;
            assert!(code.is_some_and(|code| code != 0), "{rule}: {stderr}");
            assert!(stderr.contains(UNFINISHED) && stderr.contains("headrace sync"), "{rule}: {stderr}");
            assert!(!folder.path().join("since").exists(), "{rule}");
        }
        check_reported(&scenario).await?;
        continue_to_end(&scenario, &job).await
    })
}

/// Exports a lake in which this watermark object and a resource appear when it is listed. Returns the error of the export.
async fn export_while_published(rule: LakeWatermark, object: Vec<u8>) -> Result<String> {
    let deployment = LocalDeployment::with_files(&[("README", b"x")]).await?;
    let (lake, mut object) = (deployment.lake().to_owned(), Some(object));
    let faults = FaultInjector::new(move |call| {
        let appears = if call.name == "source.list" { object.take() } else { None };
        let write = |object: Vec<u8>| -> std::io::Result<()> {
            fs::create_dir_all(lake.join("_headrace"))?;
            fs::write(lake.join("_headrace/watermark.json"), object)?;
            fs::write(lake.join("Patient.ndjson"), "{\"resourceType\":\"Patient\",\"id\":\"a\"}\n")
        };
        if appears.map_or(Ok(()), write).is_ok() { Fault::None } else { Fault::FailForGood }
    });
    let mut settings = DeploymentSettings::default();
    settings.worker.lake.watermark = rule;
    let service = ServiceProcess::start_with_faults(&deployment, &ManualClock::default(), settings, faults);
    // The kick-off and the plan take the time before the object appears.
    let status = service.kick_off("").await?;
    let ended = service.run_until_done(&status).await?;
    assert_eq!(ended.status, 500, "{rule:?}");
    Ok(ended.outcome()?.2)
}

#[test]
fn an_export_that_lists_while_a_first_synchronization_publishes_fails_by_name() -> Result<()> {
    for rule in rules().into_iter().filter(|rule| *rule != LakeWatermark::Object) {
        let mark = publishing_watermark(None, Publisher { origin: "https://fhir.example.org", job: "a", ..Publisher::default() })?;
        let text = run(async || export_while_published(rule, mark.clone()).await)?;
        assert!(text.contains(UNFINISHED) && text.contains("headrace sync"), "{rule:?}: {text}");
    }
    // The synchronization begins and ends while the lake is listed.
    let filler = LakeFiller { job: Some("a".to_owned()), ..LakeFiller::default() };
    let published = filler_watermark(ManualClock::default().now(), &filler, "unknown");
    let text = run(async || export_while_published(LakeWatermark::Auto, published.clone()).await)?;
    assert!(text.contains("was published while the lake was listed") && text.contains("export again"), "{text}");
    Ok(())
}

#[test]
fn a_discarded_first_synchronization_is_followed_by_a_complete_one() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let (_, has_crashed) = crash(&scenario, small_request(), 2, Fault::CrashAfter).await?;
        assert!(has_crashed);
        scenario.change();
        assert!(scenario.sync(SyncRequest { window_resources: 1_000, ..small_request() }).await?.is_complete);
        scenario.check_equal().await
    })
}

#[test]
fn an_interrupted_publication_of_new_types_keeps_the_watermark_and_the_check_reports_it() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let patients = SyncRequest { types: Some([ResourceType::PATIENT].into()), ..small_request() };
        assert!(scenario.sync(patients).await?.is_complete);
        let before = watermark(scenario.deployment.lake())?;
        scenario.change();
        let (job, has_crashed) = crash(&scenario, small_request(), 2, Fault::CrashAfter).await?;
        assert!(has_crashed && before.is_some());
        assert_eq!(watermark(scenario.deployment.lake())?, before);
        check_reported(&scenario).await?;
        // The watermark does not exclude the part of the new type, so no export takes it.
        for rule in rules() {
            let time = determine_export_time(&DirectoryLake::open(scenario.deployment.lake()), rule, scenario.clock.now()).await;
            let error = time.unwrap_err().to_string();
            assert!(error.contains("a part of Observation") && error.contains("headrace sync"), "{rule:?}: {error}");
        }
        continue_to_end(&scenario, &job).await
    })
}

#[test]
fn a_part_of_a_new_type_is_not_left_behind_by_a_synchronization_without_the_type() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let patients = SyncRequest { types: Some([ResourceType::PATIENT].into()), ..small_request() };
        assert!(scenario.sync(patients.clone()).await?.is_complete);
        let (_, has_crashed) = crash(&scenario, small_request(), 2, Fault::CrashAfter).await?;
        assert!(has_crashed);
        let error = scenario.sync(patients).await.unwrap_err().to_string();
        assert!(error.contains("the lake also has Observation"), "{error}");
        // Another synchronization with the type, in another second, replaces the one that was interrupted.
        scenario.clock.advance(Duration::from_secs(1));
        assert!(scenario.sync(SyncRequest { window_resources: 1_000, ..small_request() }).await?.is_complete);
        assert!(
            determine_export_time(&DirectoryLake::open(scenario.deployment.lake()), LakeWatermark::Auto, scenario.clock.now())
                .await
                .is_ok()
        );
        scenario.check_equal().await
    })
}

/// Returns the error of an export of the lake. `None` if it is not refused.
pub(super) async fn refusal(scenario: &Scenario) -> Option<String> {
    let lake = DirectoryLake::open(scenario.deployment.lake());
    determine_export_time(&lake, LakeWatermark::Auto, scenario.clock.now()).await.err().map(|error| error.to_string())
}

#[test]
fn a_part_of_a_new_type_that_the_server_does_not_offer_any_more_is_refused_until_it_is_removed() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let patients = SyncRequest { types: Some([ResourceType::PATIENT].into()), ..small_request() };
        assert!(scenario.sync(patients.clone()).await?.is_complete);
        let (_, has_crashed) = crash(&scenario, small_request(), 2, Fault::CrashAfter).await?;
        let part = scenario.deployment.lake().join(OBSERVATION);
        assert!(has_crashed && part.is_dir());
        scenario.server.unlist(Some(OBSERVATION));
        let all = SyncRequest { window_resources: 1_000, ..small_request() };
        for request in [all.clone(), patients] {
            let report = scenario.sync(request).await?;
            let faults: Vec<_> = report.types.iter().flat_map(|one| one.faults.clone()).collect();
            assert!(!report.is_complete && faults.len() == 1, "{report:?}");
            assert!(
                faults.iter().all(|fault| fault.contains("only a part") && fault.contains("remove the folder Observation/")),
                "{faults:?}"
            );
            assert!(refusal(&scenario).await.is_some_and(|error| error.contains("a part of Observation")));
        }
        // The way out that the fault names.
        fs::remove_dir_all(part)?;
        assert!(scenario.sync(all.clone()).await?.is_complete);
        assert_eq!(refusal(&scenario).await, None);
        scenario.server.unlist(None);
        scenario.change();
        assert!(scenario.sync(all).await?.is_complete);
        scenario.check_equal().await
    })
}

#[test]
fn exports_run_while_an_increment_is_published() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        let before = watermark(scenario.deployment.lake())?;
        scenario.change();
        let (job, has_crashed) = crash(&scenario, small_request(), 2, Fault::CrashAfter).await?;
        assert!(has_crashed);
        let time =
            determine_export_time(&DirectoryLake::open(scenario.deployment.lake()), LakeWatermark::Auto, scenario.clock.now()).await?;
        assert_eq!(Some(time.transaction_time), before);
        continue_to_end(&scenario, &job).await
    })
}

/// Returns the files of a folder with their content.
fn backup(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() {
            files.insert(entry.path().to_owned(), fs::read(entry.path())?);
        }
    }
    Ok(files)
}

/// Replaces a folder by its backup.
fn restore(folder: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    fs::remove_dir_all(folder)?;
    fs::create_dir_all(folder)?;
    for (path, content) in files {
        fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        fs::write(path, content)?;
    }
    Ok(())
}

#[test]
fn a_synchronization_whose_lake_is_removed_while_it_publishes_publishes_everything_again() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        // The mark and two objects, of which the first one is recorded as stored.
        let (job, has_crashed) = crash(&scenario, small_request(), 3, Fault::CrashAfter).await?;
        assert!(has_crashed && lake_objects(scenario.deployment.lake()).len() == 2);
        restore(scenario.deployment.lake(), &BTreeMap::new())?;
        continue_to_end(&scenario, &job).await
    })
}

#[test]
fn a_synchronization_whose_lake_is_restored_while_it_publishes_publishes_everything_again() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        let before = backup(scenario.deployment.lake())?;
        scenario.change();
        let (job, has_crashed) = crash(&scenario, small_request(), 3, Fault::CrashAfter).await?;
        assert!(has_crashed);
        restore(scenario.deployment.lake(), &before)?;
        continue_to_end(&scenario, &job).await
    })
}

/// Continues a synchronization, and checks that it is refused because the lake is another one.
async fn check_refused(scenario: &Scenario, job: &JobId) -> Result<()> {
    let next = scenario.process(FaultInjector::none());
    next.recover().await?;
    let reason = next.complete(job).await?.reason.ok_or("the synchronization did not fail")?;
    assert!(reason.text.contains("the lake was replaced or restored") && reason.text.contains("synchronize again"), "{reason:?}");
    Ok(())
}

#[test]
fn a_synchronization_is_refused_by_name_if_another_one_has_moved_the_watermark_to_the_same_moment() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        let before = backup(scenario.deployment.lake())?;
        scenario.change();
        let (job, has_crashed) = crash(&scenario, small_request(), 3, Fault::CrashAfter).await?;
        assert!(has_crashed);
        restore(scenario.deployment.lake(), &before)?;
        let path = scenario.deployment.lake().join("_headrace/watermark.json");
        let mut content: serde_json::Map<String, Value> = serde_json::from_slice(&fs::read(&path)?)?;
        content.insert("job".to_owned(), "another".into());
        fs::write(&path, serde_json::to_vec(&content)?)?;
        check_refused(&scenario, &job).await
    })
}

#[test]
fn a_synchronization_that_fails_again_and_again_says_to_synchronize_again() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let faults = FaultInjector::new(|call| if call.name == "lake.put" { Fault::FailBefore } else { Fault::None });
        let error = scenario.process(faults).run(small_request()).await.unwrap_err().to_string();
        assert!(error.contains("failed 5 times without progress") && error.contains("synchronize again"), "{error}");
        assert!(!error.contains("export"), "{error}");
        Ok(())
    })
}

#[test]
fn a_synchronization_is_refused_by_name_if_the_restored_lake_is_older_than_its_plan() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        let before = backup(scenario.deployment.lake())?;
        scenario.change();
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.change();
        let (job, has_crashed) = crash(&scenario, small_request(), 3, Fault::CrashAfter).await?;
        assert!(has_crashed);
        restore(scenario.deployment.lake(), &before)?;
        check_refused(&scenario, &job).await?;
        assert_eq!(backup(scenario.deployment.lake())?, before);
        // What was published is fetched again, because the lake says up to when it has everything.
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.check_equal().await
    })
}

#[test]
fn the_watermark_does_not_move_before_all_objects_are_in_the_lake() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        // Everything is published when the report is written.
        let faults = FaultInjector::new(|call| if call.name == "lake.put_metadata" { Fault::CrashBefore } else { Fault::None });
        let process = scenario.process(faults.clone());
        let job = process.kick_off(small_request()).await?;
        assert!(Box::pin(faults.until_crash(process.complete(&job.id))).await.is_none());
        fs::remove_file(lake_objects(scenario.deployment.lake()).first().ok_or("no object")?)?;
        continue_to_end(&scenario, &job.id).await
    })
}
