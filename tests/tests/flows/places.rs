//! Where the files of an export lie, and what they are encrypted under: clients with destinations of their own, jobs with
//! keys of their own.

use std::time::Duration;

use headrace_core::access::{Agent, Client, ClientKeys, Scopes};
use headrace_core::job::task::Planning;
use headrace_core::job::{Conditions, Job, JobEvent};
use headrace_core::ports::JobStore as _;
use headrace_core::request::{ExportRequest, JobKey, Policy};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::{ExportError, StoreError};
use headrace_core::vocab::ids::JobId;
use headrace_tests::flows::{Aws, MINUTE, ManualClock, OneMachine, Result, Script, Stage, Terms, Twist, World, run, seed};
use headrace_tests::standins::s3::Encryption;

/// Ann's registration with this destination.
fn registered<S: Stage>(destination: Option<String>) -> Client {
    Client { destination, ..Client::new(World::<S>::ann(), ClientKeys::Elsewhere, Scopes::Everything, Millis(0)) }
}

async fn one_machine() -> Result<OneMachine> {
    let lake = seed::lake();
    OneMachine::with(&lake.iter().map(|(object, bytes)| (*object, bytes.as_slice())).collect::<Vec<_>>()).await
}

/// Runs a test on both stages, each with the seeded lake.
fn on_both(aws: impl AsyncFnOnce(Aws) -> Result<()> + Send, machine: impl AsyncFnOnce(OneMachine) -> Result<()> + Send) -> Result<()> {
    run(async || aws(seed::aws().await?).await)?;
    run(async || machine(one_machine().await?).await)
}

async fn everything_lies_there<S: Stage>(stage: S) -> Result<()> {
    let world = World::start(&stage, &ManualClock::default(), seed::terms());
    let plain = world.finish(&world.kick_off("").await?).await?;
    let before = stage.files().await?;
    let client = registered::<S>(Some(stage.own()));
    let status = world.kick_off_as(client, &Policy::default(), &[("_container", "nightly")]).await?;
    let mut deliveries = 0;
    // Also what is gone by the end: tails, notes.
    while let Some(message) = world.receive().await? {
        world.deliver(message).await?;
        deliveries += 1;
        assert_eq!(stage.files().await?, before, "after {deliveries} deliveries");
    }
    assert!(deliveries > 8, "{deliveries}");
    let finished = world.finish(&status).await?;
    assert_eq!((finished.sorted_lines(), &finished.files), (plain.sorted_lines(), &plain.files));
    let own = stage.own_files().await?;
    assert_eq!(own.len(), finished.files.len());
    assert!(own.keys().all(|path| path.starts_with("nightly/20261001T080000-")), "{:?}", own.keys());
    assert_eq!(world.ask("DELETE", &status).await?.status, 202);
    assert!(stage.own_files().await?.is_empty());
    assert_eq!(stage.files().await?, before);
    Ok(())
}

// Holds: A10
#[test]
fn a_client_with_a_destination_of_its_own_finds_its_files_there_and_nothing_lies_elsewhere() -> Result<()> {
    on_both(async |stage| everything_lies_there(stage).await, async |stage| everything_lies_there(stage).await)
}

async fn is_swept_there<S: Stage>(stage: S) -> Result<()> {
    let clock = ManualClock::default();
    let client = || registered::<S>(Some(stage.own()));
    // Taken back in the middle of its work.
    let world = World::start(&stage, &clock, seed::terms());
    let status = world.kick_off_as(client(), &Policy::default(), &[]).await?;
    for _ in 0..4 {
        let message = world.receive().await?.ok_or("no work")?;
        world.deliver(message).await?;
    }
    assert!(!stage.own_files().await?.is_empty());
    assert_eq!(world.ask("DELETE", &status).await?.status, 202);
    world.drain().await?;
    assert!(stage.own_files().await?.is_empty());
    // Left behind by workers that died.
    let status = world.kick_off_as(client(), &Policy::default(), &[]).await?;
    for number in 1..4 {
        let mut settled = 0;
        let script = Script::of(move |call| {
            settled += usize::from(call.name == "draft.settle tail");
            if settled == number { Twist::StopAfter } else { Twist::Pass }
        });
        let dying = World::scripted(&stage, &clock, seed::terms(), script.clone());
        // Whatever was announced to those who are dead: on one machine the queue has died with them.
        dying.reap_after(2 * MINUTE).await?;
        assert!(script.while_alive(dying.drain()).await.is_none(), "the worker died");
    }
    let next = World::start(&stage, &clock, seed::terms());
    next.reap_after(2 * MINUTE).await?;
    // Checks that nothing lies beside.
    next.finish(&status).await?;
    // When its time is over.
    next.reap_after(Duration::from_secs(25 * 3600)).await?;
    next.reap().await?;
    assert!(stage.own_files().await?.is_empty() && stage.files().await?.is_empty());
    Ok(())
}

