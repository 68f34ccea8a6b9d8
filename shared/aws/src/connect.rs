//! The SDK clients of one process, configured from its environment.

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_credential_types::provider::error::CredentialsError as ProviderError;

#[cfg(feature = "sigv4")]
use crate::AwsRequestSigner;
use crate::DynamoJobStore;
#[cfg(feature = "events")]
use crate::EventBridgeBus;
#[cfg(feature = "secrets")]
use crate::StoredSecret;
use crate::connections::https_client;
use crate::workload::Workload;
#[cfg(feature = "kms")]
use crate::{KmsSecretEncryptor, KmsSigner};
#[cfg(feature = "s3")]
use crate::{S3AuditFiles, S3Lake, S3LakeWriter, S3OutputStore};
#[cfg(feature = "sqs")]
use crate::{SqsTaskQueue, WorkerStarter};

/// The SDK clients of one process. They share connections, and no client is built per event.
pub struct Clients {
    config: aws_config::SdkConfig,
    workload: Workload,
}

impl Clients {
    /// Creates clients with the credentials, region and endpoints of the environment, for a process that answers requests.
    pub async fn connect() -> Self {
        Self::connect_for(Workload::Requests).await
    }

    /// Creates clients with the credentials and endpoints of the environment, for this region or that of the environment.
    pub async fn connect_in(region: Option<String>) -> Self {
        let mut clients = Self::connect().await;
        if let Some(region) = region {
            clients.config = clients.config.into_builder().region(Some(Region::new(region))).build();
        }
        clients
    }

    /// Creates clients with the credentials, region and endpoints of the environment.
    pub async fn connect_for(workload: Workload) -> Self {
        let loader = aws_config::defaults(BehaviorVersion::latest()).http_client(https_client());
        let loader = loader.retry_config(workload.retry()).timeout_config(workload.timeouts());
        Self { config: loader.load().await, workload }
    }

    /// Checks that a region and credentials are configured, and that the credentials can be obtained. It calls no service, except those
    /// that issue the credentials.
    ///
    /// The SDK finds out only at the first call, and then reports an error of that call.
    pub async fn check_credentials(&self) -> Result<(), CredentialsError> {
        let Some(provider) = self.config.credentials_provider().filter(|_| self.config.region().is_some()) else {
            return Err(CredentialsError::NotConfigured);
        };
        match provider.provide_credentials().await {
            Ok(_) => Ok(()),
            Err(ProviderError::CredentialsNotLoaded(_)) => Err(CredentialsError::NotConfigured),
            Err(error) => Err(CredentialsError::NotObtained(error)),
        }
    }

    /// Creates a client of the job table of this name.
    pub fn jobs(&self, table: &str) -> DynamoJobStore {
        DynamoJobStore::new(aws_sdk_dynamodb::Client::new(&self.config), table).with_patience(self.workload.patience())
    }

    /// Creates a signer of access tokens with the key of this id, ARN or alias.
    #[cfg(feature = "kms")]
    pub fn signer(&self, key: &str) -> KmsSigner {
        KmsSigner::new(aws_sdk_kms::Client::new(&self.config), key)
    }

    /// Creates a client of the job table that encrypts job secrets with the key of this id, ARN or alias. Without a key, jobs cannot
    /// have secrets.
    #[cfg(feature = "kms")]
    pub fn jobs_with_encryptor(&self, table: &str, key: Option<&str>) -> DynamoJobStore {
        let jobs = self.jobs(table);
        match key {
            Some(key) => jobs.with_encryptor(KmsSecretEncryptor::new(aws_sdk_kms::Client::new(&self.config), key)),
            None => jobs,
        }
    }

    /// Creates a client of the task queue at this URL.
    #[cfg(feature = "sqs")]
    pub fn queue(&self, url: &str) -> SqsTaskQueue {
        SqsTaskQueue::new(aws_sdk_sqs::Client::new(&self.config), url)
    }

    /// Creates a starter of at most `max_workers` workers of the function of this name.
    #[cfg(feature = "sqs")]
    pub fn worker_starter(&self, function: &str, max_workers: usize) -> WorkerStarter {
        WorkerStarter::new(aws_sdk_lambda::Client::new(&self.config), function, max_workers)
    }

    /// Creates a client of the lake below `prefix` of `bucket`.
    #[cfg(feature = "s3")]
    pub fn lake(&self, bucket: &str, prefix: &str) -> S3Lake {
        S3Lake::new(&self.s3(), bucket, prefix).with_patience(self.workload.patience())
    }

    /// Creates a writer of the lake below `prefix` of `bucket`.
    #[cfg(feature = "s3")]
    pub fn lake_writer(&self, bucket: &str, prefix: &str) -> S3LakeWriter {
        S3LakeWriter::new(&self.s3(), bucket, prefix).with_patience(self.workload.patience())
    }

    /// Creates a client of the secret with this ARN or name.
    #[cfg(feature = "secrets")]
    pub fn secret(&self, id: &str) -> StoredSecret {
        StoredSecret::new(aws_sdk_secretsmanager::Client::new(&self.config), id)
    }

    /// Creates a signer of requests to a service. Without a region, that of the environment counts.
    #[cfg(feature = "sigv4")]
    pub fn request_signer(&self, region: Option<&str>, service: &str) -> Result<AwsRequestSigner, CredentialsError> {
        let region = region.or_else(|| self.config.region().map(AsRef::as_ref)).ok_or(CredentialsError::NotConfigured)?;
        let provider = self.config.credentials_provider().ok_or(CredentialsError::NotConfigured)?;
        Ok(AwsRequestSigner::new(provider, region, service))
    }

    /// Creates a client of the destination below `prefix` of `bucket`.
    #[cfg(feature = "s3")]
    pub fn output(&self, bucket: &str, prefix: &str) -> S3OutputStore {
        S3OutputStore::new(&self.s3(), bucket, prefix).with_patience(self.workload.patience())
    }

    /// Creates a client of the audit files below `prefix` of `bucket`.
    #[cfg(feature = "s3")]
    pub fn audit_files(&self, bucket: &str, prefix: &str) -> S3AuditFiles {
        S3AuditFiles::new(&self.s3(), bucket, prefix)
    }

    /// Creates a client of the event bus with this name or ARN.
    #[cfg(feature = "events")]
    pub fn event_bus(&self, bus: &str) -> EventBridgeBus {
        EventBridgeBus::new(aws_sdk_eventbridge::Client::new(&self.config), bus)
    }

    /// Creates the S3 client.
    #[cfg(feature = "s3")]
    fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.config);
        // An endpoint in the environment is a stand-in for S3 that has no host name per bucket.
        let path_style = self.config.endpoint_url().is_some();
        aws_sdk_s3::Client::from_conf(config.force_path_style(path_style).build())
    }
}

/// Reason why AWS cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The environment names no credentials or no region.
    #[error("no AWS credentials or region: set AWS_PROFILE, AWS_REGION")]
    NotConfigured,
    /// The configured credentials cannot be obtained.
    #[error(
        "the AWS credentials of this profile cannot be obtained; `aws sts get-caller-identity` tries the same, `aws sso login` renews a session"
    )]
    NotObtained(#[source] ProviderError),
}
