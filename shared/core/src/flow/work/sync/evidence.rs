//! Searches that are only evidence about a limit of the server. No resource depends on them, so a server may refuse them, and they wait only
//! for a short time.

use std::collections::HashSet;
use std::time::Duration;

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::searchset::SearchPage;

use crate::ports::{AllPorts, OriginError, OriginPage, OriginRequest};
use crate::vocab::clock::Millis;

use super::super::heartbeat::send_heartbeat_if_due;
use super::pages::{PageError, PageReader};
use super::paging::FollowedLinks;
use super::queries::{SPELLINGS, count_query, ids_query};
use super::split::{Range, total_of};
use super::verify::matched_id;

/// The number of attempts at a page.
const ATTEMPTS: u32 = 3;

/// The pause between two attempts, unless the server demands another one.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest time for one response.
const RESPONSE_TIME: Duration = Duration::from_secs(20);

/// The longest time for all evidence about a window.
const PATIENCE: Duration = Duration::from_secs(300);

/// A reader of pages that are only evidence about a window.
pub(super) struct Evidence<'p, 'a, 'l, W: AllPorts> {
    pages: &'p mut PageReader<'a, 'l, W>,
    /// The moment after which no page is requested.
    until: Millis,
}

impl<'p, 'a, 'l, W: AllPorts> Evidence<'p, 'a, 'l, W> {
    /// Creates a reader for the evidence about one window, whose time begins now.
    pub(super) fn new(pages: &'p mut PageReader<'a, 'l, W>) -> Self {
        let until = pages.ports.now() + PATIENCE;
        Self { pages, until }
    }

    /// Reads a page. `None` if the server refuses the request, also for its credential, or does not respond soon. Fails only if the attempt
    /// must end.
    pub(super) async fn read(&mut self, request: OriginRequest<'_>) -> Result<Option<OriginPage>, PageError> {
        for _ in 0..ATTEMPTS {
            if self.pages.is_time_up() {
                return Err(PageError::TimeUp);
            }
            send_heartbeat_if_due(self.pages.ports, self.pages.lease, self.pages.settings.lease.duration).await?;
            let now = self.pages.ports.now();
            if now >= self.until {
                return Ok(None);
            }
            let delay = match self.pages.get_until(request, self.until.min(now + RESPONSE_TIME)).await? {
                Ok(page) => return Ok(Some(page)),
                Err(error) => pause_after(&error),
            };
            let Some(delay) = delay.filter(|delay| self.pages.ports.now() + *delay < self.until) else { return Ok(None) };
            self.pages.pause(delay).await?;
        }
        Ok(None)
    }

    /// Returns true if the server counts more than this number of resources in a range.
    pub(super) async fn counts_more_than(&mut self, (kind, range): (ResourceType, Range), number: u64) -> Result<bool, PageError> {
        for is_accurate in [true, false] {
            let page = self.read(OriginRequest::Query(&count_query(kind, range, is_accurate))).await?;
            if let Some(total) = page.as_ref().and_then(total_of) {
                return Ok(total > number);
            }
        }
        Ok(false)
    }

    /// Returns true if a search for the resources of a range shows more than this number of different ones.
    pub(super) async fn shows_more_than(
        &mut self,
        (kind, range, page_size): (ResourceType, Range, u32),
        number: u64,
    ) -> Result<bool, PageError> {
        let Some(mut page) = self.first_page(kind, range, page_size).await? else { return Ok(false) };
        let (mut ids, mut links) = (HashSet::new(), FollowedLinks::default());
        loop {
            let Ok(parsed) = SearchPage::parse(&page.body) else { return Ok(false) };
            if parsed.error().is_some() {
                return Ok(false);
            }
            ids.extend(parsed.entries.iter().filter_map(matched_id));
            if ids.len() as u64 > number {
                return Ok(true);
            }
            let Some(link) = parsed.next else { return Ok(false) };
            if !links.insert(&link) || links.count() as u64 > number {
                return Ok(false);
            }
            let next = self.read(OriginRequest::Link { page: &page.url, link: &link }).await?;
            let Some(next) = next else { return Ok(false) };
            page = next;
        }
    }

    /// Reads the first page of ids, by the best spelling of the query that the server accepts.
    async fn first_page(&mut self, kind: ResourceType, range: Range, page_size: u32) -> Result<Option<OriginPage>, PageError> {
        for spelling in 0..SPELLINGS {
            let page = self.read(OriginRequest::Query(&ids_query(kind, range, page_size, spelling))).await?;
            if page.is_some() {
                return Ok(page);
            }
        }
        Ok(None)
    }
}

/// Returns the pause before the next attempt. `None` if the server has refused the request.
fn pause_after(error: &OriginError) -> Option<Duration> {
    match error {
        OriginError::Busy { retry_after } => Some(retry_after.unwrap_or(PAUSE)),
        OriginError::Unavailable(_) => Some(PAUSE),
        OriginError::Rejected { status, .. } => (*status >= 500 && *status != 501).then_some(PAUSE),
        OriginError::TooLong | OriginError::UnsafeUrl(_) | OriginError::Misconfigured(_) => None,
    }
}
