//! Targets of events: an event bus, and the webhooks of clients and schedules. Each target gets the events that it is to get, in order, and
//! a target that is down delays no other.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use headrace_aws::EventBridgeBus;
use headrace_core::access::{Client, ClientKeys, Scopes};
use headrace_core::events::EventTarget;
use headrace_core::flow::upkeep::deliver_events::DeliveredEvents;
use headrace_core::ports::{AccessStore as _, Clock as _, EventOutbox as _, ScheduleStore as _};
use headrace_core::schedule::{Schedule, ScheduleDefinition, ScheduleState, Timing};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{Caller, RegistrationId};
use headrace_core::vocab::level::Level;
use headrace_core::vocab::schedule_key::{ScheduleKey, ScheduleName};
use headrace_core::vocab::webhook::RegisteredWebhook;
use headrace_edge::event_targets::EventTargets;
use headrace_tests::flows::{
    Deployment as _, DeploymentSettings, Fault, FaultInjector, LocalDeployment, REAPER_INTERVAL, Result, ServiceProcess, SmartClient, run,
    set_next_job_number,
};
use headrace_tests::lake;
use headrace_tests::standins::event_bridge::{BusState, EVENT_BUS, EventBridgeStandIn};
use serde_json::Value;

use super::events::{settings, start};
use super::process::{Server, command_result, headrace};
use super::webhook_receiver::{Receiver, SECRET, webhook_client};

/// The secret of a registered webhook.
const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The events of an export of [`start`]'s lake.
const ALL_TYPES: [&str; 3] = ["export.accepted", "export.running", "export.complete-with-errors"];

/// Returns targets without one for all exports.
fn registered_only() -> EventTargets {
    EventTargets::new(None, webhook_client())
}

/// Returns the bus as a target of the events of all exports.
fn bus_targets(bus: &EventBridgeStandIn) -> EventTargets<EventBridgeBus> {
    registered_only().with_event_bus(Some(EventBridgeBus::new(bus.client(), EVENT_BUS)))
}

/// Returns the webhook of a receiver at this path, with its secret encrypted.
async fn webhook(deployment: &LocalDeployment, receiver: &Receiver, path: &str) -> Result<RegisteredWebhook> {
    Ok(RegisteredWebhook { url: receiver.url(path), encrypted_secret: deployment.encrypt_webhook_secret(OTHER_SECRET).await? })
}

/// Registers the owner of exports without access control as a client with a webhook.
async fn register_owner(deployment: &LocalDeployment, receiver: &Receiver) -> Result<()> {
    let scopes = Scopes::parse("system/*.rs", Default::default()).0;
    let owner = Caller(Caller::LOCAL.to_owned());
    let webhook = Some(webhook(deployment, receiver, "/client").await?);
    let client = Client { webhook, ..Client::new(owner, ClientKeys::External, scopes, Millis(1)) };
    if deployment.job_store().put_client(&client, None).await? { Ok(()) } else { Err("the client exists".into()) }
}

/// Adds a schedule that is due every minute.
async fn add_schedule(
    service: &ServiceProcess<LocalDeployment>,
    (name, id): (&str, &str),
    webhook: Option<RegisteredWebhook>,
) -> Result<Schedule> {
    let now = service.now();
    let definition = ScheduleDefinition {
        client: None,
        timing: Timing::parse("PT1M", None, now)?,
        level: Level::System,
        parameters: Vec::new(),
        is_lenient: false,
        is_incremental: false,
        keep: None,
        created_at: now,
    };
    let key = ScheduleKey { name: ScheduleName::parse(name)?, id: id.repeat(32) };
    let state = ScheduleState { webhook, ..ScheduleState::new(now) };
    let schedule = Schedule { key, definition, state, complete_run: None, revision: 1 };
    let is_added = service.deployment.job_store().put_schedule(&schedule, None).await?;
    if is_added { Ok(schedule) } else { Err("the schedule exists".into()) }
}

