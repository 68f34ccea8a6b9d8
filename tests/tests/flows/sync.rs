//! Synchronizations of a lake with FHIR servers that behave like well-known ones, and like none should.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headrace_core::job::sync::SyncRequest;
use headrace_core::lake::sync_report::SyncReport;
use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_fhir::definitions::ResourceType;
use headrace_tests::flows::sync::{SyncProcess, lake_lines, lake_objects, lake_state_before, small_request, watermark};
use headrace_tests::flows::{Fault, FaultInjector, LocalDeployment, ManualClock, Result, run, set_next_job_number};
use headrace_tests::standins::fhir_server::{FhirServer, HostileBehavior, IdSearch, Paging, ServerBehavior, Store, Totals};
use proptest::prelude::*;

pub(super) const PATIENT: &str = "Patient";
pub(super) const OBSERVATION: &str = "Observation";

/// A lake and a server.
pub(super) struct Scenario {
    pub(super) deployment: LocalDeployment,
    pub(super) clock: ManualClock,
    pub(super) server: FhirServer,
}

impl Scenario {
    /// Creates an empty lake, and a server with Patients and Observations of the last day.
    pub(super) async fn new(behavior: ServerBehavior) -> Result<Self> {
        let (deployment, clock) = (LocalDeployment::with_files(&[("README", b"x")]).await?, ManualClock::default());
        let time = clock.clone();
        let server = FhirServer::new(behavior, move || time.now());
        let start = Millis(clock.now().0 - 86_400_000);
        server.with_store(|store| {
            for number in 0..40_u64 {
                // Some change in the same second, some in the same millisecond.
                store.put(PATIENT, &format!("p-{number}"), Millis(start.0 + number / 4 * 700_300));
                store.put(OBSERVATION, &format!("o.{number}"), Millis(start.0 + number * 60_000 + number % 7));
            }
            store.versions.sort_by_key(|version| version.at);
        });
        Ok(Self { deployment, clock, server })
    }

    /// Starts a process.
    pub(super) fn process(&self, faults: FaultInjector) -> SyncProcess {
        SyncProcess::start(&self.deployment, &self.clock, &self.server, faults)
    }

    /// Runs a synchronization.
    pub(super) async fn sync(&self, request: SyncRequest) -> Result<SyncReport> {
        self.process(FaultInjector::none()).run(request).await
    }

    /// Changes, creates and deletes resources a while later.
    pub(super) fn change(&self) {
        self.clock.advance(Duration::from_secs(600));
        let at = self.clock.now();
        self.server.with_store(|store| {
            store.put(PATIENT, "p-1", at);
            store.put(PATIENT, "p-new", Millis(at.0 + 1));
            store.put(OBSERVATION, "o.3", Millis(at.0 + 1_000));
        });
        self.clock.advance(Duration::from_secs(600));
    }

    /// Checks that the lake has exactly the resources that the server had at the watermark.
    pub(super) async fn check_equal(&self) -> Result<()> {
        // The watermark is the last moment that the lake has.
        let moment = Millis(watermark(self.deployment.lake())?.ok_or("no watermark")?.0 + 1);
        let expected: BTreeMap<_, _> = self
            .server
            .with_store(|store| store.state_before(moment))
            .into_iter()
            .map(|((kind, id), text)| ((kind.to_owned(), id), text))
            .collect();
        check_same(&lake_state_before(self.deployment.lake(), moment).await?, &expected)?;
        // Nothing later is in the lake, and every line is a version of the server, byte for byte.
        check_same(&lake_state_before(self.deployment.lake(), Millis(u64::MAX / 2_000_000)).await?, &expected)?;
        let versions: Vec<_> = self.server.with_store(|store| store.versions.iter().filter_map(|version| version.text.clone()).collect());
        for line in lake_lines(self.deployment.lake()).await?.iter().filter(|line| !line.contains("DELETE")) {
            assert!(versions.contains(line), "{line}");
        }
        Ok(())
    }
}

/// Returns an error that names the resources whose state in the lake differs from the server's.
fn check_same(lake: &BTreeMap<(String, String), String>, server: &BTreeMap<(String, String), String>) -> Result<()> {
    let keys = lake.keys().chain(server.keys());
    let different: Vec<_> = keys.filter(|key| lake.get(*key) != server.get(*key)).collect();
    if different.is_empty() { Ok(()) } else { Err(format!("the lake differs from the server in {different:?}").into()) }
}

