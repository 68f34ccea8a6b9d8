//! The watermark of the lake: the moment up to which the lake is complete, and that no export claims more.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::time::Duration;

use bytes::Bytes;
use headrace_core::ports::AuditFiles as _;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::lake_settings::{LakeVersions, LakeWatermark};
use headrace_edge::config::WatermarkLimit;
use headrace_tests::flows::{
    AwsDeployment, CompletedExport, Deployment, DeploymentSettings, Fault, FaultInjector, LocalDeployment, ManualClock, Result,
    ServiceProcess, run, set_next_job_number,
};
use reaper::watermark::WatermarkMonitor;
use serde_json::{Value, json};

const WATERMARK: &str = "_headrace/watermark.json";

/// Returns small settings with this watermark.
fn settings(versions: LakeVersions, watermark: LakeWatermark) -> DeploymentSettings {
    let mut settings = super::versions::small_settings(versions);
    settings.worker.lake.watermark = watermark;
    settings
}

/// Returns a line of a Patient with this id, version and time of change. All times of these tests are on the day on which every manual
/// clock starts, at 08:00.
fn patient(id: &str, version: u32, time: &str) -> String {
    format!(
        r#"{{"resourceType":"Patient","id":"{id}","meta":{{"versionId":"{version}","lastUpdated":"2026-10-01T{time}:00Z"}},"active":true}}"#
    ) + "\n"
}

/// Returns a line that deletes a resource.
fn deletion(key: &str, time: &str) -> String {
    let entry = json!([{ "request": { "method": "DELETE", "url": key } }]);
    let meta = json!({ "lastUpdated": format!("2026-10-01T{time}:00Z") });
    json!({ "resourceType": "Bundle", "type": "transaction", "meta": meta, "entry": entry }).to_string() + "\n"
}

/// Returns the content of a watermark object.
fn complete_up_to(time: &str) -> Bytes {
    json!({ "completeUpTo": format!("2026-10-01T{time}:00Z"), "writer": { "host": "etl-1" } }).to_string().into()
}

/// Returns the milliseconds of a time of day.
fn at(time: &str) -> Result<Millis> {
    let instant = headrace_fhir::instant::Instant::parse(&format!("2026-10-01T{time}:00Z"))?;
    Ok(Millis(u64::try_from(instant.nanos() / 1_000_000)?))
}

/// Returns the exported resources as `id version`, sorted.
fn exported(export: &CompletedExport) -> Result<Vec<String>> {
    let text = |line: Vec<u8>| -> Result<String> {
        let json: Value = serde_json::from_slice(&line)?;
        Ok(format!("{} {}", json["id"].as_str().unwrap_or_default(), json["meta"]["versionId"].as_str().unwrap_or_default()))
    };
    export.sorted_lines().into_iter().map(text).collect()
}

/// Returns the diagnostics in the `error` files.
fn notices(export: &CompletedExport) -> Result<Vec<String>> {
    let mut notices = Vec::new();
    for (_, file) in export.files.iter().filter(|(name, _)| name.starts_with("error")) {
        for line in file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let issue = serde_json::from_slice::<Value>(line)?["issue"][0].clone();
            assert_eq!((issue["severity"].as_str(), issue["code"].as_str()), (Some("information"), Some("informational")));
            notices.push(issue["diagnostics"].as_str().unwrap_or_default().to_owned());
        }
    }
    Ok(notices)
}

/// Exports and downloads all files.
async fn export<S: Deployment>(deployment: &S, settings: DeploymentSettings, query: &str) -> Result<CompletedExport> {
    let service = ServiceProcess::start(deployment, &ManualClock::default(), settings);
    let status = service.kick_off(query).await?;
    service.complete(&status).await
}

/// Writes a lake with versions before and after 07:30, and objects below `_headrace` and other private folders that are not data.
async fn write_lake<S: Deployment>(deployment: &S) -> Result<()> {
    for (object, lines) in [
        ("1.ndjson", patient("a", 1, "07:00") + &patient("b", 1, "07:30") + &patient("d", 1, "07:00")),
        ("2.ndjson", patient("a", 2, "07:31") + &patient("c", 1, "07:40") + &deletion("Patient/d", "07:50")),
        ("_headrace/Patient.ndjson", patient("hidden", 1, "07:00")),
        ("_headrace/writer/Patient-1.ndjson", patient("hidden", 2, "07:00") + "not a resource\n"),
        ("sub/_private/Patient.ndjson", patient("hidden", 3, "07:00")),
    ] {
        deployment.set_lake_object(object, Some(lines.into())).await?;
    }
    Ok(())
}