/// Returns the states that the bus has accepted, by export and in order, without repetitions that follow each other.
fn accepted_states(bus: &EventBridgeStandIn) -> BTreeMap<String, Vec<String>> {
    let mut states = BTreeMap::<String, Vec<String>>::new();
    for entry in bus.accepted() {
        let text = |name: &str| entry["Detail"][name].as_str().unwrap_or_default().to_owned();
        states.entry(text("job")).or_default().push(text("state"));
    }
    states.values_mut().for_each(Vec::dedup);
    states
}

#[test]
fn the_webhook_of_a_client_gets_the_events_of_its_exports_only() -> Result<()> {
    run(async || {
        let (deployment, service) = start(DeploymentSettings::default().with_smart_access()?).await?;
        let receiver = Receiver::start().await?;
        let (lab, ehr) = (SmartClient::new_es384("lab")?, SmartClient::new_es384("ehr")?);
        let mut registration = service.registration(&lab, "system/*.rs")?;
        registration.webhook = Some(webhook(&deployment, &receiver, "/lab").await?);
        service.put_client(&registration).await?;
        service.register(&ehr, "system/*.rs").await?;
        for client in [&lab, &ehr] {
            service.set_client(client, "system/*.rs");
            let status = service.kick_off("").await?;
            service.complete(&status).await?;
        }
        let written = deployment.job_store().pending_events(10).await?;
        assert_eq!(written.len(), 3, "the export of the other client writes no events: {written:?}");
        let all = DeliveredEvents { delivered: 3, ..DeliveredEvents::default() };
        assert_eq!(service.deliver_events(registered_only()).await?, all);
        assert_eq!(receiver.types_at("/lab"), ALL_TYPES);
        for received in receiver.received() {
            assert_eq!(received.body["data"]["owner"], "lab");
            received.verify(OTHER_SECRET)?;
        }
        Ok(())
    })
}

#[test]
fn the_events_of_a_removed_webhook_are_dropped() -> Result<()> {
    run(async || {
        let (deployment, service) = start(DeploymentSettings::default().with_smart_access()?).await?;
        let receiver = Receiver::start().await?;
        let lab = SmartClient::new_es384("lab")?;
        let registration = service.registration(&lab, "system/*.rs")?;
        service.put_client(&Client { webhook: Some(webhook(&deployment, &receiver, "/lab").await?), ..registration.clone() }).await?;
        service.set_client(&lab, "system/*.rs");
        service.kick_off("").await?;
        service.put_client(&registration).await?;
        assert_eq!(service.deliver_events(registered_only()).await?, DeliveredEvents::default());
        assert_eq!((deployment.job_store().pending_events(10).await?, receiver.received().len()), (Vec::new(), 0));
        Ok(())
    })
}

#[test]
fn a_client_that_is_registered_again_gets_no_events_of_the_client_before() -> Result<()> {
    run(async || {
        let (deployment, service) = start(DeploymentSettings::default().with_smart_access()?).await?;
        let receiver = Receiver::start().await?;
        let lab = SmartClient::new_es384("lab")?;
        let webhook = Some(webhook(&deployment, &receiver, "/lab").await?);
        let registered = |id: &str| -> Result<Client> {
            let registration_id = Some(RegistrationId(id.to_owned()));
            Ok(Client { registration_id, webhook: webhook.clone(), ..service.registration(&lab, "system/*.rs")? })
        };
        service.put_client(&registered("1")?).await?;
        service.set_client(&lab, "system/*.rs");
        service.kick_off("").await?;
        service.put_client(&registered("2")?).await?;
        assert_eq!(service.deliver_events(registered_only()).await?, DeliveredEvents::default());
        assert!(receiver.received().is_empty());
        Ok(())
    })
}

