//! The newest events of a resource in a history. Some servers give several events of a resource the same time.

use headrace_fhir::instant::Instant;

/// The nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// A version or a deletion of a resource.
pub(super) struct TimedEvent {
    pub(super) at: Instant,
    /// The number of the version. `None` if the server does not number versions.
    pub(super) version: Option<u64>,
    /// A hash of the name of a version without a number, which tells versions of the same time apart. 0 for other events.
    pub(super) name_hash: u64,
    /// The number of events that were read before.
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
    /// Several events may be the newest one. The version is probably current. `None` if the resource is probably deleted.
    Undecided(Option<&'e TimedEvent>),
}

/// The facts about a resource beside its events within the window.
#[derive(Clone, Copy, Default)]
pub(super) struct Evidence<'e> {
    /// The events after the window. `None` without any.
    pub(super) later: Option<&'e LaterEvents>,
    /// The answer of the server to a request for the resource: true if the resource is gone.
    pub(super) is_gone: Option<bool>,
    /// True if the history begins with the oldest event.
    pub(super) is_ascending: bool,
}

/// The events of a resource after the window.
#[derive(Default)]
pub(super) struct LaterEvents {
    /// The smallest number of a version, and its time.
    first_version: Option<(u64, Instant)>,
    /// The time of the first deletion without a number.
    first_deletion: Option<Instant>,
}

impl LaterEvents {
    /// Adds an event.
    pub(super) fn add(&mut self, at: Instant, version: Option<u64>, is_deletion: bool) {
        match version {
            Some(number) if self.first_version.is_none_or(|(known, _)| number < known) => self.first_version = Some((number, at)),
            None if is_deletion => self.first_deletion = Some(self.first_deletion.map_or(at, |known| known.min(at))),
            Some(_) | None => {}
        }
    }

    /// Returns the smallest number of a version. `None` if a deletion without a number may come before it.
    fn next_number(&self) -> Option<u64> {
        let (number, at) = self.first_version?;
        self.first_deletion.is_none_or(|deletion| deletion > at).then_some(number)
    }
}

/// The newest version and the newest deletion of a resource within the window.
#[derive(Default)]
pub(super) struct NewestEvents {
    version: Option<TimedEvent>,
    /// The last one that was read of several versions without numbers that all have the time of `version`.
    last_tied: Option<Box<TimedEvent>>,
    /// The largest known number of an older version.
    number_before: Option<u64>,
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

    /// Returns true if the event comes after another one of its kind. A server gives all events of a kind times of the same precision.
    fn is_newer(&self, other: &Self) -> bool {
        self.is_after(other).unwrap_or(self.at > other.at)
    }

    /// Returns true if this is the same version as another one, which was read again.
    fn is_same_version(&self, other: &Self) -> bool {
        (self.at, self.version, self.name_hash) == (other.at, other.version, other.name_hash)
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
        if !is_deletion {
            self.add_version(event);
        } else if self.deletion.as_ref().is_none_or(|known| event.is_newer(known)) {
            self.deletion = Some(event);
        }
    }

    /// Keeps a version if it is the newest one, or may be.
    fn add_version(&mut self, event: TimedEvent) {
        match &mut self.version {
            None => self.version = Some(event),
            Some(known) if event.is_same_version(known) => known.text = known.text.take().or(event.text),
            Some(known) if event.is_newer(known) => {
                self.number_before = self.number_before.max(known.version);
                (self.version, self.last_tied) = (Some(event), None);
            }
            Some(known) if event.at == known.at && event.version.zip(known.version).is_none() => self.last_tied = Some(Box::new(event)),
            Some(_) => self.number_before = self.number_before.max(event.version),
        }
    }

    /// Returns the size of the texts that are kept, in bytes.
    pub(super) fn text_bytes(&self) -> usize {
        let versions = self.version.iter().chain(self.last_tied.as_deref());
        versions.filter_map(|version| version.text.as_ref()).map(String::len).sum()
    }

