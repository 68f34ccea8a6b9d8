//! Measures what an attempt at a task uses.
//!
//! The adapters count each call where they make it, into the meter of the attempt that they run in. A meter belongs to a future, like a
//! local variable to a function: the ports have no parameter for it, because forty methods would pass it on and three would use it. The
//! usage is recorded with the updates of the task that happen anyway.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::job::Usage;
use crate::vocab::clock::Millis;

tokio::task_local! {
    static METER: Meter;
}

/// The meter of an attempt. Clones share it.
#[derive(Clone, Debug)]
struct Meter(Arc<Mutex<Measured>>);

#[derive(Debug)]
struct Measured {
    usage: Usage,
    started_at: Millis,
    memory_mb: u64,
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures what `attempt` uses.
///
/// * `memory_mb`: the memory of the function that it runs in; 0 on one machine.
pub async fn metered<T>(started_at: Millis, memory_mb: u32, attempt: impl Future<Output = T>) -> T {
    let measured = Measured { usage: Usage { attempts: 1, ..Usage::default() }, started_at, memory_mb: memory_mb.into() };
    METER.scope(Meter(Arc::new(Mutex::new(measured))), attempt).await
}

/// Returns a future that counts into the meter of the current attempt, for a task of its own. Without an attempt, nothing is counted.
pub fn with_current_meter<T>(task: impl Future<Output = T>) -> impl Future<Output = T> {
    let meter = METER.try_get().ok();
    async move {
        match meter {
            Some(meter) => METER.scope(meter, task).await,
            None => task.await,
        }
    }
}

/// Counts a call of the current attempt. Does nothing outside of an attempt.
pub fn count(add: impl FnOnce(&mut Usage)) {
    // Requests of clients and the reaper run in no attempt.
    METER.try_with(|meter| add(&mut meter.lock().usage)).ok();
}

/// Returns true if the current attempt runs in a function on AWS, where capacity has a price.
pub fn counts_capacity() -> bool {
    METER.try_with(|meter| meter.lock().memory_mb > 0).unwrap_or_default()
}

/// Adds what earlier attempts at the same task have recorded.
pub(crate) fn continue_from(earlier: Usage) {
    count(|usage| *usage = usage.plus(earlier));
}

/// Returns what this attempt and the earlier ones at the same task have used until `now`.
pub(crate) fn used_until(now: Millis) -> Usage {
    let used = METER.try_with(|meter| {
        let Measured { usage, started_at, memory_mb } = &*meter.lock();
        let worker_ms = u64::try_from(now.since(*started_at).as_millis()).unwrap_or(u64::MAX);
        let worker_mb_ms = worker_ms.saturating_mul(*memory_mb);
        usage.plus(Usage { worker_ms, worker_mb_ms, ..Usage::default() })
    });
    used.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use futures_util::future::join;

    use super::*;

    /// Waits for a future that never pauses.
    fn run<T>(future: impl Future<Output = T>) -> T {
        futures_util::FutureExt::now_or_never(future).unwrap()
    }

    #[test]
    fn an_attempt_counts_its_own_calls_and_those_of_its_tasks() {
        let attempt = |gets: u64| async move {
            count(|usage| usage.gets += gets);
            let part = with_current_meter(async { count(|usage| usage.puts += 1) });
            // The part runs in a task of its own.
            METER.scope(Meter(Arc::new(Mutex::new(Measured { usage: Usage::default(), started_at: Millis(0), memory_mb: 0 }))), part).await;
            ready(()).await;
            used_until(Millis(1_500))
        };
        let (first, second) = run(join(metered(Millis(1_000), 1_769, attempt(3)), metered(Millis(500), 0, attempt(5))));
        let expected = |gets, worker_ms, worker_mb_ms| Usage { attempts: 1, gets, puts: 1, worker_ms, worker_mb_ms, ..Usage::default() };
        assert_eq!(first, expected(3, 500, 884_500));
        assert_eq!(second, expected(5, 1_000, 0));
    }

    #[test]
    fn an_attempt_continues_the_usage_of_earlier_ones() {
        let earlier = Usage { attempts: 2, worker_ms: 7_000, gets: 9, ..Usage::default() };
        let used = run(metered(Millis(0), 0, async {
            continue_from(earlier);
            used_until(Millis(1_000))
        }));
        assert_eq!(used, Usage { attempts: 3, worker_ms: 8_000, gets: 9, ..Usage::default() });
    }

    #[test]
    fn nothing_is_counted_outside_of_an_attempt() {
        count(|usage| usage.gets += 1);
        assert_eq!((used_until(Millis(5)), counts_capacity()), (Usage::default(), false));
    }

    #[test]
    fn a_clock_that_was_set_back_takes_no_time_away() {
        assert_eq!(run(metered(Millis(5_000), 1_000, async { used_until(Millis(1_000)) })).worker_ms, 0);
    }
}
