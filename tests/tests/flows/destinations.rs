//! Destinations and encryption of output files: clients with their own destination, and jobs with their own encryption key.

use std::time::Duration;

use headrace_core::access::{Agent, Client, ClientKeys, Scopes};
use headrace_core::job::ExportError;
use headrace_core::job::task::PlanInput;
use headrace_core::job::{Job, JobEvent, RecordConditions};
use headrace_core::ports::JobStore as _;
use headrace_core::request::{EncryptionKey, ExportPolicy, ExportRequest};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;
use headrace_tests::flows::{
    AwsDeployment, Deployment, DeploymentSettings, Fault, FaultInjector, LocalDeployment, ManualClock, REAPER_INTERVAL, Result,
    ServiceProcess, run, seed,
};
use headrace_tests::standins::s3::Encryption;

/// Returns a registration of Ann with this destination.
fn registration<S: Deployment>(destination: Option<String>) -> Client {
    Client { destination, ..Client::new(ServiceProcess::<S>::ann(), ClientKeys::External, Scopes::Everything, Millis(0)) }
}

/// Creates a local deployment with the small lake of the seed.
async fn local_deployment() -> Result<LocalDeployment> {
    let lake = seed::lake_objects();
    LocalDeployment::with_files(&lake.iter().map(|(object, bytes)| (*object, bytes.as_slice())).collect::<Vec<_>>()).await
}

/// Runs a test on both kinds of deployment, each with the small lake of the seed.
fn on_both_deployments(
    aws: impl AsyncFnOnce(AwsDeployment) -> Result<()> + Send,
    local: impl AsyncFnOnce(LocalDeployment) -> Result<()> + Send,
) -> Result<()> {
    run(async || aws(seed::aws_deployment().await?).await)?;
    run(async || local(local_deployment().await?).await)
}

/// Checks that an export writes only to the client's destination, and that its files equal those of an ordinary export.
async fn check_client_destination<S: Deployment>(deployment: S) -> Result<()> {
    let service = ServiceProcess::start(&deployment, &ManualClock::default(), seed::settings());
    let plain = service.complete(&service.kick_off("").await?).await?;
    let before = deployment.output_files().await?;
    let client = registration::<S>(Some(deployment.client_destination()));
    let status = service.kick_off_as(client, &ExportPolicy::default(), &[("_container", "nightly")]).await?;
    let mut deliveries = 0;
    // Temporary files, such as fragments and version records, must not be written elsewhere either.
    while let Some(message) = service.receive().await? {
        service.deliver(message).await?;
        deliveries += 1;
        assert_eq!(deployment.output_files().await?, before, "after {deliveries} deliveries");
    }
    assert!(deliveries > 8, "{deliveries}");
    let completed = service.complete(&status).await?;
    assert_eq!((completed.sorted_lines(), &completed.files), (plain.sorted_lines(), &plain.files));
    let client_files = deployment.client_files().await?;
    assert_eq!(client_files.len(), completed.files.len());
    assert!(client_files.keys().all(|path| path.starts_with("nightly/20261001T080000-")), "{:?}", client_files.keys());
    assert_eq!(service.request("DELETE", &status).await?.status, 202);
    assert!(deployment.client_files().await?.is_empty());
    assert_eq!(deployment.output_files().await?, before);
    Ok(())
}

// Holds: A10
#[test]
fn all_files_of_a_client_with_its_own_destination_are_written_there() -> Result<()> {
    on_both_deployments(
        async |deployment| check_client_destination(deployment).await,
        async |deployment| check_client_destination(deployment).await,
    )
}

/// Checks that leftover files in the client's destination are deleted after a cancellation, a crash, and the retention period.
async fn check_cleanup<S: Deployment>(deployment: S) -> Result<()> {
    let clock = ManualClock::default();
    let client = || registration::<S>(Some(deployment.client_destination()));
    // The export is cancelled while workers write.
    let service = ServiceProcess::start(&deployment, &clock, seed::settings());
    let status = service.kick_off_as(client(), &ExportPolicy::default(), &[]).await?;
    for _ in 0..4 {
        let message = service.receive().await?.ok_or("no work")?;
        service.deliver(message).await?;
    }
    assert!(!deployment.client_files().await?.is_empty());
    assert_eq!(service.request("DELETE", &status).await?.status, 202);
    service.deliver_all().await?;
    assert!(deployment.client_files().await?.is_empty());
    // Crashed workers leave files behind.
    let status = service.kick_off_as(client(), &ExportPolicy::default(), &[]).await?;
    for number in 1..4 {
        let mut commits = 0;
        let faults = FaultInjector::new(move |call| {
            commits += usize::from(call.name == "writer.commit fragment");
            if commits == number { Fault::CrashAfter } else { Fault::None }
        });
        let dying = ServiceProcess::start_with_faults(&deployment, &clock, seed::settings(), faults.clone());
        // A local queue was lost with the crashed process, so the tasks must be announced again.
        dying.reap_after(2 * REAPER_INTERVAL).await?;
        assert!(faults.until_crash(dying.deliver_all()).await.is_none(), "the worker crashed");
    }
    let next = ServiceProcess::start(&deployment, &clock, seed::settings());
    next.reap_after(2 * REAPER_INTERVAL).await?;
    // `complete` also checks that there are no extra files.
    next.complete(&status).await?;
    // The retention period ends.
    next.reap_after(Duration::from_secs(25 * 3600)).await?;
    next.reap().await?;
    assert!(deployment.client_files().await?.is_empty() && deployment.output_files().await?.is_empty());
    Ok(())
}

