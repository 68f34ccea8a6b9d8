//! Decides about a window that cannot be divided by time, because its resources changed within one second or have no times: the server may
//! have more of them than it shows of a search.
//!
//! A search of the same server that goes beyond the number of resources shows that this number is no cap. A search in another order that has
//! other resources shows that it is one. If neither does, a usual cap is refused: a lake that lacks resources is worse than one that is not
//! brought up to date.

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::searchset::SearchPage;

use crate::ports::{AllPorts, OriginRequest};

use super::capabilities::OriginCapabilities;
use super::pages::{PageError, PageReader};
use super::parts::ReadWindow;
use super::queries::ordered_query;
use super::split::count_window;
use super::verify::{matched_id, shows_more_than};
use super::window_end::WindowError;

/// A divisor of the usual caps, such as 100, 500, 1,000 and 10,000. The others are powers of two.
const CAP_DIVISOR: u64 = 50;

/// The largest number of resources beyond which a search is read, if the server does not count.
const LARGEST_READ_CAP: u64 = 100_000;

/// The orders other than that of time in which a window is searched.
const OTHER_ORDERS: [&str; 3] = ["-_lastUpdated", "_id", "-_id"];

/// The remark about as many resources of one second as a server may show, if nothing tells whether it caps searches.
const MAY_BE_CAPPED: &str =
    "the resources that changed within one second are as many as a limit of the server may be: whether it has more cannot be seen";

/// Decides whether the server may have more resources of a window that cannot be divided by time. Returns a remark if that cannot be seen,
/// and is unlikely or accepted by the operator.
pub(super) async fn check_undivided<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    window: &ReadWindow<'_>,
) -> Result<Option<&'static str>, WindowError> {
    let resources = window.lines.resources();
    if let Some(cap) = window.cap {
        return if resources < cap { Ok(None) } else { Err(WindowError::Final(known_cap(cap))) };
    }
    if or_false(goes_beyond(pages, window, window.fetch.resource_type).await)? {
        return Ok(None);
    }
    if shows_others(pages, window).await? {
        return Err(WindowError::Repeat(format!(
            "incomplete: the server shows no more than {resources} resources of a search, and other ones in another order; they changed \
             within one second"
        )));
    }
    for kind in other_types(pages, window).await? {
        if or_false(goes_beyond(pages, window, kind).await)? {
            return Ok(None);
        }
    }
    if window.fetch.ignores_totals || !is_usual_cap(resources) {
        return Ok(Some(MAY_BE_CAPPED));
    }
    Err(WindowError::Final(suspected_cap(resources)))
}

/// Returns the text about a window with as many resources as the server is known to show.
fn known_cap(cap: u64) -> String {
    format!("incomplete: the server shows and counts no more than {cap} resources of a search, and as many changed within one second")
}

/// Returns the text about a window with as many resources as a server may show.
fn suspected_cap(resources: u64) -> String {
    format!(
        "perhaps incomplete: {resources} resources changed within one second, and no search of the server has more, so that may be its \
         limit; if you know that it has no such limit, accept them with --ignore-totals (on AWS \
         SyncIgnoreTotals)"
    )
}

/// Returns true for numbers at which servers usually cap searches.
fn is_usual_cap(resources: u64) -> bool {
    resources.is_multiple_of(CAP_DIVISOR) || resources.is_power_of_two()
}

/// Returns true if the server counts or shows more resources of a type than were read of the window, up to the end of the synchronization.
async fn goes_beyond<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    window: &ReadWindow<'_>,
    kind: ResourceType,
) -> Result<bool, PageError> {
    let to = pages.lease.job.planned.map_or(window.range.1, |planned| planned.time.transaction_time);
    let (range, resources) = ((None, to), window.lines.resources());
    if window.fetch.is_counted() {
        return Ok(count_window(pages, kind, range).await?.is_some_and(|count| count > resources));
    }
    if resources > LARGEST_READ_CAP {
        return Ok(false);
    }
    shows_more_than(pages, (kind, range, window.page_size), resources).await
}

/// Returns false for a search that the server rejects: it shows nothing.
fn or_false(shown: Result<bool, PageError>) -> Result<bool, PageError> {
    match shown {
        Err(PageError::Rejected(..) | PageError::TooLong | PageError::Incomplete(_) | PageError::Final(_)) => Ok(false),
        shown => shown,
    }
}

/// Returns true if the first page of the window in another order has a resource that was not read.
async fn shows_others<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, window: &ReadWindow<'_>) -> Result<bool, PageError> {
    for order in OTHER_ORDERS {
        if or_false(shows_others_by(pages, window, order).await)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns true if the first page of the window in this order has a resource that was not read.
async fn shows_others_by<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, window: &ReadWindow<'_>, order: &str) -> Result<bool, PageError> {
    let query = ordered_query(window.fetch.resource_type, window.range, window.page_size, order);
    let page = pages.read(OriginRequest::Query(&query)).await?;
    let Ok(parsed) = SearchPage::parse(&page.body) else { return Ok(false) };
    Ok(parsed.entries.iter().filter_map(matched_id).any(|id| !window.lines.contains(&id)))
}

/// Returns the other types whose counts may go beyond that of the window. None if the server does not count: their pages would have to be
/// read.
async fn other_types<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, window: &ReadWindow<'_>) -> Result<Vec<ResourceType>, PageError> {
    if !window.fetch.is_counted() {
        return Ok(Vec::new());
    }
    let page = match pages.read(OriginRequest::Query("metadata")).await {
        Ok(page) => page,
        Err(error @ (PageError::TimeUp | PageError::Attempt(_))) => return Err(error),
        Err(PageError::Rejected(..) | PageError::TooLong | PageError::Incomplete(_) | PageError::Final(_)) => return Ok(Vec::new()),
    };
    let capabilities = OriginCapabilities::parse(&page.body).unwrap_or_default();
    let is_other = |kind: &ResourceType| *kind != window.fetch.resource_type;
    let types = capabilities.0.into_iter().filter(|(_, capability)| capability.can_search).map(|(kind, _)| kind);
    Ok(types.filter(is_other).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_caps_are_round_numbers_and_powers_of_two() {
        for (resources, expected) in [(100, true), (128, true), (150, true), (1_024, true), (10_000, true), (101, false), (1_023, false)] {
            assert_eq!(is_usual_cap(resources), expected, "{resources}");
        }
    }
}
