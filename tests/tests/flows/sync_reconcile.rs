//! Synchronizations that compare the ids of the lake with those of the server, to find deletions.

use std::collections::BTreeMap;
use std::time::Duration;

use headrace_core::job::sync::SyncRequest;
use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_tests::flows::sync::{lake_state_before, small_request, watermark};
use headrace_tests::flows::{FaultInjector, Result, run, set_next_job_number};
use headrace_tests::standins::fhir_server::{IdSearch, Paging, ServerBehavior};

use super::sync::{OBSERVATION, PATIENT, Scenario, deletions, known_servers};
use super::sync_crash::check_crashes;

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
            store.put(PATIENT, &format!("p-{number}"), Millis(start.0 + number * 20));
        }
    });
    let whole = SyncRequest { window_resources: 1_000, page_size: 100, ..small_request() };
    assert!(scenario.sync(whole).await?.is_complete);
    let at = scenario.clock.now();
    scenario.server.with_store(|store| (0..deleted).for_each(|number| store.delete(PATIENT, &format!("p-{number}"), at)));
    scenario.clock.advance(Duration::from_secs(600));
    Ok(scenario)
}

#[test]
fn a_deletion_after_the_watermark_is_one_as_of_it_and_the_report_says_so() -> Result<()> {
    run(async || {
        let scenario = deleted_patients(ServerBehavior::default(), 10, 0).await?;
        let at = Millis(scenario.clock.now().0 - 10_000);
        scenario.server.with_store(|store| store.delete(PATIENT, "p-3", at));
        let report = scenario.sync(reconciliation()).await?;
        assert_eq!((report.is_complete, report.deletions(), deletions(&report)), (true, "reconciled", 1), "{report:?}");
        let remark = report.types.iter().filter_map(|one| one.remark.clone()).collect::<String>();
        assert!(remark.contains("as of its new watermark, also those that the server deleted after that moment"), "{remark}");
        let lake = scenario.deployment.lake();
        assert!(watermark(lake)?.is_some_and(|watermark| watermark < at));
        let state = lake_state_before(lake, Millis(u64::MAX / 2_000_000)).await?;
        assert!(state.len() == 9 && !state.keys().any(|(_, id)| id == "p-3"), "{state:?}");
        // Nothing was deleted since, and there is nothing to say.
        scenario.clock.advance(Duration::from_secs(600));
        let report = scenario.sync(reconciliation()).await?;
        let is_said = report.types.iter().any(|one| one.remark.as_ref().is_some_and(|remark| remark.contains("as of its new watermark")));
        assert!(!is_said, "{report:?}");
        Ok(())
    })
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
