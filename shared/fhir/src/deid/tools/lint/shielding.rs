//! Checks of `dateShift` and `perturb`: whether they leave elements unchanged and protect them from later rules.

use std::collections::{HashSet, VecDeque};

use super::{ConfigLinter, TypeAutomata, error};
use crate::deid::config::Method;
use crate::deid::error::{DeidRemark, DeidRemarkCode};
use crate::deid::plan::Transition;

impl ConfigLinter<'_> {
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
}

/// An element that a rule leaves unchanged although a later rule would change it.
struct ShieldedElement {
    /// The index of the rule that applies.
    rule: usize,
    /// The index of the rule that would apply without it.
    later: usize,
    path: String,
}
