//! The clock.

use crate::vocab::clock::Millis;

/// A clock: the system's clock in production, a manual one in tests.
pub trait Clock: Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Millis;
}
