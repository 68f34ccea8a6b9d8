//! Failed, cancelled and expired exports, and access to exports by other callers.

use std::sync::Arc;

use headrace_core::ports::PROMOTIONS_PER_CHECKPOINT;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::lake_settings::LakeVersions;
use headrace_tests::flows::{
    ANN, BEN, Deployment, DeploymentSettings, Fault, FaultInjector, LocalDeployment, ManualClock, REAPER_INTERVAL, Result, ServiceProcess,
    TestRequest, run, seed,
};
use headrace_tests::lake;

use super::crash::lake_of_many_types;
use super::lake_model;

/// Starts a process without faults.
fn start<S: Deployment>(deployment: &S) -> Arc<ServiceProcess<S>> {
    ServiceProcess::start(deployment, &ManualClock::default(), seed::settings())
}

// Holds: S3
#[test]
fn p8_a_task_that_always_fails_is_parked_and_fails_its_job() -> Result<()> {
    run(async || {
        let faults = FaultInjector::new(|call| if call.name == "source.read" { Fault::FailBefore } else { Fault::None });
        let service = ServiceProcess::start_with_faults(&seed::aws_deployment().await?, &ManualClock::default(), seed::settings(), faults);
        let status = service.kick_off("").await?;
        let response = service.run_until_done(&status).await?;
        assert_eq!((response.status, response.header("content-type")), (500, Some("application/fhir+json")));
        let (severity, code, text) = response.outcome()?;
        assert_eq!((severity.as_str(), code.as_str()), ("error", "processing"));
        assert!(text.contains("failed 5 times without progress") && text.contains("the lake did not answer"), "{text}");
        let dead_letters = service.deployment.dead_letters().await?;
        assert!(
            !dead_letters.is_empty()
                && dead_letters
                    .iter()
                    .all(|body| status.ends_with(&serde_json::from_str::<serde_json::Value>(body).unwrap()["job"].as_str().unwrap())),
            "{dead_letters:?}"
        );
        service.reap_after(3 * REAPER_INTERVAL).await?;
        assert!(service.stored_files(&status).await?.is_empty());
        assert_eq!(service.request("GET", &status).await?.status, 500, "the status stays available after the cleanup");
        assert_eq!(service.request("DELETE", &status).await?.status, 202);
        assert_eq!(service.request("GET", &status).await?.status, 404);
        Ok(())
    })
}

#[test]
fn an_object_that_changes_after_planning_fails_the_job_with_its_name() -> Result<()> {
    /// Replaces or removes a planned object and checks that the export fails.
    async fn check<S: Deployment>(deployment: S, bytes: Option<&[u8]>) -> Result<()> {
        let service = start(&deployment);
        let status = service.kick_off("").await?;
        let plan = service.receive().await?.ok_or("no plan")?;
        service.deliver(plan).await?;
        deployment.set_lake_object("4/Patient.ndjson", bytes.map(bytes::Bytes::copy_from_slice)).await?;
        let response = service.run_until_done(&status).await?;
        let (severity, code, text) = response.outcome()?;
        assert_eq!((response.status, severity.as_str(), code.as_str()), (500, "error", "conflict"));
        assert!(text.contains("`4/Patient.ndjson`") && text.contains("start a new export"), "{text}");
        service.reap_after(3 * REAPER_INTERVAL).await?;
        assert!(service.stored_files(&status).await?.is_empty());
        Ok(())
    }
    let local_deployment = async || {
        let lake = seed::lake_objects();
        LocalDeployment::with_files(&lake.iter().map(|(object, bytes)| (*object, bytes.as_slice())).collect::<Vec<_>>()).await
    };
    let shorter: Option<&[u8]> = Some(b"{\"resourceType\":\"Patient\",\"id\":\"new\"}\n");
    let longer = vec![b' '; 3_000];
    for bytes in [None, shorter, Some(longer.as_slice())] {
        run(async || check(local_deployment().await?, bytes).await)?;
        run(async || check(seed::aws_deployment().await?, bytes).await)?;
    }
    Ok(())
}

