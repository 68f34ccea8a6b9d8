//! `generalize`: values mapped to wider ones by cases.

use std::borrow::Cow;

use time::Date;

use super::fhirpath::{Item, Scene, Unanswered, Value, holds, single_value};
use super::leaf::{Form, Leaf};
use super::method::Generalize;
use super::text::quote;

/// What becomes of a value.
pub(super) enum Generalized {
    /// It stays.
    Kept,
    /// It goes.
    Removed,
    /// This, in JSON.
    Mapped(String),
}

/// The first case that holds decides. A case holds unless its condition is false: what cannot be told apart, such as a
/// year that a condition compares with a day, is taken by the case.
pub(super) fn generalize(leaf: Leaf, value: &str, how: &Generalize, today: Date) -> Result<Generalized, Unanswered> {
    let scene = Scene { tree: None, today };
    let this = Item::Value(Value::of(leaf.type_name, Cow::Borrowed(value)));
    for (condition, target) in &how.cases {
        if holds(scene, condition, &this)? {
            let mapped = single_value(scene, target, &this)?;
            return Ok(mapped.map_or(Generalized::Removed, |mapped| Generalized::Mapped(json(leaf.form(), mapped))));
        }
    }
    Ok(if how.keeps_others { Generalized::Kept } else { Generalized::Removed })
}

/// A value as JSON has it in an element of this form.
fn json(form: Form, value: Value<'_>) -> String {
    let is_plain = match (&value, form) {
        (Value::Bool(_), Form::Bool) | (Value::Integer(_) | Value::Decimal(_), Form::Number) => true,
        (Value::Bool(_) | Value::Integer(_) | Value::Decimal(_) | Value::Text(_) | Value::Moment(..), _) => false,
    };
    let text = value.text();
    if is_plain { text.into_owned() } else { quote(&text) }
}
