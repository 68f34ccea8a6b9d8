//! The operations of the table, without time: each is applied at one moment.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::capacity::{Consumed, TRANSACTION_FACTOR, read_units};
use super::error::{Reason, TableError};
use super::item::Item;
use super::query::query;
use super::request::{BatchGetItem, BatchWriteItem, CreateTable, GetItem, Query, Request, batch_write};
use super::stored::{Storage, primary_key};
use super::write::{Effect, Write};

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    storage: Storage,
    /// The tokens of the transactions that were applied.
    applied_tokens: HashSet<String>,
}

/// The answer to an operation.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The body of the response.
    pub(super) json: String,
    /// The bytes of the items that were read.
    pub(super) bytes: usize,
    pub(super) consumed: Consumed,
}

/// The answer of the engine alone, without limits, conflicts and latency, to be compared with that of another engine.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineAnswer {
    /// The status of HTTP.
    pub status: u16,
    /// The body of the response.
    pub body: String,
    /// The write and read units that the call has consumed, of the table and its indexes.
    pub units: (f64, f64),
}

impl Engine {
    /// Executes a call at once and returns its answer.
    pub fn answer(&mut self, operation: &str, body: &[u8]) -> EngineAnswer {
        match Request::parse(operation, body).and_then(|request| self.execute(request)) {
            Ok(answer) => EngineAnswer { status: 200, units: answer.consumed.sum(), body: answer.json },
            Err(error) => EngineAnswer { status: 400, units: (0.0, 0.0), body: error.to_json().to_string() },
        }
    }

    /// Returns all items, in DynamoDB's JSON.
    pub fn items(&self) -> impl Iterator<Item = &str> {
        self.storage.partitions.values().flat_map(BTreeMap::values).map(|stored| stored.json.as_str())
    }

    /// Executes an operation without limits.
    fn execute(&mut self, request: Request) -> Result<Answer, TableError> {
        match request {
            Request::CreateTable(request) => self.create(request),
            Request::UpdateTimeToLive => Ok(Answer { json: "{}".to_owned(), ..Answer::default() }),
            Request::GetItem(request) => self.get(&request),
            Request::BatchGetItem(request) => self.batch_get(request),
            Request::Query(request) => self.query(&request),
            Request::Write(request) => self.write(&Write::parse(*request)?, |_| true),
            Request::BatchWriteItem(request) => self.batch_write(&request, |_| true),
            Request::TransactWriteItems(request) => {
                let writes = request.transact_items.into_iter().map(|item| Write::parse(item.into_write()?));
                self.transact(&writes.collect::<Result<Vec<_>, _>>()?, request.client_request_token, |_| true)
            }
        }
    }

    /// Creates the indexes of the table.
    pub(super) fn create(&mut self, request: CreateTable) -> Result<Answer, TableError> {
        self.storage.create(request)?;
        Ok(Answer { json: "{}".to_owned(), ..Answer::default() })
    }

    /// Reads an item.
    pub(super) fn get(&self, request: &GetItem) -> Result<Answer, TableError> {
        let key = primary_key(&request.key)?;
        let stored = self.storage.get(&key);
        let bytes = stored.map_or(0, |stored| stored.bytes);
        let json = stored.map_or_else(|| "{}".to_owned(), |stored| format!("{{\"Item\":{}}}", stored.json));
        let mut consumed = Consumed::default();
        consumed.add_reads(&key.0, read_units(bytes, request.consistent_read));
        Ok(Answer { json, bytes, consumed })
    }

    /// Reads several items.
    pub(super) fn batch_get(&self, request: BatchGetItem) -> Result<Answer, TableError> {
        let (mut answer, mut tables) = (Answer::default(), Vec::new());
        for (table, batch) in request.request_items {
            let mut items = Vec::new();
            for key in batch.keys {
                let key = primary_key(&key)?;
                let stored = self.storage.get(&key);
                let bytes = stored.map_or(0, |stored| stored.bytes);
                answer.bytes += bytes;
                answer.consumed.add_reads(&key.0, read_units(bytes, batch.consistent_read));
                items.extend(stored.map(|stored| stored.json.clone()));
            }
            tables.push(format!("\"{table}\":[{}]", items.join(",")));
        }
        answer.json = format!("{{\"Responses\":{{{}}},\"UnprocessedKeys\":{{}}}}", tables.join(","));
        Ok(answer)
    }

