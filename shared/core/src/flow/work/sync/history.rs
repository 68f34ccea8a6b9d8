//! Reads the history of a type: its deletions, and the versions that were current at the watermark of resources that changed later.
//!
//! A search shows the current versions only. A resource that changes while the windows are read is missing in them, or has its earlier
//! version in the lake. The history, read after all windows, shows each of these resources, and the version that it had before.

use std::collections::{HashMap, HashSet};

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{MemberIndex, Resource};
use headrace_fhir::instant::Instant;
use headrace_fhir::searchset::{SearchEntry, SearchPage, append_line};
use headrace_fhir::semantics::deletion::deletion_bundle;
use headrace_fhir::semantics::id::is_id;

use crate::job::ExportError;
use crate::job::sync::{FetchTask, TimeWindow};
use crate::job::task::{Cursor, Lease, TaskCompletion};
use crate::ports::{AllPorts, OriginRequest};
use crate::vocab::clock::Millis;

use super::super::settings::WorkerSettings;
use super::super::task_end::{TaskEnd, complete_task};
use super::deletions::{SupplementLines, end_deletions_task};
use super::pages::{PageError, PageReader};
use super::paging::{first_page, follow, parse_page};
use super::queries::{history_query, instance_history_query};

/// The largest number of pages of a history.
const PAGES: usize = 100_000;

/// The largest number of resources whose own history is read, because they changed during the first synchronization.
const INSTANCES: usize = 10_000;

/// The size of the pages of servers that leave out the link to the next page, or a divisor of it.
const PAGE_WITHOUT_LINK: u32 = 50;

/// Runs a task that reads the history of a type. If the history cannot be read, the task does not fail: the deletions of the type stay
/// unknown.
pub(super) async fn run_history_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
    (fetch, window): (&FetchTask, TimeWindow),
) -> Result<TaskEnd, ExportError> {
    if lease.cursor >= Cursor::WRITTEN {
        return complete_task(ports, lease, TaskCompletion::Done).await;
    }
    let mut pages = PageReader { ports, lease, settings, stop_at };
    let found = read_history(&mut pages, fetch, window).await;
    end_deletions_task(ports, lease, settings, (fetch.resource_type, "the history of the type cannot be used"), found).await
}

/// Reads the history of a type.
async fn read_history<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    fetch: &FetchTask,
    window: TimeWindow,
) -> Result<SupplementLines, PageError> {
    let mut events = Events::new(fetch.resource_type, window, HashSet::new());
    read_events(pages, fetch, &mut events).await?;
    if events.has_dropped_versions() {
        // The history does not come newest first. Now the resources that changed later are known, so the dropped versions are read again.
        events = Events::new(fetch.resource_type, window, events.later);
        read_events(pages, fetch, &mut events).await?;
    }
    if window.from.is_none() {
        add_earlier_versions(pages, fetch, &mut events).await?;
    }
    Ok(events.into_found())
}

/// Reads all pages of the history of a type.
async fn read_events<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, fetch: &FetchTask, events: &mut Events) -> Result<(), PageError> {
    let since = events.since();
    let query = |spelling| history_query(fetch.resource_type, since, fetch.page_size, spelling);
    let (mut page, _) = first_page(pages, query).await?;
    let mut links = HashSet::new();
    loop {
        let parsed = parse_page(&page)?;
        events.add(&parsed)?;
        let Some(link) = parsed.next else {
            let entries = parsed.entries.len();
            if links.is_empty() && entries >= fetch.page_size.min(PAGE_WITHOUT_LINK) as usize {
                check_whole(pages, fetch, events, entries).await?;
            }
            return Ok(());
        };
        follow(&mut links, &link, PAGES)?;
        page = pages.read(OriginRequest::Link { page: &page.url, link: &link }).await?;
    }
}

/// Returns an error if a first page without a link to another is not the whole history: some servers leave out the link.
async fn check_whole<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    fetch: &FetchTask,
    events: &mut Events,
    entries: usize,
) -> Result<(), PageError> {
    let oldest = events.oldest;
    let query = history_query(fetch.resource_type, events.since(), fetch.page_size.saturating_mul(2), 0);
    let page = pages.read(OriginRequest::Query(&query)).await?;
    let parsed = parse_page(&page)?;
    events.add(&parsed)?;
    // A round number may be the largest page of the server.
    let may_be_largest = entries.is_multiple_of(PAGE_WITHOUT_LINK as usize);
    if events.oldest < oldest || may_be_largest {
        let text = "its first page is full and has no link to another";
        return Err(PageError::Final(text.to_owned()));
    }
    Ok(())
}