    /// Returns true if an event is certainly after this time.
    pub(super) fn has_newer_than(&self, at: Instant) -> bool {
        [&self.version, &self.deletion].into_iter().flatten().any(|event| event.at > at && !may_be_same_time(event.at, at))
    }

    /// Returns true if it is not clear whether the version or the deletion is newer.
    pub(super) fn is_undecided(&self) -> bool {
        self.version.as_ref().zip(self.deletion.as_ref()).is_some_and(|(version, deletion)| deletion.is_after(version).is_none())
    }

    /// Returns the time of the newest event. Events that may have the same time are in the same second.
    pub(super) fn last_time(&self) -> Option<Instant> {
        [&self.version, &self.deletion].into_iter().flatten().map(|event| event.at).max()
    }

    /// Returns true if the numbers of other versions may tell whether the version or the deletion is newer.
    pub(super) fn may_be_decided_by_numbers(&self) -> bool {
        self.version.as_ref().is_some_and(|version| version.version.is_some())
            && self.deletion.as_ref().is_some_and(|deletion| deletion.version.is_none())
    }

    /// Returns the newest event. A deletion is not before the version that it removes, whatever its time has lost: readers of the lake compare
    /// these times.
    pub(super) fn latest(&self, evidence: Evidence<'_>) -> Option<Latest<'_>> {
        // The order of events of the same time is only a hint: a server that shows the newest time first may show the oldest event of it first.
        let version = self.last_tied.as_deref().filter(|_| evidence.is_ascending).or(self.version.as_ref());
        match (version, &self.deletion) {
            (Some(version), Some(deletion)) => Some(match self.is_deleted(version, deletion, evidence) {
                Some(true) => Latest::Deletion(deletion.at.max(version.at)),
                Some(false) => self.existing(version, evidence),
                None => {
                    let is_first = deletion.position < version.position;
                    Latest::Undecided((is_first == evidence.is_ascending).then_some(version))
                }
            }),
            (Some(version), None) => Some(self.existing(version, evidence)),
            (None, Some(deletion)) => Some(Latest::Deletion(deletion.at)),
            (None, None) => None,
        }
    }

    /// Returns the newest event of a resource that exists. The windows have the right one of several versions, unless the resource has
    /// changed later.
    fn existing<'e>(&self, version: &'e TimedEvent, evidence: Evidence<'_>) -> Latest<'e> {
        let is_undecided = self.last_tied.is_some() && evidence.later.is_some();
        if is_undecided { Latest::Undecided(Some(version)) } else { Latest::Version(version) }
    }

    /// Returns true if the deletion is newer than the version. `None` if that is not known.
    fn is_deleted(&self, version: &TimedEvent, deletion: &TimedEvent, evidence: Evidence<'_>) -> Option<bool> {
        let by_numbers = || self.is_deleted_by_numbers(version, deletion, evidence.later?);
        // A resource that is gone may have been deleted after the window.
        let answer = evidence.is_gone.filter(|is_gone| !is_gone || evidence.later.is_none());
        deletion.is_after(version).or_else(by_numbers).or(answer)
    }

    /// Returns true if the deletion is newer than the version by the number that is missing beside that of the version. `None` if the missing
    /// numbers do not say so: a server may leave out numbers, or give none to deletions.
    fn is_deleted_by_numbers(&self, version: &TimedEvent, deletion: &TimedEvent, later: &LaterEvents) -> Option<bool> {
        let number = version.version.filter(|_| deletion.version.is_none())?;
        let missing_before = match self.number_before {
            Some(before) => number.checked_sub(before)?.checked_sub(1)?,
            None if number <= 1 => 0,
            None => return None,
        };
        let missing_after = later.next_number()?.checked_sub(number)?.checked_sub(1)?;
        match (missing_before, missing_after) {
            // A number that is missing before the version, too, is that of an earlier deletion.
            (0 | 1, 1) => Some(true),
            (1, 0) => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
