//! The simulator's model of DynamoDB as a database for tests that run hundreds of exports.
//!
//! The model answers each call as the embedded engine does; the tests of the simulator compare the two. It takes less time, because it
//! only keeps items in memory, and a copy of it is a copy of these.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_smithy_types::body::SdkBody;
use headrace_aws::TableSchema;
use headrace_local::stores::embedded::{BoxError, in_process_http_client};
use headrace_simulator::table::Engine;

/// Database in memory. Clones share it.
#[derive(Clone, Default)]
pub struct DynamoModel(Arc<Mutex<Engine>>);

impl DynamoModel {
    /// Returns a database with an empty job table of this name.
    ///
    /// # Errors
    ///
    /// If the schema of the table is not valid.
    pub async fn with_job_table(name: &str) -> Result<Self, BoxError> {
        let model = Self::default();
        TableSchema::create(&model.client(), name).await?;
        Ok(model)
    }

    /// Returns a database with the same items, which does not change with this one.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())))
    }

    /// Returns an SDK client whose calls the model answers.
    pub fn client(&self) -> Client {
        let engine = Arc::clone(&self.0);
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .credentials_provider(Credentials::new("model", "model", None, None, "model"))
            .endpoint_url("http://dynamodb.model.invalid")
            .http_client(in_process_http_client(move |request| std::future::ready(answer(&engine, &request))))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Client::from_conf(config)
    }
}

/// Returns the answer to one request of the SDK.
fn answer(engine: &Mutex<Engine>, request: &http::Request<SdkBody>) -> Result<http::Response<SdkBody>, BoxError> {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default();
    let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
    if operation == "Scan" {
        // The service never scans. Tests do, to see everything, and in one page.
        let items: Vec<&str> = engine.items().collect();
        return Ok(http::Response::builder().body(SdkBody::from(format!("{{\"Items\":[{}]}}", items.join(","))))?);
    }
    let answer = engine.answer(operation, request.body().bytes().unwrap_or_default());
    Ok(http::Response::builder().status(answer.status).body(SdkBody::from(answer.body))?)
}