#[test]
fn the_webhook_of_a_schedule_gets_the_events_of_its_runs_only() -> Result<()> {
    run(async || {
        let (deployment, service) = start(DeploymentSettings::default()).await?;
        let receiver = Receiver::start().await?;
        let nightly = add_schedule(&service, ("nightly", "1"), Some(webhook(&deployment, &receiver, "/nightly").await?)).await?;
        add_schedule(&service, ("other", "2"), None).await?;
        service.clock.advance(REAPER_INTERVAL);
        assert_eq!(service.fire_schedules().await?.started, 2);
        service.deliver_all().await?;
        let status = service.kick_off("").await?;
        service.complete(&status).await?;
        let store = deployment.job_store();
        assert_eq!(service.deliver_events(registered_only()).await?.delivered, 3);
        assert_eq!(receiver.types_at("/nightly"), ALL_TYPES);
        for received in receiver.received() {
            assert_eq!(received.body["data"]["schedule"], "nightly");
            received.verify(OTHER_SECRET)?;
        }
        // A later schedule of the same name is another one: it gets no events of runs of the first.
        service.clock.advance(REAPER_INTERVAL);
        service.fire_schedules().await?;
        let nightly = store.schedule(&nightly.key.name).await?.ok_or("no schedule")?;
        store.remove_schedule(&nightly).await?;
        add_schedule(&service, ("nightly", "3"), Some(webhook(&deployment, &receiver, "/later").await?)).await?;
        assert_eq!(service.deliver_events(registered_only()).await?, DeliveredEvents::default());
        assert!(receiver.types_at("/later").is_empty());
        Ok(())
    })
}

#[test]
fn a_target_that_is_down_delays_no_other_and_is_replayed_alone() -> Result<()> {
    run(async || {
        let (deployment, service) = start(settings()).await?;
        let (receiver, down) = (Receiver::start().await?, Receiver::start().await?);
        register_owner(&deployment, &down).await?;
        down.set_answer(Some((500, "")));
        let status = service.kick_off("").await?;
        service.complete(&status).await?;
        let failed = DeliveredEvents { failed: 1, ..DeliveredEvents::default() };
        assert_eq!(service.deliver_events(receiver.targets()?).await?, failed);
        assert_eq!((receiver.types(), down.received().len()), (ALL_TYPES.map(str::to_owned).to_vec(), 1));
        service.clock.advance(Duration::from_secs(86_400));
        let undelivered = DeliveredEvents { failed: 3, undelivered: 3, ..DeliveredEvents::default() };
        assert_eq!(service.deliver_events(receiver.targets()?).await?, undelivered);
        let store = deployment.job_store();
        let given_up = store.undelivered_events().await?;
        let owner = EventTarget::ClientWebhook(Caller(Caller::LOCAL.to_owned()));
        assert!(given_up.iter().all(|event| event.failures.keys().eq([&owner]) && event.accepted_by.contains(&EventTarget::Webhook)));
        assert!(!format!("{given_up:?}").contains("key=secret"), "the URL is not kept");
        down.set_answer(Some((200, "")));
        let before = down.received().len();
        for event in &given_up {
            assert!(store.replay_event(event, service.clock.now()).await?);
        }
        assert_eq!(service.deliver_events(receiver.targets()?).await?.delivered, 3);
        assert_eq!((receiver.received().len(), down.types().split_off(before)), (3, ALL_TYPES.map(str::to_owned).to_vec()));
        Ok(())
    })
}

#[test]
fn a_webhook_whose_secret_cannot_be_decrypted_is_a_failed_delivery_of_its_own() -> Result<()> {
    run(async || {
        let (deployment, service) = start(settings()).await?;
        let receiver = Receiver::start().await?;
        register_owner(&deployment, &receiver).await?;
        let store = deployment.job_store();
        let mut client = store.client(&Caller(Caller::LOCAL.to_owned())).await?.ok_or("no client")?;
        client.webhook = Some(RegisteredWebhook { url: receiver.url("/client"), encrypted_secret: vec![1; 40] });
        service.put_client(&client).await?;
        service.kick_off("").await?;
        assert_eq!(service.deliver_events(receiver.targets()?).await?, DeliveredEvents { failed: 1, ..DeliveredEvents::default() });
        assert_eq!(receiver.types_at("/hook"), ["export.accepted"]);
        let pending = store.pending_events(1).await?;
        let failure = pending.iter().flat_map(|event| event.failures.values()).next().ok_or("no failure")?;
        assert!(failure.fault.contains("encrypted with another key"), "{failure:?}");
        Ok(())
    })
}

