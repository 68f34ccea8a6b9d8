//! Elements that no rule applies to.

use std::collections::{HashSet, VecDeque};

use super::{CHOICE, ConfigLinter};
use crate::definitions::ResourceType;
use crate::deid::plan::{PathAutomaton, Transition};

/// An element that no rule applies to; it is exported unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntouchedElement {
    /// The path of the element, such as `Patient.maritalStatus`; includes everything below it.
    pub path: String,
    /// The type of the element, such as `CodeableConcept`; `choice` for a choice of types.
    pub type_name: &'static str,
}

impl ConfigLinter<'_> {
    /// Lists the elements that no rule applies to in each resource; see [`crate::deid::DeidConfig::untouched_elements`].
    pub(in crate::deid) fn untouched_elements(&self, resource_type: ResourceType) -> Vec<UntouchedElement> {
        let root = self.config.version.type_definitions().of_resource(resource_type);
        let Some(automaton) = root.and_then(|root| self.automaton(&self.worst_case_rules(|_| false), root)) else { return Vec::new() };
        let touched = touched_states(&automaton);
        let mut untouched = Vec::new();
        // Each state is expanded once, where it occurs first.
        let mut expanded = HashSet::from([0]);
        let mut queue = VecDeque::from([(0, resource_type.as_str().to_owned())]);
        while let Some((number, path)) = queue.pop_front() {
            let Some(state) = automaton.get(number).filter(|state| state.applied_rule.is_none()) else { continue };
            let mut listed = HashSet::new();
            for transition in state.members.iter() {
                // A nested resource is listed with its own type.
                let has_no_rule = automaton.get(transition.next_state).is_some_and(|next| next.applied_rule.is_none());
                if !has_no_rule || transition.is_resource {
                    continue;
                }
                // A choice is named like in rules, without its type, unless rules treat its types differently.
                let is_touched_choice = |other: &Transition| other.element == transition.element && touched.contains(&other.next_state);
                let has_touched_choice = state.members.iter().any(is_touched_choice);
                let name = if has_touched_choice { transition.name } else { transition.element };
                let path = format!("{path}.{name}");
                if !transition.is_primitive && !is_extension(transition) && touched.contains(&transition.next_state) {
                    if expanded.insert(transition.next_state) {
                        queue.push_back((transition.next_state, path));
                    }
                } else if listed.insert(name) {
                    let definition = self.resolver.loaded_type(transition.definition);
                    let type_name = definition.map(|definition| definition.name).unwrap_or_default();
                    let type_name = if name == transition.name { type_name } else { CHOICE };
                    untouched.push(UntouchedElement { path, type_name });
                }
            }
        }
        untouched
    }
}

/// Returns true for `extension` and `modifierExtension`.
fn is_extension(transition: &Transition) -> bool {
    matches!(transition.element, "extension" | "modifierExtension")
}

/// Returns the states of elements to which a rule applies, and of elements that contain one.
fn touched_states(automaton: &PathAutomaton) -> HashSet<u32> {
    let numbered = || (0..).zip(automaton.iter());
    let mut touched: HashSet<u32> = numbered().filter(|(_, state)| state.applied_rule.is_some()).map(|(number, _)| number).collect();
    // States refer to each other in cycles, so this repeats until nothing is added.
    loop {
        let before = touched.len();
        for (number, state) in numbered() {
            // Extensions can contain every type. Including them would make every element touched.
            if state.members.iter().any(|transition| !is_extension(transition) && touched.contains(&transition.next_state)) {
                touched.insert(number);
            }
        }
        if touched.len() == before {
            return touched;
        }
    }
}
