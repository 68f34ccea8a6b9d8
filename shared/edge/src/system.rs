//! The system clock and the operating system's random numbers.

use std::time::{SystemTime, UNIX_EPOCH};

use headrace_core::job::JobSecret;
use headrace_core::ports::Clock;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;

/// The system clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        #[expect(clippy::disallowed_methods, reason = "this is the one real implementation of the port Clock")]
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Millis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Creates a random job id.
pub fn random_job_id() -> Result<JobId, StoreError> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(JobId::from_random(bytes))
}

/// Creates a random secret for a job's de-identification keys.
pub fn random_job_secret() -> Result<JobSecret, StoreError> {
    let mut bytes = [0; 32];
    fill(&mut bytes)?;
    Ok(JobSecret(bytes))
}

/// Fills the bytes with random ones from the operating system.
fn fill(bytes: &mut [u8]) -> Result<(), StoreError> {
    getrandom::fill(bytes).map_err(|error| StoreError::NotApplied { store: "the random number generator", cause: error.into() })
}

/// Creates a random id of 32 hexadecimal digits.
pub fn random_id() -> Result<String, StoreError> {
    random_job_id().map(String::from)
}
