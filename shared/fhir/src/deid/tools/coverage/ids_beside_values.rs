//! References and ids in the extensions of values that a rule leaves: the rule is for the value, so that they are hidden.

use std::collections::{HashSet, VecDeque};

use super::{CoverageWalk, CoveredElement, DeidTreatment};
use crate::definitions::ResourceType;
use crate::deid::config::Method;
use crate::deid::plan::State;

impl CoverageWalk<'_, '_> {
    /// Lists the references and ids that are hidden beside values. Those that extensions of several values share are listed where they occur first.
    pub(super) fn ids_beside_values(&self, resource_type: ResourceType) -> Vec<CoveredElement> {
        let mut found = Vec::new();
        // Most configurations have rules for extensions.
        if !self.automaton.iter().any(|state| self.treatment_beside_value(state).is_some()) {
            return found;
        }
        let mut visited = HashSet::from([0]);
        let mut queue = VecDeque::from([(0, resource_type.as_str().to_owned())]);
        while let Some((number, path)) = queue.pop_front() {
            let Some(state) = self.automaton.get(number) else { continue };
            for transition in state.members.iter().filter(|transition| !transition.is_resource) {
                let Some(next) = self.automaton.get(transition.next_state).filter(|_| visited.insert(transition.next_state)) else {
                    continue;
                };
                let path = format!("{path}.{}", transition.name);
                let Some(treatment) = self.treatment_beside_value(next) else {
                    queue.push_back((transition.next_state, path));
                    continue;
                };
                let type_name = next.primitive.map(|primitive| primitive.type_name).unwrap_or_default();
                found.push(CoveredElement { path, type_name, treatment, rule_number: None, has_free_text: false });
            }
        }
        found
    }

    /// Returns what happens to a reference or an id in the extension of a value that a rule leaves; `None` for any other element, and for an address,
    /// because its text decides.
    fn treatment_beside_value(&self, state: &State) -> Option<DeidTreatment> {
        let rule = self.linter.config.address_rule.as_ref()?;
        let is_hidden = state.hides_ids && state.open_address()?.always_names_resource();
        is_hidden.then_some(if let Method::CryptoHash = rule.method { DeidTreatment::Hashed } else { DeidTreatment::Removed })
    }
}
