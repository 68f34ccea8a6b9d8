//! The resources of a window, page by page: checks them, and turns them into lines.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{MemberIndex, Resource};
use headrace_fhir::instant::Instant;
use headrace_fhir::searchset::{SearchEntry, SearchPage, append_line};
use headrace_fhir::semantics::id::is_id;

use crate::versions::key::{ResourceKey, ResourceKeyHasher};
use crate::vocab::clock::Millis;

/// The largest size of the lines that are held back. Windows of more within a second are not cut there.
const HELD_LIMIT_BYTES: usize = 32 << 20;

/// A second, in nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// The time of a resource that has none.
const NO_TIME: i64 = i64::MAX;

/// The resources of a window that were read so far.
///
/// The lines of the latest second are held back. Where the window comes in the order of time, everything before that second is complete, so
/// that the window can be cut there.
pub(super) struct WindowLines {
    resource_type: ResourceType,
    from: Option<Instant>,
    /// `None` if the resources are not restricted by time.
    to: Option<Instant>,
    hasher: ResourceKeyHasher,
    /// The time of each resource in nanoseconds, by the bytes of its key: together 24 bytes, so that 2 million need 50 MB.
    seen: HashMap<[u8; 16], i64>,
    /// The resources that were changed after the end of the window while it was read.
    moved: HashSet<[u8; 16]>,
    ready: Vec<u8>,
    ready_lines: u64,
    held: Vec<u8>,
    held_lines: u64,
    held_resources: u64,
    /// The latest second. `None` before the first resource.
    held_second: Option<i64>,
    /// True if all lines of the latest second are held.
    is_held_whole: bool,
    can_cut: bool,
    lines: u64,
    duplicates: u64,
    index: MemberIndex,
}

impl WindowLines {
    /// Creates an empty window. `is_sorted` is true if the server was asked for the order of time.
    pub(super) fn new(
        resource_type: ResourceType,
        (from, to): (Option<Millis>, Option<Millis>),
        hasher: ResourceKeyHasher,
        is_sorted: bool,
    ) -> Self {
        let instant = |millis: Millis| Instant::from_millis(millis.0);
        Self {
            resource_type,
            from: from.map(instant),
            to: to.map(instant),
            hasher,
            seen: HashMap::new(),
            moved: HashSet::new(),
            ready: Vec::new(),
            ready_lines: 0,
            held: Vec::new(),
            held_lines: 0,
            held_resources: 0,
            held_second: None,
            is_held_whole: false,
            can_cut: is_sorted && to.is_some(),
            lines: 0,
            duplicates: 0,
            index: MemberIndex::default(),
        }
    }

