//! The Bundles of a file that are histories. The type of a Bundle may come behind its entries, so the first reading collects them for the second.

use std::ops::Range;

/// The histories among the Bundles of a file, as ranges of their numbers: the Bundles of a file are mostly of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Histories(Vec<Range<u64>>);

impl Histories {
    /// Adds a Bundle that is behind all others.
    pub(super) fn add(&mut self, bundle: u64) {
        match self.0.last_mut().filter(|last| last.end == bundle) {
            Some(last) => last.end += 1,
            None => self.0.push(bundle..bundle + 1),
        }
    }

    /// Returns true if a Bundle is a history.
    pub(super) fn contains(&self, bundle: u64) -> bool {
        let index = self.0.partition_point(|range| range.end <= bundle);
        self.0.get(index).is_some_and(|range| range.contains(&bundle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histories_are_those_that_were_added() {
        let added = [0, 1, 2, 7, 9, 10];
        let mut histories = Histories::default();
        added.iter().for_each(|bundle| histories.add(*bundle));
        let contained: Vec<u64> = (0..20).filter(|bundle| histories.contains(*bundle)).collect();
        assert_eq!((contained.as_slice(), histories.0.len()), (added.as_slice(), 3));
    }
}
