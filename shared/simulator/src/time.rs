//! Virtual time: an executor on one thread whose clock jumps to the next timer once no task can continue.
//!
//! Hours of an export pass in seconds, and a run depends on its seed alone. The SDK and the adapters wait by the timers of this clock,
//! which [`crate::aws::pauses`] passes to them.

mod executor;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use headrace_core::ports::Clock;
use headrace_core::vocab::clock::Millis;

use executor::Executor;

/// The virtual moment at which a simulation starts: 2026-11-01T00:00:00Z.
const START: Millis = Millis(1_793_491_200_000);

/// The number of polls of [`VirtualTime::drive`] in which tokio certainly polls every other future that can continue.
const IDLE_POLLS: u32 = 200;

/// The clock and the executor of a simulation. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct VirtualTime(Arc<Executor>);

impl VirtualTime {
    /// Returns the virtual time since the simulation started.
    pub fn elapsed(&self) -> Duration {
        self.0.now()
    }

    /// Returns a future that completes when this time has passed.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.elapsed() + duration)
    }

    /// Returns a future that completes at this moment, counted from the start of the simulation.
    pub fn sleep_until(&self, deadline: Duration) -> Sleep {
        Sleep { executor: Arc::clone(&self.0), deadline, waker: None }
    }

    /// Starts a task that runs until it ends or the simulation does.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(Box::pin(task));
    }

    /// Runs all tasks until `main` has ended. Returns `None` if every task waits for another.
    pub fn run<T: Send + 'static>(&self, main: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.0.run(main)
    }

    /// Runs all tasks as long as another executor polls this future, for tests on that executor.
    ///
    /// The clock moves only after many polls without a task that can continue, because the executor may poll others less often.
    pub async fn drive(self) {
        let mut idle_polls = 0;
        std::future::poll_fn(|context| {
            idle_polls = if self.0.run_ready_task() { 0 } else { idle_polls + 1 };
            if idle_polls > IDLE_POLLS {
                self.0.advance();
                idle_polls = 0;
            }
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        })
        .await;
    }
}

impl Clock for VirtualTime {
    fn now(&self) -> Millis {
        START + self.elapsed()
    }
}

/// The future of a pause.
#[derive(Debug)]
pub struct Sleep {
    executor: Arc<Executor>,
    deadline: Duration,
    /// The waker that the timer holds, once there is a timer.
    waker: Option<Arc<AtomicWaker>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.executor.now() >= self.deadline {
            return Poll::Ready(());
        }
        match &self.waker {
            Some(waker) => waker.register(context.waker()),
            None => {
                let waker = Arc::new(AtomicWaker::new());
                waker.register(context.waker());
                self.executor.add_timer(self.deadline, Arc::clone(&waker));
                self.waker = Some(waker);
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_jumps_to_the_next_timer() {
        let time = VirtualTime::default();
        let clock = time.clone();
        let elapsed = time.run(async move {
            clock.sleep(Duration::from_secs(3_600)).await;
            clock.elapsed()
        });
        assert_eq!(elapsed, Some(Duration::from_secs(3_600)));
    }

    #[test]
    fn tasks_interleave_by_their_timers() {
        let time = VirtualTime::default();
        let (log, received) = std::sync::mpsc::channel();
        for (name, seconds) in [("b", 2), ("a", 1), ("c", 3)] {
            let (clock, log) = (time.clone(), log.clone());
            time.spawn(async move {
                clock.sleep(Duration::from_secs(seconds)).await;
                assert!(log.send(name).is_ok());
            });
        }
        let clock = time.clone();
        assert_eq!(time.run(async move { clock.sleep(Duration::from_secs(10)).await }), Some(()));
        assert_eq!(received.try_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn a_simulation_in_which_nothing_can_happen_ends() {
        assert_eq!(VirtualTime::default().run(std::future::pending::<()>()), None);
    }
}
