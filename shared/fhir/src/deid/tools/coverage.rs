//! Coverage: what the rules do to each element of a resource type.

mod identifiers;
mod identifying_elements;
mod ids_beside_values;

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::lint::{CHOICE, ConfigLinter, is_free_text, leaves_values};
use crate::definitions::ResourceType;
use crate::deid::config::{Method, Rule};
use crate::deid::plan::{PathAutomaton, State, Transition};
use crate::deid::primitive::{PrimitiveRole, is_quantity_type};

/// The effect of the rules on the elements of a resource type, without nested resources.
///
/// A rule with a condition applies in some resources only. It counts in `elements` only if it keeps: what it hides is not hidden in
/// all resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeidCoverage {
    /// The resource type.
    pub resource_type: ResourceType,
    /// The elements in the order of their paths. An element with members is one entry if all of it is treated alike, apart from
    /// extensions. Elements that occur repeatedly with the same treatment, such as the parts of every Identifier, are listed where
    /// they occur first. References and ids in the extensions of values that a rule leaves are listed, because they are hidden.
    pub elements: Vec<CoveredElement>,
    /// The paths of identifiers whose values remain although the id of the resource does not: they name the same person, thing or place.
    /// Numbers of devices and policies, UIDs of images and addresses of systems are among them.
    pub identifiers_beside_id: Vec<String>,
    /// The numbers of the rules that apply only where a condition is true.
    pub conditional_rules: Vec<usize>,
}

/// An element and its treatment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoveredElement {
    /// The path of the element, such as `Patient.name`.
    pub path: String,
    /// The type of the element; `choice` for a choice of types.
    pub type_name: &'static str,
    /// The treatment of the element.
    pub treatment: DeidTreatment,
    /// The number of the rule that decides; `None` if no rule names the element.
    pub rule_number: Option<usize>,
    /// True if the element is a text that people write, or has one inside.
    pub has_free_text: bool,
}

/// The treatment of an element: the change of its value, or the reason why it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeidTreatment {
    /// The element is exported unchanged, because no rule names it.
    KeptUnnamed,
    /// A rule keeps the element.
    KeptByRule,
    /// A rule applies whose method cannot change the element.
    KeptByMethod,
    /// A part of the value remains: the year of a date, an age up to 89, the first digits of a zip code.
    Reduced,
    /// The value is replaced by a less precise one.
    Generalized,
    /// Dates move.
    Shifted,
    /// Numbers get noise.
    Perturbed,
    /// The value is hashed.
    Hashed,
    /// The value is encrypted.
    Encrypted,
    /// The value is replaced by a fixed one.
    Substituted,
    /// The element is removed.
    Removed,
    /// The method does not exist: the resource fails.
    Fails,
}

impl DeidTreatment {
    /// All treatments; those that leave the most come first.
    pub const ALL: [Self; 12] = [
        Self::KeptUnnamed,
        Self::KeptByRule,
        Self::KeptByMethod,
        Self::Reduced,
        Self::Generalized,
        Self::Shifted,
        Self::Perturbed,
        Self::Hashed,
        Self::Encrypted,
        Self::Substituted,
        Self::Removed,
        Self::Fails,
    ];

    /// Returns the name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeptUnnamed => "kept-unnamed",
            Self::KeptByRule => "kept-by-rule",
            Self::KeptByMethod => "kept-by-method",
            Self::Reduced => "reduced",
            Self::Generalized => "generalized",
            Self::Shifted => "shifted",
            Self::Perturbed => "perturbed",
            Self::Hashed => "hashed",
            Self::Encrypted => "encrypted",
            Self::Substituted => "substituted",
            Self::Removed => "removed",
            Self::Fails => "fails",
        }
    }

    /// Describes the treatment for people.
    pub const fn description(self) -> &'static str {
        match self {
            Self::KeptUnnamed => "kept, because no rule names it",
            Self::KeptByRule => "kept by a rule",
            Self::KeptByMethod => "kept, because the method of its rule cannot change it",
            Self::Reduced => "reduced to a part",
            Self::Generalized => "generalized",
            Self::Shifted => "shifted",
            Self::Perturbed => "perturbed",
            Self::Hashed => "hashed",
            Self::Encrypted => "encrypted",
            Self::Substituted => "substituted",
            Self::Removed => "removed",
            Self::Fails => "fails",
        }
    }

    /// Returns true if the original value remains.
    pub const fn keeps(self) -> bool {
        matches!(self, Self::KeptUnnamed | Self::KeptByRule | Self::KeptByMethod)
    }
}