#[test]
fn leftover_files_in_a_clients_own_destination_are_deleted() -> Result<()> {
    on_both_deployments(async |deployment| check_cleanup(deployment).await, async |deployment| check_cleanup(deployment).await)
}

/// Checks that a kick-off is rejected because of the client's destination, with all `words` in the remedy, and records nothing.
async fn check_rejected_destination<S: Deployment>(deployment: &S, destination: &str, words: &[&str]) -> Result<()> {
    let service = ServiceProcess::start(deployment, &ManualClock::default(), seed::settings());
    match service.kick_off_as(registration::<S>(Some(destination.to_owned())), &ExportPolicy::default(), &[]).await {
        Err(ExportError::Store(StoreError::Misconfigured { remedy, .. })) => {
            assert!(remedy.contains("client's registration") && words.iter().all(|word| remedy.contains(word)), "{remedy}");
        }
        other => return Err(format!("{destination} must be rejected, but the result is {other:?}").into()),
    }
    assert!(deployment.job_table_items().await?.is_empty() && service.receive().await?.is_none(), "nothing is recorded");
    Ok(())
}

#[test]
fn a_destination_that_cannot_be_used_fails_the_kick_off() -> Result<()> {
    on_both_deployments(
        async |deployment| {
            check_rejected_destination(&deployment, "export-bucket/out", &["export-bucket", "HEADRACE_CLIENT_BUCKETS"]).await?;
            check_rejected_destination(&deployment, "lake-bucket", &["lake-bucket", "HEADRACE_CLIENT_BUCKETS"]).await
        },
        async |deployment| {
            check_rejected_destination(&deployment, "relative", &["absolute"]).await?;
            let lake = deployment.lake().join("new");
            check_rejected_destination(&deployment, &lake.display().to_string(), &["lake"]).await
        },
    )
}

/// Simulates a bucket that was deleted, or whose permission was removed, after the job was accepted.
#[test]
fn a_deleted_destination_does_not_block_other_jobs() -> Result<()> {
    run(async || {
        let (deployment, clock) = (seed::aws_deployment().await?, ManualClock::default());
        let service = ServiceProcess::start(&deployment, &clock, seed::settings());
        let id = JobId::from_random([0x51; 16]);
        let accepted =
            Job::accepted(id.clone(), ServiceProcess::<AwsDeployment>::ann(), ExportRequest::default(), Millis(1_790_841_600_000));
        let job = Job { destination: Some("gone-bucket/x".into()), ..accepted };
        deployment.job_store().record_job(&job, &PlanInput::default(), &RecordConditions::default(), &Agent::service()).await?;
        deployment.job_store().end_job(&id, JobEvent::CancelRequested, None, &Agent::service(), Millis(1_790_841_600_000)).await?;
        assert_eq!(service.reap_after(5 * REAPER_INTERVAL).await?.failed, 1);
        assert_eq!(service.reap().await?.failed, 0, "other jobs are processed first");
        assert_eq!(service.reap_after(2 * REAPER_INTERVAL).await?.failed, 1, "the deletion is retried");
        let status = service.kick_off("").await?;
        service.complete(&status).await?;
        Ok(())
    })
}

/// ARN of the encryption key.
const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

#[test]
fn every_object_of_a_job_with_an_encryption_key_is_encrypted_with_it() -> Result<()> {
    run(async || {
        let deployment = seed::aws_deployment().await?;
        let keys = EncryptionKey::parse_list(&format!("trial={ARN}"))?;
        let policy = ExportPolicy { keys, ..ExportPolicy::default() };
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), seed::settings());
        let plain = service.complete(&service.kick_off("").await?).await?;
        let output_writes = |at: usize| {
            let written = deployment.s3.writes().into_iter().skip(at).filter(|written| written.bucket != "lake-bucket");
            written.collect::<Vec<_>>()
        };
        assert!(output_writes(0).iter().all(|written| written.encryption.is_none()), "the encryption of the bucket applies");
        for destination in [None, Some(deployment.client_destination())] {
            let at = deployment.s3.writes().len();
            let client = registration::<AwsDeployment>(destination.clone());
            let status = service.kick_off_as(client, &policy, &[("_encryptionKey", "trial")]).await?;
            let response = service.run_until_done(&status).await?;
            assert!(!String::from_utf8_lossy(&response.body).contains(ARN));
            assert_eq!(service.download_export(&status, &response).await?.files, plain.files);
            let written = output_writes(at);
            let expected = Encryption { algorithm: "aws:kms".to_owned(), key: Some(ARN.to_owned()), has_bucket_key: true };
            for write in &written {
                assert_eq!(write.encryption.as_ref(), Some(&expected), "{write:?}");
                assert_eq!(write.bucket == "client-bucket", destination.is_some(), "{write:?}");
            }
            for operation in ["PutObject", "CopyObject"] {
                assert!(written.iter().any(|write| write.operation == operation), "{operation}");
            }
        }
        Ok(())
    })
}

#[test]
fn an_unknown_encryption_key_is_rejected_by_parameter_name() -> Result<()> {
    run(async || {
        let service = ServiceProcess::start(&seed::aws_deployment().await?, &ManualClock::default(), DeploymentSettings::default());
        let response = service.request("POST", "/$export?_encryptionKey=trial").await?;
        let (_, code, text) = response.outcome()?;
        assert_eq!((response.status, code.as_str()), (400, "not-supported"));
        assert!(text.contains("_encryptionKey"), "{text}");
        Ok(())
    })
}
