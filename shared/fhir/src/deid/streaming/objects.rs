//! Objects: their members in the order of the text, and the security labels of a resource at its end.

use super::entries::{EntryState, ObjectState};
use super::{NeedsTree, StreamingWriter};
use crate::deid::element_tree::MAX_DEPTH;
use crate::deid::plan::{PathAutomaton, State, Transition};
use crate::deid::security_labels::{SecurityLabels, write_security_labels};

impl<'p> StreamingWriter<'p> {
    /// Writes an object and returns true if anything of it is kept.
    ///
    /// `is_contained` is `None` if the object is not a resource.
    pub(super) fn write_object(
        &mut self,
        automaton: &'p PathAutomaton,
        state: &'p State,
        is_contained: Option<bool>,
    ) -> Result<bool, NeedsTree> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(NeedsTree);
        }
        let is_resource = is_contained.is_some();
        let savepoint = self.savepoint();
        self.expect(b'{')?;
        let mut entries = EntryState { last_end: self.scanner.position, has_kept: false };
        let mut object = ObjectState::default();
        self.scanner.skip_spaces();
        // An empty resource has no type and is rejected below.
        let mut is_open = self.scanner.next_byte() != Some(b'}');
        if !is_open {
            self.expect(b'}')?;
        }
        while is_open {
            self.scanner.skip_spaces();
            self.begin_entry(&entries, self.scanner.position);
            let is_kept = self.write_member(automaton, state, is_resource, &mut object)?;
            self.end_entry(&mut entries, is_kept);
            is_open = match self.scanner.token().ok_or(NeedsTree)? {
                b',' => true,
                b'}' => false,
                _ => return Err(NeedsTree),
            };
        }
        if (state.needs_value && !object.has_value) || (is_resource && !object.has_resource_type) {
            return Err(NeedsTree);
        }
        self.depth -= 1;
        // FHIR forbids empty objects.
        if !entries.has_kept {
            self.roll_back(&savepoint);
            return Ok(false);
        }
        // All rules have been applied to the resource here, so its labels are complete. Contained resources get none.
        if self.context.labels != SecurityLabels::default() && is_contained == Some(false) {
            if self.copied_to < entries.last_end {
                self.copy_up_to(entries.last_end);
            }
            self.copied_to = self.scanner.position - 1;
            write_security_labels(self.context.labels, object.meta, true, self.out);
        }
        Ok(true)
    }

    /// Writes a member with its name and returns true if anything of it is kept.
    fn write_member(
        &mut self,
        automaton: &'p PathAutomaton,
        state: &'p State,
        is_resource: bool,
        object: &mut ObjectState<'p>,
    ) -> Result<bool, NeedsTree> {
        if let Some((token, transition)) = state.members.guess_next(object.last)
            && self.scanner.skip_name_token(token)
        {
            return self.write_named_member(automaton, transition, is_resource, object);
        }
        let name = self.scanner.name().ok_or(NeedsTree)?;
        if let Some(transition) = state.members.get(name) {
            state.members.remember_next(object.last, transition);
            return self.write_named_member(automaton, transition, is_resource, object);
        }
        self.scanner.skip_spaces();
        if is_resource && name == "resourceType" && !object.has_resource_type {
            object.has_resource_type = true;
            self.scanner.plain_string().ok_or(NeedsTree)?;
            return Ok(true);
        }
        let transition = name.strip_prefix('_').and_then(|plain| state.members.get(plain)).ok_or(NeedsTree)?;
        let is_new = object.underscore_members.insert(transition.index);
        if is_new { self.write_primitive_extension(automaton, transition) } else { Err(NeedsTree) }
    }

    /// Writes a member whose name has been read and returns true if anything of it is kept.
    #[inline(always)]
    fn write_named_member(
        &mut self,
        automaton: &'p PathAutomaton,
        transition: &'p Transition,
        is_resource: bool,
        object: &mut ObjectState<'p>,
    ) -> Result<bool, NeedsTree> {
        self.scanner.skip_spaces();
        object.last = Some(transition);
        if !object.members.insert(transition.index) {
            return Err(NeedsTree);
        }
        object.has_value |= transition.is_value && self.scanner.next_byte() != Some(b'n');
        if transition.is_unchanged_primitive && !transition.is_list {
            return self.skip_unchanged_primitive();
        }
        let is_meta = is_resource && transition.name == "meta";
        if is_meta { self.write_meta(automaton, transition, object) } else { self.write_member_value(automaton, transition) }
    }

    /// Skips a single primitive value that stays as it is. Always returns true.
    #[inline(always)]
    fn skip_unchanged_primitive(&mut self) -> Result<bool, NeedsTree> {
        // FHIR has no null here; a list takes the place of a single value only in invalid JSON.
        if let Some(b'n') = self.scanner.next_byte() {
            return Err(NeedsTree);
        }
        self.scanner.skip_primitive().ok_or(NeedsTree)?;
        Ok(true)
    }

    /// Writes the `meta` of a resource and remembers its range in the output, because labels are added to it later.
    fn write_meta(
        &mut self,
        automaton: &'p PathAutomaton,
        transition: &'p Transition,
        object: &mut ObjectState<'p>,
    ) -> Result<bool, NeedsTree> {
        let savepoint = self.savepoint();
        self.copy_up_to(self.scanner.position);
        let begin = self.out.len();
        let is_kept = self.write_member_value(automaton, transition)?;
        if is_kept {
            self.copy_up_to(self.scanner.position);
            object.meta = Some(begin..self.out.len());
        } else {
            self.roll_back(&savepoint);
        }
        Ok(is_kept)
    }
}
