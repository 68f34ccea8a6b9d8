use std::collections::BTreeSet;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn job() -> JobId {
    JobId::from_random([7; 16])
}

fn kind(name: &str) -> ResourceType {
    ResourceType::named(name).unwrap()
}

fn entry(name: &str, id: &str, is_late: bool) -> Entry {
    Entry { kind: kind(name), key: Keys::of(&job()).key(kind(name), id.as_bytes()), is_late }
}

fn read_again(roster: &Roster) -> Roster {
    Roster::read(&job(), &roster.write()).unwrap()
}

#[test]
fn a_roster_knows_its_members_before_and_after_it_was_a_file() {
    let members = [
        entry("Patient", "old", false),
        entry("Patient", "new", true),
        entry("Patient", "both", true),
        entry("Patient", "both", false),
        entry("Practitioner", "5", false),
        entry("Group", "g", false),
    ];
    let roster = Roster::of(&job(), members);
    for roster in [&roster, &read_again(&roster)] {
        let known = ["old", "new", "both", "5", "g", ""].map(|id| (roster.contains_patient(id), roster.joined_late(id)));
        assert_eq!(known, [(true, false), (true, true), (true, false), (false, false), (false, false), (false, false)]);
        assert_eq!((roster.patients(), roster.len(), roster.is_empty(), roster.has_late_members()), (3, 5, false, true));
        let others = ["Practitioner", "Device", "Group"]
            .map(|name| (roster.contains_other(kind(name), "5"), roster.contains_other(kind(name), "g")));
        assert_eq!(others, [(true, false), (false, false), (false, true)]);
        let kinds: Vec<_> = ResourceType::all().filter(|kind| roster.other_kinds().contains(*kind)).map(ResourceType::as_str).collect();
        assert_eq!(kinds, ["Group", "Practitioner"]);
    }
}

#[test]
fn an_empty_roster_holds_nobody() {
    let roster = read_again(&Roster::of(&job(), []));
    assert!(roster.is_empty());
    assert!(!roster.contains_patient("") && !roster.joined_late("1") && !roster.contains_other(kind("Device"), "1"));
}

#[test]
fn no_id_is_in_the_file() {
    let file = Roster::of(&job(), [entry("Patient", "a-very-telling-id", false)]).write();
    assert_eq!(memchr::memmem::find(&file, b"telling"), None);
}

#[test]
fn a_damaged_file_is_refused() {
    let file = Roster::of(&job(), (0..9).map(|id| entry("Patient", &id.to_string(), false))).write();
    for length in 0..file.len() {
        assert!(Roster::read(&job(), &file[..length]).is_err(), "{length}");
    }
    let mut longer = file.to_vec();
    longer.extend([0; 16]);
    assert!(Roster::read(&job(), &longer).is_err());
    let mut swapped = file.to_vec();
    let first = swapped.len() - 32;
    swapped[first..].rotate_left(16);
    assert!(Roster::read(&job(), &swapped).is_err());
    let mut huge = file.to_vec();
    huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(Roster::read(&job(), &huge).is_err());
}

#[test]
fn a_million_patients_take_20_mb_and_are_found() {
    let keys = Keys::of(&job());
    let members = (0..1_000_000).map(|id: u32| Entry {
        kind: kind("Patient"),
        key: keys.patient(format!("{id:08}-patient").as_bytes()),
        is_late: id.is_multiple_of(7),
    });
    let roster = Roster::of(&job(), members);
    let file = roster.write();
    assert!(file.len() < 16_001_000, "{}", file.len());
    let roster = Roster::read(&job(), &file).unwrap();
    let held: usize = [&roster.steady, &roster.late].map(SortedKeys::held_bytes).into_iter().sum();
    assert!(held < 20_000_000, "{held}");
    let ids: Vec<_> = (0..2_000_000_u32).step_by(3).map(|id| format!("{id:08}-patient")).collect();
    let begin = Instant::now();
    let found = ids.iter().filter(|id| roster.contains_patient_bytes(id.as_bytes())).count();
    println!("{} ns a look-up, {held} bytes held", begin.elapsed().as_nanos() / ids.len() as u128);
    assert_eq!(found, 333_334);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn sorted_keys_are_a_set(own in prop::collection::vec(any::<u128>(), 0..200), near in prop::collection::vec(0_u128..40, 0..40), asked in any::<u128>()) {
        let all: Vec<u128> = own.iter().chain(&near).copied().chain([0, u128::MAX].into_iter().filter(|_| own.len() % 2 == 0)).collect();
        let expected: BTreeSet<u128> = all.iter().copied().collect();
        let set = SortedKeys::of(all.iter().copied().map(ResourceKey).collect());
        prop_assert!(set.iter().map(|key| key.0).eq(expected.iter().copied()));
        for key in all.iter().copied().chain(0..50).chain([asked, u128::MAX, u128::MAX - 1]) {
            prop_assert_eq!(set.contains(ResourceKey(key)), expected.contains(&key));
            prop_assert_eq!(set.place(ResourceKey(key)), expected.iter().position(|known| *known == key));
        }
    }
}
