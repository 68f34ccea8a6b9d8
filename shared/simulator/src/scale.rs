//! The scale of the model: one simulated byte stands for many real ones.
//!
//! The flows read and write real bytes, only fewer: all sizes that a setting determines (files, slices, memory) are divided by the same
//! factor as the lake, so that the numbers of tasks, files, checkpoints and transactions are the real ones. The stores multiply bytes by
//! the factor before they count time and requests.

use crate::parameters::{Mode, Scenario};

/// The size of a line with a resource in a real lake, in bytes: 1 TB has 500 million.
pub const REAL_LINE_BYTES: u64 = 2_000;

/// The size of a simulated line, in bytes.
pub const LINE_BYTES: u64 = 250;

/// The ratio of a real lake's size to its stored size, compressed with Zstandard.
pub const COMPRESSION_RATIO: u64 = 8;

/// The most simulated bytes of a lake, unless files would become too small.
const MODEL_BYTES: u64 = 1_000_000_000;

/// The scales that keep at least a hundred lines in an output file, and simulations of small lakes short.
const SCALES: std::ops::RangeInclusive<u64> = 400..=2_500;

/// The scale of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The number of real bytes of lines for which one simulated byte stands.
    pub bytes: u64,
    /// The number of real lines, and so of version records, for which one simulated line stands.
    pub lines: u64,
}

impl Scale {
    /// Returns the scale of a scenario.
    pub fn new(scenario: &Scenario) -> Self {
        let chosen = (scenario.lake_bytes / MODEL_BYTES).clamp(*SCALES.start(), *SCALES.end());
        Self::from_bytes(scenario.byte_scale.unwrap_or(chosen))
    }

    /// Returns the scale at which one simulated byte stands for this many.
    pub fn from_bytes(bytes: u64) -> Self {
        Self { bytes, lines: (bytes * LINE_BYTES / REAL_LINE_BYTES).max(1) }
    }

    /// Returns the simulated size of this many real bytes of lines, at least 1.
    pub fn shrink(self, real_bytes: u64) -> u64 {
        (real_bytes / self.bytes).max(1)
    }

    /// Returns the simulated size of this many real bytes of version records or links, at least 1.
    pub fn shrink_records(self, real_bytes: u64) -> u64 {
        (real_bytes / self.lines).max(1)
    }
}

impl Mode {
    /// Returns true if reading writes version records.
    pub fn has_version_records(self) -> bool {
        self != Self::One
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_and_a_large_lake_have_files_of_a_hundred_lines() {
        for lake_bytes in [1_000_000, 10_000_000_000, 1_000_000_000_000, 100_000_000_000_000] {
            let scale = Scale::new(&Scenario { lake_bytes, ..Scenario::default() });
            assert!(scale.shrink(64_000_000) / LINE_BYTES >= 100, "{scale:?}");
            // The last line may stand for less than a real one.
            assert!((scale.lines * REAL_LINE_BYTES / LINE_BYTES).abs_diff(scale.bytes) < REAL_LINE_BYTES / LINE_BYTES, "{scale:?}");
        }
    }
}
