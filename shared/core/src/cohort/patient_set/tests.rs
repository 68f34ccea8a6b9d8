use std::collections::BTreeSet;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn job() -> JobId {
    JobId::from_random([7; 16])
}

fn kind(name: &str) -> ResourceType {
    ResourceType::parse(name).unwrap()
}

fn member(name: &str, id: &str, is_late_joiner: bool) -> PatientSetMember {
    PatientSetMember { resource_type: kind(name), key: ResourceKeyHasher::from_job(&job()).key(kind(name), id.as_bytes()), is_late_joiner }
}

fn round_trip(patient_set: &PatientSet) -> PatientSet {
    PatientSet::from_bytes(&job(), &patient_set.to_bytes()).unwrap()
}

#[test]
fn a_patient_set_contains_its_members_before_and_after_serialization() {
    let members = [
        member("Patient", "old", false),
        member("Patient", "new", true),
        member("Patient", "both", true),
        member("Patient", "both", false),
        member("Practitioner", "5", false),
        member("Group", "g", false),
    ];
    let patient_set = PatientSet::new(&job(), members);
    for patient_set in [&patient_set, &round_trip(&patient_set)] {
        let known = ["old", "new", "both", "5", "g", ""].map(|id| (patient_set.contains_patient(id), patient_set.joined_after_since(id)));
        assert_eq!(known, [(true, false), (true, true), (true, false), (false, false), (false, false), (false, false)]);
        assert_eq!(
            (patient_set.patient_count(), patient_set.len(), patient_set.is_empty(), patient_set.has_late_joiners()),
            (3, 5, false, true)
        );
        let others = ["Practitioner", "Device", "Group"]
            .map(|name| (patient_set.contains_other(kind(name), "5"), patient_set.contains_other(kind(name), "g")));
        assert_eq!(others, [(true, false), (false, false), (false, true)]);
        let types: Vec<_> =
            ResourceType::all().filter(|kind| patient_set.other_types().contains(*kind)).map(ResourceType::as_str).collect();
        assert_eq!(types, ["Group", "Practitioner"]);
    }
}

#[test]
fn an_empty_patient_set_contains_nothing() {
    let patient_set = round_trip(&PatientSet::new(&job(), []));
    assert!(patient_set.is_empty());
    assert!(!patient_set.contains_patient("") && !patient_set.joined_after_since("1") && !patient_set.contains_other(kind("Device"), "1"));
}

#[test]
fn the_serialized_set_holds_no_ids() {
    let file = PatientSet::new(&job(), [member("Patient", "a-very-distinctive-id", false)]).to_bytes();
    assert_eq!(memchr::memmem::find(&file, b"distinctive"), None);
}

#[test]
fn a_damaged_file_is_rejected() {
    let file = PatientSet::new(&job(), (0..9).map(|id| member("Patient", &id.to_string(), false))).to_bytes();
    for length in 0..file.len() {
        assert!(PatientSet::from_bytes(&job(), &file[..length]).is_err(), "{length}");
    }
    let mut longer = file.to_vec();
    longer.extend([0; 16]);
    assert!(PatientSet::from_bytes(&job(), &longer).is_err());
    let mut swapped = file.to_vec();
    let first = swapped.len() - 32;
    swapped[first..].rotate_left(16);
    assert!(PatientSet::from_bytes(&job(), &swapped).is_err());
    let mut huge = file.to_vec();
    huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(PatientSet::from_bytes(&job(), &huge).is_err());
}

#[test]
fn a_million_patients_fit_into_20_mb() {
    let keys = ResourceKeyHasher::from_job(&job());
    let members = (0..1_000_000).map(|id: u32| PatientSetMember {
        resource_type: kind("Patient"),
        key: keys.patient_key(format!("{id:08}-patient").as_bytes()),
        is_late_joiner: id.is_multiple_of(7),
    });
    let patient_set = PatientSet::new(&job(), members);
    let file = patient_set.to_bytes();
    assert!(file.len() < 16_001_000, "{}", file.len());
    let patient_set = PatientSet::from_bytes(&job(), &file).unwrap();
    let memory: usize = [&patient_set.patients, &patient_set.late_joiners].map(SortedKeys::memory_bytes).into_iter().sum();
    assert!(memory < 20_000_000, "{memory}");
    let ids: Vec<_> = (0..2_000_000_u32).step_by(3).map(|id| format!("{id:08}-patient")).collect();
    let begin = Instant::now();
    let found = ids.iter().filter(|id| patient_set.contains_patient_bytes(id.as_bytes())).count();
    println!("{} ns per lookup, {memory} bytes", begin.elapsed().as_nanos() / ids.len() as u128);
    assert_eq!(found, 333_334);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn sorted_keys_are_a_set(own in prop::collection::vec(any::<u128>(), 0..200), near in prop::collection::vec(0_u128..40, 0..40), other in any::<u128>()) {
        let all: Vec<u128> = own.iter().chain(&near).copied().chain([0, u128::MAX].into_iter().filter(|_| own.len() % 2 == 0)).collect();
        let expected: BTreeSet<u128> = all.iter().copied().collect();
        let set = SortedKeys::new(all.iter().copied().map(ResourceKey).collect());
        prop_assert!(set.iter().map(|key| key.0).eq(expected.iter().copied()));
        for key in all.iter().copied().chain(0..50).chain([other, u128::MAX, u128::MAX - 1]) {
            prop_assert_eq!(set.contains(ResourceKey(key)), expected.contains(&key));
            prop_assert_eq!(set.index_of(ResourceKey(key)), expected.iter().position(|known| *known == key));
        }
    }
}
