//! Synchronizations with servers whose times are whole seconds, so that several events of a resource have the same time.

use std::time::Duration;

use headrace_core::lake::sync_report::{SyncReport, TypeReport};
use headrace_core::lake::watermark::{LakeFiller, WATERMARK_OBJECT};
use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::instant::Instant;
use headrace_tests::flows::sync::{lake_lines, small_request};
use headrace_tests::flows::{Result, run};
use headrace_tests::standins::fhir_server::{HistoryOrder, ServerBehavior, Store, StoredVersion};

use super::sync::{PATIENT, Scenario, deletions};

/// The orders of histories.
const ORDERS: [HistoryOrder; 3] = [HistoryOrder::NewestFirst, HistoryOrder::OldestOfTimeFirst, HistoryOrder::OldestFirst];

/// Creates a lake that equals a server with a history in this order. Returns it with a whole second after its watermark, at which the events
/// of `change` happen.
async fn scenario(history_order: HistoryOrder, change: impl FnOnce(&mut Store, Millis)) -> Result<Scenario> {
    let scenario = Scenario::new(ServerBehavior { has_history: true, history_order, ..ServerBehavior::default() }).await?;
    assert!(scenario.sync(small_request()).await?.is_complete);
    scenario.clock.advance(Duration::from_secs(600));
    let second = Millis(scenario.clock.now().0 / 1_000 * 1_000);
    scenario.server.with_store(|store| change(store, second));
    scenario.clock.advance(Duration::from_secs(600));
    Ok(scenario)
}

