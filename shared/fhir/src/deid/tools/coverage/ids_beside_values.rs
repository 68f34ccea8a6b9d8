//! References and ids beside values for which a rule is written, such as those in the extension of a kept value: they are hidden.

use std::collections::{HashSet, VecDeque};

use super::{CoverageWalk, CoveredElement, DeidTreatment, is_content};
use crate::definitions::ResourceType;
use crate::deid::config::Method;
use crate::deid::plan::State;

/// An element whose members are searched.
struct OpenElement {
    /// The number of its state.
    state: u32,
    path: String,
    is_in_extension: bool,
}

impl CoverageWalk<'_, '_> {
    /// Lists the references and ids in extensions that are hidden beside values. Those that several values share are listed where they occur first.
    pub(super) fn ids_beside_values(&self, resource_type: ResourceType) -> Vec<CoveredElement> {
        let mut found = Vec::new();
        // Most configurations have rules for extensions.
        if !self.automaton.iter().any(|state| self.treatment_beside_value(state).is_some()) {
            return found;
        }
        let mut visited = HashSet::from([(0, false)]);
        let mut queue = VecDeque::from([OpenElement { state: 0, path: resource_type.as_str().to_owned(), is_in_extension: false }]);
        while let Some(element) = queue.pop_front() {
            let Some(state) = self.automaton.get(element.state) else { continue };
            for transition in state.members.iter().filter(|transition| !transition.is_resource) {
                let is_in_extension = element.is_in_extension || !is_content(transition);
                let next = self.automaton.get(transition.next_state).filter(|_| visited.insert((transition.next_state, is_in_extension)));
                let Some(next) = next else { continue };
                let path = format!("{}.{}", element.path, transition.name);
                match self.treatment_beside_value(next) {
                    Some(treatment) if is_in_extension => {
                        let type_name = next.primitive.map(|primitive| primitive.type_name).unwrap_or_default();
                        found.push(CoveredElement { path, type_name, treatment, rule_number: None, has_free_text: false });
                    }
                    // An element outside of extensions is listed with all others.
                    Some(_) => {}
                    None => queue.push_back(OpenElement { state: transition.next_state, path, is_in_extension }),
                }
            }
        }
        found
    }

    /// Returns what happens to a reference or an id beside a value for which a rule is written; `None` for any other element, and for an address,
    /// because its text decides.
    pub(super) fn treatment_beside_value(&self, state: &State) -> Option<DeidTreatment> {
        let rule = self.linter.config.address_rule.as_ref()?;
        let is_hidden = state.hides_ids && state.open_address()?.always_names_resource();
        is_hidden.then_some(if let Method::CryptoHash = rule.method { DeidTreatment::Hashed } else { DeidTreatment::Removed })
    }
}
