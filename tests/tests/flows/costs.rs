//! What exports use, and what estimates say before.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use async_compression::tokio::write::GzipEncoder;
use headrace_core::flow::client::estimate::{EstimateSettings, Fleet, estimate_job};
use headrace_core::job::{ExportTime, Job, Watermark};
use headrace_core::ports::Clock as _;
use headrace_core::request::ExportRequest;
use headrace_core::vocab::ids::{Caller, JobId};
use headrace_core::vocab::lake_settings::{LakeSettings, LakeVersions};
use headrace_local::stores::directory::DirectoryLake;
use headrace_tests::flows::{
    AwsDeployment, Deployment, DeploymentSettings, LocalDeployment, ManualClock, Result, ServiceProcess, SmartClient, run,
    unsealed_audit_records,
};
use headrace_tests::lake;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

/// Returns settings for workers with this memory, and a lake with this number of versions.
fn settings(memory_mb: u32, versions: LakeVersions) -> DeploymentSettings {
    let mut settings = DeploymentSettings::default();
    settings.worker.memory_mb = memory_mb;
    settings.worker.lake = LakeSettings { versions, ..LakeSettings::default() };
    settings
}

/// Exports everything. Returns the manifest.
async fn manifest<S: Deployment>(deployment: &S, settings: DeploymentSettings) -> Result<Value> {
    let service = ServiceProcess::start(deployment, &ManualClock::default(), settings);
    let status = service.kick_off("").await?;
    service.complete(&status).await?;
    service.request("GET", &status).await?.json()
}

/// Returns NDJSON of this many resources.
fn patients(count: usize) -> Vec<u8> {
    (0..count).map(|number| format!("{{\"resourceType\":\"Patient\",\"id\":\"{number}\"}}\n")).collect::<String>().into_bytes()
}

#[test]
fn an_export_on_one_machine_says_its_files_and_bytes_and_no_price() -> Result<()> {
    run(async || {
        let lines = patients(1_000);
        let deployment = LocalDeployment::with_files(&[("Patient.ndjson", &lines)]).await?;
        let usage = manifest(&deployment, settings(0, LakeVersions::One)).await?["extension"]["urn:headrace:usage"].clone();
        assert_eq!((usage["bytesRead"].as_u64(), usage["bytesWritten"].as_u64()), (Some(lines.len() as u64), Some(lines.len() as u64)));
        // The lake is read once, its lines are written to one fragment, and that is linked as a file.
        assert_eq!(usage["objectRequests"], json!({ "get": 1, "put": 1, "copy": 1, "list": 2, "delete": 1 }));
        assert_eq!(usage["attempts"], 3, "plan, read, finalize");
        assert!(usage["tableRequests"].as_u64() > Some(10), "{usage}");
        for absent in ["tableReadUnits", "tableWriteUnits", "messages", "memoryMb", "listPrice"] {
            assert!(usage.get(absent).is_none(), "{absent}: {usage}");
        }
        Ok(())
    })
}

#[test]
fn an_export_on_aws_says_its_requests_units_messages_and_list_price() -> Result<()> {
    run(async || {
        let lines = patients(1_000);
        let deployment = AwsDeployment::new().await?;
        deployment.set_lake_object("Patient.ndjson", Some(lines.clone().into())).await?;
        let usage = manifest(&deployment, settings(1_769, LakeVersions::One)).await?["extension"]["urn:headrace:usage"].clone();
        assert_eq!((usage["bytesRead"].as_u64(), usage["bytesWritten"].as_u64()), (Some(lines.len() as u64), Some(lines.len() as u64)));
        // Beside the lake: the object with its watermark, which does not exist, before and after the listing; the listing of uploads and of the
        // folder.
        assert_eq!(usage["objectRequests"], json!({ "get": 3, "put": 1, "copy": 1, "list": 3, "delete": 1 }));
        // The read task, and the finalize task after it. The kick-off has announced the plan.
        assert_eq!((usage["attempts"].as_u64(), usage["messages"].as_u64()), (Some(3), Some(2)));
        // Leases, a checkpoint and completions: at least two units for each item of a transaction.
        let (reads, writes) = (usage["tableReadUnits"].as_f64(), usage["tableWriteUnits"].as_u64());
        assert!(reads > Some(5.0) && writes > Some(20) && writes < Some(200), "{usage}");
        let price = &usage["listPrice"];
        assert_eq!((price["region"].as_str(), price["pricesRead"].as_str()), (Some("us-east-1"), Some("2026-11-01")));
        // 5 writing requests and 3 reads; 2 messages.
        assert_eq!((price["s3Usd"].as_f64(), price["sqsUsd"].as_f64()), (Some(0.000_026), Some(0.000_002)));
        assert!(price["usd"].as_f64() > price["dynamodbUsd"].as_f64(), "{price}");
        Ok(())
    })
}

