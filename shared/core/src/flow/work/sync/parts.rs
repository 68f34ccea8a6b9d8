//! Verifies a window by the counts of its two parts. A server that caps its totals and its results at the same number shows a part of a large
//! window, and a total that agrees with it. Each part of the window has fewer resources, so that its total is higher than what was read of it.
//! If everything that was read changed within one second, the time before and after that second is counted.

use std::time::Duration;

use crate::job::sync::FetchTask;
use crate::ports::AllPorts;
use crate::vocab::clock::Millis;

use super::lines::WindowLines;
use super::pages::PageReader;
use super::split::{Range, count_window};
use super::window_end::WindowError;

/// The smallest number of resources that is taken for a cap. No known server shows fewer.
const SMALLEST_CAP: u64 = 100;

/// A divisor of the usual caps, such as 100, 500, 1,000 and 10,000.
const CAP_DIVISOR: u64 = 50;

/// The shortest part of a window: a server may compare times by the second.
const SECOND: Duration = Duration::from_secs(1);

/// The remark about a second with as many resources as a server may show, if nothing else tells whether it caps searches.
const MAY_BE_CAPPED: &str =
    "the resources that changed within one second are as many as a limit of the server may be: whether it has more cannot be seen";

/// The part of a window that is read at once because the server caps its totals and results, or because the window has too many resources.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Narrowing {
    /// The moment after the part. `None` if the whole window is read.
    pub(super) to: Option<Millis>,
    /// The number of resources at which the server caps a search. `None` if it does not seem to.
    pub(super) cap: Option<u64>,
}

impl Narrowing {
    /// Returns the narrowing after a window of this number of resources was not whole: it ends at this moment.
    pub(super) fn to_part(self, to: Millis, resources: u64) -> Self {
        Self { to: Some(to), cap: Some(self.cap.map_or(resources, |cap| cap.min(resources))) }
    }
}

/// A part of a window that is counted again.
struct Part {
    range: Range,
    /// The number of its resources that were read.
    read: u64,
    /// The moment that divides it from the rest of the window.
    edge: Millis,
}

/// Returns the parts of a window that are counted again: both halves, or the time before and after the only second in which resources
/// changed. Without times of all resources, there are no parts.
fn parts_of((from, to): Range, lines: &WindowLines) -> Vec<Part> {
    let mut parts = Vec::new();
    if let Some((middle, before)) = lines.middle().filter(|_| lines.are_all_timed()) {
        parts.push(Part { range: (from, middle), read: before, edge: middle });
        parts.push(Part { range: (Some(middle), to), read: lines.resources() - before, edge: middle });
    } else if let Some(second) = lines.only_second() {
        let end = second + SECOND;
        parts.push(Part { range: (from, second), read: 0, edge: second });
        parts.push(Part { range: (Some(end), to), read: 0, edge: end });
    }
    parts.retain(|part| part.range.0 < Some(part.range.1));
    parts
}

/// Compares the server's counts of the parts of a window with what was read. Resources only leave a window in the past, so a higher count
/// means that some were not sent. Returns a remark if the server may have more resources of a single second than it shows.
pub(super) async fn check_parts<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    fetch: &FetchTask,
    range: Range,
    lines: &WindowLines,
    cap: Option<u64>,
) -> Result<Option<&'static str>, WindowError> {
    let resources = lines.resources();
    if resources < SMALLEST_CAP {
        return Ok(None);
    }
    for Part { range, read, edge } in parts_of(range, lines) {
        if count_window(pages, fetch.resource_type, range).await?.is_some_and(|count| count > read) {
            return Err(WindowError::Capped { middle: edge, resources });
        }
    }
    if lines.are_all_timed() && lines.middle().is_some() {
        return Ok(None);
    }
    match cap {
        Some(cap) if resources >= cap => Err(WindowError::Final(format!(
            "incomplete: the server shows and counts no more than {cap} resources of a search, and as many changed within one second"
        ))),
        None if lines.only_second().is_some() && resources.is_multiple_of(CAP_DIVISOR) => Ok(Some(MAY_BE_CAPPED)),
        Some(_) | None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_window_that_was_not_whole_shows_the_cap() {
        let first = Narrowing::default().to_part(Millis(9_000), 10_000);
        assert_eq!((first.to, first.cap), (Some(Millis(9_000)), Some(10_000)));
        assert_eq!(first.to_part(Millis(5_000), 10_500).cap, Some(10_000));
    }
}
