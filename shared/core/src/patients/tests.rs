use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::arbitrary::chunk_sizes;
use crate::flow::work::run_task::WorkerSettings;
use crate::job::{Job, Pass};
use crate::lines::reading::{How, Reading, Taken};
use crate::lines::selection::Selection;
use crate::request::{ExportRequest, Level};
use crate::versions::record::{Notebook, Place};
use crate::vocab::ids::{Caller, JobId};

fn kind(name: &str) -> ResourceType {
    ResourceType::named(name).unwrap()
}

fn job(level: Level) -> Job {
    let request = ExportRequest { level, is_organized: true, ..ExportRequest::default() };
    Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), request, crate::vocab::clock::Millis(0))
}

/// The frames that reading a line makes: role, type, patient, line.
fn frames_of(line: &str, level: Level) -> Vec<(Role, String, String, String)> {
    let selection = Selection::of(&job(level), &WorkerSettings::default(), None, None).unwrap();
    let mut reading = Reading::new(selection, How::First(Pass::Direct));
    let mut notebook = Notebook::of_task(2);
    let Taken::Placed(placed) = reading.take(line.as_bytes(), Place::new(0, 0), &mut notebook) else { return Vec::new() };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    placed.frames().map(|(_, frame)| (frame.role, frame.kind.as_str().to_owned(), frame.patient.to_owned(), text(frame.text))).collect()
}

#[test]
fn a_header_is_the_line_that_the_standard_shows() {
    assert_eq!(
        header("Patient/p-1"),
        r#"{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"Patient/p-1"}}]}"#
    );
}

#[test]
fn a_header_is_known_whatever_the_id_and_no_resource_is_taken_for_one() {
    for id in ["p-1", "", "a\"b", "a\\", "ä/ö", "\n\u{0}"] {
        let reference = format!("Patient/{id}");
        let line = header(&reference);
        assert!(is_header(line.as_bytes()) && !line.contains('\n'), "{line}");
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
        assert!(!is_header(line.as_bytes()), "{line}");
    }
}

#[test]
fn a_resource_goes_to_each_of_its_patients_once() {
    let line = r#"{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/b"},"performer":[{"reference":"Patient/a"},{"reference":"Patient/b"}]}"#;
    let frame = |patient: &str| (Role::Other, "Observation".to_owned(), patient.to_owned(), line.to_owned());
    for level in [Level::System, Level::AllPatients] {
        assert_eq!(frames_of(line, level), [frame("a"), frame("b")]);
    }
}

#[test]
fn a_patient_leads_its_own_block_and_is_a_guest_in_those_it_links_to() {
    let line = r#"{"resourceType":"Patient","id":"b","link":[{"other":{"reference":"Patient/a"},"type":"seealso"}]}"#;
    let frame = |role, patient: &str| (role, "Patient".to_owned(), patient.to_owned(), line.to_owned());
    assert_eq!(frames_of(line, Level::System), [frame(Role::Other, "a"), frame(Role::Patient, "b")]);
}

#[test]
fn a_resource_without_a_patient_is_counted_and_not_written() {
    let line = r#"{"resourceType":"Practitioner","id":"d"}"#;
    assert_eq!(frames_of(line, Level::System), [(Role::WithoutPatient, "Practitioner".to_owned(), String::new(), String::new())]);
}

#[test]
fn a_resource_is_repeated_up_to_a_number_of_bytes() {
    let patients = |count: usize| (0..count).map(|n| (Bucket::of(n as u64), n.to_string())).collect::<Vec<_>>();
    let text = vec![b'x'; 1 << 20];
    let placed = |patients: &[(Bucket, String)], length: usize| {
        let placed = Placed { kind: kind("Group"), text: text.get(..length).unwrap(), own: None, patients };
        let roles: BTreeSet<Role> = placed.frames().map(|(_, frame)| frame.role).collect();
        (placed.is_exported(), placed.frames().count(), roles.into_iter().collect::<Vec<_>>())
    };
    assert_eq!(placed(&patients(128), 1 << 20), (true, 128, vec![Role::Other]));
    assert_eq!(placed(&patients(129), 1 << 20), (false, 1, vec![Role::OfTooMany]));
    assert_eq!(placed(&patients(129), 1_000_000), (true, 129, vec![Role::Other]));
}

