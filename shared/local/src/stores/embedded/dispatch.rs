//! From an `X-Amz-Target` and a JSON body to the engine, and back to a status and a JSON body.

use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What goes back to the SDK.
pub(super) struct Reply {
    /// HTTP status: 200, 400 (the SDK does not retry) or 500 (it does).
    pub(super) status: u16,
    /// The body; of an error it carries `__type`, by which the SDK picks its typed error.
    pub(super) json: String,
}

/// Runs one operation to its end. Blocks on the engine's lock and on the disk.
pub(super) fn answer(database: &Database, target: &str, body: &[u8]) -> Reply {
    match run(database, target, body) {
        Ok(json) => Reply { status: 200, json },
        Err(error) => Reply { status: error.status_code(), json: error.to_json() },
    }
}

/// The operations that the job table uses; any other is refused by name.
fn run(database: &Database, target: &str, body: &[u8]) -> Result<String, DynoxideError> {
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
        _ => Err(DynoxideError::ValidationException(format!("the embedded DynamoDB does not serve {target}"))),
    }
}

fn call<Q, A>(body: &[u8], operation: impl FnOnce(Q) -> Result<A, DynoxideError>) -> Result<String, DynoxideError>
where
    Q: DeserializeOwned,
    A: Serialize,
{
    let request = serde_json::from_slice(body).map_err(|error| refusal(&error.to_string()))?;
    let response = operation(request)?;
    serde_json::to_string(&response).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// A request that the engine cannot read and that will never be right.
///
/// The engine marks such a message with the class of error it means (`VALIDATION:…`) and its own reader of the mark is
/// private; to us all classes are one, only the mark must not reach a log.
fn refusal(message: &str) -> DynoxideError {
    let is_mark = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let unmarked = match message.split_once(':') {
        Some((mark, rest)) if is_mark(mark) => rest,
        _ => message,
    };
    DynoxideError::ValidationException(unmarked.to_owned())
}
