//! The ports of `headrace-core` over DynamoDB, SQS, S3 and KMS.

mod dynamo;
mod errors;
#[cfg(feature = "kms")]
mod kms;
#[cfg(feature = "s3")]
mod s3;
mod seal;
#[cfg(feature = "sqs")]
mod sqs;

pub use dynamo::{DynamoJobStore, TableSchema};
#[cfg(feature = "kms")]
pub use kms::{KmsSealer, KmsSigner};
#[cfg(feature = "s3")]
pub use s3::{S3AuditFiles, S3Lake, S3PartStore};
pub use seal::Sealer;
#[cfg(feature = "sqs")]
pub use sqs::SqsTaskQueue;

/// The SDK clients of one process. They share connections; nothing is built per event.
pub struct Clients {
    config: aws_config::SdkConfig,
}

impl Clients {
    /// From the environment: credentials, region, endpoints.
    pub async fn connect() -> Self {
        Self { config: aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await }
    }

    /// The job table of this name.
    pub fn jobs(&self, table: &str) -> DynamoJobStore {
        DynamoJobStore::new(aws_sdk_dynamodb::Client::new(&self.config), table)
    }

    /// The key of this id, ARN or alias, which signs access tokens.
    #[cfg(feature = "kms")]
    pub fn signer(&self, key: &str) -> KmsSigner {
        KmsSigner::new(aws_sdk_kms::Client::new(&self.config), key)
    }

    /// The same, whose jobs may have secrets if there is a key for them: its id, ARN or alias.
    #[cfg(feature = "kms")]
    pub fn jobs_with_secrets(&self, table: &str, key: Option<&str>) -> DynamoJobStore {
        let jobs = self.jobs(table);
        match key {
            Some(key) => jobs.with_sealer(KmsSealer::new(aws_sdk_kms::Client::new(&self.config), key)),
            None => jobs,
        }
    }

    /// The task queue at this URL.
    #[cfg(feature = "sqs")]
    pub fn queue(&self, url: &str) -> SqsTaskQueue {
        SqsTaskQueue::new(aws_sdk_sqs::Client::new(&self.config), url)
    }

    /// The lake below `prefix` of `bucket`.
    #[cfg(feature = "s3")]
    pub fn lake(&self, bucket: &str, prefix: &str) -> S3Lake {
        S3Lake::new(&self.s3(), bucket, prefix)
    }

    /// The destination below `prefix` of `bucket`.
    #[cfg(feature = "s3")]
    pub fn parts(&self, bucket: &str, prefix: &str) -> S3PartStore {
        S3PartStore::new(&self.s3(), bucket, prefix)
    }

    /// The audit files below `prefix` of `bucket`.
    #[cfg(feature = "s3")]
    pub fn audit_files(&self, bucket: &str, prefix: &str) -> S3AuditFiles {
        S3AuditFiles::new(&self.s3(), bucket, prefix)
    }

    #[cfg(feature = "s3")]
    fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.config);
        // An endpoint that the environment names is a stand-in without a host per bucket.
        let path_style = self.config.endpoint_url().is_some();
        aws_sdk_s3::Client::from_conf(config.force_path_style(path_style).build())
    }
}
