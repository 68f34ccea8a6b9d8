//! Reads the history of a type: its deletions, and the versions that were current at the watermark of resources that changed later.
//!
//! A search shows the current versions only. A resource that changes within the lag before the start, or while the windows are read, is
//! missing in them, or has its earlier version in the lake. The history, read after all windows and up to the present, shows each of these
//! resources, and the version that it had before.
//!
//! The events are recorded every few minutes and at the end of an attempt, with the position after them. The next attempt continues there.

mod decide;

use headrace_fhir::instant::Instant;
use headrace_fhir::searchset::{SearchEntry, SearchPage};
use serde::{Deserialize, Serialize};

use crate::job::ExportError;
use crate::job::file::OutputKind;
use crate::job::sync::{FetchTask, HistoryWindow};
use crate::job::task::{Cursor, Lease, TaskCompletion};
use crate::ports::{AllPorts, OriginRequest};
use crate::vocab::clock::Millis;
use crate::vocab::plural::counted;

use super::super::heartbeat::send_heartbeat_if_due;
use super::super::settings::WorkerSettings;
use super::super::task_end::{TaskEnd, complete_task};
use super::deletions::{SupplementLines, end_deletions_task};
use super::fetch::RECORDED;
use super::history_events::Events;
use super::listing::CHECKPOINT_INTERVAL;
use super::pages::{PageError, PageReader};
use super::paging::{FollowedLinks, PagePosition, follow, parse_page};
use super::progress::{read_progress, record_progress, recorded_fragments, unreadable};
use super::queries::{history_query, instance_history_query};

/// The largest number of pages of the history of a resource.
const INSTANCE_PAGES: usize = 100_000;

/// The largest number of resources whose own history is read, because they changed during the synchronization.
const INSTANCES: u64 = 10_000;

/// The largest number of times that a history is read whose versions do not come newest first.
const READINGS: u32 = 5;

/// The size of the events after which they are recorded before it is time.
const UNRECORDED_BYTES: usize = 8 << 20;

/// The size of the texts of versions in memory, for each resource that a history may have.
const TEXT_BYTES_PER_RESOURCE: usize = 50;

/// The size of the pages of servers that leave out the link to the next page, or a divisor of it.
const PAGE_WITHOUT_LINK: u32 = 50;

/// Runs a task that reads the history of a type, from its recorded progress to its end, or until `stop_at`. If the history cannot be read,
/// the task does not fail: the deletions of the type stay unknown.
pub(super) async fn run_history_task(
    ports: &impl AllPorts,
    lease: &mut Lease,
    settings: &WorkerSettings,
    stop_at: Millis,
    (fetch, window): (&FetchTask, HistoryWindow),
) -> Result<TaskEnd, ExportError> {
    if lease.cursor == RECORDED {
        return complete_task(ports, lease, TaskCompletion::Done).await;
    }
    let mut pages = PageReader { ports, lease, settings, stop_at };
    let found = read_history(&mut pages, fetch, window).await;
    end_deletions_task(ports, lease, settings, (fetch.resource_type, "the history of the type cannot be used"), found).await
}

/// Reads what is left of the history of a type. Records what was read if the attempt ends before.
async fn read_history<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    fetch: &FetchTask,
    window: HistoryWindow,
) -> Result<SupplementLines, PageError> {
    let mut history = HistoryReader::resume(pages, fetch, window).await?;
    match history.read(pages).await {
        Ok(()) => Ok(history.into_lines(pages.lease.job.planned.and_then(|planned| planned.time.watermark.object_time()))),
        Err(error @ (PageError::TimeUp | PageError::Attempt(_))) => {
            history.record(pages).await?;
            Err(error)
        }
        Err(error @ (PageError::Rejected(..) | PageError::TooLong | PageError::Incomplete(_) | PageError::Final(_))) => Err(error),
    }
}

/// The progress of a history. It is recorded before the events that were read since the last record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct HistoryProgress {
    /// The number of readings before this one: the versions did not come newest first.
    earlier_readings: u32,
    /// The position in the history of the type.
    position: PagePosition,
    /// The last resource whose own history was read, in the order of ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_instance: Option<String>,
    /// The number of resources whose own history was read.
    instances: u64,
    /// The last resource whose own history was read for the numbers of its versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_numbered: Option<String>,
    /// The number of resources whose version at the end of the window the server did not show.
    unknown_instances: u64,
    /// The number of resources that the server was asked for.
    #[serde(default)]
    answers: u64,
    /// The number of events since the first page was read last.
    #[serde(default)]
    events: u64,
    /// The smallest total that these pages state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

impl HistoryProgress {
    /// Counts the events of a page.
    fn count(&mut self, page: &SearchPage<'_>) {
        if self.position.is_at_start() {
            (self.events, self.total) = (0, None);
        }
        self.events += page.entries.iter().filter(|entry| !matches!(entry, SearchEntry::Outcome(_))).count() as u64;
        // New events raise the total while the pages are read.
        self.total = self.total.into_iter().chain(page.total).min();
    }

