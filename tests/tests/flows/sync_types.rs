//! Types that come to a lake late, or that the server does not offer any more, and the words for the deletions that were found.

use std::fs;
use std::time::Duration;

use headrace_core::job::sync::SyncRequest;
use headrace_core::lake::sync_report::{SyncReport, TypeReport};
use headrace_core::ports::Clock as _;
use headrace_fhir::definitions::ResourceType;
use headrace_tests::flows::sync::{small_request, watermark};
use headrace_tests::flows::{Result, run};
use headrace_tests::standins::fhir_server::ServerBehavior;
use serde_json::Value;

use super::sync::{OBSERVATION, PATIENT, Scenario};

/// Returns the request for Patients only.
fn only_patients() -> SyncRequest {
    SyncRequest { types: Some([ResourceType::PATIENT].into()), ..small_request() }
}

/// Returns the report of a type.
fn report_of<'r>(report: &'r SyncReport, kind: &str) -> Result<&'r TypeReport> {
    Ok(report.types.iter().find(|one| one.resource_type.as_str() == kind).ok_or("the type is not in the report")?)
}

/// Reads the watermark object of the lake.
fn watermark_json(scenario: &Scenario) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(scenario.deployment.lake().join("_headrace/watermark.json"))?)?)
}

#[test]
fn resources_of_a_new_type_and_of_a_full_run_are_counted_as_late() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let first = scenario.sync(only_patients()).await?;
        assert_eq!((first.previous_watermark.as_ref(), report_of(&first, PATIENT)?.late_changes), (None, 0));
        scenario.change();
        // All Observations but the one that has just changed.
        let report = scenario.sync(small_request()).await?;
        assert_eq!(report.previous_watermark, Some(first.complete_up_to));
        assert_eq!((report_of(&report, PATIENT)?.late_changes, report_of(&report, OBSERVATION)?.late_changes), (0, 39), "{report:?}");
        let json = serde_json::to_value(report_of(&report, OBSERVATION)?)?;
        assert_eq!(json["lateChanges"], 39, "{json}");
        scenario.clock.advance(Duration::from_secs(600));
        let increment = scenario.sync(small_request()).await?;
        assert!(increment.types.iter().all(|one| one.late_changes == 0), "{increment:?}");
        let full = scenario.sync(SyncRequest { is_full: true, ..small_request() }).await?;
        assert_eq!((report_of(&full, PATIENT)?.late_changes, report_of(&full, OBSERVATION)?.late_changes), (41, 40), "{full:?}");
        Ok(())
    })
}

#[test]
fn a_server_without_a_search_by_time_has_late_resources_only_the_first_time() -> Result<()> {
    run(async || {
        let behavior = ServerBehavior { searches_by_time: false, names_last_updated: false, ..ServerBehavior::default() };
        let scenario = Scenario::new(behavior).await?;
        assert!(scenario.sync(only_patients()).await?.is_complete);
        for late in [40, 0] {
            scenario.clock.advance(Duration::from_secs(600));
            let report = scenario.sync(small_request()).await?;
            assert_eq!((report_of(&report, PATIENT)?.late_changes, report_of(&report, OBSERVATION)?.late_changes), (0, late), "{report:?}");
        }
        Ok(())
    })
}

#[test]
fn a_lake_goes_on_without_a_type_that_the_server_does_not_offer_any_more_and_takes_it_up_again() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior { has_history: true, ..ServerBehavior::default() }).await?;
        let first = scenario.sync(small_request()).await?;
        assert!(first.is_complete);
        scenario.server.unlist(Some(OBSERVATION));
        scenario.change();
        let at = scenario.clock.now();
        scenario.server.with_store(|store| store.delete(OBSERVATION, "o.5", at));
        scenario.clock.advance(Duration::from_secs(600));
        // Only the operator can decide that the watermark does not hold for all types.
        let (before, blocked) = (watermark(scenario.deployment.lake())?, scenario.sync(small_request()).await?);
        let faults = report_of(&blocked, OBSERVATION)?.faults.join(" ");
        assert!(!blocked.is_complete && faults.contains("name all other types once (--type"), "{blocked:?}");
        assert_eq!(watermark(scenario.deployment.lake())?, before);
        // The way out, and the runs after it.
        for request in [only_patients(), small_request()] {
            let report = scenario.sync(request).await?;
            let remark = report_of(&report, OBSERVATION)?.remark.clone().unwrap_or_default();
            assert!(report.is_complete && remark.contains(&format!("as of {}", first.complete_up_to)), "{report:?}");
            let json = watermark_json(&scenario)?;
            assert_eq!(
                (&json["types"], &json["leftTypes"][OBSERVATION]),
                (&serde_json::json!([PATIENT]), &first.complete_up_to.clone().into())
            );
            scenario.clock.advance(Duration::from_secs(600));
        }
        assert!(watermark(scenario.deployment.lake())? > before);
        // It is fetched from where it was left, with its deletions.
        scenario.server.unlist(None);
        let report = scenario.sync(small_request()).await?;
        let observations = report_of(&report, OBSERVATION)?;
        assert_eq!((report.is_complete, observations.resources, observations.late_changes, observations.deletions), (true, 1, 1, Some(1)));
        assert_eq!(watermark_json(&scenario)?["leftTypes"], Value::Null);
        scenario.check_equal().await
    })
}

#[test]
fn a_type_that_is_left_out_keeps_the_moment_up_to_which_its_deletions_are_known() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior { has_history: true, ..ServerBehavior::default() }).await?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.clock.advance(Duration::from_secs(600));
        let at = scenario.clock.now();
        scenario.server.with_store(|store| store.delete(OBSERVATION, "o.5", at));
        scenario.clock.advance(Duration::from_secs(600));
        // The deletion is not found, and then the type goes.
        scenario.server.reject_histories(true);
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.server.reject_histories(false);
        scenario.server.unlist(Some(OBSERVATION));
        let known_up_to = watermark_json(&scenario)?["deletionsKnownUpTo"][OBSERVATION].clone();
        assert!(known_up_to.is_string());
        for request in [only_patients(), small_request()] {
            scenario.clock.advance(Duration::from_secs(600));
            assert!(scenario.sync(request).await?.is_complete);
            let json = watermark_json(&scenario)?;
            assert_eq!(json["deletionsKnownUpTo"], serde_json::json!({ OBSERVATION: known_up_to }), "{json}");
        }
        scenario.server.unlist(None);
        scenario.clock.advance(Duration::from_secs(600));
        let report = scenario.sync(small_request()).await?;
        let observations = report_of(&report, OBSERVATION)?;
        assert_eq!((observations.deletions, observations.late_deletions), (Some(1), 1), "{report:?}");
        assert_eq!(watermark_json(&scenario)?["deletionsKnownUpTo"], Value::Null);
        scenario.check_equal().await
    })
}

#[test]
fn the_watermark_says_that_deletions_were_found_by_a_comparison() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.clock.advance(Duration::from_secs(600));
        let at = scenario.clock.now();
        scenario.server.with_store(|store| store.delete(PATIENT, "p-7", at));
        scenario.clock.advance(Duration::from_secs(600));
        assert!(scenario.sync(SyncRequest { reconciles: true, ..small_request() }).await?.is_complete);
        assert_eq!(watermark_json(&scenario)?["deletions"], "reconciled");
        Ok(())
    })
}
