//! Identifiers that remain beside an id that does not.

use std::collections::{BTreeSet, VecDeque};

use super::identifying_elements::is_identifying;
use super::{CoverageWalk, is_content};
use crate::definitions::{ResourceType, TypeKind};
use crate::deid::plan::{State, Transition};

/// The number of paths of a type that are searched for identifiers. Short paths come first; only types that contain every data type
/// have more.
const MAX_EXPANDED_PATHS: usize = 2_000;

/// An element whose members are searched.
struct OpenElement {
    /// The states from the root to the element.
    states: Vec<u32>,
    /// The path from the resource type, with names as in JSON.
    path: String,
    /// The resource type or the data type that defines the element, with the path from there.
    owner: String,
}

impl CoverageWalk<'_, '_> {
    /// Returns the paths of identifiers whose values remain although the resource's id does not.
    pub(super) fn identifiers_beside_id(&self, resource_type: ResourceType) -> Vec<String> {
        let root = self.linter.config.version.type_definitions().of_resource(resource_type);
        if !root.is_some_and(|root| self.linter.may_hide_ids(root)) {
            return Vec::new();
        }
        let mut found = BTreeSet::new();
        // Each identifier is listed with each of its paths. A path visits a state once, since elements contain each other in cycles.
        let name = resource_type.as_str().to_owned();
        let mut queue = VecDeque::from([OpenElement { states: vec![0], path: name.clone(), owner: name }]);
        let mut expanded = 0;
        while let Some(element) = queue.pop_front().filter(|_| expanded < MAX_EXPANDED_PATHS) {
            expanded += 1;
            let Some(state) = element.states.last().and_then(|number| self.automaton.get(*number)) else { continue };
            for transition in state.members.iter().filter(|transition| is_content(transition)) {
                let path = format!("{}.{}", element.path, transition.name);
                if self.is_identifier(transition) {
                    // The identifiers inside an identifier are those of its issuer.
                    found.extend(self.keeps_value(transition).then_some(path));
                } else if transition.is_primitive {
                    let is_kept = || self.automaton.get(transition.next_state).is_some_and(|state| self.keeps(state));
                    found.extend((is_identifying(&element.owner, transition.element) && is_kept()).then_some(path));
                } else if !element.states.contains(&transition.next_state) {
                    let states = element.states.iter().copied().chain([transition.next_state]).collect();
                    queue.push_back(OpenElement { states, path, owner: self.owner(&element.owner, transition) });
                }
            }
        }
        found.into_iter().collect()
    }

    /// Returns true if a member has the type Identifier.
    fn is_identifier(&self, transition: &Transition) -> bool {
        self.linter.resolver.loaded_type(transition.definition).is_some_and(|loaded| loaded.name == "Identifier")
    }

    /// Returns true if the `value` of a member remains.
    fn keeps_value(&self, transition: &Transition) -> bool {
        let value = self.automaton.get(transition.next_state).and_then(|state| state.members.get("value"));
        value.and_then(|value| self.automaton.get(value.next_state)).is_some_and(|state| self.keeps(state))
    }

    /// Returns true if the value of a primitive element remains.
    fn keeps(&self, state: &State) -> bool {
        self.decision(state).is_some_and(|(treatment, _)| treatment.keeps())
    }

    /// Returns the owner of the members of a member: its data type, or the path in the type that defines it.
    fn owner(&self, parent: &str, transition: &Transition) -> String {
        match self.linter.resolver.loaded_type(transition.definition) {
            Some(loaded) if loaded.kind != TypeKind::Backbone => loaded.name.to_owned(),
            Some(_) | None => format!("{parent}.{}", transition.element),
        }
    }
}