#[test]
fn a_file_of_something_else_holds_no_frames() {
    let frame = Frame { role: Role::Other, kind: kind("Patient"), patient: "p", text: b"{}" }.bytes();
    let read = |bytes: &[u8]| FrameDecoder::default().feed(bytes, &mut |_| {});
    assert_eq!(read(&frame), Ok(()));
    for (at, byte) in [(4, 9), (6, b'p'), (13, 200)] {
        let mut bytes = frame.to_vec();
        *bytes.get_mut(at).unwrap() = byte;
        assert_eq!(read(&bytes), Err(Malformed), "{at}");
    }
}

#[test]
fn small_buckets_share_a_task_and_a_large_one_has_several() {
    let bucket = Bucket::of;
    let whole = |from, to| Organizing { from, to, range: 0, of: 1 };
    let sizes = [(bucket(1), 10), (bucket(2), 20), (bucket(9), 40), (bucket(10), 6), (bucket(63), 151)].into();
    let thirds = (0..3).map(|range| Organizing { from: 63, to: 64, range, of: 3 });
    // Three quarters of 80 are 60 for each.
    assert_eq!(share(&sizes, 80), [whole(1, 3), whole(9, 11)].into_iter().chain(thirds).collect::<Vec<_>>());
    assert_eq!(share(&BTreeMap::new(), 80), []);
}

fn frame() -> impl Strategy<Value = (Role, ResourceType, String, Vec<u8>)> {
    let kinds = prop::sample::select(vec!["Account", "Observation", "Patient", "MedicinalProductUndesirableEffect"]);
    let text = prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => vec(prop::sample::select(vec![b'\n', b'\r', 0, 255]), 0..9)];
    (prop::sample::select(Role::ALL.to_vec()), kinds.prop_map(kind), "[a-d\n\"ä]{0,3}", text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn frames_survive_any_bytes_and_any_cuts(frames in vec(frame(), 0..12), sizes in chunk_sizes()) {
        let of = |(role, kind, patient, text): &(Role, ResourceType, String, Vec<u8>)| {
            Frame { role: *role, kind: *kind, patient, text }.bytes()
        };
        let file: Vec<u8> = frames.iter().flat_map(of).collect();
        let mut unframer = FrameDecoder::default();
        let (mut read, mut rest, mut sizes) = (Vec::new(), file.as_slice(), sizes.into_iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
            unframer
                .feed(piece, &mut |frame| read.push((frame.role, frame.kind, frame.patient.to_owned(), frame.text.to_vec())))
                .unwrap();
            rest = after;
        }
        prop_assert!(unframer.is_between_frames());
        prop_assert_eq!(read, frames);
    }

    /// Whatever fits onto a shelf, all lines come in the one order: position, patient, the Patient, type, arrival.
    #[test]
    fn a_shelf_of_any_size_gives_every_line_once_and_in_order(frames in vec(frame(), 0..40), limit in 0_u64..2_000, bounds in (0_u64..4, 0_u64..6)) {
        let range = bounds.0..bounds.1;
        // Few positions, so that patients share some.
        let position = |patient: &str| patient.len() as u64;
        let mut expected: Vec<_> = (0_u64..)
            .zip(&frames)
            .map(|(arrival, (role, kind, patient, text))| ((position(patient), patient.clone(), *role, kind.as_str(), arrival), text))
            .filter(|((position, ..), _)| range.contains(position))
            .collect();
        expected.sort();
        let expected: Vec<Vec<u8>> = expected.into_iter().map(|(_, text)| [text.as_slice(), b"\n"].concat()).collect();

        let (mut after, mut found) = (None, Vec::new());
        for pass in 0.. {
            prop_assert!(pass <= frames.len(), "passes do not come to an end");
            let mut shelf = SortBuffer::new(limit, range.clone(), after.clone());
            for (arrival, (role, kind, patient, text)) in (0..).zip(&frames) {
                shelf.offer(&Frame { role: *role, kind: *kind, patient, text }, position(patient), arrival);
            }
            let (books, are_all) = shelf.into_sorted();
            after = books.last().map(|book| book.order.clone()).or(after);
            found.extend(books.into_iter().map(|book| book.line.to_vec()));
            if are_all {
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
        let buckets: BTreeMap<Bucket, u64> = sizes.into_iter().map(|(bucket, bytes)| (Bucket::of(bucket), bytes)).collect();
        let places = PatientPartitioner::of(&JobId::from_random([7; 16]), None);
        let tasks = share(&buckets, limit);
        for bucket in buckets.keys().map(|bucket| bucket.number()) {
            let of_bucket = tasks.iter().filter(|task| (task.from..task.to).contains(&bucket));
            prop_assert_eq!(of_bucket.filter(|task| positions(task).contains(&places.position_of(&id))).count(), 1);
        }
    }
}
