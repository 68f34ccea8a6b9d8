//! Job table with an export in every state, for replay tests and golden files. Produces the same bytes every time.

use std::collections::BTreeMap;
use std::time::Duration;

use headrace_core::access::{Client, ClientKeys, Scopes};
use headrace_core::events::{EventTarget, FailedDelivery};
use headrace_core::job::JobState;
use headrace_core::ports::{Clock as _, EventOutbox as _, JobStore as _, ScheduleStore as _};
use headrace_core::schedule::{Schedule, ScheduleDefinition, ScheduleState, Timing};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::level::Level;
use headrace_core::vocab::schedule_key::{ScheduleKey, ScheduleName};
use headrace_fhir::definitions::FhirVersion;
use serde_json::Value;

use super::{
    AwsDeployment, Deployment, DeploymentSettings, Fault, FaultInjector, ManualClock, Result, ServiceProcess, set_next_job_number,
};

/// Returns the objects of a small lake: objects of two types in turns, and one object of several types with a line that is not a
/// resource.
pub fn lake_objects() -> Vec<(&'static str, Vec<u8>)> {
    let line = |resource_type: &str, n: usize| {
        format!("{{\"resourceType\":\"{resource_type}\",\"id\":\"{resource_type}-{n}\",\"text\":\"{}\"}}\n", "~".repeat(n % 7))
    };
    let lines = |resource_type: &str, range: std::ops::Range<usize>| range.map(|n| line(resource_type, n)).collect::<String>();
    let mixed =
        [line("Patient", 90), "not a resource\n".to_owned(), line("Basic", 91), line("Observation", 92), line("Patient", 93)].concat();
    vec![
        ("1/Observation.ndjson", lines("Observation", 0..9).into_bytes()),
        ("2/Patient.ndjson", lines("Patient", 20..23).into_bytes()),
        ("3/Observation.ndjson", lines("Observation", 30..32).into_bytes()),
        ("4/Patient.ndjson", lines("Patient", 40..42).into_bytes()),
        ("5/Observation.ndjson", lines("Observation", 50..52).into_bytes()),
        ("mixed.ndjson", mixed.into_bytes()),
    ]
}

/// Returns settings under which an export of the lake writes several files per type and merges fragments in a round of its own.
pub fn settings() -> DeploymentSettings {
    DeploymentSettings::with_file_bytes(300).with_merge_limit_bytes(700)
}

/// Creates an AWS deployment with the lake.
pub async fn aws_deployment() -> Result<AwsDeployment> {
    let deployment = AwsDeployment::new().await?;
    for (object, bytes) in lake_objects() {
        deployment.set_lake_object(object, Some(bytes.into())).await?;
    }
    Ok(deployment)
}

/// Number of the first job. The others follow in the order of [`job_items_by_state`].
const FIRST_JOB_NUMBER: u8 = 0x21;

/// Returns the table items of one job in each state, as DynamoDB JSON, by the name of the state.
pub async fn job_items_by_state() -> Result<BTreeMap<&'static str, Vec<Value>>> {
    let (deployment, clock) = (aws_deployment().await?, ManualClock::default());
    let service = ServiceProcess::start(&deployment, &clock, settings());
    let start_with_faults = |faults| ServiceProcess::start_with_faults(&deployment, &clock, settings(), faults);
    set_next_job_number(FIRST_JOB_NUMBER);
    let mut names = Vec::new();

    names.push("complete");
    let status = service.kick_off("?_since=2020-01-01").await?;
    service.complete(&status).await?;

    // Every read fails, so the tasks use up their attempts.
    names.push("failed");
    service.kick_off("?_type=Patient").await?;
    start_with_faults(FaultInjector::new(|call| if call.name == "source.read" { Fault::FailBefore } else { Fault::None }))
        .deliver_all()
        .await?;

    names.push("cancelled");
    let status = service.kick_off("?_container=my-place").await?;
    service.deliver_all().await?;
    service.request("DELETE", &status).await?;

    // Its messages are dropped, so that the job stays in this state.
    names.push("merging");
    let status = service.kick_off("").await?;
    while !service.request("GET", &status).await?.header("x-progress").is_some_and(|progress| progress.contains("to merge files")) {
        let message = service.receive().await?.ok_or("no merge task was announced")?;
        service.deliver(message).await?;
    }
    while let Some(message) = service.receive().await? {
        drop(message);
    }

    // Half of the tasks are closed; a worker crashed with a reserved file number.
    names.push("running");
    service.kick_off("").await?;
    let plan = service.receive().await?.ok_or("no plan")?;
    service.deliver(plan).await?;
    let mut messages = Vec::new();
    while let Some(message) = service.receive().await? {
        messages.push(message);
    }
    messages.sort_by(|one, other| other.body.cmp(&one.body));
    let faults = FaultInjector::new(|call| if call.name == "tasks.update_task reserve_files" { Fault::CrashAfter } else { Fault::None });
    let crashing = start_with_faults(faults.clone());
    for message in messages {
        drop(faults.until_crash(crashing.deliver(message)).await);
    }

    names.push("accepted");
    service.kick_off("").await?;

    let mut jobs = BTreeMap::<&'static str, Vec<Value>>::new();
    // Counter items do not belong to a job.
    for (key, item) in deployment.job_table_items().await?.into_iter().filter(|(key, _)| key.starts_with("JOB#")) {
        let number = key
            .split_once(' ')
            .and_then(|(pk, _)| pk.split('#').nth(1))
            .and_then(|id| u8::from_str_radix(id.get(id.len() - 2..)?, 16).ok())
            .ok_or_else(|| format!("{key} is not the key of a job"))?;
        let name = names.get(usize::from(number - FIRST_JOB_NUMBER)).ok_or("the table holds more jobs than were created")?;
        jobs.entry(name).or_default().push(item);
    }
    Ok(jobs)
}

