//! The model of DynamoDB: it satisfies the contract of the job store, and answers each call as the engine of the local product does,
//! with the same capacity.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedAsyncSleep};
use aws_smithy_types::body::SdkBody;
use dynoxide::{Database, DynoxideError};
use headrace_aws::{DynamoJobStore, TableSchema, Workload};
use headrace_local::stores::embedded::in_process_http_client;
use headrace_simulator::aws::pauses::WorkerPauses;
use headrace_simulator::aws::worker::{Worker, WorkerSize};
use headrace_simulator::meter::Meter;
use headrace_simulator::parameters::AwsParameters;
use headrace_simulator::table::{Engine, TableServer, table_client};
use headrace_simulator::time::VirtualTime;
use headrace_tests::contracts::BoxError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const TABLE: &str = "jobs";

mod job_store {
    headrace_tests::job_store_contract!(model, crate::table::model);
    headrace_tests::job_store_contract!(compared_with_another_engine, crate::table::compared);
}

/// Opens the job table over the whole model, with latencies, conflicts and limits.
pub(crate) async fn model() -> Result<DynamoJobStore, BoxError> {
    let (time, meter, aws) = (VirtualTime::default(), Meter::default(), AwsParameters::default());
    tokio::spawn(time.clone().drive());
    let worker = Worker::new(&time, &meter, &aws, WorkerSize { number: 0, memory_mb: 1_769, slowness: 1, lost_answers: 0.0 });
    let server = TableServer::new(time, meter, aws.table);
    let pauses = WorkerPauses(worker.clone());
    let workload = Workload::Tasks { lease: Duration::from_secs(60) };
    let client = table_client(&server, &worker, workload.retry(), SharedAsyncSleep::new(pauses.clone()));
    TableSchema::create(&client, TABLE).await?;
    Ok(DynamoJobStore::new(client, TABLE).with_patience(workload.patience()).with_pause_clock(pauses))
}

/// Opens the job table over the engine of the local product. Each call is made to the model's engine, too. A call fails if the two
/// answers or the capacities differ.
pub(crate) async fn compared() -> Result<DynamoJobStore, BoxError> {
    let (database, engine) = (Database::memory()?, Arc::new(Mutex::new(Engine::default())));
    let http = in_process_http_client(move |request: http::Request<SdkBody>| {
        let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = request.body().bytes().unwrap_or_default().to_vec();
        let answer = compare(&database, &mut engine.lock().unwrap_or_else(PoisonError::into_inner), &operation, &body);
        std::future::ready(answer)
    });
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url("http://dynamodb.compared.invalid")
        .http_client(http)
        .build();
    let client = Client::from_conf(config);
    TableSchema::create(&client, TABLE).await?;
    Ok(DynamoJobStore::new(client, TABLE))
}

/// Makes a call to both engines. Returns the answer of the first, or an error that describes the difference.
fn compare(database: &Database, engine: &mut Engine, operation: &str, body: &[u8]) -> Result<http::Response<SdkBody>, BoxError> {
    let mut request: Value = serde_json::from_slice(body)?;
    if operation != "CreateTable" && operation != "UpdateTimeToLive" {
        request["ReturnConsumedCapacity"] = json!("TOTAL");
    }
    let (status, mut expected) = call(database, operation, &request);
    let capacity = units(&expected["ConsumedCapacity"]);
    if let Some(fields) = expected.as_object_mut() {
        fields.remove("ConsumedCapacity");
    }
    let found = engine.answer(operation, body);
    let answers = (comparable(operation, status, &expected), comparable(operation, found.status, &serde_json::from_str(&found.body)?));
    let consumed = if status == 200 && capacity > 0.0 { found.units.0 + found.units.1 } else { capacity };
    assert_eq!((&answers.0, capacity), (&answers.1, consumed), "{operation} {request}");
    Ok(http::Response::builder().status(status).body(SdkBody::from(expected.to_string()))?)
}

/// Returns the sum of the units in `ConsumedCapacity`, which is an object, or a list of them for several tables.
fn units(consumed: &Value) -> f64 {
    let tables = consumed.as_array().cloned().unwrap_or_else(|| vec![consumed.clone()]);
    tables.iter().filter_map(|table| table["CapacityUnits"].as_f64()).sum()
}

/// Returns what both engines must have in common: of an error, its codes.
fn comparable(operation: &str, status: u16, body: &Value) -> Value {
    if status != 200 {
        let code = body["__type"].as_str().unwrap_or_default().rsplit('#').next().unwrap_or_default();
        let reasons = body["CancellationReasons"].as_array().into_iter().flatten();
        let reasons: Vec<_> = reasons.map(|reason| reason["Code"].as_str().unwrap_or("None")).collect();
        return json!({ "code": code, "reasons": reasons });
    }
    match operation {
        "CreateTable" | "UpdateTimeToLive" => json!({}),
        _ => body.clone(),
    }
}

/// Calls the engine of the local product.
fn call(database: &Database, operation: &str, request: &Value) -> (u16, Value) {
    fn answer<Q: DeserializeOwned, A: Serialize>(
        request: &Value,
        execute: impl FnOnce(Q) -> Result<A, DynoxideError>,
    ) -> Result<Value, DynoxideError> {
        let request = serde_json::from_value(request.clone()).map_err(|error| DynoxideError::ValidationException(error.to_string()))?;
        serde_json::to_value(execute(request)?).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
    }
    let result = match operation {
        "CreateTable" => answer(request, |request| database.create_table(request)),
        "UpdateTimeToLive" => answer(request, |request| database.update_time_to_live(request)),
        "GetItem" => answer(request, |request| database.get_item(request)),
        "BatchGetItem" => answer(request, |request| database.batch_get_item(request)),
        "PutItem" => answer(request, |request| database.put_item(request)),
        "UpdateItem" => answer(request, |request| database.update_item(request)),
        "DeleteItem" => answer(request, |request| database.delete_item(request)),
        "Query" => answer(request, |request| database.query(request)),
        "BatchWriteItem" => answer(request, |request| database.batch_write_item(request)),
        "TransactWriteItems" => answer(request, |request| database.transact_write_items(request)),
        other => Err(DynoxideError::ValidationException(format!("the comparison has no operation {other}"))),
    };
    match result {
        Ok(json) => (200, json),
        Err(error) => (error.status_code(), serde_json::from_str(&error.to_json()).unwrap_or_default()),
    }
}
