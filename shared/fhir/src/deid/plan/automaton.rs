//! The automaton that follows the paths of all rules at once, from the root of a resource down.

use std::collections::HashMap;

use super::member_table::MemberTable;
use super::reachability::{PathResolver, TypedElement};
use super::transition::Transition;
use crate::definitions::{MemberDefinition, TypeDefinition, TypeKind};
use crate::deid::config::{Method, Rule};
use crate::deid::fhirpath::Step;
use crate::deid::primitive::{PrimitiveContext, is_quantity_type};

/// The states of a resource type, the first of which is the state of its root; or of several types.
#[derive(Debug, Default)]
pub(in crate::deid) struct PathAutomaton(Vec<State>);

/// The rule that applies to an element, and the states of its members.
#[derive(Debug)]
pub(in crate::deid) struct State {
    pub(in crate::deid) applied_rule: Option<AppliedRule>,
    /// The context of a primitive element.
    pub(in crate::deid) primitive: Option<PrimitiveContext>,
    /// True if `perturb` applies to the element as a whole. Without a `value` member the element needs the tree engine.
    pub(in crate::deid) needs_value: bool,
    /// True if ids in the element are hidden although its rule leaves them, because the rule is for the value around it.
    pub(in crate::deid) hides_ids: bool,
    pub(in crate::deid) members: MemberTable,
}

/// The rule that applies to an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::deid) struct AppliedRule {
    /// The index of the rule, counted from 0 in the order of the file.
    pub(in crate::deid) index: usize,
    /// True if the rule leaves this element unchanged: `perturb` changes a Quantity's value and none of its other members.
    pub(in crate::deid) leaves_unchanged: bool,
}

/// The identity of a state. Elements with equal keys share a state.
#[derive(Clone, PartialEq, Eq, Hash)]
struct StateKey {
    definition: TypeDefinition,
    primitive: Option<PrimitiveContext>,
    applied_rule: Option<AppliedRule>,
    id_cover: IdCover,
    /// The positions in the paths of rules that can still apply further down, sorted and each once.
    open_positions: Vec<PathPosition>,
}

/// The reach of a rule that leaves ids. One that keeps a primitive value, and any that shifts or perturbs, is written for values, and not for the ids
/// inside the element that it selects, such as those in extensions.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum IdCover {
    /// The rule covers ids, or none applies.
    Ids,
    /// The rule is for values and selects this element itself.
    SelectedValue,
    /// The element is inside such an element.
    InsideValue,
}

/// A position in one of the paths of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct PathPosition {
    rule: usize,
    path: usize,
    /// The index of the next step; the length of the path if the path ends here.
    step: usize,
}

impl PathAutomaton {
    /// Compiles the rules for the resource type with the definition `root`.
    ///
    /// Returns `None` if the type needs the tree engine, or if there are more than `max_states` states.
    pub(in crate::deid) fn compile(
        rules: &[Rule],
        resolver: PathResolver,
        root: TypeDefinition,
        skips_extensions: bool,
        max_states: usize,
    ) -> Option<Self> {
        let mut compiler = AutomatonCompiler::new(rules, resolver, skips_extensions, max_states);
        compiler.add_root(root)?;
        compiler.build()
    }

    /// Compiles the rules for several resource types at once, without a limit on states. The types share the states of elements with
    /// equal rules, so this takes little longer than one type. Returns the number of each root's state with its definition.
    pub(in crate::deid) fn compile_types(
        rules: &[Rule],
        resolver: PathResolver,
        roots: impl Iterator<Item = TypeDefinition>,
        skips_extensions: bool,
    ) -> Option<(Self, Vec<(TypeDefinition, u32)>)> {
        let mut compiler = AutomatonCompiler::new(rules, resolver, skips_extensions, usize::MAX);
        let roots = roots.map(|root| Some((root, compiler.add_root(root)?))).collect::<Option<_>>()?;
        Some((compiler.build()?, roots))
    }

    /// Returns the state with this number.
    pub(in crate::deid) fn get(&self, number: u32) -> Option<&State> {
        self.0.get(usize::try_from(number).ok()?)
    }

    /// Iterates over all states. With one type, the first is the root's.
    pub(in crate::deid) fn iter(&self) -> impl Iterator<Item = &State> {
        self.0.iter()
    }
}

