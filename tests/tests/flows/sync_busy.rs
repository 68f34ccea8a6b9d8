//! Synchronizations with servers that demand pauses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_tests::flows::sync::{lake_objects, small_request, watermark};
use headrace_tests::flows::{FaultInjector, Result, run};
use headrace_tests::standins::fhir_server::ServerBehavior;

use super::sync::Scenario;

/// The pause that the busy server of the tests demands: longer than an attempt waits.
pub(super) const DEMANDED_PAUSE: Duration = Duration::from_secs(7_200);

/// Returns the type and the range of time that a query is about.
fn queried_window(query: &str) -> String {
    let (path, parameters) = query.split_once('?').unwrap_or((query, ""));
    let times = parameters.split('&').filter(|parameter| parameter.starts_with("_lastUpdated="));
    std::iter::once(path).chain(times).collect::<Vec<_>>().join(" ")
}

/// Records the time of each request.
fn record_times(scenario: &Scenario) -> Arc<Mutex<Vec<Millis>>> {
    let times = Arc::new(Mutex::new(Vec::new()));
    let (seen, clock) = (times.clone(), scenario.clock.clone());
    scenario.server.change_while_read(move |_, _| seen.lock().unwrap_or_else(PoisonError::into_inner).push(clock.now()));
    times
}

/// Checks that nothing about a window was requested within the pause that the server demanded with each `every`th request. Returns the number of pauses.
fn check_pauses(scenario: &Scenario, times: &Mutex<Vec<Millis>>, every: usize) -> usize {
    let times = times.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let requests: Vec<_> = scenario.server.queries().iter().map(|query| queried_window(query)).zip(times).collect();
    for (number, (window, at)) in requests.iter().enumerate().skip(every - 1).step_by(every) {
        let next = requests.iter().skip(number + 1).find(|(other, _)| other == window);
        assert!(next.is_none_or(|(_, next)| next.since(*at) >= DEMANDED_PAUSE), "{window}: {at}, then {next:?}");
    }
    requests.len() / every
}

#[test]
fn a_busy_server_is_left_alone_as_long_as_it_demands() -> Result<()> {
    // The attempts have no end, or one that comes before that of a pause.
    for stop_after in [None, Some(Duration::from_secs(840))] {
        run(async || {
            let behavior = ServerBehavior { busy_every: Some(30), retry_after: DEMANDED_PAUSE, ..ServerBehavior::default() };
            let scenario = Scenario::new(behavior).await?;
            let times = record_times(&scenario);
            let process = scenario.process(FaultInjector::none());
            let job = process.kick_off(small_request()).await?;
            let job = process.complete_in_steps(&job.id, stop_after, DEMANDED_PAUSE / 6).await?;
            assert_eq!(job.reason, None);
            assert!(process.report()?.is_complete);
            assert!(check_pauses(&scenario, &times, 30) > 2);
            scenario.server.stop_changes();
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn a_pause_that_the_end_of_an_attempt_would_cut_off_is_kept() -> Result<()> {
    run(async || {
        // An attempt would wait for it, and has less time.
        let retry_after = Duration::from_secs(90);
        let scenario = Scenario::new(ServerBehavior { busy_every: Some(12), retry_after, ..ServerBehavior::default() }).await?;
        let times = record_times(&scenario);
        let process = scenario.process(FaultInjector::none());
        let job = process.kick_off(small_request()).await?;
        process.deliver_all(Some(Duration::from_secs(60))).await?;
        let requests = scenario.server.queries().len();
        assert_eq!(requests, 12, "the plan has met the busy server");
        scenario.clock.advance(retry_after - Duration::from_millis(1));
        process.announce_again(0, &job).await?;
        process.deliver_all(None).await?;
        assert_eq!(scenario.server.queries().len(), requests, "a message that comes too early starts nothing");
        scenario.clock.advance(Duration::from_millis(1));
        process.announce_again(0, &job).await?;
        assert_eq!(process.complete(&job.id).await?.reason, None);
        let times = times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(times[12].since(times[11]) >= retry_after);
        scenario.server.stop_changes();
        scenario.check_equal().await
    })
}

#[test]
fn a_server_that_demands_nothing_but_pauses_is_given_up_by_name() -> Result<()> {
    for retry_after in [DEMANDED_PAUSE, Duration::from_secs(20), Duration::from_secs(u64::from(u32::MAX))] {
        run(async || {
            let scenario = Scenario::new(ServerBehavior { busy_every: Some(1), retry_after, ..ServerBehavior::default() }).await?;
            let start = scenario.clock.now();
            let process = scenario.process(FaultInjector::none());
            let job = process.kick_off(small_request()).await?;
            let job =
                process.complete_in_steps(&job.id, None, retry_after.clamp(Duration::from_secs(60), Duration::from_secs(600))).await?;
            let text = job.reason.ok_or("the job has no reason")?.text;
            assert!(text.contains("the FHIR server was busy") && text.contains("synchronize again"), "{text}");
            assert!(scenario.clock.now().since(start) < Duration::from_secs(14 * 3_600), "{retry_after:?}");
            assert_eq!((lake_objects(scenario.deployment.lake()).len(), watermark(scenario.deployment.lake())?), (0, None));
            Ok(())
        })?;
    }
    Ok(())
}
