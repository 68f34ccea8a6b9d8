//! Follows the pages of the server, and says in reports what is wrong with them.

use std::collections::HashSet;

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::searchset::SearchPage;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ports::{AllPorts, OriginError, OriginPage, OriginRequest};

use super::pages::{PageError, PageReader};
use super::queries::SPELLINGS;
use super::repeats::log_repeat;

/// The largest number of pages of a sequence.
const PAGES: u32 = 1_000_000;

/// The number of times that a sequence starts anew because its links have expired.
const RESTARTS: u32 = 5;

impl PageError {
    /// Returns the text for the report.
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Rejected(status, text) => format!("the server rejected a request with {status}: {text}"),
            Self::TooLong => OriginError::TooLong.to_string(),
            Self::Incomplete(text) | Self::Final(text) => text,
            Self::TimeUp => "the time was up".to_owned(),
            Self::Attempt(error) => error.to_string(),
        }
    }
}

/// Reads the first page, by the best spelling of a query that the server accepts. Returns it with the spelling.
pub(super) async fn first_page<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    query: impl Fn(u32) -> String,
) -> Result<(OriginPage, u32), PageError> {
    let mut spelling = 0;
    loop {
        let text = query(spelling);
        match pages.read(OriginRequest::Query(&text)).await {
            Err(PageError::Rejected(400 | 422 | 501, _)) if spelling + 1 < SPELLINGS => spelling += 1,
            page => return Ok((page?, spelling)),
        }
    }
}

/// Parses a page.
pub(super) fn parse_page(page: &OriginPage) -> Result<SearchPage<'_>, PageError> {
    SearchPage::parse(&page.body).map_err(|error| PageError::Final(format!("a page cannot be read: {error}")))
}

/// The links that were followed, by the first half of their SHA-256: links are long, and a sequence may have a million.
#[derive(Default)]
pub(super) struct FollowedLinks(HashSet<[u8; 16]>);

impl FollowedLinks {
    /// Adds a link. Returns false if it was followed before.
    pub(super) fn insert(&mut self, link: &str) -> bool {
        let mut key = [0; 16];
        key.iter_mut().zip(Sha256::digest(link.as_bytes())).for_each(|(to, from)| *to = from);
        self.0.insert(key)
    }

    /// Returns the number of links.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Forgets all links.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Records that a link to the next page is followed. Fails if it was followed before, or if `limit` links were.
pub(super) fn follow(links: &mut FollowedLinks, link: &str, limit: usize) -> Result<(), PageError> {
    let is_new = links.insert(link);
    if is_new && links.count() <= limit { Ok(()) } else { Err(PageError::Final("the links to the next page have no end".to_owned())) }
}

/// The position in a sequence of pages that may be read in several attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PagePosition {
    /// The page after those that were read. `None` before the first and after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<NextPage>,
    /// True if the last page was read.
    pub(super) is_complete: bool,
    /// The number of pages that were read.
    pub(super) pages: u32,
    /// The number of times that the sequence has started anew.
    restarts: u32,
}

/// A link to a page, and the page that has named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NextPage {
    /// The URL of the page with the link.
    page: String,
    /// The link.
    link: String,
}

impl PagePosition {
    /// Returns true if the next page is the first one.
    pub(super) fn is_at_start(&self) -> bool {
        self.next.is_none() && !self.is_complete
    }

    /// Reads the next page. The sequence starts anew if its link has expired: what was read before stays.
    ///
    /// * `links`: the links that this attempt has followed.
    /// * `query`: the query for the first page, in its spellings.
    pub(super) async fn read_next<W: AllPorts>(
        &mut self,
        pages: &mut PageReader<'_, '_, W>,
        links: &mut FollowedLinks,
        (kind, name): (ResourceType, &str),
        query: impl Fn(u32) -> String,
    ) -> Result<OriginPage, PageError> {
        if let Some(NextPage { page, link }) = self.next.clone() {
            if self.pages >= PAGES || !links.insert(&link) {
                return Err(PageError::Final("the links to the next page have no end".to_owned()));
            }
            match pages.read(OriginRequest::Link { page: &page, link: &link }).await {
                Err(error @ PageError::Rejected(404 | 410, _)) if self.restarts < RESTARTS => {
                    log_repeat(pages.lease, kind, name, &error.into_text());
                }
                page => return page,
            }
            self.restarts += 1;
            self.next = None;
            links.clear();
        }
        Ok(first_page(pages, query).await?.0)
    }

    /// Moves behind the page with this URL, which has this link to the next one.
    pub(super) fn advance(&mut self, page: &str, link: Option<String>) {
        self.pages += 1;
        self.is_complete = link.is_none();
        self.next = link.map(|link| NextPage { page: page.to_owned(), link });
    }
}
