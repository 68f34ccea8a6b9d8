//! Time and names that a test decides.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headrace_core::ports::Clock;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;

/// 2026-10-01 08:00 UTC: the morning after Azure API for FHIR closed.
const BEGIN: u64 = 1_790_841_600_000;

/// A clock that stands still until it is moved. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl Default for ManualClock {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(BEGIN)))
    }
}

impl ManualClock {
    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }
}

thread_local! {
    static NEXT: Cell<u8> = const { Cell::new(1) };
}

/// The next job's name: `…01`, `…02`, counted per thread, since the handler takes a plain function.
pub(super) fn next_id() -> Result<JobId, StoreError> {
    let number = NEXT.get();
    NEXT.set(number.wrapping_add(1));
    let mut bytes = [0; 16];
    bytes[15] = number;
    Ok(JobId::from_random(bytes))
}

/// The next job of this thread is named by this number.
pub fn count_ids_from(number: u8) {
    NEXT.set(number);
}
