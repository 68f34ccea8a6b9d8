//! Queries of a partition, or of an index.

use std::ops::Bound;

use serde_json::json;

use super::capacity::{Consumed, read_units};
use super::error::TableError;
use super::expression::{Comparator, Condition, Operand, Placeholders};
use super::item::{AttributeValue, Item, item_size};
use super::request::Query;
use super::stored::{Key, Storage, primary_key};

/// The most bytes of items on a page.
const PAGE_BYTES: usize = 1 << 20;

/// A page of a query.
#[derive(Debug)]
pub(super) struct QueryPage {
    /// The body of the response.
    pub(super) json: String,
    /// The bytes of the items that were read.
    pub(super) bytes: usize,
    pub(super) consumed: Consumed,
}

/// A parsed query.
struct ParsedQuery<'a> {
    request: &'a Query,
    hash: String,
    key_condition: Condition,
    filter: Option<Condition>,
    projection: Option<Vec<String>>,
}

/// A candidate of a query: its attributes, its JSON if that is known, and its size.
struct Candidate<'a> {
    item: &'a Item,
    json: Option<&'a str>,
    bytes: usize,
}

/// Runs a query. Returns one page.
pub(super) fn query(storage: &Storage, request: &Query) -> Result<QueryPage, TableError> {
    let parsed = ParsedQuery::parse(request)?;
    let is_forward = request.scan_index_forward.unwrap_or(true);
    let mut candidates: Box<dyn Iterator<Item = Candidate<'_>>> = match &request.index_name {
        None => parsed.table_candidates(storage, is_forward)?,
        Some(name) => parsed.index_candidates(storage, name, is_forward)?,
    };
    let mut page = Page::default();
    let limit = request.limit.unwrap_or(usize::MAX);
    let next = loop {
        // DynamoDB does not look beyond the last item that it may read, so a full page always has a successor.
        if page.read >= limit {
            break page.last.take();
        }
        let Some(candidate) = candidates.next() else { break None };
        if !parsed.key_condition.holds(candidate.item) {
            // The matching keys are adjacent. If the candidates begin with the first of them, none comes later.
            if page.read > 0 || parsed.begins_with_match(is_forward) {
                break None;
            }
            continue;
        }
        if page.bytes + candidate.bytes > PAGE_BYTES {
            break page.last.take();
        }
        page.add(&candidate, &parsed);
    };
    let mut consumed = Consumed::default();
    consumed.add_reads(&parsed.hash, read_units(page.bytes, request.consistent_read));
    let json = page.to_json(request, next)?;
    Ok(QueryPage { json, bytes: page.bytes, consumed })
}

/// The items of a page so far.
#[derive(Default)]
struct Page {
    items: Vec<String>,
    /// The number of items that were read, including those that the filter leaves out.
    read: usize,
    matched: usize,
    bytes: usize,
    /// The keys of the last item that was read.
    last: Option<Item>,
}

impl Page {
    /// Adds an item that the key condition selects.
    fn add(&mut self, candidate: &Candidate<'_>, parsed: &ParsedQuery<'_>) {
        self.read += 1;
        self.bytes += candidate.bytes;
        self.last = Some(keys(candidate.item, parsed.request.index_name.is_some()));
        if parsed.filter.as_ref().is_some_and(|filter| !filter.holds(candidate.item)) {
            return;
        }
        self.matched += 1;
        if parsed.request.select.as_deref() == Some("COUNT") {
            return;
        }
        let json = match (&parsed.projection, candidate.json) {
            (None, Some(json)) => json.to_owned(),
            (None, None) => serde_json::to_string(candidate.item).unwrap_or_default(),
            (Some(names), _) => {
                let kept = names.iter().filter_map(|name| Some((name, candidate.item.get(name)?)));
                serde_json::to_string(&kept.collect::<std::collections::BTreeMap<_, _>>()).unwrap_or_default()
            }
        };
        self.items.push(json);
    }

    /// Returns the body of the response.
    fn to_json(&self, request: &Query, next: Option<Item>) -> Result<String, TableError> {
        let next = next.map(|keys| serde_json::to_string(&json!(keys))).transpose();
        let next = next.map_err(|error| TableError::Invalid(error.to_string()))?;
        let next = next.map(|keys| format!(",\"LastEvaluatedKey\":{keys}")).unwrap_or_default();
        let items =
            if request.select.as_deref() == Some("COUNT") { String::new() } else { format!("\"Items\":[{}],", self.items.join(",")) };
        Ok(format!("{{{items}\"Count\":{},\"ScannedCount\":{}{next}}}", self.matched, self.read))
    }
}

