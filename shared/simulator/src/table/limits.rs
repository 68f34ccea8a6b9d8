//! The limits of the table: the capacity of each partition key, and the items that a transaction is using.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::capacity::Consumed;
use super::stored::Key;
use crate::parameters::TableParameters;

/// The capacity that is left, and the items in use.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// The write and read units that are left of each partition key, and the moment for which that holds.
    keys: HashMap<String, (f64, f64, Duration)>,
    in_use: HashSet<Key>,
}

impl Limits {
    /// Returns true if the partition keys have capacity left, and then deducts the consumed capacity. The capacity of a key may go below
    /// zero: DynamoDB knows the size of a read only afterwards.
    pub(super) fn admit(&mut self, parameters: &TableParameters, now: Duration, consumed: &Consumed) -> bool {
        let has_left = consumed.keys.iter().all(|(key, (writes, reads))| {
            let (writes_left, reads_left, _) = *self.refill(parameters, now, key);
            (*writes == 0.0 || writes_left > 0.0) && (*reads == 0.0 || reads_left > 0.0)
        });
        if has_left {
            self.take(parameters, now, consumed);
        }
        has_left
    }

    /// Deducts capacity, even if less is left.
    pub(super) fn take(&mut self, parameters: &TableParameters, now: Duration, consumed: &Consumed) {
        for (key, (writes, reads)) in &consumed.keys {
            let left = self.refill(parameters, now, key);
            (left.0, left.1) = (left.0 - writes, left.1 - reads);
        }
    }

    /// Adds the capacity that a key has saved up since it was used last, and returns what is left.
    fn refill(&mut self, parameters: &TableParameters, now: Duration, key: &str) -> &mut (f64, f64, Duration) {
        let (writes, reads) = (f64::from(parameters.write_units), f64::from(parameters.read_units));
        let burst = parameters.burst.as_secs_f64();
        if !self.keys.contains_key(key) {
            self.keys.insert(key.to_owned(), (writes * burst, reads * burst, now));
        }
        let left = self.keys.entry(key.to_owned()).or_default();
        let seconds = now.saturating_sub(left.2).as_secs_f64();
        *left = ((left.0 + writes * seconds).min(writes * burst), (left.1 + reads * seconds).min(reads * burst), now);
        left
    }

    /// Returns true if a transaction is using the item.
    pub(super) fn is_in_use(&self, key: &Key) -> bool {
        self.in_use.contains(key)
    }

    /// Marks the items of a transaction as used.
    pub(super) fn use_items<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        self.in_use.extend(keys.cloned());
    }

    /// Ends the use of the items of a transaction.
    pub(super) fn release_items<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        for key in keys {
            self.in_use.remove(key);
        }
    }
}
