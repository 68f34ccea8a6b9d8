//! Requests to S3: their rate per prefix, their latency, and the retries of the SDK and of the adapter.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use headrace_aws::count_object_request;

use super::worker::Worker;
use crate::lock;
use crate::meter::Service;
use crate::parameters::BucketParameters;
use crate::random::log_normal;

/// The number of times that the SDK tries a call.
const SDK_TRIES: u32 = 6;

/// The longest pause of the SDK.
const LONGEST_SDK_PAUSE: Duration = Duration::from_secs(3);

/// The longest pause of the adapter.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The time that S3 takes to reject a call.
const REJECTION: Duration = Duration::from_millis(10);

/// The requests to one prefix of a bucket. Clones share its limits.
#[derive(Clone, Debug)]
pub struct Prefix {
    parameters: Arc<BucketParameters>,
    gets: Arc<Mutex<Rate>>,
    puts: Arc<Mutex<Rate>>,
}

/// The requests of a kind that are left in the current second.
#[derive(Debug)]
struct Rate {
    per_second: f64,
    left: f64,
    at: Duration,
}

/// A kind of request, by the limit that it counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// GET and HEAD.
    Read,
    /// PUT, COPY, POST, DELETE and LIST.
    Write,
}

/// The error of a prefix that gets too many requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SlowDown: the prefix gets too many requests")]
pub struct SlowDown;

impl Rate {
    fn new(per_second: u32) -> Self {
        Self { per_second: per_second.into(), left: per_second.into(), at: Duration::ZERO }
    }

    /// Returns true if a request is left, and takes it.
    fn admit(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        (self.left, self.at) = ((self.left + passed * self.per_second).min(self.per_second), now);
        let is_admitted = self.left >= 1.0;
        if is_admitted {
            self.left -= 1.0;
        }
        is_admitted
    }
}

impl Prefix {
    /// Creates a prefix that has had no requests.
    pub fn new(parameters: &BucketParameters) -> Self {
        let rate = |per_second| Arc::new(Mutex::new(Rate::new(per_second)));
        Self { gets: rate(parameters.gets_per_second), puts: rate(parameters.puts_per_second), parameters: Arc::new(parameters.clone()) }
    }

    /// Returns the behaviour of S3.
    pub fn parameters(&self) -> &BucketParameters {
        &self.parameters
    }

    /// Makes a request as the SDK does: tries it several times if the prefix is overloaded. Takes its latency.
    pub async fn request(&self, worker: &Worker, kind: RequestKind, operation: &'static str, latency: Duration) -> Result<(), SlowDown> {
        let rate = match kind {
            RequestKind::Read => &self.gets,
            RequestKind::Write => &self.puts,
        };
        for attempt in 0..SDK_TRIES {
            worker.meter().count_calls(Service::S3, operation, 1);
            count_object_request(operation);
            if lock(rate).admit(worker.time().elapsed()) {
                worker.time().sleep(log_normal(latency, self.parameters.spread)).await;
                return Ok(());
            }
            worker.meter().count_rejection(Service::S3, "slow down");
            worker.time().sleep(REJECTION).await;
            if attempt + 1 < SDK_TRIES {
                let upper_bound = Duration::from_secs(1 << attempt).min(LONGEST_SDK_PAUSE);
                worker.time().sleep(upper_bound.mul_f64(fastrand::f64())).await;
            }
        }
        Err(SlowDown)
    }

    /// Makes a request as the adapter does where it waits for an overloaded bucket: until its patience ends.
    pub async fn patient_request(
        &self,
        worker: &Worker,
        kind: RequestKind,
        (operation, latency): (&'static str, Duration),
        patience: Duration,
    ) -> Result<(), SlowDown> {
        let until = worker.time().elapsed() + patience;
        let mut upper_bound = Duration::from_millis(20);
        loop {
            let result = self.request(worker, kind, operation, latency).await;
            if result.is_ok() || worker.time().elapsed() >= until {
                return result;
            }
            worker.time().sleep(upper_bound.mul_f64(fastrand::f64()).max(Duration::from_millis(1))).await;
            upper_bound = (upper_bound * 2).min(LONGEST_PAUSE);
        }
    }
}
