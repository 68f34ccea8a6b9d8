use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn pin(object: &str, size: u64) -> Pin {
    Pin { object: object.into(), etag: "e".into(), size }
}

fn plan(objects: &[(&str, u64)], file_bytes: u64) -> Vec<Vec<(String, u64, u64)>> {
    let mut planner = SlicePlanner::new(file_bytes, 1, None);
    for (object, size) in objects {
        planner.add_object(pin(object, *size), false);
    }
    let slices = |work| match work {
        Work::Read(slices) => slices.into_iter().map(|slice: Slice| (slice.pin.object, slice.start, slice.end)).collect(),
        Work::Plan(_)
        | Work::MergeRecords(_)
        | Work::Resolve(_)
        | Work::MergeCorrections(_)
        | Work::Reread(_)
        | Work::SortPatients(_)
        | Work::GroupByPatient(_)
        | Work::Merge(_)
        | Work::Fetch(_)
        | Work::Publish(_)
        | Work::Finalize
        | Work::FinalizeSync(_) => Vec::new(),
    };
    planner.finish().0.into_iter().map(|(_, work)| slices(work)).collect()
}

#[test]
fn every_layout_names_its_type() {
    for object in [
        "Patient.ndjson",
        "Patient.000.ndjson",
        "Patient-1.ndjson.gz",
        "Patient/part-0.ndjson",
        "type=Patient/part-0.ndjson.zst",
        "2026/01/type=Patient/date=2026-01-31/x.ndjson",
        "dump/Patient_7.ndjson",
        "Observation/Patient.ndjson",
    ] {
        assert_eq!(type_from_name(object).map(ResourceType::as_str), Some("Patient"), "{object}");
        assert!(encoding_from_name(object).is_some(), "{object}");
    }
    assert_eq!(type_from_name("everything.ndjson"), None);
    assert_eq!(type_from_name("Patients.ndjson"), None);
    // Such a folder may hold any type, so the export of a Group must look into it.
    assert_eq!(type_from_name("Account-7/export.ndjson"), None);
    assert_eq!(type_from_name("List of 2026/Group_1.ndjson").map(ResourceType::as_str), Some("Group"));
}

#[test]
fn small_objects_are_compared_in_the_order_of_their_slices() {
    let mut objects = ["Group/1.ndjson", "Patient.ndjson", "Patient/a.ndjson", "a/Group.ndjson", "x.ndjson", "zz/1.ndjson.gz"];
    let listed = objects.map(|object| (object, 10));
    let planned: Vec<String> = plan(&listed, 1 << 20).into_iter().flatten().map(|(object, ..)| object).collect();
    objects.sort_by(|one, other| comparison_order(one).cmp(&comparison_order(other)));
    assert_eq!(planned, objects);
}

#[test]
fn other_files_are_ignored() {
    for object in
        ["README.md", "Patient.json", "Patient.ndjson.bz2", "_SUCCESS", "_delta_log/0.ndjson", ".tmp/Patient.ndjson", "Patient.ndjson.tmp"]
    {
        assert_eq!(encoding_from_name(object), None, "{object}");
    }
}

