//! Checks of `replaceWith`: whether it fits the elements, and whether its values are those of their types.

use super::methods::Selected;
use super::{ConfigLinter, warning};
use crate::definitions::TypeKind;
use crate::deid::config::Replacement;
use crate::deid::element_tree::{ElementTree, NodeId};
use crate::deid::error::{DeidRemark, DeidRemarkCode, Truncated};
use crate::deid::fhirpath::Value;
use crate::deid::plan::TypedElement;
use crate::deid::primitive::JsonForm;
use crate::json::{JsonType, JsonValue};
use crate::semantics::id::is_id;

impl ConfigLinter<'_> {
    /// Returns the remarks about a replacement that does not fit the elements.
    pub(super) fn substitute_remarks(&self, selected: &Selected, replacement: &Replacement) -> Vec<DeidRemark> {
        let fits = |element: &TypedElement| {
            let is_primitive = self.kind(element.definition) == TypeKind::Primitive;
            let is_object = |text: &str| self.replacement_tree(element, text).is_some();
            match replacement {
                Replacement::Empty => true,
                Replacement::Object(text) => !is_primitive && is_object(text),
                Replacement::Text(text) => is_primitive || is_object(text),
            }
        };
        let mut remarks = Vec::new();
        if let Some(element) = selected.iter().find(|element| !fits(element)) {
            let type_name = self.type_name(element.definition);
            let reason = format!("replaceWith does not fit `{}` ({type_name}); resources with it fail", element.name);
            let remedy = "use a string for single values, and an object with the members of the type for elements with members";
            remarks.push(warning(DeidRemarkCode::MayFail, reason, remedy));
        }
        if let Replacement::Text(text) = replacement {
            let is_invalid = |element: &&TypedElement| {
                self.kind(element.definition) == TypeKind::Primitive && !is_valid(self.type_name(element.definition), text)
            };
            if let Some(element) = selected.iter().find(is_invalid) {
                let reason = format!("replaceWith is not a value of `{}` ({})", element.name, self.type_name(element.definition));
                remarks.push(warning(DeidRemarkCode::InvalidResult, reason, "write a value of the type"));
            }
        }
        let value_remark = self.replaced_member_remark(selected, replacement);
        remarks.extend(value_remark.or_else(|| self.empty_member_remark(selected, replacement)));
        remarks
    }

    /// Returns the object of a replacement as an element; `None` if it is none, or has members that the element does not define.
    fn replacement_tree<'t>(&self, element: &TypedElement, text: &'t str) -> Option<ElementTree<'t>> {
        let text = text.trim();
        let is_object = text.starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        is_object.then(|| ElementTree::from_element(JsonValue::from_valid(text), element.definition, self.config.version).ok()).flatten()
    }

    /// Returns the remark about a value inside the object of a replacement that its element does not allow.
    fn replaced_member_remark(&self, selected: &Selected, replacement: &Replacement) -> Option<DeidRemark> {
        let (Replacement::Object(text) | Replacement::Text(text)) = replacement else { return None };
        let complex = selected.iter().filter(|element| self.kind(element.definition) != TypeKind::Primitive);
        let (name, type_name) = complex.filter_map(|element| self.replacement_tree(element, text)).find_map(|tree| {
            let invalid = tree.self_and_descendants(NodeId::ROOT).into_iter().find(|node| has_invalid_value(&tree, *node))?;
            Some((tree.element(invalid), tree.type_name(invalid)))
        })?;
        let reason = format!("replaceWith has a value for `{name}` that is not one of its type ({type_name})");
        Some(warning(DeidRemarkCode::InvalidResult, reason, "write a value of the type"))
    }

    /// Returns the remark about an empty text, object or array inside the object of a replacement.
    fn empty_member_remark(&self, selected: &Selected, replacement: &Replacement) -> Option<DeidRemark> {
        let (Replacement::Object(text) | Replacement::Text(text)) = replacement else { return None };
        let mut complex = selected.iter().filter(|element| self.kind(element.definition) != TypeKind::Primitive);
        complex.find(|element| self.replacement_tree(element, text).is_some())?;
        let name = empty_member(JsonValue::from_valid(text))?;
        let reason = format!("replaceWith has an empty text, object or array for `{}`, and FHIR has no empty elements", Truncated(&name));
        Some(warning(DeidRemarkCode::InvalidResult, reason, "give it a value, or leave it out"))
    }
}

/// Returns true if an element has a value whose form or text its type does not allow.
fn has_invalid_value(tree: &ElementTree<'_>, node: NodeId) -> bool {
    let value = tree.node(node).and_then(|node| node.value.as_deref()).map(JsonValue::from_valid);
    value.zip(tree.primitive(node)).is_some_and(|(value, primitive)| {
        let form = match primitive.json_form() {
            JsonForm::String => JsonType::String,
            JsonForm::Number => JsonType::Number,
            JsonForm::Boolean => JsonType::Boolean,
        };
        value.json_type() != form || !is_valid(primitive.type_name, &value.primitive_text())
    })
}

/// Returns the name of the first member at any depth that is an empty text, object or array, or an array with one.
fn empty_member(object: JsonValue<'_>) -> Option<String> {
    let is_empty = |value: JsonValue<'_>| match value.json_type() {
        JsonType::Object => value.members().next().is_none(),
        JsonType::Array => value.items().next().is_none(),
        JsonType::String => value.text().is_some_and(|text| text.is_empty()),
        JsonType::Number | JsonType::Boolean | JsonType::Null => false,
    };
    object.members().find_map(|(name, value)| {
        let has_empty = is_empty(value) || value.items().any(is_empty);
        if has_empty { Some(name.into_owned()) } else { value.items().find_map(empty_member) }
    })
}

/// Returns true if a text is a value of a primitive type.
pub(super) fn is_valid(type_name: &str, text: &str) -> bool {
    let value = Value::from_primitive(type_name, text.into());
    match type_name {
        "boolean" | "integer" | "positiveInt" | "unsignedInt" | "decimal" | "date" | "dateTime" | "instant" | "time" => {
            let is_in_range = match (type_name, &value) {
                ("positiveInt", Value::Integer(number)) => *number > 0,
                ("unsignedInt", Value::Integer(number)) => *number >= 0,
                _ => true,
            };
            is_in_range && !matches!(value, Value::String(_))
        }
        "id" => is_id(text),
        // FHIR has no empty values.
        _ => !text.is_empty(),
    }
}
