//! Rules compiled for one type of resource: what is done at each place, so that one pass over a resource does it all.
//!
//! A rule touches an element and all below it, but nothing that an earlier rule has touched; so what lies below a touched
//! element is touched, always. Hence the one rule of an element is the first of those that select the element itself or
//! one above it, and a walk from the root down knows it: it takes along the rule of what is above and how far each rule's
//! path has come. Both together are a state; each state says what every member leads to. What no rule can still change
//! costs no state of its own.
//!
//! A type goes the exact way where values decide what a rule selects, where a rule merges objects, and where a rule
//! reaches into the resources within.

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use super::config::Config;
use super::edge::Edge;
use super::leaf::{Leaf, is_quantity};
use super::method::Method;
use super::reach::{Place, Ways};
use super::rule::Rule;
use super::shapes::shapes;
use crate::ResourceType;
use crate::definitions::structure::{Definition, Kind, TypedMember};
use crate::json::name_table::NameTable;

/// How resources of a type are treated.
#[derive(Debug)]
pub(super) struct Plan {
    /// The places in the file of the rules that can come to something in the type, in order.
    pub(super) rules: Vec<usize>,
    /// What one pass does; `None` where the rules have to be done one after the other over a tree.
    pub(super) states: Option<States>,
}

/// The plans of a configuration, by type: each is made when the first resource of its type comes.
#[derive(Debug)]
pub(super) struct Plans(Vec<OnceLock<Option<Plan>>>);

impl Default for Plans {
    fn default() -> Self {
        Self(ResourceType::all().map(|_| OnceLock::new()).collect())
    }
}

impl Plans {
    /// How `config` has resources of a type treated: always the same configuration. `None` of a type that its version has not.
    pub(super) fn of(&self, kind: ResourceType, config: &Config) -> Option<&Plan> {
        let compile = || {
            let version = config.version;
            let root = version.structures().of(kind)?;
            let ways = Ways { version, shapes: shapes(version) };
            Some(Plan::compile(&config.rules, ways, root, config.parameters.skips_extensions))
        };
        self.0.get(kind.index())?.get_or_init(compile).as_ref()
    }
}

/// The states of a type; the first is its root's.
#[derive(Debug, Default)]
pub(super) struct States(Vec<State>);

/// What is done at a place.
#[derive(Debug)]
pub(super) struct State {
    pub(super) claim: Option<Claim>,
    /// Of a primitive, what methods have to know of it.
    pub(super) leaf: Option<Leaf>,
    /// Whether noise is added to the element as a whole; then its `value` has to be there, or it is a case of its own.
    pub(super) needs_value: bool,
    pub(super) members: NameTable<Edge>,
}

/// Whose place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Claim {
    /// The place of the rule in the file.
    pub(super) rule: usize,
    /// Whether the rule leaves alone what stands here: noise is added to a quantity's value and to nothing beside it.
    pub(super) is_still: bool,
}

/// What tells one state from another.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    definition: Definition,
    leaf: Option<Leaf>,
    claim: Option<Claim>,
    /// How far the ways of rules have come that can still win: rule, way, position.
    open: BTreeSet<(usize, usize, usize)>,
}

/// More states than this are no plan any more. The 193 rules for HIPAA's safe harbor make some hundreds.
const STATES: usize = 5_000;

impl States {
    /// The states of a type, as the rules claim its elements. `None` where rules have to be done one after the other, and
    /// where there are more states than `limit`.
    pub(super) fn compile(rules: &[Rule], ways: Ways, root: Definition, skips_extensions: bool, limit: usize) -> Option<Self> {
        let type_name = ways.shape(root)?.name;
        Compiler { rules, ways, skips_extensions, limit, known: HashMap::new(), todo: Vec::new() }.compile(root, type_name)
    }

    pub(super) fn get(&self, state: u32) -> Option<&State> {
        self.0.get(usize::try_from(state).ok()?)
    }

    /// Every state; the first is the root's.
    pub(super) fn iter(&self) -> impl Iterator<Item = &State> {
        self.0.iter()
    }
}

impl Plan {
    /// Compiles the rules for a type.
    pub(super) fn compile(rules: &[Rule], ways: Ways, root: Definition, skips_extensions: bool) -> Self {
        let type_name = ways.shape(root).map(|shape| shape.name).unwrap_or_default();
        let mut own = Vec::new();
        let mut needs_tree = false;
        for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.is_for(type_name)) {
            let reach = ways.reach(rule, root, skips_extensions);
            let is_unknown = matches!(rule.method, Method::Unknown);
            let goes_astray = is_unknown || reach.crosses || ways.may_name_resource(rule);
            if goes_astray || !reach.ends.is_empty() {
                own.push(index);
                needs_tree |= goes_astray || !rule.select.is_exact;
            }
        }
        let states = if needs_tree { None } else { States::compile(rules, ways, root, skips_extensions, STATES) };
        Self { rules: own, states }
    }
}

