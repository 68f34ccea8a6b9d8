//! Finds the patients to whose blocks a resource is copied, in exports grouped by patient.

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{MemberIndex, Resource};
use headrace_fhir::semantics::compartment::PatientCompartment;

use super::{MatchedResource, Selection};
use crate::job::file::Bucket;
use crate::patients::{PatientCopies, PatientPartitioner};
use crate::request::ExportRequest;
use crate::vocab::level::Level;

/// The rules for grouping an export by patient.
#[derive(Debug)]
pub(super) struct PatientBlocks {
    partitioner: PatientPartitioner,
    /// Compartment of all patients, for a system-level export. Exports of other levels use the compartments of the selection.
    all_patients: Option<PatientCompartment>,
    /// The patient of an export of one patient. Every Provenance in it has a target in the compartment of this patient.
    only_patient: Option<String>,
}

impl PatientBlocks {
    /// Returns the rules, or `None` if the request does not ask for grouping.
    pub(super) fn new(
        request: &ExportRequest,
        partitioner: PatientPartitioner,
        compartment: impl FnOnce() -> PatientCompartment,
    ) -> Option<Self> {
        let all_patients = (request.level == Level::System).then(compartment);
        let only_patient = match &request.level {
            Level::OnePatient(id) => Some(id.clone()),
            Level::System | Level::AllPatients | Level::Group(_) => None,
        };
        request.is_organized_by_patient.then_some(Self { partitioner, all_patients, only_patient })
    }
}

/// The patients of a resource. Reused from line to line.
#[derive(Debug, Default)]
pub(crate) struct ResourcePatients {
    /// Id of the resource if it is a Patient.
    own_id: Option<String>,
    ids: Vec<(Bucket, String)>,
}

impl ResourcePatients {
    /// Returns the copies of a resource for the blocks of these patients. `text` is its line as it is exported, without line feed.
    pub(crate) fn copies<'a>(&'a self, resource: &MatchedResource<'_>, text: &'a [u8]) -> PatientCopies<'a> {
        PatientCopies { resource_type: resource.head.resource_type, text, patient_id: self.own_id.as_deref(), patients: &self.ids }
    }
}

impl Selection {
    /// Finds the patients to whose blocks a resource is copied. Returns false if the export is not grouped by patient.
    pub(crate) fn find_patients(&self, matched: &MatchedResource<'_>, patients: &mut ResourcePatients) -> bool {
        let Some(blocks) = &self.patient_blocks else { return false };
        let mut member_index = MemberIndex::default();
        patients.ids.clear();
        patients.own_id = None;
        let Some(resource) = matched.resource.or_else(|| Resource::parse(matched.line, &mut member_index).ok()) else { return true };
        let ResourcePatients { own_id, ids } = patients;
        let mut visit = |id: &str| ids.push((blocks.partitioner.bucket(id), id.to_owned()));
        match (&self.compartments, &blocks.all_patients) {
            (Some(compartments), _) => compartments.visit_patients(&resource, &mut visit),
            (None, Some(all_patients)) => {
                all_patients.visit_patients(&resource, &mut |id| {
                    visit(id);
                    false
                });
            }
            (None, None) => {}
        }
        if ids.is_empty() && resource.head.resource_type == ResourceType::PROVENANCE {
            ids.extend(blocks.only_patient.iter().map(|id| (blocks.partitioner.bucket(id), id.clone())));
        }
        ids.sort_unstable();
        ids.dedup();
        if resource.head.resource_type == ResourceType::PATIENT {
            *own_id = Some(resource.id().into_owned());
        }
        true
    }
}
