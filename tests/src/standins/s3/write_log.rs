//! Log of writes with their requested encryption, which `s3s-fs` does not store.

use std::sync::{Arc, Mutex, PoisonError};

use s3s::dto::ServerSideEncryption;

/// Request that wrote an object or started a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteRecord {
    /// S3 operation.
    pub operation: &'static str,
    /// Bucket.
    pub bucket: String,
    /// Object key.
    pub key: String,
    /// Requested encryption. `None` means the bucket's default.
    pub encryption: Option<Encryption>,
}

/// Encryption settings of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// Algorithm, such as `aws:kms`.
    pub algorithm: String,
    /// KMS key.
    pub key: Option<String>,
    /// True if the request enables an S3 Bucket Key.
    pub has_bucket_key: bool,
}

impl Encryption {
    /// Returns the encryption that the headers of a request demand, or `None` if they name no algorithm.
    pub(super) fn from_request(algorithm: Option<&ServerSideEncryption>, key: Option<&String>, bucket_key: Option<bool>) -> Option<Self> {
        let algorithm = algorithm?.as_str().to_owned();
        Some(Self { algorithm, key: key.cloned(), has_bucket_key: bucket_key == Some(true) })
    }
}

/// Writes since the start, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct WriteLog(Arc<Mutex<Vec<WriteRecord>>>);

impl WriteLog {
    /// Adds a write to the log.
    pub(super) fn record(&self, operation: &'static str, (bucket, key): (&str, &str), encryption: Option<Encryption>) {
        let record = WriteRecord { operation, bucket: bucket.to_owned(), key: key.to_owned(), encryption };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// Returns all writes so far, in order.
    pub(super) fn all(&self) -> Vec<WriteRecord> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
