//! The events of a history: versions and deletions of the resources of a type.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{MemberIndex, Resource};
use headrace_fhir::instant::Instant;
use headrace_fhir::searchset::{SearchEntry, SearchPage, append_line};
use headrace_fhir::semantics::deletion::deletion_bundle;
use headrace_fhir::semantics::id::is_id;
use serde::{Deserialize, Serialize};

use crate::job::sync::HistoryWindow;
use crate::vocab::clock::Millis;

use super::deletions::SupplementLines;
use super::newest_events::{Evidence, LaterEvents, Latest, NewestEvents, TimedEvent};
use super::pages::PageError;
use super::split::whole_second;
use super::time_order::TimeOrder;

/// A version or a deletion of a resource. It is recorded as a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HistoryEvent {
    id: String,
    at: Instant,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_deletion: bool,
    /// The number of the version. `None` if the server does not number versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// A hash of the name of a version without a number. 0 for other events.
    #[serde(default, skip_serializing_if = "is_zero")]
    name_hash: u64,
    /// The text of a version that may be missing in the windows: the resource is known to have changed after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The answer of the server to a request for the resource: true if the resource is gone. `None` for an event of the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    is_gone: Option<bool>,
}

/// Returns true for 0.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(hash: &u64) -> bool {
    *hash == 0
}

/// Returns a hash of the name of a version.
fn hash_name(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    hasher.finish()
}

/// The events of a history.
pub(super) struct Events {
    resource_type: ResourceType,
    /// The end of the window.
    to: Instant,
    /// The resources that changed after the window.
    later: HashMap<String, LaterEvents>,
    newest: HashMap<String, NewestEvents>,
    /// The answers of the server about resources of which the history does not say whether they exist: true if they are gone.
    answers: HashMap<String, bool>,
    /// The size of the texts of versions in memory.
    text_bytes: usize,
    /// The number of events that were read.
    count: usize,
    order: TimeOrder,
    /// The events that are not recorded yet, as lines, and their size.
    unrecorded: (Vec<String>, usize),
    index: MemberIndex,
}

impl Events {
    /// Creates an empty history of a type. `to` is the end of the window.
    pub(super) fn new(resource_type: ResourceType, to: Millis) -> Self {
        Self {
            resource_type,
            to: Instant::from_millis(to.0),
            later: HashMap::new(),
            newest: HashMap::new(),
            answers: HashMap::new(),
            text_bytes: 0,
            count: 0,
            order: TimeOrder::default(),
            unrecorded: (Vec::new(), 0),
            index: MemberIndex::default(),
        }
    }

    /// Starts anew with an empty history. The resources that changed after the window stay known.
    pub(super) fn start_anew(&mut self) {
        self.newest.clear();
        self.text_bytes = 0;
        self.start_sequence();
    }

    /// Starts another sequence of pages, such as the history of a resource.
    pub(super) fn start_sequence(&mut self) {
        self.order.start_sequence();
    }

    /// Returns the number of resources in memory.
    pub(super) fn resources(&self) -> usize {
        self.newest.len() + self.later.len()
    }

    /// Returns the size of the texts of versions in memory, in bytes.
    pub(super) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Adds a page. Returns the time of its oldest event.
    pub(super) fn add(&mut self, page: &SearchPage<'_>) -> Result<Option<Instant>, PageError> {
        PageError::check_complete(page)?;
        if !page.is_history {
            // A server that does not know the history may ignore the end of the path. It shows no deletions then.
            return Err(PageError::Final("the server answers with the results of a search".to_owned()));
        }
        let mut oldest = None::<Instant>;
        for entry in &page.entries {
            let event = match entry {
                SearchEntry::Deletion(deletion) if deletion.resource_type == self.resource_type => {
                    let at = deletion.deleted_at.ok_or_else(|| PageError::Final("a deletion has no time".to_owned()))?;
                    let version = deletion.version_id.as_deref().and_then(|version| version.parse().ok());
                    HistoryEvent { id: deletion.id.clone(), at, is_deletion: true, version, name_hash: 0, text: None, is_gone: None }
                }
                SearchEntry::Match(text) => self.parse_version(text)?,
                SearchEntry::Unclear => {
                    let text = "an entry without a resource is neither a change nor a deletion, so it may be a deletion";
                    return Err(PageError::Final(text.to_owned()));
                }
                SearchEntry::Deletion(_) | SearchEntry::Outcome(_) | SearchEntry::Other => continue,
            };
            oldest = Some(oldest.map_or(event.at, |oldest| oldest.min(event.at)));
            self.add_event(event);
        }
        Ok(oldest)
    }

