//! Synchronizations with servers that have a history: long ones, changes within the lag, and deletions.

use std::collections::BTreeSet;
use std::time::Duration;

use headrace_core::job::sync::SyncRequest;
use headrace_core::lake::sync_report::{SyncReport, TypeReport};
use headrace_core::lake::watermark::WATERMARK_OBJECT;
use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_fhir::definitions::ResourceType;
use headrace_tests::flows::sync::{lake_lines, small_request};
use headrace_tests::flows::{FaultInjector, Result, run};
use headrace_tests::standins::fhir_server::{HistoryForm, ServerBehavior};
use proptest::prelude::*;

use super::sync::{OBSERVATION, PATIENT, Scenario, deletions, known_servers};
use super::sync_busy::DEMANDED_PAUSE;
use super::sync_changes::ongoing_change;

/// Returns the behavior of a server with a history.
fn with_history() -> ServerBehavior {
    ServerBehavior { has_history: true, ..ServerBehavior::default() }
}

/// Returns the report of the Patients.
fn patients(report: &SyncReport) -> Result<TypeReport> {
    Ok(report.types.iter().find(|one| one.resource_type == ResourceType::PATIENT).ok_or("no Patients")?.clone())
}

/// Creates a lake that equals a server, which has changed a Patient 80 times since, and has deleted another. So the window is small, and
/// the history has 27 pages.
async fn long_history(behavior: ServerBehavior) -> Result<Scenario> {
    let scenario = Scenario::new(behavior).await?;
    let process = scenario.process(FaultInjector::none());
    let job = process.kick_off(SyncRequest { window_resources: 1_000, page_size: 100, ..small_request() }).await?;
    assert_eq!(process.complete_in_steps(&job.id, None, DEMANDED_PAUSE / 6).await?.reason, None);
    scenario.clock.advance(Duration::from_secs(600));
    let start = scenario.clock.now();
    scenario.server.with_store(|store| {
        store.delete(PATIENT, "p-2", start);
        (0..80).for_each(|number| store.put(PATIENT, "p-1", Millis(start.0 + number * 1_000)));
    });
    scenario.clock.advance(Duration::from_secs(600));
    Ok(scenario)
}

/// Returns true for a request for a page of the history of all Patients.
fn is_history_page(query: &str) -> bool {
    query.contains("Patient/_history?")
}

