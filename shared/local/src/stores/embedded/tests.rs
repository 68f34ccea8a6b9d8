//! Tests of the embedded DynamoDB through the SDK client, as the adapter uses it.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck, GlobalSecondaryIndex, KeySchemaElement, KeyType, KeysAndAttributes,
    Projection, ProjectionType, Put, PutRequest, ReturnValue, ReturnValuesOnConditionCheckFailure, ScalarAttributeType,
    TimeToLiveSpecification, TransactWriteItem, WriteRequest,
};

use super::{BoxError, EmbeddedDynamo, EmbeddedError, ProcessLock, TableSpace};

const TABLE: &str = "jobs";

type Item = HashMap<String, AttributeValue>;

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn key(pk: &str, sk: &str) -> Item {
    HashMap::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

fn item(pk: &str, sk: &str, state: &str) -> Item {
    let mut item = key(pk, sk);
    item.insert("state".to_owned(), text(state));
    item
}

async fn create_table(client: &Client) -> Result<(), BoxError> {
    let attribute = |name: &str| AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build();
    let key_element = |name: &str, kind: KeyType| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let by_state = GlobalSecondaryIndex::builder()
        .index_name("by-state")
        .key_schema(key_element("state", KeyType::Hash)?)
        .key_schema(key_element("sk", KeyType::Range)?)
        .projection(Projection::builder().projection_type(ProjectionType::All).build())
        .build()?;
    client
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk")?)
        .attribute_definitions(attribute("sk")?)
        .attribute_definitions(attribute("state")?)
        .key_schema(key_element("pk", KeyType::Hash)?)
        .key_schema(key_element("sk", KeyType::Range)?)
        .global_secondary_indexes(by_state)
        .send()
        .await?;
    Ok(())
}

async fn table() -> Result<(EmbeddedDynamo, Client), BoxError> {
    let dynamo = EmbeddedDynamo::in_memory()?;
    let client = dynamo.client();
    create_table(&client).await?;
    Ok((dynamo, client))
}

async fn read(client: &Client, pk: &str, sk: &str) -> Result<Option<Item>, BoxError> {
    let answer = client.get_item().table_name(TABLE).set_key(Some(key(pk, sk))).consistent_read(true).send().await?;
    Ok(answer.item)
}

#[tokio::test]
async fn an_item_is_read_back_unchanged() -> Result<(), BoxError> {
    let (_dynamo, client) = table().await?;
    let mut job = item("JOB#1", "JOB", "running");
    job.insert("count".to_owned(), AttributeValue::N("12345678901234567890".to_owned()));
    job.insert("done".to_owned(), AttributeValue::Bool(false));
    job.insert("gone".to_owned(), AttributeValue::Null(true));
    job.insert("bytes".to_owned(), AttributeValue::B(vec![0, 255, 10].into()));
    job.insert("types".to_owned(), AttributeValue::Ss(vec!["Observation".into(), "Patient".into()]));
    job.insert("list".to_owned(), AttributeValue::L(vec![AttributeValue::M(item("a", "b", "ü\u{0}\n"))]));
    client.put_item().table_name(TABLE).set_item(Some(job.clone())).send().await?;
    assert_eq!(read(&client, "JOB#1", "JOB").await?, Some(job));
    assert_eq!(read(&client, "JOB#2", "JOB").await?, None);
    Ok(())
}

#[tokio::test]
async fn a_failed_condition_is_a_typed_error_with_the_item() -> Result<(), BoxError> {
    let (_dynamo, client) = table().await?;
    let put = |state: &str| {
        client
            .put_item()
            .table_name(TABLE)
            .set_item(Some(item("JOB#1", "JOB", state)))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
    };
    put("accepted").await?;
    let error = put("running").await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 400);
    let PutItemError::ConditionalCheckFailedException(error) = error.into_service_error() else {
        panic!("not the typed error");
    };
    assert_eq!(error.item(), Some(&item("JOB#1", "JOB", "accepted")));
    Ok(())
}

