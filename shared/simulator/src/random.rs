//! Random draws. All of a thread come from one generator, which the adapters' jitter uses too, so that a seed determines a run.

use std::time::Duration;

/// Sets the seed of this thread's generator.
pub fn set_seed(seed: u64) {
    fastrand::seed(seed);
}

/// Draws from a log-normal distribution with this median. `spread` is the standard deviation of the logarithm.
pub fn log_normal(median: Duration, spread: f64) -> Duration {
    let (radius, angle) = ((-2.0 * (1.0 - fastrand::f64()).ln()).sqrt(), std::f64::consts::TAU * fastrand::f64());
    median.mul_f64((spread * radius * angle.cos()).exp())
}

/// Draws from an exponential distribution with this mean.
pub fn exponential(mean: Duration) -> Duration {
    mean.mul_f64(-(1.0 - fastrand::f64()).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_draws_are_below_the_median() {
        set_seed(7);
        let median = Duration::from_millis(10);
        let below = (0..10_000).filter(|_| log_normal(median, 0.3) < median).count();
        assert!((4_800..5_200).contains(&below), "{below}");
    }

    #[test]
    fn exponential_draws_have_their_mean() {
        set_seed(7);
        let sum: Duration = (0..10_000).map(|_| exponential(Duration::from_secs(1))).sum();
        assert!((9_600..10_400).contains(&sum.as_secs()), "{sum:?}");
    }
}
