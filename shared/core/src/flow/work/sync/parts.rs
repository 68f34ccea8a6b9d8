//! Verifies a window by the counts of its two parts. A server that caps its totals and its results at the same number shows a part of a large
//! window, and a total that agrees with it. Each part of the window has fewer resources, so that its total is higher than what was read of it.

use crate::job::sync::FetchTask;
use crate::ports::AllPorts;
use crate::vocab::clock::Millis;

use super::lines::WindowLines;
use super::pages::PageReader;
use super::split::{Range, count_window};
use super::window_end::WindowError;

/// The smallest number of resources that is taken for a cap. No known server shows fewer.
const SMALLEST_CAP: u64 = 100;

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

/// Compares the server's counts of both parts of a window with what was read. Resources only leave a window in the past, so a higher count
/// means that some were not sent.
pub(super) async fn check_parts<W: AllPorts>(
    pages: &mut PageReader<'_, '_, W>,
    fetch: &FetchTask,
    (from, to): Range,
    lines: &WindowLines,
    cap: Option<u64>,
) -> Result<(), WindowError> {
    let resources = lines.resources();
    if resources < SMALLEST_CAP {
        return Ok(());
    }
    let Some((middle, before)) = lines.middle().filter(|_| lines.are_all_timed()) else {
        return match cap {
            Some(cap) if resources >= cap => Err(WindowError::Final(format!(
                "incomplete: the server shows and counts no more than {cap} resources of a search, and as many changed within one second"
            ))),
            Some(_) | None => Ok(()),
        };
    };
    for (range, read) in [((from, middle), before), ((Some(middle), to), resources - before)] {
        if count_window(pages, fetch.resource_type, range).await?.is_some_and(|count| count > read) {
            return Err(WindowError::Capped { middle, resources });
        }
    }
    Ok(())
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
