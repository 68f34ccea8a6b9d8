//! Compares the samples of `events/event-bus`, which show what a rule of EventBridge gets, with what the service puts on the bus.

use std::collections::BTreeSet;
use std::path::Path;

use headrace_aws::EventBridgeBus;
use headrace_core::events::{EventState, ExportEvent};
use headrace_core::job::{Counters, ExportTime, FailureKind, FailureReason, Job, JobState, Planned, ReadMode, Watermark};
use headrace_core::ports::EventBus as _;
use headrace_core::request::ExportRequest;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::container::Container;
use headrace_core::vocab::ids::{Caller, JobId};
use headrace_core::vocab::schedule_key::{ScheduleKey, ScheduleName};
use headrace_fhir::definitions::ResourceType;
use headrace_tests::flows::{Result, run};
use headrace_tests::standins::event_bridge::{EVENT_BUS, EventBridgeStandIn};
use serde_json::{Value, json};

/// Time of the kick-off: 2026-01-31T02:00:00Z.
const ACCEPTED_AT: Millis = Millis(1_769_824_800_000);

/// Returns the time this number of seconds after the kick-off.
fn after(seconds: u64) -> Millis {
    Millis(ACCEPTED_AT.0 + seconds * 1_000)
}

/// Returns the export of the samples before it was planned.
fn accepted_job() -> Result<Job> {
    let container = Container::parse("nightly").ok_or("not a container")?;
    let types = Some([ResourceType::PATIENT].into());
    let request = ExportRequest { types, container: Some(container), ..ExportRequest::default() };
    let schedule = Some(ScheduleKey { name: ScheduleName::parse("nightly")?, id: "1".repeat(32) });
    Ok(Job { schedule, ..Job::accepted(JobId::from_random([0xa5; 16]), Caller("lab".to_owned()), request, ACCEPTED_AT) })
}

/// Returns the move of the export to a state, as the sample of the state shows it.
fn moved_to(state: EventState) -> Result<ExportEvent> {
    let accepted = accepted_job()?;
    let time = ExportTime { transaction_time: after(1), planned_at: after(2), watermark: Watermark::default() };
    let planned = Planned {
        time,
        tasks: 4,
        source_bytes: 1_893_441,
        read_mode: ReadMode::default(),
        patient_set: None,
        omitted: Default::default(),
        group_patients: 0,
    };
    let running = Job { planned: Some(planned), state: JobState::Running, ..accepted.clone() };
    let read = |lines_rejected| {
        let counters = Counters { resources: 1_200, lines_rejected, source_bytes: 1_893_441, ..Counters::default() };
        Job { counters, ..running.clone() }
    };
    let ended = Job { ended_at: Some(after(190)), state: JobState::Complete, ..read(0) };
    let text =
        "the object `Patient.ndjson` of the lake was changed or removed after the export had pinned it; start a new export".to_owned();
    let reason = FailureReason { kind: FailureKind::SourceChanged, text };
    Ok(match state {
        EventState::Queued => ExportEvent::from_move(&accepted, JobState::Queued, ACCEPTED_AT, None),
        EventState::Accepted => ExportEvent::from_move(&accepted, JobState::Accepted, ACCEPTED_AT, None),
        EventState::Running => ExportEvent::from_move(&running, JobState::Running, after(2), None),
        EventState::Complete => ExportEvent::from_move(&read(0), JobState::Complete, after(190), None),
        EventState::CompleteWithErrors => ExportEvent::from_move(&read(3), JobState::Complete, after(190), None),
        EventState::Failed => ExportEvent::from_move(&running, JobState::Failed, after(190), Some(&reason)),
        EventState::Cancelled => ExportEvent::from_move(&ended, JobState::Cancelled, after(300), None),
        EventState::Expired => ExportEvent::from_move(&ended, JobState::Expired, after(190 + 86_400), None),
    })
}

/// Returns the event that a rule gets for an entry, with the values of AWS in `sample`.
fn delivered(entry: &Value, sample: &Value) -> Result<Value> {
    // The samples are of moves at whole seconds.
    let seconds = entry.get("Time").map(|time| time.to_string().trim_end_matches(".0").parse::<u64>()).ok_or("no time")??;
    let time = Millis(seconds * 1_000).instant();
    let aws = |name: &str| sample.get(name).cloned().unwrap_or_default();
    Ok(json!({
        "version": "0",
        "id": aws("id"),
        "detail-type": entry.get("DetailType"),
        "source": entry.get("Source"),
        "account": aws("account"),
        "time": format!("{}Z", time.split('.').next().unwrap_or_default()),
        "region": aws("region"),
        "resources": [],
        "detail": entry.get("Detail"),
    }))
}

#[test]
fn the_samples_of_the_event_bus_are_what_the_service_puts_there() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events/event-bus");
    let mut files = BTreeSet::new();
    for file in std::fs::read_dir(&folder)? {
        files.insert(file?.file_name().to_string_lossy().into_owned());
    }
    assert_eq!(files, EventState::ALL.map(|state| format!("{}.json", state.as_str())).into());
    run(async || {
        for state in EventState::ALL {
            let sample: Value = serde_json::from_slice(&std::fs::read(folder.join(format!("{}.json", state.as_str())))?)?;
            let bus = EventBridgeStandIn::start();
            let results = EventBridgeBus::new(bus.client(), EVENT_BUS).put_events(&[moved_to(state)?]).await?;
            assert!(results.iter().all(std::result::Result::is_ok), "{results:?}");
            let accepted = bus.accepted();
            let entry = accepted.first().ok_or("no entry")?;
            assert_eq!(delivered(entry, &sample)?, sample, "{}", state.as_str());
        }
        Ok(())
    })
}
