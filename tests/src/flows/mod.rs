//! Whole exports for tests: the real handlers over real stores.
//!
//! * A [`Deployment`] holds what outlives a process: job table, lake, output destination and, on AWS, the queue.
//! * A [`ServiceProcess`] runs all handlers in one process. Every port is wrapped by a [`FaultInjector`], which can fail a call,
//!   crash the process or pause it, before or after the call takes effect.
//! * Time is a [`ManualClock`], so no test waits. Message delays are ignored here; the queue's own tests cover them.

mod client;
mod clock;
mod completion;
mod crashes;
mod deployment;
mod faults;
mod faulty_ports;
mod http;
mod local_server;
mod service;

pub mod aws_sync;
pub mod canary;
pub mod logs;
pub mod oracle;
pub mod permissions;
pub mod seed;
pub mod sync;

pub use client::{SmartClient, token_request_form};
pub use clock::{ManualClock, set_next_job_number};
pub use completion::{CompletedExport, REAPER_INTERVAL};
pub use crashes::{Crash, CrashRecorder};
pub use deployment::{AwsDeployment, Deployment, LocalDeployment, unsealed_audit_records};
pub use faults::{Fault, FaultInjector, PausedCalls, PortCall};
pub use http::{Manifest, ManifestFile, TestRequest, TestResponse};
pub use local_server::{server_config, start_local_server};
pub use service::{ANN, BEN, DeploymentSettings, ServiceProcess};

/// Result of test helpers.
pub type Result<T, E = headrace_core::vocab::error::BoxError> = std::result::Result<T, E>;

/// Stack size of a test thread. In unoptimised builds, nested futures of tests, handlers and SDK calls overflow the default stack.
const STACK_BYTES: usize = 32 << 20;

/// Runs a test on its own thread and single-threaded runtime, so that its tasks run in a deterministic order. Also fails if
/// credentials or patient data were logged.
pub fn run<T: Send>(test: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    canary::install();
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test());
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, run)?;
        let result = thread.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))?;
        canary::check_no_leaks().map(|()| result)
    })
}
