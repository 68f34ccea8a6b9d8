//! Whose data an export below the level of the whole system is about.

use headrace_fhir::{Bases, PatientCompartment, Resource, ResourceType, may_mention_patient};
use memchr::memmem::Finder;

use crate::request::{ExportRequest, Level};
use crate::roster::Roster;

/// The compartments that an export is about.
#[derive(Debug)]
pub(super) struct Compartments {
    compartment: PatientCompartment,
    /// Whose; `None` means every patient's.
    roster: Option<Roster>,
    /// Of the groups of a lake, the export of one holds no other.
    is_of_group: bool,
    /// What the lines of members who are no patients hold: `"Practitioner"`.
    others: Vec<Finder<'static>>,
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
        let roster = match &request.level {
            Level::System => return None,
            Level::AllPatients => roster,
            // Without a roster nobody is meant.
            Level::OnePatient(_) | Level::Group(_) => Some(roster.unwrap_or_default()),
        };
        let other_kinds = roster.as_ref().map(Roster::other_kinds).unwrap_or_default();
        let others = other_kinds.iter().map(|kind| Finder::new(&format!("\"{kind}\"")).into_owned());
        Some(Self {
            compartment: PatientCompartment::of(request.version, bases),
            is_of_group: matches!(request.level, Level::Group(_)),
            others: others.collect(),
            adds_new_members: adds_new_members && request.since.is_some() && roster.as_ref().is_some_and(Roster::has_late_members),
            roster,
        })
    }

    /// Whether a line can be in one of them; `false` is certain.
    pub(super) fn may_hold(&self, line: &[u8]) -> bool {
        let Some(roster) = &self.roster else { return true };
        may_mention_patient(line, &|id| roster.contains_patient_bytes(id)) || self.others.iter().any(|other| other.find(line).is_some())
    }

    /// How a resource stands to them.
    pub(super) fn standing(&self, resource: &Resource<'_>) -> Standing {
        let kind = resource.head.kind;
        let Some(roster) = &self.roster else {
            return Standing { is_member: self.compartment.any_patient(resource, &mut |_| true), is_new: false };
        };
        if roster.other_kinds().contains(kind) && roster.contains_other(kind, &resource.id()) {
            return Standing { is_member: true, is_new: false };
        }
        if self.is_of_group && kind.as_str() == "Group" {
            return Standing::default();
        }
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