#[tokio::test]
async fn a_cancelled_transaction_has_a_reason_per_action_and_writes_nothing() -> Result<(), BoxError> {
    let (_dynamo, client) = table().await?;
    let put = Put::builder().table_name(TABLE).set_item(Some(item("JOB#1", "PART#Patient#1", "recorded"))).build()?;
    let check = ConditionCheck::builder()
        .table_name(TABLE)
        .set_key(Some(key("JOB#1", "JOB")))
        .condition_expression("attribute_exists(pk)")
        .build()?;
    let error = client
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().put(put).build())
        .transact_items(TransactWriteItem::builder().condition_check(check).build())
        .send()
        .await
        .unwrap_err();
    let TransactWriteItemsError::TransactionCanceledException(error) = error.into_service_error() else {
        panic!("not the typed error");
    };
    let codes: Vec<_> = error.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or_default().to_owned()).collect();
    assert_eq!(codes, ["None", "ConditionalCheckFailed"]);
    assert_eq!(read(&client, "JOB#1", "PART#Patient#1").await?, None);
    Ok(())
}

#[tokio::test]
async fn a_missing_table_is_a_typed_error() -> Result<(), BoxError> {
    let client = EmbeddedDynamo::in_memory()?.client();
    let missing = client.describe_table().table_name("none").send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
    let missing = client.get_item().table_name("none").set_key(Some(key("a", "b"))).send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
    Ok(())
}

#[tokio::test]
async fn an_unsupported_operation_is_rejected_by_name() -> Result<(), BoxError> {
    let client = EmbeddedDynamo::in_memory()?.client();
    let error = client.list_tables().send().await.unwrap_err();
    assert_eq!(error.code(), Some("ValidationException"));
    assert!(error.message().unwrap_or_default().contains("ListTables"));
    Ok(())
}