#[test]
fn a_history_that_is_longer_than_an_attempt_continues_at_its_next_page() -> Result<()> {
    // Attempts end with their time after six requests, or with each tenth request, because the server demands a long pause.
    for (stop_after, busy_every) in [(Some(Duration::from_secs(6)), None), (None, Some(10))] {
        run(async || {
            let scenario = long_history(ServerBehavior { busy_every, retry_after: DEMANDED_PAUSE, ..with_history() }).await?;
            let (clock, first) = (scenario.clock.clone(), scenario.server.queries().len());
            scenario.server.change_while_read(move |_, _| clock.advance(Duration::from_secs(1)));
            let process = scenario.process(FaultInjector::none());
            let job = process.kick_off(small_request()).await?;
            let job = process.complete_in_steps(&job.id, stop_after, DEMANDED_PAUSE / 6).await?;
            assert_eq!(job.reason, None);
            let report = process.report()?;
            assert_eq!((report.is_complete, report.deletions(), deletions(&report)), (true, "history", 1), "{report:?}");
            let answered = (1_u64..).zip(scenario.server.queries()).skip(first);
            let answered = answered.filter(|(number, _)| busy_every.is_none_or(|every| !number.is_multiple_of(every)));
            let pages: Vec<String> = answered.map(|(_, query)| query).filter(|query| is_history_page(query)).collect();
            let different: BTreeSet<&String> = pages.iter().collect();
            assert_eq!((pages.len(), different.len()), (27, 27), "each page is read once: {pages:?}");
            let names = process.faults.call_names();
            let count = |name: &str| names.iter().filter(|call| **call == name).count();
            // Attempts at the history have ended before the task was complete.
            assert!(count("tasks.lease_task") >= count("tasks.complete_task") + 2, "an attempt has read more than it had time for");
            scenario.server.stop_changes();
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn a_history_whose_links_expire_starts_anew_a_limited_number_of_times() -> Result<()> {
    for (expired, is_known) in [(1, true), (5, true), (100, false)] {
        run(async || {
            let scenario = long_history(with_history()).await?;
            let first = scenario.server.queries().len();
            scenario.server.expire_history_links(expired);
            let report = scenario.sync(small_request()).await?;
            let known = if is_known { "history" } else { "unknown" };
            assert_eq!((report.is_complete, report.deletions()), (true, known), "{expired}: {report:?}");
            let queries = scenario.server.queries().split_off(first);
            let starts = queries.iter().filter(|query| is_history_page(query) && !query.contains("page=")).count();
            assert_eq!(starts, 1 + usize::try_from(expired.min(5))?, "{expired}");
            if is_known {
                return scenario.check_equal().await;
            }
            let remark = patients(&report)?.remark.unwrap_or_default();
            assert!(remark.contains("the history of the type cannot be used") && remark.contains("410"), "{remark}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn resources_that_change_within_the_lag_have_their_version_of_the_watermark() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(with_history()).await?;
        for _ in 0..2 {
            let now = scenario.clock.now().0;
            scenario.server.with_store(|store| {
                // The version before that of the lag is in the window, or in the lake already.
                store.put(PATIENT, "p-window", Millis(now - 90_000));
                store.put(PATIENT, "p-window", Millis(now - 20_000));
                store.put(PATIENT, "p-1", Millis(now - 20_000));
                store.delete(OBSERVATION, "o.3", Millis(now - 10_000));
                store.put(PATIENT, "p-lag", Millis(now - 5_000));
            });
            let clock = scenario.clock.clone();
            scenario.server.change_while_read(move |store, number| {
                if number.is_multiple_of(5) {
                    store.put(OBSERVATION, &format!("o.{}", number % 40), clock.now());
                }
            });
            let report = scenario.sync(small_request()).await?;
            assert_eq!((report.is_complete, report.deletions()), (true, "history"), "{report:?}");
            scenario.server.stop_changes();
            scenario.check_equal().await?;
            scenario.clock.advance(Duration::from_secs(600));
        }
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Checks that the lake equals a server with a history at the watermark if the report says so, whatever changes within the lag before and
    /// during the run.
    #[test]
    fn the_lake_equals_a_server_that_changes_within_the_lag(seed in any::<u64>(), server in 0_usize..9) {
        let (name, behavior) = known_servers().swap_remove(server);
        let outcome = run(async || {
            let scenario = Scenario::new(ServerBehavior { has_history: true, ..behavior.clone() }).await?;
            for is_changed_while_read in [false, true, false] {
                let clock = scenario.clock.clone();
                let mut change = ongoing_change(clock.clone(), seed);
                scenario.server.with_store(|store| {
                    for number in 0..40 {
                        change(store, number);
                        if number % 9 == 0 {
                            store.delete(PATIENT, &format!("p-{}", (number ^ seed) % 40), clock.now());
                        }
                    }
                });
                if is_changed_while_read {
                    scenario.server.change_while_read(change);
                }
                let report = scenario.sync(small_request()).await?;
                assert!(report.is_complete || is_changed_while_read, "{name}: {report:?}");
                scenario.server.stop_changes();
                if report.is_complete && report.deletions() == "history" {
                    scenario.check_equal().await?;
                }
                scenario.clock.advance(Duration::from_secs(120));
            }
            Ok(())
        });
        prop_assert!(outcome.is_ok(), "{}: {:?}", name, outcome.err());
    }
}

#[test]
fn versions_that_the_server_does_not_show_are_a_remark() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior { has_instance_history: false, ..with_history() }).await?;
        let now = scenario.clock.now();
        scenario.server.with_store(|store| store.put(PATIENT, "p-1", Millis(now.0 - 20_000)));
        let report = scenario.sync(small_request()).await?;
        assert!(report.is_complete, "{report:?}");
        let remark = patients(&report)?.remark.unwrap_or_default();
        assert!(remark.contains("1 resource changed during the synchronization") && remark.contains("the next one"), "{remark}");
        scenario.clock.advance(Duration::from_secs(600));
        assert_eq!(patients(&scenario.sync(small_request()).await?)?.remark, None);
        scenario.check_equal().await
    })
}

#[test]
fn a_full_synchronization_finds_what_was_deleted_since_the_last_one() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(with_history()).await?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.change();
        let at = scenario.clock.now();
        scenario.server.with_store(|store| store.delete(PATIENT, "p-2", at));
        scenario.clock.advance(Duration::from_secs(600));
        let report = scenario.sync(SyncRequest { is_full: true, ..small_request() }).await?;
        assert_eq!((report.is_complete, deletions(&report), patients(&report)?.late_deletions), (true, 1, 0), "{report:?}");
        scenario.check_equal().await
    })
}

#[test]
fn an_empty_lake_has_the_deletions_since_the_moment_that_is_requested() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(with_history()).await?;
        let now = scenario.clock.now().0;
        scenario.server.with_store(|store| {
            store.delete(PATIENT, "p-2", Millis(now - 7_200_000));
            store.delete(PATIENT, "p-3", Millis(now - 3_600_000));
        });
        let request = SyncRequest { deletions_since: Some(Millis(now - 5_400_000)), ..small_request() };
        let report = scenario.sync(request).await?;
        assert_eq!((report.is_complete, deletions(&report)), (true, 1), "{report:?}");
        let lines = lake_lines(scenario.deployment.lake()).await?;
        let deleted: Vec<_> = lines.iter().filter(|line| line.contains("DELETE")).collect();
        assert!(deleted.len() == 1 && deleted[0].contains("Patient/p-3"), "{deleted:?}");
        scenario.check_equal().await
    })
}

