//! Events about exports: what is sent, in which order, and what happens to a webhook that does not accept them.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::sync::Arc;
use std::time::Duration;

use headrace_core::events::OutboxEvent;
use headrace_core::flow::upkeep::deliver_events::DeliveredEvents;
use headrace_core::ports::{Clock as _, EventOutbox as _};
use headrace_tests::flows::{
    Deployment as _, DeploymentSettings, LocalDeployment, ManualClock, REAPER_INTERVAL, Result, ServiceProcess, run, set_next_job_number,
};
use headrace_tests::lake;
use serde_json::Value;

use super::lake_model::{self, version};
use super::process::{Server, command_result, headrace};
use super::webhook_receiver::{Receiver, SECRET};

/// Returns settings with events.
pub(super) fn settings() -> DeploymentSettings {
    DeploymentSettings { events: true, ..DeploymentSettings::default() }
}

/// Starts a process over a lake of one patient and one line that is not a resource.
pub(super) async fn start(settings: DeploymentSettings) -> Result<(LocalDeployment, Arc<ServiceProcess<LocalDeployment>>)> {
    set_next_job_number(1);
    let mut lake = lake_model::lines(&[version("Patient", 1, "2026-01-01", 1)]);
    lake.extend_from_slice(b"not a resource\n");
    let deployment = LocalDeployment::with_files(&[("1.ndjson", &lake)]).await?;
    let service = ServiceProcess::start(&deployment, &ManualClock::default(), settings);
    Ok((deployment, service))
}

#[test]
fn each_move_of_an_export_is_reported_in_order_without_patient_data() -> Result<()> {
    run(async || {
        let (deployment, service) = start(settings()).await?;
        let receiver = Receiver::start().await?;
        let status = service.kick_off("?_type=Patient&_container=nightly&_typeFilter=Patient%3Fbirthdate%3D1961-07-04").await?;
        service.complete(&status).await?;
        service.request("DELETE", &status).await?;
        let all = DeliveredEvents { delivered: 4, ..DeliveredEvents::default() };
        assert_eq!(service.deliver_events(receiver.targets()?).await?, all);
        let types = ["export.accepted", "export.running", "export.complete-with-errors", "export.cancelled"];
        assert_eq!(receiver.types(), types);
        let received = receiver.received();
        let last = received.get(2).ok_or("no event")?;
        let job = status.rsplit('/').next().unwrap_or_default();
        assert_eq!(last.headers.get("webhook-id").map(String::as_str), Some(format!("{job}-complete-with-errors").as_str()));
        assert!(last.headers.get("webhook-signature").is_some_and(|signature| signature.starts_with("v1,")), "{last:?}");
        assert_eq!(last.headers["webhook-timestamp"].parse::<u64>()?, service.now().0 / 1_000);
        let data = &last.body["data"];
        assert_eq!((&data["job"], &data["level"], &data["container"]), (&job.into(), &"system".into(), &"nightly".into()));
        assert_eq!((&data["linesRejected"], &data["types"]), (&1.into(), &serde_json::json!(["Patient"])));
        assert!(data["transactionTime"].is_string() && data["sourceBytes"].as_u64() > Some(0), "{data}");
        let sent = received.iter().map(|received| received.body.to_string()).collect::<String>();
        assert!(!sent.contains("1961") && !sent.contains("http"), "{sent}");
        assert_eq!(service.deliver_events(receiver.targets()?).await?, DeliveredEvents::default());
        assert_eq!(deployment.job_store().undelivered_events().await?, []);
        Ok(())
    })
}

#[test]
fn without_a_target_no_event_is_written() -> Result<()> {
    run(async || {
        let (deployment, service) = start(DeploymentSettings::default()).await?;
        let status = service.kick_off("").await?;
        service.complete(&status).await?;
        assert_eq!(deployment.job_store().pending_events(10).await?, []);
        Ok(())
    })
}

#[test]
fn failed_and_expired_exports_are_reported_with_their_reason() -> Result<()> {
    run(async || {
        let (_, service) = start(settings()).await?;
        let receiver = Receiver::start().await?;
        service.kick_off("").await?;
        service.reap_after(Duration::from_secs(25 * 3_600)).await?;
        service.reap_after(Duration::from_secs(25 * 3_600)).await?;
        service.deliver_events(receiver.targets()?).await?;
        let types = receiver.types();
        assert!(types.starts_with(&["export.accepted".to_owned(), "export.failed".to_owned()]), "{types:?}");
        let failed = &receiver.received()[1].body["data"]["reason"];
        assert_eq!(failed["kind"], "deadline");
        Ok(())
    })
}

