//! Exports without faults: they hold exactly the lines of the lake.

use std::path::Path;
use std::time::Duration;

use headrace_core::job::Job;
use headrace_core::ports::{Clock as _, JobStore};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::JobId;
use headrace_tests::flows::{
    AwsDeployment, CompletedExport, Deployment, DeploymentSettings, LocalDeployment, ManualClock, REAPER_INTERVAL, Result, ServiceProcess,
    oracle, run,
};
use headrace_tests::lake;

/// Exports with this query and downloads all files.
async fn export<S: Deployment>(deployment: &S, settings: DeploymentSettings, query: &str) -> Result<CompletedExport> {
    let service = ServiceProcess::start(deployment, &ManualClock::default(), settings);
    let status = service.kick_off(query).await?;
    service.complete(&status).await
}

/// Exports everything and checks that each line comes out once, in one file per type.
async fn check_whole_export<S: Deployment>(deployment: &S, dir: &Path) -> Result<CompletedExport> {
    let completed = export(deployment, DeploymentSettings::default(), "").await?;
    assert_eq!(completed.sorted_lines(), oracle::expected_lines(dir, None, None)?);
    assert!(completed.manifest.error.is_empty(), "{:?}", completed.manifest.error);
    let counts: std::collections::BTreeMap<_, _> =
        completed.manifest.output.iter().map(|entry| (entry.resource_type.clone(), entry.count as u64)).collect();
    let expected: std::collections::BTreeMap<_, _> =
        lake::count(dir)?.into_iter().map(|(resource_type, counts_of_type)| (resource_type, counts_of_type.lines)).collect();
    assert_eq!(counts, expected);
    assert!(completed.file_counts_by_type().values().all(|files| *files == 1), "{:?}", completed.file_counts_by_type());
    Ok(completed)
}

// Holds: M2, M3, B1
#[test]
fn every_line_of_the_sample_lake_is_exported_once_on_aws() -> Result<()> {
    run(async || {
        let dir = lake::sample_lake_dir();
        let completed = check_whole_export(&AwsDeployment::with_lake(&dir).await?, &dir).await?;
        assert!(completed.manifest.requires_access_token);
        assert_eq!(completed.manifest.request, "https://abc123.execute-api.eu-central-1.amazonaws.com/$export");
        assert_eq!(completed.manifest.transaction_time, ManualClock::default().now().instant());
        assert_eq!(completed.manifest.deleted, None);
        Ok(())
    })
}

// Holds: M3
#[test]
fn every_line_of_the_sample_lake_is_exported_once_on_a_local_server() -> Result<()> {
    run(async || {
        let dir = lake::sample_lake_dir();
        let completed = check_whole_export(&LocalDeployment::with_lake(&dir).await?, &dir).await?;
        assert!(!completed.manifest.requires_access_token);
        Ok(())
    })
}

#[test]
fn the_synthea_sample_is_exported_whole() -> Result<()> {
    run(async || {
        let dir = lake::synthea_lake_dir();
        for completed in [
            check_whole_export(&AwsDeployment::with_lake(&dir).await?, &dir).await?,
            check_whole_export(&LocalDeployment::with_lake(&dir).await?, &dir).await?,
        ] {
            assert_eq!((completed.lines().len(), completed.files.len()), (162, 13));
        }
        Ok(())
    })
}

#[test]
fn type_and_since_select_the_same_lines_as_the_oracle() -> Result<()> {
    run(async || {
        let dir = lake::sample_lake_dir();
        let deployment = LocalDeployment::with_lake(&dir).await?;
        for (query, types, since) in [
            ("?_type=Patient", Some(&["Patient"][..]), None),
            ("?_type=Patient,Observation&_type=Claim", Some(&["Patient", "Observation", "Claim"]), None),
            ("?_type=Medication", Some(&["Medication"]), None),
            ("?_since=2024-06-01T00:00:00Z", None, Some("2024-06-01T00:00:00Z")),
            ("?_since=2025-01-01T00:00:00%2B02:00&_type=Observation", Some(&["Observation"]), Some("2025-01-01T00:00:00+02:00")),
            ("?_since=2026-09-30T00:00:00Z", None, Some("2026-09-30T00:00:00Z")),
        ] {
            let completed = export(&deployment, DeploymentSettings::default(), query).await?;
            let expected = oracle::expected_lines(&dir, types, since)?;
            assert_eq!(completed.sorted_lines(), expected, "{query}");
            assert_eq!(completed.manifest.deleted.is_some(), since.is_some(), "{query}");
            let types = oracle::resource_types(&expected)?;
            assert!(completed.manifest.output.iter().map(|entry| &entry.resource_type).eq(types.iter()), "{query}");
        }
        Ok(())
    })
}

