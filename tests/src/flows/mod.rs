//! Whole exports for tests: the six real handlers over real stores, one process at a time.
//!
//! * A [`Stage`] is what outlives a process: the job table, the lake, the destination and, on AWS, the queue.
//! * A [`World`] is one process on it: the handlers, each port behind a [`Script`] that can make any call fail, stop the
//!   process or hold it up, before or after the call took effect.
//! * Time is a [`ManualClock`]: nothing waits. A pause before a delivery is a matter of the queue's own tests.

mod answer;
mod client;
mod clock;
mod drive;
mod script;
mod stage;
mod tapped;
mod world;

pub mod asked;
pub mod canary;
pub mod logs;
pub mod oracle;
pub mod seed;

pub use answer::{Answer, Ask, Entry, Manifest};
pub use client::{Client, token_form};
pub use clock::{ManualClock, count_ids_from};
pub use drive::{Finished, MINUTE};
pub use script::{Alarm, Call, Script, Twist};
pub use stage::{Aws, OneMachine, Stage};
pub use world::{ANN, BEN, Terms, World};

/// What a test's helpers fail with.
pub type Result<T, E = headrace_core::vocab::error::BoxError> = std::result::Result<T, E>;

/// The stack of a test: unoptimised, the futures of SDK calls inside handlers inside tests are larger than a thread's.
const STACK_BYTES: usize = 32 << 20;

/// Runs a test on a thread and a runtime of its own: what it does at its own will it does in one order. Fails, too, if
/// something was logged that never must be.
pub fn run<T: Send>(test: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    canary::watch();
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test());
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, run)?;
        let done = thread.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))?;
        canary::must_sing().map(|()| done)
    })
}
