//! Synchronizations with servers whose resources change while they are read.

use std::time::Duration;

use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_tests::flows::sync::{lake_state_before, small_request, watermark};
use headrace_tests::flows::{ManualClock, Result, run};
use headrace_tests::standins::fhir_server::{ServerBehavior, Store};
use proptest::prelude::*;

use super::sync::{OBSERVATION, PATIENT, Scenario, known_servers};

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Checks that the lake equals a server with a history at the watermark if the report says so, whatever changes and is deleted while it is
    /// read.
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
                if report.is_complete && report.deletions() == "history" {
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
