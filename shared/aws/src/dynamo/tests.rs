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

use headrace_core::ports::{AccessStore as _, JobStore as _};
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::JobId;

use super::items::{self, JOB_SK};
use super::transact::{Write, WriteOutcome};
use super::*;
use crate::script::{Answer, Script};

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
async fn a_persistent_conflict_is_reported_as_an_overload() {
    let (store, responses) = store(vec![cancelled(&["TransactionConflict"]); 500]);
    let store = store.with_patience(Duration::from_millis(30));
    assert!(matches!(store.transact(&[write()]).await, Err(StoreError::Overloaded { .. })));
    assert!(!responses.0.lock().unwrap().is_empty(), "the tries are bounded");
}

#[tokio::test]
async fn an_invalid_write_of_a_transaction_is_not_retried() {
    let (store, responses) = store(vec![cancelled(&["ValidationError", "None"]), (200, "{}".to_owned())]);
    assert!(matches!(store.transact(&[write(), write()]).await, Err(StoreError::NotApplied { .. })));
    assert_eq!(responses.0.lock().unwrap().len(), 1);
}

/// Returns the answer of DynamoDB to a call that failed.
fn failed(status: u16, kind: &str) -> Answer {
    Answer::Http(status, format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{kind}","message":"no"}}"#))
}

/// Returns the answer of DynamoDB to a write.
fn written() -> Answer {
    Answer::Http(200, "{}".to_owned())
}

/// Returns a store that gets these answers. The SDK makes `sdk_tries` of its own.
fn scripted_store(answers: impl IntoIterator<Item = Answer>, sdk_tries: u32) -> (DynamoJobStore, Script) {
    let script = Script::new(answers);
    let retry = RetryConfig::standard().with_max_attempts(sdk_tries).with_initial_backoff(Duration::from_millis(1));
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "tests"))
        .retry_config(retry)
        .http_client(script.http_client())
        .build();
    (DynamoJobStore::new(Client::from_conf(config), "jobs").with_patience(Duration::from_millis(100)), script)
}

/// Returns the tokens by which DynamoDB recognizes the transactions that were sent.
fn tokens(script: &Script) -> Vec<String> {
    script.sent().iter().map(|sent| sent.json("ClientRequestToken").unwrap()).collect()
}

#[tokio::test]
async fn a_transaction_whose_answer_was_lost_is_repeated_with_its_token() {
    for lost in [Answer::Lost, failed(500, "InternalServerError"), failed(400, "TransactionInProgressException")] {
        for sdk_tries in [1, 3] {
            let (store, script) = scripted_store([lost.clone(), lost.clone(), written()], sdk_tries);
            assert_eq!(store.transact(&[write()]).await.unwrap(), WriteOutcome::Applied);
            let tokens = tokens(&script);
            assert!(tokens.len() == 3 && tokens.iter().all(|token| *token == tokens[0]), "{lost:?}: {tokens:?}");
        }
    }
}

#[tokio::test]
async fn a_cancelled_transaction_is_repeated_with_another_token() {
    let (status, body) = cancelled(&["TransactionConflict"]);
    let (store, script) = scripted_store([Answer::Http(status, body), written()], 1);
    assert_eq!(store.transact(&[write()]).await.unwrap(), WriteOutcome::Applied);
    assert_ne!(tokens(&script)[0], tokens(&script)[1]);
}

#[tokio::test]
async fn a_write_that_may_have_been_applied_is_never_reported_as_not_applied() {
    for kind in ["InternalServerError", "TransactionInProgressException"] {
        let status = if kind == "InternalServerError" { 500 } else { 400 };
        let (store, _) = scripted_store([failed(status, kind)], 1);
        assert!(matches!(store.transact(&[write()]).await, Err(StoreError::Unknown { .. })), "{kind}");
    }
}

// A plain update would fail by its own condition when the SDK repeats it, and an assertion would count as used.
#[tokio::test]
async fn an_assertion_whose_record_was_written_by_a_lost_call_is_not_used_yet() {
    let (store, script) = scripted_store([Answer::Lost, written()], 3);
    assert!(store.remember_assertion("digest", headrace_core::vocab::clock::Millis(1)).await.unwrap());
    let tokens = tokens(&script);
    assert!(tokens.len() == 2 && tokens[0] == tokens[1], "{tokens:?}");
}

#[tokio::test]
async fn a_registration_that_a_lost_call_has_removed_is_removed() {
    let (store, script) = scripted_store([Answer::Lost, written()], 3);
    let id = headrace_core::vocab::ids::Caller("lab".into());
    assert!(store.remove_client(&id, headrace_core::vocab::clock::Millis(1)).await.unwrap());
    let tokens = tokens(&script);
    assert!(tokens.len() == 2 && tokens[0] == tokens[1], "{tokens:?}");
}