#[tokio::test]
async fn an_invalid_request_is_rejected_without_the_error_class_of_the_engine() -> Result<(), BoxError> {
    let (_dynamo, client) = table().await?;
    let hash = KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash).build()?;
    let create = client.create_table().table_name("t").key_schema(hash).send();
    let error = create.await.unwrap_err();
    assert_eq!(error.code(), Some("ValidationException"));
    let message = error.message().unwrap_or_default();
    assert!(message.starts_with("1 validation error detected: Value 't'"), "{message}");

    let mut empty_set = item("JOB#1", "JOB", "running");
    empty_set.insert("types".to_owned(), AttributeValue::Ss(Vec::new()));
    let put = client.put_item().table_name(TABLE).set_item(Some(empty_set)).send();
    let error = put.await.unwrap_err();
    assert_eq!(error.code(), Some("ValidationException"));
    let message = error.message().unwrap_or_default();
    assert!(message.starts_with("1 validation error detected: One or more parameter"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_conditional_update_returns_the_new_item() -> Result<(), BoxError> {
    let (_dynamo, client) = table().await?;
    client.put_item().table_name(TABLE).set_item(Some(item("JOB#1", "JOB", "running"))).send().await?;
    let update = |from: &'static str| {
        client
            .update_item()
            .table_name(TABLE)
            .set_key(Some(key("JOB#1", "JOB")))
            .update_expression("SET #s = :to ADD epoch :one")
            .condition_expression("#s = :from")
            .expression_attribute_names("#s", "state")
            .expression_attribute_values(":to", text("complete"))
            .expression_attribute_values(":from", text(from))
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .return_values(ReturnValue::AllNew)
            .send()
    };
    let updated = update("running").await?;
    let attributes = updated.attributes().unwrap();
    assert_eq!(attributes["state"], text("complete"));
    assert_eq!(attributes["epoch"], AttributeValue::N("1".to_owned()));
    let error = update("running").await.unwrap_err().into_service_error();
    assert!(error.is_conditional_check_failed_exception());
    client.delete_item().table_name(TABLE).set_key(Some(key("JOB#1", "JOB"))).send().await?;
    assert_eq!(read(&client, "JOB#1", "JOB").await?, None);
    Ok(())
}

#[tokio::test]
async fn queries_of_table_and_index_are_paged() -> Result<(), BoxError> {
    let (_dynamo, client) = table().await?;
    let writes = (0..20).map(|n| {
        let put = PutRequest::builder().set_item(Some(item("JOB#1", &format!("TASK#{n:02}"), "open"))).build();
        put.map(|put| WriteRequest::builder().put_request(put).build())
    });
    let writes = writes.collect::<Result<Vec<_>, _>>()?;
    let written = client.batch_write_item().request_items(TABLE, writes).send().await?;
    assert!(written.unprocessed_items().is_none_or(HashMap::is_empty));

    let of_job = client
        .query()
        .table_name(TABLE)
        .key_condition_expression("pk = :pk AND begins_with(sk, :sk)")
        .expression_attribute_values(":pk", text("JOB#1"))
        .expression_attribute_values(":sk", text("TASK#"))
        .limit(7);
    let open = client
        .query()
        .table_name(TABLE)
        .index_name("by-state")
        .key_condition_expression("#s = :open")
        .expression_attribute_names("#s", "state")
        .expression_attribute_values(":open", text("open"))
        .limit(7);
    for query in [of_job, open] {
        let items: Vec<Item> = query.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await?;
        let found: Vec<_> = items.iter().map(|item| item["sk"].as_s().unwrap().clone()).collect();
        let expected: Vec<_> = (0..20).map(|n| format!("TASK#{n:02}")).collect();
        assert_eq!(found, expected);
    }
    let scanned = client.scan().table_name(TABLE).limit(100).send().await?;
    assert_eq!(scanned.count(), 20);

    let keys = KeysAndAttributes::builder().keys(key("JOB#1", "TASK#03")).keys(key("JOB#1", "TASK#99")).build()?;
    let got = client.batch_get_item().request_items(TABLE, keys).send().await?;
    assert_eq!(got.responses().unwrap()[TABLE], [item("JOB#1", "TASK#03", "open")]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exactly_one_of_many_conditional_writers_succeeds() -> Result<(), BoxError> {
    let (_dynamo, client) = table().await?;
    let writers = (0..32).map(|n| {
        let put = client
            .put_item()
            .table_name(TABLE)
            .set_item(Some(item("JOB#1", "JOB", &n.to_string())))
            .condition_expression("attribute_not_exists(pk)");
        tokio::spawn(put.send())
    });
    let mut successes = 0;
    for writer in writers.collect::<Vec<_>>() {
        successes += usize::from(writer.await?.is_ok());
    }
    assert_eq!(successes, 1);
    Ok(())
}

#[tokio::test]
async fn a_reopened_file_contains_its_items() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("jobs.db");
    {
        let client = EmbeddedDynamo::open(&path)?.client();
        create_table(&client).await?;
        client.put_item().table_name(TABLE).set_item(Some(item("JOB#1", "JOB", "running"))).send().await?;
    }
    let client = EmbeddedDynamo::open(&path)?.client();
    assert_eq!(read(&client, "JOB#1", "JOB").await?, Some(item("JOB#1", "JOB", "running")));
    Ok(())
}

/// Simulates `kill -9`: after it, the files contain exactly what was passed to the operating system.
#[tokio::test]
async fn a_copy_without_closing_contains_every_acknowledged_write() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("jobs.db");
    let client = EmbeddedDynamo::open(&path)?.client();
    create_table(&client).await?;
    for n in 0..50 {
        let sk = format!("TASK#{n}");
        client.put_item().table_name(TABLE).set_item(Some(item("JOB#1", &sk, "open"))).send().await?;

        let copy = tempfile::tempdir()?;
        for file in ["jobs.db", "jobs.db-wal"] {
            std::fs::copy(folder.path().join(file), copy.path().join(file))?;
        }
        let after = EmbeddedDynamo::open(&copy.path().join("jobs.db"))?.client();
        assert_eq!(read(&after, "JOB#1", &sk).await?, Some(item("JOB#1", &sk, "open")));
    }
    Ok(())
}

/// Checks what keeps the fault of SQLite before 3.51.3 away: two connections that use one file at the same instant.
#[tokio::test]
async fn an_engine_touches_its_file_only_while_no_other_process_does() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("jobs.db");
    let open = || {
        let lock = ProcessLock::open(&path)?.with_patience(Duration::ZERO);
        Ok::<_, BoxError>(EmbeddedDynamo::open_with_lock(&path, TableSpace::default(), lock)?)
    };
    let dynamo = open()?;
    let client = dynamo.client();
    create_table(&client).await?;
    let other = ProcessLock::open(&path)?;
    let held = other.lock_for_call()?;
    let put = || client.put_item().table_name(TABLE).set_item(Some(item("JOB#1", "JOB", "running"))).send();
    let refused = put().await.unwrap_err();
    assert!(refused.raw_response().is_some_and(|answer| answer.status().as_u16() == 500), "the SDK must retry it: {refused:?}");
    assert!(read(&client, "JOB#1", "JOB").await.is_err(), "a first read can recover the log");
    assert!(open().is_err(), "opening can recover the log");
    assert!(dynamo.sweep_expired().await.is_err());
    drop(held);
    put().await?;

    let held = other.lock_for_call()?;
    drop((dynamo, client));
    let log = std::fs::metadata(folder.path().join("jobs.db-wal"))?;
    assert!(log.len() > 0, "closing would have checkpointed and removed the log");
    drop(held);
    assert!(read(&open()?.client(), "JOB#1", "JOB").await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_sweep_removes_only_expired_items() -> Result<(), BoxError> {
    let (dynamo, client) = table().await?;
    let ttl = TimeToLiveSpecification::builder().attribute_name("expires").enabled(true).build()?;
    client.update_time_to_live().table_name(TABLE).time_to_live_specification(ttl).send().await?;
    let described = client.describe_time_to_live().table_name(TABLE).send().await?;
    let attribute = described.time_to_live_description().and_then(|ttl| ttl.attribute_name());
    assert_eq!(attribute, Some("expires"));

    #[expect(clippy::disallowed_methods, reason = "the engine reads the system clock, so its test must read it as well")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    for (sk, expires) in [("past", now - 60), ("future", now + 3600)] {
        let mut item = item("JOB#1", sk, "done");
        item.insert("expires".to_owned(), AttributeValue::N(expires.to_string()));
        client.put_item().table_name(TABLE).set_item(Some(item)).send().await?;
    }
    client.put_item().table_name(TABLE).set_item(Some(item("JOB#1", "never", "done"))).send().await?;

    assert_eq!(dynamo.sweep_expired().await?, 1);
    assert_eq!(dynamo.sweep_expired().await?, 0);
    assert_eq!(read(&client, "JOB#1", "past").await?, None);
    assert!(read(&client, "JOB#1", "future").await?.is_some());
    assert!(read(&client, "JOB#1", "never").await?.is_some());
    Ok(())
}

#[test]
fn the_error_for_a_file_that_cannot_be_opened_contains_its_path() {
    let error = EmbeddedDynamo::open(Path::new("/nowhere/at/all/jobs.db")).err();
    let Some(EmbeddedError::Lock { path, .. }) = error else {
        panic!("opened, or another error");
    };
    assert_eq!(path, Path::new("/nowhere/at/all/jobs.db"));
}

#[test]
fn a_table_that_cannot_be_opened_says_what_to_check() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("jobs.db");
    std::fs::create_dir(&table).unwrap();
    let error = EmbeddedDynamo::open(&table).map(drop).unwrap_err();
    assert!(matches!(error, EmbeddedError::Open { .. }), "{error:?}");
    assert!(error.to_string().contains("permissions") && error.to_string().contains("ulimit -n"), "{error}");
}
