//! Synchronizations on AWS: the reaper starts them, the sync-worker runs them.

use std::collections::BTreeMap;
use std::time::Duration;

use headrace_core::job::JobState;
use headrace_core::lake::sync_report::{SYNC_REPORT_OBJECT, SyncReport};
use headrace_core::lake::watermark::WATERMARK_OBJECT;
use headrace_core::ports::{Clock as _, JobStore as _};
use headrace_core::vocab::clock::Millis;
use headrace_fhir::instant::Instant;
use headrace_tests::flows::aws_sync::AwsSync;
use headrace_tests::flows::sync::lake_state_before;
use headrace_tests::flows::{AwsDeployment, Deployment as _, ManualClock, REAPER_INTERVAL, Result, run};
use headrace_tests::standins::fhir_server::RequiredSignature;
use serde_json::Value;

const HOUR: Duration = Duration::from_secs(3_600);

/// Starts a deployment without any object in its lake, and its functions.
async fn start() -> Result<(AwsDeployment, ManualClock, AwsSync)> {
    let (deployment, clock) = (AwsDeployment::new().await?, ManualClock::default());
    let sync = AwsSync::start(&deployment, &clock).await?;
    Ok((deployment, clock, sync))
}

/// Checks that the lake has exactly the resources that the server had at the watermark.
async fn check_equal(deployment: &AwsDeployment, sync: &AwsSync) -> Result<()> {
    let objects = deployment.lake_objects().await?;
    let watermark: Value = serde_json::from_slice(objects.get(WATERMARK_OBJECT).ok_or("no watermark")?)?;
    let text = watermark.get("completeUpTo").and_then(Value::as_str).ok_or("no completeUpTo")?;
    // The watermark is the last moment that the lake has.
    let moment = Millis(u64::try_from(Instant::parse(text)?.nanos() / 1_000_000)? + 1);
    let folder = tempfile::tempdir()?;
    for (name, bytes) in &objects {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        std::fs::write(path, bytes)?;
    }
    let lake = lake_state_before(folder.path(), moment).await?;
    let server = sync.server.with_store(|store| store.state_before(moment));
    let server: BTreeMap<_, _> = server.into_iter().map(|((kind, id), text)| ((kind.to_owned(), id), text)).collect();
    assert!(!server.is_empty());
    assert_eq!(lake, server);
    Ok(())
}

#[test]
fn the_lake_in_s3_equals_the_server_after_each_synchronization() -> Result<()> {
    run(async || {
        let (deployment, clock, sync) = start().await?;
        let first = sync.run().await?;
        assert!(first.is_complete, "{first:?}");
        check_equal(&deployment, &sync).await?;
        clock.advance(HOUR);
        let at = clock.now();
        sync.server.with_store(|store| {
            store.put("Patient", "p-1", at);
            store.put("Patient", "p-new", Millis(at.0 + 1));
            store.delete("Observation", "o.2", Millis(at.0 + 2));
        });
        clock.advance(HOUR);
        let second = sync.run().await?;
        assert!(second.is_complete, "{second:?}");
        assert_eq!(second.from, Some(first.complete_up_to));
        assert_eq!(second.types.iter().map(|one| one.resources).sum::<u64>(), 2);
        assert_eq!(second.types.iter().filter_map(|one| one.deletions).sum::<u64>(), 1);
        check_equal(&deployment, &sync).await?;
        // Nothing of it is left in the destination of exports.
        assert_eq!(deployment.output_files().await?.into_keys().collect::<Vec<_>>(), Vec::<String>::new());
        Ok(())
    })
}

#[test]
fn a_lake_of_another_server_is_refused_also_if_its_watermark_is_lost() -> Result<()> {
    run(async || {
        let (deployment, clock, sync) = start().await?;
        let first = sync.run().await?;
        let other = SyncReport { origin: "https://other.example.org/r4".to_owned(), ..first };
        deployment.set_lake_object(SYNC_REPORT_OBJECT, Some(serde_json::to_vec(&other)?.into())).await?;
        deployment.set_lake_object(WATERMARK_OBJECT, None).await?;
        let before = deployment.lake_objects().await?;
        clock.advance(HOUR);
        let error = sync.run().await.unwrap_err().to_string();
        assert!(error.contains("the lake is filled from https://other.example.org/r4"), "{error}");
        assert_eq!(deployment.lake_objects().await?, before);
        Ok(())
    })
}

#[test]
fn each_time_of_the_schedule_starts_one_synchronization_and_none_overlaps_another() -> Result<()> {
    run(async || {
        let (deployment, clock, sync) = start().await?;
        let first = sync.start_due().await?.ok_or("the first one is due at once")?;
        assert_eq!(sync.start_due().await?, None, "it runs");
        clock.advance(2 * HOUR);
        assert_eq!(sync.start_due().await?, None, "it still runs");
        assert_eq!(sync.complete(&first).await?.state, JobState::Complete);
        let second = sync.start_due().await?.ok_or("the time passed while the first one ran")?;
        sync.complete(&second).await?;
        assert_eq!(sync.start_due().await?, None, "the times that passed are made up for once");
        // Of two reapers at the same moment one starts it.
        clock.advance(HOUR);
        let (one, other) = tokio::join!(sync.start_due(), sync.start_due());
        let started: Vec<_> = [one?, other?].into_iter().flatten().collect();
        assert_eq!(started.len(), 1, "{started:?}");
        sync.complete(&started[0]).await?;
        check_equal(&deployment, &sync).await
    })
}

