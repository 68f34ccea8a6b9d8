//! Lists the ids of all resources of a type that the server has.

use std::collections::HashSet;
use std::time::Duration;

use headrace_fhir::semantics::id::is_id;

use crate::job::sync::FetchTask;
use crate::ports::{AllPorts, OriginPage, OriginRequest};
use crate::versions::key::{ResourceKey, ResourceKeyHasher};

use super::super::heartbeat::send_heartbeat_if_due;
use super::known_ids::{ListingProgress, NextPage};
use super::pages::{PageError, PageReader};
use super::paging::{first_page, parse_page};
use super::queries::listing_query;
use super::verify::matched_id;

/// The largest number of pages of a listing.
const PAGES: u32 = 1_000_000;

/// The number of times that a listing starts anew because its links have expired.
const RESTARTS: u32 = 5;

/// The time after which a comparison records its progress. A crash loses no more than that.
pub(super) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);

/// A listing of the server's ids.
#[derive(Default)]
pub(super) struct Listing {
    /// The progress up to the last page that was read.
    pub(super) progress: ListingProgress,
    /// The links that this attempt has followed.
    links: HashSet<String>,
    /// The ids of resources of the lake that were listed since the last checkpoint.
    listed: Vec<String>,
    /// The number of pages that are recorded.
    recorded_pages: u32,
}

impl Listing {
    /// Continues the listing of an earlier attempt.
    pub(super) fn resume(progress: ListingProgress) -> Self {
        Self { recorded_pages: progress.pages, progress, ..Self::default() }
    }

    /// Reads pages until the listing is complete, no resource is missing, or a checkpoint is due. Removes the listed resources from
    /// `missing`.
    pub(super) async fn read_some<W: AllPorts>(
        &mut self,
        pages: &mut PageReader<'_, '_, W>,
        fetch: &FetchTask,
        hasher: &ResourceKeyHasher,
        missing: &mut HashSet<ResourceKey>,
    ) -> Result<(), PageError> {
        let until = pages.ports.now() + CHECKPOINT_INTERVAL;
        while !self.progress.is_complete && !missing.is_empty() && pages.ports.now() < until {
            if pages.is_time_up() {
                return Err(PageError::TimeUp);
            }
            let page = self.next_page(pages, fetch).await?;
            let parsed = parse_page(&page)?;
            for id in parsed.entries.iter().filter_map(matched_id).filter(|id| is_id(id)) {
                if self.progress.witnesses.len() < 2 {
                    self.progress.witnesses.insert(id.clone());
                }
                if missing.remove(&hasher.key(fetch.resource_type, id.as_bytes())) {
                    self.listed.push(id);
                }
            }
            self.progress.pages += 1;
            self.progress.is_complete = parsed.next.is_none();
            self.progress.next = parsed.next.map(|link| NextPage { page: page.url.clone(), link });
            send_heartbeat_if_due(pages.ports, pages.lease, pages.settings.lease.duration).await?;
        }
        Ok(())
    }

    /// Returns the ids to record. `None` if no page was read since the last checkpoint.
    pub(super) fn take_listed(&mut self) -> Option<Vec<String>> {
        let has_progress = self.progress.pages > self.recorded_pages;
        self.recorded_pages = self.progress.pages;
        has_progress.then(|| std::mem::take(&mut self.listed))
    }

    /// Reads the page after the last one. The listing starts anew if its links have expired: what was listed stays.
    async fn next_page<W: AllPorts>(&mut self, pages: &mut PageReader<'_, '_, W>, fetch: &FetchTask) -> Result<OriginPage, PageError> {
        if let Some(NextPage { page, link }) = &self.progress.next {
            if self.progress.pages >= PAGES || !self.links.insert(link.clone()) {
                return Err(PageError::Final("the links to the next page have no end".to_owned()));
            }
            match pages.read(OriginRequest::Link { page, link }).await {
                Err(PageError::Rejected(404 | 410, _)) if self.progress.restarts < RESTARTS => {}
                page => return page,
            }
            self.progress.restarts += 1;
            self.links.clear();
        }
        let query = |spelling| listing_query(fetch.resource_type, fetch.page_size, spelling);
        Ok(first_page(pages, query).await?.0)
    }
}
