//! Verifies a window by the counts of its two parts. A server that caps its totals and its results at the same number shows a part of a large
//! window, and a total that agrees with it. Each part of the window has fewer resources, so that its total is higher than what was read of it.
//! If everything that was read changed within one second, the time before and after that second is counted.

//! What a server does not count is verified by a second reading of the ids of both parts.

use std::time::Duration;

use crate::job::sync::FetchTask;
use crate::ports::AllPorts;
use crate::vocab::clock::Millis;

use super::cap::check_undivided;
use super::lines::WindowLines;
use super::pages::{PageError, PageReader};
use super::split::{Range, count_window};
use super::verify::knows_all_ids;
use super::window_end::WindowError;

/// The smallest number of resources that is taken for a cap. No known server shows fewer.
const SMALLEST_CAP: u64 = 100;

/// The shortest part of a window: a server may compare times by the second.
const SECOND: Duration = Duration::from_secs(1);

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

/// A window whose pages were read to their end.
#[derive(Clone, Copy)]
pub(super) struct ReadWindow<'w> {
    /// The task.
    pub(super) fetch: &'w FetchTask,
    /// The range of time.
    pub(super) range: Range,
    /// The number of resources to request for a page.
    pub(super) page_size: u32,
    /// The resources that were read.
    pub(super) lines: &'w WindowLines,
    /// The number of resources at which the server caps a search, if it has shown itself.
    pub(super) cap: Option<u64>,
}

impl ReadWindow<'_> {
    /// Verifies that the server has sent all resources of the window. Returns a remark if that cannot be seen.
    pub(super) async fn check<W: AllPorts>(&self, pages: &mut PageReader<'_, '_, W>) -> Result<Option<&'static str>, WindowError> {
        let may_be_capped = self.lines.resources() >= SMALLEST_CAP;
        let is_divided = self.lines.are_all_timed() && self.lines.middle().is_some();
        // The parts of a divided window are the whole window.
        let is_read_again = !self.fetch.is_counted() && !(may_be_capped && is_divided);
        if is_read_again && !self.knows_all_ids(pages, self.range).await? {
            return Err(WindowError::Repeat("incomplete: a second reading of the ids finds resources that the pages left out".to_owned()));
        }
        if !may_be_capped {
            return Ok(None);
        }
        self.check_parts(pages).await?;
        if is_divided { Ok(None) } else { check_undivided(pages, self).await }
    }

    /// Compares the parts of the window with what was read. Resources only leave a window in the past, so one that was not read was not sent.
    async fn check_parts<W: AllPorts>(&self, pages: &mut PageReader<'_, '_, W>) -> Result<(), WindowError> {
        for Part { range, read, edge } in parts_of(self.range, self.lines) {
            let has_more = if self.fetch.is_counted() {
                count_window(pages, self.fetch.resource_type, range).await?.is_some_and(|count| count > read)
            } else {
                !self.knows_all_ids(pages, range).await?
            };
            if has_more {
                return Err(WindowError::Capped { middle: edge, resources: self.lines.resources() });
            }
        }
        Ok(())
    }

    /// Returns true if a second reading of the ids of a range finds no resource that the pages left out.
    async fn knows_all_ids<W: AllPorts>(&self, pages: &mut PageReader<'_, '_, W>, range: Range) -> Result<bool, PageError> {
        let known = usize::try_from(self.lines.resources()).unwrap_or(usize::MAX);
        knows_all_ids(pages, (self.fetch.resource_type, range, self.page_size), known, |id| self.lines.contains(id)).await
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