/// Returns the behavior of servers that are known for them.
pub(super) fn known_servers() -> Vec<(&'static str, ServerBehavior)> {
    let default = ServerBehavior::default;
    vec![
        (
            "HAPI",
            ServerBehavior {
                paging: Paging::CachedIds,
                expires_after: Some(1),
                expiring_searches: 2,
                largest_page: 2,
                names_itself: None,
                ..default()
            },
        ),
        ("Medplum", ServerBehavior { paging: Paging::Cursor, largest_page: 20, is_pretty: true, ..default() }),
        ("Microsoft", ServerBehavior { paging: Paging::Cursor, largest_page: 10, busy_every: Some(3), ..default() }),
        ("HealthLake", ServerBehavior { paging: Paging::EqualsSigns, rejects_count_above: Some(100), rejects_total: true, ..default() }),
        ("Google", ServerBehavior { paging: Paging::Cursor, totals: Totals::Rejected, ..default() }),
        ("Aidbox", ServerBehavior { paging: Paging::Offset, largest_page: 2, ..default() }),
        ("Firely", ServerBehavior { paging: Paging::CachedIds, expires_after: Some(2), expiring_searches: 4, sorts: false, ..default() }),
        ("a server that does not name _lastUpdated", ServerBehavior { names_last_updated: false, ..default() }),
        (
            "a server with totals that are estimates",
            ServerBehavior { totals: Totals::Rejected, sorts: false, paging: Paging::Offset, ..default() },
        ),
    ]
}

