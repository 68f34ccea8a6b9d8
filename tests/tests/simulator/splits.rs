//! Tasks of slow workers are split, and the export is exact whatever happens meanwhile.

use std::time::Duration;

use headrace_simulator::parameters::{Mode, Scenario};
use headrace_simulator::simulation::SimulationError;

use crate::exports::exact;

/// Returns an export by 40 workers of which four are slow, and all crash and lose answers of the job table. The lake is not compressed, so
/// that a task can be cut in the middle of its object.
fn scenario(mode: Mode, seed: u64) -> Scenario {
    Scenario {
        lake_bytes: 10_000_000_000,
        object_bytes: 400_000_000,
        is_compressed: false,
        file_bytes: 128_000_000,
        workers: 40,
        started_workers: 40,
        slow_workers: 4,
        mode,
        seed,
        crash_interval: Some(Duration::from_secs(60)),
        lost_answers: 0.01,
        ..Scenario::default()
    }
}

#[test]
fn an_export_is_exact_although_slow_tasks_are_split_while_workers_crash_and_answers_are_lost() -> Result<(), SimulationError> {
    let (mut splits, mut crashes) = (0, 0);
    for (mode, seed) in [(Mode::One, 1), (Mode::Auto, 2), (Mode::One, 3)] {
        let outcome = exact(&scenario(mode, seed))?;
        println!("{mode:?} {seed}: {} splits, {:?}", outcome.split_tasks, outcome.duration);
        splits += outcome.split_tasks;
        crashes += outcome.measured.attempts.iter().filter(|((_, end), _)| *end == "crashed").map(|(_, count)| count).sum::<u64>();
    }
    assert!(splits > 0 && crashes > 0, "{splits} splits, {crashes} crashes");
    Ok(())
}
