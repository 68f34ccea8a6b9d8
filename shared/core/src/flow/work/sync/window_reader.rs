//! Reads a window: its pages one after the other, and the server's counts before and after them.

use headrace_fhir::searchset::SearchPage;

use crate::job::ExportError;
use crate::job::file::OutputKind;
use crate::job::sync::FetchTask;
use crate::job::task::Lease;
use crate::lines::checkpoint::OpenCheckpoint;
use crate::ports::{AllPorts, OriginPage, OriginRequest};
use crate::versions::key::ResourceKeyHasher;
use crate::vocab::clock::Millis;

use super::super::heartbeat::send_heartbeat_if_due;
use super::lines::{WindowCut, WindowLines};
use super::pages::{PageError, PageReader};
use super::paging::{FollowedLinks, first_page};
use super::parts::{Narrowing, ReadWindow};
use super::queries::{everything_query, is_sorted_by_time, window_query};
use super::split::count_window;
use super::verify::knows_all_ids;
use super::window_end::{WindowEnd, WindowError};

/// The number of pages in a row that bring nothing new. Some servers send a few empty pages.
const PAGES_WITHOUT_NEWS: u32 = 100;

/// A window that is being read.
pub(super) struct WindowReader<'r, 'a, 'l, W: AllPorts> {
    pages: &'r mut PageReader<'a, 'l, W>,
    fetch: &'r FetchTask,
    page_size: u32,
    range: (Option<Millis>, Option<Millis>),
    /// The number of resources at which the server caps a search, if it seems to.
    cap: Option<u64>,
    lines: WindowLines,
    checkpoint: OpenCheckpoint<'a, W::Output>,
    /// The links that were followed.
    links: FollowedLinks,
    /// The first warning of the server.
    pub(super) warning: Option<String>,
    /// The remarks about what is not known after the window.
    pub(super) remarks: Vec<&'static str>,
    started_at: Millis,
}

impl<'r, 'a, 'l, W: AllPorts> WindowReader<'r, 'a, 'l, W> {
    /// Starts at the cursor of the lease.
    pub(super) fn new(pages: &'r mut PageReader<'a, 'l, W>, fetch: &'r FetchTask, page_size: u32, narrowing: Narrowing) -> Self {
        let (from, to) = fetch.range(pages.lease);
        let range = (from, narrowing.to.or(to));
        let checkpoint = OpenCheckpoint::new(pages.ports.output(), pages.lease);
        let (lines, started_at) = (new_lines(pages.lease, fetch, range, 0), pages.ports.now());
        let links = FollowedLinks::default();
        let (cap, remarks) = (narrowing.cap, fetch.remark().into_iter().collect());
        Self { pages, fetch, page_size, range, cap, lines, checkpoint, links, warning: None, remarks, started_at }
    }

    /// Returns the number of recorded lines, of different resources and of repeated resources.
    pub(super) fn counts(&self, end: &Result<WindowEnd, WindowError>) -> (u64, u64, u64) {
        match end {
            Ok(WindowEnd::Cut(cut)) => (cut.lines, cut.resources, self.lines.duplicates()),
            Ok(WindowEnd::Complete) | Err(_) => (self.lines.lines(), self.lines.resources(), self.lines.duplicates()),
        }
    }

    /// Returns the number of resources that changed at or before the watermark that the lake had. A server that cannot search by time sends
    /// everything each time: only the first time counts.
    pub(super) fn late_changes(&self, end: &Result<WindowEnd, WindowError>) -> u64 {
        let watermark = self.pages.lease.job.planned.and_then(|planned| planned.time.watermark.object_time());
        let Some(watermark) = watermark.filter(|_| self.fetch.may_be_late()) else { return 0 };
        let cut = match end {
            Ok(WindowEnd::Cut(cut)) => Some(cut.at),
            Ok(WindowEnd::Complete) | Err(_) => None,
        };
        self.lines.resources_up_to(watermark, cut)
    }