struct Compiler<'r> {
    rules: &'r [Rule],
    ways: Ways,
    skips_extensions: bool,
    limit: usize,
    known: HashMap<Key, u32>,
    todo: Vec<Key>,
}

impl Compiler<'_> {
    /// `None` where one pass cannot do it.
    fn compile(&mut self, root: Definition, type_name: &'static str) -> Option<States> {
        let begin = self.rules.iter().enumerate().filter(|(_, rule)| rule.is_for(type_name));
        let begin = begin.flat_map(|(index, rule)| (0..rule.select.paths.len()).map(move |way| (index, way, 0))).collect();
        let key = self.arrive(Place { definition: root, element: type_name }, None, &begin, None);
        self.state(key);
        let mut states = States::default();
        while let Some(key) = self.todo.get(states.0.len()).cloned() {
            states.0.push(self.expand(&key)?);
        }
        Some(states)
    }

    /// The number of a state.
    fn state(&mut self, key: Key) -> u32 {
        let next = u32::try_from(self.todo.len()).unwrap_or(u32::MAX);
        *self.known.entry(key).or_insert_with_key(|key| {
            self.todo.push(key.clone());
            next
        })
    }

    /// The state of an element to which ways come with these positions.
    fn arrive(&self, at: Place, leaf: Option<Leaf>, coming: &BTreeSet<(usize, usize, usize)>, above: Option<Claim>) -> Key {
        let mut open = BTreeSet::new();
        let mut claim = above;
        for (rule, way, position) in coming {
            let Some(steps) = self.rules.get(*rule).and_then(|rule| rule.select.paths.get(*way)) else { continue };
            let mut settled = BTreeSet::new();
            self.ways.settle(steps, *position, at, &mut settled);
            if settled.remove(&steps.len()) && claim.is_none_or(|claim| *rule < claim.rule) {
                claim = Some(Claim { rule: *rule, is_still: false });
            }
            open.extend(settled.into_iter().map(|position| (*rule, *way, position)));
        }
        open.retain(|(rule, ..)| claim.is_none_or(|claim| *rule < claim.rule));
        Key { definition: at.definition, leaf, claim, open }
    }

    fn method(&self, claim: Option<Claim>) -> Option<&Method> {
        self.rules.get(claim.filter(|claim| !claim.is_still)?.rule).map(|rule| &rule.method)
    }

    fn expand(&mut self, key: &Key) -> Option<State> {
        let shape = self.ways.shape(key.definition)?;
        let is_primitive = shape.kind == Kind::Primitive;
        let mut needs_value = false;
        match self.method(key.claim) {
            Some(Method::Substitute(_)) if !is_primitive => return None,
            Some(Method::Perturb(_)) if is_quantity(shape.name) => {
                let value = shape.members.iter().find(|member| member.element == "value");
                needs_value = value.is_some_and(|value| self.child(key, shape.name, value).claim == key.claim);
            }
            Some(_) | None => {}
        }
        let mut members = Vec::new();
        for (index, member) in shape.members.iter().enumerate() {
            let mut child = self.child(key, shape.name, member);
            if needs_value && member.element != "value" && child.claim == key.claim {
                child.claim = child.claim.map(|claim| Claim { is_still: true, ..claim });
            }
            let kind = self.ways.shape(member.definition)?.kind;
            let state = if member.is_resource { u32::MAX } else { self.state(child) };
            members.push(Edge::new(index, *member, kind, state));
        }
        if self.todo.len() > self.limit {
            return None;
        }
        Some(State { claim: key.claim, leaf: key.leaf, needs_value, members: NameTable::new(members) })
    }

    /// The state of a member of an element in state `key`.
    fn child(&self, key: &Key, type_name: &'static str, member: &TypedMember) -> Key {
        let mut coming = BTreeSet::new();
        if !(self.skips_extensions && type_name == "Extension") {
            for (rule, way, position) in &key.open {
                let Some(steps) = self.rules.get(*rule).and_then(|rule| rule.select.paths.get(*way)) else { continue };
                let positions = Ways::descend(steps, *position, member).into_iter().flatten();
                coming.extend(positions.map(|position| (*rule, *way, position)));
            }
        }
        let shape = self.ways.shape(member.definition).filter(|shape| shape.kind == Kind::Primitive);
        let leaf = shape.map(|shape| Leaf::of(shape.name, member.element, type_name));
        self.arrive(Place { definition: member.definition, element: member.element }, leaf, &coming, key.claim)
    }
}
