//! The patients of an export, and the Groups that name them.

mod group;
mod newest_version;
mod patient_set;
mod sorted_keys;

pub(crate) use group::{FilterMatches, GroupDefinition, GroupMember, ResolvedGroup};
pub(crate) use newest_version::{NewestVersion, ObjectPosition, VersionOrder};
pub use patient_set::{DamagedPatientSet, PatientSet, PatientSetMember};
pub use sorted_keys::SortedKeys;
