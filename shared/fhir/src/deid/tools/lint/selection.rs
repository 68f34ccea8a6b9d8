//! Checks of paths: whether rules select anything, and whether they apply to it.

use std::collections::HashSet;

use super::{ConfigLinter, error};
use crate::definitions::TypeKind;
use crate::deid::config::{Rule, closest_name};
use crate::deid::error::{DeidRemark, DeidRemarkCode, Truncated};
use crate::deid::fhirpath::Step;
use crate::deid::plan::PathAutomaton;

impl ConfigLinter<'_> {
    /// Returns the remark about the first branch of a union that selects nothing, if others do.
    pub(super) fn unreachable_branch(&self, rule: &Rule) -> Option<DeidRemark> {
        if rule.selection.paths.len() < 2 {
            return None;
        }
        rule.selection.paths.iter().find_map(|path| {
            let mut branch = rule.clone();
            branch.selection.paths = vec![path.clone()];
            let reachable = self.reachable_elements(&branch);
            let selects = reachable.enters_resources || !reachable.elements.is_empty();
            if selects { None } else { self.unreachable_remark(rule, path) }
        })
    }

    /// Returns the remark about a path that selects nothing.
    pub(super) fn unreachable_remark(&self, rule: &Rule, path: &[Step]) -> Option<DeidRemark> {
        self.unreachable_reason(rule, path).map(|(reason, remedy)| error(DeidRemarkCode::SelectsNothing, reason, remedy))
    }

    /// Determines which rules select elements, and which of them can apply to one.
    pub(super) fn rule_usage(&self) -> RuleUsage {
        let mut usage = RuleUsage::default();
        let mut conditional = Vec::new();
        // A rule with a condition applies to an element only in some resources, so it does not make a later rule ineffective.
        let is_unconditional = |index: usize| self.rules.get(index).is_some_and(|rule| rule.selection.is_exact);
        for (index, rule) in self.rules.iter().enumerate() {
            let reachable = self.reachable_elements(rule);
            if reachable.elements.is_empty() && !reachable.enters_resources {
                continue;
            }
            usage.selecting.insert(index);
            if reachable.enters_resources {
                // The automaton of a type does not know the nested resources, so the rule counts as effective.
                usage.effective.insert(index);
            } else if !is_unconditional(index) {
                conditional.push((index, rule));
            }
        }
        usage.effective.extend(self.applied_rules(|_| true, is_unconditional));
        // Each conditional rule is checked as if its condition were true, against the unconditional rules only.
        for (index, rule) in conditional {
            let applied = self.applied_rules(|name| rule.applies_to(name), |other| other == index || is_unconditional(other));
            if applied.contains(&index) {
                usage.effective.insert(index);
            }
        }
        usage
    }

    /// Returns the indexes of the rules that apply to some element of the types for which `is_type` is true, among the rules for which
    /// `is_included` is true.
    fn applied_rules(&self, is_type: impl Fn(&str) -> bool, is_included: impl Fn(usize) -> bool) -> HashSet<usize> {
        let mut rules = self.rules.clone();
        for (index, rule) in rules.iter_mut().enumerate() {
            if !is_included(index) {
                rule.selection.paths.clear();
            }
        }
        let automaton = self.type_automata(&rules, is_type).map(|(automaton, _)| automaton);
        automaton.iter().flat_map(PathAutomaton::iter).filter_map(|state| Some(state.applied_rule?.index)).collect()
    }

    /// Explains why a path of a rule selects nothing in any type, and what to do: names the first step that matches no element.
    fn unreachable_reason(&self, rule: &Rule, path: &[Step]) -> Option<(String, String)> {
        let type_definitions = self.config.version.type_definitions();
        // Parsing has already warned about a resource type that does not exist.
        if rule.resource_type.as_deref().is_some_and(|type_name| type_definitions.by_name(type_name).is_none()) {
            return None;
        }
        let elements_at = |steps: &[Step]| {
            let mut prefix = rule.clone();
            prefix.selection.paths = vec![steps.to_vec()];
            self.resolver.reachable_in_types(&prefix, self.resource_definitions(), false).elements
        };
        let mut splits = (0..path.len()).map(|length| path.split_at(length));
        let failing = splits.find_map(|(before, rest)| {
            let (step, _) = rest.split_first()?;
            let through: Vec<_> = before.iter().chain([step]).cloned().collect();
            elements_at(&through).is_empty().then_some((before, step))
        });
        // Every step matches if extensions are included.
        let Some((before, step)) = failing else {
            let reason = "the rule selects only elements in extensions, and rulesInExtensions is false";
            return Some((reason.to_owned(), "remove the rule or the setting".to_owned()));
        };
        let members = || {
            let definitions = elements_at(before).into_iter().filter_map(|element| self.resolver.loaded_type(element.definition));
            definitions.flat_map(|definition| &definition.members)
        };
        let types = &self.resolver.types;
        let hint = |name: &str, known: &mut dyn Iterator<Item = &'static str>| {
            let similar = closest_name(name, known).map(|known| format!("did you mean `{known}`?"));
            similar.unwrap_or_else(|| "look the name up in the definition of the type".to_owned())
        };
        Some(match step {
            Step::Child(name) => {
                let choice = members().find(|member| member.name == &**name);
                let hint = match choice {
                    Some(choice) => format!("name a choice without its type: `{}`", choice.element),
                    None => hint(name, &mut members().map(|member| member.element)),
                };
                (format!("the rule selects nothing: there is no element `{}` at this point of the path", Truncated(name)), hint)
            }
            Step::ElementName(name) => {
                let names = &mut types.values().flat_map(|definition| &definition.members).map(|member| member.element);
                (format!("the rule selects nothing: no element has the name `{}`", Truncated(name)), hint(name, names))
            }
            // A path is for the resource type with which it begins.
            Step::ExactType(name) | Step::OfType(name) if before.is_empty() && self.is_resource_type(name) => {
                let own = rule.resource_type.as_deref().unwrap_or("Resource");
                let reason =
                    format!("the rule is for {}, so `{}` at this point of the path selects nothing", Truncated(own), Truncated(name));
                (reason, format!("write a rule of its own for {}", Truncated(name)))
            }
            Step::ExactType(name) | Step::OfType(name) => {
                let reason = format!("the rule selects nothing: no element has the type `{}`", Truncated(name));
                if type_definitions.by_name(name).is_some() {
                    return Some((reason, "use a type that an element at this point of the path can have".to_owned()));
                }
                // The name of an element with a capital letter is parsed as a type.
                let names = &mut types.values().map(|definition| definition.name).chain(members().map(|member| member.element));
                (reason, hint(name, names))
            }
            Step::AnyChild | Step::SelfAndDescendants | Step::DescendantsToResources | Step::AllDescendants => {
                ("the rule selects nothing".to_owned(), "remove the rule".to_owned())
            }
        })
    }

    /// Returns true for the name of a resource type.
    fn is_resource_type(&self, name: &str) -> bool {
        self.config.version.type_definitions().by_name(name).is_some_and(|definition| self.kind(definition) == TypeKind::Resource)
    }
}

/// Returns the remark about a path with `nodesByType` of a type that only other types are derived from.
pub(super) fn abstract_type_remark(rule: &Rule) -> Option<DeidRemark> {
    let name = rule.selection.paths.iter().flatten().find_map(|step| match step {
        Step::ExactType(name) if matches!(&**name, "Resource" | "DomainResource") => Some(name),
        Step::ExactType(_)
        | Step::Child(_)
        | Step::AnyChild
        | Step::SelfAndDescendants
        | Step::DescendantsToResources
        | Step::AllDescendants
        | Step::ElementName(_)
        | Step::OfType(_) => None,
    })?;
    let reason = format!("the rule selects nothing: no resource has exactly the type `{name}`");
    Some(error(DeidRemarkCode::SelectsNothing, reason, "write a rule for the type of the nested resources"))
}

/// The rules that select elements, and the rules that can apply to one, by their indexes.
#[derive(Default)]
pub(super) struct RuleUsage {
    pub(super) selecting: HashSet<usize>,
    /// The rules that are the first to select some element of some type.
    pub(super) effective: HashSet<usize>,
}
