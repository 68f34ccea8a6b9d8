//! Decides about a window that cannot be divided by time, because its resources changed within one second or have no times: the server may
//! have more of them than it shows of a search.
//!
//! A search of the same server that goes beyond the number of resources shows that this number is no cap. A search in another order that has
//! other resources shows that it is one. If neither does, a usual cap is refused: a lake that lacks resources is worse than one that is not
//! brought up to date.

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::searchset::SearchPage;

use crate::ports::{AllPorts, OriginRequest};
use crate::vocab::clock::Millis;

use super::capabilities::OriginCapabilities;
use super::evidence::Evidence;
use super::pages::{PageError, PageReader};
use super::parts::ReadWindow;
use super::queries::ordered_query;
use super::verify::matched_id;
use super::window_end::WindowError;

/// The largest number of resources beyond which a search is read, if the server does not count.
const LARGEST_READ_CAP: u64 = 100_000;

/// The orders other than that of time in which a window is searched.
const OTHER_ORDERS: [&str; 3] = ["-_lastUpdated", "_id", "-_id"];

/// The remark about as many resources of one second as a server may show, if nothing tells whether it caps searches.
const SECOND_MAY_BE_CAPPED: &str =
    "the resources that changed within one second are as many as a limit of the server may be: whether it has more cannot be seen";

/// The remark about as many resources without times as a server may show, if nothing tells whether it caps searches.
const UNTIMED_MAY_BE_CAPPED: &str = "the resources have no times (meta.lastUpdated) that divide them, and are as many as a limit of the server \
     may be: whether it has more cannot be seen";

/// Decides whether the server may have more resources of a window that cannot be divided by time. Returns a remark if that cannot be seen,
/// and is unlikely or accepted by the operator.
pub(super) async fn check_undivided<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    window: &ReadWindow<'_>,
) -> Result<Option<&'static str>, WindowError> {
    let resources = window.lines.resources();
    if let Some(cap) = window.cap {
        return if resources < cap { Ok(None) } else { Err(WindowError::Final(known_cap(window, cap))) };
    }
    let to = pages.lease.job.planned.map_or(window.range.1, |planned| planned.time.transaction_time);
    let mut evidence = Evidence::new(pages);
    if goes_beyond(&mut evidence, window, (window.fetch.resource_type, to)).await? {
        return Ok(None);
    }
    if shows_others(&mut evidence, window).await? {
        return Err(WindowError::Repeat(hidden_resources(window)));
    }
    if window.fetch.ignores_totals || !is_usual_cap(resources) {
        return Ok(Some(if window.lines.are_all_timed() { SECOND_MAY_BE_CAPPED } else { UNTIMED_MAY_BE_CAPPED }));
    }
    // Other types cost requests, and the client may not be allowed to search them.
    for kind in other_types(&mut evidence, window.fetch.resource_type).await? {
        if goes_beyond(&mut evidence, window, (kind, to)).await? {
            return Ok(None);
        }
    }
    Err(WindowError::Final(suspected_cap(window)))
}

/// Returns the reason why the resources of a window cannot be divided by time, as the end of a sentence about them.
fn undivided_reason(window: &ReadWindow<'_>) -> &'static str {
    if window.lines.are_all_timed() { "changed within one second" } else { "have no times (meta.lastUpdated) that divide them" }
}

/// Returns the text about a window with as many resources as the server is known to show.
fn known_cap(window: &ReadWindow<'_>, cap: u64) -> String {
    let (kind, reason) = (window.fetch.resource_type, undivided_reason(window));
    format!("incomplete: the server shows and counts no more than {cap} resources of a search, and as many of type {kind} {reason}")
}

/// Returns the text about a window of which another order shows other resources.
fn hidden_resources(window: &ReadWindow<'_>) -> String {
    let (resources, kind, reason) = (window.lines.resources(), window.fetch.resource_type, undivided_reason(window));
    format!(
        "incomplete: the server shows no more than {resources} resources of type {kind} in a search, and other ones in another order; they \
         {reason}"
    )
}

/// Returns the text about a window with as many resources as a server may show.
fn suspected_cap(window: &ReadWindow<'_>) -> String {
    let (resources, kind, reason) = (window.lines.resources(), window.fetch.resource_type, undivided_reason(window));
    format!(
        "perhaps incomplete: {resources} resources of type {kind} {reason}, servers often limit a search to such a number, and no search of \
         this server has shown more; if you know that it has no such limit, accept them with --ignore-totals (on AWS SyncIgnoreTotals) in \
         this run: if it has one, the resources beyond it will be missing without an error, and no total of the run is compared"
    )
}

/// Returns true for numbers at which servers usually cap searches: 1, 2, 2.5 and 5 times a power of ten, and powers of two. Windows that may be
/// capped have 100 resources or more.
fn is_usual_cap(resources: u64) -> bool {
    let mut leading = resources;
    while leading >= 100 && leading.is_multiple_of(10) {
        leading /= 10;
    }
    matches!(leading, 10 | 20 | 25 | 50) || resources.is_power_of_two()
}

/// Returns true if the server counts or shows more resources of a type than were read of the window, up to the end of the synchronization.
async fn goes_beyond<W: AllPorts>(
    evidence: &mut Evidence<'_, '_, '_, W>,
    window: &ReadWindow<'_>,
    (kind, to): (ResourceType, Millis),
) -> Result<bool, PageError> {
    let (range, resources) = ((None, to), window.lines.resources());
    if window.fetch.is_counted() {
        return evidence.counts_more_than((kind, range), resources).await;
    }
    if resources > LARGEST_READ_CAP {
        return Ok(false);
    }
    evidence.shows_more_than((kind, range, window.page_size), resources).await
}

/// Returns true if the first page of the window in another order has a resource that was not read.
async fn shows_others<W: AllPorts>(evidence: &mut Evidence<'_, '_, '_, W>, window: &ReadWindow<'_>) -> Result<bool, PageError> {
    for order in OTHER_ORDERS {
        let query = ordered_query(window.fetch.resource_type, window.range, window.page_size, order);
        let Some(page) = evidence.read(OriginRequest::Query(&query)).await? else { continue };
        let parsed = SearchPage::parse(&page.body).unwrap_or_default();
        if parsed.entries.iter().filter_map(matched_id).any(|id| !window.lines.contains(&id)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the other types that the server can search, first the one of which most servers have the most resources.
async fn other_types<W: AllPorts>(evidence: &mut Evidence<'_, '_, '_, W>, kind: ResourceType) -> Result<Vec<ResourceType>, PageError> {
    let Some(page) = evidence.read(OriginRequest::Query("metadata")).await? else { return Ok(Vec::new()) };
    let capabilities = OriginCapabilities::parse(&page.body).unwrap_or_default();
    let searched = capabilities.0.into_iter().filter(|(other, capability)| *other != kind && capability.can_search);
    let mut types: Vec<_> = searched.map(|(other, _)| other).collect();
    types.sort_by_key(|other| *other != ResourceType::OBSERVATION);
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_caps_are_few_round_numbers_and_powers_of_two() {
        for resources in [100, 128, 200, 250, 256, 500, 1_000, 1_024, 2_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000] {
            assert!(is_usual_cap(resources), "{resources}");
        }
        for resources in [101, 110, 120, 150, 300, 400, 750, 1_023, 1_250, 1_500, 2_050, 2_550, 9_999, 30_000] {
            assert!(!is_usual_cap(resources), "{resources}");
        }
    }
}
