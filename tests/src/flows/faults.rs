//! Fault injection for the port calls of one process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use headrace_core::vocab::error::{SourceError, StoreError};
use tokio::sync::{Notify, mpsc, watch};

/// Call of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortCall {
    /// Number of the call in this process, starting at 1.
    pub number: usize,
    /// Port and method, such as `queue.announce`.
    pub name: &'static str,
}

/// Fault of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Normal call without a fault.
    None,
    /// Crash of the process before the call takes effect.
    CrashBefore,
    /// Crash of the process after the call took effect, before its result arrives.
    CrashAfter,
    /// Failure of the call without effect.
    FailBefore,
    /// Rejection of the call by an overloaded store.
    Overload,
    /// Loss of the result: the call takes effect, and the caller gets an error.
    FailAfter,
    /// Failure of the call without effect, for a reason that no retry can mend: a full disk, or an object that may not be read.
    FailForGood,
    /// Pause before the call takes effect, until the test resumes it.
    PauseBefore,
    /// Pause after the call took effect, until the test resumes it.
    PauseAfter,
}

/// Calls that change no store.
const READING_CALLS: [&str; 36] = [
    "access.client",
    "access.clients",
    "access.token_key",
    "audit files.list",
    "audit files.read",
    "audit.chain_state",
    "audit.records",
    "audit.unsealed",
    "events.pending_events",
    "events.undelivered_events",
    "jobs.decrypt",
    "jobs.decrypt_keys",
    "jobs.decrypt_webhook_secret",
    "jobs.due",
    "jobs.encrypt",
    "jobs.file_list",
    "jobs.job",
    "jobs.list_jobs",
    "jobs.output_file",
    "jobs.output_files",
    "jobs.queue_position",
    "jobs.queued_jobs",
    "jobs.with_progress",
    "output.anonymization_config",
    "output.anonymization_keys",
    "output.check",
    "output.file_access",
    "output.read",
    "schedules.schedule",
    "schedules.schedules",
    "source.check",
    "source.list",
    "source.read",
    "source.read_metadata",
    "tasks.fragments",
    "tasks.task_work",
];

/// Function that is called when a call that may change a store took effect.
type ChangeObserver = Box<dyn FnMut(PortCall) + Send>;

/// Function that chooses the fault of each call.
type FaultPlan = Box<dyn FnMut(PortCall) -> Fault + Send>;

/// Fault injector of one process. Clones share the same state.
#[derive(Clone)]
pub struct FaultInjector(Arc<Inner>);

struct Inner {
    plan: Mutex<FaultPlan>,
    observer: Mutex<Option<ChangeObserver>>,
    calls: AtomicUsize,
    names: Mutex<Vec<&'static str>>,
    loses_file_numbers: AtomicBool,
    lists_objects_singly: AtomicBool,
    has_crashed: watch::Sender<bool>,
    pause_sender: mpsc::UnboundedSender<Arc<Notify>>,
    pauses: tokio::sync::Mutex<mpsc::UnboundedReceiver<Arc<Notify>>>,
}

/// Calls that are paused until [`PausedCalls::resume`].
#[derive(Debug, Default)]
pub struct PausedCalls(Vec<Arc<Notify>>);

impl PausedCalls {
    /// Resumes the calls.
    pub fn resume(&self) {
        self.0.iter().for_each(|paused| paused.notify_one());
    }
}

impl FaultInjector {
    /// Creates an injector that calls `plan` for the fault of every call.
    pub fn new(plan: impl FnMut(PortCall) -> Fault + Send + 'static) -> Self {
        let (pause_sender, pauses) = mpsc::unbounded_channel();
        Self(Arc::new(Inner {
            plan: Mutex::new(Box::new(plan)),
            observer: Mutex::default(),
            calls: AtomicUsize::new(0),
            names: Mutex::default(),
            loses_file_numbers: AtomicBool::new(false),
            lists_objects_singly: AtomicBool::new(false),
            has_crashed: watch::Sender::new(false),
            pause_sender,
            pauses: tokio::sync::Mutex::new(pauses),
        }))
    }

    /// Creates an injector without faults.
    pub fn none() -> Self {
        Self::new(|_| Fault::None)
    }

    /// Creates an injector with one fault, at call `number`.
    pub fn at_call(number: usize, fault: Fault) -> Self {
        Self::new(move |call| if call.number == number { fault } else { Fault::None })
    }

    /// Replaces the plan for all further calls.
    pub fn set_plan(&self, plan: impl FnMut(PortCall) -> Fault + Send + 'static) {
        *self.0.plan.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(plan);
    }

