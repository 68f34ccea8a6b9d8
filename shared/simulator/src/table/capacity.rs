//! The capacity that operations consume.

/// The factor of a transaction: each item is prepared and then committed.
pub(super) const TRANSACTION_FACTOR: f64 = 2.0;

/// The capacity that an operation has consumed, by partition key of the table and of its indexes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Consumed {
    /// Write and read units by partition key.
    pub(super) keys: Vec<(String, (f64, f64))>,
}

impl Consumed {
    /// Adds write units.
    pub(super) fn add_writes(&mut self, key: &str, units: f64) {
        self.add(key, (units, 0.0));
    }

    /// Adds read units.
    pub(super) fn add_reads(&mut self, key: &str, units: f64) {
        self.add(key, (0.0, units));
    }

    /// Adds units to those of a key.
    fn add(&mut self, key: &str, (writes, reads): (f64, f64)) {
        match self.keys.iter_mut().find(|(known, _)| known == key) {
            Some((_, units)) => *units = (units.0 + writes, units.1 + reads),
            None => self.keys.push((key.to_owned(), (writes, reads))),
        }
    }

    /// Returns the same capacity, multiplied by a factor.
    pub(super) fn times(mut self, factor: f64) -> Self {
        self.keys.iter_mut().for_each(|(_, units)| *units = (units.0 * factor, units.1 * factor));
        self
    }

    /// Returns the sum of the write and read units.
    pub(super) fn sum(&self) -> (f64, f64) {
        self.keys.iter().fold((0.0, 0.0), |sum, (_, units)| (sum.0 + units.0, sum.1 + units.1))
    }
}

/// Returns the units of a write: one for each KB of the larger of both images.
pub(super) fn write_units(old_bytes: Option<usize>, new_bytes: Option<usize>) -> f64 {
    units(old_bytes.unwrap_or_default().max(new_bytes.unwrap_or_default()), 1_024)
}

/// Returns the units of a read: one for each 4 KB, half of that if it may be stale.
pub(super) fn read_units(bytes: usize, is_consistent: bool) -> f64 {
    units(bytes, 4_096) * if is_consistent { 1.0 } else { 0.5 }
}

/// Returns the number of blocks of a size, at least one.
fn units(bytes: usize, block: usize) -> f64 {
    u32::try_from(bytes.div_ceil(block).max(1)).unwrap_or(u32::MAX).into()
}
