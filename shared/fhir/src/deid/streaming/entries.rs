//! The state of objects and arrays while they are streamed.

use std::ops::Range;

use crate::deid::plan::Transition;

/// The state of the members of an object or the items of an array.
pub(super) struct EntryState {
    /// The offset behind the last entry, or behind the opening bracket before the first.
    pub(super) last_end: usize,
    /// True if an entry has been kept.
    pub(super) has_kept: bool,
}

/// A position to return to if nothing after it is kept.
pub(super) struct Savepoint {
    pub(super) output_length: usize,
    pub(super) copied_to: usize,
}

/// The members of an object that have been read.
#[derive(Default)]
pub(super) struct ObjectState<'p> {
    pub(super) members: MemberSet,
    /// The member that was read last, among those without an underscore.
    pub(super) last: Option<&'p Transition>,
    /// The members whose names begin with an underscore.
    pub(super) underscore_members: MemberSet,
    /// True if the resource's `resourceType` has been read.
    pub(super) has_resource_type: bool,
    /// True if a `value` other than null has been read.
    pub(super) has_value: bool,
    /// The range of the resource's `meta` in the output.
    pub(super) meta: Option<Range<usize>>,
}

/// A set of member indexes below 256. No FHIR type has more members; a larger index counts as present.
#[derive(Default)]
pub(super) struct MemberSet([u64; 4]);

impl MemberSet {
    /// Adds a member and returns true if it is new.
    pub(super) fn insert(&mut self, index: usize) -> bool {
        let Some(word) = self.0.get_mut(index / 64) else { return false };
        let bit = 1 << (index % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}
