//! Closes the gaps in the numbers of output files.
//!
//! A number is taken from a counter that never goes back, so that tasks do not wait for each other. If a worker stops with a number that
//! its task does not know yet, or the answer of the counter is lost, nobody uses the number. At the end the last files of each kind take
//! such numbers.

use std::collections::BTreeMap;

use crate::job::ExportError;
use crate::job::file::{OutputFile, OutputKind};
use crate::job::task::{Lease, TaskUpdate};
use crate::ports::{AllPorts, OutputStore as _};

use super::heartbeat::update_leased_task;
use super::settings::WorkerSettings;

/// Gives the last files of each kind the numbers that no file has. Returns the files with their final names.
///
/// No other worker writes a file of such a number: a worker writes only under a number that its task has recorded, and such a number
/// belongs to a file. A copy that an earlier attempt has left is replaced.
pub(super) async fn close_gaps(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    files: Vec<OutputFile>,
) -> Result<Vec<OutputFile>, ExportError> {
    let mut files = files;
    for (index, number) in free_numbers(&files) {
        let Some(file) = files.get_mut(index) else { continue };
        ports.output().renumber(&lease.job.folder(), file, number).await?;
        update_leased_task(ports, lease, settings.lease.duration, TaskUpdate::Renumber { file: *file, number }).await?;
        tracing::info!(job.id = %lease.job.id, file = %file.name, number, "an output file was renumbered, so that the numbers of its type have no gap");
        file.name.number = number;
    }
    Ok(files)
}

/// Returns the indexes of the files whose numbers are larger than the number of files of their kind, each with a smaller number that no
/// file has.
fn free_numbers(files: &[OutputFile]) -> Vec<(usize, u32)> {
    let mut by_kind = BTreeMap::<OutputKind, BTreeMap<u32, usize>>::new();
    for (index, file) in files.iter().enumerate() {
        by_kind.entry(file.name.kind).or_default().insert(file.name.number, index);
    }
    let moves = by_kind.values().flat_map(|numbers| {
        let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let free = (1..=count).filter(|number| !numbers.contains_key(number));
        numbers.range(count.saturating_add(1)..).map(|(_, index)| *index).zip(free)
    });
    moves.collect()
}

#[cfg(test)]
mod tests {
    use headrace_fhir::definitions::ResourceType;
    use proptest::prelude::*;

    use super::*;
    use crate::job::file::{FileSummary, OutputFileName};

    fn file(kind: OutputKind, number: u32) -> OutputFile {
        OutputFile { name: OutputFileName { kind, number }, summary: FileSummary { bytes: 1, lines: u64::from(number), crc64: 0 } }
    }

    #[test]
    fn the_last_files_of_a_kind_take_its_free_numbers() {
        let (patient, error) = (OutputKind::Output(ResourceType::PATIENT), OutputKind::Error);
        let files: Vec<_> = [1, 3, 4, 7, 9].map(|number| file(patient, number)).into_iter().chain([file(error, 2)]).collect();
        let mut moves = free_numbers(&files);
        moves.sort_unstable();
        assert_eq!(moves, [(3, 2), (4, 5), (5, 1)]);
        assert_eq!(free_numbers(&[1, 2, 3].map(|number| file(patient, number))), []);
    }

    proptest! {
        #[test]
        fn numbers_have_no_gaps_afterwards_and_only_as_many_files_move_as_there_are_gaps(
            numbers in prop::collection::btree_set(1_u32..60, 0..40),
        ) {
            let kind = OutputKind::Output(ResourceType::PATIENT);
            let mut files: Vec<_> = numbers.iter().map(|number| file(kind, *number)).collect();
            let moves = free_numbers(&files);
            prop_assert_eq!(moves.len(), numbers.iter().filter(|number| **number as usize > numbers.len()).count());
            for (index, number) in moves {
                files[index].name.number = number;
            }
            let mut numbered: Vec<_> = files.iter().map(|file| file.name.number).collect();
            numbered.sort_unstable();
            prop_assert_eq!(numbered, (1..=u32::try_from(files.len()).unwrap()).collect::<Vec<_>>());
        }
    }
}