/// Checks exports of the lake of `write_lake` by every rule.
async fn check_rules<S: Deployment>(deployment: &S) -> Result<()> {
    write_lake(deployment).await?;
    let (early, all) = (vec!["a 1", "b 1", "d 1"], vec!["a 2", "b 1", "c 1"]);
    let object =
        |time: &str| json!({ "urn:headrace:watermark": { "rule": "object", "completeUpTo": format!("2026-10-01T{time}:00.000Z") } });
    let rule = |rule: &str| json!({ "urn:headrace:watermark": { "rule": rule } });
    let delay = json!({ "urn:headrace:watermark": { "rule": "delay", "delay": "PT30M" } });
    for (watermark, content, time, lines, extension) in [
        (LakeWatermark::Auto, None, "08:00", &all, None),
        (LakeWatermark::Auto, Some("07:30"), "07:30", &early, Some(object("07:30"))),
        (LakeWatermark::Object, Some("07:30"), "07:30", &early, Some(object("07:30"))),
        // The clock of the ingestion pipeline is a little ahead.
        (LakeWatermark::Object, Some("08:04"), "08:00", &all, Some(object("08:04"))),
        (LakeWatermark::Now, Some("07:30"), "08:00", &all, Some(rule("now"))),
        (LakeWatermark::Arrival, Some("07:30"), "08:00", &all, Some(rule("arrival"))),
        (LakeWatermark::Lag(Duration::from_secs(1_800)), Some("07:00"), "07:30", &early, Some(delay)),
    ] {
        if let Some(content) = content {
            deployment.set_lake_object(WATERMARK, Some(complete_up_to(content))).await?;
        }
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let completed = export(deployment, settings(versions, watermark), "").await?;
            assert_eq!(completed.manifest.transaction_time, format!("2026-10-01T{time}:00.000Z"), "{watermark:?}");
            assert_eq!(&exported(&completed)?, lines, "{watermark:?}");
            assert_eq!(completed.manifest.extension, extension, "{watermark:?}");
            assert!(completed.manifest.error.is_empty(), "an object below _headrace was read");
        }
    }
    Ok(())
}

// Holds: M1
#[test]
fn an_export_shows_the_lake_at_its_watermark_by_every_rule() -> Result<()> {
    run(async || {
        check_rules(&AwsDeployment::new().await?).await?;
        check_rules(&LocalDeployment::with_files(&[]).await?).await
    })
}

