//! Synchronizations whose process crashes, whose attempts end, and whose tasks run twice.

use std::collections::BTreeMap;
use std::time::Duration;

use headrace_core::job::sync::SyncRequest;
use headrace_core::lake::sync_report::SyncReport;
use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_tests::flows::sync::{SyncProcess, lake_objects, small_request};
use headrace_tests::flows::{Fault, FaultInjector, Result, run, set_next_job_number};
use headrace_tests::standins::fhir_server::{Paging, ServerBehavior, Totals};

use super::sync::{OBSERVATION, PATIENT, Scenario};

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
pub(super) fn check_crashes(scenario: impl AsyncFn() -> Result<Scenario> + Sync, request: &SyncRequest) -> Result<Vec<&'static str>> {
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
                // The same command again: it continues the synchronization, and the next one finds nothing to do.
                let next = scenario.process(FaultInjector::none());
                next.recover().await?;
                for job in next.jobs().await?.into_iter().filter(|job| job.state.is_open()) {
                    next.complete(&job.id).await?;
                }
                run_lifecycle(&next, request).await?;
            }
            // Another synchronization would hide that the one with the fault has failed.
            for job in process.jobs().await? {
                assert_eq!(job.reason, None, "call {number} {fault:?}");
            }
            scenario.check_equal().await.map_err(|error| format!("call {number} {fault:?}: {error}").into())
        })?;
    }
    Ok(names)
}

#[test]
fn p1_to_p6_a_synchronization_survives_a_crash_at_any_call() -> Result<()> {
    let names = check_crashes(crash_scenario, &SyncRequest { window_resources: 3, ..small_request() })?;
    assert!(names.len() < 240, "{} calls", names.len());
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
