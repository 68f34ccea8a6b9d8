//! Synchronizations with servers that show and count no more than some number of resources of a search.

use std::time::Duration;

use headrace_core::job::sync::SyncRequest;
use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_tests::flows::sync::{lake_objects, small_request, watermark};
use headrace_tests::flows::{Fault, FaultInjector, Result, run};
use headrace_tests::standins::fhir_server::{Paging, ServerBehavior, Totals};

use super::sync::{OBSERVATION, PATIENT, Scenario};

/// Returns the request of a synchronization whose windows have more resources than these servers show.
fn large_windows() -> SyncRequest {
    SyncRequest { window_resources: 1_000, page_size: 100, ..small_request() }
}

/// Creates an empty lake, and a server with this number of Patients, each of which changed at this number of milliseconds after the first.
async fn patients(behavior: ServerBehavior, count: u64, millis: impl Fn(u64) -> u64) -> Result<Scenario> {
    let scenario = Scenario::new(behavior).await?;
    let start = scenario.clock.now().0 / 1_000 * 1_000 - 86_400_000;
    scenario.server.with_store(|store| {
        store.versions.clear();
        (0..count).for_each(|number| store.put(PATIENT, &format!("p-{number}"), Millis(start + millis(number))));
    });
    Ok(scenario)
}

