//! Results of expressions: elements, and kinds of values.

use std::collections::BTreeSet;

use crate::deid::fhirpath::Value;
use crate::deid::plan::TypedElement;

/// The items that an expression can yield, as far as the definitions of FHIR tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Items {
    pub(super) elements: Vec<TypedElement>,
    pub(super) values: BTreeSet<ValueKind>,
    /// True if the items can also be others.
    pub(super) is_open: bool,
    /// True if a resource can have several of the items.
    pub(super) is_many: bool,
}

/// The kinds of values that operators compare with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ValueKind {
    Boolean,
    Number,
    Text,
    Date,
    Time,
    Complex,
}

impl ValueKind {
    /// Returns expressions with a value of each type of the kind.
    pub(super) const fn samples(self) -> &'static [&'static str] {
        match self {
            Self::Boolean => &["true"],
            Self::Number => &["1", "1.5", "1 'kg'", "1 day"],
            Self::Text => &["'a'"],
            Self::Date => &["@2020-01-01", "@2020-01-01T08:00:00Z"],
            Self::Time => &["@T08:00"],
            Self::Complex => &[],
        }
    }

    /// Describes the kind in remarks.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Date => "a date",
            Self::Time => "a time",
            Self::Complex => "an element with members",
        }
    }
}

impl Items {
    /// Creates items about which nothing is known.
    pub(super) fn open() -> Self {
        Self { is_open: true, ..Self::default() }
    }

    /// Creates items with one kind of value.
    pub(super) fn of_kind(kind: ValueKind) -> Self {
        Self { values: BTreeSet::from([kind]), ..Self::default() }
    }

    /// Creates items with these elements.
    pub(super) fn of_elements(elements: impl IntoIterator<Item = TypedElement>) -> Self {
        let mut items = Self::default();
        for element in elements {
            if items.elements.iter().all(|known| (known.definition, known.name) != (element.definition, element.name)) {
                items.elements.push(element);
            }
        }
        items
    }

    /// Returns these items and others.
    pub(super) fn and(self, other: Self) -> Self {
        let mut items = Self::of_elements(self.elements.into_iter().chain(other.elements));
        items.values = self.values.into_iter().chain(other.values).collect();
        items.is_open = self.is_open || other.is_open;
        items.is_many = self.is_many || other.is_many;
        items
    }

    /// Returns these items, of which there is one at most.
    pub(super) fn single(self) -> Self {
        Self { is_many: false, ..self }
    }

    /// Returns these items, of which there can be several.
    pub(super) fn several(self) -> Self {
        Self { is_many: true, ..self }
    }

    /// Returns true if nothing is known of the items, or that there are none, so that nothing can be said about what uses them.
    pub(super) fn is_unknown(&self) -> bool {
        self.is_open || (self.elements.is_empty() && self.values.is_empty())
    }
}

/// Returns the kind of a literal.
pub(super) fn kind_of_value(value: &Value<'_>) -> ValueKind {
    match value {
        Value::Boolean(_) => ValueKind::Boolean,
        Value::Integer(_) | Value::Decimal(_) | Value::Quantity(_) => ValueKind::Number,
        Value::String(_) => ValueKind::Text,
        Value::DateTime(date_time, _) if date_time.is_time() => ValueKind::Time,
        Value::DateTime(..) => ValueKind::Date,
    }
}