#[test]
fn what_is_left_behind_in_a_clients_own_destination_is_swept() -> Result<()> {
    on_both(async |stage| is_swept_there(stage).await, async |stage| is_swept_there(stage).await)
}

async fn is_refused<S: Stage>(stage: &S, own: &str, named: &[&str]) -> Result<()> {
    let world = World::start(stage, &ManualClock::default(), seed::terms());
    match world.kick_off_as(registered::<S>(Some(own.to_owned())), &Policy::default(), &[]).await {
        Err(ExportError::Store(StoreError::Misconfigured { remedy, .. })) => {
            assert!(remedy.contains("client's registration") && named.iter().all(|word| remedy.contains(word)), "{remedy}");
        }
        other => return Err(format!("{own} must be refused, and is {other:?}").into()),
    }
    assert!(stage.items().await?.is_empty() && world.receive().await?.is_none(), "nothing is recorded");
    Ok(())
}

#[test]
fn a_destination_that_cannot_be_used_fails_the_kick_off() -> Result<()> {
    on_both(
        async |stage| {
            is_refused(&stage, "export-bucket/out", &["export-bucket", "HEADRACE_CLIENT_BUCKETS"]).await?;
            is_refused(&stage, "lake-bucket", &["lake-bucket", "HEADRACE_CLIENT_BUCKETS"]).await
        },
        async |stage| {
            is_refused(&stage, "relative", &["absolute"]).await?;
            let lake = std::path::Path::new(&stage.own()).with_file_name("lake").join("new");
            is_refused(&stage, &lake.display().to_string(), &["lake"]).await
        },
    )
}

/// The bucket was deleted, or the permission for it was taken away, after the job had been accepted.
#[test]
fn a_destination_that_is_gone_stands_in_nobodys_way() -> Result<()> {
    run(async || {
        let (stage, clock) = (seed::aws().await?, ManualClock::default());
        let world = World::start(&stage, &clock, seed::terms());
        let id = JobId::from_random([0x51; 16]);
        let accepted = Job::accepted(id.clone(), World::<Aws>::ann(), ExportRequest::default(), Millis(1_790_841_600_000));
        let job = Job { destination: Some("gone-bucket/x".into()), ..accepted };
        stage.jobs().record_job(&job, &Planning::default(), &Conditions::default(), &Agent::service()).await?;
        stage.jobs().end_job(&id, JobEvent::CancelAsked, None, &Agent::service(), Millis(1_790_841_600_000)).await?;
        assert_eq!(world.reap_after(5 * MINUTE).await?.failed, 1);
        assert_eq!(world.reap().await?.failed, 0, "others come first");
        assert_eq!(world.reap_after(2 * MINUTE).await?.failed, 1, "it is not forgotten");
        let status = world.kick_off("").await?;
        world.finish(&status).await?;
        Ok(())
    })
}

const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

#[test]
fn every_write_of_a_job_with_a_key_is_encrypted_under_it() -> Result<()> {
    run(async || {
        let stage = seed::aws().await?;
        let keys = JobKey::parse_named(&format!("trial={ARN}"))?;
        let policy = Policy { keys, ..Policy::default() };
        let world = World::start(&stage, &ManualClock::default(), seed::terms());
        let plain = world.finish(&world.kick_off("").await?).await?;
        let of_exports = |at: usize| {
            let written = stage.s3.written().into_iter().skip(at).filter(|written| written.bucket != "lake-bucket");
            written.collect::<Vec<_>>()
        };
        assert!(of_exports(0).iter().all(|written| written.encryption.is_none()), "the bucket decides");
        for destination in [None, Some(stage.own())] {
            let at = stage.s3.written().len();
            let client = registered::<Aws>(destination.clone());
            let status = world.kick_off_as(client, &policy, &[("_encryptionKey", "trial")]).await?;
            let answer = world.run(&status).await?;
            assert!(!String::from_utf8_lossy(&answer.body).contains(ARN));
            assert_eq!(world.read_manifest(&status, &answer).await?.files, plain.files);
            let written = of_exports(at);
            let under = Encryption { algorithm: "aws:kms".to_owned(), key: Some(ARN.to_owned()), has_bucket_key: true };
            for write in &written {
                assert_eq!(write.encryption.as_ref(), Some(&under), "{write:?}");
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
fn a_key_that_nobody_offers_is_refused_by_name() -> Result<()> {
    run(async || {
        let world = World::start(&seed::aws().await?, &ManualClock::default(), Terms::default());
        let answer = world.ask("POST", "/$export?_encryptionKey=trial").await?;
        let (_, code, text) = answer.outcome()?;
        assert_eq!((answer.status, code.as_str()), (400, "not-supported"));
        assert!(text.contains("_encryptionKey"), "{text}");
        Ok(())
    })
}