/// Adds the versions that were current at the end of the window, of resources that changed since. Each is in the history of the resource.
async fn add_earlier_versions<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    fetch: &FetchTask,
    events: &mut Events,
) -> Result<(), PageError> {
    let ids: Vec<String> = events.later.iter().filter(|id| !events.newest.contains_key(*id)).take(INSTANCES).cloned().collect();
    for id in ids {
        let query = instance_history_query(fetch.resource_type, &id);
        let mut page = match pages.read(OriginRequest::Query(&query)).await {
            Err(PageError::Rejected(..)) => continue,
            page => page?,
        };
        let mut links = HashSet::new();
        loop {
            let parsed = parse_page(&page)?;
            events.add(&parsed)?;
            let Some(link) = parsed.next.filter(|_| !events.newest.contains_key(&id)) else { break };
            follow(&mut links, &link, PAGES)?;
            page = pages.read(OriginRequest::Link { page: &page.url, link: &link }).await?;
        }
    }
    Ok(())
}

/// The newest event of a resource within the window.
struct NewestEvent {
    at: Instant,
    /// The line of the version. `None` if it is a deletion, or a version that nothing replaced later.
    line: Option<Vec<u8>>,
    is_deletion: bool,
}

/// The events of a history.
struct Events {
    resource_type: ResourceType,
    window: TimeWindow,
    /// The resources that changed after the window.
    later: HashSet<String>,
    newest: HashMap<String, NewestEvent>,
    /// The time of the first event.
    oldest: Option<Instant>,
    index: MemberIndex,
}

impl Events {
    /// Creates an empty history. `later` are the resources that are known to have changed after the window.
    fn new(resource_type: ResourceType, window: TimeWindow, later: HashSet<String>) -> Self {
        Self { resource_type, window, later, newest: HashMap::new(), oldest: None, index: MemberIndex::default() }
    }

    /// Returns the moment since which the history is read. Before a first synchronization there is nothing that a deletion could remove.
    fn since(&self) -> Millis {
        self.window.from.unwrap_or(self.window.to)
    }

    /// Adds a page.
    fn add(&mut self, page: &SearchPage<'_>) -> Result<(), PageError> {
        PageError::check_complete(page)?;
        if !page.is_history {
            // A server that does not know the history may ignore the end of the path. It shows no deletions then.
            return Err(PageError::Final("the server answers with the results of a search".to_owned()));
        }
        for entry in &page.entries {
            match entry {
                SearchEntry::Deletion(deletion) if deletion.resource_type == self.resource_type => {
                    let Some(at) = deletion.deleted_at else {
                        return Err(PageError::Final("a deletion has no time".to_owned()));
                    };
                    self.add_event(deletion.id.clone(), at, None);
                }
                SearchEntry::Match(text) => self.add_version(text)?,
                SearchEntry::Deletion(_) | SearchEntry::Outcome(_) | SearchEntry::Other => {}
            }
        }
        Ok(())
    }

    /// Adds a version of a resource.
    fn add_version(&mut self, text: &str) -> Result<(), PageError> {
        let mut line = Vec::new();
        append_line(text, &mut line);
        let mut index = std::mem::take(&mut self.index);
        let head = Resource::parse(line.trim_ascii_end(), &mut index).map(|resource| (resource.head, resource.id().into_owned()));
        let (head, id) = head.map_err(|reason| PageError::Final(format!("an entry is not a resource: {reason}")))?;
        self.index = index;
        let at = head.last_updated.filter(|_| head.resource_type == self.resource_type && is_id(&id));
        let Some(at) = at else { return Err(PageError::Final("an entry is not a version of a resource of the type".to_owned())) };
        self.add_event(id, at, Some(line));
        Ok(())
    }