impl State {
    /// Returns the context of an element in which an id is hidden without a rule for the element: no rule applies to it, or one that leaves the value
    /// around it.
    pub(in crate::deid) fn open_address(&self) -> Option<PrimitiveContext> {
        let is_open = |primitive: &PrimitiveContext| {
            (self.hides_ids && primitive.can_name_resource()) || (self.applied_rule.is_none() && primitive.can_be_address())
        };
        self.primitive.filter(is_open)
    }
}

impl StateKey {
    /// Returns true if the element can hold an id that is hidden without a rule for it: in an address that no rule applies to, or inside a value
    /// whose rule leaves ids.
    fn can_hide_id(&self) -> bool {
        self.primitive.is_some_and(|primitive| match (self.id_cover, self.applied_rule) {
            (IdCover::InsideValue, _) => primitive.can_name_resource(),
            (IdCover::Ids | IdCover::SelectedValue, None) => primitive.can_be_address(),
            (IdCover::Ids | IdCover::SelectedValue, Some(_)) => false,
        })
    }
}

/// A compiler of rules into the states of an automaton.
struct AutomatonCompiler<'r> {
    rules: &'r [Rule],
    resolver: PathResolver,
    skips_extensions: bool,
    max_states: usize,
    numbers: HashMap<StateKey, u32>,
    /// The keys by state number. Those after the last built state are still to be built.
    keys: Vec<StateKey>,
}

impl<'r> AutomatonCompiler<'r> {
    /// Creates a compiler without roots.
    fn new(rules: &'r [Rule], resolver: PathResolver, skips_extensions: bool, max_states: usize) -> Self {
        Self { rules, resolver, skips_extensions, max_states, numbers: HashMap::new(), keys: Vec::new() }
    }

    /// Adds the state of a resource type's root and returns its number; `None` if the definition is not loaded.
    fn add_root(&mut self, root: TypeDefinition) -> Option<u32> {
        let type_name = self.resolver.loaded_type(root)?.name;
        let rules = self.rules.iter().enumerate().filter(|(_, rule)| rule.applies_to(type_name));
        let starts =
            rules.flat_map(|(index, rule)| (0..rule.selection.paths.len()).map(move |path| PathPosition { rule: index, path, step: 0 }));
        let starts: Vec<_> = starts.collect();
        let mut key = self.state_key(TypedElement { definition: root, name: type_name }, None, &starts, None);
        key.id_cover = self.cover_of_selected(&key);
        Some(self.state_number(key))
    }

    /// Builds all states that are reachable from the roots; `None` if the streaming engine cannot apply a rule.
    fn build(mut self) -> Option<PathAutomaton> {
        let mut automaton = PathAutomaton::default();
        // Building a state adds the keys of its members, so the list grows until no new state is found.
        while let Some(key) = self.keys.get(automaton.0.len()).cloned() {
            automaton.0.push(self.build_state(&key)?);
        }
        Some(automaton)
    }

    /// Returns the number of the state with this key and assigns the next one to a new key.
    fn state_number(&mut self, key: StateKey) -> u32 {
        let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(key).or_insert_with_key(|key| {
            self.keys.push(key.clone());
            next
        })
    }