    /// Parses a version of a resource.
    fn parse_version(&mut self, text: &str) -> Result<HistoryEvent, PageError> {
        let mut line = Vec::new();
        append_line(text, &mut line);
        let line = line.trim_ascii_end();
        let mut index = std::mem::take(&mut self.index);
        let head = Resource::parse(line, &mut index).map(|resource| {
            let name = resource.version_id();
            let version = name.as_deref().and_then(|name| name.parse::<u64>().ok());
            let name_hash = if version.is_some() { 0 } else { hash_name(name.as_deref().map_or(line, str::as_bytes)) };
            (resource.head, resource.id().into_owned(), version, name_hash)
        });
        let (head, id, version, name_hash) = head.map_err(|reason| PageError::Final(format!("an entry is not a resource: {reason}")))?;
        self.index = index;
        let at = head.last_updated.filter(|_| head.resource_type == self.resource_type && is_id(&id));
        let Some(at) = at else { return Err(PageError::Final("an entry is not a version of a resource of the type".to_owned())) };
        let is_needed = at < self.to && self.later.contains_key(&id);
        let text = is_needed.then(|| String::from_utf8_lossy(line).into_owned());
        Ok(HistoryEvent { id, at, is_deletion: false, version, name_hash, text, is_gone: None })
    }

    /// Adds an event that was read.
    fn add_event(&mut self, event: HistoryEvent) {
        let line = serde_json::to_string(&event).unwrap_or_default();
        self.unrecorded.1 += line.len();
        self.unrecorded.0.push(line);
        self.apply(event);
    }

    /// Adds the answer of the server to a request for a resource: its text, or `None` if it is gone. A resource that has changed after the window
    /// says nothing about the window.
    pub(super) fn add_answer(&mut self, id: &str, text: Option<&[u8]>) -> Result<(), PageError> {
        let current = text.map(|text| self.parse_version(&String::from_utf8_lossy(text))).transpose()?;
        let event = match current {
            Some(version) if version.id != id => {
                return Err(PageError::Final("the answer to the request for a resource is another one".to_owned()));
            }
            Some(version) if version.at >= self.to => version,
            Some(version) => HistoryEvent { is_gone: Some(false), text: None, ..version },
            None => {
                let (id, is_gone) = (id.to_owned(), Some(true));
                HistoryEvent { id, at: self.to, is_deletion: false, version: None, name_hash: 0, text: None, is_gone }
            }
        };
        self.add_event(event);
        Ok(())
    }

    /// Adds a recorded event. Returns `None` if the line is not one.
    pub(super) fn add_recorded(&mut self, line: &str) -> Option<()> {
        self.apply(serde_json::from_str(line).ok()?);
        Some(())
    }

    /// Keeps an event if it is the newest one of its resource within the window, or what it says about the resource if it is later.
    fn apply(&mut self, event: HistoryEvent) {
        let HistoryEvent { id, at, is_deletion, version, name_hash, text, is_gone } = event;
        self.count += 1;
        if let Some(is_gone) = is_gone {
            self.answers.insert(id, is_gone);
            return;
        }
        self.order.add(at);
        if at >= self.to {
            self.later.entry(id).or_default().add(at, version, is_deletion);
        } else {
            let event = TimedEvent { at, version, name_hash, position: self.count, text };
            let newest = self.newest.entry(id).or_default();
            let before = newest.text_bytes();
            newest.add(event, is_deletion);
            self.text_bytes = self.text_bytes + newest.text_bytes() - before;
        }
    }

