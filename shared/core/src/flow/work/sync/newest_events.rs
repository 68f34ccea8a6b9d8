//! The newest events of a resource in a history. Some servers give several events of a resource the same time.

use headrace_fhir::instant::Instant;

/// The nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// A version or a deletion of a resource.
pub(super) struct TimedEvent {
    pub(super) at: Instant,
    /// The number of the version. `None` if the server does not number versions.
    pub(super) version: Option<u64>,
    /// The number of events that were read before. Most histories begin with the newest event.
    pub(super) position: usize,
    /// The text of a version that may be missing in the windows.
    pub(super) text: Option<String>,
}

/// The newest event of a resource.
pub(super) enum Latest<'e> {
    /// The resource exists.
    Version(&'e TimedEvent),
    /// The resource was deleted at this time.
    Deletion(Instant),
}

/// The newest version and the newest deletion of a resource within the window.
#[derive(Default)]
pub(super) struct NewestEvents {
    version: Option<TimedEvent>,
    deletion: Option<TimedEvent>,
}

impl TimedEvent {
    /// Returns true if the event comes after another one. `None` if neither the times nor the versions say so.
    fn is_after(&self, other: &Self) -> Option<bool> {
        if !may_be_same_time(self.at, other.at) {
            return Some(self.at > other.at);
        }
        self.version.zip(other.version).filter(|(one, other)| one != other).map(|(one, other)| one > other)
    }
}

/// Returns true if two times are equal, or may be equal: one of them may have lost its fraction of a second.
fn may_be_same_time(one: Instant, other: Instant) -> bool {
    let is_whole = |at: Instant| at.nanos().rem_euclid(SECOND) == 0;
    let second = |at: Instant| at.nanos().div_euclid(SECOND);
    one == other || ((is_whole(one) || is_whole(other)) && second(one) == second(other))
}

impl NewestEvents {
    /// Keeps an event if it is newer than the one of its kind.
    pub(super) fn add(&mut self, event: TimedEvent, is_deletion: bool) {
        let known = if is_deletion { &mut self.deletion } else { &mut self.version };
        if known.as_ref().is_none_or(|known| event.is_after(known).unwrap_or(event.at > known.at)) {
            *known = Some(event);
        }
    }

    /// Returns true if it is not clear whether the version or the deletion is newer.
    pub(super) fn is_undecided(&self) -> bool {
        self.version.as_ref().zip(self.deletion.as_ref()).is_some_and(|(version, deletion)| deletion.is_after(version).is_none())
    }

    /// Returns the newest event. A deletion is not before the version that it removes, whatever its time has lost: readers of the lake compare
    /// these times.
    ///
    /// * `is_gone`: what the server has said of the resource, if it was asked.
    pub(super) fn latest(&self, is_gone: Option<bool>) -> Option<Latest<'_>> {
        match (&self.version, &self.deletion) {
            (Some(version), Some(deletion)) => {
                let is_first = deletion.position < version.position;
                let is_deleted = deletion.is_after(version).or(is_gone).unwrap_or(is_first);
                Some(if is_deleted { Latest::Deletion(deletion.at.max(version.at)) } else { Latest::Version(version) })
            }
            (Some(version), None) => Some(Latest::Version(version)),
            (None, Some(deletion)) => Some(Latest::Deletion(deletion.at)),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the events of a resource: the time within a minute, the version, and whether it is a deletion.
    fn events(list: &[(&str, Option<u64>, bool)]) -> NewestEvents {
        let mut events = NewestEvents::default();
        for (position, (time, version, is_deletion)) in list.iter().enumerate() {
            let at = Instant::parse(&format!("2026-01-31T08:00:{time}Z")).unwrap();
            events.add(TimedEvent { at, version: *version, position, text: None }, *is_deletion);
        }
        events
    }

    /// Returns the time of the deletion if the newest event is one.
    fn deleted_at(events: &NewestEvents, is_gone: Option<bool>) -> Option<String> {
        match events.latest(is_gone) {
            Some(Latest::Deletion(at)) => Some(at.to_string()),
            Some(Latest::Version(_)) | None => None,
        }
    }

    #[test]
    fn versions_decide_between_events_of_the_same_time_in_any_order() {
        for (version, deletion, is_deleted) in [(9, 10, true), (10, 9, false)] {
            for time in ["05", "05.400"] {
                let mut list = [(time, Some(version), false), ("05", Some(deletion), true)];
                for _ in 0..2 {
                    let events = events(&list);
                    assert_eq!((events.is_undecided(), deleted_at(&events, None).is_some()), (false, is_deleted), "{list:?}");
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
            assert!(deleted_at(&events, Some(true)).is_some() && deleted_at(&events, Some(false)).is_none());
            assert_eq!(deleted_at(&events, None), None, "the first one of a history is the newest");
        }
        let different = events(&[("05.400", None, false), ("05.300", None, true)]);
        assert!(!different.is_undecided() && deleted_at(&different, None).is_none());
    }

    #[test]
    fn a_deletion_whose_time_was_cut_off_is_not_before_its_version() {
        let events = events(&[("05", Some(2), true), ("05.400", Some(1), false)]);
        assert_eq!(deleted_at(&events, None).as_deref(), Some("2026-01-31T08:00:05.4Z"));
    }
}
