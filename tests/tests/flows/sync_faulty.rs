//! Synchronizations with servers that are wrong, incomplete or hostile: nothing of them becomes visible.

use std::time::Duration;

use headrace_core::job::sync::SyncRequest;
use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_fhir::definitions::ResourceType;
use headrace_tests::flows::sync::{lake_objects, small_request, watermark};
use headrace_tests::flows::{FaultInjector, Result, run};
use headrace_tests::standins::fhir_server::{HostileBehavior, ServerBehavior, Totals};

use super::sync::{PATIENT, Scenario, deletions};

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
fn endless_pages_of_new_resources_end_also_without_totals() -> Result<()> {
    run(async || {
        let hostile_behavior = Some(HostileBehavior::EndlessPages);
        let scenario = Scenario::new(ServerBehavior { hostile_behavior, totals: Totals::Rejected, ..ServerBehavior::default() }).await?;
        let mut process = scenario.process(FaultInjector::none());
        process.settings.max_window_resources = 200;
        let report = process.run(small_request()).await?;
        let faults: Vec<_> = report.types.iter().flat_map(|one| one.faults.clone()).collect();
        assert!(!report.is_complete && faults.iter().all(|fault| fault.contains("more than 200 resources")), "{faults:?}");
        assert_eq!((lake_objects(scenario.deployment.lake()).len(), watermark(scenario.deployment.lake())?), (0, None));
        Ok(())
    })
}

#[test]
fn a_history_that_does_not_fit_into_memory_leaves_deletions_unknown_until_one_does() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior { has_history: true, ..ServerBehavior::default() }).await?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.clock.advance(Duration::from_secs(600));
        let at = scenario.clock.now();
        scenario.server.with_store(|store| {
            store.delete(PATIENT, "p-0", at);
            (1..30).for_each(|number| store.put(PATIENT, &format!("p-{number}"), Millis(at.0 + number * 1_000)));
        });
        scenario.clock.advance(Duration::from_secs(600));
        let mut process = scenario.process(FaultInjector::none());
        process.settings.max_window_resources = 40;
        let report = process.run(small_request()).await?;
        let patients = report.types.iter().find(|one| one.resource_type == ResourceType::PATIENT).ok_or("no Patients")?;
        let remark = patients.remark.clone().unwrap_or_default();
        assert!(report.is_complete && patients.deletions.is_none(), "{report:?}");
        assert!(remark.contains("more than 20 resources") && remark.contains("--reconcile"), "{remark}");
        scenario.clock.advance(Duration::from_secs(600));
        let report = scenario.sync(small_request()).await?;
        assert_eq!(deletions(&report), 1, "{report:?}");
        scenario.check_equal().await
    })
}

#[test]
fn versions_of_a_history_that_do_not_fit_into_memory_leave_deletions_unknown_and_are_told() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior { has_history: true, ..ServerBehavior::default() }).await?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.clock.advance(Duration::from_secs(600));
        // Nine resources change within the window and again after it, so that the history has the version between.
        for _ in 0..2 {
            let at = scenario.clock.now();
            scenario.server.with_store(|store| (0..9).for_each(|number| store.put(PATIENT, &format!("p-{number}"), Millis(at.0 + number))));
            scenario.clock.advance(Duration::from_secs(600));
        }
        let mut process = scenario.process(FaultInjector::none());
        process.settings.max_window_resources = 40;
        let report = process.run(SyncRequest { lag_seconds: 900, ..small_request() }).await?;
        let patients = report.types.iter().find(|one| one.resource_type == ResourceType::PATIENT).ok_or("no Patients")?;
        let remark = patients.remark.clone().unwrap_or_default();
        assert!(report.is_complete && patients.deletions.is_none(), "{report:?}");
        assert!(remark.contains("more than 1000 bytes of versions") && remark.contains("--reconcile"), "{remark}");
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.check_equal().await
    })
}

#[test]
fn a_window_without_a_total_that_does_not_fit_into_memory_is_divided_by_time() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior { totals: Totals::Rejected, ..ServerBehavior::default() }).await?;
        let mut process = scenario.process(FaultInjector::none());
        process.settings.max_window_resources = 20;
        let report = process.run(SyncRequest { window_resources: 1_000, ..small_request() }).await?;
        assert!(report.is_complete && report.types.iter().filter(|one| one.is_covered).all(|one| one.windows > 1), "{report:?}");
        scenario.check_equal().await
    })
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
