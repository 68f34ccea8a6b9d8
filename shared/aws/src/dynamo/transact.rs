//! Conditional writes, single and in transactions.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{self, AttributeValue, Put, TransactWriteItem};
use headrace_core::audit::AuditRecord;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;

use super::DynamoJobStore;
use super::items::{self, Item, STORE};
use super::usage;
use crate::errors::ErrorClass;

/// The codes of cancelled transactions that a later try may not meet: conflicts with other transactions, and throttling. A thousand tasks
/// that complete at the same time all update one job item.
const TEMPORARY_CODES: [&str; 3] = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];

/// The outcome of a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// The writes were applied.
    Applied,
    /// The writes were not applied, because the conditions of the writes with these indexes, counted from 0, did not hold.
    ConditionFailed(Vec<usize>),
}

/// A write of a transaction.
pub(super) enum Write {
    /// Creates or replaces an item.
    Put(Item),
    /// Creates an item, with the condition that it does not exist.
    PutNew(Item),
    /// Creates an audit record, which is logged after the transaction was applied.
    AuditRecord(Box<AuditRecord>),
    /// Deletes the item with this key, if it exists.
    Delete(Item),
    /// Deletes the item with this key, with the condition that it was changed last at this time.
    DeleteUnchanged(Item, Millis),
    /// Deletes the item with this key, under a condition with these values.
    DeleteWhen(Item, &'static str, Item),
    /// Updates an item.
    Update(Update),
}

/// An update of one item, perhaps with a condition.
#[derive(Clone, Debug, Default)]
pub(super) struct Update {
    key: Item,
    condition: String,
    sets: Vec<String>,
    adds: Vec<String>,
    removes: Vec<String>,
    names: HashMap<String, String>,
    values: Item,
}

impl Update {
    /// Creates an empty update of the item with this key.
    pub(super) fn new(key: Item) -> Self {
        Self { key, ..Self::default() }
    }

    /// Sets the condition. Its attribute names are not reserved words, except `#state`, which needs [`Self::name`].
    pub(super) fn when(mut self, condition: &str) -> Self {
        condition.clone_into(&mut self.condition);
        self
    }

    /// Defines a placeholder for an attribute name in the condition.
    pub(super) fn name(mut self, placeholder: &str, name: &str) -> Self {
        self.names.insert(placeholder.to_owned(), name.to_owned());
        self
    }

    /// Defines a placeholder for a value in the condition.
    pub(super) fn value(mut self, placeholder: &str, value: AttributeValue) -> Self {
        self.values.insert(placeholder.to_owned(), value);
        self
    }

    /// Sets an attribute to a value. If it is set twice, the last value counts.
    pub(super) fn set(mut self, attribute: &str, value: AttributeValue) -> Self {
        let (name, placeholder) = self.placeholders(attribute);
        let assignment = format!("{name} = {placeholder}");
        if !self.sets.contains(&assignment) {
            self.sets.push(assignment);
        }
        self.value(&placeholder, value)
    }

    /// Adds `value` to a number attribute. A missing attribute counts as 0.
    pub(super) fn add(mut self, attribute: &str, value: AttributeValue) -> Self {
        let (name, placeholder) = self.placeholders(attribute);
        self.adds.push(format!("{name} {placeholder}"));
        self.value(&placeholder, value)
    }

    /// Removes an attribute. Undoes an earlier [`Self::set`] of the same attribute.
    pub(super) fn remove(mut self, attribute: &str) -> Self {
        let (name, placeholder) = self.placeholders(attribute);
        self.sets.retain(|assignment| !assignment.starts_with(&format!("{name} = ")));
        self.values.remove(&placeholder);
        self.removes.push(name);
        self
    }

    /// Returns placeholders for the name and the value of an attribute. Names need them because DynamoDB reserves many plain words.
    fn placeholders(&mut self, attribute: &str) -> (String, String) {
        let plain = attribute.trim_start_matches('#');
        let name = format!("#{plain}");
        self.names.insert(name.clone(), plain.to_owned());
        (name, format!(":set_{plain}"))
    }

    /// Returns the condition. `None` if there is none, because DynamoDB rejects an empty one.
    fn condition(&self) -> Option<String> {
        Some(self.condition.clone()).filter(|condition| !condition.is_empty())
    }

    /// Returns the placeholders of attribute names. `None` if there are none, because DynamoDB rejects an empty map.
    fn names(&self) -> Option<HashMap<String, String>> {
        Some(self.names.clone()).filter(|names| !names.is_empty())
    }