#[test]
fn p7_a_worker_near_its_time_limit_releases_its_remaining_work() -> Result<()> {
    run(async || {
        let dir = lake::sample_lake_dir();
        let deployment = LocalDeployment::with_lake(&dir).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::with_file_bytes(9_000));
        let status = service.kick_off("").await?;
        let mut deliveries = 0;
        while let Some(message) = service.receive().await? {
            deliveries += 1;
            // Tasks that read have no time left when they start. The finalize task and the resolve task, the first of round 1, have.
            let reads = message.body.as_deref().is_some_and(|body| !body.ends_with(":1}") && !body.ends_with(":1000000}"));
            service.deliver_until(message, if reads { service.now() } else { Millis(u64::MAX) }).await?;
        }
        let completed = service.complete(&status).await?;
        assert_eq!(completed.sorted_lines(), headrace_tests::flows::oracle::expected_lines(&dir, None, None)?);
        let tasks = service.faults.call_names().iter().filter(|name| **name == "tasks.complete_task").count();
        let releases = service.faults.call_names().iter().filter(|name| **name == "tasks.update_task release").count();
        assert!(releases >= tasks - 2, "{deliveries} deliveries, {tasks} completed tasks, {releases} releases");
        Ok(())
    })
}

#[test]
fn p7_a_finalize_task_near_its_time_limit_promotes_a_batch_of_fragments_and_goes_on_behind_it() -> Result<()> {
    run(async || {
        let lines: Vec<_> = lake_of_many_types().into_iter().flat_map(|(_, lines)| lines).collect();
        let deployment = LocalDeployment::with_files(&[("All.ndjson", &lake_model::lines(&lines))]).await?;
        let mut settings = DeploymentSettings::default();
        settings.worker.lake.versions = LakeVersions::One;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), settings);
        let status = service.kick_off("").await?;
        while let Some(message) = service.receive().await? {
            let is_finalize = message.body.as_deref().is_some_and(|body| body.ends_with(":1}"));
            service.deliver_until(message, if is_finalize { service.now() } else { Millis(u64::MAX) }).await?;
        }
        let completed = service.complete(&status).await?;
        assert_eq!(completed.sorted_lines(), lake_model::expected(&lines).lines);
        let names = service.faults.call_names();
        let count = |name: &str| names.iter().filter(|other| **other == name).count();
        let types = completed.file_counts_by_type().len();
        assert!(types > PROMOTIONS_PER_CHECKPOINT && types < 2 * PROMOTIONS_PER_CHECKPOINT, "{types}");
        // The second attempt promotes what is left, and nothing twice.
        assert_eq!((count("output.promote"), count("tasks.update_task reserve_files"), count("tasks.update_task release")), (types, 2, 1));
        Ok(())
    })
}

// Holds: C1, C5, A4
#[test]
fn p10_an_export_can_be_cancelled_in_every_phase() -> Result<()> {
    run(async || {
        let mut seen = std::collections::BTreeSet::new();
        for deliveries in 0..40 {
            let service = start(&seed::aws_deployment().await?);
            let status = service.kick_off("").await?;
            for _ in 0..deliveries {
                let Some(message) = service.receive().await? else { break };
                service.deliver(message).await?;
            }
            let before = service.request("GET", &status).await?;
            seen.insert(
                before
                    .header("x-progress")
                    .map_or_else(|| before.status.to_string(), |text| text.rsplit(", ").next().unwrap_or_default().to_owned()),
            );
            assert_eq!(service.request("DELETE", &status).await?.status, 202);
            assert!(service.stored_files(&status).await?.is_empty(), "after {deliveries} deliveries");
            for (method, target) in
                [("GET", status.clone()), ("DELETE", status.clone()), ("GET", status.replace("/export/", "/files/") + "/Patient-1.ndjson")]
            {
                let response = service.request(method, &target).await?;
                assert_eq!((response.status, response.outcome()?.1.as_str()), (404, "not-found"), "{method} {target}");
            }
            service.deliver_all().await?;
            service.reap_after(3 * REAPER_INTERVAL).await?;
            service.deliver_all().await?;
            assert!(service.stored_files(&status).await?.is_empty());
            assert_eq!(service.reap_after(3 * REAPER_INTERVAL).await?, Default::default(), "no work is left");
            if before.status == 200 {
                break;
            }
        }
        let phases = ["planning the export", " of ", "tasks left to merge files", "finishing", "200"];
        assert!(phases.iter().all(|phase| seen.iter().any(|seen| seen.contains(phase))), "{seen:?}");
        Ok(())
    })
}