#[test]
fn small_files_share_a_task_whatever_their_types() {
    let tasks = plan(&[("Observation/1.ndjson", 10), ("Observation/2.ndjson", 10), ("Patient.ndjson", 10)], 1_000);
    assert_eq!(tasks.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
    let tasks = plan(&[("Observation/1.ndjson", 600), ("Observation/2.ndjson", 300), ("Patient.ndjson", 300)], 1_000);
    assert_eq!(tasks.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn types_that_take_turns_in_the_listing_share_few_tasks() {
    let names = ["Condition", "Encounter", "Observation", "Patient"];
    let objects: Vec<String> = (0..1_000).flat_map(|day| names.map(|name| format!("{day:04}/{name}.ndjson"))).collect();
    let tasks = plan(&objects.iter().map(|object| (object.as_str(), 10)).collect::<Vec<_>>(), 64_000_000);
    assert_eq!(tasks.len(), 4_000 / 200);
    let mut planned: Vec<_> = tasks.iter().flatten().map(|(object, ..)| object.clone()).collect();
    planned.sort_unstable();
    assert_eq!(planned, objects);
    // Full tasks have one type each.
    let types = |task: &Vec<(String, u64, u64)>| {
        task.iter().filter_map(|(object, ..)| type_from_name(object)).collect::<std::collections::BTreeSet<_>>()
    };
    assert!(tasks.iter().filter(|task| types(task).len() == 1).count() >= 16);
}

#[test]
fn a_listing_can_be_continued_after_a_flush() {
    let objects: Vec<String> = (0..50).map(|number| format!("{number:04}/{}.ndjson", ["Condition", "Patient"][number % 2])).collect();
    let all_slices = |planner: SlicePlanner, works: &mut Vec<(u32, Work)>| {
        let (rest, tasks, bytes) = planner.finish();
        works.extend(rest);
        assert_eq!(works.iter().map(|(task, _)| *task).collect::<Vec<_>>(), (2..2 + tasks).collect::<Vec<_>>());
        assert_eq!(bytes, 500);
    };
    let mut works = Vec::new();
    let mut planner = SlicePlanner::new(100, 1, None);
    for (index, object) in objects.iter().enumerate() {
        planner.add_object(pin(object, 10), false);
        if index == 17 {
            planner.flush_tasks();
            works.extend(planner.take_ready());
            let (next_task, bytes) = planner.position();
            planner = SlicePlanner::new(100, 1, None).continued(next_task, bytes);
        }
    }
    all_slices(planner, &mut works);
    assert_eq!(works.iter().map(|(_, work)| work.bytes()).sum::<u64>(), 500);
}

#[test]
fn a_large_file_is_split_without_gap_or_overlap() {
    let tasks = plan(&[("Observation.ndjson", 10_000)], 999);
    let ranges: Vec<_> = tasks.into_iter().flatten().map(|(_, start, end)| (start, end)).collect();
    assert!(ranges.len() > 5);
    assert_eq!(ranges.first().map(|range| range.0), Some(0));
    assert_eq!(ranges.last().map(|range| range.1), Some(10_000));
    assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0));
}

#[test]
fn many_compressed_objects_of_a_large_lake_share_a_task() {
    // A terabyte, one eighth of it stored. A task with each object would leave half of a file for each, a fifth of the lake.
    let plan_of = |objects: usize| {
        let names: Vec<String> = (0..objects).map(|number| format!("Observation/{number:05}.ndjson.zst")).collect();
        let objects: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 30_000_000)).collect();
        plan(&objects, 64_000_000)
    };
    let sizes: Vec<usize> = plan_of(4_167).iter().map(Vec::len).collect();
    assert!((1_500..2_000).contains(&sizes.len()), "{}", sizes.len());
    assert_eq!((sizes[0], sizes[sizes.len() - 1]), (4, 1));
    // Few objects have a task each, so that enough workers read them.
    assert!(plan_of(400).iter().all(|task| task.len() == 1));
}

#[test]
fn a_compressed_file_of_any_size_is_one_slice() {
    assert_eq!(plan(&[("Observation.ndjson.zst", 1 << 40)], 64_000_000).len(), 1);
}

#[test]
fn a_petabyte_is_split_into_a_bounded_number_of_tasks() {
    let mut planner = SlicePlanner::new(64_000_000, 1 << 20, None);
    let mut tasks = 0;
    for n in 0..1_000_000 {
        planner.add_object(pin(&format!("Observation/{n:07}.ndjson"), 1_000_000_000), false);
        tasks += planner.take_ready().len();
    }
    assert!(tasks < 300_000, "{tasks}");
}