#[test]
fn the_event_bus_gets_all_events_ten_in_a_call_and_one_of_an_export() -> Result<()> {
    run(async || {
        let (deployment, service) = start(settings()).await?;
        let bus = EventBridgeStandIn::start();
        for _ in 0..12 {
            service.kick_off("").await?;
        }
        service.deliver_all().await?;
        let all = DeliveredEvents { delivered: 36, ..DeliveredEvents::default() };
        assert_eq!(service.deliver_events(bus_targets(&bus)).await?, all);
        let calls = bus.calls();
        assert!(calls.iter().all(|entries| *entries <= 10) && calls.iter().sum::<usize>() == 36, "{calls:?}");
        let states = accepted_states(&bus);
        assert!(
            states.len() == 12 && states.values().all(|states| states == &["accepted", "running", "complete-with-errors"]),
            "{states:?}"
        );
        let ids: BTreeSet<String> = bus.accepted().iter().map(|entry| entry["Detail"]["id"].to_string()).collect();
        assert_eq!(ids.len(), 36);
        assert_eq!(deployment.job_store().pending_events(10).await?, []);
        Ok(())
    })
}

#[test]
fn rejected_entries_and_failed_calls_are_repeated_in_order() -> Result<()> {
    run(async || {
        let (deployment, service) = start(settings()).await?;
        let bus = EventBridgeStandIn::start();
        for _ in 0..4 {
            service.kick_off("").await?;
        }
        service.deliver_all().await?;
        for state in [BusState::RejectsEverySecond("InternalFailure"), BusState::Throttled, BusState::Broken(503), BusState::Broken(500)] {
            bus.set_state(state);
            assert!(service.deliver_events(bus_targets(&bus)).await?.failed > 0, "{state:?}");
            // Only the exports with a rejected event wait.
            service.clock.advance(2 * REAPER_INTERVAL);
        }
        let pending = deployment.job_store().pending_events(100).await?;
        let faults: Vec<&str> = pending.iter().flat_map(|event| event.failures.values()).map(|failure| failure.fault.as_str()).collect();
        assert!(!faults.is_empty() && !faults.iter().any(|fault| fault.contains("a text of AWS")), "{faults:?}");
        bus.set_state(BusState::Available);
        service.clock.advance(Duration::from_secs(3_600));
        service.deliver_events(bus_targets(&bus)).await?;
        let states = accepted_states(&bus);
        assert!(
            states.len() == 4 && states.values().all(|states| states == &["accepted", "running", "complete-with-errors"]),
            "{states:?}"
        );
        assert_eq!(deployment.job_store().pending_events(10).await?, []);
        Ok(())
    })
}

/// Targets of each kind.
struct Targets {
    receiver: Receiver,
    bus: EventBridgeStandIn,
}

impl Targets {
    async fn start() -> Result<Self> {
        Ok(Self { receiver: Receiver::start().await?, bus: EventBridgeStandIn::start() })
    }

    /// Delivers the events of a process.
    async fn deliver(&self, service: &ServiceProcess<LocalDeployment>) -> Result<DeliveredEvents> {
        let bus = EventBridgeBus::new(self.bus.client(), EVENT_BUS);
        service.deliver_events(self.receiver.targets()?.with_event_bus(Some(bus))).await
    }

    /// Runs an export and delivers its events.
    async fn run_and_deliver(&self, service: &ServiceProcess<LocalDeployment>) -> Result<()> {
        service.kick_off("").await?;
        self.deliver(service).await?;
        service.deliver_all().await?;
        self.deliver(service).await?;
        Ok(())
    }

