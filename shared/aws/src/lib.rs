//! The ports of `headrace-core` over DynamoDB, SQS, S3, KMS and EventBridge, and secrets in Secrets Manager.

mod backoff;
#[cfg(feature = "connect")]
mod connect;
#[cfg(feature = "connect")]
mod connections;
mod dynamo;
mod encryptor;
mod errors;
#[cfg(feature = "events")]
mod event_bus;
#[cfg(feature = "kms")]
mod kms;
mod request_kinds;
#[cfg(feature = "sigv4")]
mod request_signer;
#[cfg(feature = "s3")]
mod s3;
#[cfg(test)]
#[path = "tests/script.rs"]
mod script;
#[cfg(feature = "secrets")]
mod secrets;
#[cfg(feature = "sqs")]
mod sqs;
#[cfg(feature = "sqs")]
mod worker_starter;
mod workload;

pub use backoff::PauseClock;
#[cfg(feature = "connect")]
pub use connect::{Clients, CredentialsError};
pub use dynamo::{DynamoJobStore, TableSchema};
pub use encryptor::SecretEncryptor;
#[cfg(feature = "events")]
pub use event_bus::{EVENT_DETAIL_TYPE, EVENT_SOURCE, EventBridgeBus};
#[cfg(feature = "kms")]
pub use kms::{KEYS_CONTEXT, KmsSecretEncryptor, KmsSigner};
pub use request_kinds::count_object_request;
#[cfg(feature = "sigv4")]
pub use request_signer::{AwsRequestSigner, RequestSigningError};
#[cfg(feature = "s3")]
pub use s3::{S3AuditFiles, S3Lake, S3LakeWriter, S3OutputStore};
#[cfg(feature = "secrets")]
pub use secrets::StoredSecret;
#[cfg(feature = "sqs")]
pub use sqs::SqsTaskQueue;
#[cfg(feature = "sqs")]
pub use worker_starter::WorkerStarter;
pub use workload::Workload;
