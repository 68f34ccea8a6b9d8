//! Rules compiled for one resource type, so that a single pass over a resource can apply them all.
//!
//! A rule applies to an element and to everything below it, except where an earlier rule already applies. Therefore
//! exactly one rule applies to an element: the first in the file that selects the element or one of its ancestors. A walk
//! from the root down can determine it from two facts: the rule that applies to the parent, and the position in each
//! rule's path. Together they form a state of a [`PathAutomaton`]; its transitions are the members of the element. Paths of
//! rules that can no longer apply are left out of the state, which keeps the number of states small.
//!
//! The streaming engine cannot handle a type, so that its plan has no automaton, if the selection depends on values, if a
//! rule merges objects, or if a rule selects elements inside nested resources. A selection may depend on a code of the resource itself: each
//! combination of such conditions has an automaton of its own.

mod automata;
mod automaton;
mod id_treatment;
mod implied_rules;
mod member_table;
mod reachability;
mod transition;
mod types;

use std::sync::OnceLock;

use super::config::{Method, ParsedConfig, Rule};
use crate::definitions::{ResourceType, TypeDefinition};
use crate::json::JsonValue;
use automata::PathAutomata;
pub(super) use automaton::{AppliedRule, PathAutomaton, State};
use id_treatment::id_treatment;
pub(super) use id_treatment::{IdTreatment, rules_of_id};
pub(super) use implied_rules::add_implied_rules;
pub(super) use reachability::{PathResolver, ReachableElements, TypedElement};
pub(super) use transition::Transition;

/// The rules for one resource type.
#[derive(Debug)]
pub(super) struct Plan {
    /// The indexes of the rules that can select something in the type, in the order of the file.
    pub(super) rule_indexes: Vec<usize>,
    /// The automata of the streaming engine; `None` if the type needs the tree engine.
    automata: Option<PathAutomata>,
    /// The treatment of the ids of the type; determined on first use.
    id_treatment: OnceLock<IdTreatment>,
}

/// The plans of a configuration by resource type. Each is compiled when the first resource of its type is read.
#[derive(Debug)]
pub(super) struct PlanCache(Vec<OnceLock<Option<Plan>>>);

impl Default for PlanCache {
    fn default() -> Self {
        Self(ResourceType::all().map(|_| OnceLock::new()).collect())
    }
}

impl PlanCache {
    /// Returns the plan for a resource type and compiles it on first use; `None` if the FHIR version does not define the type.
    ///
    /// `config` must be the same configuration on every call.
    pub(super) fn get_or_compile(&self, resource_type: ResourceType, config: &ParsedConfig) -> Option<&Plan> {
        let compile = || {
            let root = config.version.type_definitions().of_resource(resource_type)?;
            Some(Plan::compile(&config.rules, PathResolver::new(config.version), root, config.parameters.skips_extensions))
        };
        self.0.get(resource_type.index())?.get_or_init(compile).as_ref()
    }

    /// Returns the treatment of the ids of a resource type. `config` must be the same configuration on every call.
    pub(super) fn id_treatment(&self, resource_type: ResourceType, config: &ParsedConfig) -> Option<IdTreatment> {
        let root = config.version.type_definitions().of_resource(resource_type)?;
        let plan = self.get_or_compile(resource_type, config)?;
        Some(*plan.id_treatment.get_or_init(|| id_treatment(config, root)))
    }

    /// Returns true if each id of a resource type is hashed. `config` must be the same configuration on every call.
    pub(super) fn hashes_ids(&self, resource_type: ResourceType, config: &ParsedConfig) -> bool {
        self.id_treatment(resource_type, config) == Some(IdTreatment::Hashed)
    }
}

/// The maximum number of states of an automaton. The sample for HIPAA's safe harbor needs a few hundred.
const MAX_STATES: usize = 5_000;

impl Plan {
    /// Compiles the rules for the resource type with the definition `root`.
    fn compile(rules: &[Rule], resolver: PathResolver, root: TypeDefinition, skips_extensions: bool) -> Self {
        let type_name = resolver.loaded_type(root).map(|definition| definition.name).unwrap_or_default();
        let mut rule_indexes = Vec::new();
        let mut needs_tree = false;
        for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.applies_to(type_name)) {
            let reachable = resolver.reachable_elements(rule, root, skips_extensions);
            let is_unknown = matches!(rule.method, Method::Unknown);
            let is_unsupported = is_unknown || reachable.enters_resources || resolver.may_select_resource_by_name(rule);
            if is_unsupported || !reachable.elements.is_empty() {
                rule_indexes.push(index);
                let navigates = matches!(&rule.method, Method::Generalize(settings) if settings.navigates);
                needs_tree |= is_unsupported || navigates;
            }
        }
        let automata = if needs_tree { None } else { PathAutomata::compile(rules, &rule_indexes, resolver, root, skips_extensions) };
        Self { rule_indexes, automata, id_treatment: OnceLock::new() }
    }

    /// Returns the automaton of the streaming engine for a resource, which `resource` begins with; `None` if it needs the tree engine.
    pub(super) fn automaton(&self, resource: JsonValue<'_>) -> Option<&PathAutomaton> {
        self.automata.as_ref()?.of_resource(resource)
    }
}