    /// Returns the number of different resources so far.
    pub(super) fn resources(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Returns the number of resources that changed at or before a moment, and before the cut of the window.
    pub(super) fn resources_up_to(&self, moment: Millis, cut: Option<Millis>) -> u64 {
        let nanos = |moment: Millis| Instant::from_millis(moment.0).nanos();
        let (moment, cut) = (nanos(moment), cut.map(nanos));
        let times = self.seen.values().filter(|time| **time != NO_TIME);
        times.filter(|time| **time <= moment && cut.is_none_or(|cut| **time < cut)).count() as u64
    }

    /// Returns the number of resources in memory, with those that were changed while the window was read.
    pub(super) fn in_memory(&self) -> usize {
        self.seen.len() + self.moved.len()
    }

    /// Returns true if each resource has a time.
    pub(super) fn are_all_timed(&self) -> bool {
        self.seen.values().all(|time| *time != NO_TIME)
    }

    /// Returns the second that divides the window into two parts with about as many resources, and the number of those before it. Resources
    /// without a time do not count. `None` if all others have one second.
    pub(super) fn middle(&self) -> Option<(Millis, u64)> {
        let mut seconds: Vec<i64> = self.seen.values().filter(|time| **time != NO_TIME).map(|time| time.div_euclid(SECOND)).collect();
        seconds.sort_unstable();
        let (first, median) = (*seconds.first()?, *seconds.get(seconds.len() / 2)?);
        let middle = if median > first { median } else { *seconds.iter().find(|second| **second > first)? };
        let before = seconds.partition_point(|second| *second < middle);
        Some((start_of_second(middle)?, before as u64))
    }

    /// Returns the start of the second within which all resources changed. `None` if they changed in several, or one has no time.
    pub(super) fn only_second(&self) -> Option<Millis> {
        let mut seconds = self.seen.values().map(|time| time.div_euclid(SECOND));
        let second = seconds.next().filter(|_| self.are_all_timed())?;
        if seconds.all(|other| other == second) { start_of_second(second) } else { None }
    }

    /// Returns true if a resource with this id is in the window, or was changed while it was read.
    pub(super) fn contains(&self, id: &str) -> bool {
        let key = self.hasher.key(self.resource_type, id.as_bytes());
        self.seen.contains_key(&key.0.to_be_bytes()) || self.moved.contains(&key.0.to_be_bytes())
    }

    /// Forbids that the window is cut, because its order is wrong.
    pub(super) fn forbid_cut(&mut self) {
        self.can_cut = false;
    }

    /// Returns the number of lines so far, with those that are held back.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// Returns the number of resources that the server has sent again.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Adds the resources of a page. Returns the number of new ones, or the reason why the page cannot be part of the window.
    pub(super) fn add(&mut self, page: &SearchPage<'_>) -> Result<u64, String> {
        let before = self.in_memory();
        let mut line = Vec::new();
        for entry in &page.entries {
            match entry {
                SearchEntry::Match(resource) => {
                    line.clear();
                    append_line(resource, &mut line);
                    self.add_line(&line)?;
                }
                SearchEntry::Deletion(_) => return Err("a search result has a deletion".to_owned()),
                SearchEntry::Outcome(_) | SearchEntry::Other | SearchEntry::Unclear => {}
            }
        }
        Ok((self.in_memory() - before) as u64)
    }

    /// Adds a resource.
    fn add_line(&mut self, line: &[u8]) -> Result<(), String> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let mut index = std::mem::take(&mut self.index);
        // An export leaves out what this rejects, such as an object with the same member twice.
        let resource = Resource::parse(text, &mut index).map_err(|reason| format!("an entry is not a resource: {reason}"))?;
        let (key, last_updated) = (self.checked_key(resource.head.resource_type, &resource.id())?, resource.head.last_updated);
        self.index = index;
        if last_updated.zip(self.to).is_some_and(|(time, to)| time >= to) {
            // Some servers search once and send the versions of the moment at which a page is read. The next synchronization has them.
            self.moved.insert(key.0.to_be_bytes());
            return Ok(());
        }
        self.check_time(last_updated)?;
        let time = last_updated.map_or(NO_TIME, Instant::nanos);
        let known = self.seen.insert(key.0.to_be_bytes(), time);
        if known.is_some() {
            self.duplicates += 1;
        }
        // A server without isolation sends a resource again on a later page. A newer version of it is a line of its own.
        if known == Some(time) {
            return Ok(());
        }
        self.push(line, last_updated, known.is_none());
        Ok(())
    }

    /// Returns the key of a resource. Fails if the resource is of another type or its id is not one of FHIR.
    fn checked_key(&self, resource_type: ResourceType, id: &str) -> Result<ResourceKey, String> {
        if resource_type != self.resource_type {
            return Err(format!("the search for {} returns a resource of type {resource_type}", self.resource_type));
        }
        if !is_id(id) {
            return Err("a resource has an id that FHIR does not allow".to_owned());
        }
        Ok(self.hasher.key(resource_type, id.as_bytes()))
    }

