//! Counts the requests to S3 and their bytes, for the attempt that makes them. What the SDK repeats is counted again, as AWS does.

use aws_sdk_s3::config::interceptors::{BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use headrace_core::metering::count;
use headrace_core::vocab::error::BoxError;

use crate::request_kinds::count_object_request;

/// Counts each request of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsageCounter;

impl Intercept for UsageCounter {
    fn name(&self) -> &'static str {
        "UsageCounter"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(operation) = config.load::<Metadata>().map(Metadata::name) else { return Ok(()) };
        count_object_request(operation);
        // Other requests have no bytes of objects.
        if matches!(operation, "PutObject" | "UploadPart") {
            let sent = context.request().body().content_length().unwrap_or_default();
            count(|usage| usage.bytes_written += sent);
        }
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if config.load::<Metadata>().is_some_and(|metadata| metadata.name() == "GetObject") && context.response().status().is_success() {
            let length = context.response().headers().get("content-length").and_then(|length| length.parse::<u64>().ok());
            count(|usage| usage.bytes_read += length.unwrap_or_default());
        }
        Ok(())
    }
}
