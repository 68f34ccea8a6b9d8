use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn correction(tasks: u32) -> impl Strategy<Value = Correction> {
    let action =
        prop_oneof![Just(CorrectionAction::Drop), Just(CorrectionAction::Add), any::<u32>().prop_map(CorrectionAction::ReportDeletion)];
    (2..2 + tasks, 0_u32..3, 0_u64..50, action).prop_map(|(task, slice, offset, action)| Correction {
        task,
        position: LinePosition::new(slice, offset),
        action,
    })
}

/// Generates a number of tasks, and corrections.
fn corrections() -> impl Strategy<Value = (u32, Vec<Correction>)> {
    prop_oneof![1_u32..300, 1_000_u32..3_000].prop_flat_map(|tasks| (Just(tasks), prop::collection::vec(correction(tasks), 0..200)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_task_reads_exactly_its_own_corrections((tasks, all) in corrections(), split in 0_usize..200) {
        let (one, other) = all.split_at(split.min(all.len()));
        let files = [write_corrections(one.to_vec(), tasks), write_corrections(other.to_vec(), tasks)];
        for task in 2..2 + tasks {
            let bands = files.iter().map(|file| {
                let range = CorrectionIndex::parse(file).unwrap().byte_range(task, tasks);
                file.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
            });
            let mut own_corrections = TaskCorrections::from_files(task, bands);
            let own: BTreeSet<_> = all.iter().filter(|correction| correction.task == task).map(|correction| (correction.position, correction.action)).collect();
            for slice in 0..3 {
                let positions = || own.iter().map(|(position, _)| *position).filter(|position| position.slice() == slice);
                prop_assert_eq!(own_corrections.first_and_last(slice), positions().min().zip(positions().max()));
                for offset in 0..50 {
                    let here = LinePosition::new(slice, offset);
                    let expected: Vec<_> = own.iter().filter(|(position, _)| *position == here).copied().collect();
                    prop_assert_eq!(own_corrections.advance_to(here), expected);
                }
            }
        }
    }

    #[test]
    fn the_index_counts_corrections_and_names_affected_tasks((tasks, all) in corrections()) {
        let index = CorrectionIndex::parse(&write_corrections(all.clone(), tasks)).unwrap();
        let distinct: BTreeSet<_> = all.into_iter().collect();
        let drops = distinct.iter().filter(|correction| correction.action == CorrectionAction::Drop).count() as u64;
        prop_assert_eq!((index.drops, index.adds), (drops, distinct.len() as u64 - drops));
        let own: BTreeSet<_> = distinct.iter().map(|correction| correction.task).collect();
        let affected: BTreeSet<_> = index.affected_tasks(tasks).collect();
        prop_assert!(affected.is_superset(&own));
        if tasks <= 256 {
            prop_assert_eq!(affected, own);
        }
    }
}

#[test]
fn positions_may_be_skipped() {
    let (first, second) = (LinePosition::new(0, 10), LinePosition::new(1, 5));
    let drop = |position| Correction { task: 2, position, action: CorrectionAction::Drop };
    let file = write_corrections(vec![drop(second), drop(first)], 1);
    let mut corrections = TaskCorrections::from_files(2, [&file[CorrectionIndex::BYTES..]]);
    assert_eq!(corrections.advance_to(LinePosition::new(0, 11)), []);
    assert_eq!(corrections.advance_to(second), [(second, CorrectionAction::Drop)]);
}

#[test]
fn a_truncated_index_is_not_parsed() {
    let file = write_corrections(Vec::new(), 1);
    assert!(CorrectionIndex::parse(&file).is_some());
    assert_eq!(CorrectionIndex::parse(&file[..CorrectionIndex::BYTES - 1]), None);
}
