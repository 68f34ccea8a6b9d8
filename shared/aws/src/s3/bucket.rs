//! A bucket with a prefix.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use headrace_core::request::EncryptionKey;
use headrace_core::vocab::error::{BoxError, SourceError, StoreError};

use super::usage::UsageCounter;
use crate::backoff::{Backoff, REQUEST_PATIENCE};
use crate::errors::{ErrorClass, Service};

/// A bucket and the prefix of all keys in it.
#[derive(Clone, Debug)]
pub(super) struct BucketPrefix {
    pub(super) client: Client,
    pub(super) bucket: String,
    /// The prefix: empty, or ending with a slash.
    pub(super) prefix: String,
    /// The key that encrypts written objects. `None` applies the bucket's default encryption.
    pub(super) encryption_key: Option<EncryptionKey>,
    pub(super) service: Service,
    /// The time that one call waits for an overloaded bucket.
    pub(super) patience: Duration,
}

/// The reason for which a bucket cannot be used.
pub(super) enum BucketError {
    /// A setting or a permission is wrong.
    Misconfigured { remedy: String, cause: BoxError },
    /// A permission is missing.
    AccessDenied { remedy: String, cause: BoxError },
    /// S3 failed. A later call may succeed.
    Transient(StoreError),
}

impl From<BucketError> for StoreError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Misconfigured { remedy, cause } | BucketError::AccessDenied { remedy, cause } => {
                Self::Misconfigured { remedy, cause }
            }
            BucketError::Transient(error) => error,
        }
    }
}

impl From<BucketError> for SourceError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Misconfigured { remedy, cause } | BucketError::AccessDenied { remedy, cause } => {
                Self::Misconfigured { remedy, cause }
            }
            BucketError::Transient(error) => Self::Unavailable(error.into()),
        }
    }
}

impl BucketPrefix {
    /// Creates a client of the objects below `prefix` of `bucket`. `setting` is the setting that names the bucket, for error texts.
    pub(super) fn new(client: &Client, bucket: &str, prefix: &str, store: &'static str, setting: &'static str) -> Self {
        Self {
            client: own_client(client),
            bucket: bucket.to_owned(),
            prefix: with_trailing_slash(prefix),
            encryption_key: None,
            service: Service::new(store, setting, bucket),
            patience: REQUEST_PATIENCE,
        }
    }

    /// Returns the S3 key of the object at this path below the prefix.
    pub(super) fn key(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Makes a call, and repeats it as long as the bucket is overloaded, until the patience ends.
    pub(super) async fn call_patiently<T, E, F>(&self, call: impl Fn() -> F) -> Result<T, SdkError<E, HttpResponse>>
    where
        E: ProvideErrorMetadata,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut backoff = Backoff::new(self.patience);
        loop {
            let result = call().await;
            let is_overloaded = result.as_ref().is_err_and(|error| self.service.classify(error) == ErrorClass::Overloaded);
            if !is_overloaded || !backoff.pause().await {
                return result;
            }
        }
    }

    /// Checks that the bucket exists and may be accessed.
    pub(super) async fn check(&self) -> Result<(), BucketError> {
        let Err(error) = self.client.head_bucket().bucket(&self.bucket).send().await else { return Ok(()) };
        let misconfigured = |remedy: String, cause| Err(BucketError::Misconfigured { remedy, cause });
        // Responses to HEAD have no body, so only the status tells what is wrong.
        match error.raw_response().map(|response| response.status().as_u16()) {
            Some(404) => misconfigured(self.service.not_found(), error.into()),
            Some(301) => misconfigured(self.service.in_another_region(), error.into()),
            Some(403) => Err(BucketError::AccessDenied { remedy: self.service.access_denied(), cause: error.into() }),
            Some(_) | None => match self.service.classify(&error) {
                ErrorClass::NotFound => misconfigured(self.service.not_found(), error.into()),
                ErrorClass::AccessDenied => Err(BucketError::AccessDenied { remedy: self.service.access_denied(), cause: error.into() }),
                ErrorClass::KeyUnusable => misconfigured(self.service.key_unusable(), error.into()),
                ErrorClass::Unusable => misconfigured(self.service.unusable(), error.into()),
                ErrorClass::WrongRegion => misconfigured(self.service.in_another_region(), error.into()),
                ErrorClass::NotApplied
                | ErrorClass::Overloaded
                | ErrorClass::Unknown
                | ErrorClass::Stale
                | ErrorClass::Archived
                | ErrorClass::OutOfSpace
                | ErrorClass::StoreUnusable => Err(BucketError::Transient(self.service.store_error(error))),
            },
        }
    }
}

/// Returns a client that does not compute checksums by itself, and counts its requests.
///
/// The CRC-64/NVME of an output file is computed while it is written, and S3 verifies it. Ranges of objects have no checksum, and are
/// read with `If-Match`.
fn own_client(client: &Client) -> Client {
    let config = client
        .config()
        .to_builder()
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .interceptor(UsageCounter)
        .build();
    Client::from_conf(config)
}

/// Normalizes a prefix: empty, or without leading slashes and with one trailing slash.
pub(super) fn with_trailing_slash(prefix: &str) -> String {
    match prefix.trim_matches('/') {
        "" => String::new(),
        trimmed => format!("{trimmed}/"),
    }
}
