//! Synchronizations with servers that show and count no more than some number of resources of a search.

use headrace_core::job::sync::SyncRequest;
use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_tests::flows::sync::{lake_objects, small_request, watermark};
use headrace_tests::flows::{Result, run};
use headrace_tests::standins::fhir_server::{Paging, ServerBehavior};

use super::sync::{PATIENT, Scenario};

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

#[test]
fn a_number_of_resources_of_one_second_that_may_be_a_limit_of_the_server_is_a_remark() -> Result<()> {
    for (count, is_remarked) in [(99, false), (100, true), (101, false), (150, true)] {
        run(async || {
            let scenario = patients(ServerBehavior::default(), count, |number| number).await?;
            let report = scenario.sync(large_windows()).await?;
            let remarks: Vec<_> = report.types.iter().filter_map(|one| one.remark.as_deref()).collect();
            let has_remark = remarks.iter().any(|remark| remark.contains("within one second"));
            assert!(report.is_complete && has_remark == is_remarked, "{count}: {report:?}");
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn windows_follow_a_second_that_has_as_many_resources_as_the_server_counts() -> Result<()> {
    run(async || {
        let behavior = ServerBehavior { caps_at: Some(100), ..ServerBehavior::default() };
        let scenario = patients(behavior, 150, |number| if number < 100 { number } else { number * 1_000 }).await?;
        let report = scenario.sync(SyncRequest { window_resources: 50, ..large_windows() }).await?;
        assert!(report.is_complete, "{report:?}");
        assert_eq!(report.types.iter().map(|one| one.resources).sum::<u64>(), 150, "{report:?}");
        scenario.check_equal().await
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