/// Checks that every file except the last of its type ends as soon as it reaches the size limit.
fn check_file_sizes(completed: &CompletedExport, limit: usize) -> Result<()> {
    for (resource_type, count) in completed.file_counts_by_type() {
        for number in 1..=count {
            let name = format!("{resource_type}-{number}.ndjson");
            let file = completed.files.get(&name).ok_or_else(|| format!("{name} is missing"))?;
            let last_line = file.split_inclusive(|byte| *byte == b'\n').next_back().map_or(0, <[u8]>::len);
            assert!(file.len() - last_line < limit, "{name} continues after it reached {limit} bytes");
            assert!(number == count || file.len() >= limit, "{name} has {} bytes and is not the last", file.len());
        }
    }
    Ok(())
}

/// Returns the job with this status URL.
async fn job(deployment: &LocalDeployment, status: &str) -> Result<Job> {
    let id = JobId::parse(status.rsplit('/').next().unwrap_or_default())?;
    Ok(JobStore::job(&deployment.job_store(), &id).await?.ok_or("no job")?)
}

#[test]
fn the_only_fragment_of_each_type_is_not_read_and_written_again() -> Result<()> {
    run(async || {
        let lines = |resource_type: &str| -> String {
            (0..50).map(|number| format!("{{\"resourceType\":\"{resource_type}\",\"id\":\"{number}\"}}\n")).collect()
        };
        let (patients, devices) = (lines("Patient"), lines("Device"));
        let deployment =
            LocalDeployment::with_files(&[("Patient.ndjson", patients.as_bytes()), ("Device.ndjson", devices.as_bytes())]).await?;
        // More than one byte is left to merge tasks.
        let settings = DeploymentSettings::with_file_bytes(1 << 20).with_merge_limit_bytes(1);
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), settings);
        let status = service.kick_off("").await?;
        let completed = service.complete(&status).await?;
        assert_eq!(completed.files["Patient-1.ndjson"], patients.as_bytes());
        assert_eq!(completed.files["Device-1.ndjson"], devices.as_bytes());
        // Round 1 resolves versions.
        assert_eq!(job(&deployment, &status).await?.round, 1);
        Ok(())
    })
}

// Holds: A2
#[test]
fn files_are_closed_at_the_size_limit_and_numbered_without_gaps() -> Result<()> {
    run(async || {
        let dir = lake::sample_lake_dir();
        let limit = 20_000;
        let one_task = 1 << 30;
        // A merge task fills at least one file, also if that is more than the limit.
        for merge_limit_bytes in [one_task, 30_000, 1] {
            let settings = DeploymentSettings::with_file_bytes(limit).with_merge_limit_bytes(merge_limit_bytes);
            let deployment = LocalDeployment::with_lake(&dir).await?;
            let service = ServiceProcess::start(&deployment, &ManualClock::default(), settings);
            let status = service.kick_off("").await?;
            let completed = service.complete(&status).await?;
            assert_eq!(completed.sorted_lines(), oracle::expected_lines(&dir, None, None)?);
            check_file_sizes(&completed, 20_000)?;
            assert!(completed.file_counts_by_type()["Observation"] > 3);
            let job = job(&deployment, &status).await?;
            assert!(job.planned.is_some_and(|planned| planned.tasks > 8), "planned tasks: {:?}", job.planned);
            // Round 1 resolves versions. The finalize task merges what is below the limit, without a round.
            assert_eq!(job.round > 1, merge_limit_bytes < one_task, "{merge_limit_bytes}: {} rounds", job.round);
        }
        Ok(())
    })
}

#[test]
fn files_are_closed_at_the_size_limit_and_fragments_merged_on_aws() -> Result<()> {
    run(async || {
        let dir = lake::sample_lake_dir();
        let deployment = AwsDeployment::with_lake(&dir).await?;
        let completed =
            export(&deployment, DeploymentSettings::with_file_bytes(9_000).with_merge_limit_bytes(20_000), "?_container=my-place").await?;
        assert_eq!(completed.sorted_lines(), oracle::expected_lines(&dir, None, None)?);
        check_file_sizes(&completed, 9_000)?;
        assert!(deployment.output_files().await?.keys().all(|path| path.starts_with("my-place/20261001T080000-")));
        Ok(())
    })
}

