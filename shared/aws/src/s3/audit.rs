//! Audit files in S3: a bucket, or a prefix in one, to which only the reaper writes.

use std::collections::BTreeSet;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use bytes::Bytes;
use headrace_core::audit::chain::AuditFileName;
use headrace_core::ports::{AuditFileListing, AuditFiles, AuditWrite};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::setting::Setting;

use super::bucket::BucketPrefix;
use super::objects::NDJSON;
use crate::backoff::Backoff;
use crate::errors::ErrorClass;

/// The name of the store in errors.
const STORE: &str = "the audit files";

/// The audit files.
#[derive(Clone, Debug)]
pub struct S3AuditFiles(BucketPrefix);

impl S3AuditFiles {
    /// Creates a client of the audit files below `prefix` of `bucket`.
    pub fn new(client: &Client, bucket: &str, prefix: &str) -> Self {
        Self(BucketPrefix::new(client, bucket, prefix, STORE, Setting::AuditBucket.as_str()))
    }

    /// Reads a whole audit file.
    async fn get(&self, name: &AuditFileName) -> Result<Bytes, StoreError> {
        let bucket = &self.0;
        let response = bucket.client.get_object().bucket(&bucket.bucket).key(bucket.key(&name.to_string())).send().await;
        let body = response.map_err(|error| bucket.service.store_error(error))?.body;
        let bytes = body.collect().await.map_err(|error| StoreError::NotApplied { store: STORE, cause: error.into() })?;
        Ok(bytes.into_bytes())
    }
}

impl AuditFiles for S3AuditFiles {
    async fn write(&self, name: &AuditFileName, bytes: Bytes) -> Result<AuditWrite, StoreError> {
        let bucket = &self.0;
        let mut backoff = Backoff::new(bucket.patience);
        loop {
            let put = bucket.client.put_object().bucket(&bucket.bucket).key(bucket.key(&name.to_string())).content_type(NDJSON);
            // A bucket with Object Lock rejects objects without a checksum.
            let put = put.checksum_algorithm(ChecksumAlgorithm::Sha256).if_none_match("*").body(ByteStream::from(bytes.clone()));
            let Err(error) = put.send().await else { return Ok(AuditWrite::Written) };
            let class = bucket.service.classify(&error);
            if class == ErrorClass::Stale {
                return self.get(name).await.map(AuditWrite::Exists);
            }
            if class != ErrorClass::Overloaded || !backoff.pause().await {
                return Err(bucket.service.store_error(error));
            }
        }
    }

    async fn list(&self) -> Result<AuditFileListing, StoreError> {
        let bucket = &self.0;
        let (mut files, mut foreign_files, mut after) = (BTreeSet::new(), BTreeSet::new(), None);
        loop {
            let page = bucket.list_request(after).send().await.map_err(|error| bucket.service.store_error(error))?;
            for key in page.contents().iter().filter_map(|object| object.key()) {
                let path = key.strip_prefix(&bucket.prefix).unwrap_or(key);
                match AuditFileName::parse(path) {
                    Some(name) => drop(files.insert(name)),
                    None => drop(foreign_files.insert(path.to_owned())),
                }
            }
            after = page.next_continuation_token().map(str::to_owned);
            if after.is_none() {
                return Ok(AuditFileListing { files, foreign_files });
            }
        }
    }

    async fn read(&self, name: &AuditFileName) -> Result<Bytes, StoreError> {
        self.get(name).await
    }
}

#[cfg(test)]
#[path = "../tests/audit_files.rs"]
mod tests;