    /// Calls `observer` from now on after each call that may change a store, before the process receives the result.
    pub fn observe_changes(&self, observer: impl FnMut(PortCall) + Send + 'static) {
        *self.0.observer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(observer));
    }

    /// Loses a file number before every reservation from now on, like a counter whose answer does not arrive.
    pub fn lose_file_numbers(&self) {
        self.0.loses_file_numbers.store(true, Ordering::SeqCst);
    }

    /// Lists the lake in pages of one object from now on.
    pub fn list_objects_singly(&self) {
        self.0.lists_objects_singly.store(true, Ordering::SeqCst);
    }

    /// Returns true if the lake is listed in pages of one object.
    pub(super) fn lists_objects_singly(&self) -> bool {
        self.0.lists_objects_singly.load(Ordering::SeqCst)
    }

    /// Returns true if a file number is lost before every reservation.
    pub(super) fn loses_file_numbers(&self) -> bool {
        self.0.loses_file_numbers.load(Ordering::SeqCst)
    }

    /// Returns the number of calls so far.
    pub fn call_count(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// Returns the names of all calls so far, in order.
    pub fn call_names(&self) -> Vec<&'static str> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns true if the process has crashed.
    pub fn has_crashed(&self) -> bool {
        *self.0.has_crashed.borrow()
    }

    /// Runs `work` of this process. Returns `None` if the process crashes first.
    pub async fn until_crash<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut has_crashed = self.0.has_crashed.subscribe();
        tokio::select! {
            biased;
            _ = has_crashed.wait_for(|dead| *dead) => None,
            result = work => Some(result),
        }
    }

    /// Waits until a call of this process pauses, and returns all calls that are paused by then. One task can pause in several calls,
    /// because it may read several files concurrently.
    pub async fn next_pause(&self) -> PausedCalls {
        let mut pauses = self.0.pauses.lock().await;
        let Some(first) = pauses.recv().await else {
            // Unreachable: the sender is a field of the same injector.
            return std::future::pending().await;
        };
        let others = std::iter::from_fn(|| pauses.try_recv().ok());
        PausedCalls(std::iter::once(first).chain(others).collect())
    }

    /// Makes a port call and applies the fault that the plan chooses for it.
    pub(super) async fn intercept<T, E: InjectedError>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        let (port_call, fault) = self.next_fault(name);
        match fault {
            Fault::None => {
                let result = call.await;
                self.tell_observer(port_call);
                result
            }
            Fault::CrashBefore => self.crash().await,
            Fault::CrashAfter => {
                let result = call.await;
                // Dropping the result may run more code of the process, which must already count as crashed.
                self.0.has_crashed.send_replace(true);
                drop(result);
                self.crash().await
            }
            Fault::FailBefore => Err(E::not_applied()),
            Fault::FailForGood => Err(E::permanent()),
            Fault::Overload => Err(E::overloaded()),
            Fault::FailAfter => {
                call.await?;
                Err(E::unknown_outcome())
            }
            Fault::PauseBefore => {
                self.pause().await;
                call.await
            }
            Fault::PauseAfter => {
                let result = call.await;
                self.pause().await;
                result
            }
        }
    }

    /// Counts the call and asks the plan for its fault. Returns both. Every call after a crash crashes again.
    fn next_fault(&self, name: &'static str) -> (PortCall, Fault) {
        let number = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        let call = PortCall { number, name };
        if self.has_crashed() {
            return (call, Fault::CrashBefore);
        }
        let mut plan = self.0.plan.lock().unwrap_or_else(PoisonError::into_inner);
        (call, plan(call))
    }

    /// Passes a call that took effect to the observer, if there is one and the call may have changed a store.
    fn tell_observer(&self, call: PortCall) {
        let mut observer = self.0.observer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(observer) = observer.as_mut().filter(|_| !READING_CALLS.contains(&call.name)) {
            observer(call);
        }
    }

    /// Marks the process as crashed and never returns.
    async fn crash<T>(&self) -> T {
        self.0.has_crashed.send_replace(true);
        std::future::pending().await
    }

    /// Reports that the process is at this call, and waits until the test resumes it.
    async fn pause(&self) {
        let paused = Arc::new(Notify::new());
        // The receiver is a field of the same injector, so the send cannot fail.
        drop(self.0.pause_sender.send(Arc::clone(&paused)));
        paused.notified().await;
    }
}

/// Port error that can express [`Fault::FailBefore`], [`Fault::FailAfter`] and [`Fault::FailForGood`].
pub(super) trait InjectedError: Send + Sized {
    /// Returns the error of a call without effect.
    fn not_applied() -> Self;

    /// Returns the error of a call that an overloaded store has rejected.
    fn overloaded() -> Self;

    /// Returns the error of a call whose effect is unknown to the caller.
    fn unknown_outcome() -> Self;

    /// Returns the error of a call without effect that no retry can mend.
    fn permanent() -> Self;
}

impl InjectedError for StoreError {
    fn not_applied() -> Self {
        Self::NotApplied { store: "a store", cause: "injected fault".into() }
    }

    fn overloaded() -> Self {
        Self::Overloaded { store: "a store", cause: "injected fault".into() }
    }

    fn unknown_outcome() -> Self {
        Self::Unknown { store: "a store", cause: "injected fault".into() }
    }

    fn permanent() -> Self {
        Self::OutOfSpace { place: "`/data/out`".to_owned(), cause: "injected fault".into() }
    }
}

impl InjectedError for SourceError {
    fn not_applied() -> Self {
        Self::Unavailable("injected fault".into())
    }

    fn overloaded() -> Self {
        Self::Overloaded("injected fault".into())
    }

    fn unknown_outcome() -> Self {
        Self::Unavailable("injected fault".into())
    }

    fn permanent() -> Self {
        Self::Unreadable { object: "locked.ndjson".to_owned(), detail: "permission denied" }
    }
}