    /// Returns an error if the pages have fewer events than the server states.
    fn check_total(&self) -> Result<(), PageError> {
        match self.total {
            Some(total) if total > self.events => {
                let stated = counted(total, "event", "events");
                Err(PageError::Final(format!("the server states {stated}, and its pages have {}", self.events)))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A history that is being read.
struct HistoryReader<'f> {
    fetch: &'f FetchTask,
    window: HistoryWindow,
    events: Events,
    progress: HistoryProgress,
    recorded: HistoryProgress,
    /// The time at which the progress is to be recorded.
    record_at: Millis,
    /// The links that this attempt has followed.
    links: FollowedLinks,
}

impl<'f> HistoryReader<'f> {
    /// Continues where an earlier attempt has ended.
    async fn resume<W: AllPorts>(
        pages: &mut PageReader<'_, '_, W>,
        fetch: &'f FetchTask,
        window: HistoryWindow,
    ) -> Result<Self, ExportError> {
        let (mut events, mut recorded) = (Events::new(fetch.resource_type, window.to), HistoryProgress::default());
        for fragment in recorded_fragments(pages, OutputKind::SyncProgress).await? {
            let (progress, lines) = read_progress::<W, HistoryProgress>(pages, &fragment).await?;
            if progress.earlier_readings > recorded.earlier_readings {
                events.start_anew();
            }
            for line in &lines {
                events.add_recorded(line).ok_or_else(unreadable)?;
            }
            recorded = progress;
            send_heartbeat_if_due(pages.ports, pages.lease, pages.settings.lease.duration).await?;
        }
        let record_at = pages.ports.now() + CHECKPOINT_INTERVAL;
        Ok(Self { fetch, window, events, progress: recorded.clone(), recorded, record_at, links: FollowedLinks::default() })
    }

    /// Reads what is left.
    async fn read<W: AllPorts>(&mut self, pages: &mut PageReader<'_, '_, W>) -> Result<(), PageError> {
        loop {
            while !self.progress.position.is_complete {
                self.read_page(pages).await?;
            }
            self.progress.check_total()?;
            if !self.events.has_dropped_versions() {
                break;
            }
            self.read_again(pages).await?;
        }
        if self.window.is_first {
            self.add_earlier_versions(pages).await?;
        }
        self.decide(pages).await
    }

    /// Reads the next page of the history of the type.
    async fn read_page<W: AllPorts>(&mut self, pages: &mut PageReader<'_, '_, W>) -> Result<(), PageError> {
        self.record_if_due(pages).await?;
        let (kind, since, page_size) = (self.fetch.resource_type, self.window.since, self.fetch.page_size);
        let query = |spelling| history_query(kind, since, page_size, spelling);
        let page = self.progress.position.read_next(pages, &mut self.links, (kind, "the history"), query).await?;
        let parsed = parse_page(&page)?;
        let oldest = self.events.add(&parsed)?;
        self.check_size(pages.settings.max_window_resources / 2)?;
        if self.progress.position.is_at_start() && may_lack_link(&parsed, page_size) {
            self.check_whole(pages, oldest, parsed.entries.len()).await?;
        }
        self.progress.count(&parsed);
        self.progress.position.advance(&page.url, parsed.next);
        Ok(send_heartbeat_if_due(pages.ports, pages.lease, pages.settings.lease.duration).await?)
    }

    /// Returns an error if the events are of more resources than fit into memory. Each takes as much as ten of a window.
    fn check_size(&self, limit: usize) -> Result<(), PageError> {
        let limit_bytes = limit.saturating_mul(TEXT_BYTES_PER_RESOURCE);
        let excess = if self.events.resources() > limit {
            format!("the events of more than {limit} resources")
        } else if self.events.text_bytes() > limit_bytes {
            format!("more than {limit_bytes} bytes of versions of resources that changed during the synchronization")
        } else {
            return Ok(());
        };
        Err(PageError::Final(format!("it has {excess}; --reconcile finds deletions without a history")))
    }

    /// Returns an error if a first page without a link to another is not the whole history: some servers leave out the link.
    ///
    /// * `oldest`: the time of the oldest event of the page.
    async fn check_whole<W: AllPorts>(
        &mut self,
        pages: &mut PageReader<'_, '_, W>,
        oldest: Option<Instant>,
        entries: usize,
    ) -> Result<(), PageError> {
        let query = history_query(self.fetch.resource_type, self.window.since, self.fetch.page_size.saturating_mul(2), 0);
        let page = pages.read(OriginRequest::Query(&query)).await?;
        let oldest_of_larger_page = self.events.add(&parse_page(&page)?)?;
        // A round number may be the largest page of the server.
        let may_be_largest = entries.is_multiple_of(PAGE_WITHOUT_LINK as usize);
        if oldest_of_larger_page < oldest || may_be_largest {
            let text = "its first page is full and has no link to another";
            return Err(PageError::Final(text.to_owned()));
        }
        Ok(())
    }

    /// Prepares another reading. The history does not come newest first, and now the resources that changed later are known.
    async fn read_again<W: AllPorts>(&mut self, pages: &mut PageReader<'_, '_, W>) -> Result<(), PageError> {
        let earlier_readings = self.progress.earlier_readings + 1;
        if earlier_readings >= READINGS {
            return Err(PageError::Final("its versions do not come newest first, and change while they are read".to_owned()));
        }
        self.record(pages).await?;
        self.events.start_anew();
        self.links.clear();
        self.progress = HistoryProgress { earlier_readings, ..HistoryProgress::default() };
        Ok(())
    }

    /// Adds the versions that were current at the end of the window, of resources that changed since. Each is in the history of the
    /// resource.
    async fn add_earlier_versions<W: AllPorts>(&mut self, pages: &mut PageReader<'_, '_, W>) -> Result<(), PageError> {
        for id in self.events.unknown_ids(self.progress.last_instance.as_deref()) {
            if self.progress.instances >= INSTANCES {
                self.progress.unknown_instances += 1;
                continue;
            }
            self.record_if_due(pages).await?;
            let is_shown = self.read_instance(pages, &id, Events::has_newest).await?;
            self.progress.unknown_instances += u64::from(!is_shown);
            self.progress.instances += 1;
            self.progress.last_instance = Some(id);
            send_heartbeat_if_due(pages.ports, pages.lease, pages.settings.lease.duration).await?;
        }
        Ok(())
    }

    /// Reads the history of a resource until the events are enough, or to its end. Returns false if the server does not show it.
    async fn read_instance<W: AllPorts>(
        &mut self,
        pages: &mut PageReader<'_, '_, W>,
        id: &str,
        is_enough: fn(&Events, &str) -> bool,
    ) -> Result<bool, PageError> {
        let query = instance_history_query(self.fetch.resource_type, id);
        self.events.start_sequence();
        let mut page = match pages.read(OriginRequest::Query(&query)).await {
            Err(PageError::Rejected(..)) => return Ok(false),
            page => page?,
        };
        let mut links = FollowedLinks::default();
        loop {
            let parsed = parse_page(&page)?;
            self.events.add(&parsed)?;
            self.check_size(pages.settings.max_window_resources / 2)?;
            let Some(link) = parsed.next.filter(|_| !is_enough(&self.events, id)) else { return Ok(true) };
            follow(&mut links, &link, INSTANCE_PAGES)?;
            page = pages.read(OriginRequest::Link { page: &page.url, link: &link }).await?;
        }
    }

    /// Records the progress if it is time. Fails if the attempt must end.
    async fn record_if_due<W: AllPorts>(&mut self, pages: &mut PageReader<'_, '_, W>) -> Result<(), PageError> {
        if pages.is_time_up() {
            return Err(PageError::TimeUp);
        }
        if pages.ports.now() >= self.record_at || self.events.unrecorded_bytes() >= UNRECORDED_BYTES {
            self.record(pages).await?;
        }
        Ok(())
    }

    /// Records the events since the last record with the position after them, if there is progress.
    async fn record<W: AllPorts>(&mut self, pages: &mut PageReader<'_, '_, W>) -> Result<(), ExportError> {
        self.record_at = pages.ports.now() + CHECKPOINT_INTERVAL;
        if self.progress == self.recorded {
            return Ok(());
        }
        let lines = self.events.take_unrecorded();
        let cursor = Cursor { item: 0, offset: pages.lease.cursor.offset + 1 };
        record_progress(pages, self.fetch.resource_type, (&self.progress, &lines), cursor).await?;
        self.recorded = self.progress.clone();
        Ok(())
    }

    /// Returns the lines of what the windows may not have.
    ///
    /// * `watermark`: that of the lake before the synchronization.
    fn into_lines(self, watermark: Option<Millis>) -> SupplementLines {
        // Some servers show what is before the requested time, too. The lake has that.
        let late_deletions = watermark.map_or(0, |watermark| self.events.late_deletions(self.window, watermark));
        let found = self.events.into_lines();
        let unknown = (self.progress.unknown_instances > 0).then(|| {
            let changed = counted(self.progress.unknown_instances, "resource", "resources");
            format!(
                "{changed} changed during the synchronization, and the server did not show the versions before: the next one fetches these"
            )
        });
        let undecided = (found.undecided > 0).then(|| {
            let tied = counted(found.undecided, "resource has", "resources have");
            format!(
                "{tied} several events at the same time and changed later, and neither the numbers of the versions nor the server say which \
                 event came last: the deletions from the first of these events on count as unknown, and the next synchronization reads the \
                 history again from there"
            )
        });
        let remarks: Vec<String> = unknown.into_iter().chain(undecided).collect();
        SupplementLines { late_deletions, remark: (!remarks.is_empty()).then(|| remarks.join("; ")), ..found }
    }
}

/// Returns true if a first page without a link may lack one: it is full.
fn may_lack_link(page: &SearchPage<'_>, page_size: u32) -> bool {
    page.next.is_none() && page.entries.len() >= page_size.min(PAGE_WITHOUT_LINK) as usize
}