#[test]
fn the_list_of_exports_says_what_a_failed_export_has_used() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_files(&[("Patient.ndjson", &patients(10)), ("Observation.ndjson.gz", b"not gzip")]).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), settings(0, LakeVersions::One));
        let status = service.kick_off("").await?;
        assert_eq!(service.run_until_done(&status).await?.status, 500);
        let task = service.request("GET", "/_operations/export").await?.json()?["entry"][0]["resource"].clone();
        assert_eq!(task["status"], "failed");
        let outputs = task["output"].as_array().ok_or("no output")?;
        let usage = outputs.iter().find(|output| output["type"]["text"] == "usage").ok_or("no usage")?;
        let usage: Value = serde_json::from_str(usage["valueString"].as_str().ok_or("no text")?)?;
        assert!(usage["attempts"].as_u64() >= Some(1), "{usage}");
        Ok(())
    })
}

/// Returns the decimal of a parameter of an estimate.
fn decimal(estimate: &Value, name: &str) -> Result<f64> {
    let parameters = estimate["parameter"].as_array().ok_or_else(|| format!("no parameters: {estimate}"))?;
    let found = parameters.iter().find(|parameter| parameter["name"] == name).ok_or_else(|| format!("no {name}: {estimate}"))?;
    Ok(found["valueDecimal"].as_f64().ok_or_else(|| format!("no decimal: {found}"))?)
}

/// Checks estimates of exports of a lake against what then happens.
async fn check_estimates<S: Deployment>(deployment: &S, settings: &DeploymentSettings, queries: &[&str]) -> Result<()> {
    for query in queries {
        let service = ServiceProcess::start(deployment, &ManualClock::default(), settings.clone());
        let (path, parameters) = query.split_once('?').unwrap_or((query, ""));
        let target = format!("{path}?{parameters}&_estimate=true").replace("?&", "?");
        let response = service.request("GET", &target).await?;
        assert_eq!(response.status, 200, "{query}: {response:?}");
        let estimate = response.json()?;
        assert_eq!(service.request("GET", "/_operations/export").await?.json()?["total"].as_u64().unwrap_or_default(), 0);
        let kicked_off = service.request("GET", query).await?;
        let status = kicked_off.header("content-location").ok_or_else(|| format!("{kicked_off:?}"))?.to_owned();
        let status = status.find("/_operations").and_then(|at| status.get(at..)).ok_or("no status URL")?.to_owned();
        let export = service.complete(&status).await?;
        let bytes: usize = export.manifest.output.iter().filter_map(|entry| export.files.get(entry.name())).map(|file| file.len()).sum();
        let resources: usize = export.manifest.output.iter().map(|entry| entry.count).sum();
        for (name, happened) in [("outputFiles", export.manifest.output.len()), ("outputBytes", bytes), ("resources", resources)] {
            let (estimated, happened) = (decimal(&estimate, name)?, happened as f64);
            assert!((estimated - happened).abs() <= 0.3 * happened, "{query} {name}: {estimated} estimated, {happened} exported");
        }
        service.request("DELETE", &status).await?;
    }
    Ok(())
}

#[test]
fn an_estimate_of_a_sample_lake_is_near_to_what_then_happens() -> Result<()> {
    run(async || {
        let group = "/Group/hr-group-study-1/$export";
        let queries = [
            "/$export",
            "/$export?_type=Patient,Observation",
            "/$export?_typeFilter=Observation%3Fstatus%3Dfinal&_type=Observation",
            "/$export?_since=2025-01-01T00:00:00Z",
            "/$export?_elements=Patient.name",
            "/Patient/$export",
            group,
        ];
        let local = LocalDeployment::with_lake(&lake::sample_lake_dir()).await?;
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            check_estimates(&local, &settings(0, versions), &queries).await?;
        }
        let aws = AwsDeployment::with_lake(&lake::sample_lake_dir()).await?;
        check_estimates(&aws, &settings(768, LakeVersions::Auto), &queries[..2]).await?;
        check_estimates(&LocalDeployment::with_lake(&lake::broken_lake_dir()).await?, &settings(0, LakeVersions::Auto), &queries[..1]).await
    })
}