    /// Returns the update expression, such as `SET a = :a ADD b :b`.
    fn expression(&self) -> String {
        [("SET", &self.sets), ("ADD", &self.adds), ("REMOVE", &self.removes)]
            .into_iter()
            .filter(|(_, actions)| !actions.is_empty())
            .map(|(clause, actions)| format!("{clause} {}", actions.join(", ")))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl DynamoJobStore {
    /// Applies one update if its condition holds. Returns whether it was applied.
    ///
    /// It is a transaction, because a transaction has a token by which DynamoDB recognizes it. The SDK repeats a call whose answer was
    /// lost. A plain update that had been applied would then fail by its own condition.
    pub(super) async fn update(&self, update: Update) -> Result<WriteOutcome, StoreError> {
        self.transact(&[Write::Update(update)]).await
    }

    /// Applies one update if its condition holds, without a transaction. If the answer of an applied update is lost and the SDK repeats it,
    /// the condition may fail all the same: the caller must find out.
    pub(super) async fn update_if(&self, update: &Update) -> Result<WriteOutcome, StoreError> {
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(update.key.clone()))
            .update_expression(update.expression())
            .set_condition_expression(update.condition())
            .set_expression_attribute_names(update.names())
            .set_expression_attribute_values(Some(update.values.clone()))
            .set_return_consumed_capacity(usage::wanted_capacity());
        match self.repeat(|| call.clone().send()).await {
            Ok(answer) => {
                usage::count_write(answer.consumed_capacity.as_ref());
                Ok(WriteOutcome::Applied)
            }
            Err(StoreError::Stale) => Ok(WriteOutcome::ConditionFailed(vec![0])),
            Err(error) => Err(error),
        }
    }

    /// Applies all writes or none, in one transaction. Returns the indexes of the failed conditions if none was applied.
    ///
    /// Conflicts, throttling and lost answers are tried again until the patience is used up.
    pub(super) async fn transact(&self, writes: &[Write]) -> Result<WriteOutcome, StoreError> {
        let items = writes.iter().map(|write| self.transact_item(write)).collect::<Result<Vec<_>, _>>()?;
        let (mut backoff, mut token) = (self.backoff(), request_token());
        loop {
            let call = self.client.transact_write_items().client_request_token(&token).set_transact_items(Some(items.clone()));
            usage::count_request();
            let error = match call.set_return_consumed_capacity(usage::wanted_capacity()).send().await {
                Ok(answer) => {
                    usage::count_write(answer.consumed_capacity());
                    log_audit_records(writes);
                    return Ok(WriteOutcome::Applied);
                }
                Err(error) => error,
            };
            if let Some(codes) = cancellation_codes(&error) {
                let failed = indexes_of(&codes, |code| code == "ConditionalCheckFailed");
                if !failed.is_empty() {
                    return Ok(WriteOutcome::ConditionFailed(failed));
                }
                if indexes_of(&codes, |code| TEMPORARY_CODES.contains(&code)).is_empty() {
                    return Err(StoreError::NotApplied { store: STORE, cause: error.into() });
                }
                if !backoff.pause().await {
                    return Err(StoreError::Overloaded { store: STORE, cause: error.into() });
                }
                // Nothing was written. DynamoDB could still remember the cancelled transaction by its token.
                token = request_token();
                continue;
            }
            // After a lost answer, the token stays the same: what was applied is not applied again.
            let may_repeat = matches!(self.service.classify(&error), ErrorClass::Unknown | ErrorClass::Overloaded);
            if !may_repeat || !backoff.pause().await {
                return Err(self.service.store_error(error));
            }
        }
    }

    /// Converts a write to an item of a DynamoDB transaction.
    fn transact_item(&self, write: &Write) -> Result<TransactWriteItem, StoreError> {
        let not_built = |error: aws_sdk_dynamodb::error::BuildError| StoreError::NotApplied { store: STORE, cause: error.into() };
        let item = TransactWriteItem::builder();
        let put = |new: Item| Put::builder().table_name(&self.table).set_item(Some(new));
        Ok(match write {
            Write::Put(new) => item.put(put(new.clone()).build().map_err(not_built)?),
            Write::PutNew(new) => item.put(put(new.clone()).condition_expression("attribute_not_exists(pk)").build().map_err(not_built)?),
            Write::AuditRecord(record) => item.put(put(items::audit_item(record)?).build().map_err(not_built)?),
            Write::Delete(key) => {
                let delete = types::Delete::builder().table_name(&self.table).set_key(Some(key.clone()));
                item.delete(delete.build().map_err(not_built)?)
            }
            Write::DeleteUnchanged(key, changed_at) => {
                let delete = types::Delete::builder().table_name(&self.table).set_key(Some(key.clone()));
                let delete = delete.condition_expression("changed_at = :seen");
                item.delete(delete.expression_attribute_values(":seen", items::millis(*changed_at)).build().map_err(not_built)?)
            }
            Write::DeleteWhen(key, condition, values) => {
                let delete = types::Delete::builder().table_name(&self.table).set_key(Some(key.clone()));
                let values = Some(values.clone()).filter(|values| !values.is_empty());
                let delete = delete.condition_expression(*condition).set_expression_attribute_values(values);
                item.delete(delete.build().map_err(not_built)?)
            }
            Write::Update(update) => item.update(
                types::Update::builder()
                    .table_name(&self.table)
                    .set_key(Some(update.key.clone()))
                    .update_expression(update.expression())
                    .set_condition_expression(update.condition())
                    .set_expression_attribute_names(update.names())
                    .set_expression_attribute_values(Some(update.values.clone()))
                    .build()
                    .map_err(not_built)?,
            ),
        }
        .build())
    }
}

/// Creates a token by which DynamoDB recognizes a repeated transaction.
fn request_token() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Returns the indexes of the codes that `matches`.
fn indexes_of(codes: &[String], matches: impl Fn(&str) -> bool) -> Vec<usize> {
    (0..).zip(codes).filter(|(_, code)| matches(code)).map(|(index, _)| index).collect()
}

/// Logs the audit records among the writes.
fn log_audit_records(writes: &[Write]) {
    for write in writes {
        match write {
            Write::AuditRecord(record) => record.log(),
            Write::Put(_) | Write::PutNew(_) | Write::Delete(_) | Write::DeleteUnchanged(..) | Write::DeleteWhen(..) | Write::Update(_) => {
            }
        }
    }
}

/// Returns the cancellation code of each write of a cancelled transaction. Returns `None` for any other error.
fn cancellation_codes<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<Vec<String>> {
    let SdkError::ServiceError(service) = error else { return None };
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = service.err() else { return None };
    Some(cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or_default().to_owned()).collect())
}