#[tokio::test]
async fn throttled_reads_are_reported_as_an_overload() {
    for kind in ["ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"] {
        let (store, script) = scripted_store([failed(400, kind)], 3);
        let store = store.with_patience(Duration::ZERO);
        assert!(matches!(store.job(&JobId::from_random([1; 16])).await, Err(StoreError::Overloaded { .. })), "{kind}");
        assert_eq!(script.sent().len(), 3, "the SDK tries again");
    }
}

#[tokio::test]
async fn a_throttled_read_is_repeated_when_the_sdk_has_given_up() {
    let throttled = || failed(400, "ThrottlingException");
    let (store, script) = scripted_store([throttled(), throttled(), throttled(), written()], 3);
    let store = store.with_patience(Duration::from_secs(60));
    assert_eq!(store.job(&JobId::from_random([1; 16])).await.unwrap(), None);
    assert_eq!(script.sent().len(), 4);
}

// DynamoDB ends a page after 1 MB, or after a filter has left nothing of it. Such a page is not the last one.
#[tokio::test]
async fn a_query_reads_on_after_an_empty_page() {
    let last_key = r#"{"pk":{"S":"QUEUE"},"sk":{"S":"1"}}"#;
    let page = |count: u32, more: bool| {
        let next = if more { format!(r#","LastEvaluatedKey":{last_key}"#) } else { String::new() };
        Answer::Http(200, format!(r#"{{"Count":{count},"ScannedCount":1000,"Items":[]{next}}}"#))
    };
    let (store, script) = scripted_store([page(0, true), page(2, true), page(0, true), page(1, false)], 1);
    let query = store.query().key_condition_expression("pk = :pk").expression_attribute_values(":pk", items::text("QUEUE"));
    assert_eq!(store.query_count(query).await.unwrap(), 3);
    assert_eq!(script.sent().len(), 4);
}

#[tokio::test]
async fn a_failed_condition_is_not_retried() {
    let (store, _) = store(vec![cancelled(&["None", "ConditionalCheckFailed"])]);
    assert_eq!(store.transact(&[write(), write()]).await.unwrap(), WriteOutcome::ConditionFailed(vec![1]));
}

#[tokio::test]
async fn errors_show_whether_the_write_may_have_been_applied() {
    let response = |status, kind: &str| (status, format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{kind}","message":"no"}}"#));
    // Without patience, each call is made once.
    let store = |response: (u16, String)| store(vec![response]).0.with_patience(Duration::ZERO);
    let id = JobId::from_random([1; 16]);
    let absent = store(response(400, "ResourceNotFoundException"));
    let error = absent.job(&id).await.unwrap_err();
    assert!(matches!(&error, StoreError::Misconfigured { remedy, .. } if remedy.contains("HEADRACE_TABLE")), "{error:?}");
    let denied = store(response(400, "AccessDeniedException"));
    assert!(matches!(denied.job(&id).await, Err(StoreError::Misconfigured { .. })));
    let throttled = store(response(400, "ProvisionedThroughputExceededException"));
    assert!(matches!(throttled.job(&id).await, Err(StoreError::Overloaded { .. })));
    let broken = store(response(500, "InternalServerError"));
    assert!(matches!(broken.job(&id).await, Err(StoreError::Unknown { .. })));
    let garbled = store((200, "<html>".to_owned()));
    assert!(matches!(garbled.job(&id).await, Err(StoreError::Unknown { .. })));
}

#[tokio::test]
async fn a_reset_counter_does_not_prevent_a_job_from_ending() {
    let owner = headrace_core::vocab::ids::Caller("ann".into());
    let both = cancelled(&["None", "ConditionalCheckFailed", "ConditionalCheckFailed"]);
    let (store, responses) = store(vec![both, (200, "{}".to_owned())]);
    assert_eq!(store.transact_and_free_slot(vec![write()], &owner, None).await.unwrap(), WriteOutcome::Applied);
    assert!(responses.0.lock().unwrap().is_empty());
    let one_after_another = vec![
        cancelled(&["None", "None", "ConditionalCheckFailed"]),
        cancelled(&["None", "ConditionalCheckFailed"]),
        (200, "{}".to_owned()),
    ];
    let (store, responses) = self::store(one_after_another);
    assert_eq!(store.transact_and_free_slot(vec![write()], &owner, None).await.unwrap(), WriteOutcome::Applied);
    assert!(responses.0.lock().unwrap().is_empty());
    // A call that does not end the job frees no slot.
    let (store, _) = self::store(vec![cancelled(&["ConditionalCheckFailed", "ConditionalCheckFailed", "None"])]);
    assert_eq!(store.transact_and_free_slot(vec![write()], &owner, None).await.unwrap(), WriteOutcome::ConditionFailed(vec![0, 1]));
}
