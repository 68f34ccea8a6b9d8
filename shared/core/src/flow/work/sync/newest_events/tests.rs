//! Tests of the newest events of a resource.

use super::*;

/// Returns a time within a minute.
fn time(seconds: &str) -> Instant {
    Instant::parse(&format!("2026-01-31T08:00:{seconds}Z")).unwrap()
}

/// Returns the events of a resource: the time within a minute, the version, and whether it is a deletion.
fn events(list: &[(&str, Option<u64>, bool)]) -> NewestEvents {
    let mut events = NewestEvents::default();
    for (position, (seconds, version, is_deletion)) in list.iter().enumerate() {
        let name_hash = if version.is_some() { 0 } else { position as u64 };
        events.add(TimedEvent { at: time(seconds), version: *version, name_hash, position, text: None }, *is_deletion);
    }
    events
}

/// Returns the events of a resource after these events, in the same form.
fn later(list: &[(&str, Option<u64>, bool)]) -> LaterEvents {
    let mut later = LaterEvents::default();
    for (seconds, version, is_deletion) in list {
        later.add(time(seconds), *version, *is_deletion);
    }
    later
}

/// Describes the newest event: `deleted at` its time, or the position of the version that is current, or probably current.
fn latest(events: &NewestEvents, evidence: Evidence<'_>) -> String {
    match events.latest(evidence) {
        Some(Latest::Deletion(at)) => format!("deleted at {at}"),
        Some(Latest::Version(version)) => format!("version at {}", version.position),
        Some(Latest::Undecided(version)) => format!("undecided: {:?}", version.map(|version| version.position)),
        None => "nothing".to_owned(),
    }
}

#[test]
fn versions_decide_between_events_of_the_same_time_in_any_order() {
    for (version, deletion, is_deleted) in [(9, 10, true), (10, 9, false)] {
        for time in ["05", "05.400"] {
            let mut list = [(time, Some(version), false), ("05", Some(deletion), true)];
            for _ in 0..2 {
                let events = events(&list);
                let is_found = latest(&events, Evidence::default()).starts_with("deleted");
                assert_eq!((events.is_undecided(), is_found), (false, is_deleted), "{list:?}");
                list.reverse();
            }
        }
    }
}

#[test]
fn events_of_the_same_time_without_versions_are_undecided_until_the_server_is_asked() {
    for (time, deletion) in [("05", "05"), ("05.400", "05"), ("05", "05.400"), ("05.400", "05.400")] {
        let events = events(&[(time, None, false), (deletion, None, true)]);
        assert!(events.is_undecided(), "{time} {deletion}");
        let answered = |is_gone| latest(&events, Evidence { is_gone: Some(is_gone), ..Evidence::default() });
        assert!(answered(true).starts_with("deleted") && answered(false) == "version at 0");
        assert_eq!(latest(&events, Evidence::default()), "undecided: Some(0)", "the first one of a history is probably the newest");
        assert_eq!(latest(&events, Evidence { is_ascending: true, ..Evidence::default() }), "undecided: None");
    }
    let different = events(&[("05.400", None, false), ("05.300", None, true)]);
    assert!(!different.is_undecided() && latest(&different, Evidence::default()) == "version at 0");
}

#[test]
fn a_resource_that_is_gone_decides_nothing_if_it_changed_later() {
    let (events, later) = (events(&[("05", None, true), ("05", None, false)]), later(&[("09", None, true)]));
    for (is_gone, expected) in [(true, "undecided: None"), (false, "version at 1")] {
        let evidence = Evidence { later: Some(&later), is_gone: Some(is_gone), is_ascending: false };
        assert_eq!(latest(&events, evidence), expected);
    }
}

#[test]
fn the_number_that_is_missing_is_that_of_the_deletion() {
    // The number before the version, the first events after the window, and what is known then.
    let deletion = ("05", None, true);
    for (before, after, expected) in [
        (Some(1), vec![("09", Some(4), false)], "deleted at 2026-01-31T08:00:05Z"),
        (Some(0), vec![("09", Some(4), false)], "deleted at 2026-01-31T08:00:05Z"),
        (Some(1), vec![("08", None, true), ("09", Some(4), false)], "undecided"),
        (Some(1), vec![("08", Some(4), false), ("09", None, true)], "deleted at 2026-01-31T08:00:05Z"),
        (Some(0), vec![("09", Some(3), false)], "version at"),
        (Some(1), vec![("09", Some(3), false)], "undecided"),
        (Some(1), vec![("09", Some(90), false)], "undecided"),
        (Some(1), vec![("09", None, true)], "undecided"),
        (None, vec![("09", Some(4), false)], "undecided"),
    ] {
        let later = later(&after);
        for is_first in [true, false] {
            let mut list = vec![("05", Some(2), false)];
            list.extend(before.map(|before| ("01", Some(before), false)));
            list.insert(if is_first { 0 } else { list.len() }, deletion);
            let found = latest(&events(&list), Evidence { later: Some(&later), ..Evidence::default() });
            assert!(found.starts_with(expected), "{list:?} {after:?}: {found}");
        }
    }
}

#[test]
fn of_two_versions_of_the_same_time_without_numbers_the_probable_one_depends_on_the_order_of_the_history() {
    let (tied, later) = (events(&[("05", None, false), ("05", None, false), ("01", None, false)]), later(&[("09", None, false)]));
    for (is_ascending, position) in [(false, 0), (true, 1)] {
        let evidence = Evidence { later: Some(&later), is_gone: None, is_ascending };
        assert_eq!(latest(&tied, evidence), format!("undecided: Some({position})"));
        assert_eq!(latest(&tied, Evidence { later: None, ..evidence }), format!("version at {position}"), "the windows have it");
    }
    let newer = events(&[("05", None, false), ("05", None, false), ("06", None, false)]);
    assert_eq!(latest(&newer, Evidence { later: Some(&later), ..Evidence::default() }), "version at 2");
}

#[test]
fn a_version_that_is_read_again_is_the_same_and_has_its_text_then() {
    let version =
        |text: Option<&str>| TimedEvent { at: time("05"), version: None, name_hash: 7, position: 0, text: text.map(str::to_owned) };
    let (mut events, later) = (NewestEvents::default(), later(&[("09", None, false)]));
    events.add(version(None), false);
    events.add(version(Some("{}")), false);
    events.add(version(None), false);
    let evidence = Evidence { later: Some(&later), ..Evidence::default() };
    assert!(matches!(events.latest(evidence), Some(Latest::Version(version)) if version.text.is_some()));
}

#[test]
fn a_deletion_whose_time_was_cut_off_is_not_before_its_version() {
    let events = events(&[("05", Some(2), true), ("05.400", Some(1), false)]);
    assert_eq!(latest(&events, Evidence::default()), "deleted at 2026-01-31T08:00:05.4Z");
}