#[test]
fn the_lake_equals_any_known_server_at_the_watermark() -> Result<()> {
    for (name, behavior) in known_servers() {
        run(async || {
            let scenario = Scenario::new(behavior.clone()).await?;
            let first = scenario.sync(small_request()).await?;
            assert!(first.is_complete, "{name}: {first:?}");
            scenario.check_equal().await?;
            let objects = lake_objects(scenario.deployment.lake());
            scenario.change();
            let second = scenario.sync(small_request()).await?;
            assert!(second.is_complete, "{name}: {second:?}");
            assert_eq!(second.types.iter().map(|report| report.resources).sum::<u64>(), 3, "{name}");
            assert_eq!(second.from, Some(first.complete_up_to), "{name}");
            scenario.check_equal().await?;
            // An increment is a new object, and no other is touched.
            assert!(objects.iter().all(|object| object.exists()), "{name}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_change_at_the_end_of_a_run_is_after_its_watermark() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        // The lag is a minute. A server whose times have no fraction of a second changes many resources at this moment.
        let end = Millis(scenario.clock.now().0 - 60_000);
        scenario.server.with_store(|store| store.put(PATIENT, "p-1", end));
        assert!(scenario.sync(small_request()).await?.is_complete);
        // An export with the watermark as its _since has what changed later only.
        assert!(watermark(scenario.deployment.lake())?.is_some_and(|watermark| watermark < end));
        scenario.clock.advance(Duration::from_secs(600));
        let report = scenario.sync(small_request()).await?;
        assert_eq!(report.types.iter().map(|one| one.resources).sum::<u64>(), 1, "{report:?}");
        scenario.check_equal().await?;
        // A run within the same second moves nothing.
        let before = watermark(scenario.deployment.lake())?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        assert_eq!(watermark(scenario.deployment.lake())?, before);
        Ok(())
    })
}

#[test]
fn a_server_without_a_search_by_time_is_read_anew_each_time_and_the_report_says_so() -> Result<()> {
    run(async || {
        let epic =
            ServerBehavior { searches_by_time: false, names_last_updated: false, paging: Paging::Offset, ..ServerBehavior::default() };
        let scenario = Scenario::new(epic).await?;
        for _ in 0..2 {
            let report = scenario.sync(small_request()).await?;
            assert!(report.is_complete, "{report:?}");
            let remarks: Vec<_> =
                report.types.iter().filter(|one| one.is_covered).map(|one| one.remark.clone().unwrap_or_default()).collect();
            assert!(remarks.iter().all(|remark| remark.contains("each synchronization fetches the whole type")), "{remarks:?}");
            assert!(report.types.iter().filter(|one| one.is_covered).all(|one| one.resources >= 40), "{report:?}");
            scenario.check_equal().await?;
            scenario.change();
        }
        Ok(())
    })
}

/// The pause that the busy server of the tests demands: longer than an attempt waits.
pub(super) const DEMANDED_PAUSE: Duration = Duration::from_secs(7_200);

/// Returns the type and the range of time that a query is about.
fn queried_window(query: &str) -> String {
    let (path, parameters) = query.split_once('?').unwrap_or((query, ""));
    let times = parameters.split('&').filter(|parameter| parameter.starts_with("_lastUpdated="));
    std::iter::once(path).chain(times).collect::<Vec<_>>().join(" ")
}

/// Records the time of each request.
fn record_times(scenario: &Scenario) -> Arc<Mutex<Vec<Millis>>> {
    let times = Arc::new(Mutex::new(Vec::new()));
    let (seen, clock) = (times.clone(), scenario.clock.clone());
    scenario.server.change_while_read(move |_, _| seen.lock().unwrap_or_else(PoisonError::into_inner).push(clock.now()));
    times
}

/// Checks that nothing about a window was requested within the pause that the server demanded with each `every`th request. Returns the number of pauses.
fn check_pauses(scenario: &Scenario, times: &Mutex<Vec<Millis>>, every: usize) -> usize {
    let times = times.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let requests: Vec<_> = scenario.server.queries().iter().map(|query| queried_window(query)).zip(times).collect();
    for (number, (window, at)) in requests.iter().enumerate().skip(every - 1).step_by(every) {
        let next = requests.iter().skip(number + 1).find(|(other, _)| other == window);
        assert!(next.is_none_or(|(_, next)| next.since(*at) >= DEMANDED_PAUSE), "{window}: {at}, then {next:?}");
    }
    requests.len() / every
}

#[test]
fn a_busy_server_is_left_alone_as_long_as_it_demands() -> Result<()> {
    // The attempts have no end, or one that comes before that of a pause.
    for stop_after in [None, Some(Duration::from_secs(840))] {
        run(async || {
            let behavior = ServerBehavior { busy_every: Some(30), retry_after: DEMANDED_PAUSE, ..ServerBehavior::default() };
            let scenario = Scenario::new(behavior).await?;
            let times = record_times(&scenario);
            let process = scenario.process(FaultInjector::none());
            let job = process.kick_off(small_request()).await?;
            let job = process.complete_in_steps(&job.id, stop_after, DEMANDED_PAUSE / 6).await?;
            assert_eq!(job.reason, None);
            assert!(process.report()?.is_complete);
            assert!(check_pauses(&scenario, &times, 30) > 2);
            scenario.server.stop_changes();
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn a_pause_that_the_end_of_an_attempt_would_cut_off_is_kept() -> Result<()> {
    run(async || {
        // An attempt would wait for it, and has less time.
        let retry_after = Duration::from_secs(90);
        let scenario = Scenario::new(ServerBehavior { busy_every: Some(12), retry_after, ..ServerBehavior::default() }).await?;
        let times = record_times(&scenario);
        let process = scenario.process(FaultInjector::none());
        let job = process.kick_off(small_request()).await?;
        process.deliver_all(Some(Duration::from_secs(60))).await?;
        let requests = scenario.server.queries().len();
        assert_eq!(requests, 12, "the plan has met the busy server");
        scenario.clock.advance(retry_after - Duration::from_millis(1));
        process.announce_again(0, &job).await?;
        process.deliver_all(None).await?;
        assert_eq!(scenario.server.queries().len(), requests, "a message that comes too early starts nothing");
        scenario.clock.advance(Duration::from_millis(1));
        process.announce_again(0, &job).await?;
        assert_eq!(process.complete(&job.id).await?.reason, None);
        let times = times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(times[12].since(times[11]) >= retry_after);
        scenario.server.stop_changes();
        scenario.check_equal().await
    })
}

#[test]
fn a_server_that_demands_nothing_but_pauses_is_given_up_by_name() -> Result<()> {
    for retry_after in [DEMANDED_PAUSE, Duration::from_secs(20), Duration::from_secs(u64::from(u32::MAX))] {
        run(async || {
            let scenario = Scenario::new(ServerBehavior { busy_every: Some(1), retry_after, ..ServerBehavior::default() }).await?;
            let start = scenario.clock.now();
            let process = scenario.process(FaultInjector::none());
            let job = process.kick_off(small_request()).await?;
            let job =
                process.complete_in_steps(&job.id, None, retry_after.clamp(Duration::from_secs(60), Duration::from_secs(600))).await?;
            let text = job.reason.ok_or("the job has no reason")?.text;
            assert!(text.contains("the FHIR server was busy") && text.contains("synchronize again"), "{text}");
            assert!(scenario.clock.now().since(start) < Duration::from_secs(14 * 3_600), "{retry_after:?}");
            assert_eq!((lake_objects(scenario.deployment.lake()).len(), watermark(scenario.deployment.lake())?), (0, None));
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_plan_that_is_repeated_counts_each_type_once() -> Result<()> {
    /// Runs the synchronization of the crash tests with this fault. Returns its report and the number of histories that were read.
    async fn report_with(faults: FaultInjector) -> Result<(SyncReport, usize, Vec<&'static str>)> {
        let scenario = crash_scenario().await?;
        let process = scenario.process(faults);
        let report = process.run(SyncRequest { window_resources: 3, ..small_request() }).await?;
        scenario.check_equal().await?;
        let histories = scenario.server.queries().iter().filter(|query| query.contains("/_history?_since=")).count();
        Ok((report, histories, process.faults.call_names()))
    }
    run(async || {
        let (report, histories, names) = report_with(FaultInjector::none()).await?;
        assert!(histories > 0 && report.types.iter().any(|one| one.deletions == Some(1)), "{report:?}");
        let completion = names.iter().position(|name| *name == "tasks.complete_task").ok_or("no task was completed")?;
        let (again, histories_again, _) = report_with(FaultInjector::at_call(completion + 1, Fault::FailBefore)).await?;
        assert_eq!((again.types, histories_again), (report.types, histories));
        Ok(())
    })
}

#[test]
fn windows_are_divided_by_the_servers_counts() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let report = scenario.sync(small_request()).await?;
        for one in report.types.iter().filter(|one| one.is_covered) {
            assert!((5..=20).contains(&one.windows), "{one:?}");
        }
        let first = scenario.server.queries();
        assert!(first.len() < 150, "{}: {first:#?}", first.len());
        Ok(())
    })
}

#[test]
fn totals_that_are_wrong_are_an_error_unless_they_are_ignored() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior { totals: Totals::Estimate, ..ServerBehavior::default() }).await?;
        let report = scenario.sync(small_request()).await?;
        assert!(!report.is_complete && report.types.iter().any(|one| one.repeats > 0), "{report:?}");
        let faults: Vec<_> = report.types.iter().flat_map(|one| one.faults.clone()).collect();
        assert!(faults.iter().any(|fault| fault.contains("incomplete") && fault.contains("--ignore-totals")), "{faults:?}");
        assert_eq!((lake_objects(scenario.deployment.lake()).len(), watermark(scenario.deployment.lake())?), (0, None));
        let report = scenario.sync(SyncRequest { ignores_totals: true, ..small_request() }).await?;
        assert!(report.is_complete, "{report:?}");
        scenario.check_equal().await
    })
}

#[test]
fn a_hostile_server_is_refused_by_name_and_nothing_of_it_becomes_visible() -> Result<()> {
    for (hostile_behavior, words) in [
        (HostileBehavior::EndlessPages, "more than twice as many resources as it counts"),
        (HostileBehavior::EndlessRepetition, "bring nothing new"),
        (HostileBehavior::LoopingLink, "form a circle"),
        (HostileBehavior::OtherType, "a resource of type Account"),
        (HostileBehavior::ClimbingId, "an id that FHIR does not allow"),
        (HostileBehavior::OtherServer, "a server other than that of the base URL"),
        (HostileBehavior::CutPage, "a page cannot be read"),
        (HostileBehavior::HtmlPage, "a page cannot be read"),
    ] {
        run(async || {
            let scenario = Scenario::new(ServerBehavior { hostile_behavior: Some(hostile_behavior), ..ServerBehavior::default() }).await?;
            let report = scenario.sync(small_request()).await?;
            let faults: Vec<_> = report.types.iter().flat_map(|one| one.faults.clone()).collect();
            assert!(!report.is_complete && faults.iter().any(|fault| fault.contains(words)), "{hostile_behavior:?}: {faults:?}");
            assert_eq!((lake_objects(scenario.deployment.lake()).len(), watermark(scenario.deployment.lake())?), (0, None));
            // The server is mended, and nothing of the failed synchronization is in the way.
            scenario.server.stop_changes();
            assert!(scenario.sync(small_request()).await?.is_complete, "{hostile_behavior:?}");
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn resources_that_the_server_calls_incomplete_are_not_added_and_its_reason_is_reported() -> Result<()> {
    for severity in ["error", "fatal"] {
        run(async || {
            let message = Some((severity, "shard 3 did not answer"));
            let scenario = Scenario::new(ServerBehavior { message, ..ServerBehavior::default() }).await?;
            let report = scenario.sync(small_request()).await?;
            let faults: Vec<_> = report.types.iter().flat_map(|one| one.faults.clone()).collect();
            assert!(!report.is_complete && faults.iter().all(|fault| fault.contains("shard 3 did not answer")), "{faults:?}");
            assert_eq!((lake_objects(scenario.deployment.lake()).len(), watermark(scenario.deployment.lake())?), (0, None));
            scenario.server.stop_changes();
            assert!(scenario.sync(small_request()).await?.is_complete);
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn a_warning_of_the_server_is_a_remark_of_the_report() -> Result<()> {
    run(async || {
        let message = Some(("warning", "results may be old"));
        let scenario = Scenario::new(ServerBehavior { message, ..ServerBehavior::default() }).await?;
        let report = scenario.sync(small_request()).await?;
        let remarks: Vec<_> = report.types.iter().filter(|one| one.is_covered).map(|one| one.remark.clone().unwrap_or_default()).collect();
        assert!(report.is_complete && remarks.iter().all(|remark| remark == "the server warns: results may be old"), "{remarks:?}");
        scenario.check_equal().await
    })
}

#[test]
fn a_lake_is_filled_from_one_server_and_its_types_stay_together() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let only = |name: &str| SyncRequest { types: ResourceType::parse(name).map(|one| [one].into()), ..small_request() };
        assert!(scenario.sync(only(PATIENT)).await?.is_complete);
        let error = scenario.sync(only(OBSERVATION)).await.unwrap_err().to_string();
        assert!(error.contains("the lake also has Patient"), "{error}");
        let other = SyncRequest { origin: "https://other.example.org".to_owned(), ..small_request() };
        let error = scenario.sync(other).await.unwrap_err().to_string();
        assert!(error.contains("the lake is filled from https://fhir.example.org/r4"), "{error}");
        // Another spelling of the base URL is the same server.
        let spelled = SyncRequest { origin: "HTTPS://FHIR.example.org:443/r4/".to_owned(), ..small_request() };
        // A type that is new in the lake is fetched from its beginning.
        scenario.change();
        assert!(scenario.sync(spelled).await?.is_complete);
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.check_equal().await?;
        let error = scenario.sync(only("Binary")).await.unwrap_err().to_string();
        assert!(error.contains("the lake also has Observation, Patient"), "{error}");
        Ok(())
    })
}

#[test]
fn an_attempt_that_must_end_continues_at_the_second_that_it_reached() -> Result<()> {
    run(async || {
        // Every pause of the busy server takes time, so that no attempt has time for a whole window.
        let behavior = ServerBehavior { largest_page: 1, busy_every: Some(2), totals: Totals::Rejected, ..ServerBehavior::default() };
        let scenario = Scenario::new(behavior).await?;
        let process = scenario.process(FaultInjector::none());
        let job = process.kick_off(SyncRequest { window_resources: 1_000, page_size: 1, ..small_request() }).await?;
        process.deliver_all(Some(Duration::from_millis(250))).await?;
        let job = process.complete(&job.id).await?;
        assert_eq!(job.reason, None);
        let report = process.report()?;
        assert!(report.is_complete && report.types.iter().any(|one| one.windows > 1), "{report:?}");
        scenario.check_equal().await
    })
}

/// Runs a synchronization from its start to the cleanup after its end.
async fn run_lifecycle(process: &SyncProcess, request: &SyncRequest) -> Result<()> {
    let job = process.kick_off(request.clone()).await?;
    process.complete(&job.id).await.map(drop)
}

/// Creates the scenario of the crash tests: an increment over a lake that another pipeline has filled.
async fn crash_scenario() -> Result<Scenario> {
    set_next_job_number(1);
    let scenario = Scenario::new(ServerBehavior { paging: Paging::CachedIds, has_history: true, ..ServerBehavior::default() }).await?;
    let start = Millis(scenario.clock.now().0 - 600_000);
    scenario.server.with_store(|store| {
        store.versions.clear();
        for number in 0..5 {
            store.put(PATIENT, &format!("p-{number}"), Millis(start.0 + number * 2_500));
        }
        store.delete(PATIENT, "p-0", Millis(start.0 + 30_000));
        store.put(OBSERVATION, "o", Millis(start.0 + 40_000));
    });
    let watermark = format!(r#"{{"completeUpTo":"{start}"}}"#);
    std::fs::create_dir_all(scenario.deployment.lake().join("_headrace"))?;
    std::fs::write(scenario.deployment.lake().join("_headrace/watermark.json"), watermark)?;
    Ok(scenario)
}

/// Checks that a synchronization of a scenario makes the lake equal to the server, whichever call is the last one of its process. Returns
/// the names of all calls.
fn check_crashes(scenario: impl AsyncFn() -> Result<Scenario> + Sync, request: &SyncRequest) -> Result<Vec<&'static str>> {
    let names = run(async || {
        let scenario = scenario().await?;
        let process = scenario.process(FaultInjector::none());
        run_lifecycle(&process, request).await?;
        scenario.check_equal().await?;
        Ok(process.faults.call_names())
    })?;
    // A crash after a call that only reads is the crash after the call before it.
    let changes = |name: &str| {
        ["lake.", "writer.commit", "queue.", "tasks.", "jobs.record", "output.delete"].iter().any(|start| name.starts_with(start))
    };
    let crashes = (1..).zip(&names).filter(|(_, name)| changes(name)).map(|(number, _)| (number, Fault::CrashAfter));
    // A failure is handled in the same way wherever a call is made.
    let last_calls: BTreeMap<&str, usize> = names.iter().copied().zip(1..).collect();
    let failures = last_calls.into_values().flat_map(|number| [(number, Fault::FailBefore), (number, Fault::FailAfter)]);
    for (number, fault) in crashes.chain(failures) {
        run(async || {
            let scenario = scenario().await?;
            let faults = FaultInjector::at_call(number, fault);
            let process = scenario.process(faults.clone());
            let result = Box::pin(faults.until_crash(run_lifecycle(&process, request))).await;
            if !matches!(result, Some(Ok(()))) {
                // The same command again. It does nothing if everything is done.
                let next = scenario.process(FaultInjector::none());
                next.recover().await?;
                next.deliver_all(None).await?;
                run_lifecycle(&next, request).await?;
            }
            scenario.check_equal().await.map_err(|error| format!("call {number} {fault:?}: {error}").into())
        })?;
    }
    Ok(names)
}

#[test]
fn p1_to_p6_a_synchronization_survives_a_crash_at_any_call() -> Result<()> {
    let names = check_crashes(crash_scenario, &SyncRequest { window_resources: 3, ..small_request() })?;
    assert!(names.len() < 200, "{} calls", names.len());
    for name in ["origin.get", "lake.put", "lake.put_metadata", "lake.replace_metadata", "writer.commit fragment", "tasks.complete_task"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    Ok(())
}

#[test]
fn a_task_that_is_announced_again_changes_nothing() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let process = scenario.process(FaultInjector::none());
        let job = process.kick_off(small_request()).await?;
        process.deliver_all(None).await?;
        let objects = lake_objects(scenario.deployment.lake());
        for task in [0, 1, 2, 3, 1_000_000] {
            process.announce_again(task, &job).await?;
        }
        process.deliver_all(None).await?;
        assert_eq!(lake_objects(scenario.deployment.lake()), objects);
        scenario.check_equal().await
    })
}

/// Makes a change with some requests.
pub(super) fn ongoing_change(clock: ManualClock, seed: u64) -> impl FnMut(&mut Store, u64) + Send + 'static {
    move |store, request| {
        let number = (request.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed) >> 7;
        clock.advance(Duration::from_millis(1_300));
        let at = clock.now();
        match number % 5 {
            0 => store.put(PATIENT, &format!("p-{}", number / 5 % 40), at),
            1 => store.put(OBSERVATION, &format!("o.{}", number / 5 % 40), at),
            2 => store.put(PATIENT, &format!("later-{request}"), at),
            _ => {}
        }
    }
}

#[test]
fn deletions_come_from_the_history_of_a_server_that_has_one() -> Result<()> {
    for paging in [Paging::CachedIds, Paging::Cursor] {
        run(async || {
            let scenario =
                Scenario::new(ServerBehavior { has_history: true, largest_page: 7, paging, ..ServerBehavior::default() }).await?;
            assert!(scenario.sync(small_request()).await?.is_complete);
            scenario.change();
            let at = scenario.clock.now();
            scenario.server.with_store(|store| {
                store.delete(PATIENT, "p-2", at);
                store.delete(PATIENT, "p-3", at);
                store.put(PATIENT, "p-3", Millis(at.0 + 1_000));
                store.delete(OBSERVATION, "o.5", Millis(at.0 + 2_000));
            });
            scenario.clock.advance(Duration::from_secs(600));
            let report = scenario.sync(small_request()).await?;
            let deletions: u64 = report.types.iter().filter_map(|one| one.deletions).sum();
            assert_eq!((report.is_complete, report.deletions(), deletions), (true, "history", 2), "{report:?}");
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn a_history_of_a_resource_without_end_leaves_deletions_unknown() -> Result<()> {
    run(async || {
        let hostile_behavior = Some(HostileBehavior::LoopingHistory);
        let scenario = Scenario::new(ServerBehavior { has_history: true, hostile_behavior, ..ServerBehavior::default() }).await?;
        // A resource that changes while the lake is filled, so that its own history is read.
        let clock = scenario.clock.clone();
        scenario.server.change_while_read(move |store, _| store.put(PATIENT, "p-1", clock.now()));
        let report = scenario.sync(small_request()).await?;
        let patients = report.types.iter().find(|one| one.resource_type == ResourceType::PATIENT).ok_or("no Patients")?;
        let remark = patients.remark.clone().unwrap_or_default();
        assert!(remark.contains("the history of the type cannot be used: the links to the next page have no end"), "{report:?}");
        assert_eq!(report.deletions(), "unknown");
        let histories = scenario.server.queries().iter().filter(|query| query.contains("p-1/_history")).count();
        assert_eq!(histories, 2, "the first page, and its link once");
        Ok(())
    })
}

#[test]
fn a_server_without_a_history_leaves_deletions_unknown_and_the_lake_says_so() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let report = scenario.sync(small_request()).await?;
        assert_eq!(report.deletions(), "unknown");
        let text = std::fs::read_to_string(scenario.deployment.lake().join("_headrace/watermark.json"))?;
        assert!(text.contains(r#""deletions":"unknown""#), "{text}");
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Checks that the lake equals a server with a history at the watermark, whatever changes and is deleted while it is read.
    #[test]
    fn the_lake_equals_a_server_with_a_history_while_resources_change(seed in any::<u64>(), server in 0_usize..9) {
        let (name, behavior) = known_servers().swap_remove(server);
        let outcome = run(async || {
            let scenario = Scenario::new(ServerBehavior { has_history: true, ..behavior.clone() }).await?;
            for _ in 0..2 {
                let (clock, mut change) = (scenario.clock.clone(), ongoing_change(scenario.clock.clone(), seed));
                scenario.server.change_while_read(move |store, request| {
                    change(store, request);
                    if request.is_multiple_of(11) {
                        store.delete(PATIENT, &format!("p-{}", (request ^ seed) % 40), clock.now());
                    }
                });
                let report = scenario.sync(small_request()).await?;
                if report.is_complete {
                    scenario.check_equal().await?;
                }
                scenario.server.stop_changes();
                scenario.clock.advance(Duration::from_secs(120));
                let report = scenario.sync(small_request()).await?;
                assert!(report.is_complete, "{name}: {report:?}");
                scenario.check_equal().await?;
            }
            Ok(())
        });
        prop_assert!(outcome.is_ok(), "{}: {:?}", name, outcome.err());
    }

    /// Checks that nothing is lost, whatever changes while a server is read: once it is quiet, the next synchronization makes the lake
    /// equal. And before, the lake has every resource that was not changed meanwhile.
    #[test]
    fn nothing_is_lost_while_resources_change(seed in any::<u64>(), server in 0_usize..9) {
        let (name, behavior) = known_servers().swap_remove(server);
        let outcome = run(async || {
            let scenario = Scenario::new(behavior.clone()).await?;
            scenario.server.change_while_read(ongoing_change(scenario.clock.clone(), seed));
            let report = scenario.sync(small_request()).await?;
            if report.is_complete {
                let lake = scenario.deployment.lake();
                let moment = Millis(watermark(lake)?.ok_or("no watermark")?.0 + 1);
                let state = lake_state_before(lake, moment).await?;
                let (before, after) = scenario.server.with_store(|store| (store.state_before(moment), store.state_before(Millis(u64::MAX))));
                for ((kind, id), text) in before {
                    let key = (kind.to_owned(), id.clone());
                    if after.get(&(kind, id)) == Some(&text) {
                        assert_eq!(state.get(&key), Some(&text), "{name}: {key:?}");
                    }
                }
            }
            scenario.server.stop_changes();
            scenario.clock.advance(Duration::from_secs(120));
            let report = scenario.sync(small_request()).await?;
            assert!(report.is_complete, "{name}: {report:?}");
            scenario.check_equal().await
        });
        prop_assert!(outcome.is_ok(), "{}: {:?}", name, outcome.err());
    }
}

#[test]
fn what_a_server_without_a_history_has_deleted_is_found_by_its_ids() -> Result<()> {
    for (name, behavior) in known_servers() {
        run(async || {
            let scenario = Scenario::new(behavior.clone()).await?;
            assert!(scenario.sync(small_request()).await?.is_complete, "{name}");
            scenario.change();
            let at = scenario.clock.now();
            scenario.server.with_store(|store| {
                store.delete(PATIENT, "p-7", at);
                store.delete(OBSERVATION, "o.9", at);
                store.delete(OBSERVATION, "o.3", at);
            });
            scenario.clock.advance(Duration::from_secs(600));
            let unknown = scenario.sync(small_request()).await?;
            assert!(unknown.types.iter().all(|one| one.deletions.is_none()), "{name}: {unknown:?}");
            assert!(scenario.check_equal().await.is_err(), "{name}");
            scenario.clock.advance(Duration::from_secs(600));
            let report = scenario.sync(SyncRequest { reconciles: true, ..small_request() }).await?;
            assert!(report.is_complete, "{name}: {report:?}");
            assert_eq!(report.types.iter().filter_map(|one| one.deletions).sum::<u64>(), 3, "{name}");
            scenario.check_equal().await?;
            // What is known to be deleted is not found again.
            scenario.clock.advance(Duration::from_secs(600));
            let again = scenario.sync(SyncRequest { reconciles: true, ..small_request() }).await?;
            assert_eq!(again.types.iter().filter_map(|one| one.deletions).sum::<u64>(), 0, "{name}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_listing_that_skips_resources_deletes_none() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior { paging: Paging::Offset, largest_page: 2, ..ServerBehavior::default() }).await?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.clock.advance(Duration::from_secs(600));
        let (time, first) = (scenario.clock.clone(), scenario.server.queries().len() as u64);
        // Each deletion moves the later resources to an earlier page.
        scenario.server.change_while_read(move |store, number| {
            if number < first + 24 {
                store.delete(PATIENT, &format!("p-{}", number - first), time.now());
            }
        });
        let report = scenario.sync(SyncRequest { reconciles: true, ..small_request() }).await?;
        assert!(report.is_complete, "{report:?}");
        scenario.server.stop_changes();
        let lake = lake_state_before(scenario.deployment.lake(), Millis(u64::MAX / 2_000_000)).await?;
        let server = scenario.server.with_store(|store| store.state_before(Millis(u64::MAX / 2)));
        assert!(server.keys().all(|(kind, id)| lake.contains_key(&((*kind).to_owned(), id.clone()))), "a resource is missing in the lake");
        Ok(())
    })
}

/// Returns the request of a small synchronization that compares ids.
fn reconciliation() -> SyncRequest {
    SyncRequest { reconciles: true, ..small_request() }
}

/// Creates a lake that equals a server without a history of this number of Patients, of which it has deleted the first ones since.
async fn deleted_patients(behavior: ServerBehavior, patients: u64, deleted: u64) -> Result<Scenario> {
    let scenario = Scenario::new(behavior).await?;
    let start = Millis(scenario.clock.now().0 - 86_400_000);
    scenario.server.with_store(|store| {
        store.versions.clear();
        for number in 0..patients {
            store.put(PATIENT, &format!("p-{number}"), Millis(start.0 + number));
        }
    });
    let whole = SyncRequest { window_resources: 1_000, page_size: 100, ..small_request() };
    assert!(scenario.sync(whole).await?.is_complete);
    let at = scenario.clock.now();
    scenario.server.with_store(|store| (0..deleted).for_each(|number| store.delete(PATIENT, &format!("p-{number}"), at)));
    scenario.clock.advance(Duration::from_secs(600));
    Ok(scenario)
}

/// Returns the number of deletions of a report.
pub(super) fn deletions(report: &SyncReport) -> u64 {
    report.types.iter().filter_map(|one| one.deletions).sum()
}

#[test]
fn a_comparison_asks_for_many_ids_in_one_search() -> Result<()> {
    run(async || {
        let scenario = deleted_patients(ServerBehavior::default(), 300, 250).await?;
        let first = scenario.server.queries().len();
        let report = scenario.sync(SyncRequest { page_size: 100, ..reconciliation() }).await?;
        assert_eq!((report.is_complete, report.deletions(), deletions(&report)), (true, "reconciled", 250), "{report:?}");
        let queries = scenario.server.queries().split_off(first);
        let searches = queries.iter().filter(|query| query.contains("_id=")).count();
        let reads = queries.iter().filter(|query| query.starts_with("Patient/")).count();
        assert_eq!((searches, reads), (3, 3), "98 ids in a search, and a request for one of them: {queries:?}");
        assert!(queries.iter().all(|query| query.len() < 1_700));
        scenario.check_equal().await
    })
}

#[test]
fn a_server_that_does_not_search_lists_of_ids_is_asked_for_each_one() -> Result<()> {
    for id_search in [IdSearch::LastId, IdSearch::OneId, IdSearch::Ignored, IdSearch::Rejected] {
        run(async || {
            let scenario = deleted_patients(ServerBehavior { id_search, ..ServerBehavior::default() }, 260, 230).await?;
            let first = scenario.server.queries().len();
            let report = scenario.sync(SyncRequest { page_size: 100, ..reconciliation() }).await?;
            assert_eq!((report.is_complete, deletions(&report)), (true, 230), "{id_search:?}: {report:?}");
            let queries = scenario.server.queries().split_off(first);
            let reads = queries.iter().filter(|query| query.starts_with("Patient/")).count();
            assert_eq!(reads, 230, "{id_search:?}");
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn a_search_index_that_is_damaged_deletes_nothing() -> Result<()> {
    // Few are asked for one by one, and of many in one search the first one is.
    for patients in [100, 260] {
        run(async || {
            let behavior = ServerBehavior { id_search: IdSearch::DamagedIndex, ..ServerBehavior::default() };
            let scenario = deleted_patients(behavior, patients, 0).await?;
            let report = scenario.sync(SyncRequest { page_size: 100, ..reconciliation() }).await?;
            assert_eq!((report.is_complete, deletions(&report)), (true, 0), "{patients}: {report:?}");
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn a_comparison_continues_where_its_last_attempt_ended() -> Result<()> {
    run(async || {
        let scenario = deleted_patients(ServerBehavior::default(), 80, 40).await?;
        let (clock, first) = (scenario.clock.clone(), scenario.server.queries().len());
        // An attempt has time for six requests. The listing needs fourteen, and each candidate needs one.
        scenario.server.change_while_read(move |_, _| clock.advance(Duration::from_secs(1)));
        let process = scenario.process(FaultInjector::none());
        let job = process.kick_off(reconciliation()).await?;
        process.deliver_all(Some(Duration::from_secs(6))).await?;
        let job = process.complete(&job.id).await?;
        assert_eq!(job.reason, None);
        let report = process.report()?;
        assert_eq!((report.is_complete, deletions(&report)), (true, 40), "{report:?}");
        let mut counts = BTreeMap::<String, usize>::new();
        for query in scenario.server.queries().split_off(first) {
            *counts.entry(query).or_default() += 1;
        }
        let repeated: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(repeated.iter().all(|(query, _)| *query == "metadata"), "{repeated:?}");
        assert_eq!(counts.keys().filter(|query| query.starts_with("Patient/p-")).count(), 40);
        scenario.check_equal().await
    })
}

#[test]
fn a_listing_whose_links_expire_between_two_attempts_starts_anew_and_keeps_what_it_has() -> Result<()> {
    run(async || {
        let behavior = ServerBehavior { paging: Paging::CachedIds, ..ServerBehavior::default() };
        let scenario = deleted_patients(behavior, 60, 20).await?;
        let clock = scenario.clock.clone();
        scenario.server.change_while_read(move |_, _| clock.advance(Duration::from_secs(1)));
        // The first search of the comparison expires after nine pages.
        scenario.server.expire_searches(9, 1);
        let process = scenario.process(FaultInjector::none());
        let job = process.kick_off(reconciliation()).await?;
        process.deliver_all(Some(Duration::from_secs(6))).await?;
        let job = process.complete(&job.id).await?;
        assert_eq!(job.reason, None);
        assert_eq!(deletions(&process.report()?), 20, "{:?}", process.report()?);
        scenario.check_equal().await
    })
}

/// Creates the scenario of the crash tests of a comparison. Each request takes so long that every third one is followed by a checkpoint.
async fn crash_comparison() -> Result<Scenario> {
    set_next_job_number(1);
    let scenario = deleted_patients(ServerBehavior::default(), 16, 6).await?;
    let clock = scenario.clock.clone();
    scenario.server.change_while_read(move |_, _| clock.advance(Duration::from_secs(110)));
    Ok(scenario)
}

#[test]
fn p1_to_p6_a_comparison_survives_a_crash_at_any_call() -> Result<()> {
    let names = check_crashes(crash_comparison, &reconciliation())?;
    assert!(names.len() < 250, "{} calls", names.len());
    Ok(())
}