    /// Fails unless each target got all events of the export in order.
    fn check(&self) -> Result<()> {
        for path in ["/hook", "/client"] {
            let mut types = self.receiver.types_at(path);
            types.dedup();
            if types != ALL_TYPES {
                return Err(format!("the events at {path} are {types:?}").into());
            }
        }
        let states = accepted_states(&self.bus);
        let is_complete = states.len() == 1 && states.values().all(|states| states == &["accepted", "running", "complete-with-errors"]);
        if is_complete { Ok(()) } else { Err(format!("the events on the bus are {states:?}").into()) }
    }
}

/// Starts a process whose exports have a webhook of their client.
async fn start_with_webhook(receiver: &Receiver) -> Result<(LocalDeployment, Arc<ServiceProcess<LocalDeployment>>)> {
    let (deployment, service) = start(settings()).await?;
    register_owner(&deployment, receiver).await?;
    Ok((deployment, service))
}

/// Crashes the process at one call and continues in another. Fails if an event is missing or out of order.
async fn run_with_crash(number: usize, fault: Fault) -> Result<()> {
    let targets = Targets::start().await?;
    let (deployment, service) = start_with_webhook(&targets.receiver).await?;
    let clock = service.clock.clone();
    drop(service);
    let faults = FaultInjector::at_call(number, fault);
    let service = ServiceProcess::start_with_faults(&deployment, &clock, settings(), faults.clone());
    if faults.until_crash(targets.run_and_deliver(&service)).await.is_some() {
        return Err("the process did not crash".into());
    }
    drop(service);
    let service = ServiceProcess::start(&deployment, &clock, settings());
    let status = format!("/_operations/export/{:032x}", 1);
    if service.request("GET", &status).await?.status == 404 {
        set_next_job_number(1);
        service.kick_off("").await?;
    }
    service.complete(&status).await?;
    targets.deliver(&service).await?;
    targets.check()
}

