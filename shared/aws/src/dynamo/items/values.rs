//! Values of attributes.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use headrace_core::job::Job;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use serde::Serialize;

use super::STORE;

/// Creates a string attribute.
pub(in crate::dynamo) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// Creates a number attribute.
pub(in crate::dynamo) fn number(value: impl Into<u64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

/// Creates a number attribute with a time in milliseconds.
pub(in crate::dynamo) fn millis(at: Millis) -> AttributeValue {
    number(at.0)
}

/// Creates a number attribute with a time as DynamoDB's TTL requires it: in seconds, rounded up.
pub(in crate::dynamo) fn ttl_seconds(at: Millis) -> AttributeValue {
    number(at.0.div_ceil(1_000))
}

/// Creates a string attribute with a value as JSON, for attributes that are in no index or condition.
pub(in crate::dynamo) fn json(value: &impl Serialize) -> Result<AttributeValue, StoreError> {
    serde_json::to_string(value).map(text).map_err(|error| StoreError::NotApplied { store: STORE, cause: error.into() })
}

/// Creates the TTL attribute of a job's items: a week after the latest time at which its files are deleted.
pub(in crate::dynamo) fn ttl(job: &Job) -> AttributeValue {
    let lifetime = job.settings.deadline_seconds + job.settings.retention_seconds;
    number((job.created_at + Duration::from_secs(lifetime)).0 / 1_000 + 7 * 86_400)
}
