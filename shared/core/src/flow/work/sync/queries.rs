//! The queries that are sent to the FHIR server.

use headrace_fhir::definitions::ResourceType;

use crate::vocab::clock::Millis;

/// The largest page that every server accepts. Some reject a larger `_count` instead of sending less.
const MODEST_PAGE_SIZE: u32 = 100;

/// The spellings of the first query of a task, from the best to the most modest one. A server that rejects a spelling gets the next.
pub(super) const SPELLINGS: u32 = 3;

/// Returns the search parameters of a range of time.
fn window(from: Option<Millis>, to: Millis) -> String {
    let from = from.map(|from| format!("_lastUpdated=ge{from}&")).unwrap_or_default();
    format!("{from}_lastUpdated=lt{to}")
}

/// Returns the query for the first page of a window.
pub(super) fn window_query(kind: ResourceType, (from, to): (Option<Millis>, Millis), page_size: u32, spelling: u32) -> String {
    let (window, modest) = (window(from, to), page_size.min(MODEST_PAGE_SIZE));
    match spelling {
        // A total costs much on some servers, and none is used here.
        0 => format!("{kind}?{window}&_sort=_lastUpdated&_count={page_size}&_total=none"),
        1 => format!("{kind}?{window}&_sort=_lastUpdated&_count={modest}"),
        _ => format!("{kind}?{window}&_count={modest}"),
    }
}

/// Returns the query for the ids of the resources of a window.
pub(super) fn ids_query(kind: ResourceType, (from, to): (Option<Millis>, Millis), page_size: u32, spelling: u32) -> String {
    let window = window(from, to);
    match spelling {
        0 => format!("{kind}?{window}&_elements=id&_count={page_size}&_total=none"),
        1 => format!("{kind}?{window}&_elements=id&_count={}", page_size.min(MODEST_PAGE_SIZE)),
        _ => format!("{kind}?{window}&_count={}", page_size.min(MODEST_PAGE_SIZE)),
    }
}

/// Returns the query for the ids of the first resources of a window in this order.
pub(super) fn ordered_query(kind: ResourceType, (from, to): (Option<Millis>, Millis), page_size: u32, order: &str) -> String {
    format!("{kind}?{}&_sort={order}&_elements=id&_count={}", window(from, to), page_size.min(MODEST_PAGE_SIZE))
}

/// Returns true if the pages of this spelling are requested in the order of time.
pub(super) fn is_sorted_by_time(spelling: u32) -> bool {
    spelling < 2
}

/// Returns the query for the first page of all resources of a type.
pub(super) fn everything_query(kind: ResourceType, page_size: u32, spelling: u32) -> String {
    match spelling {
        0 => format!("{kind}?_count={page_size}&_total=none"),
        1 => format!("{kind}?_count={}", page_size.min(MODEST_PAGE_SIZE)),
        _ => kind.to_string(),
    }
}

/// Returns the query for the ids of all resources of a type.
pub(super) fn listing_query(kind: ResourceType, page_size: u32, spelling: u32) -> String {
    match spelling {
        0 => format!("{kind}?_elements=id&_count={page_size}&_total=none"),
        1 => format!("{kind}?_elements=id&_count={}", page_size.min(MODEST_PAGE_SIZE)),
        _ => everything_query(kind, page_size, 1),
    }
}

/// Returns the query for the resources with these ids, which are FHIR ids.
pub(super) fn ids_search_query(kind: ResourceType, ids: &[&str], spelling: u32) -> String {
    let (list, count) = (ids.join(","), ids.len());
    match spelling {
        0 => format!("{kind}?_id={list}&_elements=id&_count={count}"),
        1 => format!("{kind}?_id={list}&_count={count}"),
        _ => format!("{kind}?_id={list}"),
    }
}

/// Returns the query for the number of resources of a window. `is_accurate` asks for a number that is not an estimate.
pub(super) fn count_query(kind: ResourceType, (from, to): (Option<Millis>, Millis), is_accurate: bool) -> String {
    let accurate = if is_accurate { "&_total=accurate" } else { "" };
    format!("{kind}?{}&_summary=count{accurate}", window(from, to))
}

/// Returns the query for the resource of a type that was changed first.
pub(super) fn oldest_query(kind: ResourceType) -> String {
    format!("{kind}?_sort=_lastUpdated&_count=1")
}

/// Returns a query that has matches only if the server ignores `_lastUpdated`.
pub(super) fn future_query(kind: ResourceType) -> String {
    format!("{kind}?_lastUpdated=ge2900-01-01T00:00:00.000Z&_count=1")
}

/// Returns the query for the first page of a type's history.
pub(super) fn history_query(kind: ResourceType, since: Millis, page_size: u32, spelling: u32) -> String {
    match spelling {
        0 => format!("{kind}/_history?_since={since}&_count={page_size}"),
        1 => format!("{kind}/_history?_since={since}&_count={}", page_size.min(MODEST_PAGE_SIZE)),
        _ => format!("{kind}/_history?_since={since}"),
    }
}

/// Returns the query for the history of a resource. `id` is a FHIR id.
pub(super) fn instance_history_query(kind: ResourceType, id: &str) -> String {
    format!("{kind}/{id}/_history")
}
