use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::arbitrary::chunk_sizes;

fn kind(name: &str) -> ResourceType {
    ResourceType::parse(name).unwrap()
}

#[test]
fn the_block_header_is_the_line_in_the_standard() {
    assert_eq!(
        block_header("Patient/p-1"),
        r#"{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"Patient/p-1"}}]}"#
    );
}

#[test]
fn a_block_header_with_any_id_is_recognized_and_no_resource_is_taken_for_one() {
    for id in ["p-1", "", "a\"b", "a\\", "ä/ö", "\n\u{0}"] {
        let reference = format!("Patient/{id}");
        let line = block_header(&reference);
        assert!(is_block_header(line.as_bytes()) && !line.contains('\n'), "{line}");
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed.pointer("/parameter/0/valueReference/reference").unwrap(), &reference);
    }
    for line in [
        r#"{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"Patient/p"}}],"id":"x"}"#,
        r#"{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"Patient/p","display":"x"}}]}"#,
        r#"{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"Patient/p"}}],"x":[{"y":{"z":"a"}}]}"#,
        r#"{"resourceType":"Patient","id":"p"}"#,
        "",
    ] {
        assert!(!is_block_header(line.as_bytes()), "{line}");
    }
}

#[test]
fn a_resource_is_copied_up_to_a_number_of_bytes() {
    let patients = |count: usize| (0..count).map(|n| (Bucket::from_hash(n as u64), n.to_string())).collect::<Vec<_>>();
    let text = vec![b'x'; 1 << 20];
    let copy = |patients: &[(Bucket, String)], length: usize| {
        let copies = PatientCopies { resource_type: kind("Group"), text: text.get(..length).unwrap(), patient_id: None, patients };
        let roles: BTreeSet<FrameRole> = copies.frames().map(|(_, frame)| frame.role).collect();
        (copies.is_exported(), copies.frames().count(), roles.into_iter().collect::<Vec<_>>())
    };
    assert_eq!(copy(&patients(128), 1 << 20), (true, 128, vec![FrameRole::Member]));
    assert_eq!(copy(&patients(129), 1 << 20), (false, 1, vec![FrameRole::TooManyCopies]));
    assert_eq!(copy(&patients(129), 1_000_000), (true, 129, vec![FrameRole::Member]));
}

#[test]
fn a_file_with_other_content_is_malformed() {
    let frame = Frame { role: FrameRole::Member, resource_type: kind("Patient"), patient: "p", text: b"{}" }.to_bytes();
    let read = |bytes: &[u8]| FrameDecoder::default().push(bytes, &mut |_| {});
    assert_eq!(read(&frame), Ok(()));
    for (at, byte) in [(4, 9), (6, b'p'), (13, 200)] {
        let mut bytes = frame.to_vec();
        *bytes.get_mut(at).unwrap() = byte;
        assert_eq!(read(&bytes), Err(MalformedFrame), "{at}");
    }
}

#[test]
fn small_buckets_share_a_task_and_a_large_bucket_has_several_tasks() {
    let bucket = Bucket::from_hash;
    let whole = |from, to| PatientGrouping { first_bucket: from, end_bucket: to, range: 0, ranges: 1, is_sorted: false };
    let sizes = [(bucket(1), 10), (bucket(2), 20), (bucket(9), 40), (bucket(10), 6), (bucket(63), 151)].into();
    let thirds = (0..3).map(|range| PatientGrouping { first_bucket: 63, end_bucket: 64, range, ranges: 3, is_sorted: false });
    // A task takes three quarters of 80 bytes, which is 60.
    assert_eq!(plan_grouping_tasks(&sizes, 80, false), [whole(1, 3), whole(9, 11)].into_iter().chain(thirds).collect::<Vec<_>>());
    assert_eq!(plan_grouping_tasks(&BTreeMap::new(), 80, false), []);
}

fn frame() -> impl Strategy<Value = (FrameRole, ResourceType, String, Vec<u8>)> {
    let kinds = prop::sample::select(vec!["Account", "Observation", "Patient", "MedicinalProductUndesirableEffect"]);
    let text = prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => vec(prop::sample::select(vec![b'\n', b'\r', 0, 255]), 0..9)];
    (prop::sample::select(FrameRole::ALL.to_vec()), kinds.prop_map(kind), "[a-d\n\"ä]{0,3}", text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn frames_round_trip_with_any_bytes_in_any_chunks(frames in vec(frame(), 0..12), sizes in chunk_sizes()) {
        let serialize = |(role, kind, patient, text): &(FrameRole, ResourceType, String, Vec<u8>)| {
            Frame { role: *role, resource_type: *kind, patient, text }.to_bytes()
        };
        let file: Vec<u8> = frames.iter().flat_map(serialize).collect();
        let mut decoder = FrameDecoder::default();
        let (mut read, mut rest, mut sizes) = (Vec::new(), file.as_slice(), sizes.into_iter().cycle());
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
            decoder
                .push(chunk, &mut |frame| read.push((frame.role, frame.resource_type, frame.patient.to_owned(), frame.text.to_vec())))
                .unwrap();
            rest = after;
        }
        prop_assert!(decoder.is_between_frames());
        prop_assert_eq!(read, frames);
    }

    /// Expects the order position, patient, role, type, order of reading, for any size of the buffer.
    #[test]
    fn a_sort_buffer_of_any_size_returns_every_line_once_and_in_order(frames in vec(frame(), 0..40), limit in 0_u64..2_000, bounds in (0_u64..4, 0_u64..6)) {
        let range = bounds.0..bounds.1;
        // Only a few positions, so that some patients share one.
        let position = |patient: &str| patient.len() as u64;
        let mut expected: Vec<_> = (0_u64..)
            .zip(&frames)
            .map(|(sequence, (role, kind, patient, text))| ((position(patient), patient.clone(), *role, kind.as_str(), sequence), text))
            .filter(|((position, ..), _)| range.contains(position))
            .collect();
        expected.sort();
        let expected: Vec<Vec<u8>> = expected.into_iter().map(|(_, text)| [text.as_slice(), b"\n"].concat()).collect();

        let (mut after, mut found) = (None, Vec::new());
        for pass in 0.. {
            prop_assert!(pass <= frames.len(), "too many passes");
            let mut buffer = SortBuffer::new(limit, range.clone(), after.clone());
            for (sequence, (role, kind, patient, text)) in (0..).zip(&frames) {
                buffer.add(&Frame { role: *role, resource_type: *kind, patient, text }, position(patient), sequence);
            }
            let (lines, is_complete) = buffer.into_sorted();
            after = lines.last().map(|line| line.order.clone()).or(after);
            found.extend(lines.into_iter().map(|line| line.line.to_vec()));
            if is_complete {
                break;
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn each_patient_of_each_bucket_belongs_to_exactly_one_task(
        sizes in prop::collection::btree_map(0_u64..64, 1_u64..3_000, 0..12),
        limit in 1_u64..2_000,
        id in "[A-Za-z0-9-]{1,12}",
    ) {
        let buckets: BTreeMap<Bucket, u64> = sizes.into_iter().map(|(bucket, bytes)| (Bucket::from_hash(bucket), bytes)).collect();
        let partitioner = PatientPartitioner::new(&JobId::from_random([7; 16]), None);
        let tasks = plan_grouping_tasks(&buckets, limit, false);
        for bucket in buckets.keys().map(|bucket| bucket.number()) {
            let of_bucket = tasks.iter().filter(|task| (task.first_bucket..task.end_bucket).contains(&bucket));
            prop_assert_eq!(of_bucket.filter(|task| position_range(task).contains(&partitioner.position(&id))).count(), 1);
        }
    }
}
