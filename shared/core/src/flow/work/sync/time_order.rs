//! The order of the times of a history.

use headrace_fhir::instant::Instant;

/// The order of the times of a history, as far as it was read. Most begin with the newest event.
#[derive(Default)]
pub(super) struct TimeOrder {
    last: Option<Instant>,
    /// The number of events that are later than the one before.
    rising: usize,
    /// The number of events that are earlier than the one before.
    falling: usize,
}

impl TimeOrder {
    /// Starts another sequence of pages, such as the history of a resource.
    pub(super) fn start_sequence(&mut self) {
        self.last = None;
    }

    /// Returns the time of the last event of the sequence.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Adds the time of the next event. Equal times say nothing about the order.
    pub(super) fn add(&mut self, at: Instant) {
        if let Some(last) = self.last.replace(at) {
            self.rising += usize::from(at > last);
            self.falling += usize::from(at < last);
        }
    }

    /// Returns true if the history begins with the oldest event.
    pub(super) fn is_ascending(&self) -> bool {
        self.rising > self.falling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_most_different_times_and_descending_if_there_are_none() {
        for (times, is_ascending) in [
            (vec![], false),
            (vec![5, 5, 5], false),
            (vec![1, 2, 2, 3], true),
            (vec![3, 2, 2, 1], false),
            (vec![1, 2, 1, 2], true),
            (vec![2, 1, 2, 1], false),
        ] {
            let mut order = TimeOrder::default();
            for time in &times {
                order.add(Instant::from_millis(*time));
            }
            assert_eq!(order.is_ascending(), is_ascending, "{times:?}");
            assert_eq!(order.last(), times.last().map(|time| Instant::from_millis(*time)));
            order.start_sequence();
            assert_eq!((order.is_ascending(), order.last()), (is_ascending, None));
        }
    }
}
