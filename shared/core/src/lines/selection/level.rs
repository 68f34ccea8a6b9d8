//! Whose data an export below the level of the whole system is about.

use headrace_fhir::{Bases, PatientCompartment, Resource, ResourceType, may_mention_patient};

use crate::cohort::Roster;
use crate::request::{ExportRequest, Level};

/// The compartments that an export is about.
#[derive(Debug)]
pub(super) struct Compartments {
    compartment: PatientCompartment,
    /// Whose; `None` means every patient's.
    roster: Option<Roster>,
    /// Of the groups of a lake, the export of one holds no other: the roster knows which.
    is_about_a_group: bool,
    adds_new_members: bool,
}

/// How a resource stands to the compartments.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// It is in one of them.
    pub(super) is_member: bool,
    /// One of its patients joined the group after `_since`: all that there is of them is new to the client.
    pub(super) is_new: bool,
}

impl Compartments {
    /// `None` for the whole system.
    pub(super) fn of(request: &ExportRequest, roster: Option<Roster>, bases: Bases, adds_new_members: bool) -> Option<Self> {
        let (roster, is_about_a_group) = match &request.level {
            Level::System => return None,
            Level::AllPatients => (roster, false),
            // Without a roster nobody is meant.
            Level::OnePatient(_) => (Some(roster.unwrap_or_default()), false),
            Level::Group(_) => (Some(roster.unwrap_or_default()), true),
        };
        let compartment = PatientCompartment::of(request.version, bases);
        Some(Self { compartment, roster, is_about_a_group, adds_new_members: adds_new_members && request.since.is_some() })
    }

    /// Whether a line can be in a patient's; `false` is certain.
    pub(super) fn may_hold(&self, line: &[u8]) -> bool {
        self.roster.as_ref().is_none_or(|roster| may_mention_patient(line, &|id| roster.contains_patient_bytes(id)))
    }

    /// Whether this is a member of the group who is no patient, or the group itself.
    pub(super) fn is_other_member(&self, kind: ResourceType, id: &str) -> bool {
        self.roster.as_ref().is_some_and(|roster| roster.contains_other(kind, id))
    }

    /// How a resource stands to them.
    pub(super) fn standing(&self, resource: &Resource<'_>) -> Standing {
        let is_other_member = self.is_other_member(resource.head.kind, &resource.id());
        if is_other_member || (self.is_about_a_group && resource.head.kind.as_str() == "Group") {
            return Standing { is_member: is_other_member, is_new: false };
        }
        let Some(roster) = &self.roster else {
            return Standing { is_member: self.compartment.any_patient(resource, &mut |_| true), is_new: false };
        };
        let mut standing = Standing::default();
        self.compartment.any_patient(resource, &mut |id| {
            standing.is_member |= roster.contains_patient(id);
            standing.is_new |= self.adds_new_members && roster.joined_late(id);
            standing.is_member && (standing.is_new || !self.adds_new_members)
        });
        standing
    }

    /// Gives every patient in whose compartment the resource is, of those whom the export is about, to `visit`, some more
    /// than once.
    pub(super) fn each_patient(&self, resource: &Resource<'_>, visit: &mut impl FnMut(&str)) {
        self.compartment.any_patient(resource, &mut |id| {
            if self.roster.as_ref().is_none_or(|roster| roster.contains_patient(id)) {
                visit(id);
            }
            false
        });
    }

    /// Whether this is a patient whom the export is about.
    pub(super) fn has_patient(&self, kind: ResourceType, id: &str) -> bool {
        kind.as_str() == "Patient" && self.roster.as_ref().is_none_or(|roster| roster.contains_patient(id))
    }
}
