//! Conditional writes, alone and in transactions.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use headrace_core::audit::AuditEntry;
use headrace_core::vocab::error::StoreError;

use super::DynamoJobStore;
use super::audit::audit_item;
use super::items::{Item, WHAT};

/// How often a transaction that met another one is tried again, pausing a little longer each time: closings of a
/// thousand tasks count in one job item.
const CONFLICT_TRIES: u32 = 10;

/// Whether a conditional write has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Landed {
    Yes,
    /// No: the conditions of these writes, counted from 0, did not hold.
    Refused(Vec<usize>),
}

/// One write of a transaction.
pub(super) enum Write {
    /// Replace or create.
    Put(Item),
    /// Create.
    PutNew(Item),
    /// Create a record for auditors; the log tells of it once the transaction has landed.
    Record(Box<AuditEntry>),
    /// Delete the item of this key, if it is there.
    Delete(Item),
    Update(Update),
}

/// An update of one item with its condition, if it has one. Attribute names are ours and plain; `#state` stands for the reserved word.
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
    pub(super) fn of(key: Item) -> Self {
        Self { key, ..Self::default() }
    }

    pub(super) fn when(mut self, condition: &str) -> Self {
        condition.clone_into(&mut self.condition);
        self
    }

    pub(super) fn name(mut self, placeholder: &str, name: &str) -> Self {
        self.names.insert(placeholder.to_owned(), name.to_owned());
        self
    }

    pub(super) fn value(mut self, placeholder: &str, value: AttributeValue) -> Self {
        self.values.insert(placeholder.to_owned(), value);
        self
    }

    /// Sets an attribute; said twice, the later one counts.
    pub(super) fn set(mut self, attribute: &str, value: AttributeValue) -> Self {
        let (name, placeholder) = self.refer(attribute);
        let assignment = format!("{name} = {placeholder}");
        if !self.sets.contains(&assignment) {
            self.sets.push(assignment);
        }
        self.value(&placeholder, value)
    }

    pub(super) fn add(mut self, attribute: &str, value: AttributeValue) -> Self {
        let (name, placeholder) = self.refer(attribute);
        self.adds.push(format!("{name} {placeholder}"));
        self.value(&placeholder, value)
    }

    pub(super) fn remove(mut self, attribute: &str) -> Self {
        let (name, placeholder) = self.refer(attribute);
        self.sets.retain(|assignment| !assignment.starts_with(&format!("{name} = ")));
        self.values.remove(&placeholder);
        self.removes.push(name);
        self
    }

    /// Many plain words are reserved in DynamoDB's expressions, so every name goes by a placeholder.
    fn refer(&mut self, attribute: &str) -> (String, String) {
        let plain = attribute.trim_start_matches('#');
        let name = format!("#{plain}");
        self.names.insert(name.clone(), plain.to_owned());
        (name, format!(":set_{plain}"))
    }

    fn expression(&self) -> String {
        [("SET", &self.sets), ("ADD", &self.adds), ("REMOVE", &self.removes)]
            .into_iter()
            .filter(|(_, actions)| !actions.is_empty())
            .map(|(verb, actions)| format!("{verb} {}", actions.join(", ")))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl DynamoJobStore {
    /// One conditional update.
    pub(super) async fn update(&self, update: Update) -> Result<Landed, StoreError> {
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .update_expression(update.expression())
            .set_condition_expression(Some(update.condition).filter(|condition| !condition.is_empty()))
            .set_key(Some(update.key))
            .set_expression_attribute_names(Some(update.names).filter(|names| !names.is_empty()))
            .set_expression_attribute_values(Some(update.values))
            .send()
            .await;
        match sent.map_err(|error| self.called.store_error(error)) {
            Ok(_) => Ok(Landed::Yes),
            Err(StoreError::Stale) => Ok(Landed::Refused(vec![0])),
            Err(error) => Err(error),
        }
    }

    /// All writes or none.
    pub(super) async fn transact(&self, writes: &[Write]) -> Result<Landed, StoreError> {
        let items = writes.iter().map(|write| self.transact_item(write)).collect::<Result<Vec<_>, _>>()?;
        let mut tries = 0;
        loop {
            tries += 1;
            let Err(error) = self.client.transact_write_items().set_transact_items(Some(items.clone())).send().await else {
                tell_of(writes);
                return Ok(Landed::Yes);
            };
            let Some(codes) = cancellation_codes(&error) else { return Err(self.called.store_error(error)) };
            let refused: Vec<usize> =
                (0..).zip(&codes).filter(|(_, code)| *code == "ConditionalCheckFailed").map(|(index, _)| index).collect();
            if !refused.is_empty() {
                return Ok(Landed::Refused(refused));
            }
            // Nothing was written, because of another transaction or of throughput: both pass.
            if tries >= CONFLICT_TRIES {
                return Err(StoreError::NotApplied { what: WHAT, cause: error.into() });
            }
            tokio::time::sleep(Duration::from_millis(10 << tries.min(5))).await;
        }
    }

    fn transact_item(&self, write: &Write) -> Result<TransactWriteItem, StoreError> {
        let unbuilt = |error: aws_sdk_dynamodb::error::BuildError| StoreError::NotApplied { what: WHAT, cause: error.into() };
        let item = TransactWriteItem::builder();
        let put = |new: Item| Put::builder().table_name(&self.table).set_item(Some(new));
        Ok(match write {
            Write::Put(new) => item.put(put(new.clone()).build().map_err(unbuilt)?),
            Write::PutNew(new) => item.put(put(new.clone()).condition_expression("attribute_not_exists(pk)").build().map_err(unbuilt)?),
            Write::Record(entry) => item.put(put(audit_item(entry)?).build().map_err(unbuilt)?),
            Write::Delete(key) => item.delete(
                aws_sdk_dynamodb::types::Delete::builder().table_name(&self.table).set_key(Some(key.clone())).build().map_err(unbuilt)?,
            ),
            Write::Update(update) => item.update(
                aws_sdk_dynamodb::types::Update::builder()
                    .table_name(&self.table)
                    .set_key(Some(update.key.clone()))
                    .update_expression(update.expression())
                    .set_condition_expression(Some(update.condition.clone()).filter(|condition| !condition.is_empty()))
                    .set_expression_attribute_names(Some(update.names.clone()).filter(|names| !names.is_empty()))
                    .set_expression_attribute_values(Some(update.values.clone()))
                    .build()
                    .map_err(unbuilt)?,
            ),
        }
        .build())
    }
}

fn tell_of(writes: &[Write]) {
    for write in writes {
        match write {
            Write::Record(entry) => entry.tell(),
            Write::Put(_) | Write::PutNew(_) | Write::Delete(_) | Write::Update(_) => {}
        }
    }
}

/// Why each write of a cancelled transaction was refused; `None` for any other error.
fn cancellation_codes<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<Vec<String>> {
    let SdkError::ServiceError(service) = error else { return None };
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = service.err() else { return None };
    Some(cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or_default().to_owned()).collect())
}
