//! The choice between the old and the new id of the root resource for the date offset.

use std::borrow::Cow;

use super::{NeedsTree, StreamingWriter};
use crate::deid::engine::{DateOffset, ValueOutcome};
use crate::deid::plan::{AppliedRule, PathAutomaton};
use crate::deid::primitive::PrimitiveContext;
use crate::json::JsonValue;

/// The id of the root resource, and the rule that changes it.
///
/// Rules apply in the order of the file. A date moves by the id that the root has when the date's rule applies.
pub(super) struct RootId<'p> {
    original: &'p str,
    applied_rule: Option<AppliedRule>,
    primitive: Option<PrimitiveContext>,
    /// The offset of the id that is not current, once it has been computed.
    other_offset: Option<DateOffset<'p>>,
    /// True if the new id currently determines the offset.
    uses_new_id: bool,
}

impl<'p> RootId<'p> {
    /// Creates the id of the root resource from the automaton of its type and its original id.
    pub(super) fn new(automaton: &PathAutomaton, original: &'p str) -> Self {
        let id = automaton.get(0).and_then(|root| automaton.get(root.members.get("id")?.next_state));
        let (applied_rule, primitive) = (id.and_then(|id| id.applied_rule), id.and_then(|id| id.primitive));
        Self { original, applied_rule, primitive, other_offset: None, uses_new_id: false }
    }
}

impl<'p> StreamingWriter<'p> {
    /// Selects the date offset for a date to which `date_rule` applies.
    ///
    /// The new id determines it inside nested resources, since these are processed after the root, and for a rule that
    /// follows the rule for the id.
    pub(super) fn select_date_offset(&mut self, date_rule: AppliedRule) -> Result<(), NeedsTree> {
        // A patient determines the offset, whatever becomes of ids.
        let id_rule = self.root_id.applied_rule.filter(|_| !self.engine.has_entry_offsets());
        let Some(id_rule) = id_rule else { return Ok(()) };
        let needs_new_id = self.open_resources > 1 || id_rule.index < date_rule.index;
        if needs_new_id == self.root_id.uses_new_id {
            return Ok(());
        }
        let mut other_offset = match self.root_id.other_offset.take() {
            Some(offset) => offset,
            None => self.offset_of_new_id(id_rule)?,
        };
        self.context.swap_date_offset(&mut other_offset);
        self.root_id.other_offset = Some(other_offset);
        self.root_id.uses_new_id = needs_new_id;
        Ok(())
    }

    /// Returns the date offset of the id that the rule for the id produces.
    fn offset_of_new_id(&mut self, id_rule: AppliedRule) -> Result<DateOffset<'p>, NeedsTree> {
        let (Some(rule), Some(primitive)) = (self.engine.rule(id_rule.index), self.root_id.primitive) else { return Err(NeedsTree) };
        // The member itself adds the label when it is written.
        let labels = self.context.labels;
        let path = format_args!("{}.id", self.path.root);
        let outcome = self.context.apply_method(&rule.method, primitive, self.root_id.original, &path, None).map_err(|_| NeedsTree)?;
        self.context.labels = labels;
        let new_id = match outcome {
            ValueOutcome::Kept => self.root_id.original.into(),
            ValueOutcome::Removed => Cow::Borrowed(""),
            ValueOutcome::Replaced => JsonValue::from_valid(&self.context.replacement).primitive_text(),
        };
        Ok(self.context.date_offset_for(new_id.into_owned()))
    }
}
