//! How each write asked to be encrypted: `s3s-fs` keeps nothing of it.

use std::sync::{Arc, Mutex, PoisonError};

use s3s::dto::ServerSideEncryption;

/// A request that has written an object, or begun to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// S3's name of the operation.
    pub operation: &'static str,
    /// The bucket.
    pub bucket: String,
    /// The object's key.
    pub key: String,
    /// What was said of encryption; `None` leaves it to the bucket.
    pub encryption: Option<Encryption>,
}

/// What a request can say of encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// `aws:kms` or another.
    pub algorithm: String,
    /// The KMS key.
    pub key: Option<String>,
    /// Whether S3 may keep a key of its own under it.
    pub has_bucket_key: bool,
}

impl Encryption {
    pub(super) fn of(algorithm: Option<&ServerSideEncryption>, key: Option<&String>, bucket_key: Option<bool>) -> Option<Self> {
        let algorithm = algorithm?.as_str().to_owned();
        Some(Self { algorithm, key: key.cloned(), has_bucket_key: bucket_key == Some(true) })
    }
}

/// The writes since the start, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Written>>>);

impl Log {
    pub(super) fn note(&self, operation: &'static str, (bucket, key): (&str, &str), encryption: Option<Encryption>) {
        let written = Written { operation, bucket: bucket.to_owned(), key: key.to_owned(), encryption };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(written);
    }

    pub(super) fn all(&self) -> Vec<Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