    /// Runs a query.
    pub(super) fn query(&self, request: &Query) -> Result<Answer, TableError> {
        let page = query(&self.storage, request)?;
        Ok(Answer { json: page.json, bytes: page.bytes, consumed: page.consumed })
    }

    /// Applies a single write if its condition holds and `admit` admits the capacity that it consumes.
    pub(super) fn write(&mut self, write: &Write, admit: impl FnOnce(&Consumed) -> bool) -> Result<Answer, TableError> {
        let effect = write.effect(&self.storage)?.ok_or(TableError::ConditionFailed)?;
        let consumed = consumed(std::slice::from_ref(&effect), 1.0);
        if !admit(&consumed) {
            return Err(TableError::Throttled);
        }
        let json = effect.attributes.as_ref().map(attributes_json).transpose()?;
        effect.apply(&mut self.storage);
        Ok(Answer { json: json.unwrap_or_else(|| "{}".to_owned()), bytes: 0, consumed })
    }

    /// Applies writes without conditions, each by itself. Those that `admit` does not admit are sent back.
    pub(super) fn batch_write(&mut self, request: &BatchWriteItem, admit: impl Fn(&Consumed) -> bool) -> Result<Answer, TableError> {
        let mut answer = Answer::default();
        let mut unprocessed = BTreeMap::<&str, Vec<&Value>>::new();
        for (table, element) in
            request.request_items.iter().flat_map(|(table, elements)| elements.iter().map(move |element| (table, element)))
        {
            match self.write(&Write::parse(batch_write(element)?)?, &admit) {
                Ok(written) => written.consumed.keys.iter().for_each(|(key, units)| answer.consumed.add_writes(key, units.0)),
                Err(TableError::Throttled) => unprocessed.entry(table).or_default().push(element),
                Err(error) => return Err(error),
            }
        }
        answer.json = json!({ "UnprocessedItems": unprocessed }).to_string();
        Ok(answer)
    }

    /// Applies all writes or none.
    pub(super) fn transact(
        &mut self,
        writes: &[Write],
        token: Option<String>,
        admit: impl FnOnce(&Consumed) -> bool,
    ) -> Result<Answer, TableError> {
        if token.as_ref().is_some_and(|token| self.applied_tokens.contains(token)) {
            return Ok(Answer { json: "{}".to_owned(), ..Answer::default() });
        }
        let effects = writes.iter().map(|write| write.effect(&self.storage)).collect::<Result<Vec<_>, _>>()?;
        if effects.iter().any(Option::is_none) {
            let reason = |effect: &Option<Effect>| if effect.is_none() { Reason::ConditionFailed } else { Reason::None };
            return Err(TableError::Cancelled(effects.iter().map(reason).collect()));
        }
        let effects: Vec<Effect> = effects.into_iter().flatten().collect();
        let consumed = consumed(&effects, TRANSACTION_FACTOR);
        if !admit(&consumed) {
            return Err(TableError::Cancelled(vec![Reason::Throttled; writes.len()]));
        }
        effects.into_iter().for_each(|effect| effect.apply(&mut self.storage));
        self.applied_tokens.extend(token);
        Ok(Answer { json: "{}".to_owned(), bytes: 0, consumed })
    }

    /// Returns the value of a text attribute of the item with this sort key, in whatever partition it is. `None` if there is none.
    pub fn find_text(&self, sort_key: &str, attribute: &str) -> Option<String> {
        let mut found = self.storage.partitions.values().filter_map(|partition| partition.get(sort_key));
        found.find_map(|stored| stored.item.get(attribute)?.as_text().map(str::to_owned))
    }
}

/// Returns the capacity of effects. The factor applies to the table alone: its indexes follow in single writes.
fn consumed(effects: &[Effect], factor: f64) -> Consumed {
    let mut table = Consumed::default();
    effects.iter().for_each(|effect| table.add_writes(&effect.key.0, effect.table_units));
    let mut consumed = table.times(factor);
    for (key, units) in effects.iter().flat_map(|effect| &effect.index_units.keys) {
        consumed.add_writes(key, units.0);
    }
    consumed
}

/// Returns the body of the response to a write that returns attributes.
fn attributes_json(attributes: &Item) -> Result<String, TableError> {
    let json = serde_json::to_string(attributes).map_err(|error| TableError::Invalid(error.to_string()))?;
    Ok(format!("{{\"Attributes\":{json}}}"))
}
