//! Checks of methods: whether they can change the elements that a rule selects, and what they leave to be read.

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::constants::{ConstantResult, constant_result};
use super::{ConfigLinter, TypeAutomata, error, warning};
use crate::definitions::{TypeDefinition, TypeKind};
use crate::deid::config::{GeneralizeSettings, Method, PerturbSettings, Replacement, Rule};
use crate::deid::element_tree::{ElementTree, NodeId};
use crate::deid::error::{DeidRemark, DeidRemarkCode, Truncated};
use crate::deid::fhirpath::{Expr, Value};
use crate::deid::plan::{State, Transition, TypedElement};
use crate::deid::primitive::{JsonForm, PrimitiveContext, is_quantity_type};
use crate::json::{JsonType, JsonValue};
use crate::semantics::id::is_id;

/// The elements of all resource types that a rule selects, by type and name.
type Selected = Vec<TypedElement>;

impl ConfigLinter<'_> {
    /// Returns the remarks about a rule's method.
    pub(super) fn method_remarks(&self, rule: &Rule) -> Vec<DeidRemark> {
        let selected = self.selected_elements(rule);
        if selected.is_empty() {
            return Vec::new();
        }
        match &rule.method {
            Method::Keep | Method::Redact | Method::Drop | Method::Unknown => Vec::new(),
            Method::DateShift => self.acting_remarks(rule, &selected, "dateShift", "dates").into_iter().collect(),
            Method::Perturb(settings) if settings.span.is_zero() => {
                let reason = "a span of 0 changes nothing, and the rule protects the elements from later rules";
                vec![error(DeidRemarkCode::CannotAct, reason, "set a span above 0, or use keep")]
            }
            Method::Perturb(settings) => {
                let remark = self.narrow_span_remark(&selected, settings);
                remark.or_else(|| self.acting_remarks(rule, &selected, "perturb", "numbers")).into_iter().collect()
            }
            Method::CryptoHash => self.written_text_remark(&selected, "cryptoHash", false).into_iter().collect(),
            Method::Encrypt => self.written_text_remark(&selected, "encrypt", true).into_iter().collect(),
            Method::Substitute(replacement) => self.substitute_remarks(&selected, replacement),
            Method::Generalize(settings) if leaves_values(settings) => {
                let reason = "no case changes a value, and the rule protects the elements from later rules";
                vec![error(DeidRemarkCode::CannotAct, reason, "add a case with a new value, or use keep")]
            }
            Method::Generalize(settings) => {
                let complex = selected.iter().find(|element| self.kind(element.definition) != TypeKind::Primitive);
                let remark = complex.map(|element| {
                    let reason = format!(
                        "generalize applies to single values, and `{}` ({}) has members; resources with it fail",
                        element.name,
                        self.type_name(element.definition)
                    );
                    warning(DeidRemarkCode::MayFail, reason, "extend the path to the values inside the element")
                });
                let remark = remark.or_else(|| self.extended_value_remark(rule));
                remark.into_iter().chain(self.generalized_value_remark(&selected, settings)).collect()
            }
        }
    }

    /// Returns the remark about values whose extensions `generalize` would apply to. It fails on them, because they have members.
    fn extended_value_remark(&self, rule: &Rule) -> Option<DeidRemark> {
        let index = self.config.rules.iter().position(|other| other.number == rule.number)?;
        let automata = self.worst_case(|other| other.number == rule.number)?;
        let automaton = &automata.0;
        let is_own = |state: &State| state.applied_rule.is_some_and(|applied| applied.index == index);
        let extension = |state: &State| automaton.get(state.members.get("extension")?.next_state);
        let mut values = automaton.iter().filter(|state| state.primitive.is_some() && is_own(state));
        values.find(|state| extension(state).is_some_and(is_own)).map(|_| {
            let reason = "generalize applies to single values, and a selected value can have extensions; resources with one fail";
            warning(DeidRemarkCode::MayFail, reason, "redact nodesByType('Extension') before this rule")
        })
    }

    /// Returns the remark about a literal in the cases that is not a value of a selected element.
    fn generalized_value_remark(&self, selected: &Selected, settings: &GeneralizeSettings) -> Option<DeidRemark> {
        let literals = settings.cases.iter().filter_map(|(_, value)| {
            let Expr::Literal(value) = value else { return None };
            Some(value.clone().into_text())
        });
        let is_invalid = |element: &TypedElement, text: &str| {
            self.kind(element.definition) == TypeKind::Primitive && !is_valid(self.type_name(element.definition), text)
        };
        let mut invalid =
            literals.filter_map(|text| selected.iter().find(|element| is_invalid(element, &text)).map(|element| (element, text)));
        invalid.next().map(|(element, text)| {
            let type_name = self.type_name(element.definition);
            let reason = format!("a case writes `{}`, which is not a value of `{}` ({type_name})", Truncated(&text), element.name);
            warning(DeidRemarkCode::InvalidResult, reason, "write a value of the type")
        })
    }

    /// Returns the elements that a rule selects in any resource type.
    pub(super) fn selected_elements(&self, rule: &Rule) -> Selected {
        let mut seen = HashSet::new();
        self.reachable_elements(rule).elements.into_iter().filter(|element| seen.insert((element.definition, element.name))).collect()
    }

    /// Returns the remark about elements that `dateShift` or `perturb` cannot change.
    fn acting_remarks(&self, rule: &Rule, selected: &Selected, name: &str, changed: &str) -> Option<DeidRemark> {
        let acts = |definition: TypeDefinition| self.changes_type(&rule.method, definition);
        if !selected.iter().any(|element| self.has_element(element.definition, &|definition| acts(definition))) {
            let names: BTreeSet<String> =
                selected.iter().map(|element| format!("`{}` ({})", element.name, self.type_name(element.definition))).collect();
            let names: Vec<String> = names.into_iter().take(3).collect();
            let reason = format!(
                "{name} changes only {changed}: it does nothing to {}, and protects the elements from every later rule",
                names.join(", ")
            );
            return Some(error(DeidRemarkCode::CannotAct, reason, "use a method for the type, such as redact or cryptoHash"));
        }
        let is_left = |definition: TypeDefinition| !acts(definition) && is_free_text(self.type_name(definition));
        // The unit is the only text of a quantity.
        let left = selected.iter().find(|element| {
            let is_measure = matches!(self.type_name(element.definition), "Timing" | "Range" | "Ratio" | "Dosage");
            !is_measure && !is_quantity_type(self.type_name(element.definition)) && self.has_element(element.definition, &is_left)
        })?;
        let type_name = self.type_name(left.definition);
        let reason = format!(
            "{name} changes only {changed}: it leaves the text in `{}` ({type_name}) unchanged, and protects it from every later rule",
            left.name
        );
        let remedy = if name == "perturb" { "name the types of numbers: `… as Quantity`" } else { "name the dates inside the element" };
        Some(error(DeidRemarkCode::PartlyActs, reason, remedy))
    }

    /// Returns the remark about numbers that a span is too narrow to move. An error also if only some of the selected numbers stay.
    fn narrow_span_remark(&self, selected: &Selected, settings: &PerturbSettings) -> Option<DeidRemark> {
        let is_number = |definition: TypeDefinition| {
            self.kind(definition) == TypeKind::Primitive && PrimitiveContext::new(self.type_name(definition), "", "").is_number()
        };
        let moves = |definition: TypeDefinition| is_number(definition) && settings.can_move(self.type_name(definition));
        let stays = |definition: TypeDefinition| is_number(definition) && !settings.can_move(self.type_name(definition));
        let is_any_moved = selected.iter().any(|element| self.has_element(element.definition, &moves));
        let staying = selected.iter().find(|element| stays(element.definition));
        let staying = if is_any_moved { staying? } else { selected.iter().find(|element| self.has_element(element.definition, &stays))? };
        let reason = format!(
            "a span of {} does not change `{}` ({}), and the rule protects it from later rules: a number moves by at most half of the span, \
             and is then rounded",
            settings.span.normalize(),
            staying.name,
            self.type_name(staying.definition)
        );
        let code = if is_any_moved { DeidRemarkCode::PartlyActs } else { DeidRemarkCode::CannotAct };
        Some(error(code, reason, "set a span above 1 for integers, and above the last place of roundTo for decimals"))
    }

    /// Returns true if `dateShift` or `perturb` changes values of a type.
    fn changes_type(&self, method: &Method, definition: TypeDefinition) -> bool {
        let primitive = PrimitiveContext::new(self.type_name(definition), "", "");
        let is_primitive = self.kind(definition) == TypeKind::Primitive;
        match method {
            Method::DateShift => is_primitive && primitive.is_date(),
            Method::Perturb(settings) => is_primitive && primitive.is_number() && settings.can_move(self.type_name(definition)),
            Method::Keep
            | Method::Redact
            | Method::Drop
            | Method::CryptoHash
            | Method::Encrypt
            | Method::Substitute(_)
            | Method::Generalize(_)
            | Method::Unknown => true,
        }
    }

    /// Returns true if `predicate` is true for a type or for that of an element inside it. Ids, extensions, nested resources and the
    /// members of codes and references are left out: what they contain does not tell whether a rule fits the element.
    fn has_element(&self, definition: TypeDefinition, predicate: &dyn Fn(TypeDefinition) -> bool) -> bool {
        let mut visited = HashSet::new();
        let mut open = vec![definition];
        while let Some(definition) = open.pop() {
            if predicate(definition) {
                return true;
            }
            let is_coded = matches!(self.type_name(definition), "CodeableConcept" | "Coding" | "Reference" | "Meta");
            if !visited.insert(definition) || is_coded {
                continue;
            }
            let members = self.resolver.loaded_type(definition).into_iter().flat_map(|loaded| &loaded.members);
            let is_content = |element: &str| !matches!(element, "id" | "extension" | "modifierExtension");
            open.extend(members.filter(|member| !member.is_resource && is_content(member.element)).map(|member| member.definition));
        }
        false
    }

    /// Returns the remark about hashes and ciphertexts in elements whose type does not allow them.
    fn written_text_remark(&self, selected: &Selected, name: &str, forbids_ids: bool) -> Option<DeidRemark> {
        let cannot_hold = |definition: TypeDefinition| {
            let type_name = self.type_name(definition);
            matches!(
                type_name,
                "boolean" | "integer" | "decimal" | "positiveInt" | "unsignedInt" | "date" | "dateTime" | "instant" | "time"
            ) || (forbids_ids && type_name == "id")
        };
        let element = selected.iter().find(|element| self.has_element(element.definition, &cannot_hold))?;
        let reason = format!(
            "{name} writes text where the type of `{}` ({}), or of an element inside it, allows none; the result is not valid FHIR",
            element.name,
            self.type_name(element.definition)
        );
        Some(warning(DeidRemarkCode::InvalidResult, reason, "name the texts inside the element, and redact the rest"))
    }

    /// Returns the remarks about a replacement that does not fit the elements.
    fn substitute_remarks(&self, selected: &Selected, replacement: &Replacement) -> Vec<DeidRemark> {
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

    /// Returns the elements that a method leaves unchanged and protects from a later rule that would change them.
    pub(super) fn shielding_remarks(&self) -> Vec<DeidRemark> {
        let mut remarks = Vec::new();
        let kinds: [fn(&Method) -> bool; 2] = [|method| matches!(method, Method::DateShift), |method| matches!(method, Method::Perturb(_))];
        for is_shielding in kinds {
            if !self.config.rules.iter().any(|rule| is_shielding(&rule.method)) {
                continue;
            }
            let Some((with, without)) = self.shielding_automata(is_shielding) else { continue };
            for shielded in self.shielded_elements(&with, &without) {
                if let (Some(rule), Some(later)) = (self.config.rules.get(shielded.rule), self.config.rules.get(shielded.later)) {
                    let reason = format!(
                        "{} leaves `{}` unchanged and protects it from rule {} (`{}`)",
                        rule.method_name, shielded.path, later.number, later.path
                    );
                    let remedy = format!("move rule {} before this rule, or name only what {} can change", later.number, rule.method_name);
                    remarks.push(error(DeidRemarkCode::Shields, reason, remedy).of_rule(rule.number, &rule.path));
                }
            }
        }
        remarks
    }

    /// Compiles the rules of all types with and without the rules of one method.
    fn shielding_automata(&self, is_shielding: fn(&Method) -> bool) -> Option<(TypeAutomata, TypeAutomata)> {
        let mut with = self.rules.clone();
        let mut without = self.rules.clone();
        for ((rule, other), original) in with.iter_mut().zip(without.iter_mut()).zip(&self.config.rules) {
            if is_shielding(&original.method) {
                rule.method = original.method.clone();
                other.selection.paths.clear();
            } else if !original.selection.is_exact {
                // A condition hides no rule in resources where it is false.
                rule.selection.paths.clear();
            }
        }
        self.type_automata(&with, |_| true).zip(self.type_automata(&without, |_| true))
    }

    /// Walks both automata together and returns the first element that each rule leaves unchanged although a later one selects it.
    fn shielded_elements(&self, (with, types): &TypeAutomata, (without, other_types): &TypeAutomata) -> Vec<ShieldedElement> {
        let mut found: Vec<ShieldedElement> = Vec::new();
        let roots = types.iter().zip(other_types).map(|((root, left), (_, right))| (*left, *right, None, self.type_name(*root).to_owned()));
        // Breadth first: the first path to an element is a short one.
        let mut open: VecDeque<_> = roots.collect();
        let mut visited: HashSet<_> = open.iter().map(|(left, right, ..)| (*left, *right)).collect();
        while let Some((left, right, parent_later, path)) = open.pop_front() {
            let (Some(shielding), Some(other)) = (with.get(left), without.get(right)) else { continue };
            if let (Some(applied), Some(later), Some(primitive)) = (shielding.applied_rule, other.applied_rule, shielding.primitive) {
                let changes = |index: usize, leaves_unchanged: bool| match self.config.rules.get(index).map(|rule| &rule.method) {
                    Some(Method::Keep) | None => false,
                    Some(Method::DateShift) => primitive.is_date(),
                    Some(Method::Perturb(settings)) => primitive.is_number() && settings.can_move(primitive.type_name) && !leaves_unchanged,
                    Some(
                        Method::Redact
                        | Method::Drop
                        | Method::CryptoHash
                        | Method::Encrypt
                        | Method::Substitute(_)
                        | Method::Generalize(_)
                        | Method::Unknown,
                    ) => true,
                };
                let acts_never = !changes(applied.index, applied.leaves_unchanged);
                let is_shielding = self.config.rules.get(applied.index).is_some_and(|rule| !matches!(rule.method, Method::Keep));
                let is_first = found.iter().all(|shielded| shielded.rule != applied.index);
                // That the unit of a quantity stays beside its perturbed value is meant, unless a later rule names the unit.
                let is_meant = applied.leaves_unchanged && parent_later == Some(later.index);
                if is_shielding && acts_never && is_first && !is_meant && later.index > applied.index && changes(later.index, false) {
                    found.push(ShieldedElement { rule: applied.index, later: later.index, path: path.clone() });
                }
            }
            // Rules are not written for the id of a value.
            let is_id_of_value = |transition: &Transition| shielding.primitive.is_some() && transition.name == "id";
            let is_content = |transition: &&Transition| !transition.is_resource && !is_id_of_value(transition);
            let later = other.applied_rule.map(|applied| applied.index);
            for transition in shielding.members.iter().filter(is_content) {
                let Some(right) = other.members.get(transition.name) else { continue };
                if visited.insert((transition.next_state, right.next_state)) {
                    open.push_back((transition.next_state, right.next_state, later, format!("{path}.{}", transition.name)));
                }
            }
        }
        found
    }

    /// Returns the kind of a type.
    pub(super) fn kind(&self, definition: TypeDefinition) -> TypeKind {
        self.config.version.type_definitions().kind(definition)
    }

    /// Returns the name of a type.
    pub(in crate::deid) fn type_name(&self, definition: TypeDefinition) -> &'static str {
        self.config.version.type_definitions().name(definition)
    }
}

/// An element that a rule leaves unchanged although a later rule would change it.
struct ShieldedElement {
    /// The index of the rule that applies.
    rule: usize,
    /// The index of the rule that would apply without it.
    later: usize,
    path: String,
}

/// Returns true for the types of texts that people write.
pub(in crate::deid) fn is_free_text(type_name: &str) -> bool {
    matches!(type_name, "string" | "markdown" | "xhtml" | "base64Binary")
}

/// Returns true if no case of `generalize` changes a value. A case applies unless its condition is false.
pub(in crate::deid) fn leaves_values(settings: &GeneralizeSettings) -> bool {
    for (condition, value) in &settings.cases {
        match (constant_result(condition), value) {
            (ConstantResult::False, _) | (ConstantResult::Varies, Expr::This) => {}
            (ConstantResult::True | ConstantResult::Unknown, Expr::This) => return true,
            (ConstantResult::True | ConstantResult::Unknown | ConstantResult::Varies, _) => return false,
        }
    }
    settings.keeps_other_values
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
fn is_valid(type_name: &str, text: &str) -> bool {
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
