//! Checks of ids: whether references, addresses and searches reveal those that rules hide.

use std::collections::HashSet;

use super::{ConfigLinter, error};
use crate::definitions::TypeDefinition;
use crate::deid::config::{Method, Rule};
use crate::deid::error::{DeidRemark, DeidRemarkCode};
use crate::deid::plan::{PathAutomaton, State, Transition, TypedElement, rules_of_id};
use crate::deid::primitive::PrimitiveRole;

/// A kind of elements that can contain ids of other resources.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IdHolder {
    Reference,
    BundleAddress,
    BundleSearch,
    /// A value of the type `id` in Parameters, or in the input or output of a Task or a Transport.
    Value,
}

/// The elements whose values of the type `id` name resources.
const VALUE_HOLDERS: [(&str, &str); 5] =
    [("Parameters", "parameter"), ("Task", "input"), ("Task", "output"), ("Transport", "input"), ("Transport", "output")];

impl IdHolder {
    /// Returns true if a state is that of such an element.
    fn matches(self, state: &State) -> bool {
        state.primitive.is_some_and(|primitive| match self {
            Self::Reference => primitive.role == PrimitiveRole::Reference,
            Self::BundleAddress => primitive.role == PrimitiveRole::BundleAddress,
            Self::BundleSearch => primitive.role == PrimitiveRole::BundleSearch,
            Self::Value => primitive.type_name == "id",
        })
    }

    /// Describes the elements in remarks.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Reference => "references",
            Self::BundleAddress => "addresses",
            Self::BundleSearch => "searches (`ifNoneExist`)",
            Self::Value => "values of the type id",
        }
    }

    /// Returns the elements as a rule can name them.
    const fn path(self) -> &'static str {
        match self {
            Self::Reference => "nodesByType('Reference').reference",
            Self::BundleAddress | Self::BundleSearch | Self::Value => "them",
        }
    }
}