    /// Returns the files, which the caller commits or drops.
    pub(super) fn into_checkpoint(self) -> OpenCheckpoint<'a, W::Output> {
        self.checkpoint
    }

    /// Reads the pages of the window. Stops at its end, or earlier at a time before which everything was read, if a cut is due.
    pub(super) async fn read(&mut self) -> Result<WindowEnd, WindowError> {
        let counted_before = self.count(self.range.1).await?;
        let limit = counted_before.map(|count| count.saturating_mul(2).saturating_add(10_000));
        let mut page = self.first_page().await?;
        let mut pages_without_news = 0;
        loop {
            let parsed = SearchPage::parse(&page.body).map_err(|error| WindowError::Repeat(format!("a page cannot be read: {error}")))?;
            PageError::check_complete(&parsed)?;
            self.warning =
                self.warning.take().or_else(|| parsed.messages().next().map(|message| format!("the server warns: {}", message.text)));
            let news = self.lines.add(&parsed).map_err(WindowError::Final)?;
            self.write_ready().await?;
            pages_without_news = if news > 0 { 0 } else { pages_without_news + 1 };
            if pages_without_news > PAGES_WITHOUT_NEWS {
                return Err(WindowError::Final("the pages have no end and bring nothing new".to_owned()));
            }
            if limit.is_some_and(|limit| self.lines.resources() > limit) {
                return Err(WindowError::Final("the server sends more than twice as many resources as it counts".to_owned()));
            }
            let Some(link) = parsed.next else { break };
            if !self.links.insert(&link) {
                return Err(WindowError::Final("the links to the next page form a circle".to_owned()));
            }
            if let Some(cut) = self.cut_if_due().await? {
                return Ok(WindowEnd::Cut(cut));
            }
            self.check_size()?;
            page = self.pages.read(OriginRequest::Link { page: &page.url, link: &link }).await?;
        }
        self.lines.release_held();
        self.write_ready().await?;
        self.check_count(counted_before, self.range.1, self.lines.resources()).await?;
        let Some(to) = self.range.1 else { return Ok(WindowEnd::Complete) };
        let Self { fetch, page_size, cap, .. } = *self;
        let window = ReadWindow { fetch, range: (self.range.0, to), page_size, lines: &self.lines, cap };
        self.remarks.extend(window.check(self.pages).await?);
        Ok(WindowEnd::Complete)
    }

    /// Returns an error if the window has too many resources for memory. A window that the server does not count is divided before.
    fn check_size(&self) -> Result<(), WindowError> {
        let (resources, limit) = (self.lines.in_memory(), self.pages.settings.max_window_resources);
        let middle = if resources > limit / 2 && !self.fetch.is_counted() { self.lines.middle() } else { None };
        match middle {
            Some((at, _)) => Err(WindowError::TooMany(at)),
            None if resources > limit => Err(WindowError::Final(format!(
                "more than {limit} resources that cannot be divided by time: the server cannot search by _lastUpdated, they changed within \
                 a second, or its pages have no end"
            ))),
            None => Ok(()),
        }
    }

    /// Reads the first page.
    async fn first_page(&mut self) -> Result<OriginPage, WindowError> {
        let (kind, (from, to), page_size) = (self.fetch.resource_type, self.range, self.page_size);
        let query = |spelling| match to {
            Some(to) => window_query(kind, (from, to), page_size, spelling),
            None => everything_query(kind, page_size, spelling),
        };
        match first_page(self.pages, query).await {
            Ok((page, spelling)) => {
                self.lines = new_lines(self.pages.lease, self.fetch, self.range, spelling);
                Ok(page)
            }
            // An expired search has a link. A query that finds nothing here never will.
            Err(error @ PageError::Rejected(404 | 410, _)) => Err(WindowError::Final(error.into_text())),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the lines that are ready.
    async fn write_ready(&mut self) -> Result<(), WindowError> {
        if let Some((bytes, lines)) = self.lines.take_ready() {
            let kind = OutputKind::Output(self.fetch.resource_type);
            self.checkpoint.append(kind, bytes, lines).await.map_err(ExportError::from)?;
        }
        Ok(send_heartbeat_if_due(self.pages.ports, self.pages.lease, self.pages.settings.lease.duration).await?)
    }

    /// Returns the cut of the window if one is due: the time is up, or a window without a count is large enough.
    async fn cut_if_due(&mut self) -> Result<Option<WindowCut>, WindowError> {
        let is_time_up = self.pages.is_time_up();
        // The second half of an attempt is for the verification, and for what comes out of order.
        let half = self.pages.stop_at.since(self.started_at) / 2;
        let is_late = self.pages.ports.now() >= self.started_at + half;
        let is_large = !self.fetch.is_counted() && self.lines.resources() >= self.fetch.window_resources;
        if !is_time_up && !is_late && !is_large {
            return Ok(None);
        }
        let Some(cut) = self.lines.cut() else {
            return if is_time_up { Err(WindowError::TimeUp) } else { Ok(None) };
        };
        // The held lines come again in the next window.
        if self.fetch.is_counted() {
            self.check_count(None, Some(cut.at), cut.resources).await?;
            return Ok(Some(cut));
        }
        if self.knows_all_ids(cut.at).await? {
            return Ok(Some(cut));
        }
        // The pages only seemed to come in the order of time.
        self.lines.forbid_cut();
        if is_time_up { Err(WindowError::TimeUp) } else { Ok(None) }
    }

    /// Returns true if a second reading of the ids up to `to` finds no resource that the pages left out.
    async fn knows_all_ids(&mut self, to: Millis) -> Result<bool, WindowError> {
        let lines = &self.lines;
        let window = (self.fetch.resource_type, (self.range.0, to), self.page_size);
        let known = usize::try_from(lines.resources()).unwrap_or(usize::MAX);
        Ok(knows_all_ids(self.pages, window, known, |id| lines.contains(id)).await?)
    }

    /// Returns the number of resources of the window up to `to` by the server's count. `None` if it does not count.
    async fn count(&mut self, to: Option<Millis>) -> Result<Option<u64>, WindowError> {
        let Some(to) = to.filter(|_| self.fetch.is_counted()) else { return Ok(None) };
        match count_window(self.pages, self.fetch.resource_type, (self.range.0, to)).await? {
            Some(count) => Ok(Some(count)),
            None => Err(WindowError::Repeat("the server does not count the resources of the window".to_owned())),
        }
    }

    /// Compares the number of different resources with the server's counts before and after they were read.
    ///
    /// The window is in the past, so resources can only leave it: those that are changed or deleted meanwhile. If some have left it, the
    /// ids are read once more, between two equal counts: nothing has left the window then, and no page has skipped anything.
    async fn check_count(&mut self, before: Option<u64>, to: Option<Millis>, resources: u64) -> Result<(), WindowError> {
        let Some(to) = to.filter(|_| self.fetch.is_counted() && before != Some(resources)) else { return Ok(()) };
        let after = self.count(Some(to)).await?.unwrap_or_default();
        let is_too_much = before.is_some_and(|before| resources > before);
        if resources >= after && !is_too_much {
            // A resource that was read and has left the window since hides one that the pages have skipped.
            if self.knows_all_ids(to).await? && self.count(Some(to)).await? == Some(after) {
                return Ok(());
            }
            return Err(WindowError::Repeat("incomplete: resources change while the window is read".to_owned()));
        }
        let counted = before.unwrap_or(after).max(after);
        Err(WindowError::Repeat(format!(
            "incomplete: the server counts {counted} resources and sends {resources} different ones; if its totals are estimates, ignore them \
             with --ignore-totals"
        )))
    }
}

/// Creates the lines of a window that was not read yet.
fn new_lines(lease: &Lease, fetch: &FetchTask, range: (Option<Millis>, Option<Millis>), spelling: u32) -> WindowLines {
    let hasher = ResourceKeyHasher::from_job(&lease.job.id);
    WindowLines::new(fetch.resource_type, range, hasher, is_sorted_by_time(spelling))
}
