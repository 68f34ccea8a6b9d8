//! Follows the pages of the server, and says in reports what is wrong with them.

use std::collections::HashSet;

use headrace_fhir::searchset::SearchPage;

use crate::ports::{AllPorts, OriginError, OriginPage, OriginRequest};

use super::pages::{PageError, PageReader};
use super::queries::SPELLINGS;

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

/// Records that a link to the next page is followed. Fails if it was followed before, or if `limit` links were.
pub(super) fn follow(links: &mut HashSet<String>, link: &str, limit: usize) -> Result<(), PageError> {
    let is_new = links.insert(link.to_owned());
    if is_new && links.len() <= limit { Ok(()) } else { Err(PageError::Final("the links to the next page have no end".to_owned())) }
}