    /// Returns the newest event of a resource within the window.
    fn latest(&self, id: &str) -> Option<Latest<'_>> {
        let (later, is_gone) = (self.later.get(id), self.answers.get(id).copied());
        self.newest.get(id)?.latest(Evidence { later, is_gone, is_ascending: self.order.is_ascending() })
    }

    /// Returns the size of the events that are not recorded yet, in bytes.
    pub(super) fn unrecorded_bytes(&self) -> usize {
        self.unrecorded.1
    }

    /// Removes and returns the lines of the events that are not recorded yet.
    pub(super) fn take_unrecorded(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unrecorded).0
    }

    /// Returns true if an event of a resource within the window is known.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.newest.contains_key(id)
    }

    /// Returns true if the history of a resource, which was read up to here, has only events before the newest one within the window left.
    pub(super) fn has_newest(&self, id: &str) -> bool {
        let (events, last) = (self.newest.get(id), self.order.last());
        !self.order.is_ascending() && events.zip(last).is_some_and(|(events, last)| events.has_newer_than(last))
    }

    /// Returns true if the rest of the history of a resource cannot change which of its events within the window is the newest one.
    pub(super) fn is_settled(&self, id: &str) -> bool {
        !self.order.is_ascending() && self.is_decided(id)
    }

    /// Returns the sorted ids after `after` of the resources that changed after the window, and of which no event within it is known.
    pub(super) fn unknown_ids(&self, after: Option<&str>) -> Vec<String> {
        let mut ids: Vec<_> = self.later.keys().filter(|id| Some(id.as_str()) > after && !self.knows(id)).cloned().collect();
        ids.sort_unstable();
        ids
    }

    /// Returns the sorted ids of the resources of which the history does not say whether they exist: a version and a deletion have the same
    /// time. The present state of those that changed after the window does not tell either.
    pub(super) fn undecided_ids(&self) -> Vec<String> {
        let undecided = self.newest.iter().filter(|(id, events)| events.is_undecided() && self.can_be_asked_for(id));
        let mut ids: Vec<_> = undecided.map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// Returns true if the present state of a resource tells its state at the end of the window, and the server was not asked for it yet.
    fn can_be_asked_for(&self, id: &str) -> bool {
        !self.later.contains_key(id) && !self.answers.contains_key(id)
    }

    /// Returns true if the server has said of a resource that it is gone.
    pub(super) fn has_gone_resources(&self) -> bool {
        self.answers.values().any(|is_gone| *is_gone)
    }

    /// Returns true unless several events may be the newest one of a resource within the window.
    pub(super) fn is_decided(&self, id: &str) -> bool {
        !matches!(self.latest(id), Some(Latest::Undecided(_)))
    }

    /// Returns the sorted ids after `after` of the resources that are not decided, but may be by the numbers of all their versions.
    pub(super) fn ids_to_number(&self, after: Option<&str>) -> Vec<String> {
        let may_help = |(id, events): &(&String, &NewestEvents)| {
            Some(id.as_str()) > after && events.may_be_decided_by_numbers() && !self.is_decided(id)
        };
        let mut ids: Vec<_> = self.newest.iter().filter(may_help).map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// Returns true if the text of a version was dropped whose resource has changed later.
    pub(super) fn has_dropped_versions(&self) -> bool {
        let is_dropped = |id: &String| match self.latest(id) {
            Some(Latest::Version(version) | Latest::Undecided(Some(version))) => version.text.is_none(),
            Some(Latest::Deletion(_) | Latest::Undecided(None)) | None => false,
        };
        self.later.keys().any(is_dropped)
    }

    /// Returns the number of deletions within the window and up to a moment, inclusive, that the lake may not have. If an earlier history was
    /// read, these are the deletions that have the time of a version: the earlier history did not decide them, or had them already.
    ///
    /// * `last`: the watermark of the lake.
    pub(super) fn late_deletions(&self, window: HistoryWindow, last: Millis) -> u64 {
        let range = Instant::from_millis(window.known_up_to.0)..=Instant::from_millis(last.0);
        let is_late = |(id, events): &(&String, &NewestEvents)| {
            let is_new = !window.was_read || events.is_undecided();
            is_new && matches!(self.latest(id), Some(Latest::Deletion(at)) if range.contains(&at))
        };
        self.newest.iter().filter(is_late).count() as u64
    }

    /// Returns the second of the oldest event that may not be the newest one of its resource. All events before it are decided. `None` if all
    /// events are.
    fn undecided_from(&self) -> Option<Millis> {
        let undecided = self.newest.iter().filter(|(id, _)| !self.is_decided(id));
        let oldest = undecided.filter_map(|(_, events)| events.last_time()).min()?;
        Some(whole_second(Millis::from_instant(oldest).unwrap_or(Millis(0))))
    }

    /// Returns the lines of what the windows may not have. Of a resource that is not decided, it is the version that is probably current: a
    /// deletion of a resource that exists would be worse.
    pub(super) fn into_lines(self) -> SupplementLines {
        let undecided = self.newest.keys().filter(|id| !self.is_decided(id)).count() as u64;
        let mut found = SupplementLines { undecided, undecided_from: self.undecided_from(), ..SupplementLines::default() };
        for id in self.newest.keys() {
            let (lines, text) = match self.latest(id) {
                Some(Latest::Deletion(at)) => (&mut found.deletions, Some(Cow::Owned(deletion_bundle(self.resource_type, id, Some(at))))),
                Some(Latest::Version(version) | Latest::Undecided(Some(version))) => {
                    (&mut found.versions, version.text.as_deref().map(Cow::Borrowed))
                }
                Some(Latest::Undecided(None)) | None => continue,
            };
            if let Some(text) = text {
                lines.0.extend_from_slice(text.as_bytes());
                lines.0.push(b'\n');
                lines.1 += 1;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
