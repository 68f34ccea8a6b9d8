//! In-process SQS: `rustack-sqs` behind the HTTP layer of the SDK.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::types::QueueAttributeName;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::body::SdkBody;
use headrace_local::stores::embedded::{BoxError, in_process_http_client};
use http_body_util::BodyExt as _;
use rustack_sqs_core::config::SqsConfig;
use rustack_sqs_core::handler::RustackSqsHandler;
use rustack_sqs_core::provider::RustackSqs;
use rustack_sqs_http::dispatch::dispatch_operation;
use rustack_sqs_http::response::error_to_response;
use rustack_sqs_http::router::resolve_operation;

/// SQS with its own queues. They are tasks of the async runtime that created them, and end with it.
#[derive(Clone)]
pub struct SqsStandIn {
    http: SharedHttpClient,
}

impl SqsStandIn {
    /// Starts an in-process SQS that has no queues yet.
    #[must_use]
    pub fn start() -> Self {
        let config = SqsConfig { host: "sqs.standin.invalid".to_owned(), port: 443, ..SqsConfig::default() };
        let sqs = RustackSqs::new(config);
        let handler = Arc::new(RustackSqsHandler::new(Arc::new(sqs)));
        let http = in_process_http_client(move |request| handle_request(Arc::clone(&handler), request));
        Self { http }
    }

    /// Returns an AWS SDK client with default settings that calls this stand-in.
    #[must_use]
    pub fn client(&self) -> aws_sdk_sqs::Client {
        let credentials = Credentials::new("AKIDSTANDIN", "stand-in-secret", None, None, "stand-in");
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(credentials)
            .endpoint_url("https://sqs.standin.invalid")
            .http_client(self.http.clone())
            .build();
        aws_sdk_sqs::Client::from_conf(config)
    }

    /// Creates a queue and its dead-letter queue `<name>-dlq`. Returns the URLs of both.
    ///
    /// * `visibility_seconds`: visibility timeout of received messages.
    /// * `max_receives`: number of receives after which a message moves to the dead-letter queue.
    ///
    /// # Errors
    ///
    /// If a request fails.
    pub async fn create_queue_with_dlq(
        &self,
        name: &str,
        visibility_seconds: u32,
        max_receives: u32,
    ) -> Result<(String, String), BoxError> {
        let client = self.client();
        let dlq = client.create_queue().queue_name(format!("{name}-dlq")).send().await?;
        let dlq = dlq.queue_url.ok_or("the DLQ has no URL")?;
        let attributes = client.get_queue_attributes().queue_url(&dlq).attribute_names(QueueAttributeName::QueueArn).send().await?;
        let arns = attributes.attributes.unwrap_or_default();
        let arn = arns.get(&QueueAttributeName::QueueArn).ok_or("the DLQ has no ARN")?;
        let redrive = serde_json::json!({ "deadLetterTargetArn": arn, "maxReceiveCount": max_receives });
        let queue = client
            .create_queue()
            .queue_name(name)
            .attributes(QueueAttributeName::VisibilityTimeout, visibility_seconds.to_string())
            .attributes(QueueAttributeName::RedrivePolicy, redrive.to_string())
            .send()
            .await?;
        Ok((queue.queue_url.ok_or("the queue has no URL")?, dlq))
    }
}

/// Handles one SQS request of the SDK and returns the HTTP response.
async fn handle_request(handler: Arc<RustackSqsHandler>, request: http::Request<SdkBody>) -> Result<http::Response<SdkBody>, BoxError> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let answered = match resolve_operation(&head.headers) {
        Ok(operation) => dispatch_operation(handler.as_ref(), operation, body).await,
        Err(error) => Err(error),
    };
    let response = answered.unwrap_or_else(|error| error_to_response(&error, "stand-in"));
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(http::Response::from_parts(head, SdkBody::from(body)))
}
