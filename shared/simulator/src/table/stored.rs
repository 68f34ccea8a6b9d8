//! The stored items, by primary key, and the entries of indexes.

use std::collections::{BTreeMap, HashMap};

use super::capacity::write_units;
use super::error::TableError;
use super::item::{AttributeValue, Item, item_size};
use super::request::CreateTable;

/// The primary key of an item: partition key and sort key.
pub(super) type Key = (String, String);

/// An item with what is computed from it once.
#[derive(Clone, Debug)]
pub(super) struct StoredItem {
    pub(super) item: Item,
    /// The item in DynamoDB's JSON.
    pub(super) json: String,
    /// The size of the item that DynamoDB charges for.
    pub(super) bytes: usize,
}

/// The items and indexes of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Storage {
    pub(super) partitions: HashMap<String, BTreeMap<String, StoredItem>>,
    pub(super) indexes: Vec<Index>,
}

/// An index of keys only.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) name: String,
    hash: String,
    pub(super) range: String,
    /// The entries by hash key, and then by range key and primary key.
    pub(super) entries: HashMap<String, BTreeMap<(i128, Key), Item>>,
}

/// An entry of an index.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct IndexEntry {
    pub(super) hash: String,
    range: i128,
    item: Item,
}

/// Returns the primary key of an item.
pub(super) fn primary_key(item: &Item) -> Result<Key, TableError> {
    let text = |name: &str| item.get(name).and_then(AttributeValue::as_text).map(str::to_owned);
    text("pk").zip(text("sk")).ok_or_else(|| TableError::Invalid("the primary key is missing".to_owned()))
}

impl Storage {
    /// Creates the indexes of the table.
    pub(super) fn create(&mut self, request: CreateTable) -> Result<(), TableError> {
        for index in request.global_secondary_indexes {
            let mut names = index.key_schema.into_iter().map(|element| element.attribute_name);
            let keys = names.next().zip(names.next()).ok_or_else(|| TableError::Invalid("an index needs two keys".to_owned()))?;
            self.indexes.push(Index { name: index.index_name, hash: keys.0, range: keys.1, entries: HashMap::new() });
        }
        Ok(())
    }

    /// Returns an item.
    pub(super) fn get(&self, key: &Key) -> Option<&StoredItem> {
        self.partitions.get(&key.0)?.get(&key.1)
    }

    /// Replaces, creates or removes an item, and updates the indexes.
    pub(super) fn replace(&mut self, key: &Key, new: Option<Item>) {
        let old = self.partitions.get_mut(&key.0).and_then(|partition| partition.remove(&key.1));
        for index in &mut self.indexes {
            index.replace(key, old.as_ref().map(|old| &old.item), new.as_ref());
        }
        if let Some(item) = new {
            let json = serde_json::to_string(&item).unwrap_or_default();
            let stored = StoredItem { bytes: item_size(&item), json, item };
            self.partitions.entry(key.0.clone()).or_default().insert(key.1.clone(), stored);
        }
    }
}

impl Index {
    /// Returns the entry of an item. `None` if the item lacks a key of the index.
    pub(super) fn entry(&self, item: &Item) -> Option<IndexEntry> {
        let hash = item.get(&self.hash)?.as_text()?.to_owned();
        let range = item.get(&self.range)?.as_number()?;
        let names = ["pk", "sk", self.hash.as_str(), self.range.as_str()];
        let keys = names.into_iter().filter_map(|name| Some((name.to_owned(), item.get(name)?.clone())));
        Some(IndexEntry { hash, range, item: keys.collect() })
    }

    /// Replaces the entry of an item.
    fn replace(&mut self, key: &Key, old: Option<&Item>, new: Option<&Item>) {
        let (old, new) = (old.and_then(|item| self.entry(item)), new.and_then(|item| self.entry(item)));
        if old == new {
            return;
        }
        if let Some(old) = old
            && let Some(entries) = self.entries.get_mut(&old.hash)
        {
            entries.remove(&(old.range, key.clone()));
        }
        if let Some(new) = new {
            self.entries.entry(new.hash).or_default().insert((new.range, key.clone()), new.item);
        }
    }

    /// Returns the write units by hash key that a change of an item costs: one write for an entry that appears or disappears, two for
    /// one that moves.
    pub(super) fn write_units(&self, old: Option<&Item>, new: Option<&Item>) -> Vec<(String, f64)> {
        let (old, new) = (old.and_then(|item| self.entry(item)), new.and_then(|item| self.entry(item)));
        if old == new {
            return Vec::new();
        }
        let units = |entry: IndexEntry| (entry.hash, write_units(None, Some(item_size(&entry.item))));
        [old, new].into_iter().flatten().map(units).collect()
    }
}