#[test]
fn an_estimate_from_samples_is_near_to_what_then_happens() -> Result<()> {
    run(async || {
        // A third of the patients is female, and lines become longer.
        let line = |number: usize| {
            let gender = if number.is_multiple_of(3) { "female" } else { "male" };
            format!(
                "{{\"resourceType\":\"Patient\",\"id\":\"{number}\",\"gender\":\"{gender}\",\"language\":\"{}\"}}\n",
                "x".repeat(number % 300)
            )
        };
        let objects: Vec<(String, Vec<u8>)> = (0..20)
            .map(|object| (format!("Patient-{object}.ndjson"), (0..2_000).map(|n| line(object * 2_000 + n)).collect::<String>().into()))
            .collect();
        let files: Vec<(&str, &[u8])> = objects.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let deployment = LocalDeployment::with_files(&files).await?;
        let source = DirectoryLake::open(deployment.lake());
        let clock = ManualClock::default();
        let request = ExportRequest { type_filters: vec!["Patient?gender=female".to_owned()], ..ExportRequest::default() };
        let job = Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), request, clock.now());
        let lake = LakeSettings { versions: LakeVersions::One, ..LakeSettings::default() };
        let settings = EstimateSettings { sample_bytes: 500_000, ..EstimateSettings::new(lake, false, Fleet::Process(1)) };
        let time = ExportTime::new(clock.now(), Watermark::Unstated);
        let estimate = estimate_job((&source, &clock), (&job, &[]), time, &settings).await?;
        assert!(!estimate.has_read_all);
        let expected: usize = (0..40_000).filter(|number| number % 3 == 0).map(|number| line(number).len()).sum();
        let (estimated, expected) = (estimate.volume.output_bytes(), expected as f64);
        assert!((estimated - expected).abs() < 0.1 * expected, "{estimated} estimated, {expected} exported");
        Ok(())
    })
}

#[test]
fn an_estimate_reads_a_bounded_part_of_an_object_that_is_compressed_extremely_well() -> Result<()> {
    run(async || {
        // Some KB that are read as a whole if only the stored bytes count.
        let mut encoder = GzipEncoder::new(Vec::new());
        encoder.write_all("{\"resourceType\":\"Patient\",\"id\":\"1\"}\n".repeat(100_000).as_bytes()).await?;
        encoder.shutdown().await?;
        let deployment = LocalDeployment::with_files(&[("Patient.ndjson.gz", &encoder.into_inner())]).await?;
        let (source, clock) = (DirectoryLake::open(deployment.lake()), ManualClock::default());
        let job = Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), ExportRequest::default(), clock.now());
        let lake = LakeSettings { versions: LakeVersions::One, ..LakeSettings::default() };
        let settings = EstimateSettings { sample_bytes: 500_000, ..EstimateSettings::new(lake, false, Fleet::Process(1)) };
        let time = ExportTime::new(clock.now(), Watermark::Unstated);
        let estimate = estimate_job((&source, &clock), (&job, &[]), time, &settings).await?;
        assert!(!estimate.has_read_all, "3.7 MB of lines were read, beyond the 0.5 MB of the sample");
        let estimated = estimate.volume.output_bytes();
        assert!((500_000.0..3_700_000.0).contains(&estimated), "{estimated}");
        Ok(())
    })
}

#[test]
fn an_estimate_is_rejected_like_an_export_and_starts_nothing() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_lake(&lake::sample_lake_dir()).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default().with_smart_access()?);
        let client = SmartClient::new_es384("lab")?;
        service.register(&client, "system/Patient.rs").await?;
        service.set_client(&client, "system/Patient.rs");
        for target in ["/$export?_type=Observation", "/Group/unknown/$export", "/$export?_colour=blue", "/$export?_since=yesterday"] {
            let separator = if target.contains('?') { '&' } else { '?' };
            let estimated = service.request("GET", &format!("{target}{separator}_estimate=true")).await?;
            let rejected = service.request("GET", target).await?;
            assert_eq!((estimated.status, estimated.outcome()?), (rejected.status, rejected.outcome()?), "{target}");
            assert!(rejected.status >= 400);
        }
        let twice = service.request("GET", "/$export?_estimate=true&_estimate=false").await?;
        assert_eq!(twice.status, 400);
        assert_eq!(service.request("GET", "/$export?_estimate=perhaps").await?.status, 400);
        let items = deployment.job_table_items().await?.len();
        let answer = service.request("GET", "/$export?_estimate=true").await?;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/fhir+json")));
        let types: Vec<Value> =
            answer.json()?["parameter"].as_array().into_iter().flatten().filter(|entry| entry["name"] == "output").cloned().collect();
        assert_eq!(types.len(), 1, "the client may read one type: {types:?}");
        assert_eq!(deployment.job_table_items().await?.len(), items + 1, "the audit record alone");
        let records = unsealed_audit_records(&deployment).await?;
        let estimates: Vec<&Value> = records.iter().filter(|record| record["action"] == "estimate").collect();
        assert_eq!(estimates.len(), 1);
        assert!(estimates[0]["job"].is_null() && estimates[0]["export"]["level"] == "system", "{}", estimates[0]);
        assert!(service.receive().await?.is_none(), "no task is announced");
        Ok(())
    })
}
