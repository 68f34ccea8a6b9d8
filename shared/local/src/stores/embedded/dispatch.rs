//! Dispatches DynamoDB requests: maps an `X-Amz-Target` and a JSON body to a call of the engine, and its result to a status and a
//! JSON body.

use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::space::{TableFault, TableSpace};

/// A response to the SDK.
pub(super) struct DynamoResponse {
    /// HTTP status: 200, 400 (not retried by the SDK) or 500 (retried).
    pub(super) status: u16,
    /// JSON body. The body of an error contains `__type`, which selects the typed error of the SDK.
    pub(super) json: String,
}

impl DynamoResponse {
    /// Builds the response for an error of the engine.
    pub(super) fn from_error(error: &DynoxideError) -> Self {
        Self { status: error.status_code(), json: error.to_json() }
    }
}

/// Executes one operation. Blocks on the engine's lock and on the disk.
///
/// If the disk is full, gives up the reserve and tries once more. A fault that no retry can mend has a code of its own, which the adapter
/// knows and the SDK does not retry.
pub(super) fn execute((database, space): (&Database, &TableSpace), target: &str, body: &[u8]) -> DynamoResponse {
    let mut result = execute_operation(database, target, body);
    let fault_of =
        |result: &Result<String, DynoxideError>| result.as_ref().err().and_then(|error| space.fault_from_message(&error.to_string()));
    if matches!(fault_of(&result), Some(TableFault::OutOfSpace(_))) && space.release() {
        result = execute_operation(database, target, body);
    }
    let fault = fault_of(&result);
    if fault.is_some() || (result.is_ok() && is_write(target)) {
        space.set_fault(fault.clone());
    }
    match (result, fault) {
        (Ok(json), _) => DynamoResponse { status: 200, json },
        (Err(_), Some(fault)) => {
            let (code, message) = match fault {
                TableFault::OutOfSpace(place) => ("OutOfSpace", place),
                TableFault::Unusable(text) => ("StoreUnusable", text),
            };
            DynamoResponse { status: 400, json: serde_json::json!({ "__type": code, "message": message }).to_string() }
        }
        (Err(error), None) => DynamoResponse::from_error(&error),
    }
}

/// Returns true for operations that write.
fn is_write(target: &str) -> bool {
    ["PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem"].iter().any(|operation| target.ends_with(operation))
}

/// Calls the engine for an operation that the job table uses. Rejects other operations by name.
fn execute_operation(database: &Database, target: &str, body: &[u8]) -> Result<String, DynoxideError> {
    let db = database;
    match target.strip_prefix("DynamoDB_20120810.").unwrap_or_default() {
        "CreateTable" => call(body, |request| db.create_table(request)),
        "DescribeTable" => call(body, |request| db.describe_table(request)),
        "UpdateTimeToLive" => call(body, |request| db.update_time_to_live(request)),
        "DescribeTimeToLive" => call(body, |request| db.describe_time_to_live(request)),
        "PutItem" => call(body, |request| db.put_item(request)),
        "GetItem" => call(body, |request| db.get_item(request)),
        "UpdateItem" => call(body, |request| db.update_item(request)),
        "DeleteItem" => call(body, |request| db.delete_item(request)),
        "Query" => call(body, |request| db.query(request)),
        "Scan" => call(body, |request| db.scan(request)),
        "TransactWriteItems" => call(body, |request| db.transact_write_items(request)),
        "BatchWriteItem" => call(body, |request| db.batch_write_item(request)),
        "BatchGetItem" => call(body, |request| db.batch_get_item(request)),
        _ => Err(DynoxideError::ValidationException(format!("the embedded DynamoDB does not support {target}"))),
    }
}

/// Parses a request, calls an operation of the engine and serializes its response.
fn call<Q, A>(body: &[u8], operation: impl FnOnce(Q) -> Result<A, DynoxideError>) -> Result<String, DynoxideError>
where
    Q: DeserializeOwned,
    A: Serialize,
{
    let request = serde_json::from_slice(body).map_err(|error| validation_error(&error.to_string()))?;
    let response = operation(request)?;
    serde_json::to_string(&response).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// Builds the error for a request that cannot be parsed.
///
/// The engine prefixes such messages with an error class (`VALIDATION:…`), and its parser for the prefix is private. All classes
/// are treated alike; only the prefix is removed, so that it does not appear in logs.
fn validation_error(message: &str) -> DynoxideError {
    let is_class = |prefix: &str| prefix.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let text = match message.split_once(':') {
        Some((class, rest)) if is_class(class) => rest,
        _ => message,
    };
    DynoxideError::ValidationException(text.to_owned())
}