/// Returns the attributes of a start key: the primary key, and the keys of the index.
fn keys(item: &Item, has_index: bool) -> Item {
    if has_index {
        return item.clone();
    }
    item.iter().filter(|(name, _)| matches!(name.as_str(), "pk" | "sk")).map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl<'a> ParsedQuery<'a> {
    /// Parses the expressions of a query.
    fn parse(request: &'a Query) -> Result<Self, TableError> {
        let placeholders = Placeholders { names: &request.expression_attribute_names, values: &request.expression_attribute_values };
        let key_condition = Condition::parse(&request.key_condition_expression, placeholders)?;
        let filter = request.filter_expression.as_deref().map(|text| Condition::parse(text, placeholders)).transpose()?;
        let hash = equal_text(&key_condition).ok_or_else(|| TableError::Invalid("no partition key".to_owned()))?;
        let projection = request.projection_expression.as_deref().map(|text| {
            let name = |name: &str| request.expression_attribute_names.get(name).cloned().unwrap_or_else(|| name.to_owned());
            text.split(',').map(|token| name(token.trim())).collect()
        });
        Ok(Self { request, hash, key_condition, filter, projection })
    }

    /// Returns true if the candidates begin with the first key that matches.
    fn begins_with_match(&self, is_forward: bool) -> bool {
        let start = if is_forward { sort_start(&self.key_condition) } else { sort_prefix(&self.key_condition) };
        self.request.index_name.is_none() && start.is_some()
    }

    /// Returns the items of the partition from the start of the range on.
    fn table_candidates<'s>(
        &self,
        storage: &'s Storage,
        is_forward: bool,
    ) -> Result<Box<dyn Iterator<Item = Candidate<'s>> + 's>, TableError> {
        let start = self.request.exclusive_start_key.as_ref().map(primary_key).transpose()?.map(|key| key.1);
        let Some(partition) = storage.partitions.get(&self.hash) else { return Ok(Box::new(std::iter::empty())) };
        let candidate = |(_, stored): (&'s String, &'s super::stored::StoredItem)| Candidate {
            item: &stored.item,
            json: Some(&stored.json),
            bytes: stored.bytes,
        };
        if is_forward {
            let low = start.map_or_else(|| Bound::Included(sort_start(&self.key_condition).unwrap_or_default()), Bound::Excluded);
            return Ok(Box::new(partition.range((low, Bound::Unbounded)).map(candidate)));
        }
        let end = sort_prefix(&self.key_condition).map_or(Bound::Unbounded, |prefix| Bound::Included(format!("{prefix}{}", char::MAX)));
        let high = start.map_or(end, Bound::Excluded);
        Ok(Box::new(partition.range((Bound::Unbounded, high)).rev().map(candidate)))
    }

    /// Returns the entries of an index with the hash key.
    fn index_candidates<'s>(
        &self,
        storage: &'s Storage,
        name: &str,
        is_forward: bool,
    ) -> Result<Box<dyn Iterator<Item = Candidate<'s>> + 's>, TableError> {
        let missing = || TableError::Invalid(format!("no index {name}"));
        let index = storage.indexes.iter().find(|index| index.name == name).ok_or_else(missing)?;
        let Some(entries) = index.entries.get(&self.hash) else { return Ok(Box::new(std::iter::empty())) };
        let start: Option<(i128, Key)> = match &self.request.exclusive_start_key {
            None => None,
            Some(key) => Some((key.get(&index.range).and_then(AttributeValue::as_number).unwrap_or_default(), primary_key(key)?)),
        };
        let candidate = |(_, item): (&'s (i128, Key), &'s Item)| Candidate { item, json: None, bytes: item_size(item) };
        let bound = start.map_or(Bound::Unbounded, Bound::Excluded);
        if is_forward {
            Ok(Box::new(entries.range((bound, Bound::Unbounded)).map(candidate)))
        } else {
            Ok(Box::new(entries.range((Bound::Unbounded, bound)).rev().map(candidate)))
        }
    }
}

/// Returns the text that a key condition requires of the hash key: its first comparison for equality.
fn equal_text(condition: &Condition) -> Option<String> {
    match condition {
        Condition::All(conditions) => conditions.iter().find_map(equal_text),
        Condition::Compare(Operand::Attribute(_), Comparator::Equal, Operand::Value(value)) => value.as_text().map(str::to_owned),
        Condition::Compare(..)
        | Condition::Any(_)
        | Condition::Not(_)
        | Condition::In(..)
        | Condition::Exists(_)
        | Condition::BeginsWith(..)
        | Condition::Contains(..) => None,
    }
}

/// Returns the text of a value.
fn text(operand: &Operand) -> Option<String> {
    if let Operand::Value(value) = operand { value.as_text().map(str::to_owned) } else { None }
}

/// Returns the lowest sort key that a key condition selects, if it tells.
fn sort_start(condition: &Condition) -> Option<String> {
    match condition {
        Condition::All(conditions) => conditions.iter().find_map(sort_start),
        Condition::Compare(Operand::Attribute(_), Comparator::GreaterOrEqual, low) => text(low),
        Condition::Compare(..)
        | Condition::BeginsWith(..)
        | Condition::Any(_)
        | Condition::Not(_)
        | Condition::In(..)
        | Condition::Exists(_)
        | Condition::Contains(..) => sort_prefix(condition),
    }
}

/// Returns the text with which the sort keys of a key condition begin.
fn sort_prefix(condition: &Condition) -> Option<String> {
    match condition {
        Condition::All(conditions) => conditions.iter().find_map(sort_prefix),
        Condition::BeginsWith(_, prefix) => text(prefix),
        Condition::Compare(..)
        | Condition::Any(_)
        | Condition::Not(_)
        | Condition::In(..)
        | Condition::Exists(_)
        | Condition::Contains(..) => None,
    }
}