/// Checks that a wrong or missing watermark is an error that names the object and the remedy, at the kick-off and at the plan.
async fn check_bad_watermarks<S: Deployment>(deployment: &S) -> Result<()> {
    write_lake(deployment).await?;
    let large = format!(r#"{{"completeUpTo":"2026-10-01T07:30:00Z","x":"{}"}}"#, "y".repeat(1 << 20));
    let cases = [
        (None, "does not exist"),
        (Some("{\"completeUpTo\": "), "is not JSON (line 1"),
        (Some(large.as_str()), "more than 65536"),
        (Some(r#"{"completeUpTo":true}"#), "is not a string"),
        (Some(r#"{"completeUpTo":"2026-10-01T07:30:00"}"#), "not an instant with a time zone"),
        (Some(r#"{"completeUpTo":"2026-10-01T10:00:00Z"}"#), "in the future"),
    ];
    for (content, problem) in cases {
        // The export that was accepted before meets the same error when it is planned.
        deployment.set_lake_object(WATERMARK, Some(complete_up_to("07:30"))).await?;
        let accepted = ServiceProcess::start(deployment, &ManualClock::default(), settings(LakeVersions::Auto, LakeWatermark::Object));
        let status = accepted.kick_off("").await?;
        deployment.set_lake_object(WATERMARK, content.map(|content| Bytes::copy_from_slice(content.as_bytes()))).await?;
        let planned = accepted.run_until_done(&status).await?;
        let rejected = accepted.request("GET", "/$export").await?;
        // The code of a failed export is not a transient one.
        for (response, expected) in [(planned, "processing"), (rejected, "exception")] {
            let (severity, code, text) = response.outcome()?;
            assert_eq!((response.status, severity.as_str(), code.as_str()), (500, "error", expected), "{text}");
            for words in [problem, WATERMARK, "HEADRACE_LAKE_WATERMARK", r#"{"completeUpTo":"#] {
                assert!(text.contains(words), "`{words}` is not in: {text}");
            }
        }
        // Rules that need no object ignore a wrong one.
        for watermark in [LakeWatermark::Now, LakeWatermark::Arrival, LakeWatermark::Lag(Duration::from_secs(60))] {
            assert_eq!(export(deployment, settings(LakeVersions::Auto, watermark), "").await?.lines().len(), 3);
        }
        let auto = ServiceProcess::start(deployment, &ManualClock::default(), settings(LakeVersions::Auto, LakeWatermark::Auto));
        let status = auto.request("GET", "/$export").await?.status;
        assert_eq!(status, if content.is_some() { 500 } else { 202 }, "a wrong object is never ignored");
    }
    Ok(())
}

#[test]
fn a_wrong_or_missing_watermark_fails_the_export_by_name() -> Result<()> {
    run(async || {
        check_bad_watermarks(&AwsDeployment::new().await?).await?;
        check_bad_watermarks(&LocalDeployment::with_files(&[]).await?).await
    })
}

#[cfg(unix)]
#[test]
fn a_watermark_that_is_not_a_file_is_an_error_and_never_waited_for() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_files(&[("Patient.ndjson", b"")]).await?;
        deployment.set_lake_object("_headrace/watermark.json/x", Some(Bytes::new())).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default());
        let (_, _, text) = service.request("GET", "/$export").await?.outcome()?;
        assert!(text.contains("_headrace/watermark.json") && text.contains("must be a file"), "{text}");
        Ok(())
    })
}

// Holds: R6
#[test]
fn a_change_that_arrives_after_an_export_is_in_the_next_one() -> Result<()> {
    run(async || {
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let deployment = LocalDeployment::with_files(&[]).await?;
            let clock = ManualClock::default();
            deployment.put_lake_file("1.ndjson", patient("p", 1, "07:00").as_bytes(), at("07:10")?)?;
            deployment.set_lake_object(WATERMARK, Some(complete_up_to("08:00"))).await?;
            let service = ServiceProcess::start(&deployment, &clock, settings(versions, LakeWatermark::Auto));
            // 08:05 the patient changes, 08:30 an export runs.
            clock.advance(Duration::from_secs(30 * 60));
            let first = service.complete(&service.kick_off("").await?).await?;
            assert_eq!((first.manifest.transaction_time.as_str(), exported(&first)?), ("2026-10-01T08:00:00.000Z", vec!["p 1".to_owned()]));
            // 09:00 the change arrives, 10:00 the next export runs.
            clock.advance(Duration::from_secs(30 * 60));
            deployment.put_lake_file("2.ndjson", patient("p", 2, "08:05").as_bytes(), at("09:00")?)?;
            deployment.set_lake_object(WATERMARK, Some(complete_up_to("09:00"))).await?;
            clock.advance(Duration::from_secs(60 * 60));
            let query = format!("?_since={}", first.manifest.transaction_time);
            let second = service.complete(&service.kick_off(&query).await?).await?;
            assert_eq!(
                (second.manifest.transaction_time.as_str(), exported(&second)?),
                ("2026-10-01T09:00:00.000Z", vec!["p 2".to_owned()])
            );
            assert!(second.manifest.error.is_empty());
        }
        Ok(())
    })
}

/// Returns a lake in which, after 07:30, one change, one deletion and one older version arrived late.
async fn late_lake() -> Result<LocalDeployment> {
    let deployment = LocalDeployment::with_files(&[]).await?;
    let base = ["a", "b", "c", "d"].map(|id| patient(id, 1, "06:00")).concat() + &patient("d", 3, "07:45");
    deployment.put_lake_file("base.ndjson", base.as_bytes(), at("07:00")?)?;
    let late = patient("a", 2, "07:20") + &deletion("Patient/b", "07:25") + &patient("d", 2, "07:10") + &patient("e", 1, "07:40");
    deployment.put_lake_file("late.ndjson", late.as_bytes(), at("07:50")?)?;
    Ok(deployment)
}

#[test]
fn changes_that_since_leaves_out_although_they_arrived_later_are_counted_without_a_stated_watermark() -> Result<()> {
    run(async || {
        let deployment = late_lake().await?;
        let increment = "?_since=2026-10-01T07:30:00Z";
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let completed = export(&deployment, settings(versions, LakeWatermark::Auto), increment).await?;
            assert_eq!(exported(&completed)?, ["d 3", "e 1"]);
            let notices = notices(&completed)?;
            assert_eq!(notices.len(), 1);
            for words in ["2 changes were left out", "LakeWatermark", "HEADRACE_LAKE_WATERMARK", "--lake-watermark", "arrival"] {
                assert!(notices.iter().all(|notice| notice.contains(words)), "{notices:?}");
            }
            // The filters of the request decide what counts.
            let filtered = export(&deployment, settings(versions, LakeWatermark::Auto), &format!("{increment}&_type=Basic")).await?;
            assert!(filtered.manifest.error.is_empty());
            let after_arrival = export(&deployment, settings(versions, LakeWatermark::Auto), "?_since=2026-10-01T07:51:00Z").await?;
            assert!(after_arrival.manifest.error.is_empty());
            assert!(export(&deployment, settings(versions, LakeWatermark::Auto), "").await?.manifest.error.is_empty());
            for watermark in [LakeWatermark::Now, LakeWatermark::Lag(Duration::from_secs(60))] {
                assert!(export(&deployment, settings(versions, watermark), increment).await?.manifest.error.is_empty());
            }
        }
        // Lines are not compared: each counts.
        let completed = export(&deployment, settings(LakeVersions::One, LakeWatermark::Auto), increment).await?;
        assert!(notices(&completed)?.iter().all(|notice| notice.contains("3 changes were left out")), "{:?}", notices(&completed)?);
        deployment.set_lake_object(WATERMARK, Some(complete_up_to("08:00"))).await?;
        let stated = export(&deployment, settings(LakeVersions::Auto, LakeWatermark::Auto), increment).await?;
        assert!(stated.manifest.error.is_empty());
        Ok(())
    })
}

#[test]
fn an_increment_by_arrival_includes_what_arrived_after_since_whatever_its_own_time() -> Result<()> {
    run(async || {
        let deployment = late_lake().await?;
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let completed = export(&deployment, settings(versions, LakeWatermark::Arrival), "?_since=2026-10-01T07:30:00Z").await?;
            assert_eq!(exported(&completed)?, ["a 2", "d 3", "e 1"]);
            assert_eq!(completed.deleted_references()?, ["Patient/b"]);
            assert!(completed.manifest.error.is_empty());
            let after = export(&deployment, settings(versions, LakeWatermark::Arrival), "?_since=2026-10-01T07:52:00Z").await?;
            assert!(after.lines().is_empty() && after.deleted_references()?.is_empty());
        }
        Ok(())
    })
}