#[test]
fn a_lost_message_of_a_synchronization_is_announced_in_its_own_queue() -> Result<()> {
    run(async || {
        let (deployment, _, sync) = start().await?;
        let job = sync.start_due().await?.ok_or("no synchronization is due")?;
        assert!(sync.receive().await?.is_some(), "the message of the plan is lost");
        assert_eq!(sync.reap_after(3 * REAPER_INTERVAL).await?.announced, 1);
        let (queue, _, _) = deployment.ports();
        assert!(deployment.receive(&queue).await?.is_none(), "no worker of exports gets it");
        assert_eq!(sync.complete(&job).await?.state, JobState::Complete);
        check_equal(&deployment, &sync).await
    })
}

#[test]
fn another_spelling_of_the_base_url_continues_the_lake() -> Result<()> {
    run(async || {
        let (deployment, clock, sync) = start().await?;
        sync.run().await?;
        let objects = deployment.lake_objects().await?;
        let watermark = String::from_utf8(objects.get(WATERMARK_OBJECT).ok_or("no watermark")?.to_vec())?;
        let spelled = watermark.replace("http://", "HTTP://");
        assert_ne!(spelled, watermark);
        deployment.set_lake_object(WATERMARK_OBJECT, Some(spelled.into())).await?;
        clock.advance(HOUR);
        let report = sync.run().await?;
        assert!(report.is_complete, "{report:?}");
        check_equal(&deployment, &sync).await
    })
}

#[test]
fn a_rotated_credential_is_read_again() -> Result<()> {
    run(async || {
        let (deployment, clock, sync) = start().await?;
        sync.run().await?;
        sync.server.require_authorization("Bearer second-token");
        sync.secrets.rotate(r#"{"token":"second-token"}"#);
        clock.advance(HOUR);
        let report = sync.run().await?;
        assert!(report.is_complete, "{report:?}");
        check_equal(&deployment, &sync).await
    })
}

#[test]
fn requests_of_the_function_are_signed_with_its_role() -> Result<()> {
    run(async || {
        let (deployment, clock) = (AwsDeployment::new().await?, ManualClock::default());
        let signature = RequiredSignature {
            access_key: "ASIAROLE".to_owned(),
            secret_key: "secret".to_owned(),
            session_token: Some("token".to_owned()),
            region: "eu-west-2".to_owned(),
            service: "healthlake".to_owned(),
        };
        let sync = AwsSync::start_with(&deployment, &clock, Some(signature)).await?;
        let report = sync.run().await?;
        assert!(report.is_complete, "{report:?}");
        assert_eq!(sync.server.wrong_signatures(), (0, String::new()));
        check_equal(&deployment, &sync).await
    })
}

#[test]
fn a_rejected_credential_fails_the_synchronization_and_it_is_repeated_within_the_hour() -> Result<()> {
    run(async || {
        let (deployment, clock, sync) = start().await?;
        sync.secrets.rotate(r#"{"token":"CANARY-wrong"}"#);
        let id = sync.start_due_with("P1D").await?.ok_or("no synchronization is due")?;
        let job = sync.complete(&id).await?;
        let reason = job.reason.ok_or("the job has no reason")?.text;
        assert!(reason.contains("does not accept the credential") && !reason.contains("CANARY"), "{reason}");
        assert!(deployment.lake_objects().await?.is_empty(), "nothing was written");
        assert_eq!(sync.start_due_with("P1D").await?, None);
        // The operator corrects the secret.
        sync.secrets.rotate(&format!(r#"{{"token":"{}"}}"#, headrace_tests::flows::aws_sync::FIRST_TOKEN));
        clock.advance(HOUR);
        let id = sync.start_due_with("P1D").await?.ok_or("it is repeated")?;
        assert_eq!(sync.complete(&id).await?.state, JobState::Complete);
        check_equal(&deployment, &sync).await
    })
}

#[test]
fn a_secret_that_is_no_credential_is_reported_without_its_text() -> Result<()> {
    run(async || {
        let (_, _, sync) = start().await?;
        sync.secrets.rotate("CANARY");
        let error = sync.run().await.map(drop).map_err(|error| error.to_string()).unwrap_err();
        assert!(error.contains("HEADRACE_ORIGIN_SECRET") && error.contains("clientId") && !error.contains("CANARY"), "{error}");
        Ok(())
    })
}

#[test]
fn a_table_that_has_forgotten_its_synchronizations_goes_by_the_watermark() -> Result<()> {
    run(async || {
        let (deployment, clock, sync) = start().await?;
        // Times of the schedule are whole hours. The watermark is a minute earlier than its synchronization.
        clock.advance(HOUR / 2);
        sync.run().await?;
        let forgetful = AwsDeployment::new().await?;
        for (object, bytes) in deployment.lake_objects().await? {
            forgetful.set_lake_object(&object, Some(bytes)).await?;
        }
        let other = AwsSync::start(&forgetful, &clock).await?;
        assert_eq!(other.start_due().await?, None);
        clock.advance(HOUR);
        let job = other.start_due().await?.ok_or("an hour has passed")?;
        assert!(forgetful.job_store().job(&job).await?.is_some());
        Ok(())
    })
}
