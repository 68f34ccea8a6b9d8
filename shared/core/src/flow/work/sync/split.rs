//! Divides the resources of a type into windows by the server's counts.

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{MemberIndex, Resource};
use headrace_fhir::searchset::{SearchEntry, SearchPage};

use crate::ports::{AllPorts, OriginPage, OriginRequest};
use crate::vocab::clock::Millis;

use super::pages::{PageError, PageReader};
use super::queries::{count_query, future_query, oldest_query};

/// The number of counts with which the end of a window is searched.
const TRIES: u32 = 40;

/// The shortest window, in milliseconds. Servers compare times by the second at worst.
const SECOND: u64 = 1_000;

/// A range of time: its first moment, `None` for the beginning of time, and the moment after its last one.
pub(super) type Range = (Option<Millis>, Millis);

/// Returns the time at the start of its second.
pub(super) fn whole_second(time: Millis) -> Millis {
    Millis(time.0 - time.0 % SECOND)
}

/// Returns the total of a page, if the server does not report an error with it.
pub(super) fn total_of(page: &OriginPage) -> Option<u64> {
    SearchPage::parse(&page.body).ok().filter(|page| page.error().is_none()).and_then(|page| page.total)
}

/// Returns the number of resources of a type in a window by the server's count. `None` if the server does not count.
pub(super) async fn count_window<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    kind: ResourceType,
    range: Range,
) -> Result<Option<u64>, PageError> {
    for is_accurate in [true, false] {
        match pages.read(OriginRequest::Query(&count_query(kind, range, is_accurate))).await {
            Ok(page) => {
                if let Some(total) = total_of(&page) {
                    return Ok(Some(total));
                }
            }
            Err(PageError::Rejected(..) | PageError::TooLong | PageError::Incomplete(_) | PageError::Final(_)) => {}
            Err(error @ (PageError::TimeUp | PageError::Attempt(_))) => return Err(error),
        }
    }
    Ok(None)
}

/// Returns true if the server searches a type by `_lastUpdated`. One that ignores the parameter finds resources of a time to come.
pub(super) async fn searches_by_time<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, kind: ResourceType) -> Result<bool, PageError> {
    match pages.read(OriginRequest::Query(&future_query(kind))).await {
        Ok(page) => Ok(SearchPage::parse(&page.body).is_ok_and(|page| page.error().is_none() && !page.entries.iter().any(is_match))),
        Err(PageError::Rejected(..) | PageError::TooLong | PageError::Incomplete(_) | PageError::Final(_)) => Ok(false),
        Err(error @ (PageError::TimeUp | PageError::Attempt(_))) => Err(error),
    }
}

/// Returns true for an entry with a resource that matches.
fn is_match(entry: &SearchEntry<'_>) -> bool {
    matches!(entry, SearchEntry::Match(_))
}

/// Returns the time at which the first resource of a type was changed, as a hint: a server may ignore the order.
async fn oldest<W: AllPorts>(pages: &mut PageReader<'_, '_, W>, kind: ResourceType) -> Result<Option<Millis>, PageError> {
    let page = match pages.read(OriginRequest::Query(&oldest_query(kind))).await {
        Ok(page) => page,
        Err(PageError::Rejected(..) | PageError::TooLong | PageError::Incomplete(_) | PageError::Final(_)) => return Ok(None),
        Err(error @ (PageError::TimeUp | PageError::Attempt(_))) => return Err(error),
    };
    let parsed = SearchPage::parse(&page.body).unwrap_or_default();
    let first = parsed.entries.into_iter().find_map(|entry| match entry {
        SearchEntry::Match(text) => Some(text),
        SearchEntry::Deletion(_) | SearchEntry::Outcome(_) | SearchEntry::Other | SearchEntry::Unclear => None,
    });
    let mut index = MemberIndex::default();
    let time = first.and_then(|text| Resource::parse(text.as_bytes(), &mut index).ok()?.head.last_updated);
    Ok(time.map(|instant| Millis::from_instant(instant).unwrap_or(Millis(0))))
}

/// The windows of a type that are still to be found.
pub(super) struct Splitter {
    kind: ResourceType,
    from: Option<Millis>,
    /// The time at which the search for the next window starts.
    low: Option<Millis>,
    to: Millis,
    rest: u64,
    limit: u64,
}

impl Splitter {
    /// Starts with a range that has `total` resources.
    pub(super) fn new(kind: ResourceType, (from, to): Range, total: u64, limit: u64) -> Self {
        Self { kind, from, low: from, to, rest: total, limit: limit.max(1) }
    }

    /// Returns the next window and its number of resources. `None` at the end.
    pub(super) async fn next<W: AllPorts>(&mut self, pages: &mut PageReader<'_, '_, W>) -> Result<Option<(Range, u64)>, PageError> {
        if self.from >= Some(self.to) {
            return Ok(None);
        }
        if self.rest == 0 {
            // A server that caps its totals has counted less. If it does not count any more, the fault of the window says so.
            self.rest = count_window(pages, self.kind, (self.from, self.to)).await?.unwrap_or(1);
        }
        let low = match self.low {
            Some(low) => low,
            None if self.rest <= self.limit => self.to,
            None => whole_second(oldest(pages, self.kind).await?.unwrap_or(Millis(0)).min(self.to)),
        };
        let (end, count) = if self.rest <= self.limit { (self.to, self.rest) } else { self.find_end(pages, low).await? };
        let window = ((self.from, end), count);
        (self.from, self.low) = (Some(end), Some(end));
        self.rest = self.rest.saturating_sub(count);
        Ok(Some(window))
    }

    /// Finds the end of a window of at most `limit` resources, and of a quarter of that if possible. Returns it with its count.
    async fn find_end<W: AllPorts>(&self, pages: &mut PageReader<'_, '_, W>, low: Millis) -> Result<(Millis, u64), PageError> {
        let (mut small, mut large) = (None::<(Millis, u64)>, self.to);
        let share = self.limit.saturating_mul(3) / 4;
        let span = u128::from(self.to.0.saturating_sub(low.0));
        let step = u64::try_from(span * u128::from(share) / u128::from(self.rest.max(1))).unwrap_or(u64::MAX);
        let mut guess = low.0.saturating_add(step);
        for _ in 0..TRIES {
            let end = whole_second(Millis(guess)).max(whole_second(Millis(low.0 + SECOND)));
            if end >= large {
                break;
            }
            let count = count_window(pages, self.kind, (self.from, end)).await?.unwrap_or(self.rest);
            if count > self.limit {
                large = end;
            } else {
                small = Some((end, count));
                if count >= self.limit / 4 {
                    break;
                }
            }
            let bottom = small.map_or(low, |(end, _)| end);
            guess = if large < self.to || small.is_none() { bottom.0.midpoint(large.0) } else { bottom.0.saturating_add(step) };
            if large.0 - bottom.0 <= SECOND {
                break;
            }
        }
        if let Some(found) = small.filter(|(_, count)| *count > 0 || large == self.to) {
            return Ok(found);
        }
        if large == self.to {
            return Ok((self.to, self.rest));
        }
        // More than the limit changed within a second.
        let count = count_window(pages, self.kind, (self.from, large)).await?;
        Ok((large, count.unwrap_or(self.rest)))
    }
}
