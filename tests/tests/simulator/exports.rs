//! Small exports in the simulator: exact whatever happens.

use std::time::Duration;

use headrace_simulator::meter::{Activity, Service};
use headrace_simulator::parameters::{AwsParameters, Mode, Scenario};
use headrace_simulator::simulation::{JobEnd, Outcome, SimulationError, simulate};

/// Returns an export of 10 GB by 50 workers that crash every minute and lose answers of the job table.
fn scenario(mode: Mode, seed: u64) -> Scenario {
    Scenario {
        lake_bytes: 10_000_000_000,
        workers: 50,
        mode,
        seed,
        crash_interval: Some(Duration::from_secs(60)),
        lost_answers: 0.002,
        ..Scenario::default()
    }
}

/// Runs an export, which must be exact.
pub(crate) fn exact(scenario: &Scenario) -> Result<Outcome, SimulationError> {
    let outcome = simulate(scenario, &AwsParameters::default())?;
    assert_eq!(outcome.end, JobEnd::Complete, "{scenario:?}");
    assert!(outcome.exactness.is_exact(), "{scenario:?} {:?}", outcome.exactness);
    Ok(outcome)
}

#[test]
fn an_export_is_exact_although_workers_crash_and_answers_are_lost() -> Result<(), SimulationError> {
    let mut crashes = 0;
    for (mode, seed) in [(Mode::Auto, 1), (Mode::One, 2), (Mode::Auto, 3)] {
        let outcome = exact(&scenario(mode, seed))?;
        crashes += outcome.measured.attempts.iter().filter(|((_, end), _)| *end == "crashed").map(|(_, count)| count).sum::<u64>();
    }
    assert!(crashes > 0);
    Ok(())
}

#[test]
fn an_export_ends_although_its_folder_is_listed_for_longer_than_a_lease() -> Result<(), SimulationError> {
    // Three pages of files, in 25 seconds each. A lease is 60 seconds.
    let scenario = Scenario {
        lake_bytes: 2_500_000_000,
        file_bytes: 1_000_000,
        byte_scale: Some(4_000),
        crash_interval: None,
        lost_answers: 0.0,
        ..scenario(Mode::One, 4)
    };
    let mut aws = AwsParameters::default();
    aws.bucket.list = Duration::from_secs(25);
    let outcome = simulate(&scenario, &aws)?;
    assert_eq!((outcome.end, outcome.exactness.is_exact()), (JobEnd::Complete, true), "{:?}", outcome.exactness);
    assert!(outcome.exactness.files > 2_000, "{:?}", outcome.exactness);
    // The client waits until the folder is swept, and the job says so.
    let listed = outcome.measured.activities.get(&("finalize", Activity::Objects)).copied().unwrap_or_default();
    assert!(outcome.duration > listed && listed > Duration::from_secs(60), "{:?} {listed:?}", outcome.duration);
    // A run of the reaper has 35 seconds, and a page takes 25. It leaves the rest of the folder to the next run, and keeps nothing else waiting.
    let swept = outcome.measured.activities.get(&("client and reaper", Activity::Objects)).copied().unwrap_or_default();
    assert!((Duration::from_secs(25)..Duration::from_secs(75)).contains(&swept), "{swept:?}");
    Ok(())
}

#[test]
fn a_seed_determines_a_run() -> Result<(), SimulationError> {
    let calls = |seed| -> Result<_, SimulationError> {
        let outcome = exact(&Scenario { lake_bytes: 2_000_000_000, ..scenario(Mode::Auto, seed) })?;
        Ok((outcome.duration, outcome.measured.calls.get(&(Service::DynamoDb, "TransactWriteItems")).copied()))
    };
    assert_eq!(calls(5)?, calls(5)?);
    assert_ne!(calls(5)?, calls(6)?);
    Ok(())
}
