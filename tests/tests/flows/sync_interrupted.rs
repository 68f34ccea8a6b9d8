//! Synchronizations that are interrupted and followed by others: the watermark never claims what the lake lacks.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use headrace_core::job::sync::SyncRequest;
use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_fhir::definitions::ResourceType;
use headrace_tests::flows::sync::{lake_state_before, small_request, watermark};
use headrace_tests::flows::{Fault, Result, run};
use headrace_tests::standins::fhir_server::ServerBehavior;
use serde_json::Value;

use super::sync::{OBSERVATION, PATIENT, Scenario};
use super::sync_publication::{crash, fault_at_lake_call, refusal};

/// Synchronizes all, and then everything again, after the server has got an Observation from before the watermark. The second synchronization is
/// interrupted when it has published an object without that Observation.
async fn interrupted_full_run() -> Result<Scenario> {
    let scenario = Scenario::new(ServerBehavior::default()).await?;
    assert!(scenario.sync(small_request()).await?.is_complete);
    let at = Millis(scenario.clock.now().0 - 3_600_000);
    scenario.server.with_store(|store| store.put(OBSERVATION, "o.late", at));
    scenario.clock.advance(Duration::from_secs(60));
    let (_, has_crashed) = crash(&scenario, SyncRequest { is_full: true, ..small_request() }, 2, Fault::CrashAfter).await?;
    assert!(has_crashed && refusal(&scenario).await.is_some_and(|error| error.contains("a part of Observation")));
    scenario.clock.advance(Duration::from_secs(60));
    Ok(scenario)
}

#[test]
fn a_full_synchronization_that_was_interrupted_is_made_up_for_by_an_increment() -> Result<()> {
    run(async || {
        let scenario = interrupted_full_run().await?;
        let report = scenario.sync(SyncRequest { window_resources: 1_000, ..small_request() }).await?;
        assert!(report.is_complete, "{report:?}");
        assert_eq!(refusal(&scenario).await, None);
        scenario.check_equal().await?;
        // The next increment is one.
        scenario.change();
        let report = scenario.sync(small_request()).await?;
        assert_eq!(report.types.iter().map(|one| one.resources).sum::<u64>(), 3, "{report:?}");
        scenario.check_equal().await
    })
}

#[test]
fn a_type_that_goes_while_it_is_fetched_anew_is_fetched_from_its_beginning_when_it_returns() -> Result<()> {
    run(async || {
        let scenario = interrupted_full_run().await?;
        scenario.server.unlist(Some(OBSERVATION));
        let patients = SyncRequest { types: Some([ResourceType::PATIENT].into()), ..small_request() };
        assert!(scenario.sync(patients).await?.is_complete);
        assert_eq!(refusal(&scenario).await, None);
        let json: Value = serde_json::from_slice(&fs::read(scenario.deployment.lake().join("_headrace/watermark.json"))?)?;
        let expected = serde_json::json!({ OBSERVATION: "1970-01-01T00:00:00.000Z" });
        assert_eq!((&json["types"], &json["leftTypes"]), (&serde_json::json!(["Patient"]), &expected));
        scenario.server.unlist(None);
        scenario.change();
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.check_equal().await
    })
}

/// Returns the next number of a sequence that looks random, below `limit`.
fn next_number(state: &mut u64, limit: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % limit
}

/// Checks that the lake has each type that its watermark names as the server had it then.
async fn check_claims(scenario: &Scenario) -> Result<()> {
    let lake = scenario.deployment.lake();
    let Some(moment) = watermark(lake)?.map(|watermark| Millis(watermark.0 + 1)) else { return Ok(()) };
    let json: Value = serde_json::from_slice(&fs::read(lake.join("_headrace/watermark.json"))?)?;
    let types: Vec<&str> = json.get("types").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let of_server: BTreeMap<_, _> = scenario
        .server
        .with_store(|store| store.state_before(moment))
        .into_iter()
        .filter(|((kind, _), _)| types.contains(kind))
        .map(|((kind, id), text)| ((kind.to_owned(), id), text))
        .collect();
    let mut of_lake = lake_state_before(lake, moment).await?;
    of_lake.retain(|(kind, _), _| types.contains(&kind.as_str()));
    assert_eq!(of_lake, of_server);
    Ok(())
}

#[test]
fn no_sequence_of_interrupted_synchronizations_of_any_types_makes_the_watermark_claim_what_the_lake_lacks() -> Result<()> {
    let choices = [None, Some(vec![ResourceType::PATIENT]), Some(vec![ResourceType::PATIENT, ResourceType::OBSERVATION])];
    for mut seed in 0..10_u64 {
        run(async || {
            let scenario = Scenario::new(ServerBehavior { has_history: true, ..ServerBehavior::default() }).await?;
            for _ in 0..8 {
                scenario.change();
                let at = scenario.clock.now();
                scenario.server.with_store(|store| store.delete(PATIENT, "p-new", at));
                scenario.server.unlist((next_number(&mut seed, 4) == 0).then_some(OBSERVATION));
                let types = choices.get(usize::try_from(next_number(&mut seed, 3))?).cloned().flatten();
                let types = types.map(|types| types.into_iter().collect());
                let request = SyncRequest { types, is_full: next_number(&mut seed, 3) == 0, ..small_request() };
                let faults = fault_at_lake_call(usize::try_from(1 + next_number(&mut seed, 12))?, Fault::CrashAfter);
                let process = scenario.process(faults.clone());
                let job = process.kick_off(request).await?;
                // A synchronization that leaves out a type of the lake is refused.
                let ended = Box::pin(faults.until_crash(process.complete(&job.id))).await;
                ended.transpose()?;
                if refusal(&scenario).await.is_none() {
                    check_claims(&scenario).await?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
