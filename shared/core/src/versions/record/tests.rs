use headrace_fhir::definitions::ResourceType;
use proptest::prelude::*;

use super::*;
use crate::versions::key::ResourceKeyHasher;
use crate::vocab::ids::JobId;

fn keys() -> ResourceKeyHasher {
    ResourceKeyHasher::from_job(&JobId::from_random([7; 16]))
}

fn kind(name: &str) -> ResourceType {
    ResourceType::parse(name).unwrap()
}

fn position() -> impl Strategy<Value = LinePosition> {
    (0_u32..256, 0_u64..1 << 44).prop_map(|(item, offset)| LinePosition::new(item, offset))
}

fn flags() -> impl Strategy<Value = VersionFlags> {
    any::<[bool; 6]>().prop_map(|[is_deletion, is_selected, is_member, is_candidate, arrived_late, is_group_member]| VersionFlags {
        is_deletion,
        is_selected,
        is_member,
        is_candidate,
        arrived_late,
        is_group_member,
    })
}

fn key() -> impl Strategy<Value = ResourceKey> {
    any::<u128>().prop_map(ResourceKey)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_version_record_round_trips_through_its_fragment(
        key in key(), changed in any::<i64>(), version in any::<u64>(), task in any::<u32>(), position in position(), flags in flags(),
    ) {
        let record = VersionRecord { key, changed, version, task, position, flags };
        let bytes = write_sorted(&[record]);
        prop_assert_eq!(bytes.len(), VersionRecord::BYTES);
        prop_assert_eq!(VersionRecord::read(&bytes, task), record);
        let merged = write_sorted(&[MergedVersionRecord(record)]);
        prop_assert_eq!(merged.len(), MergedVersionRecord::BYTES);
        prop_assert_eq!(MergedVersionRecord::read(&merged, task.wrapping_add(1)), MergedVersionRecord(record));
    }

    #[test]
    fn a_link_round_trips_through_its_fragment(
        key in key(), other in key(), task in any::<u32>(), position in position(), flags in flags(), recorded in any::<i64>(), sort in 0..3,
    ) {
        let kind = [LinkKind::CurrentVersion(flags), LinkKind::Reference, LinkKind::Provenance { recorded }][usize::try_from(sort).unwrap()];
        let link = ResourceLink { key, kind, task, position, other };
        let bytes = write_sorted(&[link]);
        prop_assert_eq!(bytes.len(), ResourceLink::BYTES);
        prop_assert_eq!(ResourceLink::read(&bytes, 0), link);
    }

    #[test]
    fn positions_hold_slice_and_offset_and_sort_like_lines(one in (0_u32..200, 0_u64..1 << 44), other in (0_u32..200, 0_u64..1 << 44)) {
        let (here, there) = (LinePosition::new(one.0, one.1), LinePosition::new(other.0, other.1));
        prop_assert_eq!((here.slice(), here.offset()), one);
        prop_assert_eq!(here.cmp(&there), one.cmp(&other));
    }

    #[test]
    fn records_are_written_in_the_order_of_their_keys(records in prop::collection::vec((key(), any::<i64>()), 0..50)) {
        let flags = VersionFlags::default();
        let records: Vec<_> = records.into_iter().map(|(key, changed)| VersionRecord { key, changed, version: 0, task: 1, position: LinePosition::new(0, 0), flags }).collect();
        let bytes = write_sorted(&records);
        let read: Vec<_> = bytes.chunks(VersionRecord::BYTES).map(|bytes| VersionRecord::read(bytes, 1)).collect();
        prop_assert!(read.is_sorted_by_key(|record| (record.key, record.changed)));
        prop_assert_eq!(read.len(), records.len());
    }
}

#[test]
fn a_key_depends_on_type_id_and_job() {
    let other = ResourceKeyHasher::from_job(&JobId::from_random([8; 16]));
    let patient = keys().key(kind("Patient"), b"1");
    assert_eq!(patient, keys().key(kind("Patient"), b"1"));
    for different in [keys().key(kind("Patient"), b"2"), keys().key(kind("Person"), b"1"), other.key(kind("Patient"), b"1")] {
        assert_ne!(patient, different);
    }
}

#[test]
fn keys_are_distributed_evenly() {
    let keys = keys();
    let mut quarters = [0; 4];
    for n in 0..40_000 {
        quarters[usize::try_from(keys.key(kind("Observation"), n.to_string().as_bytes()).high_bits() >> 62).unwrap()] += 1;
    }
    // Within five standard deviations.
    assert!(quarters.iter().all(|count| (9_570..10_430).contains(count)), "{quarters:?}");
}

#[test]
fn numeric_version_ids_sort_by_number_and_others_by_their_first_characters() {
    assert!(version_rank(None) < version_rank(Some("1")));
    assert!(version_rank(Some("9")) < version_rank(Some("10")));
    assert!(version_rank(Some("a9")) < version_rank(Some("b1")));
    assert_eq!(version_rank(Some("W/\"12345-a")), version_rank(Some("W/\"12345-b")));
}

#[test]
fn without_a_time_a_version_is_oldest_and_a_deletion_newest() {
    for text in ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"] {
        let at = Instant::parse(text).ok();
        assert!(change_time(None) <= change_time(at) && deletion_time(at) <= deletion_time(None));
    }
    assert!(change_time(Instant::parse("2026-01-01").ok()) < change_time(Instant::parse("2026-01-01T00:00:00.000000001Z").ok()));
}

#[test]
fn a_version_log_is_full_at_its_limit() {
    let mut log = VersionLog { limit_bytes: 100, ..VersionLog::new(2) };
    let record = VersionRecord {
        key: ResourceKey(0),
        changed: 0,
        version: 0,
        task: 2,
        position: LinePosition::new(0, 0),
        flags: VersionFlags::default(),
    };
    for is_full in [false, false, true] {
        log.add_version(record);
        assert_eq!(log.is_full(), is_full);
    }
}
