//! The members of an element by name, with a guess of the next one.

use std::sync::atomic::{AtomicU16, Ordering};

use super::transition::Transition;
use crate::json::NameToken;
use crate::json::name_table::NameTable;

/// The transitions of a state.
///
/// A server writes the members of all resources in the same order, and mostly the same members. Therefore the member that followed
/// another one the last time is tried first, before a name is read and looked up. The guess affects speed only.
#[derive(Debug)]
pub(in crate::deid) struct MemberTable {
    transitions: NameTable<Transition>,
    /// The names as they stand in JSON, by the index of the member.
    tokens: Vec<NameToken>,
    /// The index plus one of the member that followed another one the last time, by the index plus one of that one; 0 if there is none.
    /// The first is the first member of the element. Threads overwrite each other's values, which can only make a guess wrong.
    successors: Vec<AtomicU16>,
}

impl MemberTable {
    /// Creates a table of the transitions to all members of an element, in the order of their indexes.
    pub(super) fn new(transitions: Vec<Transition>) -> Self {
        let tokens = transitions.iter().map(|transition| NameToken::new(transition.name)).collect();
        let successors = (0..=transitions.len()).map(|_| AtomicU16::new(0)).collect();
        Self { transitions: NameTable::new(transitions), tokens, successors }
    }

    /// Returns the transition to the member with this name.
    #[inline]
    pub(in crate::deid) fn get(&self, name: &str) -> Option<&Transition> {
        self.transitions.get(name)
    }

    /// Returns all transitions in the order of their indexes.
    pub(in crate::deid) fn iter(&self) -> impl Iterator<Item = &Transition> {
        self.transitions.iter()
    }

    /// Returns the member that probably follows the member `previous`, or is the first one if that is `None`.
    #[inline(always)]
    pub(in crate::deid) fn guess_next(&self, previous: Option<&Transition>) -> Option<(&NameToken, &Transition)> {
        let successor = self.successors.get(previous.map_or(0, |previous| previous.index + 1))?;
        let index = usize::from(successor.load(Ordering::Relaxed).checked_sub(1)?);
        Some((self.tokens.get(index)?, self.transitions.at(index)?))
    }

    /// Remembers that `next` followed `previous`.
    pub(in crate::deid) fn remember_next(&self, previous: Option<&Transition>, next: &Transition) {
        let successor = self.successors.get(previous.map_or(0, |previous| previous.index + 1));
        if let (Some(successor), Ok(number)) = (successor, u16::try_from(next.index + 1)) {
            successor.store(number, Ordering::Relaxed);
        }
    }
}
