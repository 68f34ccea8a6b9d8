//! Items of repeated elements, such as the members of a Group: their dates move by the patients that they name.

use memchr::{memchr_iter, memmem};

use super::{NeedsTree, StreamingWriter};
use crate::deid::engine::DateOffset;
use crate::deid::plan::{PathAutomaton, State};
use crate::json::JsonValue;

impl<'p> StreamingWriter<'p> {
    /// Writes an element with members that is no resource, and returns true if anything of it is kept.
    pub(super) fn write_element(&mut self, automaton: &'p PathAutomaton, state: &'p State) -> Result<bool, NeedsTree> {
        if !self.may_name_others {
            return self.write_object(automaton, state, None);
        }
        let mut date_offset = self.item_offset();
        self.swap_date_offset(&mut date_offset);
        let is_kept = self.write_object(automaton, state, None)?;
        self.swap_date_offset(&mut date_offset);
        Ok(is_kept)
    }

    /// Returns the date offset of the element at the reader's position, if it is an item that names another patient.
    fn item_offset(&self) -> Option<DateOffset<'p>> {
        let is_item = self.path.segments.last().is_some_and(|(_, index)| index.is_some());
        let rest = self.scanner.text.get(self.scanner.position..).filter(|_| is_item)?;
        self.engine.item_offset(JsonValue::from_valid(rest), self.context.date_offset().id(), &self.bundle_patients)
    }
}

/// Returns false if a resource outside of a Bundle names no patient but the one with the id `own`. This is so for almost all resources, and
/// found much faster than the references themselves.
pub(super) fn may_name_others(resource: &str, own: &str) -> bool {
    let bytes = resource.as_bytes();
    // These escapes can hide the name of the type.
    let has_escape = memchr_iter(b'\\', bytes).any(|at| matches!(bytes.get(at + 1), Some(b'u' | b'/')));
    has_escape
        || memmem::find_iter(bytes, TYPE_IN_REFERENCE).any(|at| {
            let behind = resource.get(at + TYPE_IN_REFERENCE.len()..).and_then(|id| id.strip_prefix(own));
            behind.is_none_or(|behind| !behind.starts_with(['"', '/']))
        })
}

/// The type in a reference to a Patient.
const TYPE_IN_REFERENCE: &str = "Patient/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_to_one_patient_are_told_from_those_to_others() {
        for (resource, names_others) in [
            (r#"{"id":"o"}"#, false),
            (r#"{"subject":{"reference":"Patient/p"},"x":"a \" \n \\ b"}"#, false),
            (r#"{"subject":{"reference":"https://x.org/Patient/p/_history/2"}}"#, false),
            (r#"{"subject":{"reference":"Patient/p"},"performer":[{"reference":"Patient/p2"}]}"#, true),
            (r#"{"performer":[{"reference":"Patient/"}]}"#, true),
            (r#"{"performer":[{"reference":"Patient\/q"}]}"#, true),
            (r#"{"performer":[{"reference":"P\u0061tient/q"}]}"#, true),
        ] {
            assert_eq!(may_name_others(resource, "p"), names_others, "{resource}");
        }
    }
}
