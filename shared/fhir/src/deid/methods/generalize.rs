//! `generalize`: replaces a value by a less precise one that the rule's cases define.

use std::borrow::Cow;

use crate::deid::config::GeneralizeSettings;
use crate::deid::element_tree::{ElementTree, NodeId};
use crate::deid::error::DeidFailureReason;
use crate::deid::fhirpath::{CollectionItem, EvaluationClock, EvaluationContext, Value, evaluate_single, is_not_false};
use crate::deid::json_string::to_json_string;
use crate::deid::primitive::{JsonForm, PrimitiveContext};

/// The result of generalizing a value.
pub(in crate::deid) enum GeneralizedValue {
    /// The value is unchanged.
    Kept,
    /// The value is removed.
    Removed,
    /// The JSON of the new value.
    Mapped(String),
}

/// Applies the first case whose condition is not false.
///
/// A case also applies if its condition is unknown, such as the comparison of a year with a day. `element` is needed if the cases
/// use elements other than the value. Fails if a condition or a
/// value cannot be evaluated.
pub(in crate::deid) fn generalize(
    primitive: PrimitiveContext,
    value: &str,
    settings: &GeneralizeSettings,
    clock: EvaluationClock,
    element: Option<(&ElementTree<'_>, NodeId)>,
) -> Result<GeneralizedValue, DeidFailureReason> {
    // Cases that use only the value give the same result with and without a tree.
    let element = element.filter(|_| settings.navigates);
    let (tree, resource) = element.map(|(tree, node)| (tree, tree.resource_of(node))).unzip();
    let context = EvaluationContext { tree, resource, clock };
    let this = match element {
        Some((_, node)) => CollectionItem::Node(node),
        None => CollectionItem::Value(Value::from_primitive(primitive.type_name, Cow::Borrowed(value))),
    };
    for (condition, target) in &settings.cases {
        if is_not_false(context, condition, &this)? {
            let mapped = evaluate_single(context, target, &this)?;
            let to_mapped = |mapped| GeneralizedValue::Mapped(to_json(primitive.json_form(), mapped));
            return Ok(mapped.map_or(GeneralizedValue::Removed, to_mapped));
        }
    }
    Ok(if settings.keeps_other_values { GeneralizedValue::Kept } else { GeneralizedValue::Removed })
}

/// Returns a value as JSON: without quotes only if the element's JSON form matches the value's type.
fn to_json(form: JsonForm, value: Value<'_>) -> String {
    let is_unquoted = match (&value, form) {
        (Value::Boolean(_), JsonForm::Boolean) | (Value::Integer(_) | Value::Decimal(_), JsonForm::Number) => true,
        (Value::Boolean(_) | Value::Integer(_) | Value::Decimal(_) | Value::String(_) | Value::DateTime(..) | Value::Quantity(_), _) => {
            false
        }
    };
    let text = value.into_text();
    if is_unquoted { text.into_owned() } else { to_json_string(&text) }
}
