//! Who an export is about, where it is not about all: ids of patients, and other members of a group.

/// The patients (and other members) that an export is about.
#[derive(Clone, Debug, Default)]
pub struct Roster;

impl Roster {
    /// Reads what was written when the export was planned.
    pub fn read(_: &[u8]) -> Option<Self> {
        None
    }

    /// Whether this patient is on it.
    pub fn contains_patient(&self, _: &str) -> bool {
        false
    }

    /// The same of an id as it stands in a line.
    pub fn contains_patient_bytes(&self, _: &[u8]) -> bool {
        false
    }

    /// Whether this patient joined the group after `_since`.
    pub fn joined_late(&self, _: &str) -> bool {
        false
    }
}