#[test]
fn a_window_of_which_the_server_shows_and_counts_a_part_is_read_in_parts() -> Result<()> {
    for (paging, sorts) in [(Paging::Cursor, true), (Paging::Offset, true), (Paging::Offset, false)] {
        run(async || {
            let behavior = ServerBehavior { paging, sorts, caps_at: Some(120), ..ServerBehavior::default() };
            let scenario = patients(behavior, 500, |number| number * 500).await?;
            let report = scenario.sync(large_windows()).await?;
            assert!(report.is_complete, "{report:?}");
            let fetched: u64 = report.types.iter().map(|one| one.resources).sum();
            let repeats: u64 = report.types.iter().map(|one| one.repeats).sum();
            assert!(fetched == 500 && repeats > 0, "{report:?}");
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn more_resources_of_one_second_than_the_server_shows_are_an_error() -> Result<()> {
    run(async || {
        let behavior = ServerBehavior { caps_at: Some(120), ..ServerBehavior::default() };
        let scenario = patients(behavior, 250, |number| if number < 100 { number * 500 } else { 100_000 }).await?;
        let report = scenario.sync(large_windows()).await?;
        let faults: Vec<_> = report.types.iter().flat_map(|one| one.faults.clone()).collect();
        assert!(!report.is_complete && faults.len() == 1, "{report:?}");
        assert!(faults[0].contains("no more than 120 resources") && faults[0].contains("within one second"), "{faults:?}");
        assert_eq!((lake_objects(scenario.deployment.lake()).len(), watermark(scenario.deployment.lake())?), (0, None));
        Ok(())
    })
}

#[test]
fn a_second_that_fills_what_the_server_shows_does_not_hide_what_changed_before_or_after_it() -> Result<()> {
    // The server shows the oldest resources, or those with the first ids, which are the newest ones.
    let is_among_first_ids = |number: u64| number.to_string().as_str() < "2";
    for (paging, second) in [(Paging::Cursor, 0), (Paging::Offset, 500_000)] {
        run(async || {
            let behavior = ServerBehavior { paging, sorts: false, caps_at: Some(100), ..ServerBehavior::default() };
            let millis = |number| if is_among_first_ids(number) { second + number } else { 10_000 + number * 1_000 };
            let scenario = patients(behavior, 250, millis).await?;
            let report = scenario.sync(large_windows()).await?;
            let faults: Vec<_> = report.types.iter().flat_map(|one| one.faults.clone()).collect();
            assert!(!report.is_complete && faults.iter().any(|fault| fault.contains("no more than 100 resources")), "{report:?}");
            assert_eq!((lake_objects(scenario.deployment.lake()).len(), watermark(scenario.deployment.lake())?), (0, None));
            Ok(())
        })?;
    }
    Ok(())
}

/// Synchronizes this number of Patients of one second, and Observations of another one. Checks that the lake is complete, or that nothing is in
/// it. Returns the reasons why something is missing, and the remarks.
async fn sync_one_second(
    behavior: ServerBehavior,
    (patients_of_second, observations): (u64, u64),
    ignores_totals: bool,
) -> Result<(Vec<String>, String)> {
    let scenario = patients(behavior, patients_of_second, |number| number % 1_000).await?;
    let start = scenario.clock.now().0 / 1_000 * 1_000 - 7_200_000;
    scenario.server.with_store(|store| {
        (0..observations).for_each(|number| store.put(OBSERVATION, &format!("o-{number}"), Millis(start + number)));
    });
    let report = scenario.sync(SyncRequest { ignores_totals, ..large_windows() }).await?;
    let faults: Vec<_> = report.types.iter().flat_map(|one| one.faults.clone()).collect();
    assert_eq!(report.is_complete, faults.is_empty(), "{report:?}");
    if report.is_complete {
        scenario.check_equal().await?;
    } else {
        assert_eq!((lake_objects(scenario.deployment.lake()).len(), watermark(scenario.deployment.lake())?), (0, None));
    }
    let remarks: Vec<_> = report.types.iter().filter_map(|one| one.remark.as_deref()).collect();
    Ok((faults, remarks.join("; ")))
}

#[test]
fn a_number_of_resources_of_one_second_that_may_be_a_limit_of_the_server_is_refused_unless_the_operator_accepts_it() -> Result<()> {
    for totals in [Totals::Exact, Totals::Rejected] {
        for (count, is_refused) in [(99, false), (100, true), (128, true), (101, false), (150, true)] {
            run(async || {
                let behavior = || ServerBehavior { totals, ..ServerBehavior::default() };
                let (faults, _) = sync_one_second(behavior(), (count, 0), false).await?;
                let words = format!("perhaps incomplete: {count} resources changed within one second");
                assert_eq!(faults.len(), usize::from(is_refused), "{count}, {totals:?}: {faults:?}");
                assert!(faults.iter().all(|fault| fault.contains(&words) && fault.contains("--ignore-totals")), "{faults:?}");
                let (faults, remarks) = sync_one_second(behavior(), (count, 0), true).await?;
                assert!(
                    faults.is_empty() && remarks.contains("whether it has more cannot be seen") == (count > 99),
                    "{faults:?}: {remarks}"
                );
                Ok(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn a_search_with_more_resources_shows_that_the_number_of_one_second_is_no_limit() -> Result<()> {
    run(async || {
        // The server counts more of another type.
        let (faults, remarks) = sync_one_second(ServerBehavior::default(), (100, 101), false).await?;
        assert!(faults.is_empty() && !remarks.contains("within one second"), "{faults:?}: {remarks}");
        // The type has more, which changed earlier.
        for totals in [Totals::Exact, Totals::Rejected] {
            let scenario = patients(ServerBehavior { totals, ..ServerBehavior::default() }, 101, |number| number * 500).await?;
            assert!(scenario.sync(large_windows()).await?.is_complete);
            scenario.clock.advance(Duration::from_secs(600));
            let at = scenario.clock.now().0 / 1_000 * 1_000;
            scenario.server.with_store(|store| {
                (0..100).for_each(|number| store.put(PATIENT, &format!("new-{number}"), Millis(at + number)));
            });
            scenario.clock.advance(Duration::from_secs(600));
            let report = scenario.sync(large_windows()).await?;
            let remarks: Vec<_> = report.types.iter().filter_map(|one| one.remark.as_deref()).collect();
            assert!(report.is_complete && !remarks.join(" ").contains("within one second"), "{totals:?}: {report:?}");
            scenario.check_equal().await?;
        }
        Ok(())
    })
}

#[test]
fn a_limit_that_is_no_usual_number_shows_itself_in_another_order() -> Result<()> {
    for (caps_at, totals) in [(120, Totals::Exact), (120, Totals::Rejected), (100, Totals::Exact)] {
        run(async || {
            let behavior = ServerBehavior { caps_at: Some(caps_at), totals, ..ServerBehavior::default() };
            let (faults, _) = sync_one_second(behavior, (250, 0), false).await?;
            assert!(faults.len() == 1 && faults[0].contains("other ones in another order"), "{faults:?}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_server_that_shows_a_part_of_a_window_and_counts_nothing_is_read_in_parts() -> Result<()> {
    for (paging, sorts) in [(Paging::Cursor, true), (Paging::Offset, false)] {
        run(async || {
            let behavior = ServerBehavior { paging, sorts, caps_at: Some(120), totals: Totals::Rejected, ..ServerBehavior::default() };
            let scenario = patients(behavior, 500, |number| number * 500).await?;
            let report = scenario.sync(large_windows()).await?;
            assert!(report.is_complete, "{report:?}");
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn a_limit_that_has_shown_itself_is_known_to_the_next_attempt() -> Result<()> {
    run(async || {
        // Neither another order nor the number says that the second has more than the server shows.
        let behavior = ServerBehavior { paging: Paging::Offset, sorts: false, caps_at: Some(117), ..ServerBehavior::default() };
        let scenario = patients(behavior, 350, |number| if number < 100 { number * 500 } else { 100_000 }).await?;
        // The process ends after it has recorded the part before the second.
        let mut commits = 0;
        let faults = FaultInjector::new(move |call| {
            commits += usize::from(call.name.starts_with("writer.commit"));
            if call.name == "origin.get" && commits >= 3 { Fault::CrashBefore } else { Fault::None }
        });
        let process = scenario.process(faults.clone());
        let job = process.kick_off(large_windows()).await?;
        assert!(Box::pin(faults.until_crash(process.complete(&job.id))).await.is_none());
        let next = scenario.process(FaultInjector::none());
        next.recover().await?;
        next.complete(&job.id).await?;
        let faults: Vec<_> = next.report()?.types.iter().flat_map(|one| one.faults.clone()).collect();
        assert!(faults.len() == 1 && faults[0].contains("no more than 117 resources"), "{faults:?}");
        Ok(())
    })
}

#[test]
fn windows_follow_a_second_that_has_as_many_resources_as_the_server_counts() -> Result<()> {
    run(async || {
        let behavior = ServerBehavior { caps_at: Some(100), ..ServerBehavior::default() };
        let scenario = patients(behavior, 150, |number| if number < 100 { number } else { number * 1_000 }).await?;
        let report = scenario.sync(SyncRequest { window_resources: 50, ..large_windows() }).await?;
        // Whether the second has more cannot be seen. All other windows are read.
        let faults: Vec<_> = report.types.iter().flat_map(|one| one.faults.clone()).collect();
        assert!(faults.len() == 1 && faults[0].contains("100 resources changed within one second"), "{report:?}");
        assert_eq!(report.types.iter().map(|one| one.resources).sum::<u64>(), 50, "{report:?}");
        Ok(())
    })
}

#[test]
fn a_window_of_100_resources_or_more_costs_two_counts_unless_totals_are_ignored() -> Result<()> {
    run(async || {
        let mut counts = Vec::new();
        for (count, ignores_totals) in [(99, false), (100, false), (100, true)] {
            let scenario = patients(ServerBehavior::default(), count, |number| number * 500).await?;
            let report = scenario.sync(SyncRequest { ignores_totals, ..large_windows() }).await?;
            assert!(report.is_complete && report.types.iter().all(|one| one.repeats == 0), "{report:?}");
            let is_count = |query: &&String| query.starts_with("Patient?") && query.contains("_summary=count");
            counts.push(scenario.server.queries().iter().filter(is_count).count());
            scenario.check_equal().await?;
        }
        assert_eq!((counts[1], counts[2]), (counts[0] + 2, 0));
        Ok(())
    })
}