#[test]
fn workers_that_were_started_without_a_message_empty_the_queue() -> Result<()> {
    run(async || {
        let dir = lake::sample_lake_dir();
        let deployment = AwsDeployment::with_lake(&dir).await?;
        let clock = ManualClock::default();
        let service = ServiceProcess::start(&deployment, &clock, DeploymentSettings::with_file_bytes(20_000));
        let status = service.kick_off("").await?;
        // A worker with too little time leaves the plan task to others.
        service.start_worker(clock.now() + Duration::from_secs(200)).await?;
        assert_eq!(service.request("GET", &status).await?.status, 202);
        futures_util::future::try_join_all((0..3).map(|_| Box::pin(service.start_worker(Millis(u64::MAX))))).await?;
        assert!(service.receive().await?.is_none(), "the workers have deleted their messages");
        let completed = service.complete(&status).await?;
        assert_eq!(completed.sorted_lines(), oracle::expected_lines(&dir, None, None)?);
        Ok(())
    })
}

#[test]
fn workers_process_slices_concurrently() -> Result<()> {
    run(async || {
        let dir = lake::sample_lake_dir();
        let deployment = LocalDeployment::with_lake(&dir).await?;
        let service = ServiceProcess::start(
            &deployment,
            &ManualClock::default(),
            DeploymentSettings::with_file_bytes(9_000).with_merge_limit_bytes(20_000),
        );
        let status = service.kick_off("").await?;
        // Four workers share the queue. If the finalize task comes too early, it is announced again when the last task completes.
        for _ in 0..400 {
            let mut messages = Vec::new();
            while let Some(message) = service.receive().await? {
                messages.push(message);
            }
            if messages.is_empty() {
                break;
            }
            for batch in messages.chunks(4) {
                let work = batch.iter().map(|message| Box::pin(service.deliver(message.clone())));
                futures_util::future::try_join_all(work).await?;
            }
        }
        let completed = service.complete(&status).await?;
        assert_eq!(completed.sorted_lines(), oracle::expected_lines(&dir, None, None)?);
        check_file_sizes(&completed, 9_000)?;
        Ok(())
    })
}

// Holds: S5
#[test]
fn invalid_lines_are_reported_by_position_and_never_quoted() -> Result<()> {
    run(async || {
        let dir = lake::broken_lake_dir();
        for file_bytes in [64_000_000, 150] {
            let completed = export(&LocalDeployment::with_lake(&dir).await?, DeploymentSettings::with_file_bytes(file_bytes), "").await?;
            let mut valid_lines = lake::broken::good_lines();
            valid_lines.sort();
            assert_eq!(completed.sorted_lines(), valid_lines);
            let reports: Vec<String> = completed
                .manifest
                .error
                .iter()
                .map(|entry| {
                    (entry.resource_type == "OperationOutcome")
                        .then(|| String::from_utf8_lossy(&completed.files[entry.name()]).into_owned())
                })
                .collect::<Option<Vec<_>>>()
                .ok_or("an error file holds other types than OperationOutcome")?;
            let reports = reports.concat();
            assert_eq!(reports.lines().count(), lake::broken::bad_lines().len());
            for invalid in lake::broken::bad_lines() {
                let position = format!("object `{}`, byte {}:", invalid.file, invalid.offset);
                assert_eq!(reports.matches(&position).count(), 1, "{position} ({}) in {reports}", invalid.reason);
            }
            for secret in ["broken-", "Cutsh", "Watermill", "exported by hand", "Nameless"] {
                assert!(!reports.contains(secret), "{secret} in {reports}");
            }
        }
        Ok(())
    })
}

#[test]
fn an_empty_lake_gives_an_empty_export() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_files(&[("README.md", b"nothing here"), ("Patient.ndjson", b"")]).await?;
        let completed = export(&deployment, DeploymentSettings::default(), "").await?;
        assert!(completed.manifest.output.is_empty() && completed.manifest.error.is_empty());
        Ok(())
    })
}

// Holds: M1
#[test]
fn p3_the_transaction_time_is_the_time_of_planning() -> Result<()> {
    run(async || {
        let service = ServiceProcess::start(
            &LocalDeployment::with_lake(&lake::sample_lake_dir()).await?,
            &ManualClock::default(),
            DeploymentSettings::default(),
        );
        let status = service.kick_off("").await?;
        service.clock.advance(REAPER_INTERVAL);
        let planned_at = service.now();
        let plan = service.receive().await?.ok_or("the plan was not announced")?;
        service.deliver(plan).await?;
        service.clock.advance(REAPER_INTERVAL);
        assert_eq!(service.complete(&status).await?.manifest.transaction_time, planned_at.instant());
        Ok(())
    })
}