    /// Adds an event. Without a line it is a deletion.
    fn add_event(&mut self, id: String, at: Instant, line: Option<Vec<u8>>) {
        self.oldest = Some(self.oldest.map_or(at, |oldest| oldest.min(at)));
        let to = Instant::from_millis(self.window.to.0);
        if at >= to {
            self.later.insert(id);
            return;
        }
        if self.newest.get(&id).is_some_and(|newest| newest.at >= at) {
            return;
        }
        let is_deletion = line.is_none();
        let line = line.filter(|_| self.later.contains(&id));
        self.newest.insert(id, NewestEvent { at, line, is_deletion });
    }

    /// Returns true if a version was dropped whose resource has changed later.
    fn has_dropped_versions(&self) -> bool {
        let is_dropped = |id: &String| self.newest.get(id).is_some_and(|newest| newest.line.is_none() && !newest.is_deletion);
        self.later.iter().any(is_dropped)
    }

    /// Returns the lines of what the windows may not have.
    fn into_found(self) -> SupplementLines {
        let mut found = SupplementLines::default();
        for (id, event) in self.newest {
            if event.is_deletion {
                found.deletions.0.extend_from_slice(deletion_bundle(self.resource_type, &id, Some(event.at)).as_bytes());
                found.deletions.0.push(b'\n');
                found.deletions.1 += 1;
            } else if let Some(line) = event.line {
                found.versions.0.extend_from_slice(&line);
                found.versions.1 += 1;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::deletions::Lines;
    use super::*;

    /// The window of these tests, one minute.
    const WINDOW: TimeWindow = TimeWindow { from: Some(Millis(1_769_846_400_000)), to: Millis(1_769_846_460_000), is_counted: false };

    /// Returns the events of a history with these entries: the id, the time in the hour, and whether it is a deletion.
    fn events(entries: &[(&str, &str, bool)]) -> Events {
        let mut events = Events::new(ResourceType::PATIENT, WINDOW, HashSet::new());
        for (id, time, is_deletion) in entries {
            let at = format!("2026-01-31T08:{time}Z");
            let text = format!(r#"{{"resourceType":"Patient","id":"{id}","meta":{{"lastUpdated":"{at}"}}}}"#);
            let instant = Instant::parse(&at).unwrap();
            if *is_deletion {
                events.add_event((*id).to_owned(), instant, None);
            } else {
                assert!(events.add_version(&text).is_ok());
            }
        }
        events
    }

    /// Returns the versions and the deletions of a history, sorted.
    fn found(entries: &[(&str, &str, bool)]) -> (Vec<String>, Vec<String>) {
        let found = events(entries).into_found();
        let lines = |(text, _): Lines| {
            let mut lines: Vec<_> = String::from_utf8(text).unwrap().lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        (lines(found.versions), lines(found.deletions))
    }

    #[test]
    fn resources_that_changed_later_keep_their_last_version_within_the_window() {
        let (versions, deletions) = found(&[
            ("a", "01:05", false),
            ("b", "01:01", true),
            ("a", "00:30", false),
            ("a", "00:10", false),
            ("b", "00:20", false),
            ("c", "00:05", false),
        ]);
        assert!(deletions.is_empty() && versions.len() == 2, "{versions:?}");
        let is_version = |line: &str, id: &str, time: &str| line.contains(&format!(r#""id":"{id}""#)) && line.contains(time);
        assert!(is_version(&versions[0], "a", "08:00:30") && is_version(&versions[1], "b", "08:00:20"), "{versions:?}");
    }

    #[test]
    fn a_deletion_counts_unless_the_resource_was_created_again_within_the_window() {
        let (versions, deletions) = found(&[("a", "00:30", true), ("a", "00:10", false), ("b", "00:40", false), ("b", "00:30", true)]);
        assert_eq!((versions.len(), deletions.len()), (0, 1));
        assert!(deletions[0].contains("Patient/a") && deletions[0].contains("08:00:30"), "{deletions:?}");
    }

    #[test]
    fn results_of_a_search_and_incomplete_pages_are_not_a_history() {
        let add = |page: &SearchPage<'_>| events(&[]).add(page).map_err(PageError::into_text);
        assert_eq!(add(&SearchPage { is_history: true, ..SearchPage::default() }), Ok(()));
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
}