    /// Returns an error for a resource that was changed before the window.
    fn check_time(&self, last_updated: Option<Instant>) -> Result<(), String> {
        match last_updated.zip(self.from) {
            Some((time, from)) if time < from => {
                Err(format!("a resource was last changed at {time}, before the window that was asked for"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Adds the line of a resource, and holds it back if it is of the latest second.
    fn push(&mut self, line: &[u8], last_updated: Option<Instant>, is_new: bool) {
        self.lines += 1;
        let second = last_updated.map(|time| time.nanos().div_euclid(SECOND));
        match (second, self.held_second) {
            (Some(second), Some(held)) if second == held => {}
            (Some(second), held) if held.is_none_or(|held| second > held) => {
                self.release_held();
                (self.held_second, self.is_held_whole) = (Some(second), true);
            }
            // Not in the order of time, or without one.
            _ => {
                self.release_held();
                self.can_cut = false;
            }
        }
        self.held.extend_from_slice(line);
        self.held_lines += 1;
        self.held_resources += u64::from(is_new);
        if self.held.len() > HELD_LIMIT_BYTES || !self.can_cut {
            self.release_held();
            self.is_held_whole = false;
        }
    }

    /// Makes the held lines ready to be written.
    pub(super) fn release_held(&mut self) {
        self.ready.append(&mut self.held);
        self.ready_lines += std::mem::take(&mut self.held_lines);
        self.held_resources = 0;
    }

    /// Removes the lines that are ready to be written, and returns them with their number.
    pub(super) fn take_ready(&mut self) -> Option<(Bytes, u64)> {
        let lines = std::mem::take(&mut self.ready_lines);
        (lines > 0).then(|| (std::mem::take(&mut self.ready).into(), lines))
    }

    /// Returns the moment before which everything was read, with the numbers of the resources and lines before it. `None` if the window
    /// cannot be cut.
    pub(super) fn cut(&self) -> Option<WindowCut> {
        let second = self.held_second.filter(|_| self.can_cut && self.is_held_whole)?;
        let at = start_of_second(second)?;
        let is_progress = self.from.is_none_or(|from| Instant::from_millis(at.0) > from) && self.lines > self.held_lines;
        is_progress.then(|| WindowCut { at, resources: self.resources() - self.held_resources, lines: self.lines - self.held_lines })
    }
}

/// Returns the first moment of a second. `None` if it is before 1970.
fn start_of_second(second: i64) -> Option<Millis> {
    Some(Millis(u64::try_from(second).ok()?.checked_mul(1_000)?))
}

/// A time at which a window can be cut: everything before it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowCut {
    pub(super) at: Millis,
    /// The number of different resources before it.
    pub(super) resources: u64,
    /// The number of lines before it.
    pub(super) lines: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::ids::JobId;

    /// Returns an empty window of one minute.
    fn window() -> WindowLines {
        let range = (Some(Millis(1_769_846_400_000)), Some(Millis(1_769_846_460_000)));
        WindowLines::new(ResourceType::PATIENT, range, ResourceKeyHasher::from_job(&JobId::from_random([7; 16])), true)
    }

    /// Returns a Patient that was changed in the minute at this second.
    fn patient(id: &str, second: &str) -> String {
        format!(r#"{{"resourceType":"Patient","id":"{id}","meta":{{"lastUpdated":"2026-01-31T08:00:{second}Z"}}}}"#)
    }

    /// Adds a page of resources.
    fn add(lines: &mut WindowLines, resources: &[String]) -> Result<u64, String> {
        lines.add(&SearchPage { entries: resources.iter().map(|text| SearchEntry::Match(text)).collect(), ..SearchPage::default() })
    }

    /// Returns the text of the lines that are ready.
    fn ready(lines: &mut WindowLines) -> String {
        lines.take_ready().map(|(bytes, _)| String::from_utf8(bytes.to_vec()).unwrap()).unwrap_or_default()
    }

    #[test]
    fn a_sorted_window_can_be_cut_before_its_latest_second() {
        let mut lines = window();
        assert_eq!(add(&mut lines, &[patient("a", "01"), patient("b", "02.1"), patient("c", "02.9")]), Ok(3));
        assert_eq!(lines.cut(), Some(WindowCut { at: Millis(1_769_846_402_000), resources: 1, lines: 1 }));
        assert_eq!(ready(&mut lines), patient("a", "01") + "\n");
        lines.release_held();
        assert_eq!(ready(&mut lines).lines().count(), 2);
    }

    #[test]
    fn the_middle_of_a_window_leaves_resources_on_both_sides() {
        for (seconds, expected) in [
            (vec!["01", "02", "03", "04"], Some((3, 2))),
            (vec!["01", "01", "01.9", "04"], Some((4, 3))),
            (vec!["04.5", "01", "04.1", "04"], Some((4, 1))),
            (vec!["01", "01.5"], None),
            (vec![], None),
        ] {
            let mut lines = window();
            let resources: Vec<_> = (0..).zip(&seconds).map(|(number, second)| patient(&format!("p-{number}"), second)).collect();
            add(&mut lines, &resources).unwrap();
            let expected = expected.map(|(second, before)| (Millis(1_769_846_400_000 + second * 1_000), before));
            assert_eq!(lines.middle(), expected, "{seconds:?}");
        }
    }

    #[test]
    fn a_window_has_a_single_second_only_if_all_resources_have_a_time_in_it() {
        let untimed = || r#"{"resourceType":"Patient","id":"c"}"#.to_owned();
        for (resources, expected) in [
            (vec![patient("a", "01"), patient("b", "01.999")], Some(Millis(1_769_846_401_000))),
            (vec![patient("a", "01"), patient("b", "02")], None),
            (vec![patient("a", "01"), untimed()], None),
            (vec![untimed()], None),
            (vec![], None),
        ] {
            let mut lines = window();
            add(&mut lines, &resources).unwrap();
            assert_eq!(lines.only_second(), expected, "{resources:?}");
        }
    }

    #[test]
    fn a_window_in_another_order_is_not_cut_and_loses_nothing() {
        let mut lines = window();
        add(&mut lines, &[patient("a", "05"), patient("b", "02"), patient("c", "09")]).unwrap();
        assert_eq!(lines.cut(), None);
        lines.release_held();
        assert_eq!((ready(&mut lines).lines().count(), lines.resources(), lines.lines()), (3, 3, 3));
    }

    #[test]
    fn a_resource_that_comes_again_is_written_once_and_a_newer_version_of_it_too() {
        let mut lines = window();
        add(&mut lines, &[patient("a", "01"), patient("a", "01"), patient("a", "03")]).unwrap();
        lines.release_held();
        assert_eq!((ready(&mut lines).lines().count(), lines.resources(), lines.duplicates()), (2, 1, 2));
    }

    #[test]
    fn resources_outside_the_window_are_refused_by_name() {
        for (text, words) in [
            (patient("a", "01").replace("Patient", "Observation"), "type Observation"),
            (patient("../a", "01"), "id that FHIR does not allow"),
            (patient(&"a".repeat(65), "01"), "id that FHIR does not allow"),
            (patient("a", "01").replace("08:00", "07:59"), "before the window"),
            ("{}".to_owned(), "not a resource"),
            (patient("a", "01").replace("}}", r#"},"name":[{"family":"A","family":"B"}]}"#), "the same member twice"),
            (r#"{"resourceType":"Dog","id":"a"}"#.to_owned(), "not a resource"),
        ] {
            let error = add(&mut window(), std::slice::from_ref(&text)).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let message = SearchEntry::Outcome(r#"{"resourceType":"OperationOutcome"}"#);
        assert_eq!(window().add(&SearchPage { entries: vec![message], ..SearchPage::default() }), Ok(0));
    }

    #[test]
    fn a_resource_that_was_changed_meanwhile_is_left_to_the_next_synchronization() {
        let mut lines = window();
        assert_eq!(add(&mut lines, &[patient("a", "01"), patient("b", "01").replace("08:00", "08:01")]), Ok(2));
        lines.release_held();
        assert_eq!((ready(&mut lines).lines().count(), lines.resources()), (1, 1));
    }

    #[test]
    fn a_window_is_divided_in_the_middle_and_not_within_its_first_second() {
        let mut lines = window();
        add(&mut lines, &[patient("a", "09"), patient("b", "02"), patient("c", "05.7")]).unwrap();
        assert_eq!((lines.middle(), lines.in_memory()), (Some((Millis(1_769_846_405_000), 1)), 3));
        let mut lines = window();
        add(&mut lines, &[patient("a", "00"), patient("b", "00.9"), r#"{"resourceType":"Patient","id":"c"}"#.to_owned()]).unwrap();
        assert_eq!(lines.middle(), None);
    }

    #[test]
    fn a_resource_without_a_time_is_kept() {
        let mut lines = window();
        add(&mut lines, &[r#"{"resourceType":"Patient","id":"a"}"#.to_owned(), patient("b", "01")]).unwrap();
        lines.release_held();
        assert_eq!((ready(&mut lines).lines().count(), lines.cut()), (2, None));
    }
}