#[test]
fn events_that_fail_for_a_day_are_given_up_and_replayed_by_hand_with_the_same_ids() -> Result<()> {
    run(async || {
        let (deployment, service) = start(settings()).await?;
        let receiver = Receiver::start().await?;
        receiver.set_answer(Some((500, "")));
        let status = service.kick_off("").await?;
        service.complete(&status).await?;
        let (mut failed, mut undelivered) = (0, 0);
        for _ in 0..(5 * 24 * 60 / 10) {
            let delivered = service.deliver_events(receiver.targets()?).await?;
            (failed, undelivered) = (failed + delivered.failed, undelivered + delivered.undelivered);
            service.clock.advance(10 * REAPER_INTERVAL);
        }
        assert_eq!(undelivered, 3);
        // Pauses grow to an hour, and only the first event of the export is tried while the others wait.
        assert!((24..60).contains(&failed), "{failed} deliveries were tried");
        let store = deployment.job_store();
        assert_eq!(store.pending_events(10).await?, []);
        let given_up = store.undelivered_events().await?;
        let faults = given_up.iter().flat_map(|event| event.failures.values());
        assert!(faults.clone().count() == 3 && faults.clone().all(|failure| failure.fault.contains("status 500")), "{given_up:?}");
        assert!(!format!("{given_up:?}").contains("secret"), "the URL is not kept");
        let before = receiver.received().len();
        receiver.set_answer(Some((200, "")));
        for event in &given_up {
            assert!(store.replay_event(event, service.clock.now()).await?);
            assert!(!store.replay_event(event, service.clock.now()).await?);
        }
        assert_eq!(service.deliver_events(receiver.targets()?).await?.delivered, 3);
        let ids: Vec<String> = receiver.received().iter().skip(before).map(|received| received.headers["webhook-id"].clone()).collect();
        assert_eq!(ids, given_up.iter().map(|event| event.event.id()).collect::<Vec<_>>());
        Ok(())
    })
}

#[test]
fn a_redirect_is_not_followed_and_a_slow_answer_is_a_failure() -> Result<()> {
    run(async || {
        let (deployment, service) = start(settings()).await?;
        let receiver = Receiver::start().await?;
        service.kick_off("").await?;
        receiver.set_answer(Some((307, "location: http://169.254.169.254/latest/meta-data/\r\n")));
        let failed = DeliveredEvents { failed: 1, ..DeliveredEvents::default() };
        assert_eq!(service.deliver_events(receiver.targets()?).await?, failed);
        let fault =
            |events: Vec<OutboxEvent>| events.into_iter().flat_map(|event| event.failures.into_values()).next().map(|last| last.fault);
        assert!(fault(deployment.job_store().pending_events(1).await?).is_some_and(|fault| fault.contains("redirect")));
        receiver.set_answer(None);
        service.clock.advance(REAPER_INTERVAL);
        assert_eq!(service.deliver_events(receiver.targets()?).await?, failed);
        let pending = deployment.job_store().pending_events(1).await?;
        assert!(fault(pending).is_some_and(|fault| fault.contains("did not answer") && !fault.contains("key=secret")));
        assert!(receiver.received().iter().all(|received| received.path == "/hook?key=secret"));
        Ok(())
    })
}

#[test]
fn a_failed_event_holds_back_its_own_export_only() -> Result<()> {
    run(async || {
        let (_, service) = start(settings()).await?;
        let receiver = Receiver::start().await?;
        let first = service.kick_off("").await?;
        receiver.set_answer(Some((503, "")));
        service.deliver_events(receiver.targets()?).await?;
        receiver.set_answer(Some((200, "")));
        service.complete(&first).await?;
        let second = service.kick_off("").await?;
        let before = receiver.received().len();
        service.deliver_events(receiver.targets()?).await?;
        let now: Vec<Value> = receiver.received().iter().skip(before).map(|received| received.body["data"]["job"].clone()).collect();
        assert!(now.iter().all(|job| second.ends_with(job.as_str().unwrap_or("?"))) && now.len() == 1, "{now:?}");
        service.clock.advance(REAPER_INTERVAL);
        service.deliver_events(receiver.targets()?).await?;
        let of_first = receiver.received().iter().skip(before + 1).map(|received| received.body["type"].clone()).collect::<Vec<_>>();
        assert_eq!(of_first, ["export.accepted", "export.running", "export.complete-with-errors"]);
        Ok(())
    })
}

#[test]
fn a_replay_names_the_events_that_are_still_being_retried() -> Result<()> {
    run(async || {
        let folder = tempfile::tempdir()?;
        let (secret, state) = (folder.path().join("secret"), folder.path().join("state"));
        std::fs::write(&secret, SECRET)?;
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let secret = secret.to_str().ok_or("no text")?;
        // Nothing listens on this port.
        let webhook = ["--event-webhook-url", "http://127.0.0.1:1/hook", "--event-webhook-secret-file", secret];
        let server = Server::start(&lake::sample_lake_dir(), &state, &webhook)?;
        let request = reqwest::Client::new().get(format!("{}/$export?_type=Patient", server.base));
        let response = request.header("accept", "application/fhir+json").header("prefer", "respond-async").send().await?;
        assert_eq!(response.status(), 202);
        let events = |arguments: &[&str]| -> Result<std::result::Result<String, String>> {
            Ok(command_result(headrace(&["events"]).args(arguments).arg("--state").arg(&state).output()?))
        };
        let listed: Value = serde_json::from_str(&events(&["list", "--json"])??)?;
        let id = listed.pointer("/0/id").and_then(Value::as_str).ok_or("no event")?;
        let all = events(&["replay", "--all"])??;
        assert!(all.contains("still being retried, and left alone; next at 20"), "{all}");
        let one = events(&["replay", id])?.unwrap_err();
        assert!(one.contains(id) && one.contains("still being retried by itself, next at 20"), "{one}");
        Ok(())
    })
}
