//! What the embedded engine never answers: conflicts between transactions, throttling, lost answers.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;

use super::*;

/// A DynamoDB that gives these answers, one after the other, and counts the calls.
#[derive(Clone, Debug)]
struct Answers(Arc<Mutex<Vec<(u16, String)>>>);

impl HttpConnector for Answers {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let (status, body) = self.0.lock().unwrap().pop().unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
    }
}

fn store(mut answers: Vec<(u16, String)>) -> (DynamoJobStore, Answers) {
    answers.reverse();
    let answers = Answers(Arc::new(Mutex::new(answers)));
    let connector = answers.clone();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "tests"))
        .retry_config(RetryConfig::disabled())
        .http_client(http_client_fn(move |_: &HttpConnectorSettings, _: &_| SharedHttpConnector::new(connector.clone())))
        .build();
    (DynamoJobStore::new(Client::from_conf(config), "jobs"), answers)
}

fn cancelled(codes: &[&str]) -> (u16, String) {
    let reasons: Vec<String> = codes.iter().map(|code| format!(r#"{{"Code":"{code}"}}"#)).collect();
    let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    (400, format!(r#"{{"__type":"{kind}","Message":"cancelled","CancellationReasons":[{}]}}"#, reasons.join(",")))
}

fn write() -> Write {
    Write::Put(items::key(&JobId::from_random([1; 16]), JOB_SK))
}

#[tokio::test]
async fn a_transaction_that_meets_another_is_tried_again_until_it_lands() {
    let (store, answers) =
        store(vec![cancelled(&["None", "TransactionConflict"]), cancelled(&["ThrottlingError", "None"]), (200, "{}".to_owned())]);
    assert_eq!(store.transact(&[write(), write()]).await.unwrap(), Landed::Yes);
    assert!(answers.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_conflict_that_never_passes_is_reported_as_not_written() {
    let (store, answers) = store(vec![cancelled(&["TransactionConflict"]); 50]);
    assert!(matches!(store.transact(&[write()]).await, Err(StoreError::NotApplied { .. })));
    assert!(!answers.0.lock().unwrap().is_empty(), "the tries are bounded");
}

#[tokio::test]
async fn a_refused_condition_is_not_tried_again() {
    let (store, _) = store(vec![cancelled(&["None", "ConditionalCheckFailed"])]);
    assert_eq!(store.transact(&[write(), write()]).await.unwrap(), Landed::Refused(vec![1]));
}

#[tokio::test]
async fn errors_answer_whether_the_write_can_have_happened() {
    let error = |status, kind: &str| (status, format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{kind}","message":"no"}}"#));
    let id = JobId::from_random([1; 16]);
    let (absent, _) = store(vec![error(400, "ResourceNotFoundException")]);
    let said = absent.job(&id).await.unwrap_err();
    assert!(matches!(&said, StoreError::Misconfigured { remedy, .. } if remedy.contains("HEADRACE_TABLE")), "{said:?}");
    let (denied, _) = store(vec![error(400, "AccessDeniedException")]);
    assert!(matches!(denied.job(&id).await, Err(StoreError::Misconfigured { .. })));
    let (throttled, _) = store(vec![error(400, "ProvisionedThroughputExceededException")]);
    assert!(matches!(throttled.job(&id).await, Err(StoreError::NotApplied { .. })));
    let (broken, _) = store(vec![error(500, "InternalServerError")]);
    assert!(matches!(broken.job(&id).await, Err(StoreError::Unknown { .. })));
    let (garbled, _) = store(vec![(200, "<html>".to_owned())]);
    assert!(matches!(garbled.job(&id).await, Err(StoreError::Unknown { .. })));
}

/// A job's end that was written, whatever became of the counters.
#[tokio::test]
async fn a_counter_that_somebody_has_reset_keeps_no_job_from_ending() {
    let owner = headrace_core::vocab::ids::Caller("ann".into());
    let both = cancelled(&["None", "ConditionalCheckFailed", "ConditionalCheckFailed"]);
    let (store, answers) = store(vec![both, (200, "{}".to_owned())]);
    assert_eq!(store.transact_and_free(vec![write()], &owner).await.unwrap(), Landed::Yes);
    assert!(answers.0.lock().unwrap().is_empty());
    let one_after_the_other = vec![
        cancelled(&["None", "None", "ConditionalCheckFailed"]),
        cancelled(&["None", "ConditionalCheckFailed"]),
        (200, "{}".to_owned()),
    ];
    let (store, answers) = self::store(one_after_the_other);
    assert_eq!(store.transact_and_free(vec![write()], &owner).await.unwrap(), Landed::Yes);
    assert!(answers.0.lock().unwrap().is_empty());
    // Who has not ended the job frees nothing.
    let (store, _) = self::store(vec![cancelled(&["ConditionalCheckFailed", "ConditionalCheckFailed", "None"])]);
    assert_eq!(store.transact_and_free(vec![write()], &owner).await.unwrap(), Landed::Refused(vec![0, 1]));
}