/// The treatment of a value and the number of the rule that decides.
type Decision = (DeidTreatment, Option<usize>);

/// The automaton of a type with what is below each of its states.
struct CoverageWalk<'l, 'c> {
    linter: &'l ConfigLinter<'c>,
    automaton: PathAutomaton,
    /// The decisions about the values in each state and below it, without extensions.
    decisions: Vec<BTreeSet<Decision>>,
    has_free_text: Vec<bool>,
}

impl ConfigLinter<'_> {
    /// Returns what the rules do to the elements of a resource type; `None` if the version does not define the type.
    pub(in crate::deid) fn coverage(&self, resource_type: ResourceType) -> Option<DeidCoverage> {
        let root = self.config.version.type_definitions().of_resource(resource_type)?;
        let applies = |rule: &&Rule| rule.applies_to(resource_type.as_str());
        let conditional: Vec<_> = self.config.rules.iter().filter(applies).filter(|rule| !rule.selection.is_exact).collect();
        let conditional_rules = conditional.iter().map(|rule| rule.number).collect();
        let mut rules = self.worst_case_rules(|rule| matches!(rule.method, Method::Keep));
        for (rule, original) in rules.iter_mut().zip(&self.config.rules) {
            if let Method::Perturb(_) | Method::DateShift = original.method {
                // They leave members of elements unchanged, and no ids in them.
                rule.method = original.method.clone();
            } else if !original.method.leaves_ids() {
                // Ids beside a value remain open only if the method leaves them.
                rule.method = Method::Redact;
            }
        }
        let automaton = self.automaton(&rules, root)?;
        let count = automaton.iter().count();
        let mut walk = CoverageWalk { linter: self, automaton, decisions: vec![BTreeSet::new(); count], has_free_text: vec![false; count] };
        walk.collect();
        let mut elements = walk.elements(resource_type);
        elements.extend(walk.ids_beside_values(resource_type));
        elements.sort_by(|left, right| left.path.cmp(&right.path));
        let identifiers_beside_id = walk.identifiers_beside_id(resource_type);
        Some(DeidCoverage { resource_type, elements, identifiers_beside_id, conditional_rules })
    }
}

impl CoverageWalk<'_, '_> {
    /// Collects the decisions about each state and everything below it. States refer to each other in cycles, so this repeats until
    /// nothing is added.
    fn collect(&mut self) {
        loop {
            let mut is_complete = true;
            for (number, state) in (0..).zip(self.automaton.iter()) {
                let index: usize = number;
                let mut decisions = BTreeSet::new();
                let mut has_text = false;
                if state.primitive.is_some() {
                    decisions.extend(self.decision(state));
                    has_text = state.primitive.is_some_and(|primitive| is_free_text(primitive.type_name));
                } else {
                    for transition in state.members.iter().filter(|transition| is_content(transition)) {
                        let Some(next) = usize::try_from(transition.next_state).ok() else { continue };
                        decisions.extend(self.decisions.get(next).into_iter().flatten().copied());
                        has_text |= self.has_free_text.get(next).copied().unwrap_or(false) && self.is_written(transition);
                    }
                }
                if let (Some(known), Some(known_text)) = (self.decisions.get_mut(index), self.has_free_text.get_mut(index))
                    && (*known != decisions || *known_text != has_text)
                {
                    (*known, *known_text) = (decisions, has_text);
                    is_complete = false;
                }
            }
            if is_complete {
                return;
            }
        }
    }

    /// Returns true unless the texts of a member are names of codes and units, identifiers or ids: those are not written about
    /// somebody.
    fn is_written(&self, transition: &Transition) -> bool {
        let type_name = self.linter.resolver.loaded_type(transition.definition).map(|loaded| loaded.name).unwrap_or_default();
        let is_coded = matches!(type_name, "CodeableConcept" | "CodeableReference" | "Coding" | "Identifier" | "Meta" | "Range" | "Ratio");
        !is_coded && !is_quantity_type(type_name) && transition.element != "id"
    }

