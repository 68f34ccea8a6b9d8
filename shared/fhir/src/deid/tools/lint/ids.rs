//! Checks of ids: whether references, addresses and searches reveal those that rules hide.

use std::collections::HashSet;

use super::{ConfigLinter, error};
use crate::definitions::TypeDefinition;
use crate::deid::config::{Method, Rule};
use crate::deid::error::{DeidRemark, DeidRemarkCode};
use crate::deid::plan::{PathAutomaton, State, rules_of_id};
use crate::deid::primitive::PrimitiveRole;

impl ConfigLinter<'_> {
    /// Reports ids that stay although others are hashed: those for which the condition of their rule is false, and those in references
    /// and in the addresses and searches of Bundles.
    pub(super) fn revealing_references(&self) -> Vec<DeidRemark> {
        let hidden: Vec<TypeDefinition> = self.resource_definitions().filter(|root| self.protects_ids(*root)).collect();
        if hidden.is_empty() {
            return Vec::new();
        }
        // A rule with a condition hides nothing for certain.
        let Some(automata) = self.worst_case(|rule| rule.method.leaves_ids()) else { return Vec::new() };
        let in_bundle = || automata.1.iter().filter(|(root, _)| self.type_name(*root) == "Bundle");
        let of_hidden = automata.1.iter().filter(|(root, _)| hidden.contains(root));
        let references = self.revealing_element(&automata.0, of_hidden, PrimitiveRole::Reference, "references");
        let addresses = self.revealing_element(&automata.0, in_bundle(), PrimitiveRole::BundleAddress, "addresses");
        let searches = self.revealing_element(&automata.0, in_bundle(), PrimitiveRole::BundleSearch, "searches (`ifNoneExist`)");
        self.unhashed_ids(&hidden).into_iter().chain(references).chain(addresses).chain(searches).collect()
    }

    /// Returns true if ids of a type are hashed, at least under a condition, or if all of them are redacted.
    fn protects_ids(&self, root: TypeDefinition) -> bool {
        let rules = rules_of_id(&self.config.rules, self.resolver, root);
        let is_redacting = |rule: &&Rule| rule.selection.is_exact && matches!(rule.method, Method::Redact);
        rules.iter().any(|rule| matches!(rule.method, Method::CryptoHash)) || rules.first().is_some_and(is_redacting)
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

    /// Returns the remark about the first element with a role that reveals ids, in the types whose roots have these states.
    fn revealing_element<'a>(
        &self,
        automaton: &PathAutomaton,
        roots: impl Iterator<Item = &'a (TypeDefinition, u32)>,
        role: PrimitiveRole,
        elements: &str,
    ) -> Option<DeidRemark> {
        let rule_of = |state: &State| self.config.rules.get(state.applied_rule?.index);
        let has_role = |state: &&State| state.primitive.is_some_and(|primitive| primitive.role == role);
        // States that types share are visited once: the walk ends at the first element that reveals an id.
        let mut visited = HashSet::new();
        for (root, number) in roots {
            let reached = reach_states(automaton, *number, &mut visited);
            let mut revealing =
                reached.into_iter().filter(has_role).map(rule_of).filter(|rule| rule.is_none_or(|rule| rule.method.leaves_ids()));
            let Some(rule) = revealing.next() else { continue };
            let type_name = self.type_name(*root);
            let wanted = match role {
                PrimitiveRole::BundleAddress | PrimitiveRole::BundleSearch => "them",
                PrimitiveRole::Reference
                | PrimitiveRole::Date
                | PrimitiveRole::DateTime
                | PrimitiveRole::AgeValue
                | PrimitiveRole::PostalCode
                | PrimitiveRole::Address
                | PrimitiveRole::ElementId
                | PrimitiveRole::Other => "nodesByType('Reference').reference",
            };
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

/// Returns the states that are reachable from a state and not in `visited`, and adds them there.
fn reach_states<'a>(automaton: &'a PathAutomaton, number: u32, visited: &mut HashSet<u32>) -> Vec<&'a State> {
    let mut reached = Vec::new();
    let mut open = vec![number];
    while let Some(number) = open.pop() {
        let Some(state) = automaton.get(number).filter(|_| visited.insert(number)) else { continue };
        reached.push(state);
        open.extend(state.members.iter().filter(|transition| !transition.is_resource).map(|transition| transition.next_state));
    }
    reached
}