/// Adds a version with a name that is no number.
fn put_named(store: &mut Store, id: &str, name: &str, at: Millis) {
    let text = format!(r#"{{"resourceType":"Patient","id":"{id}","meta":{{"versionId":"{name}","lastUpdated":"{at}"}}}}"#);
    store.versions.push(StoredVersion { kind: PATIENT, id: id.to_owned(), at, text: Some(text) });
}

/// Returns the report of the Patients.
fn patients(report: &SyncReport) -> Result<TypeReport> {
    Ok(report.types.iter().find(|one| one.resource_type == ResourceType::PATIENT).ok_or("no Patients")?.clone())
}

/// Returns the ids of the Patients that the lake has as deleted.
async fn deleted_ids(scenario: &Scenario) -> Result<Vec<String>> {
    let lines = lake_lines(scenario.deployment.lake()).await?;
    let ids = (0..40).map(|number| format!("p-{number}"));
    Ok(ids.filter(|id| lines.iter().any(|line| line.contains("DELETE") && line.contains(&format!("Patient/{id}\"")))).collect())
}

#[test]
fn numbers_of_versions_decide_between_events_of_one_second_in_any_order_of_the_history() -> Result<()> {
    for history_order in ORDERS {
        run(async || {
            let scenario = scenario(history_order, |store, second| {
                store.put(PATIENT, "p-1", second);
                store.delete(PATIENT, "p-1", second);
                store.delete(PATIENT, "p-2", second);
                store.put(PATIENT, "p-2", second);
                store.put(PATIENT, "p-3", second);
                store.put(PATIENT, "p-3", second);
            })
            .await?;
            // All of them change within the lag, so that the server cannot be asked.
            let later = Millis(scenario.clock.now().0 - 20_000);
            scenario.server.with_store(|store| ["p-1", "p-2", "p-3"].iter().for_each(|id| store.put(PATIENT, id, later)));
            let report = scenario.sync(small_request()).await?;
            assert_eq!((report.is_complete, report.deletions(), deletions(&report)), (true, "history", 1), "{history_order:?}: {report:?}");
            assert_eq!(deleted_ids(&scenario).await?, ["p-1"], "{history_order:?}");
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn events_of_one_second_whose_order_nothing_says_make_the_deletions_unknown_until_a_later_history() -> Result<()> {
    for history_order in ORDERS {
        run(async || {
            let scenario = scenario(history_order, |store, second| {
                put_named(store, "p-1", "e5b1", second);
                store.delete(PATIENT, "p-1", second);
                store.delete(PATIENT, "p-2", second);
                put_named(store, "p-2", "a07c", second);
                put_named(store, "p-3", "f2-older", second);
                put_named(store, "p-3", "c4-newer", second);
                store.delete(PATIENT, "p-4", second);
            })
            .await?;
            let later = Millis(scenario.clock.now().0 - 20_000);
            scenario.server.with_store(|store| ["p-1", "p-2", "p-3"].iter().for_each(|id| put_named(store, id, "d9", later)));
            let report = scenario.sync(small_request()).await?;
            let (known, remark) = (patients(&report)?.deletions, patients(&report)?.remark.unwrap_or_default());
            assert_eq!((report.is_complete, report.deletions(), known), (true, "unknown", None), "{history_order:?}: {report:?}");
            assert!(remark.starts_with("3 resources have several events at the same time"), "{remark}");
            let watermark = scenario.deployment.lake().join(WATERMARK_OBJECT);
            assert!(std::fs::read_to_string(&watermark)?.contains("deletionsKnownUpTo"));
            // What is decided is in the lake, and no deletion is guessed.
            assert_eq!(deleted_ids(&scenario).await?, ["p-4"], "{history_order:?}");
            let lines = lake_lines(scenario.deployment.lake()).await?;
            let has_version = |name: &str| lines.iter().any(|line| line.contains(name));
            assert!(has_version("c4-newer") != has_version("f2-older"), "{history_order:?}");
            assert!(has_version("c4-newer") || history_order == HistoryOrder::OldestOfTimeFirst, "{history_order:?}");
            scenario.clock.advance(Duration::from_secs(600));
            let report = scenario.sync(small_request()).await?;
            assert_eq!((report.is_complete, report.deletions()), (true, "history"), "{history_order:?}: {report:?}");
            assert!(!std::fs::read_to_string(&watermark)?.contains("deletionsKnownUpTo"));
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

/// Reads what the watermark object says up to when the deletions of Patients are known.
fn deletions_known_up_to(scenario: &Scenario) -> Result<Option<Instant>> {
    let filler: LakeFiller = serde_json::from_slice(&std::fs::read(scenario.deployment.lake().join(WATERMARK_OBJECT))?)?;
    Ok(filler.deletions_known_up_to.get(&ResourceType::PATIENT).copied())
}

#[test]
fn undecided_events_in_each_synchronization_do_not_hold_back_the_deletions_before_them() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior { has_history: true, ..ServerBehavior::default() }).await?;
        assert!(scenario.sync(small_request()).await?.is_complete);
        for (tied, deleted) in [("p-1", "p-21"), ("p-2", "p-22"), ("p-3", "p-23")] {
            scenario.clock.advance(Duration::from_secs(600));
            let second = Millis(scenario.clock.now().0 / 1_000 * 1_000);
            scenario.server.with_store(|store| {
                put_named(store, tied, "e5b1", second);
                store.delete(PATIENT, tied, second);
                store.delete(PATIENT, deleted, second);
            });
            scenario.clock.advance(Duration::from_secs(600));
            let later = Millis(scenario.clock.now().0 - 20_000);
            scenario.server.with_store(|store| put_named(store, tied, "d9", later));
            let report = scenario.sync(small_request()).await?;
            assert_eq!((report.is_complete, report.deletions()), (true, "unknown"), "{report:?}");
            // The lake has what the synchronization before has decided, so nothing is late.
            assert_eq!(patients(&report)?.late_deletions, 0, "{report:?}");
            assert_eq!(deletions_known_up_to(&scenario)?, Some(Instant::from_millis(second.0)));
        }
        scenario.clock.advance(Duration::from_secs(600));
        let report = scenario.sync(small_request()).await?;
        assert_eq!((report.deletions(), patients(&report)?.late_deletions), ("history", 0), "{report:?}");
        assert_eq!(deletions_known_up_to(&scenario)?, None);
        scenario.check_equal().await
    })
}

/// Creates a Patient again within the second of its deletion. The server is asked for it.
async fn created_again() -> Result<Scenario> {
    scenario(HistoryOrder::NewestFirst, |store, second| {
        store.delete(PATIENT, "p-2", second);
        store.put(PATIENT, "p-2", second);
    })
    .await
}

#[test]
fn a_resource_that_is_deleted_before_the_server_is_asked_for_it_is_not_deleted_at_the_watermark() -> Result<()> {
    run(async || {
        let scenario = created_again().await?;
        let report = scenario.sync(small_request()).await?;
        assert_eq!((report.is_complete, report.deletions(), deletions(&report)), (true, "history", 0), "{report:?}");
        scenario.check_equal().await?;
        let asked = scenario.server.queries().iter().position(|query| query == "Patient/p-2").ok_or("the server was not asked")?;
        let scenario = created_again().await?;
        let (clock, mut number) = (scenario.clock.clone(), scenario.server.queries().len());
        scenario.server.change_while_read(move |store, _| {
            if number == asked {
                store.delete(PATIENT, "p-2", clock.now());
            }
            number += 1;
        });
        let report = scenario.sync(small_request()).await?;
        assert_eq!((report.is_complete, report.deletions()), (true, "unknown"), "{report:?}");
        assert!(patients(&report)?.remark.unwrap_or_default().starts_with("1 resource has several events at the same time"));
        assert_eq!(deleted_ids(&scenario).await?, Vec::<String>::new());
        scenario.check_equal().await?;
        scenario.server.stop_changes();
        scenario.clock.advance(Duration::from_secs(600));
        let report = scenario.sync(small_request()).await?;
        assert_eq!((report.is_complete, report.deletions(), deletions(&report)), (true, "history", 1), "{report:?}");
        scenario.check_equal().await
    })
}
