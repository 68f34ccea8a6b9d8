//! The requests of the SDK, in DynamoDB's JSON.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::TableError;
use super::item::Item;

/// A request.
#[derive(Debug)]
pub(super) enum Request {
    /// Creates the table.
    CreateTable(CreateTable),
    /// Sets the attribute of the time to live, which the model ignores.
    UpdateTimeToLive,
    /// Reads an item.
    GetItem(GetItem),
    /// Reads items.
    BatchGetItem(BatchGetItem),
    /// Reads a range of a partition.
    Query(Box<Query>),
    /// Writes an item.
    Write(Box<WriteRequest>),
    /// Writes items independently.
    BatchWriteItem(BatchWriteItem),
    /// Writes all items or none.
    TransactWriteItems(TransactWriteItems),
}

/// The request of `CreateTable`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateTable {
    #[serde(default)]
    pub(super) global_secondary_indexes: Vec<IndexRequest>,
}

/// An index of `CreateTable`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct IndexRequest {
    pub(super) index_name: String,
    pub(super) key_schema: Vec<KeyElement>,
}

/// An attribute of a key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyElement {
    pub(super) attribute_name: String,
}

/// The request of `GetItem`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetItem {
    pub(super) key: Item,
    #[serde(default)]
    pub(super) consistent_read: bool,
}

/// The request of `BatchGetItem`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchGetItem {
    pub(super) request_items: BTreeMap<String, BatchGetKeys>,
}

/// The keys of `BatchGetItem` in one table.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchGetKeys {
    pub(super) keys: Vec<Item>,
    #[serde(default)]
    pub(super) consistent_read: bool,
}

/// The request of `Query`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Query {
    pub(super) key_condition_expression: String,
    pub(super) index_name: Option<String>,
    pub(super) filter_expression: Option<String>,
    pub(super) projection_expression: Option<String>,
    #[serde(default)]
    pub(super) expression_attribute_names: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) expression_attribute_values: Item,
    pub(super) scan_index_forward: Option<bool>,
    #[serde(default)]
    pub(super) consistent_read: bool,
    pub(super) limit: Option<usize>,
    pub(super) exclusive_start_key: Option<Item>,
    pub(super) select: Option<String>,
}

/// A write of one item: the request of `PutItem`, `UpdateItem` and `DeleteItem`, and an element of a transaction.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WriteRequest {
    pub(super) item: Option<Item>,
    pub(super) key: Option<Item>,
    pub(super) update_expression: Option<String>,
    pub(super) condition_expression: Option<String>,
    #[serde(default)]
    pub(super) expression_attribute_names: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) expression_attribute_values: Item,
    pub(super) return_values: Option<String>,
    /// True for an element that writes nothing and has a condition.
    #[serde(skip)]
    pub(super) is_check: bool,
}

/// The request of `BatchWriteItem`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchWriteItem {
    /// The elements by table, as they were sent, because those that are not processed are sent back.
    pub(super) request_items: BTreeMap<String, Vec<Value>>,
}

/// An element of `BatchWriteItem`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchWrite {
    put_request: Option<WriteRequest>,
    delete_request: Option<WriteRequest>,
}

/// The request of `TransactWriteItems`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TransactWriteItems {
    pub(super) transact_items: Vec<TransactItem>,
    pub(super) client_request_token: Option<String>,
}

/// An element of `TransactWriteItems`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TransactItem {
    put: Option<WriteRequest>,
    update: Option<WriteRequest>,
    delete: Option<WriteRequest>,
    condition_check: Option<WriteRequest>,
}

impl TransactItem {
    /// Returns the write of the element.
    pub(super) fn into_write(self) -> Result<WriteRequest, TableError> {
        let check = self.condition_check.map(|check| WriteRequest { is_check: true, ..check });
        self.put.or(self.update).or(self.delete).or(check).ok_or_else(|| TableError::Invalid("an empty transaction item".to_owned()))
    }
}

/// Returns the write of an element of `BatchWriteItem`.
pub(super) fn batch_write(element: &Value) -> Result<WriteRequest, TableError> {
    let element = BatchWrite::deserialize(element).map_err(|error| TableError::Invalid(error.to_string()))?;
    element.put_request.or(element.delete_request).ok_or_else(|| TableError::Invalid("an empty batch item".to_owned()))
}

impl Request {
    /// Parses the request of an operation, which the header `x-amz-target` names.
    pub(super) fn parse(operation: &str, body: &[u8]) -> Result<Self, TableError> {
        Ok(match operation {
            "CreateTable" => Self::CreateTable(parse(body)?),
            "UpdateTimeToLive" => Self::UpdateTimeToLive,
            "GetItem" => Self::GetItem(parse(body)?),
            "BatchGetItem" => Self::BatchGetItem(parse(body)?),
            "Query" => Self::Query(Box::new(parse(body)?)),
            "PutItem" | "UpdateItem" | "DeleteItem" => Self::Write(Box::new(parse(body)?)),
            "BatchWriteItem" => Self::BatchWriteItem(parse(body)?),
            "TransactWriteItems" => Self::TransactWriteItems(parse(body)?),
            other => return Err(TableError::Invalid(format!("the model of DynamoDB has no operation {other}"))),
        })
    }
}

/// Parses a body.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, TableError> {
    serde_json::from_slice(body).map_err(|error| TableError::Invalid(error.to_string()))
}
