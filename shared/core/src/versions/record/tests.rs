use headrace_fhir::ResourceType;
use proptest::prelude::*;

use super::*;
use crate::versions::key::Keys;
use crate::vocab::ids::JobId;

fn keys() -> Keys {
    Keys::of(&JobId::from_random([7; 16]))
}

fn kind(name: &str) -> ResourceType {
    ResourceType::named(name).unwrap()
}

fn place() -> impl Strategy<Value = Place> {
    (0_u32..256, 0_u64..1 << 44).prop_map(|(item, offset)| Place::new(item, offset))
}

fn facts() -> impl Strategy<Value = VersionFlags> {
    any::<[bool; 4]>().prop_map(|[is_deletion, is_selected, is_member, is_candidate]| VersionFlags {
        is_deletion,
        is_selected,
        is_member,
        is_candidate,
    })
}

fn key() -> impl Strategy<Value = ResourceKey> {
    any::<u128>().prop_map(ResourceKey)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_note_survives_its_tail(
        key in key(), changed in any::<i64>(), version in any::<u64>(), task in any::<u32>(), place in place(), facts in facts(),
    ) {
        let note = VersionRecord { key, changed, version, task, place, facts };
        let bytes = written(vec![note]);
        prop_assert_eq!(bytes.len(), VersionRecord::BYTES);
        prop_assert_eq!(VersionRecord::read(&bytes, task), note);
    }

    #[test]
    fn a_link_survives_its_tail(
        at in key(), other in key(), task in any::<u32>(), place in place(), facts in facts(), recorded in any::<i64>(), sort in 0..3,
    ) {
        let why = [Why::Standing(facts), Why::Reference, Why::Provenance { recorded }][usize::try_from(sort).unwrap()];
        let link = Link { at, why, task, place, other };
        let bytes = written(vec![link]);
        prop_assert_eq!(bytes.len(), Link::BYTES);
        prop_assert_eq!(Link::read(&bytes, 0), link);
    }

    #[test]
    fn a_place_says_where_a_line_is_and_places_are_ordered_like_lines(one in (0_u32..200, 0_u64..1 << 44), other in (0_u32..200, 0_u64..1 << 44)) {
        let (here, there) = (Place::new(one.0, one.1), Place::new(other.0, other.1));
        prop_assert_eq!((here.item(), here.offset()), one);
        prop_assert_eq!(here.cmp(&there), one.cmp(&other));
    }

    #[test]
    fn what_is_written_is_sorted_by_key(notes in prop::collection::vec((key(), any::<i64>()), 0..50)) {
        let facts = VersionFlags::default();
        let notes: Vec<_> = notes.into_iter().map(|(key, changed)| VersionRecord { key, changed, version: 0, task: 1, place: Place::new(0, 0), facts }).collect();
        let bytes = written(notes.clone());
        let read: Vec<_> = bytes.chunks(VersionRecord::BYTES).map(|bytes| VersionRecord::read(bytes, 1)).collect();
        prop_assert!(read.is_sorted_by_key(|note| (note.key, note.changed)));
        prop_assert_eq!(read.len(), notes.len());
    }
}

#[test]
fn a_key_is_that_of_one_resource_in_one_job() {
    let other = Keys::of(&JobId::from_random([8; 16]));
    let patient = keys().key(kind("Patient"), b"1");
    assert_eq!(patient, keys().key(kind("Patient"), b"1"));
    for different in [keys().key(kind("Patient"), b"2"), keys().key(kind("Person"), b"1"), other.key(kind("Patient"), b"1")] {
        assert_ne!(patient, different);
    }
}

#[test]
fn keys_are_spread_evenly() {
    let keys = keys();
    let mut quarters = [0; 4];
    for n in 0..40_000 {
        quarters[usize::try_from(keys.key(kind("Observation"), n.to_string().as_bytes()).position() >> 62).unwrap()] += 1;
    }
    // Five times the deviation that chance has.
    assert!(quarters.iter().all(|count| (9_570..10_430).contains(count)), "{quarters:?}");
}

#[test]
fn versions_are_ordered_by_number_and_others_by_their_first_letters() {
    assert!(version_rank(None) < version_rank(Some("1")));
    assert!(version_rank(Some("9")) < version_rank(Some("10")));
    assert!(version_rank(Some("a9")) < version_rank(Some("b1")));
    assert_eq!(version_rank(Some("W/\"12345-a")), version_rank(Some("W/\"12345-b")));
}

#[test]
fn without_a_time_a_version_is_older_and_a_deletion_newer_than_all() {
    for text in ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"] {
        let at = Instant::parse(text).ok();
        assert!(changed(None) <= changed(at) && deleted(at) <= deleted(None));
    }
    assert!(changed(Instant::parse("2026-01-01").ok()) < changed(Instant::parse("2026-01-01T00:00:00.000000001Z").ok()));
}

#[test]
fn a_notebook_is_full_at_its_limit() {
    let mut notebook = Notebook { limit_bytes: 100, ..Notebook::of_task(2) };
    let note =
        VersionRecord { key: ResourceKey(0), changed: 0, version: 0, task: 2, place: Place::new(0, 0), facts: VersionFlags::default() };
    for is_full in [false, false, true] {
        notebook.notes.push(note);
        assert_eq!(notebook.is_full(), is_full);
    }
}
