//! Starts workers by asynchronous invocations of the function.
//!
//! Lambda starts five functions for a queue with messages, and 300 more a minute. An export of a terabyte has work for a thousand at once.
//! A worker that is started here gets no message: it receives tasks from the queue until the queue is empty. So the queue stays the only
//! source of tasks, and an invocation that fails costs nothing but time.

use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use futures_util::{StreamExt as _, stream};

/// The smallest number of tasks for which workers are started. The queue starts workers for fewer tasks as fast.
const MIN_TASKS: usize = 20;

/// The number of concurrent invocations: a thousand workers start within a second.
const CONCURRENT_INVOCATIONS: usize = 64;

/// The time after which an invocation counts as failed. Without a route to Lambda, as in a VPC without its endpoint, this is all that an
/// export loses.
const INVOCATION_TIMEOUT: Duration = Duration::from_secs(5);

/// An event of SQS without messages.
const NO_MESSAGES: &[u8] = br#"{"Records":[]}"#;

/// A starter of workers of a function.
#[derive(Clone, Debug)]
pub struct WorkerStarter {
    client: Client,
    function: String,
    max_workers: usize,
}

impl WorkerStarter {
    /// Creates a starter of at most `max_workers` workers of the function of this name.
    pub fn new(client: Client, function: impl Into<String>, max_workers: usize) -> Self {
        Self { client, function: function.into(), max_workers }
    }

    /// Starts a worker for each of many tasks, up to the largest number. Few tasks start none. A failure is logged: the queue starts
    /// workers then, only more slowly.
    pub(crate) async fn start(&self, tasks: usize) {
        if tasks < MIN_TASKS {
            return;
        }
        let count = tasks.min(self.max_workers);
        let invocations = stream::iter(0..count).map(|_| self.invoke()).buffer_unordered(CONCURRENT_INVOCATIONS);
        // The first failure ends it: the others would fail for the same reason.
        let failure = invocations.filter_map(|result| async { result.err() }).boxed().next().await;
        if let Some(cause) = failure {
            tracing::warn!(function = self.function, cause, "workers were not started at once; the queue starts them more slowly");
        }
    }

    /// Starts one worker. Returns a description of the failure.
    async fn invoke(&self) -> Result<(), String> {
        let request = self.client.invoke().function_name(&self.function).invocation_type(InvocationType::Event);
        match tokio::time::timeout(INVOCATION_TIMEOUT, request.payload(Blob::new(NO_MESSAGES)).send()).await {
            Ok(Ok(_)) => Ok(()),
            // All functions of the account are running already.
            Ok(Err(SdkError::ServiceError(error))) if error.err().code() == Some("TooManyRequestsException") => Ok(()),
            Ok(Err(error)) => Err(DisplayErrorContext(error).to_string()),
            Err(_) => Err("no answer from Lambda".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region};

    use super::*;
    use crate::script::{Answer, Script};

    /// Returns a starter whose client gets these answers.
    fn starter(script: &Script, max_workers: usize) -> WorkerStarter {
        let config = aws_sdk_lambda::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
            .http_client(script.http_client());
        WorkerStarter::new(Client::from_conf(config.build()), "stack-ChunkWorkerFunction-1", max_workers)
    }

    #[tokio::test]
    async fn many_tasks_start_workers_without_a_message_and_few_start_none() {
        for (tasks, max_workers, expected) in [(19, 100, 0), (20, 100, 20), (5_000, 100, 100), (5_000, 0, 0)] {
            let script = Script::new([Answer::Http(202, String::new())]);
            starter(&script, max_workers).start(tasks).await;
            let sent = script.sent();
            assert_eq!(sent.len(), expected, "{tasks} tasks, at most {max_workers} workers");
            for request in sent {
                assert!(request.uri.ends_with("/2015-03-31/functions/stack-ChunkWorkerFunction-1/invocations"), "{}", request.uri);
                assert_eq!(request.body, r#"{"Records":[]}"#);
            }
        }
    }

    #[tokio::test]
    async fn a_missing_permission_ends_the_invocations_and_fails_nothing() {
        let denied = r#"{"Message":"not authorized to perform: lambda:InvokeFunction"}"#;
        let script =
            Script::new([Answer::WithHeaders(403, vec![("x-amzn-errortype", "AccessDeniedException".to_owned())], denied.to_owned())]);
        starter(&script, 1_000).start(5_000).await;
        assert!(script.sent().len() <= CONCURRENT_INVOCATIONS, "{}", script.sent().len());
    }
}
