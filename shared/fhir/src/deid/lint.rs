//! What can be said of a configuration before it meets any data.

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::config::Config;
use super::edge::Edge;
use super::error::{DeidFault, Short};
use super::fhirpath::Step;
use super::leaf::Role;
use super::method::Method;
use super::plan::{State, States};
use super::reach::Ways;
use super::rule::Rule;
use super::shapes::shapes;
use crate::ResourceType;
use crate::definitions::structure::Definition;

/// An element that no rule touches: it is exported as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untouched {
    /// `Patient.maritalStatus`, with all that is in it.
    pub path: String,
    /// Its type: `CodeableConcept`. Of a choice, the first.
    pub type_name: &'static str,
}

/// Looks through the rules.
pub(super) struct Lint<'c> {
    config: &'c Config,
    ways: Ways,
    /// The rules with nothing to do: only where they apply counts here.
    rules: Vec<Rule>,
}

impl<'c> Lint<'c> {
    pub(super) fn new(config: &'c Config) -> Self {
        let rules = config.rules.iter().map(|rule| Rule { method: Method::Keep, ..rule.clone() }).collect();
        Self { config, ways: Ways { version: config.version, shapes: shapes(config.version) }, rules }
    }

    /// What to look at: rules that can never do anything, and ids that leave by another door.
    pub(super) fn faults(&self) -> Vec<DeidFault> {
        let (used, selecting) = self.used();
        let mut faults = Vec::new();
        for (index, rule) in self.written() {
            let reason = if !selecting.contains(&index) {
                self.dead_end(rule)
            } else if !used.contains(&index) {
                Some("earlier rules touch all that it selects; it does nothing".to_owned())
            } else {
                None
            };
            faults.extend(reason.map(|reason| DeidFault::of_rule(rule.number, &rule.path, reason)));
        }
        faults.extend(self.open_references());
        faults
    }

    /// The rules that stand in the file.
    fn written(&self) -> impl Iterator<Item = (usize, &Rule)> {
        let of_file = self.config.rules.iter().enumerate().filter(|(_, rule)| !matches!(rule.method, Method::Drop));
        of_file.filter_map(|(index, _)| Some((index, self.rules.get(index)?)))
    }

    /// The types of the version.
    fn roots(&self) -> impl Iterator<Item = Definition> {
        let version = self.config.version;
        version.types().iter().filter_map(move |kind| version.structures().of(kind))
    }

    /// The rules that are the first to touch some element of some type, and those that select any.
    fn used(&self) -> (HashSet<usize>, HashSet<usize>) {
        let (mut used, mut selecting) = (HashSet::new(), HashSet::new());
        // Whether a rule with a condition touches an element depends on the resource: it takes none from a later rule for sure.
        let is_sure = |index: usize| self.rules.get(index).is_some_and(|rule| rule.select.is_exact);
        for root in self.roots() {
            let mut unsure = Vec::new();
            for (index, rule) in self.rules.iter().enumerate() {
                let reach = self.ways.reach(rule, root, self.config.parameters.skips_extensions);
                if reach.ends.is_empty() && !reach.crosses {
                    continue;
                }
                selecting.insert(index);
                if reach.crosses {
                    // What it does in the resources within is theirs.
                    used.insert(index);
                } else if !is_sure(index) {
                    unsure.push(index);
                }
            }
            used.extend(self.claims(root, is_sure));
            for index in unsure {
                used.extend(self.claims(root, |other| other == index || is_sure(other)).filter(|claim| *claim == index));
            }
        }
        (used, selecting)
    }

    /// The rules of a type's elements, with those only that `counts` lets take part.
    fn claims(&self, root: Definition, counts: impl Fn(usize) -> bool) -> impl Iterator<Item = usize> {
        let mut rules = self.rules.clone();
        for (index, rule) in rules.iter_mut().enumerate() {
            if !counts(index) {
                rule.select.paths.clear();
            }
        }
        let states = self.states(&rules, root);
        let claims: BTreeSet<_> = states.iter().flat_map(States::iter).filter_map(|state| Some(state.claim?.rule)).collect();
        claims.into_iter()
    }