#[test]
fn an_export_is_deleted_after_its_retention_period() -> Result<()> {
    run(async || {
        let service = start(&seed::aws_deployment().await?);
        let status = service.kick_off("").await?;
        let completed = service.complete(&status).await?;
        let complete = service.request("GET", &status).await?;
        let expires = service.now() + std::time::Duration::from_secs(86_400);
        assert_eq!(complete.header("expires"), Some(expires.http_date().as_str()));
        let file = completed.manifest.output.first().map(|entry| entry.url.clone()).ok_or("no file")?;
        let file = file.find("/_operations").and_then(|at| file.get(at..)).ok_or("not our URL")?;
        service.clock.advance(24 * 60 * REAPER_INTERVAL - REAPER_INTERVAL);
        assert_eq!(service.request("GET", file).await?.status, 307);
        service.clock.advance(REAPER_INTERVAL);
        assert_eq!(
            (service.request("GET", &status).await?.status, service.request("GET", file).await?.status),
            (404, 404),
            "also before the reaper deletes it"
        );
        service.reap().await?;
        let reaped = service.reap_after(REAPER_INTERVAL).await?;
        assert!(service.stored_files(&status).await?.is_empty(), "{reaped:?}");
        assert_eq!(service.request("DELETE", &status).await?.status, 404);
        for _ in 0..3 {
            service.reap_after(3 * REAPER_INTERVAL).await?;
        }
        assert_eq!(service.reap_after(3 * REAPER_INTERVAL).await?, Default::default(), "no work is left");
        Ok(())
    })
}

#[test]
fn p8_an_export_that_passes_its_deadline_fails() -> Result<()> {
    run(async || {
        let service = start(&seed::aws_deployment().await?);
        let status = service.kick_off("").await?;
        // All messages are lost, also those that the reaper announces again.
        service.clock.advance(24 * 60 * REAPER_INTERVAL);
        service.reap().await?;
        let response = service.request("GET", &status).await?;
        let (severity, code, text) = response.outcome()?;
        assert_eq!((response.status, severity.as_str(), code.as_str()), (500, "error", "too-costly"));
        assert!(text.contains("24 hours"), "{text}");
        service.deliver_all().await?;
        assert!(service.stored_files(&status).await?.is_empty());
        Ok(())
    })
}

// Holds: S8, F2
#[test]
fn p9_exports_of_other_callers_are_not_found() -> Result<()> {
    run(async || {
        let service = start(&seed::aws_deployment().await?);
        let status = service.kick_off("").await?;
        let completed = service.complete(&status).await?;
        let file = status.replace("/export/", "/files/") + "/" + completed.manifest.output.first().map_or("", |entry| entry.name());
        for (method, target) in [("GET", &status), ("DELETE", &status), ("GET", &file)] {
            let other_caller = service.send(&TestRequest::new(method, target.as_str()).with_identity(BEN)).await?;
            assert_eq!((other_caller.status, other_caller.outcome()?.1.as_str()), (404, "not-found"), "{method} {target}");
            let anonymous = service.send(&TestRequest::new(method, target.as_str())).await?;
            assert_eq!((anonymous.status, anonymous.outcome()?.1.as_str()), (401, "login"), "{method} {target}");
        }
        // Another session of the same role is the same caller.
        let session = ANN.replace("/ann", "/later");
        assert_eq!(service.send(&TestRequest::new("GET", status.as_str()).with_identity(&session)).await?.status, 200);
        Ok(())
    })
}

