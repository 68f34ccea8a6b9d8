//! Audit files in S3: a bucket, or a part of one, that nobody but the reaper writes to.

use std::collections::BTreeSet;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use bytes::Bytes;
use headrace_core::audit::chain::AuditFileName;
use headrace_core::ports::{AuditFiles, AuditListing, Kept};
use headrace_core::vocab::error::StoreError;

use super::Place;
use super::parts::NDJSON;
use crate::errors::Sorted;

const WHAT: &str = "the audit files";

/// The audit files.
#[derive(Clone, Debug)]
pub struct S3AuditFiles(Place);

impl S3AuditFiles {
    /// Those below `prefix` of `bucket`.
    pub fn new(client: &Client, bucket: &str, prefix: &str) -> Self {
        Self(Place::new(client, bucket, prefix, WHAT, "HEADRACE_AUDIT_BUCKET"))
    }

    async fn get(&self, name: &AuditFileName) -> Result<Bytes, StoreError> {
        let place = &self.0;
        let sent = place.client.get_object().bucket(&place.bucket).key(place.object(&name.to_string())).send().await;
        let body = sent.map_err(|error| place.called.store_error(error))?.body;
        let bytes = body.collect().await.map_err(|error| StoreError::NotApplied { what: WHAT, cause: error.into() })?;
        Ok(bytes.into_bytes())
    }
}

impl AuditFiles for S3AuditFiles {
    async fn write(&self, name: &AuditFileName, bytes: Bytes) -> Result<Kept, StoreError> {
        let place = &self.0;
        let put = place.client.put_object().bucket(&place.bucket).key(place.object(&name.to_string())).content_type(NDJSON);
        // A bucket under Object Lock takes no object without a checksum.
        let put = put.checksum_algorithm(ChecksumAlgorithm::Sha256).if_none_match("*").body(ByteStream::from(bytes));
        match put.send().await {
            Ok(_) => Ok(Kept::Written),
            Err(error) if place.called.sort(&error) == Sorted::Stale => self.get(name).await.map(Kept::Exists),
            Err(error) => Err(place.called.store_error(error)),
        }
    }

    async fn list(&self) -> Result<AuditListing, StoreError> {
        let place = &self.0;
        let (mut files, mut strangers, mut after) = (BTreeSet::new(), BTreeSet::new(), None);
        loop {
            let list = place.client.list_objects_v2().bucket(&place.bucket).prefix(&place.prefix).set_continuation_token(after);
            let page = list.send().await.map_err(|error| place.called.store_error(error))?;
            for key in page.contents().iter().filter_map(|object| object.key()) {
                let below = key.strip_prefix(&place.prefix).unwrap_or(key);
                match AuditFileName::parse(below) {
                    Some(name) => drop(files.insert(name)),
                    None => drop(strangers.insert(below.to_owned())),
                }
            }
            after = page.next_continuation_token().map(str::to_owned);
            if after.is_none() {
                return Ok(AuditListing { files, strangers });
            }
        }
    }

    async fn read(&self, name: &AuditFileName) -> Result<Bytes, StoreError> {
        self.get(name).await
    }
}
