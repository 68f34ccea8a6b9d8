//! The machine's clock and randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use headrace_core::job::anonymization::JobSecret;
use headrace_core::ports::Clock;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        #[expect(clippy::disallowed_methods, reason = "this is the Clock port's one real implementation")]
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Millis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A new job's name, from the operating system's random numbers.
pub fn random_job_id() -> Result<JobId, StoreError> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(JobId::from_random(bytes))
}

/// A new job's secret.
pub fn random_secret() -> Result<JobSecret, StoreError> {
    let mut bytes = [0; 32];
    fill(&mut bytes)?;
    Ok(JobSecret(bytes))
}

fn fill(bytes: &mut [u8]) -> Result<(), StoreError> {
    getrandom::fill(bytes).map_err(|error| StoreError::NotApplied { what: "the random number generator", cause: error.into() })
}

/// A name that nobody else has: 32 hexadecimal digits.
pub fn random_name() -> Result<String, StoreError> {
    random_job_id().map(String::from)
}
