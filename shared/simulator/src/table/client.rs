//! The SDK client whose calls the model answers.

use std::fmt;

use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedAsyncSleep};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use super::server::TableServer;
use crate::aws::worker::Worker;
use crate::meter::Activity;

/// The operations that the job table uses. Others are answered with an error that names them.
const OPERATIONS: [&str; 10] = [
    "CreateTable",
    "UpdateTimeToLive",
    "GetItem",
    "BatchGetItem",
    "Query",
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "BatchWriteItem",
    "TransactWriteItems",
];

/// Returns the SDK client of a process: `retry` is that of the process, and `sleep` waits by the virtual clock.
///
/// Each process has retry tokens of its own, as each sandbox of Lambda has.
pub fn table_client(server: &TableServer, worker: &Worker, retry: RetryConfig, sleep: SharedAsyncSleep) -> aws_sdk_dynamodb::Client {
    let connector = SharedHttpConnector::new(ModelConnector { server: server.clone(), worker: worker.clone() });
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("model", "model", None, None, "model"))
        .endpoint_url("http://dynamodb.model.invalid")
        .retry_config(retry)
        .retry_partition(RetryPartition::new(format!("worker-{}", worker.number())))
        .sleep_impl(sleep)
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

/// The connection of a process to the model.
struct ModelConnector {
    server: TableServer,
    worker: Worker,
}

impl fmt::Debug for ModelConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelConnector")
    }
}

impl HttpConnector for ModelConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next()).unwrap_or_default();
        let operation = OPERATIONS.into_iter().find(|operation| *operation == target).unwrap_or("unknown operation");
        let body = request.body().bytes().unwrap_or_default().to_vec();
        let (server, worker) = (self.server.clone(), self.worker.clone());
        HttpConnectorFuture::new(async move {
            let started = server.time().elapsed();
            let response = server.call(operation, body).await;
            worker.add_activity(Activity::Table, server.time().elapsed() - started);
            if worker.loses_answer() {
                return Err(ConnectorError::io("the answer was lost".into()));
            }
            let response = response.ok_or_else(|| ConnectorError::io("the model has ended".into()))?;
            let status = StatusCode::try_from(response.status).map_err(|error| ConnectorError::other(error.into(), None))?;
            Ok(HttpResponse::new(status, SdkBody::from(response.body)))
        })
    }
}