#[test]
fn other_forms_of_deletions_are_found_and_what_may_be_one_makes_the_deletions_unknown() -> Result<()> {
    for (history_form, problem) in [
        (HistoryForm::LowerCase, None),
        (HistoryForm::Statuses, None),
        (HistoryForm::Unclear, Some("it may be a deletion")),
        (HistoryForm::TotalAlone, Some("states 1 event")),
    ] {
        run(async || {
            let scenario = Scenario::new(ServerBehavior { history_form, ..with_history() }).await?;
            assert!(scenario.sync(small_request()).await?.is_complete);
            scenario.clock.advance(Duration::from_secs(600));
            let at = scenario.clock.now();
            scenario.server.with_store(|store| store.delete(PATIENT, "p-2", at));
            scenario.clock.advance(Duration::from_secs(600));
            let patients = patients(&scenario.sync(small_request()).await?)?;
            let Some(problem) = problem else {
                assert_eq!(patients.deletions, Some(1), "{history_form:?}");
                return scenario.check_equal().await;
            };
            let remark = patients.remark.unwrap_or_default();
            assert!(patients.deletions.is_none() && remark.contains(problem), "{history_form:?}: {remark}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Creates a lake that equals a server, and deletes a Patient afterwards. Then a synchronization cannot read the history.
async fn unread_history() -> Result<Scenario> {
    let scenario = Scenario::new(with_history()).await?;
    assert!(scenario.sync(small_request()).await?.is_complete);
    scenario.clock.advance(Duration::from_secs(600));
    let at = scenario.clock.now();
    scenario.server.with_store(|store| store.delete(PATIENT, "p-2", at));
    scenario.server.reject_histories(true);
    scenario.clock.advance(Duration::from_secs(600));
    let report = scenario.sync(small_request()).await?;
    assert_eq!((report.is_complete, report.deletions()), (true, "unknown"), "{report:?}");
    scenario.clock.advance(Duration::from_secs(600));
    Ok(scenario)
}

/// Returns the watermark object of the lake.
fn watermark_text(scenario: &Scenario) -> Result<String> {
    Ok(std::fs::read_to_string(scenario.deployment.lake().join(WATERMARK_OBJECT))?)
}

#[test]
fn the_deletions_of_a_history_that_could_not_be_read_are_found_by_a_later_one() -> Result<()> {
    run(async || {
        let scenario = unread_history().await?;
        // They stay unknown, from the same moment on.
        let report = scenario.sync(small_request()).await?;
        assert_eq!((report.is_complete, report.deletions()), (true, "unknown"), "{report:?}");
        assert!(watermark_text(&scenario)?.contains("deletionsKnownUpTo"));
        scenario.server.reject_histories(false);
        scenario.clock.advance(Duration::from_secs(600));
        let report = scenario.sync(small_request()).await?;
        assert_eq!((report.is_complete, report.deletions(), deletions(&report)), (true, "history", 1), "{report:?}");
        // Increments of clients have passed its time.
        assert_eq!(patients(&report)?.late_deletions, 1, "{report:?}");
        assert_eq!(serde_json::to_value(patients(&report)?)?["lateDeletions"], 1);
        assert!(!watermark_text(&scenario)?.contains("deletionsKnownUpTo"));
        scenario.check_equal().await
    })
}

#[test]
fn a_later_history_shows_what_the_first_windows_lack() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(with_history()).await?;
        let now = scenario.clock.now();
        // Within the lag, so that no window has the version before.
        scenario.server.with_store(|store| store.put(PATIENT, "p-1", Millis(now.0 - 20_000)));
        scenario.server.reject_histories(true);
        let report = scenario.sync(small_request()).await?;
        assert_eq!((report.is_complete, report.deletions()), (true, "unknown"), "{report:?}");
        scenario.server.reject_histories(false);
        scenario.clock.advance(Duration::from_secs(2));
        let report = scenario.sync(small_request()).await?;
        assert_eq!((report.is_complete, report.deletions()), (true, "history"), "{report:?}");
        scenario.check_equal().await
    })
}

#[test]
fn a_comparison_of_ids_repairs_a_lake_whose_history_cannot_be_read() -> Result<()> {
    run(async || {
        let scenario = unread_history().await?;
        let report = scenario.sync(SyncRequest { reconciles: true, ..small_request() }).await?;
        assert_eq!((report.is_complete, report.deletions(), deletions(&report)), (true, "reconciled", 1), "{report:?}");
        // The deletion has the time of this run, so that increments have it.
        assert_eq!(patients(&report)?.late_deletions, 0);
        scenario.check_equal().await
    })
}

#[test]
fn a_lake_whose_watermark_is_lost_gets_the_deletions_of_the_whole_history() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(with_history()).await?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        std::fs::remove_file(scenario.deployment.lake().join(WATERMARK_OBJECT))?;
        scenario.clock.advance(Duration::from_secs(600));
        let at = scenario.clock.now();
        scenario.server.with_store(|store| store.delete(PATIENT, "p-2", at));
        scenario.clock.advance(Duration::from_secs(600));
        let report = scenario.sync(small_request()).await?;
        assert_eq!((report.is_complete, report.deletions(), deletions(&report)), (true, "history", 1), "{report:?}");
        scenario.check_equal().await
    })
}