/// The client that owns the exports of the schedules.
const SCHEDULE_CLIENT: &str = "arn:aws:sts::111122223333:assumed-role/Nightly";

/// Number of the first run of a schedule. Others follow.
const FIRST_RUN_NUMBER: u8 = 0x31;

/// Time from the start of the manual clock back to the time at which the schedules were added.
const ADDED_BEFORE: Duration = Duration::from_secs(51 * 3_600);

/// Time from then to the first run.
const UNTIL_FIRST_RUN: Duration = Duration::from_secs(3_600);

/// Time between two runs.
const DAY: Duration = Duration::from_secs(86_400);

/// Returns the registration of the client of the schedules.
pub fn schedule_client() -> Client {
    Client::new(Caller(SCHEDULE_CLIENT.to_owned()), ClientKeys::External, Scopes::parse("system/*.rs", FhirVersion::R4).0, Millis(0))
}

/// Creates an incremental schedule of this client, which runs each day.
fn daily(name: &str, client: &str, now: Millis) -> Result<Schedule> {
    let parameters = [("_type", "Patient"), ("_container", "nightly")];
    let definition = ScheduleDefinition {
        client: Some(Caller(client.to_owned())),
        timing: Timing::parse("cron(0 8 * * *)", Some("Europe/Berlin"), now)?,
        level: Level::System,
        parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        is_lenient: false,
        is_incremental: true,
        keep: Some(2),
        created_at: now,
    };
    let key = ScheduleKey { name: ScheduleName::parse(name)?, id: format!("{name:0>32}") };
    Ok(Schedule { key, definition, state: ScheduleState::new(now), complete_run: None, revision: 1 })
}

/// Returns the table items of schedules, of the open run of one, and of events, as DynamoDB JSON, by the name of their file.
///
/// * `changed` has a complete run, an open one, and another definition since then.
/// * `broken` has a client that is not registered, `paused` is paused, and its run is requested.
/// * Of the events of the first run, one was sent without success, and one was given up.
pub async fn schedule_items() -> Result<BTreeMap<&'static str, Vec<Value>>> {
    let (deployment, clock) = (aws_deployment().await?, ManualClock::default());
    clock.set_back(ADDED_BEFORE);
    let service = ServiceProcess::start(&deployment, &clock, DeploymentSettings { events: true, ..settings() });
    let store = deployment.job_store();
    set_next_job_number(FIRST_RUN_NUMBER);
    service.put_client(&schedule_client()).await?;
    let now = clock.now();
    let changed = daily("changed", SCHEDULE_CLIENT, now)?;
    let broken = daily("broken", "arn:aws:sts::111122223333:assumed-role/Unknown", now)?;
    let mut paused = daily("paused", SCHEDULE_CLIENT, now)?;
    paused.definition.timing = Timing::parse("P7D", None, now)?;
    paused.definition.level = Level::Group("g-1".to_owned());
    (paused.definition.is_incremental, paused.definition.is_lenient, paused.definition.keep) = (false, true, None);
    for schedule in [&changed, &broken, &paused] {
        store.put_schedule(schedule, None).await?;
    }
    for time in [UNTIL_FIRST_RUN, DAY] {
        clock.advance(time);
        let fired = service.fire_schedules().await?;
        if (fired.started, fired.failed) != (1, 1) {
            return Err(format!("the schedules have not run as expected: {fired:?}").into());
        }
        if time == UNTIL_FIRST_RUN {
            service.deliver_all().await?;
        }
    }
    // The message of the second run is dropped, so that its export stays open.
    while let Some(message) = service.receive().await? {
        drop(message);
    }
    let ran = store.schedule(&changed.key.name).await?.ok_or("no schedule")?;
    let first = ran.complete_run.as_ref().ok_or("the first run is not complete")?.job.clone();
    if store.job(&first).await?.is_none_or(|job| job.state != JobState::Complete) {
        return Err("the first run is not complete".into());
    }
    let mut definition = ran.definition.clone();
    definition.parameters.push(("_elements".to_owned(), "id".to_owned()));
    store.put_schedule(&ran.redefined(definition, clock.now()), Some(ran.revision)).await?;
    let state = ScheduleState { is_paused: true, requested_at: Some(clock.now()), ..paused.state.clone() };
    store.put_schedule(&Schedule { state, ..paused }, Some(1)).await?;
    let mut events = store.pending_events(10).await?.into_iter();
    let fault = "the webhook's URL answered with status 503";
    let failure = |attempts, next_at, is_given_up| FailedDelivery { attempts, next_at, fault: fault.to_owned(), is_given_up };
    let mut event = events.next().ok_or("no event")?;
    event.failures.insert(EventTarget::Webhook, failure(1, event.since + Duration::from_secs(30), false));
    store.update_event(&event).await?;
    let mut event = events.next().ok_or("no second event")?;
    event.failures.insert(EventTarget::Webhook, failure(31, event.since + DAY, true));
    store.give_up_event(&event).await?;

    let open = format!("JOB#{:032x}", FIRST_RUN_NUMBER + 1);
    let mut items = BTreeMap::<&'static str, Vec<Value>>::new();
    for (key, item) in deployment.job_table_items().await? {
        let partition = key.split(' ').next().unwrap_or_default();
        let file = match partition {
            "SCHEDULES" => "schedules",
            "OUTBOX" | "UNDELIVERED" => "events",
            _ if partition.starts_with(&open) => "schedule-run",
            _ => continue,
        };
        items.entry(file).or_default().push(item);
    }
    Ok(items)
}