// Holds: S4, C4, B3
#[test]
fn p9_a_failed_lookup_is_a_503_and_not_a_404() -> Result<()> {
    run(async || {
        let deployment = seed::aws_deployment().await?;
        let clock = ManualClock::default();
        let status = ServiceProcess::start(&deployment, &clock, seed::settings()).kick_off("").await?;
        let failing = ServiceProcess::start_with_faults(&deployment, &clock, seed::settings(), FaultInjector::new(|_| Fault::FailBefore));
        let file = status.replace("/export/", "/files/") + "/Patient-1.ndjson";
        for (method, target) in [("GET", status.as_str()), ("DELETE", &status), ("GET", &file), ("GET", "/$export")] {
            let response = failing.request(method, target).await?;
            assert_eq!(
                (response.status, response.outcome()?.1.as_str(), response.header("retry-after")),
                (503, "transient", Some("5")),
                "{method}"
            );
        }
        Ok(())
    })
}

// Holds: A11
#[test]
fn a_wrong_bucket_fails_the_kick_off_with_the_name_of_its_setting() -> Result<()> {
    run(async || {
        let deployment = seed::aws_deployment().await?;
        for (source, destination, variable) in
            [("no-such-lake", "export-bucket", "HEADRACE_SOURCE_BUCKET"), ("lake-bucket", "no-such-place", "HEADRACE_DESTINATION_BUCKET")]
        {
            let ports = deployment.ports_for_buckets(source, destination);
            let service =
                ServiceProcess::start_with_ports(&deployment, &ManualClock::default(), seed::settings(), FaultInjector::none(), ports);
            let response = service.request("GET", "/$export").await?;
            let (severity, _, text) = response.outcome()?;
            assert_eq!((response.status, severity.as_str()), (500, "error"));
            assert!(text.contains(variable) && text.contains("no-such"), "{text}");
            assert!(deployment.job_table_items().await?.is_empty(), "no job is recorded");
        }
        Ok(())
    })
}

#[test]
fn p2_duplicate_and_late_messages_change_nothing() -> Result<()> {
    run(async || {
        let service = start(&seed::aws_deployment().await?);
        let status = service.kick_off("").await?;
        let mut bodies = Vec::new();
        while let Some(message) = service.receive().await? {
            let body = message.body.clone().unwrap_or_default();
            service.deliver(message).await?;
            assert!(service.deliver_batch(&[body.clone(), body.clone()]).await?.is_empty());
            bodies.push(body);
        }
        let completed = service.complete(&status).await?;
        let before = service.deployment.job_table_items().await?;
        assert!(service.deliver_batch(&bodies).await?.is_empty());
        assert_eq!(service.deployment.job_table_items().await?, before);
        service.check_no_extra_files(&status, &completed).await?;
        assert_eq!(service.request("DELETE", &status).await?.status, 202);
        let before = service.deployment.job_table_items().await?;
        assert!(service.deliver_batch(&bodies).await?.is_empty());
        assert_eq!(service.deployment.job_table_items().await?, before);
        assert!(service.deployment.dead_letters().await?.is_empty());
        Ok(())
    })
}

#[test]
fn an_invalid_message_goes_to_the_dead_letter_queue_and_the_rest_of_its_batch_is_processed() -> Result<()> {
    run(async || {
        let service = start(&seed::aws_deployment().await?);
        let status = service.kick_off("").await?;
        let plan = service.receive().await?.ok_or("no plan")?.body.unwrap_or_default();
        let invalid_bodies = [
            "",
            "{}",
            "no JSON",
            r#"{"job":"../../etc/passwd","task":0}"#,
            r#"{"job":"00000000000000000000000000000001","task":0,"more":1}"#,
        ];
        let mut bodies: Vec<String> = invalid_bodies.map(str::to_owned).to_vec();
        bodies.insert(2, plan);
        assert!(service.deliver_batch(&bodies[1..]).await?.is_empty());
        assert!(service.request("GET", &status).await?.header("x-progress").is_some_and(|text| text.contains("tasks left")));
        let mut dead_letters = service.deployment.dead_letters().await?;
        dead_letters.sort();
        let mut expected = invalid_bodies[1..].to_vec();
        expected.sort_unstable();
        assert_eq!(dead_letters, expected);
        Ok(())
    })
}
