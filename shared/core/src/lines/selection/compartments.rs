//! The Patient compartments of an export below the system level.

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::Resource;
use headrace_fhir::semantics::compartment::PatientCompartment;
use headrace_fhir::semantics::mention::may_mention_patient;

use crate::cohort::PatientSet;
use crate::request::ExportRequest;
use crate::vocab::lake_settings::LakeSettings;
use crate::vocab::level::Level;

/// The compartments of an export.
#[derive(Debug)]
pub(super) struct Compartments {
    compartment: PatientCompartment,
    /// Patients of the export. `None` means all patients.
    patient_set: Option<PatientSet>,
    /// True if the export is limited to certain patients. It contains no Group except the requested one, which is in the patient
    /// set: a Group has the ids of its other members, which are other people's data.
    excludes_groups: bool,
    adds_new_members: bool,
    /// True for an export of a group, which tells how many of its patients the lake does not have.
    finds_group_members: bool,
}

/// The relation of a resource to the compartments.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MembershipBasis {
    /// True if the resource is in one of the compartments.
    pub(super) is_member: bool,
    /// True if one of its patients joined the group after `_since`, so that all data of the patient is new to the client.
    pub(super) is_of_late_joiner: bool,
    /// True for the Patient resource of a patient that the requested group names.
    pub(super) is_group_member: bool,
}

impl Compartments {
    /// Returns the compartments of a request, or `None` for the system level.
    pub(super) fn new(request: &ExportRequest, patient_set: Option<PatientSet>, lake: &LakeSettings) -> Option<Self> {
        let patient_set = match &request.level {
            Level::System => return None,
            Level::AllPatients => patient_set,
            // A missing set means no patients here, not all.
            Level::OnePatient(_) | Level::Group(_) => Some(patient_set.unwrap_or_default()),
        };
        let excludes_groups = patient_set.is_some();
        let compartment = PatientCompartment::new(request.version, lake.bases.clone());
        let adds_new_members = lake.adds_new_members && request.since.is_some();
        let finds_group_members = matches!(request.level, Level::Group(_));
        Some(Self { compartment, patient_set, excludes_groups, adds_new_members, finds_group_members })
    }

    /// Returns false if the line is certainly in no compartment. Only searches the text for ids.
    pub(super) fn may_contain(&self, line: &[u8]) -> bool {
        self.patient_set.as_ref().is_none_or(|set| may_mention_patient(line, &|id| set.contains_patient_bytes(id)))
    }

    /// Returns true if the resource is the requested Group, or a member of it that is not a patient.
    pub(super) fn is_other_member(&self, kind: ResourceType, id: &str) -> bool {
        self.patient_set.as_ref().is_some_and(|set| set.contains_other(kind, id))
    }

    /// Determines whether a resource belongs to the export's patients or group, and whether it belongs to a late joiner.
    pub(super) fn membership(&self, resource: &Resource<'_>) -> MembershipBasis {
        let is_other_member = self.is_other_member(resource.head.resource_type, &resource.id());
        if is_other_member || (self.excludes_groups && resource.head.resource_type == ResourceType::GROUP) {
            return MembershipBasis { is_member: is_other_member, ..MembershipBasis::default() };
        }
        let Some(set) = &self.patient_set else {
            let is_member = self.compartment.visit_patients(resource, &mut |_| true);
            return MembershipBasis { is_member, ..MembershipBasis::default() };
        };
        let is_group_member = self.finds_group_members && self.contains_patient(resource.head.resource_type, &resource.id());
        let mut membership = MembershipBasis { is_group_member, ..MembershipBasis::default() };
        self.compartment.visit_patients(resource, &mut |id| {
            membership.is_member |= set.contains_patient(id);
            membership.is_of_late_joiner |= self.adds_new_members && set.joined_after_since(id);
            // Returning true stops the visit, as soon as the remaining patients cannot change the result.
            membership.is_member && (membership.is_of_late_joiner || !self.adds_new_members)
        });
        membership
    }

    /// Calls `visit` for each patient of the export in whose compartment the resource is. A patient may be visited repeatedly.
    pub(super) fn visit_patients(&self, resource: &Resource<'_>, visit: &mut impl FnMut(&str)) {
        self.compartment.visit_patients(resource, &mut |id| {
            if self.patient_set.as_ref().is_none_or(|set| set.contains_patient(id)) {
                visit(id);
            }
            false
        });
    }

    /// Returns true if the resource is a patient of the export.
    pub(super) fn contains_patient(&self, kind: ResourceType, id: &str) -> bool {
        kind == ResourceType::PATIENT && self.patient_set.as_ref().is_none_or(|set| set.contains_patient(id))
    }
}
