//! Equality, equivalence, membership and duplicates.

use std::collections::HashSet;

use super::super::compare::{values_equal, values_equivalent};
use super::{Collection, CollectionItem, EvalResult, EvaluationError, Evaluator, Value};

impl<'t> Evaluator<'_, 't> {
    /// Evaluates `=`; `None` if an operand is empty or the result is unknown.
    pub(super) fn equal(&self, left: &[CollectionItem<'t>], right: &[CollectionItem<'t>]) -> Option<bool> {
        if left.is_empty() || right.is_empty() { None } else { self.all_equal(left, right) }
    }

    /// Compares two collections item by item. The first pair that is not equal determines the result.
    fn all_equal(&self, left: &[CollectionItem<'t>], right: &[CollectionItem<'t>]) -> Option<bool> {
        let mut pairs = left.iter().zip(right).map(|(left, right)| self.items_equal(left, right));
        pairs.find(|equal| *equal != Some(true)).unwrap_or(Some(left.len() == right.len()))
    }

    /// Compares two items; `None` if two dates have different precision. Elements without values are equal if their children are.
    pub(super) fn items_equal(&self, left: &CollectionItem<'t>, right: &CollectionItem<'t>) -> Option<bool> {
        match (self.value_or_quantity(left), self.value_or_quantity(right)) {
            (Some(left), Some(right)) => values_equal(&left, &right),
            (None, None) => self.members_equal(left, right),
            (Some(_), None) | (None, Some(_)) => Some(false),
        }
    }

    /// Compares the children of two elements by their names and contents.
    fn members_equal(&self, left: &CollectionItem<'t>, right: &CollectionItem<'t>) -> Option<bool> {
        let (left, right) = (self.members(left), self.members(right));
        if self.names(&left).eq(self.names(&right)) { self.all_equal(&left, &right) } else { Some(false) }
    }

    /// Evaluates `~`: each item on the left has an equivalent one on the right, in any order, and there are as many. Never unknown.
    ///
    /// `compares_names`: the items are members of elements, which must have the same names.
    pub(super) fn equivalent(&self, left: &[CollectionItem<'t>], right: &[CollectionItem<'t>], compares_names: bool) -> bool {
        let is_equivalent = |left: &CollectionItem<'t>, right: &CollectionItem<'t>| {
            let names = [left, right].map(|item| self.names(std::slice::from_ref(item)).next());
            match (self.value_or_quantity(left), self.value_or_quantity(right)) {
                _ if compares_names && names[0] != names[1] => false,
                (Some(left), Some(right)) => values_equivalent(&left, &right),
                (None, None) => self.equivalent(&self.members(left), &self.members(right), true),
                (Some(_), None) | (None, Some(_)) => false,
            }
        };
        left.len() == right.len() && left.iter().all(|left| right.iter().any(|right| is_equivalent(left, right)))
    }

    /// Evaluates `in`: false if there is no item on the left. Fails for several.
    pub(super) fn membership(&self, item: &[CollectionItem<'t>], items: &[CollectionItem<'t>]) -> EvalResult<bool> {
        match item {
            [] => Ok(false),
            [item] => Ok(self.contains(items, item)),
            _ => Err(EvaluationError::MultipleValues),
        }
    }

    /// Returns true if a collection has an equal item.
    pub(super) fn contains(&self, items: &[CollectionItem<'t>], item: &CollectionItem<'t>) -> bool {
        items.iter().any(|other| self.items_equal(item, other) == Some(true))
    }

    /// Removes duplicates: of equal items, or of the same elements if elements are selected for a rule.
    pub(super) fn distinct(&self, items: impl Iterator<Item = CollectionItem<'t>>) -> Collection<'t> {
        let mut nodes = HashSet::new();
        let mut distinct = Collection::new();
        for item in items {
            let is_new = match &item {
                CollectionItem::Node(node) if self.selects_elements => nodes.insert(*node),
                CollectionItem::Node(_) | CollectionItem::Value(_) => !self.has_duplicate(&distinct, &item),
            };
            if is_new {
                distinct.push(item);
            }
        }
        distinct
    }

    /// Returns true if a collection has a duplicate of an item. An integer is not a duplicate of a decimal, nor an element of one
    /// with other members, although they can be equal: the FHIRPath engine of Microsoft's tool looks duplicates up by a hash.
    pub(super) fn has_duplicate(&self, items: &[CollectionItem<'t>], item: &CollectionItem<'t>) -> bool {
        let is_integer = |item: &CollectionItem<'t>| matches!(self.value(item), Some(Value::Integer(_)));
        let members = self.members(item);
        items.iter().any(|other| {
            self.items_equal(item, other) == Some(true)
                && is_integer(item) == is_integer(other)
                && self.names(&members).eq(self.names(&self.members(other)))
        })
    }

    /// Returns the children of an item.
    fn members(&self, item: &CollectionItem<'t>) -> Collection<'t> {
        self.matching_children(std::slice::from_ref(item), |_, _| true)
    }

    /// Iterates over the names of elements; the name of a value is empty.
    fn names(&self, items: &[CollectionItem<'t>]) -> impl Iterator<Item = &'static str> {
        items.iter().map(|item| match item {
            CollectionItem::Node(node) => self.element(*node),
            CollectionItem::Value(_) => "",
        })
    }
}
