use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn pin(object: &str, size: u64) -> Pin {
    Pin { object: object.into(), etag: "e".into(), size }
}

fn cut(objects: &[(&str, u64)], file_bytes: u64) -> Vec<Vec<(String, u64, u64)>> {
    let mut cutter = Cutter::new(file_bytes, 1, None);
    for (object, size) in objects {
        cutter.push(pin(object, *size));
    }
    let slices = |work| match work {
        Work::Read(slices) => slices.into_iter().map(|slice: Slice| (slice.pin.object, slice.start, slice.end)).collect(),
        Work::Plan(_) | Work::Resolve(_) | Work::Reread(_) | Work::Organize(_) | Work::Gather(_) | Work::Finish => Vec::new(),
    };
    cutter.finish().0.into_iter().map(|(_, work)| slices(work)).collect()
}

#[test]
fn every_layout_promises_its_type() {
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
        assert_eq!(promised_type(object).map(ResourceType::as_str), Some("Patient"), "{object}");
        assert!(encoding_of(object).is_some(), "{object}");
    }
    assert_eq!(promised_type("everything.ndjson"), None);
    assert_eq!(promised_type("Patients.ndjson"), None);
}

#[test]
fn other_files_are_left_alone() {
    for object in
        ["README.md", "Patient.json", "Patient.ndjson.bz2", "_SUCCESS", "_delta_log/0.ndjson", ".tmp/Patient.ndjson", "Patient.ndjson.tmp"]
    {
        assert_eq!(encoding_of(object), None, "{object}");
    }
}

#[test]
fn small_files_of_one_type_share_a_task_and_types_do_not() {
    let tasks = cut(&[("Observation/1.ndjson", 10), ("Observation/2.ndjson", 10), ("Patient.ndjson", 10)], 1_000);
    assert_eq!(tasks.len(), 2);
    assert_eq!(tasks[0].len(), 2);
}

#[test]
fn a_large_file_is_cut_without_gap_or_overlap() {
    let tasks = cut(&[("Observation.ndjson", 10_000)], 999);
    let ranges: Vec<_> = tasks.into_iter().flatten().map(|(_, start, end)| (start, end)).collect();
    assert!(ranges.len() > 5);
    assert_eq!(ranges.first().map(|range| range.0), Some(0));
    assert_eq!(ranges.last().map(|range| range.1), Some(10_000));
    assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0));
}

#[test]
fn a_compressed_file_is_one_slice_whatever_its_size() {
    assert_eq!(cut(&[("Observation.ndjson.zst", 1 << 40)], 64_000_000).len(), 1);
}

#[test]
fn a_petabyte_is_a_bounded_number_of_tasks() {
    let mut cutter = Cutter::new(64_000_000, 1 << 20, None);
    let mut tasks = 0;
    for n in 0..1_000_000 {
        cutter.push(pin(&format!("Observation/{n:07}.ndjson"), 1_000_000_000));
        tasks += cutter.ready().len();
    }
    assert!(tasks < 300_000, "{tasks}");
}

/// Objects of a lake by name: of three types and none, in all encodings, beside files that are none of our business.
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
    fn slices_cover_every_wanted_object_exactly_and_tasks_are_numbered_without_gaps(
        pins in listing(), file_bytes in 1_u64..5_000, floor_bytes in 1_u64..2_000, only in any::<bool>(), batches in prop::collection::vec(any::<bool>(), 60),
    ) {
        let only = only.then(|| ResourceType::named("Patient").into_iter().collect::<TypeSet>());
        let mut cutter = Cutter::new(file_bytes, floor_bytes, only);
        let mut tasks = Vec::new();
        for (pin, is_taken) in pins.iter().zip(batches) {
            cutter.push(pin.clone());
            if is_taken {
                tasks.extend(cutter.ready());
            }
        }
        let (rest, count, source_bytes) = cutter.finish();
        tasks.extend(rest);
        prop_assert_eq!(tasks.iter().map(|(task, _)| *task).collect::<Vec<_>>(), (2..2 + count).collect::<Vec<_>>());

        let file_bytes = file_bytes.max(floor_bytes);
        let mut read: BTreeMap<&str, Vec<&Slice>> = BTreeMap::new();
        for (task, work) in &tasks {
            let Work::Read(slices) = work else { return Err(TestCaseError::fail("not a reading task")) };
            prop_assert!(!slices.is_empty() && slices.len() <= SLICES_PER_TASK);
            let kinds: Vec<_> = slices.iter().map(|slice| promised_type(&slice.pin.object)).collect();
            prop_assert!(kinds.windows(2).all(|pair| pair[0] == pair[1]));
            // Two files at most, up to 64 where there are many tasks; and what makes the last one full.
            let files = (1_u64 << (task / TASKS_PER_DOUBLING).min(6)).max(2);
            let bytes: u64 = slices.iter().map(|slice| slice.end - slice.start).sum();
            prop_assert!(slices.len() == 1 || bytes <= files * file_bytes + file_bytes / 64 + 1, "{task}: {bytes}");
            for slice in slices {
                read.entry(&slice.pin.object).or_default().push(slice);
            }
        }
        let is_wanted = |pin: &&Pin| {
            let passed_over = only.is_some() && promised_type(&pin.object).is_some_and(|kind| kind.as_str() != "Patient");
            encoding_of(&pin.object).is_some() && pin.size > 0 && !passed_over
        };
        let wanted: Vec<&Pin> = pins.iter().filter(is_wanted).collect();
        prop_assert_eq!(source_bytes, wanted.iter().map(|pin| pin.size).sum::<u64>());
        prop_assert_eq!(read.keys().copied().collect::<Vec<_>>(), wanted.iter().map(|pin| pin.object.as_str()).collect::<Vec<_>>());
        for pin in wanted {
            let slices = &read[pin.object.as_str()];
            prop_assert!(slices.iter().all(|slice| slice.pin == *pin && Some(slice.encoding) == encoding_of(&pin.object) && slice.start < slice.end));
            prop_assert_eq!((slices[0].start, slices[slices.len() - 1].end), (0, pin.size));
            prop_assert!(slices.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert!(slices.len() == 1 || slices[0].encoding == Encoding::Plain);
        }
    }
}

#[test]
fn a_task_is_a_small_item_however_long_its_objects_names_are() {
    // DynamoDB: 400 kB in an item, 1,024 bytes in an object's name.
    let mut cutter = Cutter::new(64_000_000, 1 << 20, None);
    for n in 0..2_000 {
        let object = format!("{}/Patient/{n:06}.ndjson", "d".repeat(1_000));
        cutter.push(Pin { object, etag: "\"0123456789abcdef0123456789abcdef-1234\"".into(), size: 1_000 });
    }
    let (tasks, _, _) = cutter.finish();
    let sizes = tasks.iter().map(|(_, work)| serde_json::to_string(work).unwrap().len());
    assert!(sizes.max().unwrap_or_default() < 300_000);
}