    /// Returns the decision about the value of a state.
    fn decision(&self, state: &State) -> Option<Decision> {
        if let Some(treatment) = self.treatment_beside_value(state) {
            return Some((treatment, None));
        }
        let Some(applied) = state.applied_rule else { return Some((DeidTreatment::KeptUnnamed, None)) };
        let rule = self.linter.config.rules.get(applied.index)?;
        let parameters = &self.linter.config.parameters;
        let primitive = state.primitive?;
        let is_reduced = match primitive.role {
            PrimitiveRole::Date | PrimitiveRole::DateTime => parameters.keeps_partial_dates,
            PrimitiveRole::AgeValue => parameters.keeps_partial_ages,
            PrimitiveRole::PostalCode => parameters.keeps_partial_zip_codes,
            PrimitiveRole::Reference
            | PrimitiveRole::BundleAddress
            | PrimitiveRole::BundleSearch
            | PrimitiveRole::Address
            | PrimitiveRole::ElementId
            | PrimitiveRole::Other => false,
        };
        let treatment = match &rule.method {
            Method::Keep => DeidTreatment::KeptByRule,
            Method::Redact if is_reduced => DeidTreatment::Reduced,
            Method::Redact | Method::Drop => DeidTreatment::Removed,
            Method::DateShift if primitive.is_date() => DeidTreatment::Shifted,
            Method::Perturb(settings) if primitive.is_number() && settings.can_move(primitive.type_name) && !applied.leaves_unchanged => {
                DeidTreatment::Perturbed
            }
            Method::DateShift | Method::Perturb(_) => DeidTreatment::KeptByMethod,
            Method::CryptoHash => DeidTreatment::Hashed,
            Method::Encrypt => DeidTreatment::Encrypted,
            Method::Substitute(_) => DeidTreatment::Substituted,
            Method::Generalize(settings) if leaves_values(settings) => DeidTreatment::KeptByMethod,
            Method::Generalize(_) => DeidTreatment::Generalized,
            Method::Unknown => DeidTreatment::Fails,
        };
        // An implied rule is not in the file.
        Some((treatment, Some(rule.number).filter(|_| !rule.is_implied)))
    }

    /// Lists the elements in any order, each as a whole if all of it is treated alike.
    fn elements(&self, resource_type: ResourceType) -> Vec<CoveredElement> {
        let mut elements = Vec::new();
        let mut expanded = HashSet::from([0]);
        let mut queue = VecDeque::from([(0, resource_type.as_str().to_owned())]);
        while let Some((number, path)) = queue.pop_front() {
            let Some(state) = self.automaton.get(number) else { continue };
            let mut listed: HashSet<(&str, Decision)> = HashSet::new();
            for transition in state.members.iter().filter(|transition| is_content(transition)) {
                let Some(index) = usize::try_from(transition.next_state).ok() else { continue };
                let Some(decisions) = self.decisions.get(index) else { continue };
                // A choice is named like in rules, without its type, unless rules treat its types differently.
                let same_choice = |other: &&Transition| other.element == transition.element;
                let of_choice = |other: &Transition| self.decisions.get(usize::try_from(other.next_state).unwrap_or(usize::MAX));
                let is_uniform = state.members.iter().filter(same_choice).all(|other| of_choice(other) == Some(decisions));
                let name = if is_uniform { transition.element } else { transition.name };
                let has_text = |other: &Transition| {
                    let next = usize::try_from(other.next_state).unwrap_or(usize::MAX);
                    self.has_free_text.get(next).copied().unwrap_or(false) && self.is_written(other)
                };
                let path = format!("{path}.{name}");
                match decisions.iter().next() {
                    Some(decision) if decisions.len() == 1 => {
                        if listed.insert((name, *decision)) {
                            let loaded = self.linter.resolver.loaded_type(transition.definition);
                            elements.push(CoveredElement {
                                path,
                                type_name: if name == transition.name {
                                    loaded.map(|loaded| loaded.name).unwrap_or_default()
                                } else {
                                    CHOICE
                                },
                                treatment: decision.0,
                                rule_number: decision.1,
                                has_free_text: state
                                    .members
                                    .iter()
                                    .filter(same_choice)
                                    .filter(|other| is_uniform || other.name == name)
                                    .any(has_text),
                            });
                        }
                    }
                    Some(_) if expanded.insert(transition.next_state) => queue.push_back((transition.next_state, path)),
                    Some(_) | None => {}
                }
            }
        }
        elements
    }
}

/// Returns true for members that are content of the element itself: no extensions and no nested resources.
fn is_content(transition: &Transition) -> bool {
    !transition.is_resource && !matches!(transition.element, "extension" | "modifierExtension")
}
