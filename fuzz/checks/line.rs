//! Lines of the lake. The input is a line, which is a resource, a deletion or invalid. The fast checks of lines must agree with the
//! full parsers.

use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::head::{MemberIndex, Resource, UnvalidatedHead};
use headrace_fhir::semantics::compartment::PatientCompartment;
use headrace_fhir::semantics::deletion::parse_deletions;
use headrace_fhir::semantics::elements::Elements;
use headrace_fhir::semantics::mention::may_mention_patient;
use headrace_fhir::semantics::provenance::{provenance_recorded, visit_provenance_targets};
use headrace_fhir::semantics::reference::BaseUrls;

/// Panics if parsing panics or if a fast check and a full parser disagree.
pub(crate) fn check(line: &[u8]) {
    let mut member_index = MemberIndex::default();
    let unvalidated = UnvalidatedHead::parse(line);
    let may_mention = may_mention_patient(line, &|id| id == b"p-1");
    let Ok(resource) = Resource::parse(line, &mut member_index) else { return };
    if let Some(head) = unvalidated {
        assert_eq!((head.resource_type, head.id), (resource.head.resource_type, &*resource.id()));
    }
    let compartment = PatientCompartment::new(FhirVersion::R4, BaseUrls::any());
    let is_about = compartment.visit_patients(&resource, &mut |id| id == "p-1");
    assert!(may_mention || !is_about, "the fast check skips a line that is in the patient's compartment");
    drop(parse_deletions(resource.json()));
    let _moment = provenance_recorded(&resource);
    assert!(!visit_provenance_targets(&resource, &BaseUrls::any(), &mut |_| false));
    if let Ok(elements) = Elements::parse(&["id".to_owned(), "status".to_owned()], FhirVersion::R4) {
        let mut reduced = Vec::new();
        if elements.apply(&resource, &mut reduced) {
            assert!(Resource::parse(&reduced, &mut MemberIndex::default()).is_ok(), "the output of `_elements` is not a resource");
        }
    }
}
