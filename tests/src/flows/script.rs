//! What happens to the port calls of one process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use headrace_core::vocab::error::{SourceError, StoreError};
use tokio::sync::{Notify, mpsc, watch};

/// One call of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which call of this process it is, from 1.
    pub number: usize,
    /// `port.verb`.
    pub name: &'static str,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    /// Nothing.
    Pass,
    /// The process ends before the call takes effect.
    StopBefore,
    /// The process ends after the call took effect and before it learns of that.
    StopAfter,
    /// The call is refused, and nothing happens.
    FailBefore,
    /// The call takes effect and its answer is lost.
    FailAfter,
    /// The process sleeps before the call takes effect.
    SleepBefore,
    /// The process sleeps after the call took effect.
    SleepAfter,
}

type Author = Box<dyn FnMut(Call) -> Twist + Send>;

/// The script of one process. Clones are the same script.
#[derive(Clone)]
pub struct Script(Arc<Inner>);

struct Inner {
    author: Mutex<Author>,
    calls: AtomicUsize,
    names: Mutex<Vec<&'static str>>,
    is_dead: watch::Sender<bool>,
    fell_asleep: mpsc::UnboundedSender<Arc<Notify>>,
    sleepers: tokio::sync::Mutex<mpsc::UnboundedReceiver<Arc<Notify>>>,
}

/// Wakes whoever sleeps.
#[derive(Debug)]
pub struct Alarm(Vec<Arc<Notify>>);

impl Alarm {
    /// Rings once.
    pub fn ring(&self) {
        self.0.iter().for_each(|sleeper| sleeper.notify_one());
    }
}

impl Script {
    /// Asks `author` at every call.
    pub fn of(author: impl FnMut(Call) -> Twist + Send + 'static) -> Self {
        let (fell_asleep, sleepers) = mpsc::unbounded_channel();
        Self(Arc::new(Inner {
            author: Mutex::new(Box::new(author)),
            calls: AtomicUsize::new(0),
            names: Mutex::default(),
            is_dead: watch::Sender::new(false),
            fell_asleep,
            sleepers: tokio::sync::Mutex::new(sleepers),
        }))
    }

    /// Nothing out of the ordinary.
    pub fn quiet() -> Self {
        Self::of(|_| Twist::Pass)
    }

    /// One twist at call `number`, nothing else.
    pub fn at(number: usize, twist: Twist) -> Self {
        Self::of(move |call| if call.number == number { twist } else { Twist::Pass })
    }

    /// Goes on with another author.
    pub fn rewrite(&self, author: impl FnMut(Call) -> Twist + Send + 'static) {
        *self.0.author.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(author);
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// The calls, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the process has ended.
    pub fn is_dead(&self) -> bool {
        *self.0.is_dead.borrow()
    }

    /// Runs `work` of this process; `None` if the process ends meanwhile.
    pub async fn while_alive<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut is_dead = self.0.is_dead.subscribe();
        tokio::select! {
            biased;
            _ = is_dead.wait_for(|dead| *dead) => None,
            done = work => Some(done),
        }
    }

    /// Waits until some call of this process falls asleep; the alarm clock of all that sleep by then. A task may read several
    /// files side by side, so one piece of work can sleep in several calls.
    pub async fn next_sleeper(&self) -> Alarm {
        let mut sleepers = self.0.sleepers.lock().await;
        let Some(first) = sleepers.recv().await else {
            // The sender lives in this very script.
            return std::future::pending().await;
        };
        let others = std::iter::from_fn(|| sleepers.try_recv().ok());
        Alarm(std::iter::once(first).chain(others).collect())
    }

    pub(super) async fn around<T, E: Fault>(&self, name: &'static str, act: impl Future<Output = Result<T, E>> + Send) -> Result<T, E> {
        match self.decide(name) {
            Twist::Pass => act.await,
            Twist::StopBefore => self.stop().await,
            Twist::StopAfter => {
                let done = act.await;
                self.0.is_dead.send_replace(true);
                drop(done);
                self.stop().await
            }
            Twist::FailBefore => Err(E::refused()),
            Twist::FailAfter => {
                act.await?;
                Err(E::lost())
            }
            Twist::SleepBefore => {
                self.sleep().await;
                act.await
            }
            Twist::SleepAfter => {
                let done = act.await;
                self.sleep().await;
                done
            }
        }
    }

    fn decide(&self, name: &'static str) -> Twist {
        let number = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        if self.is_dead() {
            return Twist::StopBefore;
        }
        let mut author = self.0.author.lock().unwrap_or_else(PoisonError::into_inner);
        author(Call { number, name })
    }

    async fn stop<T>(&self) -> T {
        self.0.is_dead.send_replace(true);
        std::future::pending().await
    }

    async fn sleep(&self) {
        let alarm = Arc::new(Notify::new());
        drop(self.0.fell_asleep.send(Arc::clone(&alarm)));
        alarm.notified().await;
    }
}

/// How an error of a port says what [`Twist::FailBefore`] and [`Twist::FailAfter`] mean.
pub(super) trait Fault: Send + Sized {
    fn refused() -> Self;
    fn lost() -> Self;
}

impl Fault for StoreError {
    fn refused() -> Self {
        Self::NotApplied { what: "a store", cause: "the script says so".into() }
    }

    fn lost() -> Self {
        Self::Unknown { what: "a store", cause: "the script says so".into() }
    }
}

impl Fault for SourceError {
    fn refused() -> Self {
        Self::Unavailable("the script says so".into())
    }

    fn lost() -> Self {
        Self::Unavailable("the script says so".into())
    }
}
