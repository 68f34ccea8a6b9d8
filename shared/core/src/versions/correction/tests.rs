use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn finding(tasks: u32) -> impl Strategy<Value = Correction> {
    let action = prop_oneof![Just(Action::Drop), Just(Action::Add), any::<u32>().prop_map(Action::Report)];
    (2..2 + tasks, 0_u32..3, 0_u64..50, action).prop_map(|(task, item, offset, action)| Correction {
        task,
        place: Place::new(item, offset),
        action,
    })
}

/// Findings, and how many tasks there are.
fn findings() -> impl Strategy<Value = (u32, Vec<Correction>)> {
    prop_oneof![1_u32..300, 1_000_u32..3_000].prop_flat_map(|tasks| (Just(tasks), prop::collection::vec(finding(tasks), 0..200)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_task_finds_its_own_in_its_band_and_nobody_elses((tasks, all) in findings(), split in 0_usize..200) {
        let (one, other) = all.split_at(split.min(all.len()));
        let files = [written(one.to_vec(), tasks), written(other.to_vec(), tasks)];
        for task in 2..2 + tasks {
            let bands = files.iter().map(|file| {
                let range = Directory::read(file).unwrap().range_of(task, tasks);
                file.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
            });
            let mut found = Findings::of_task(task, bands);
            let own: BTreeSet<_> = all.iter().filter(|finding| finding.task == task).map(|finding| (finding.place, finding.action)).collect();
            for item in 0..3 {
                let places = || own.iter().map(|(place, _)| *place).filter(|place| place.item() == item);
                prop_assert_eq!(found.span_of(item), places().min().zip(places().max()));
                for offset in 0..50 {
                    let here = Place::new(item, offset);
                    let expected: Vec<_> = own.iter().filter(|(place, _)| *place == here).copied().collect();
                    prop_assert_eq!(found.at(here), expected);
                }
            }
        }
    }

    #[test]
    fn the_directory_counts_what_is_to_be_done_and_names_who_has_to((tasks, all) in findings()) {
        let directory = Directory::read(&written(all.clone(), tasks)).unwrap();
        let distinct: BTreeSet<_> = all.into_iter().collect();
        let drops = distinct.iter().filter(|finding| finding.action == Action::Drop).count() as u64;
        prop_assert_eq!((directory.drops, directory.adds), (drops, distinct.len() as u64 - drops));
        let own: BTreeSet<_> = distinct.iter().map(|finding| finding.task).collect();
        let concerned: BTreeSet<_> = directory.concerned(tasks).collect();
        prop_assert!(concerned.is_superset(&own));
        if tasks <= 256 {
            prop_assert_eq!(concerned, own);
        }
    }
}

#[test]
fn lines_may_be_passed_over() {
    let (first, second) = (Place::new(0, 10), Place::new(1, 5));
    let drop = |place| Correction { task: 2, place, action: Action::Drop };
    let file = written(vec![drop(second), drop(first)], 1);
    let mut findings = Findings::of_task(2, [&file[Directory::BYTES..]]);
    assert_eq!(findings.at(Place::new(0, 11)), []);
    assert_eq!(findings.at(second), [(second, Action::Drop)]);
}

#[test]
fn half_a_directory_is_none() {
    let file = written(Vec::new(), 1);
    assert!(Directory::read(&file).is_some());
    assert_eq!(Directory::read(&file[..Directory::BYTES - 1]), None);
}
