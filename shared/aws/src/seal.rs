//! How the job table keeps a job's secret: sealed, for that job alone.

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;

/// What of it is called what.
pub(crate) const WHAT: &str = "the key of jobs' secrets";

/// The setting that names the key.
pub(crate) const SETTING: &str = "HEADRACE_SECRETS_KEY";

/// Seals secrets, with a key that never lies beside them.
pub trait Sealer: Debug + Send + Sync {
    /// Seals a job's secret.
    fn seal<'a>(&'a self, job: &'a JobId, secret: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>>;

    /// Opens what was sealed for this very job.
    fn open<'a>(&'a self, job: &'a JobId, sealed: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, StoreError>>;
}

/// Nothing was configured to seal with.
pub(crate) fn unsealable() -> StoreError {
    StoreError::Misconfigured {
        remedy: format!("{SETTING} is not set; name a KMS key for de-identified exports"),
        cause: "there is no key for secrets".into(),
    }
}
