//! Whole exports for tests: the six real handlers over real stores, one process at a time.
//!
//! * A [`Stage`] is what outlives a process: the job table, the lake, the destination and, on AWS, the queue.
//! * A [`World`] is one process on it: the handlers, each port behind a [`Script`] that can make any call fail, stop the
//!   process or hold it up, before or after the call took effect.
//! * Time is a [`ManualClock`]: nothing waits. A pause before a delivery is a matter of the queue's own tests.

mod answer;
mod clock;
mod drive;
mod script;
mod stage;
mod tapped;
mod world;

pub mod logs;
pub mod oracle;

pub use answer::{Answer, Ask, Entry, Manifest};
pub use clock::{ManualClock, restart_ids};
pub use drive::{Finished, MINUTE};
pub use script::{Call, Script, Twist};
pub use stage::{Aws, OneMachine, Stage};
pub use world::{ANN, BEN, Terms, World};

/// What a test's helpers fail with.
pub type Result<T, E = headrace_core::error::BoxError> = std::result::Result<T, E>;