#[test]
fn every_target_gets_every_event_at_least_once_and_in_order_whatever_call_crashes() -> Result<()> {
    let names = run(async || {
        let targets = Targets::start().await?;
        let (_, service) = start_with_webhook(&targets.receiver).await?;
        targets.run_and_deliver(&service).await?;
        targets.check()?;
        Ok(service.faults.call_names())
    })?;
    let expected = [
        "events.pending_events",
        "access.client",
        "jobs.decrypt_webhook_secret",
        "sender.send",
        "events.update_event",
        "events.remove_event",
    ];
    for name in expected {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    let crashes = std::iter::once((1, Fault::CrashBefore)).chain((1..=names.len()).map(|number| (number, Fault::CrashAfter)));
    let failures: Vec<String> = crashes
        .filter_map(|(number, fault)| {
            let error = run(async || run_with_crash(number, fault).await).err()?;
            Some(format!("{fault:?} call {number}, {}: {error}", names.get(number - 1).unwrap_or(&"?")))
        })
        .collect();
    assert!(failures.is_empty(), "of {} calls:\n{}", names.len(), failures.join("\n"));
    Ok(())
}

/// Writes a file with a secret that other users cannot read, and returns its path.
fn secret_file(folder: &std::path::Path, text: &str) -> Result<String> {
    let path = folder.join("webhook.secret");
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(path.to_str().ok_or("the path is not UTF-8")?.to_owned())
}

#[test]
fn webhooks_of_clients_and_schedules_are_set_shown_and_removed_by_commands() -> Result<()> {
    run(async || {
        let (folder, receiver) = (tempfile::tempdir()?, Receiver::start().await?);
        let (secret, state) = (secret_file(folder.path(), OTHER_SECRET)?, folder.path().join("state"));
        let command = |arguments: &[&str]| -> Result<std::result::Result<String, String>> {
            Ok(command_result(headrace(arguments).arg("--state").arg(&state).output()?))
        };
        let url = receiver.url("/nightly");
        let server = Server::start(&lake::sample_lake_dir(), &state, &[])?;
        command(&["schedules", "add", "nightly", "--every", "P1D", "--type", "Patient"])??;
        // A schedule or a client that does not exist, and a URL that must not be called, change nothing.
        let set = ["--url", url.as_str(), "--secret-file", secret.as_str()];
        let unknown = command(&[&["schedules", "webhook", "weekly"], &set[..]].concat())?.unwrap_err();
        assert!(unknown.contains("no schedule `weekly`"), "{unknown}");
        let unknown = command(&[&["clients", "webhook", "lab"], &set[..]].concat())?.unwrap_err();
        assert!(unknown.contains("no client `lab`"), "{unknown}");
        let inward = ["schedules", "webhook", "nightly", "--url", "https://169.254.169.254/x", "--secret-file", &secret];
        let inward = command(&inward)?.unwrap_err();
        assert!(inward.contains("--url: ") && !inward.contains("169.254"), "{inward}");
        assert!(!state.join("keys/secrets.key").exists(), "a rejected webhook needs no key");
        let text = command(&[&["schedules", "webhook", "nightly"], &set[..]].concat())??;
        assert!(text.contains("http://localhost:") && !text.contains("key=secret"), "{text}");
        for shown in [&["schedules", "show", "nightly"][..], &["schedules", "show", "nightly", "--json"], &["schedules", "list", "--json"]]
        {
            let shown = command(shown)??;
            assert!(shown.contains("http://localhost:") && !shown.contains("key=secret") && !shown.contains("encrypted"), "{shown}");
        }
        command(&["schedules", "run", "nightly"])??;
        let expected = ["export.accepted", "export.running", "export.complete"];
        for _ in 0..600 {
            if receiver.types_at("/nightly").len() >= expected.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(receiver.types_at("/nightly"), expected);
        receiver.received().iter().try_for_each(|received| received.verify(OTHER_SECRET))?;
        assert!(command(&["events", "list"])??.contains("all events are delivered"));
        assert!(command(&["schedules", "webhook", "nightly", "--remove"])??.contains("has no webhook"));
        let shown: Value = serde_json::from_str(&command(&["schedules", "show", "nightly", "--json"])??)?;
        assert_eq!(shown["webhook"], Value::Null);
        drop(server);
        Ok(())
    })
}

#[test]
fn the_webhook_of_a_client_is_set_and_shown_by_commands() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (secret, state) = (secret_file(folder.path(), SECRET)?, folder.path().join("state"));
    let command = |arguments: &[&str]| -> Result<std::result::Result<String, String>> {
        Ok(command_result(headrace(arguments).arg("--state").arg(&state).output()?))
    };
    command(&["clients", "add", "lab", "--scope", "system/*.rs", "--jwks-url", "https://lab.example/jwks.json"])??;
    let url = "https://hooks.example.org/lab?key=secret";
    let text = command(&["clients", "webhook", "lab", "--url", url, "--secret-file", &secret])??;
    assert_eq!(text, "`lab` has a webhook: https://hooks.example.org gets the events of its exports, from the next one on\n");
    for shown in [&["clients", "show", "lab"][..], &["clients", "show", "lab", "--json"], &["clients", "list", "--json"]] {
        let shown = command(shown)??;
        assert!(shown.contains("https://hooks.example.org") && !shown.contains("key=secret") && !shown.contains("encrypted"), "{shown}");
    }
    assert_eq!(command(&["clients", "webhook", "lab", "--remove"])??, "`lab` has no webhook\n");
    std::fs::write(&secret, "other words")?;
    let wrong = command(&["clients", "webhook", "lab", "--url", url, "--secret-file", &secret])?.unwrap_err();
    assert!(wrong.contains("--secret-file: ") && wrong.contains("whsec_") && !wrong.contains("other words"), "{wrong}");
    Ok(())
}
