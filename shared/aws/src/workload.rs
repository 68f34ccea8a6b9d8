//! How long a process waits for AWS, and how often it repeats a call.

use std::time::Duration;

use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::backoff::REQUEST_PATIENCE;

/// The longest time of a call for a request, with all its tries. The function that answers the request lives long enough for two.
const REQUEST_CALL: Duration = Duration::from_secs(12);

/// The kind of work of a process: how long it waits for AWS, and how often it repeats a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// A client waits for the answer, at most 30 seconds. It gets an error in time rather than none.
    Requests,
    /// Tasks of up to 15 minutes under leases of this duration. Waiting is better than doing the work of an attempt again, but no call may
    /// take so long that the lease ends: it is extended between two calls, when a third of it is over.
    Tasks {
        /// The duration of a lease.
        lease: Duration,
    },
}

impl Workload {
    /// Returns the time that one call waits for an overloaded service, after the SDK has given up.
    pub fn patience(self) -> Duration {
        match self {
            Self::Requests => REQUEST_PATIENCE,
            Self::Tasks { lease } => lease / 3,
        }
    }

    /// Returns how often the SDK tries a call. Its pauses are random, too.
    pub fn retry(self) -> RetryConfig {
        match self {
            Self::Requests => RetryConfig::standard().with_max_attempts(3),
            Self::Tasks { .. } => RetryConfig::standard().with_max_attempts(6).with_max_backoff(Duration::from_secs(3)),
        }
    }

    /// Returns the longest time until a connection is open, until an answer begins, and of a call for a request with all its tries. The SDK
    /// has no limit for the latter two.
    pub fn timeouts(self) -> TimeoutConfig {
        let timeouts = TimeoutConfig::builder().connect_timeout(Duration::from_secs(3));
        match self {
            Self::Requests => timeouts.read_timeout(Duration::from_secs(4)).operation_timeout(REQUEST_CALL),
            // The time counts from the beginning of an upload of up to 72 MiB.
            Self::Tasks { lease } => timeouts.read_timeout((lease / 3).max(Duration::from_secs(10))),
        }
        .build()
    }
}