/// Checks arrivals in S3, whose stand-in takes the time of the machine: after the day of every manual clock.
#[test]
fn the_arrival_of_objects_in_s3_counts_too() -> Result<()> {
    run(async || {
        let deployment = AwsDeployment::new().await?;
        deployment.set_lake_object("1.ndjson", Some((patient("a", 1, "06:00") + &patient("b", 1, "07:40")).into())).await?;
        let counted = export(&deployment, settings(LakeVersions::Auto, LakeWatermark::Auto), "?_since=2026-10-01T07:30:00Z").await?;
        assert_eq!(exported(&counted)?, ["b 1"]);
        assert!(notices(&counted)?.iter().all(|notice| notice.starts_with("1 change was left out")));
        assert_eq!(notices(&counted)?.len(), 1);
        let included = export(&deployment, settings(LakeVersions::Auto, LakeWatermark::Arrival), "?_since=2026-10-01T07:30:00Z").await?;
        assert_eq!(exported(&included)?, ["a 1", "b 1"]);
        Ok(())
    })
}

#[test]
fn p3_every_attempt_at_a_plan_keeps_the_time_of_the_first() -> Result<()> {
    let lake = || LocalDeployment::with_files(&[]);
    let names = run(async || {
        set_next_job_number(1);
        let deployment = lake().await?;
        write_lake(&deployment).await?;
        deployment.set_lake_object(WATERMARK, Some(complete_up_to("07:30"))).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), settings(LakeVersions::Auto, LakeWatermark::Auto));
        service.complete(&service.kick_off("").await?).await?;
        Ok(service.faults.call_names())
    })?;
    let position = |name: &str| names.iter().position(|call| *call == name).map(|index| index + 1);
    let taken = position("tasks.update_task take_time").ok_or("the plan took no time")?;
    let listed = position("source.list").ok_or("the plan listed nothing")?;
    let planned = position("tasks.complete_task").ok_or("the plan was not completed")?;
    assert!(taken < listed && listed < planned, "{names:?}");
    for number in taken..planned {
        run(async || {
            set_next_job_number(1);
            let (deployment, clock) = (lake().await?, ManualClock::default());
            write_lake(&deployment).await?;
            deployment.set_lake_object(WATERMARK, Some(complete_up_to("07:30"))).await?;
            let faults = FaultInjector::at_call(number, Fault::CrashAfter);
            let crashed =
                ServiceProcess::start_with_faults(&deployment, &clock, settings(LakeVersions::Auto, LakeWatermark::Auto), faults.clone());
            let work = async {
                crashed.kick_off("").await?;
                crashed.deliver_all().await
            };
            assert!(faults.until_crash(work).await.is_none(), "the process did not crash");
            // Meanwhile the ingestion pipeline continues, in the object and in the data.
            deployment.set_lake_object(WATERMARK, Some(complete_up_to("08:00"))).await?;
            deployment.set_lake_object("3.ndjson", Some((patient("b", 2, "07:55") + &patient("e", 1, "07:15")).into())).await?;
            clock.advance(Duration::from_secs(3_600));
            let service = ServiceProcess::start(&deployment, &clock, settings(LakeVersions::Auto, LakeWatermark::Auto));
            let status = format!("/_operations/export/{:032x}", 1);
            let completed = service.complete(&status).await?;
            assert_eq!(completed.manifest.transaction_time, "2026-10-01T07:30:00.000Z", "a crash after call {number}");
            assert!(["a 1", "b 1", "d 1"].iter().all(|line| exported(&completed).is_ok_and(|lines| lines.contains(&(*line).to_owned()))));
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn status_list_and_audit_record_show_the_time_and_the_watermark() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_files(&[]).await?;
        write_lake(&deployment).await?;
        deployment.set_lake_object(WATERMARK, Some(complete_up_to("07:30"))).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), settings(LakeVersions::Auto, LakeWatermark::Auto));
        let status = service.kick_off("").await?;
        let plan = service.receive().await?.ok_or("the plan was not announced")?;
        service.deliver(plan).await?;
        let running = service.request("GET", &status).await?;
        let progress = running.header("x-progress").unwrap_or_default();
        assert!(progress.ends_with(", as of 2026-10-01T07:30:00.000Z"), "{progress}");
        service.complete(&status).await?;
        let list = service.request("GET", "/_operations/export").await?.json()?;
        let outputs = &list["entry"][0]["resource"]["output"];
        assert_eq!(outputs[1], json!({ "type": { "text": "transactionTime" }, "valueInstant": "2026-10-01T07:30:00.000Z" }));
        assert_eq!(outputs[2], json!({ "type": { "text": "watermark" }, "valueCode": "object" }));
        service.reap_after(Duration::from_secs(3_600)).await?;
        let (files, mut audit) = (deployment.audit_files(), String::new());
        for name in files.list().await?.files {
            audit += std::str::from_utf8(&files.read(&name).await?)?;
        }
        assert!(audit.contains(r#"{"type":"transaction-time","valueString":"2026-10-01T07:30:00.000Z"}"#), "{audit}");
        assert!(audit.contains(r#"{"type":"watermark","valueString":"object"}"#), "{audit}");
        Ok(())
    })
}

#[test]
fn the_age_of_the_watermark_is_measured_if_it_is_watched() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_files(&[("Patient.ndjson", b"")]).await?;
        let clock = ManualClock::default();
        let age = async |setting, is_watched: bool| {
            let limit = is_watched.then_some(WatermarkLimit { setting, max_age: Duration::from_secs(60) });
            WatermarkMonitor::new(deployment.ports().1, clock.clone(), limit).record_age().await
        };
        assert_eq!(age(LakeWatermark::Object, true).await, None, "a missing watermark has no age");
        assert_eq!(age(LakeWatermark::Auto, true).await, None);
        deployment.set_lake_object(WATERMARK, Some(complete_up_to("07:00"))).await?;
        assert_eq!(age(LakeWatermark::Object, true).await, Some(Duration::from_secs(3_600)));
        assert_eq!(age(LakeWatermark::Auto, true).await, Some(Duration::from_secs(3_600)));
        assert_eq!(age(LakeWatermark::Now, true).await, Some(Duration::ZERO));
        assert_eq!(age(LakeWatermark::Object, false).await, None);
        clock.advance(Duration::from_secs(60));
        assert_eq!(age(LakeWatermark::Object, true).await, Some(Duration::from_secs(3_660)));
        deployment.set_lake_object(WATERMARK, Some(complete_up_to("08:02"))).await?;
        assert_eq!(age(LakeWatermark::Object, true).await, Some(Duration::ZERO), "the clock of the ingestion pipeline is ahead");
        deployment.set_lake_object(WATERMARK, Some("garbage".into())).await?;
        assert_eq!(age(LakeWatermark::Object, true).await, None);
        Ok(())
    })
}
