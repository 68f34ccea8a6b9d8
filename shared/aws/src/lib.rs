//! The ports of `headrace-core` over DynamoDB, SQS and S3.

mod dynamo;
mod errors;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "sqs")]
mod sqs;

pub use dynamo::{DynamoJobStore, TableSchema};
#[cfg(feature = "s3")]
pub use s3::{S3Lake, S3PartStore};
#[cfg(feature = "sqs")]
pub use sqs::SqsTaskQueue;

/// What the SDK loads from its environment: credentials, region, endpoints.
pub async fn load_config() -> aws_config::SdkConfig {
    aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await
}
