//! Clock and job ids that a test controls.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headrace_core::ports::Clock;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;

/// Start time of every manual clock: 2026-10-01 08:00 UTC.
const START_MILLIS: u64 = 1_790_841_600_000;

/// Clock that only moves when a test moves it. Clones share the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl Default for ManualClock {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(START_MILLIS)))
    }
}

impl ManualClock {
    /// Returns a clock with the same time that moves by itself from now on.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(AtomicU64::new(self.0.load(Ordering::SeqCst))))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Moves the clock back, as that of a machine whose time was wrong.
    pub fn set_back(&self, by: Duration) {
        self.0.fetch_sub(u64::try_from(by.as_millis()).unwrap_or_default(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }
}

thread_local! {
    static NEXT_JOB_NUMBER: Cell<u8> = const { Cell::new(1) };
}

/// Returns the next job id: `…01`, `…02`. Counted per thread, because the handler takes a plain function.
pub(super) fn next_job_id() -> Result<JobId, StoreError> {
    let number = NEXT_JOB_NUMBER.get();
    NEXT_JOB_NUMBER.set(number.wrapping_add(1));
    let mut bytes = [0; 16];
    bytes[15] = number;
    Ok(JobId::from_random(bytes))
}

/// Sets the number of the next job id of this thread.
pub fn set_next_job_number(number: u8) {
    NEXT_JOB_NUMBER.set(number);
}
