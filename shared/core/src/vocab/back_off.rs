//! Pauses that grow with each failure.

use std::time::Duration;

/// Returns the pause `first`, doubled this many times, at most `longest`.
pub fn doubled_pause(first: Duration, doublings: u32, longest: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pause = |doublings| doubled_pause(Duration::from_secs(1), doublings, Duration::from_secs(300)).as_secs();
        assert_eq!([0, 1, 2, 8, 9, 31, 32, u32::MAX].map(pause), [1, 2, 4, 256, 300, 300, 300, 300]);
    }
}
