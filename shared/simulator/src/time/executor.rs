//! The executor: a queue of tasks that can continue, and a heap of timers.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering as Memory};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;

use crate::lock;

/// A task without a result.
type BoxedTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks and timers of a simulation.
#[derive(Default)]
pub(super) struct Executor {
    state: Mutex<State>,
    ready: Arc<Mutex<VecDeque<usize>>>,
}

/// The clock, the timers and the tasks of a simulation.
#[derive(Default)]
struct State {
    now: Duration,
    timers: BinaryHeap<Reverse<Timer>>,
    /// The number of timers so far. Timers of the same moment fire in the order in which they were added.
    timer_count: u64,
    tasks: Vec<Option<Task>>,
    free_tasks: Vec<usize>,
}

/// A future that the executor polls.
struct Task {
    future: BoxedTask,
    waker: Arc<TaskWaker>,
}

/// A wake-up at a time. Timers sort by time, then by number.
struct Timer {
    deadline: Duration,
    number: u64,
    waker: Arc<AtomicWaker>,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.deadline, self.number).cmp(&(other.deadline, other.number))
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executor({:?})", self.now())
    }
}

/// The waker of a task: adds it to the queue of tasks that can continue.
struct TaskWaker {
    task: usize,
    is_queued: AtomicBool,
    ready: Arc<Mutex<VecDeque<usize>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Memory::Relaxed) {
            lock(&self.ready).push_back(self.task);
        }
    }
}

impl Executor {
    /// Returns the virtual time since the start.
    pub(super) fn now(&self) -> Duration {
        lock(&self.state).now
    }

    /// Adds a timer.
    pub(super) fn add_timer(&self, deadline: Duration, waker: Arc<AtomicWaker>) {
        let mut state = lock(&self.state);
        state.timer_count += 1;
        let number = state.timer_count;
        state.timers.push(Reverse(Timer { deadline, number, waker }));
    }

    /// Adds a task.
    pub(super) fn spawn(&self, future: BoxedTask) {
        let mut state = lock(&self.state);
        let task = state.free_tasks.pop().unwrap_or(state.tasks.len());
        let waker = Arc::new(TaskWaker { task, is_queued: AtomicBool::new(true), ready: Arc::clone(&self.ready) });
        let entry = Some(Task { future, waker });
        match state.tasks.get_mut(task) {
            Some(slot) => *slot = entry,
            None => state.tasks.push(entry),
        }
        lock(&self.ready).push_back(task);
    }

    /// Runs all tasks until `main` has ended. Returns `None` if no task can continue and there is no timer.
    pub(super) fn run<T: Send + 'static>(&self, main: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let result = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&result);
        self.spawn(Box::pin(async move {
            let value = main.await;
            *lock(&slot) = Some(value);
        }));
        while lock(&result).is_none() && self.step() {}
        // Tasks hold the executor, so they would keep each other alive.
        let tasks = std::mem::take(&mut lock(&self.state).tasks);
        drop(tasks);
        lock(&result).take()
    }

    /// Continues one task, or moves the clock if none can continue. Returns false if nothing can happen any more.
    fn step(&self) -> bool {
        self.run_ready_task() || self.advance()
    }

    /// Continues one task. Returns false if none can continue.
    pub(super) fn run_ready_task(&self) -> bool {
        let Some(index) = lock(&self.ready).pop_front() else { return false };
        let taken = lock(&self.state).tasks.get_mut(index).and_then(Option::take);
        let Some(mut task) = taken else { return true };
        task.waker.is_queued.store(false, Memory::Relaxed);
        let waker = Waker::from(Arc::clone(&task.waker));
        let end = task.future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut state = lock(&self.state);
        if end == Poll::Pending {
            if let Some(slot) = state.tasks.get_mut(index) {
                *slot = Some(task);
            }
        } else {
            state.free_tasks.push(index);
            drop(state);
        }
        true
    }

    /// Moves the clock to the next timer. Returns false if there is none.
    pub(super) fn advance(&self) -> bool {
        let timer = {
            let mut state = lock(&self.state);
            let Some(Reverse(timer)) = state.timers.pop() else { return false };
            state.now = state.now.max(timer.deadline);
            timer
        };
        timer.waker.wake();
        true
    }
}
