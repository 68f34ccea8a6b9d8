//! Lists the ids of all resources of a type that the server has.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use headrace_fhir::semantics::id::is_id;
use serde::{Deserialize, Serialize};

use crate::job::sync::FetchTask;
use crate::ports::AllPorts;
use crate::versions::key::{ResourceKey, ResourceKeyHasher};

use super::super::heartbeat::send_heartbeat_if_due;
use super::pages::{PageError, PageReader};
use super::paging::{FollowedLinks, PagePosition, parse_page};
use super::queries::listing_query;
use super::verify::matched_id;

/// The time after which a task that finds deletions records its progress. A crash loses no more than that.
pub(super) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);

/// The progress of a listing of the server's ids. It is recorded before ids that the server lists, or before those that it may have
/// deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListingProgress {
    /// The position after the pages that were read.
    pub(super) position: PagePosition,
    /// Two ids that the server lists, if there are as many.
    pub(super) witnesses: BTreeSet<String>,
}

/// A listing of the server's ids.
#[derive(Default)]
pub(super) struct Listing {
    /// The progress up to the last page that was read.
    pub(super) progress: ListingProgress,
    /// The links that this attempt has followed.
    links: FollowedLinks,
    /// The ids of resources of the lake that were listed since the last checkpoint.
    listed: Vec<String>,
    /// The number of pages that are recorded.
    recorded_pages: u32,
}

impl Listing {
    /// Continues the listing of an earlier attempt.
    pub(super) fn resume(progress: ListingProgress) -> Self {
        Self { recorded_pages: progress.position.pages, progress, ..Self::default() }
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
        while !self.progress.position.is_complete && !missing.is_empty() && pages.ports.now() < until {
            if pages.is_time_up() {
                return Err(PageError::TimeUp);
            }
            let query = |spelling| listing_query(fetch.resource_type, fetch.page_size, spelling);
            let sequence = (fetch.resource_type, "the listing of ids");
            let page = self.progress.position.read_next(pages, &mut self.links, sequence, query).await?;
            let parsed = parse_page(&page)?;
            for id in parsed.entries.iter().filter_map(matched_id).filter(|id| is_id(id)) {
                if self.progress.witnesses.len() < 2 {
                    self.progress.witnesses.insert(id.clone());
                }
                if missing.remove(&hasher.key(fetch.resource_type, id.as_bytes())) {
                    self.listed.push(id);
                }
            }
            self.progress.position.advance(&page.url, parsed.next);
            send_heartbeat_if_due(pages.ports, pages.lease, pages.settings.lease.duration).await?;
        }
        Ok(())
    }

    /// Returns the ids to record. `None` if no page was read since the last checkpoint.
    pub(super) fn take_listed(&mut self) -> Option<Vec<String>> {
        let has_progress = self.progress.position.pages > self.recorded_pages;
        self.recorded_pages = self.progress.position.pages;
        has_progress.then(|| std::mem::take(&mut self.listed))
    }
}
