//! The output of a selected line: its elements, and the line without what identifies a patient.

use std::borrow::Cow;

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::deid::{DeidFailure, Deidentified};
use headrace_fhir::head::{MemberIndex, Resource};
use headrace_fhir::json::JsonValue;
use headrace_fhir::semantics::compartment::PatientCompartment;
use headrace_fhir::semantics::deletion::Deletion;

use super::{MatchedResource, Selection};

impl Selection {
    /// Appends a resource reduced by `_elements` to `out`. Returns false, and appends nothing, if the resource is unchanged.
    pub(crate) fn apply_elements(&self, matched: &MatchedResource<'_>, out: &mut Vec<u8>) -> bool {
        self.elements.as_ref().zip(matched.resource.as_ref()).is_some_and(|(elements, resource)| elements.apply(resource, out))
    }

    /// Appends a de-identified line reduced by `_elements` to `out`. Returns false, and appends nothing, if it is unchanged.
    pub(crate) fn apply_elements_to_deidentified(&self, kind: ResourceType, line: &[u8], out: &mut Vec<u8>) -> bool {
        let object = text(line).map(JsonValue::from_valid);
        self.elements.as_ref().zip(object).is_some_and(|(elements, object)| elements.apply_to_object(kind, object, out))
    }

    /// Appends a de-identified resource to `out`. Returns `None` if the export is not de-identified.
    pub(crate) fn deidentify(&self, matched: &MatchedResource<'_>, out: &mut Vec<u8>) -> Option<Result<Deidentified, DeidFailure>> {
        let deid = self.deid.as_ref()?;
        if matched.is_deidentified {
            return Some(Ok(Deidentified::Complete));
        }
        let patient = self.deid_compartment.as_ref().and_then(|compartment| first_patient(compartment, matched));
        Some(deid.rules.deidentify(matched.line, patient.as_deref(), out))
    }

    /// Returns the id with which a deletion is reported: in a de-identified export, the hash of the id. Returns `None` if
    /// the deletion must not be reported, because the configuration does not hash every id of the type with a lasting key.
    pub(crate) fn reported_id<'d>(&self, deletion: &'d Deletion<'_>) -> Option<Cow<'d, str>> {
        match &self.deid {
            None => Some(Cow::Borrowed(&deletion.id)),
            Some(deid) => deid.rules.hashed_id(deletion.resource_type, &deletion.id).map(Cow::Owned),
        }
    }

    /// Returns true if the output is grouped by patient.
    pub(crate) fn is_grouped_by_patient(&self) -> bool {
        self.patient_blocks.is_some()
    }

    /// Returns true if the output is de-identified.
    pub(crate) fn is_deidentified(&self) -> bool {
        self.deid.is_some()
    }
}

/// Returns the id of the first patient whose compartment contains the resource. The resource is de-identified as part of that
/// patient's data.
fn first_patient(compartment: &PatientCompartment, matched: &MatchedResource<'_>) -> Option<String> {
    let mut member_index = MemberIndex::default();
    let resource = matched.resource.or_else(|| Resource::parse(matched.line, &mut member_index).ok())?;
    compartment.first_patient(&resource)
}

/// Returns a line as text. `None` if it is not valid UTF-8.
fn text(line: &[u8]) -> Option<&str> {
    std::str::from_utf8(line).ok()
}