    /// Why a rule selects nothing in any type: the first step that leads nowhere.
    fn dead_end(&self, rule: &Rule) -> Option<String> {
        let structures = self.config.version.structures();
        // A type that does not exist was told when the file was read.
        if rule.kind.as_deref().is_some_and(|kind| structures.named(kind).is_none()) {
            return None;
        }
        let ends = |steps: &[Step]| {
            let mut begun = rule.clone();
            begun.select.paths = vec![steps.to_vec()];
            self.roots().flat_map(|root| self.ways.reach(&begun, root, false).ends).collect::<Vec<_>>()
        };
        let mut steps = rule.select.paths.iter().flat_map(|way| (0..way.len()).map(move |length| way.split_at(length)));
        let dead = steps.find_map(|(before, rest)| {
            let (step, _) = rest.split_first()?;
            let through: Vec<_> = before.iter().chain([step]).cloned().collect();
            ends(&through).is_empty().then_some((before, step))
        });
        let Some((before, step)) = dead else {
            return Some("what it selects lies in extensions, and rulesInExtensions is false".to_owned());
        };
        let members = || ends(before).into_iter().filter_map(|end| self.ways.shape(end.definition)).flat_map(|shape| &shape.members);
        let hint = |name: &str, known: &mut dyn Iterator<Item = &'static str>| {
            closest(name, known).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default()
        };
        Some(match step {
            Step::Child(name) => {
                let choice = members().find(|member| member.name == &**name);
                let hint = match choice {
                    Some(choice) => format!("; a choice is named without its type: `{}`", choice.element),
                    None => hint(name, &mut members().map(|member| member.element)),
                };
                format!("it selects nothing: there is no element `{}` where the path looks for it{hint}", Short(name))
            }
            Step::NameIs(name) => {
                let names = &mut self.ways.shapes.values().flat_map(|shape| &shape.members).map(|member| member.element);
                format!("it selects nothing: no element there is named `{}`{}", Short(name), hint(name, names))
            }
            Step::TypeIs(name) | Step::OfType(name) => {
                // An element with a capital looks like a type.
                let names = &mut self.ways.shapes.values().map(|shape| shape.name).chain(members().map(|member| member.element));
                format!("it selects nothing: nothing there is of the type `{}`{}", Short(name), hint(name, names))
            }
            Step::AnyChild | Step::Within | Step::Below | Step::Everywhere => "it selects nothing".to_owned(),
        })
    }

    /// Ids are hashed, and references still show them.
    fn open_references(&self) -> Option<DeidFault> {
        let rule = |state: &State| self.config.rules.get(state.claim?.rule);
        let keeps = |rule: &&Rule| matches!(rule.method, Method::Keep);
        for root in self.roots() {
            let states = self.states(&self.rules, root)?;
            let id = states.get(0).and_then(|root| states.get(root.members.get("id")?.state));
            if !id.and_then(rule).is_some_and(|rule| matches!(rule.method, Method::CryptoHash)) {
                continue;
            }
            let is_reference = |state: &&State| state.leaf.is_some_and(|leaf| leaf.role == Role::Reference);
            let mut open = states.iter().filter(is_reference).map(rule).filter(|rule| rule.as_ref().is_none_or(keeps));
            let type_name = self.ways.shape(root).map(|shape| shape.name).unwrap_or_default();
            let Some(open) = open.next() else { continue };
            return Some(match open {
                Some(rule) => {
                    let reason = format!("it keeps references in {type_name}, and they show ids that other rules hash");
                    DeidFault::of_rule(rule.number, &rule.path, reason)
                }
                None => DeidFault::of_file(format!(
                    "ids are hashed, but references in {type_name} still show them; hash nodesByType('Reference').reference as well"
                )),
            });
        }
        None
    }

    /// As many as there are: nothing is looked through halfway.
    fn states(&self, rules: &[Rule], root: Definition) -> Option<States> {
        States::compile(rules, self.ways, root, self.config.parameters.skips_extensions, usize::MAX)
    }

    /// See [`super::Deidentification::untouched`].
    pub(super) fn untouched(&self, kind: ResourceType) -> Vec<Untouched> {
        let root = self.config.version.structures().of(kind);
        let Some(states) = root.and_then(|root| self.states(&self.rules, root)) else { return Vec::new() };
        let touched = touched(&states);
        let mut found = Vec::new();
        let mut known = HashSet::from([0]);
        let mut open = VecDeque::from([(0, kind.as_str().to_owned())]);
        while let Some((number, path)) = open.pop_front() {
            let Some(state) = states.get(number).filter(|state| state.claim.is_none()) else { continue };
            let mut told = HashSet::new();
            for edge in state.members.iter() {
                // What is in a resource within is told of its own type.
                let is_free = states.get(edge.state).is_some_and(|below| below.claim.is_none());
                if !is_free || edge.is_resource {
                    continue;
                }
                // A choice is named without its type, as rules name it, where no rule tells its types apart.
                let is_apart = |other: &Edge| other.element == edge.element && touched.contains(&other.state);
                let name = if state.members.iter().any(is_apart) { edge.name } else { edge.element };
                let path = format!("{path}.{name}");
                if !edge.is_primitive && !is_extension(edge) && touched.contains(&edge.state) {
                    if known.insert(edge.state) {
                        open.push_back((edge.state, path));
                    }
                } else if told.insert(name) {
                    let type_name = self.ways.shape(edge.definition).map(|shape| shape.name).unwrap_or_default();
                    found.push(Untouched { path, type_name });
                }
            }
        }
        found
    }
}

fn is_extension(edge: &Edge) -> bool {
    matches!(edge.element, "extension" | "modifierExtension")
}

/// The states in which, or below which, some rule touches something.
fn touched(states: &States) -> HashSet<u32> {
    let numbered = || (0..).zip(states.iter());
    let mut touched: HashSet<u32> = numbered().filter(|(_, state)| state.claim.is_some()).map(|(number, _)| number).collect();
    loop {
        let before = touched.len();
        for (number, state) in numbered() {
            // Extensions hold elements of every type; by them everything would hold something.
            if state.members.iter().any(|edge| !is_extension(edge) && touched.contains(&edge.state)) {
                touched.insert(number);
            }
        }
        if touched.len() == before {
            return touched;
        }
    }
}

/// The name that is meant, if one of the known ones is spelled nearly so.
fn closest(name: &str, known: &mut dyn Iterator<Item = &'static str>) -> Option<&'static str> {
    let (distance, closest) = known.map(|known| (distance(name, known), known)).min()?;
    (distance <= 2 && distance < closest.len() / 2).then_some(closest)
}

/// How many letters have to be put in, left out or changed to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (place, letter) in one.bytes().enumerate() {
        let mut corner = place;
        let mut left = place + 1;
        let mut next = vec![left];
        for (above, there) in row.iter().skip(1).zip(other.bytes()) {
            left = (corner + usize::from(letter != there)).min(above + 1).min(left + 1);
            corner = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
