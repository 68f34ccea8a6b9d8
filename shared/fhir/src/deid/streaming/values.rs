//! Values of members: arrays, elements, and primitives to which a method applies.

use super::entries::EntryState;
use super::{NeedsTree, StreamingWriter};
use crate::deid::config::{Method, Rule};
use crate::deid::engine::ValueOutcome;
use crate::deid::plan::{AppliedRule, PathAutomaton, State, Transition};

impl<'p> StreamingWriter<'p> {
    /// Writes the value of a member and returns true if anything of it is kept.
    pub(super) fn write_member_value(&mut self, automaton: &'p PathAutomaton, transition: &'p Transition) -> Result<bool, NeedsTree> {
        let begin = self.scanner.position;
        if self.scanner.next_byte() == Some(b'[') {
            return self.write_array(automaton, transition);
        }
        // Whether an item names another patient depends on what is a list in it.
        if transition.is_list && self.may_name_others {
            return Err(NeedsTree);
        }
        self.path.segments.push((transition.name, transition.is_list.then_some(0)));
        let savepoint = self.savepoint();
        // Some servers write a list with one item without brackets. They are added.
        if transition.is_list {
            self.copy_up_to(begin);
            self.out.push(b'[');
        }
        let is_kept = self.write_value(automaton, transition)?;
        if transition.is_list && is_kept {
            self.copy_up_to(self.scanner.position);
            self.out.push(b']');
        } else if transition.is_list {
            self.roll_back(&savepoint);
        }
        self.path.segments.pop();
        Ok(is_kept)
    }

    /// Writes an array and returns true if any item is kept.
    fn write_array(&mut self, automaton: &'p PathAutomaton, transition: &'p Transition) -> Result<bool, NeedsTree> {
        let savepoint = self.savepoint();
        self.expect(b'[')?;
        let mut entries = EntryState { last_end: self.scanner.position, has_kept: false };
        self.scanner.skip_spaces();
        if self.scanner.next_byte() == Some(b']') {
            self.expect(b']')?;
            return Ok(false);
        }
        for index in 0.. {
            self.scanner.skip_spaces();
            self.begin_entry(&entries, self.scanner.position);
            self.path.segments.push((transition.name, Some(index)));
            let is_kept = self.write_value(automaton, transition)?;
            self.path.segments.pop();
            self.end_entry(&mut entries, is_kept);
            match self.scanner.token().ok_or(NeedsTree)? {
                b',' => {}
                b']' => break,
                _ => return Err(NeedsTree),
            }
        }
        if !entries.has_kept {
            self.roll_back(&savepoint);
        }
        Ok(entries.has_kept)
    }

    /// Writes a single value, or one item of a list, and returns true if anything of it is kept.
    fn write_value(&mut self, automaton: &'p PathAutomaton, transition: &'p Transition) -> Result<bool, NeedsTree> {
        match self.scanner.next_byte() {
            Some(b'{') if transition.is_resource => {
                self.write_nested_resource(transition)?;
                Ok(true)
            }
            Some(b'{') if !transition.is_primitive => {
                let state = automaton.get(transition.next_state).ok_or(NeedsTree)?;
                if self.fails_on_object(state) { Err(NeedsTree) } else { self.write_element(automaton, state) }
            }
            Some(b'{' | b'[' | b'n') | None => Err(NeedsTree),
            Some(_) if transition.is_primitive => self.write_primitive(automaton.get(transition.next_state).ok_or(NeedsTree)?),
            Some(_) => Err(NeedsTree),
        }
    }

    /// Writes the id and the extensions of a primitive, which JSON holds in a member with an underscore.
    pub(super) fn write_primitive_extension(
        &mut self,
        automaton: &'p PathAutomaton,
        transition: &'p Transition,
    ) -> Result<bool, NeedsTree> {
        let state = automaton.get(transition.next_state).ok_or(NeedsTree)?;
        // These methods depend on the value beside it, and the items of two lists must stay aligned: both need the tree.
        let depends_on_value = state
            .applied_rule
            .and_then(|applied| self.engine.rule(applied.index))
            .is_some_and(|rule| matches!(rule.method, Method::Substitute(_) | Method::Perturb(_)));
        if transition.is_list || !transition.is_primitive || depends_on_value || self.scanner.next_byte() != Some(b'{') {
            return Err(NeedsTree);
        }
        self.path.segments.push((transition.name, None));
        let is_kept = self.write_object(automaton, state, None);
        self.path.segments.pop();
        is_kept
    }

    /// Writes a primitive value and returns true if anything of it is kept.
    fn write_primitive(&mut self, state: &'p State) -> Result<bool, NeedsTree> {
        let begin = self.scanner.position;
        if let Some(primitive) = state.open_address().filter(|_| self.engine.hides_addresses()) {
            let value = self.scanner.primitive().ok_or(NeedsTree)?;
            let outcome = self.context.apply_to_address(primitive, &value);
            return Ok(self.write_outcome(begin, outcome));
        }
        let rule = self.active_rule(state).filter(|(_, rule)| !matches!(rule.method, Method::Keep));
        let (Some((applied, rule)), Some(primitive)) = (rule, state.primitive) else {
            self.scanner.skip_primitive().ok_or(NeedsTree)?;
            return Ok(true);
        };
        if let Method::DateShift = rule.method {
            self.select_date_offset(applied)?;
        }
        let value = self.scanner.primitive().ok_or(NeedsTree)?;
        let outcome = self.context.apply_method(&rule.method, primitive, &value, &self.path, None).map_err(|_| NeedsTree)?;
        Ok(self.write_outcome(begin, outcome))
    }

    /// Writes what a method leaves of the value that begins at `begin` and ends at the reader's position. Returns true if anything of it is
    /// kept.
    fn write_outcome(&mut self, begin: usize, outcome: ValueOutcome) -> bool {
        if outcome == ValueOutcome::Replaced {
            self.copy_up_to(begin);
            self.out.extend_from_slice(self.context.replacement.as_bytes());
            self.copied_to = self.scanner.position;
        }
        outcome != ValueOutcome::Removed
    }

    /// Returns the rule that applies to an element, unless it leaves the element unchanged.
    fn active_rule(&self, state: &State) -> Option<(AppliedRule, &'p Rule)> {
        let applied = state.applied_rule.filter(|applied| !applied.leaves_unchanged)?;
        Some((applied, self.engine.rule(applied.index)?))
    }

    /// Returns true if the rule fails on an object, because `generalize` applies only to single values.
    pub(super) fn fails_on_object(&self, state: &State) -> bool {
        self.active_rule(state).is_some_and(|(_, rule)| matches!(rule.method, Method::Generalize(_)))
    }
}