impl ConfigLinter<'_> {
    /// Reports ids that stay although others are hashed: those for which the condition of their rule is false, and those in references,
    /// in the addresses and searches of Bundles and in values. Reports references that are hashed although ids stay, too.
    pub(super) fn revealing_references(&self) -> Vec<DeidRemark> {
        let hidden: Vec<TypeDefinition> = self.resource_definitions().filter(|root| self.protects_ids(*root)).collect();
        if hidden.is_empty() {
            return self.hashed_references().into_iter().collect();
        }
        // A rule with a condition hides nothing for certain.
        let Some(automata) = self.worst_case(|rule| rule.method.leaves_ids()) else { return Vec::new() };
        let (automaton, types) = &*automata;
        let is_bundle = |root: &TypeDefinition| self.type_name(*root) == "Bundle";
        let starts = |holder: IdHolder| -> Vec<(TypeDefinition, u32)> {
            let all = types.iter().copied();
            match holder {
                IdHolder::Reference => all.filter(|(root, _)| hidden.contains(root)).collect(),
                IdHolder::BundleAddress | IdHolder::BundleSearch => all.filter(|(root, _)| is_bundle(root)).collect(),
                IdHolder::Value => all.flat_map(|root| self.value_holders(automaton, root)).collect(),
            }
        };
        let holders = [IdHolder::Reference, IdHolder::BundleAddress, IdHolder::BundleSearch, IdHolder::Value];
        let revealing = holders.into_iter().filter_map(|holder| self.revealing_element(automaton, starts(holder), holder));
        self.unhashed_ids(&hidden).into_iter().chain(revealing).collect()
    }

    /// Returns the states of the members of a type whose values of the type `id` name resources.
    fn value_holders(&self, automaton: &PathAutomaton, (root, number): (TypeDefinition, u32)) -> Vec<(TypeDefinition, u32)> {
        let names = VALUE_HOLDERS.iter().filter(|(type_name, _)| *type_name == self.type_name(root)).map(|(_, element)| *element);
        let members = automaton.get(number).map(|state| &state.members);
        let states = names.filter_map(|element| members.and_then(|members| members.get(element)));
        states.map(|transition| (root, transition.next_state)).collect()
    }

    /// Returns the remark about a rule that hashes references, if no rule changes the id of any resource.
    fn hashed_references(&self) -> Option<DeidRemark> {
        if self.resource_definitions().any(|root| self.may_hide_ids(root)) {
            return None;
        }
        let is_reference = |element: &TypedElement| match self.type_name(element.definition) {
            "Reference" => true,
            type_name => type_name == "string" && element.name == "reference",
        };
        let mut hashing = self.config.rules.iter().filter(|rule| matches!(rule.method, Method::CryptoHash));
        let rule = hashing.find(|rule| self.selected_elements(rule).iter().any(is_reference))?;
        let reason = "the rule hashes references, but no rule changes the ids of resources: they stay, and no reference resolves";
        let remedy = "hash Resource.id too";
        Some(error(DeidRemarkCode::RevealingReferences, reason, remedy).of_rule(rule.number, &rule.path))
    }

    /// Returns true if ids of a type are hashed, at least under a condition, or if all of them are removed or replaced.
    fn protects_ids(&self, root: TypeDefinition) -> bool {
        let rules = rules_of_id(&self.config.rules, self.resolver, root);
        let is_removing = |method: &Method| matches!(method, Method::Redact | Method::Encrypt | Method::Substitute(_));
        let removes_all = |rule: &&Rule| rule.selection.is_exact && is_removing(&rule.method);
        rules.iter().any(|rule| matches!(rule.method, Method::CryptoHash)) || rules.first().is_some_and(removes_all)
    }

    /// Returns true if a rule hides ids of a type, at least under a condition.
    pub(in crate::deid::tools) fn may_hide_ids(&self, root: TypeDefinition) -> bool {
        rules_of_id(&self.config.rules, self.resolver, root).iter().any(|rule| !rule.method.leaves_ids())
    }

    /// Returns the remark about a rule that hashes ids of a type under a condition, if no rule applies to the other ids of the type.
    fn unhashed_ids(&self, hidden: &[TypeDefinition]) -> Option<DeidRemark> {
        hidden.iter().find_map(|root| {
            let rules = rules_of_id(&self.config.rules, self.resolver, *root);
            let is_open = rules.last().is_some_and(|rule| !rule.selection.is_exact);
            let hashing = rules.into_iter().find(|rule| is_open && matches!(rule.method, Method::CryptoHash))?;
            let reason = format!("the rule hashes ids only where its condition is true; other ids of {} stay", self.type_name(*root));
            let remedy = "add a rule without a condition for the other ids";
            Some(error(DeidRemarkCode::RevealingReferences, reason, remedy).of_rule(hashing.number, &hashing.path))
        })
    }

    /// Returns the remark about the first of these elements that reveals ids, at or below the states in `starts`.
    fn revealing_element(&self, automaton: &PathAutomaton, starts: Vec<(TypeDefinition, u32)>, holder: IdHolder) -> Option<DeidRemark> {
        let rule_of = |state: &State| self.config.rules.get(state.applied_rule?.index);
        let (elements, wanted) = (holder.as_str(), holder.path());
        // States that types share are visited once: the walk ends at the first element that reveals an id.
        let mut visited = HashSet::new();
        for (root, number) in starts {
            let reached = reach_states((automaton, number), holder, &mut visited);
            let mut revealing = reached
                .into_iter()
                .filter(|state| holder.matches(state) && !state.hides_ids)
                .map(rule_of)
                .filter(|rule| rule.is_none_or(|rule| rule.method.leaves_ids()));
            let Some(rule) = revealing.next() else { continue };
            let type_name = self.type_name(root);
            return Some(match rule {
                Some(rule) => {
                    let reason = format!("the rule keeps {elements} in {type_name}, which reveal ids that other rules hide");
                    let remedy = format!("hash or redact {wanted} before this rule");
                    error(DeidRemarkCode::RevealingReferences, reason, remedy).of_rule(rule.number, &rule.path)
                }
                None => {
                    let reason = format!("ids are hidden, but {elements} still reveal them, such as those in {type_name}");
                    let remedy = format!("also hash or redact {wanted}, in a rule without a condition");
                    error(DeidRemarkCode::RevealingReferences, reason, remedy)
                }
            });
        }
        None
    }
}

/// Returns the states that are reachable from a state and not in `visited`, and adds them there. No rule is implied for values of the type `id` in
/// extensions, which are left out.
fn reach_states<'a>((automaton, number): (&'a PathAutomaton, u32), holder: IdHolder, visited: &mut HashSet<u32>) -> Vec<&'a State> {
    let is_extension = |transition: &Transition| matches!(transition.element, "extension" | "modifierExtension");
    let mut reached = Vec::new();
    let mut open = vec![number];
    while let Some(number) = open.pop() {
        let Some(state) = automaton.get(number).filter(|_| visited.insert(number)) else { continue };
        reached.push(state);
        let is_skipped = |transition: &Transition| holder == IdHolder::Value && is_extension(transition);
        let is_followed = |transition: &&Transition| !transition.is_resource && !is_skipped(transition);
        open.extend(state.members.iter().filter(is_followed).map(|transition| transition.next_state));
    }
    reached
}
