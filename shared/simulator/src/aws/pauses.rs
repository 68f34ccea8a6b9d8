//! Pauses of the adapters and of the SDK, by the virtual clock.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use aws_sdk_dynamodb::config::{AsyncSleep, Sleep};
use headrace_aws::PauseClock;

use super::worker::Worker;
use crate::meter::Activity;

/// The pauses of a process between the tries of a call to the job table.
#[derive(Clone, Debug)]
pub struct WorkerPauses(pub Worker);

impl PauseClock for WorkerPauses {
    fn elapsed(&self) -> Duration {
        self.0.time().elapsed()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.add_activity(Activity::TablePause, duration);
        Box::pin(self.0.time().sleep(duration))
    }
}

impl AsyncSleep for WorkerPauses {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(self.0.time().sleep(duration))
    }
}
