//! Verifies a window that the server does not count: reads the ids of its resources a second time.

use std::collections::HashSet;

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::searchset::{SearchEntry, SearchPage};
use serde::Deserialize;

use crate::ports::{AllPorts, OriginRequest};

use super::pages::{PageError, PageReader};
use super::paging::{FollowedLinks, first_page};
use super::queries::ids_query;
use super::split::Range;

/// The largest number of pages of ids, for each thousand resources that were read.
const PAGES_PER_THOUSAND: usize = 1_000;

/// The identity of a resource, from a search that requested only some elements.
#[derive(Deserialize)]
struct IdentityJson {
    id: Option<String>,
}

/// Returns the id of the resource of an entry, of which only some elements were requested. `None` for other entries than matches.
pub(super) fn matched_id(entry: &SearchEntry<'_>) -> Option<String> {
    let SearchEntry::Match(text) = entry else { return None };
    serde_json::from_str::<IdentityJson>(text).ok()?.id
}

/// Returns true if a search for the resources of a range shows more than this number of different ones.
pub(super) async fn shows_more_than<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    (kind, range, page_size): (ResourceType, Range, u32),
    number: u64,
) -> Result<bool, PageError> {
    let (mut page, _) = first_page(pages, |spelling| ids_query(kind, range, page_size, spelling)).await?;
    let (mut ids, mut links) = (HashSet::new(), FollowedLinks::default());
    loop {
        let Ok(parsed) = SearchPage::parse(&page.body) else { return Ok(false) };
        PageError::check_complete(&parsed)?;
        ids.extend(parsed.entries.iter().filter_map(matched_id));
        if ids.len() as u64 > number {
            return Ok(true);
        }
        let Some(link) = parsed.next else { return Ok(false) };
        if !links.insert(&link) || links.count() as u64 > number {
            return Ok(false);
        }
        page = pages.read(OriginRequest::Link { page: &page.url, link: &link }).await?;
    }
}

/// Returns true if each resource that the server has in the range is known. Resources can only leave a range in the past, so one that is
/// not known was skipped before.
pub(super) async fn knows_all_ids<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    (kind, range, page_size): (ResourceType, Range, u32),
    known: usize,
    is_known: impl Fn(&str) -> bool,
) -> Result<bool, PageError> {
    let (mut page, _) = first_page(pages, |spelling| ids_query(kind, range, page_size, spelling)).await?;
    let mut links = FollowedLinks::default();
    loop {
        let Ok(parsed) = SearchPage::parse(&page.body) else { return Ok(false) };
        PageError::check_complete(&parsed)?;
        for entry in &parsed.entries {
            if matched_id(entry).is_some_and(|id| !is_known(&id)) {
                return Ok(false);
            }
        }
        let Some(link) = parsed.next else { return Ok(true) };
        if !links.insert(&link) || links.count() > PAGES_PER_THOUSAND * (known / 1_000 + 1) {
            return Ok(false);
        }
        page = pages.read(OriginRequest::Link { page: &page.url, link: &link }).await?;
    }
}