    /// Returns the steps of a path.
    fn steps(&self, position: &PathPosition) -> Option<&'r [Step]> {
        Some(self.rules.get(position.rule)?.selection.paths.get(position.path)?.as_slice())
    }

    /// Returns the key of an element that the paths reach with the positions `arriving`; `parent_rule` applies to its parent.
    fn state_key(
        &self,
        element: TypedElement,
        primitive: Option<PrimitiveContext>,
        arriving: &[PathPosition],
        parent_rule: Option<AppliedRule>,
    ) -> StateKey {
        let mut open_positions = Vec::with_capacity(arriving.len());
        let mut applied_rule = parent_rule;
        let mut next_steps = Vec::new();
        for position in arriving {
            let Some(steps) = self.steps(position) else { continue };
            next_steps.clear();
            self.resolver.collect_positions(steps, position.step, element, &mut next_steps);
            // A path that ends here selects the element. The rule applies unless an earlier one already does.
            if next_steps.contains(&steps.len()) && applied_rule.is_none_or(|applied| position.rule < applied.index) {
                applied_rule = Some(AppliedRule { index: position.rule, leaves_unchanged: false });
            }
            let open = next_steps.iter().filter(|step| **step < steps.len());
            open_positions.extend(open.map(|step| PathPosition { step: *step, ..*position }));
        }
        // Later rules cannot apply below this element any more.
        open_positions.retain(|position: &PathPosition| applied_rule.is_none_or(|applied| position.rule < applied.index));
        open_positions.sort_unstable();
        open_positions.dedup();
        StateKey { definition: element.definition, primitive, applied_rule, id_cover: IdCover::Ids, open_positions }
    }

    /// Returns the method of a rule, unless the rule leaves the element unchanged.
    fn method(&self, applied_rule: Option<AppliedRule>) -> Option<&Method> {
        self.rules.get(applied_rule.filter(|applied| !applied.leaves_unchanged)?.index).map(|rule| &rule.method)
    }

    /// Builds a state and numbers the states of its members; `None` if the streaming engine cannot apply the rule, or if
    /// there are too many states.
    fn build_state(&mut self, key: &StateKey) -> Option<State> {
        let definition = self.resolver.loaded_type(key.definition)?;
        let is_primitive = definition.kind == TypeKind::Primitive;
        let mut needs_value = false;
        match self.method(key.applied_rule) {
            // Merging an object needs the whole element.
            Some(Method::Substitute(_)) if !is_primitive => return None,
            Some(Method::Perturb(_)) if is_quantity_type(definition.name) => {
                let value = definition.members.iter().find(|member| member.element == "value");
                needs_value = value.is_some_and(|value| self.member_key(key, definition.name, value).applied_rule == key.applied_rule);
            }
            Some(_) | None => {}
        }
        let mut members = Vec::new();
        for (index, member) in definition.members.iter().enumerate() {
            let mut member_key = self.member_key(key, definition.name, member);
            if needs_value && member.element != "value" && member_key.applied_rule == key.applied_rule {
                member_key.applied_rule = member_key.applied_rule.map(|applied| AppliedRule { leaves_unchanged: true, ..applied });
            }
            let kind = self.resolver.loaded_type(member.definition)?.kind;
            let is_left = self.method(member_key.applied_rule).is_none_or(|method| matches!(method, Method::Keep));
            let is_unchanged = is_left && !member_key.can_hide_id();
            // A nested resource has a plan of its own.
            let next_state = if member.is_resource { u32::MAX } else { self.state_number(member_key) };
            members.push(Transition::new(index, *member, kind, is_unchanged, next_state));
        }
        if self.keys.len() > self.max_states {
            return None;
        }
        Some(State {
            applied_rule: key.applied_rule,
            primitive: key.primitive,
            needs_value,
            hides_ids: key.id_cover == IdCover::InsideValue,
            members: MemberTable::new(members),
        })
    }

    /// Returns the key of a member of an element whose key is `key` and whose type is `type_name`.
    fn member_key(&self, key: &StateKey, type_name: &'static str, member: &MemberDefinition) -> StateKey {
        let mut arriving = Vec::with_capacity(key.open_positions.len());
        if !(self.skips_extensions && type_name == "Extension") {
            for position in &key.open_positions {
                let Some(steps) = self.steps(position) else { continue };
                let next_steps = PathResolver::positions_in_member(steps, position.step, member).into_iter().flatten();
                arriving.extend(next_steps.map(|step| PathPosition { step, ..*position }));
            }
            arriving.sort_unstable();
            arriving.dedup();
        }
        let definition = self.resolver.loaded_type(member.definition).filter(|definition| definition.kind == TypeKind::Primitive);
        let primitive = definition.map(|definition| PrimitiveContext::new(definition.name, member.element, type_name));
        let element = TypedElement { definition: member.definition, name: member.element };
        let mut member_key = self.state_key(element, primitive, &arriving, key.applied_rule);
        member_key.id_cover = self.id_cover(key, &member_key);
        member_key
    }

    /// Returns the reach of the rule that applies to a member of an element whose key is `parent`.
    fn id_cover(&self, parent: &StateKey, member: &StateKey) -> IdCover {
        if member.applied_rule == parent.applied_rule {
            return if parent.id_cover == IdCover::Ids { IdCover::Ids } else { IdCover::InsideValue };
        }
        self.cover_of_selected(member)
    }

    /// Returns the reach of the rule that selects the element with this key.
    fn cover_of_selected(&self, key: &StateKey) -> IdCover {
        let is_for_values = self.method(key.applied_rule).is_some_and(|method| method.spares_only_values(key.primitive.is_some()));
        if is_for_values { IdCover::SelectedValue } else { IdCover::Ids }
    }
}
