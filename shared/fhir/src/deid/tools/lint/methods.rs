//! Checks of methods: whether they can change the elements that a rule selects.

use std::collections::{BTreeSet, HashSet};

use super::constants::{ConstantResult, constant_result};
use super::replacements::is_valid;
use super::{ConfigLinter, error, warning};
use crate::definitions::{TypeDefinition, TypeKind};
use crate::deid::config::{GeneralizeSettings, Method, PerturbSettings, Rule};
use crate::deid::error::{DeidRemark, DeidRemarkCode, Truncated};
use crate::deid::fhirpath::Expr;
use crate::deid::plan::{State, TypedElement};
use crate::deid::primitive::{PrimitiveContext, is_quantity_type};

/// The elements of all resource types that a rule selects, by type and name.
pub(super) type Selected = Vec<TypedElement>;

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
}

/// Returns true for the types of texts that people write.
pub(in crate::deid) fn is_free_text(type_name: &str) -> bool {
    matches!(type_name, "string" | "markdown" | "xhtml" | "base64Binary")
}

/// Returns true if no case of `generalize` changes a value. A case applies unless its condition is false.
pub(in crate::deid) fn leaves_values(settings: &GeneralizeSettings) -> bool {
    for (condition, value) in &settings.cases {
        match (constant_result(condition), value) {
            (ConstantResult::False, _) | (ConstantResult::Varies | ConstantResult::NeverTrue, Expr::This) => {}
            (ConstantResult::True | ConstantResult::Unknown, Expr::This) => return true,
            (ConstantResult::True | ConstantResult::Unknown | ConstantResult::NeverTrue | ConstantResult::Varies, _) => return false,
        }
    }
    settings.keeps_other_values
}
