//! Crashes of a process at every call, at the price of one run: the stores are copied after each call that may change them.
//!
//! A copy is what a process leaves that is killed when the call took effect, before its result arrives. A crash after any other call
//! leaves the same stores as the crash before it, because a process keeps nothing else. So the copies are all states that a crash between
//! two calls can leave. Of calls at the same time, a copy has the effects of those that have ended, and perhaps of others. The queue of a
//! local deployment is lost with its process.

use std::sync::{Arc, Mutex, PoisonError};

use super::{FaultInjector, LocalDeployment, ManualClock, PortCall, Result};

/// Stores of a process that crashed, and the time of the crash.
#[derive(Clone)]
pub struct Crash {
    /// Last call that took effect. `None` if the process crashed before its first call.
    pub after: Option<PortCall>,
    /// Stores as the crash leaves them.
    pub deployment: LocalDeployment,
    /// Clock at the time of the crash, which moves by itself from then on.
    pub clock: ManualClock,
}

impl Crash {
    /// Copies the stores as they are now.
    fn now(after: Option<PortCall>, deployment: &LocalDeployment, clock: &ManualClock) -> Result<Self> {
        Ok(Self { after, deployment: deployment.copy_stores()?, clock: clock.copy() })
    }
}

/// Crashes of one process. Filled while the process runs.
pub struct CrashRecorder {
    crashes: Arc<Mutex<Vec<Result<Crash>>>>,
}

impl CrashRecorder {
    /// Records a crash before the first call and after each call of the process that may change a store.
    pub fn start(faults: &FaultInjector, deployment: &LocalDeployment, clock: &ManualClock) -> Self {
        let crashes = Arc::new(Mutex::new(vec![Crash::now(None, deployment, clock)]));
        let (recorded, deployment, clock) = (Arc::clone(&crashes), deployment.clone(), clock.clone());
        faults.observe_changes(move |call| {
            let crash = Crash::now(Some(call), &deployment, &clock);
            recorded.lock().unwrap_or_else(PoisonError::into_inner).push(crash);
        });
        Self { crashes }
    }

    /// Returns the crashes so far, in order.
    pub fn take(&self) -> Result<Vec<Crash>> {
        std::mem::take(&mut *self.crashes.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }
}
