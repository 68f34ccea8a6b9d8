//! Writes: their conditions, their effects and the capacity that they consume.

use super::capacity::{Consumed, write_units};
use super::error::TableError;
use super::expression::{Condition, Placeholders, Update};
use super::item::{AttributeValue, Item, item_size};
use super::request::WriteRequest;
use super::stored::{Key, Storage, primary_key};

/// A write of one item.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) key: Key,
    action: Action,
    condition: Option<Condition>,
    returned: Returned,
}

/// The change of an item.
#[derive(Debug)]
enum Action {
    Put(Item),
    Update(Item, Update),
    Delete,
    Check,
}

/// The attributes that a single write returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returned {
    Nothing,
    AllOld,
    AllNew,
    UpdatedOld,
    UpdatedNew,
}

/// The effect of a write whose condition holds.
#[derive(Debug)]
pub(super) struct Effect {
    pub(super) key: Key,
    /// The item after the write. `None` if there is none.
    new: Option<Item>,
    /// True if the write changes nothing, because it is a check.
    is_check: bool,
    /// The attributes to return.
    pub(super) attributes: Option<Item>,
    /// The write units of the table.
    pub(super) table_units: f64,
    /// The capacity of indexes.
    pub(super) index_units: Consumed,
}

impl Write {
    /// Parses a write.
    pub(super) fn parse(request: WriteRequest) -> Result<Self, TableError> {
        let placeholders = Placeholders { names: &request.expression_attribute_names, values: &request.expression_attribute_values };
        let condition = request.condition_expression.as_deref().map(|text| Condition::parse(text, placeholders)).transpose()?;
        let update = request.update_expression.as_deref().map(|text| Update::parse(text, placeholders)).transpose()?;
        let returned = Returned::parse(request.return_values.as_deref())?;
        let (key, action) = match (request.item, request.key, update) {
            (Some(item), ..) => (primary_key(&item)?, Action::Put(item)),
            (None, Some(key), Some(update)) => (primary_key(&key)?, Action::Update(key, update)),
            (None, Some(key), None) if request.is_check => (primary_key(&key)?, Action::Check),
            (None, Some(key), None) => (primary_key(&key)?, Action::Delete),
            (None, None, _) => return Err(TableError::Invalid("a write without a key".to_owned())),
        };
        Ok(Self { key, action, condition, returned })
    }

    /// Returns the effect of the write. `None` if its condition does not hold.
    pub(super) fn effect(&self, storage: &Storage) -> Result<Option<Effect>, TableError> {
        let empty = Item::new();
        let old = storage.get(&self.key);
        let before = old.map_or(&empty, |stored| &stored.item);
        if self.condition.as_ref().is_some_and(|condition| !condition.holds(before)) {
            return Ok(None);
        }
        let new = match &self.action {
            Action::Put(item) => Some(item.clone()),
            Action::Update(key, update) => Some(update.apply(if old.is_some() { before } else { key })?),
            Action::Delete => None,
            Action::Check => old.map(|stored| stored.item.clone()),
        };
        let old_item = old.map(|stored| &stored.item);
        let mut index_units = Consumed::default();
        for (hash, units) in storage.indexes.iter().flat_map(|index| index.write_units(old_item, new.as_ref())) {
            index_units.add_writes(&hash, units);
        }
        Ok(Some(Effect {
            key: self.key.clone(),
            attributes: self.attributes(old_item, new.as_ref()),
            table_units: write_units(old.map(|stored| stored.bytes), new.as_ref().map(item_size)),
            index_units,
            new,
            is_check: matches!(self.action, Action::Check),
        }))
    }

    /// Returns the attributes that the caller wants back.
    fn attributes(&self, old: Option<&Item>, new: Option<&Item>) -> Option<Item> {
        let updated = |item: Option<&Item>| {
            let Action::Update(_, update) = &self.action else { return None };
            let pair = |name: &str| Some((name.to_owned(), item?.get(name)?.clone()));
            Some(update.names().filter_map(pair).collect::<std::collections::BTreeMap<String, AttributeValue>>())
        };
        match self.returned {
            Returned::Nothing => None,
            Returned::AllOld => old.cloned(),
            Returned::AllNew => new.cloned(),
            Returned::UpdatedOld => updated(old),
            Returned::UpdatedNew => updated(new),
        }
    }
}

impl Returned {
    /// Parses `ReturnValues`.
    fn parse(text: Option<&str>) -> Result<Self, TableError> {
        match text {
            None | Some("NONE") => Ok(Self::Nothing),
            Some("ALL_OLD") => Ok(Self::AllOld),
            Some("ALL_NEW") => Ok(Self::AllNew),
            Some("UPDATED_OLD") => Ok(Self::UpdatedOld),
            Some("UPDATED_NEW") => Ok(Self::UpdatedNew),
            Some(other) => Err(TableError::Invalid(format!("ReturnValues {other}"))),
        }
    }
}

impl Effect {
    /// Applies the effect.
    pub(super) fn apply(self, storage: &mut Storage) {
        if !self.is_check {
            storage.replace(&self.key, self.new);
        }
    }
}
