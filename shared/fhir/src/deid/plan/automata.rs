//! The automata of a resource type: one for each combination of the conditions of its rules.

use std::borrow::Cow;

use super::MAX_STATES;
use super::automaton::PathAutomaton;
use super::reachability::PathResolver;
use crate::definitions::{MemberDefinition, TypeDefinition};
use crate::deid::config::{Method, Rule, RuleTarget};
use crate::deid::fhirpath::CodeCondition;
use crate::json::JsonValue;

/// The maximum number of conditions of a type, so that there are at most eight automata.
const MAX_CONDITIONS: usize = 3;

/// The automata of a resource type.
///
/// Rules whose condition is about a code of the resource, such as `Encounter.where(status = 'planned').period`, select all or nothing. The code is
/// read ahead, and an automaton has the rules that apply to it.
#[derive(Debug)]
pub(super) struct PathAutomata {
    conditions: Vec<CodeCondition>,
    /// The automata by the conditions that are true, one bit each.
    automata: Vec<PathAutomaton>,
}

impl PathAutomata {
    /// Compiles the rules for the resource type with the definition `root`. `rule_indexes` are those that can select something in it.
    ///
    /// Returns `None` if the type needs the tree engine.
    pub(super) fn compile(
        rules: &[Rule],
        rule_indexes: &[usize],
        resolver: PathResolver,
        root: TypeDefinition,
        skips_extensions: bool,
    ) -> Option<Self> {
        let mut conditions = Vec::new();
        // The indexes of rules, each with that of its condition.
        let mut conditional_rules = Vec::new();
        for index in rule_indexes.iter().copied() {
            let Some(rule) = rules.get(index).filter(|rule| !rule.selection.is_exact) else { continue };
            let condition = code_condition(rules.get(..index)?, rule, resolver, root)?;
            let known = conditions.iter().position(|known| *known == condition);
            conditional_rules.push((index, known.unwrap_or(conditions.len())));
            if known.is_none() {
                conditions.push(condition);
            }
        }
        if conditions.len() > MAX_CONDITIONS {
            return None;
        }
        let compile = |combination: usize| {
            let mut rules = Cow::Borrowed(rules);
            for (index, condition) in &conditional_rules {
                let is_true = (combination >> condition) & 1 == 1;
                if !is_true && let Some(rule) = rules.to_mut().get_mut(*index) {
                    rule.selection.paths.clear();
                }
            }
            PathAutomaton::compile(&rules, resolver, root, skips_extensions, MAX_STATES)
        };
        let automata = (0..1_usize << conditions.len()).map(compile).collect::<Option<_>>()?;
        Some(Self { conditions, automata })
    }

    /// Returns the automaton for a resource, which `resource` begins with; `None` if the resource needs the tree engine.
    pub(super) fn of_resource(&self, resource: JsonValue<'_>) -> Option<&PathAutomaton> {
        let mut combination = 0;
        for (number, condition) in self.conditions.iter().enumerate() {
            combination |= usize::from(condition.is_true(resource)?) << number;
        }
        self.automata.get(combination)
    }
}

/// Returns the condition of a rule if it is about a code of the resource that no rule in `earlier` changes.
fn code_condition(earlier: &[Rule], rule: &Rule, resolver: PathResolver, root: TypeDefinition) -> Option<CodeCondition> {
    let RuleTarget::Expression(path) = &rule.target else { return None };
    let condition = CodeCondition::from_path(path)?;
    let element = condition.element();
    let is_code = |member: &MemberDefinition| resolver.loaded_type(member.definition).is_some_and(|loaded| loaded.name == "code");
    let has_code = resolver.loaded_type(root)?.members.iter().any(|member| member.name == element && !member.is_list && is_code(member));
    let changes = |rule: &Rule| !matches!(rule.method, Method::Keep) && resolver.may_select(rule, root, &[element]);
    (has_code && !earlier.iter().any(changes)).then_some(condition)
}
