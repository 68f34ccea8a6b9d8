//! Errors that the embedded engine does not produce: conflicts between transactions, throttling, lost responses.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;

use headrace_core::ports::JobStore as _;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;

use super::items::{self, JOB_SK};
use super::transact::{Write, WriteOutcome};
use super::*;

/// A connection to DynamoDB that returns these responses one after the other.
#[derive(Clone, Debug)]
struct Responses(Arc<Mutex<Vec<(u16, String)>>>);

impl HttpConnector for Responses {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let (status, body) = self.0.lock().unwrap().pop().unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
    }
}

fn store(mut responses: Vec<(u16, String)>) -> (DynamoJobStore, Responses) {
    responses.reverse();
    let responses = Responses(Arc::new(Mutex::new(responses)));
    let connector = responses.clone();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "tests"))
        .retry_config(RetryConfig::disabled())
        .http_client(http_client_fn(move |_: &HttpConnectorSettings, _: &_| SharedHttpConnector::new(connector.clone())))
        .build();
    (DynamoJobStore::new(Client::from_conf(config), "jobs"), responses)
}

fn cancelled(codes: &[&str]) -> (u16, String) {
    let reasons: Vec<String> = codes.iter().map(|code| format!(r#"{{"Code":"{code}"}}"#)).collect();
    let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    (400, format!(r#"{{"__type":"{kind}","Message":"cancelled","CancellationReasons":[{}]}}"#, reasons.join(",")))
}

fn write() -> Write {
    Write::Put(items::job_key(&JobId::from_random([1; 16]), JOB_SK))
}

#[tokio::test]
async fn a_conflicting_transaction_is_retried_until_it_is_applied() {
    let (store, responses) =
        store(vec![cancelled(&["None", "TransactionConflict"]), cancelled(&["ThrottlingError", "None"]), (200, "{}".to_owned())]);
    assert_eq!(store.transact(&[write(), write()]).await.unwrap(), WriteOutcome::Applied);
    assert!(responses.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_persistent_conflict_is_reported_as_not_applied() {
    let (store, responses) = store(vec![cancelled(&["TransactionConflict"]); 50]);
    assert!(matches!(store.transact(&[write()]).await, Err(StoreError::NotApplied { .. })));
    assert!(!responses.0.lock().unwrap().is_empty(), "the tries are bounded");
}

#[tokio::test]
async fn a_failed_condition_is_not_retried() {
    let (store, _) = store(vec![cancelled(&["None", "ConditionalCheckFailed"])]);
    assert_eq!(store.transact(&[write(), write()]).await.unwrap(), WriteOutcome::ConditionFailed(vec![1]));
}

#[tokio::test]
async fn errors_tell_whether_the_write_may_have_been_applied() {
    let response = |status, kind: &str| (status, format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{kind}","message":"no"}}"#));
    let id = JobId::from_random([1; 16]);
    let (absent, _) = store(vec![response(400, "ResourceNotFoundException")]);
    let error = absent.job(&id).await.unwrap_err();
    assert!(matches!(&error, StoreError::Misconfigured { remedy, .. } if remedy.contains("HEADRACE_TABLE")), "{error:?}");
    let (denied, _) = store(vec![response(400, "AccessDeniedException")]);
    assert!(matches!(denied.job(&id).await, Err(StoreError::Misconfigured { .. })));
    let (throttled, _) = store(vec![response(400, "ProvisionedThroughputExceededException")]);
    assert!(matches!(throttled.job(&id).await, Err(StoreError::NotApplied { .. })));
    let (broken, _) = store(vec![response(500, "InternalServerError")]);
    assert!(matches!(broken.job(&id).await, Err(StoreError::Unknown { .. })));
    let (garbled, _) = store(vec![(200, "<html>".to_owned())]);
    assert!(matches!(garbled.job(&id).await, Err(StoreError::Unknown { .. })));
}

#[tokio::test]
async fn a_reset_counter_does_not_prevent_a_job_from_ending() {
    let owner = headrace_core::vocab::ids::Caller("ann".into());
    let both = cancelled(&["None", "ConditionalCheckFailed", "ConditionalCheckFailed"]);
    let (store, responses) = store(vec![both, (200, "{}".to_owned())]);
    assert_eq!(store.transact_and_free_slot(vec![write()], &owner).await.unwrap(), WriteOutcome::Applied);
    assert!(responses.0.lock().unwrap().is_empty());
    let one_after_another = vec![
        cancelled(&["None", "None", "ConditionalCheckFailed"]),
        cancelled(&["None", "ConditionalCheckFailed"]),
        (200, "{}".to_owned()),
    ];
    let (store, responses) = self::store(one_after_another);
    assert_eq!(store.transact_and_free_slot(vec![write()], &owner).await.unwrap(), WriteOutcome::Applied);
    assert!(responses.0.lock().unwrap().is_empty());
    // A call that does not end the job frees no slot.
    let (store, _) = self::store(vec![cancelled(&["ConditionalCheckFailed", "ConditionalCheckFailed", "None"])]);
    assert_eq!(store.transact_and_free_slot(vec![write()], &owner).await.unwrap(), WriteOutcome::ConditionFailed(vec![0, 1]));
}