#[test]
fn events_of_the_same_second_leave_the_lake_as_the_server_is() -> Result<()> {
    // Each server has deleted a Patient within the second of its version, and created another one again within the second of its deletion.
    for (history_form, millis) in [(HistoryForm::Usual, 0), (HistoryForm::SecondsOfDeletions, 300)] {
        run(async || {
            let scenario = Scenario::new(ServerBehavior { history_form, ..with_history() }).await?;
            assert!(scenario.sync(small_request()).await?.is_complete);
            scenario.clock.advance(Duration::from_secs(600));
            let second = scenario.clock.now().0 / 1_000 * 1_000;
            scenario.server.with_store(|store| {
                store.put(PATIENT, "p-deleted", Millis(second + millis));
                store.delete(PATIENT, "p-deleted", Millis(second + millis));
                store.delete(PATIENT, "p-2", Millis(second + millis));
                store.put(PATIENT, "p-2", Millis(second + millis));
                store.delete(PATIENT, "p-3", Millis(second + millis));
            });
            scenario.clock.advance(Duration::from_secs(600));
            let report = scenario.sync(small_request()).await?;
            assert_eq!((report.is_complete, report.deletions(), deletions(&report)), (true, "history", 2), "{history_form:?}: {report:?}");
            let asked: Vec<_> = scenario.server.queries().into_iter().filter(|query| query.starts_with("Patient/p-")).collect();
            assert_eq!(asked, ["Patient/p-2", "Patient/p-deleted"]);
            let lines = lake_lines(scenario.deployment.lake()).await?;
            assert!(lines.iter().any(|line| line.contains("DELETE") && line.contains("Patient/p-deleted")), "{history_form:?}");
            assert!(!lines.iter().any(|line| line.contains("DELETE") && line.contains("Patient/p-2\"")), "{history_form:?}");
            scenario.check_equal().await
        })?;
    }
    Ok(())
}