/// Generates the objects of a lake: of three types and of no type, in all encodings, with unrelated files between them.
fn listing() -> impl Strategy<Value = Vec<Pin>> {
    let name = prop::sample::select(vec!["Patient", "type=Observation/part", "Condition/x", "everything", "_tmp/Patient", "notes"]);
    let suffix = prop::sample::select(vec![".ndjson", ".ndjson", ".ndjson.gz", ".ndjson.zst", ".csv"]);
    let size = prop_oneof![1 => Just(0_u64), 5 => 1_u64..300, 2 => 300_u64..100_000];
    prop::collection::vec((name, 0_u32..100, suffix, size), 0..60).prop_map(|objects| {
        let named: BTreeMap<String, u64> =
            objects.into_iter().map(|(name, n, suffix, size)| (format!("{name}-{n:03}{suffix}"), size)).collect();
        named.into_iter().map(|(object, size)| pin(&object, size)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn slices_cover_every_requested_object_exactly_and_task_numbers_have_no_gaps(
        pins in listing(), file_bytes in 1_u64..5_000, min_slice_bytes in 1_u64..2_000, only in any::<bool>(), batches in prop::collection::vec(any::<bool>(), 60),
    ) {
        let only = only.then(|| [ResourceType::PATIENT].into_iter().collect::<TypeSet>());
        let mut planner = SlicePlanner::new(file_bytes, min_slice_bytes, only);
        let mut tasks = Vec::new();
        for (pin, is_taken) in pins.iter().zip(batches) {
            planner.add_object(pin.clone(), false);
            if is_taken {
                tasks.extend(planner.take_ready());
            }
        }
        let (rest, count, source_bytes) = planner.finish();
        tasks.extend(rest);
        prop_assert_eq!(tasks.iter().map(|(task, _)| *task).collect::<Vec<_>>(), (2..2 + count).collect::<Vec<_>>());

        let line_bytes = |slice: &Slice| (slice.end - slice.start) * if slice.encoding == Encoding::Plain { 1 } else { COMPRESSION_RATIO };
        let all_bytes: u64 = tasks.iter().flat_map(|(_, work)| work.slices()).map(line_bytes).sum();
        let mut read: BTreeMap<&str, Vec<&Slice>> = BTreeMap::new();
        for (task, work) in &tasks {
            let Work::Read(slices) = work else { return Err(TestCaseError::fail("not a reading task")) };
            prop_assert!(!slices.is_empty() && slices.len() <= SLICES_PER_TASK);
            // A slice holds the lines of a thousandth of the lake, at least one file, and the surplus that fills the last file. A task
            // exceeds that by half of what it got last at most: of a slice, or of what was left of a type.
            let files = (all_bytes / file_bytes / TASKS).clamp(1, MAX_FILES_PER_TASK).max(min_slice_bytes.div_ceil(file_bytes));
            let limit = files * file_bytes + (file_bytes / 64).max(1);
            let bytes: u64 = slices.iter().map(line_bytes).sum();
            let largest = slices.iter().map(line_bytes).max().unwrap_or_default();
            prop_assert!(slices.len() == 1 || bytes <= limit + largest.max(limit + largest / 2) / 2 + 1, "{task}: {bytes}");
            for slice in slices {
                read.entry(&slice.pin.object).or_default().push(slice);
            }
        }
        let is_wanted = |pin: &&Pin| {
            let is_skipped = only.is_some() && type_from_name(&pin.object).is_some_and(|kind| kind.as_str() != "Patient");
            encoding_from_name(&pin.object).is_some() && pin.size > 0 && !is_skipped
        };
        let wanted: Vec<&Pin> = pins.iter().filter(is_wanted).collect();
        prop_assert_eq!(source_bytes, wanted.iter().map(|pin| pin.size).sum::<u64>());
        prop_assert_eq!(read.keys().copied().collect::<Vec<_>>(), wanted.iter().map(|pin| pin.object.as_str()).collect::<Vec<_>>());
        for pin in wanted {
            let slices = &read[pin.object.as_str()];
            prop_assert!(slices.iter().all(|slice| slice.pin == *pin && Some(slice.encoding) == encoding_from_name(&pin.object) && slice.start < slice.end));
            prop_assert_eq!((slices[0].start, slices[slices.len() - 1].end), (0, pin.size));
            prop_assert!(slices.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert!(slices.len() == 1 || slices[0].encoding == Encoding::Plain);
        }
    }
}

#[test]
fn a_task_with_long_object_names_fits_into_an_item() {
    // DynamoDB: 400 kB in an item, 1,024 bytes in an object's name.
    let mut planner = SlicePlanner::new(64_000_000, 1 << 20, None);
    for n in 0..2_000 {
        let object = format!("{}/Patient/{n:06}.ndjson", "d".repeat(1_000));
        planner.add_object(Pin { object, etag: "\"0123456789abcdef0123456789abcdef-1234\"".into(), size: 1_000 }, true);
    }
    let (tasks, _, _) = planner.finish();
    let sizes = tasks.iter().map(|(_, work)| serde_json::to_string(work).unwrap().len());
    assert!(sizes.max().unwrap_or_default() < 300_000);
}
