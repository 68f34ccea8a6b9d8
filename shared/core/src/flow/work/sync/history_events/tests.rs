//! Tests of the events of a history.

use super::super::deletions::Lines;
use super::*;

/// The end of the window of these tests: 2026-01-31T08:01:00Z.
const TO: Millis = Millis(1_769_846_460_000);

/// Returns the events of a history with these entries: the id, the time in the hour, and whether it is a deletion.
fn events(entries: &[(&str, &str, bool)]) -> Events {
    let mut events = Events::new(ResourceType::PATIENT, TO);
    read(&mut events, entries);
    events
}

/// Adds these entries to a history.
fn read(events: &mut Events, entries: &[(&str, &str, bool)]) {
    for (id, time, is_deletion) in entries {
        let at = format!("2026-01-31T08:{time}Z");
        let text = format!(r#"{{"resourceType":"Patient","id":"{id}","meta":{{"lastUpdated":"{at}"}}}}"#);
        let event = if *is_deletion {
            HistoryEvent {
                id: (*id).to_owned(),
                at: Instant::parse(&at).unwrap(),
                is_deletion: true,
                version: None,
                name_hash: 0,
                text: None,
                is_gone: None,
            }
        } else {
            events.parse_version(&text).ok().unwrap()
        };
        events.add_event(event);
    }
}

/// Returns the versions and the deletions of a history, sorted.
fn found(events: Events) -> (Vec<String>, Vec<String>) {
    let found = events.into_lines();
    let lines = |(text, _): Lines| {
        let mut lines: Vec<_> = String::from_utf8(text).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    (lines(found.versions), lines(found.deletions))
}

#[test]
fn resources_that_changed_later_keep_their_last_version_within_the_window() {
    let (versions, deletions) = found(events(&[
        ("a", "01:05", false),
        ("b", "01:01", true),
        ("a", "00:30", false),
        ("a", "00:10", false),
        ("b", "00:20", false),
        ("c", "00:05", false),
    ]));
    assert!(deletions.is_empty() && versions.len() == 2, "{versions:?}");
    let is_version = |line: &str, id: &str, time: &str| line.contains(&format!(r#""id":"{id}""#)) && line.contains(time);
    assert!(is_version(&versions[0], "a", "08:00:30") && is_version(&versions[1], "b", "08:00:20"), "{versions:?}");
}

#[test]
fn a_deletion_counts_unless_the_resource_was_created_again_within_the_window() {
    let (versions, deletions) = found(events(&[("a", "00:30", true), ("a", "00:10", false), ("b", "00:40", false), ("b", "00:30", true)]));
    assert_eq!((versions.len(), deletions.len()), (0, 1));
    assert!(deletions[0].contains("Patient/a") && deletions[0].contains("08:00:30"), "{deletions:?}");
}

/// Returns the number of late deletions from one moment to another, inclusive.
fn late_deletions(events: &Events, (known_up_to, last): (Millis, Millis), was_read: bool) -> u64 {
    let window = HistoryWindow { since: known_up_to, to: TO, known_up_to, was_read, is_first: false };
    events.late_deletions(window, last)
}

#[test]
fn deletions_before_and_after_a_range_are_not_late() {
    let events = events(&[("a", "00:50", true), ("b", "00:40", true), ("c", "00:30", false), ("d", "00:10", true)]);
    let before_end = |seconds: u64| Millis(TO.0 - seconds * 1_000);
    assert_eq!(late_deletions(&events, (before_end(45), before_end(20)), false), 1);
    assert_eq!(late_deletions(&events, (before_end(50), before_end(10)), false), 3);
    assert_eq!(late_deletions(&events, (before_end(10), before_end(50)), false), 0);
}

#[test]
fn after_a_history_that_did_not_decide_only_deletions_with_the_time_of_a_version_are_late() {
    let mut events =
        events(&[("a", "00:50", true), ("b", "00:40", true), ("b", "00:40", false), ("c", "00:30", true), ("c", "00:20", false)]);
    events.add_answer("b", None).ok().unwrap();
    assert_eq!(late_deletions(&events, (Millis(0), TO), false), 3);
    assert_eq!(late_deletions(&events, (Millis(0), TO), true), 1);
}

#[test]
fn deletions_are_known_up_to_the_second_of_the_oldest_events_that_are_not_decided() {
    let mut entries = vec![("a", "01:05", false), ("b", "01:05", false), ("c", "00:05", true)];
    assert_eq!(events(&entries).into_lines().undecided_from, None);
    entries.extend([
        ("a", "00:50.5", false),
        ("a", "00:50", true),
        ("b", "00:30.25", true),
        ("b", "00:30.25", false),
        ("b", "00:10", true),
    ]);
    assert_eq!(events(&entries).into_lines().undecided_from, Some(Millis(TO.0 - 30_000)));
}

#[test]
fn results_of_a_search_and_incomplete_pages_are_not_a_history() {
    let add = |page: &SearchPage<'_>| events(&[]).add(page).map_err(PageError::into_text);
    assert_eq!(add(&SearchPage { is_history: true, ..SearchPage::default() }), Ok(None));
    assert!(add(&SearchPage::default()).unwrap_err().contains("results of a search"));
    let text = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","diagnostics":"shard 3 did not answer"}]}"#;
    let page = SearchPage { is_history: true, entries: vec![SearchEntry::Outcome(text)], ..SearchPage::default() };
    assert!(add(&page).unwrap_err().contains("shard 3 did not answer"));
}

#[test]
fn a_history_in_another_order_is_noticed() {
    assert!(events(&[("a", "00:10", false), ("a", "01:05", false)]).has_dropped_versions());
    assert!(!events(&[("a", "01:05", false), ("a", "00:10", false)]).has_dropped_versions());
    assert!(!events(&[("a", "00:10", true), ("a", "01:05", false)]).has_dropped_versions());
}

#[test]
fn recorded_events_replace_those_that_were_read() {
    let entries = [("a", "01:05", false), ("b", "00:50", true), ("a", "00:30", false), ("c", "00:20", false)];
    let mut read = events(&entries);
    let lines = read.take_unrecorded();
    assert_eq!((lines.len(), read.unrecorded_bytes(), read.take_unrecorded().len()), (entries.len(), 0, 0));
    let mut recorded = events(&[]);
    assert!(lines.iter().all(|line| recorded.add_recorded(line).is_some()));
    assert_eq!(recorded.add_recorded("{}"), None);
    assert_eq!(found(recorded), found(read));
}

#[test]
fn a_second_reading_has_the_versions_that_the_first_one_dropped() {
    let entries = [("a", "00:10", false), ("a", "01:05", false)];
    let mut events = events(&entries);
    assert!(events.has_dropped_versions());
    events.start_anew();
    read(&mut events, &entries);
    assert!(!events.has_dropped_versions());
    assert_eq!(found(events).0.len(), 1);
}

#[test]
fn ids_without_an_event_in_the_window_are_listed_in_their_order() {
    let mut events = events(&[("c", "01:05", false), ("a", "01:04", false), ("b", "01:03", true), ("d", "01:02", false)]);
    assert_eq!(events.unknown_ids(None), ["a", "b", "c", "d"]);
    read(&mut events, &[("c", "00:05", false)]);
    assert_eq!(events.unknown_ids(Some("a")), ["b", "d"]);
}

#[test]
fn the_server_decides_between_a_version_and_a_deletion_of_the_same_time() {
    let entries = [("a", "00:10", false), ("a", "00:10", true), ("b", "00:10", true), ("b", "00:10", false), ("c", "00:10", true)];
    let mut events = events(&entries);
    assert_eq!(events.undecided_ids(), ["a", "b"]);
    events.add_answer("a", None).ok().unwrap();
    let version = br#"{"resourceType":"Patient","id":"b","meta":{"lastUpdated":"2026-01-31T08:00:10Z"}}"#;
    events.add_answer("b", Some(version)).ok().unwrap();
    assert!(events.undecided_ids().is_empty() && events.add_answer("a", Some(version)).is_err());
    let mut recorded = Events::new(ResourceType::PATIENT, TO);
    assert!(events.take_unrecorded().iter().all(|line| recorded.add_recorded(line).is_some()));
    for events in [events, recorded] {
        let (versions, deletions) = found(events);
        assert!(versions.is_empty() && deletions.len() == 2, "{deletions:?}");
        assert!(deletions[0].contains("Patient/a") && deletions[1].contains("Patient/c"), "{deletions:?}");
    }
}

#[test]
fn a_resource_that_has_changed_after_the_window_does_not_decide() {
    let mut events = events(&[("a", "00:10", true), ("a", "00:10", false)]);
    let later = br#"{"resourceType":"Patient","id":"a","meta":{"lastUpdated":"2026-01-31T08:01:10Z"}}"#;
    events.add_answer("a", Some(later)).ok().unwrap();
    assert!(events.undecided_ids().is_empty());
    assert!(!events.is_decided("a") && events.ids_to_number(None).is_empty());
    assert_eq!(late_deletions(&events, (Millis(0), TO), false), 0);
    let lines = events.into_lines();
    assert_eq!((lines.undecided, lines.versions.1, lines.deletions.1), (1, 0, 0));
}
#[test]
fn a_resource_that_is_gone_was_deleted_within_the_window_unless_the_history_shows_a_later_change() {
    let mut events = events(&[("a", "00:10", true), ("a", "00:10", false), ("b", "00:10", true), ("b", "00:10", false)]);
    assert!(!events.has_gone_resources());
    for id in ["a", "b"] {
        events.add_answer(id, None).ok().unwrap();
    }
    assert!(events.has_gone_resources() && events.is_decided("a") && events.is_decided("b"));
    read(&mut events, &[("a", "01:05", true)]);
    assert!(!events.is_decided("a") && events.is_decided("b"));
    let (_, deletions) = found(events);
    assert!(deletions.len() == 1 && deletions[0].contains("Patient/b"), "{deletions:?}");
}

#[test]
fn numbers_of_versions_decide_if_all_versions_are_known() {
    let version = |number: u64, time: &str| {
        format!(r#"{{"resourceType":"Patient","id":"a","meta":{{"versionId":"{number}","lastUpdated":"2026-01-31T08:{time}Z"}}}}"#)
    };
    let mut events = events(&[("a", "00:10", true)]);
    for text in [version(2, "00:10"), version(4, "01:05")] {
        let event = events.parse_version(&text).ok().unwrap();
        events.add_event(event);
    }
    assert_eq!((events.ids_to_number(None), events.ids_to_number(Some("a"))), (vec!["a".to_owned()], Vec::new()));
    let event = events.parse_version(&version(1, "00:05")).ok().unwrap();
    events.add_event(event);
    assert!(events.is_decided("a") && events.ids_to_number(None).is_empty());
    assert_eq!(found(events).1.len(), 1);
}

#[test]
fn the_history_of_a_resource_is_read_until_older_events_are_left() {
    let mut events = events(&[("a", "01:05", false), ("a", "00:10", false)]);
    assert!(events.knows("a") && !events.has_newest("a"), "the next event may have the same time");
    read(&mut events, &[("a", "00:10", true)]);
    assert!(!events.has_newest("a") && !events.is_settled("a"));
    read(&mut events, &[("a", "00:09", false)]);
    assert!(events.has_newest("a"));
    events.start_sequence();
    assert!(!events.has_newest("a"));
}

#[test]
fn the_history_of_a_resource_that_begins_with_the_oldest_event_is_read_to_its_end() {
    let events = events(&[("a", "00:05", false), ("a", "00:10", false), ("a", "00:20", false)]);
    assert!(events.knows("a") && !events.has_newest("a") && !events.is_settled("a") && events.is_decided("a"));
}
