//! A line of the lake: whatever lies there, it is a resource, a deletion, or refused; and the cheap looks at it agree with
//! the thorough ones.

use headrace_fhir::{
    Bases, Elements, FhirVersion, Outline, PatientCompartment, Resource, deletions, may_mention_patient, peek, provenance_targets, recorded,
};

/// Panics if reading does, or if two ways of reading differ.
pub(crate) fn check(line: &[u8]) {
    let mut outline = Outline::default();
    let peeked = peek(line);
    let may_mention = may_mention_patient(line, &|id| id == b"p-1");
    let Ok(resource) = Resource::read(line, &mut outline) else { return };
    if let Some(peeked) = peeked {
        assert_eq!((peeked.kind, peeked.id), (resource.head.kind, &*resource.id()));
    }
    let compartment = PatientCompartment::of(FhirVersion::R4, Bases::any());
    let is_about = compartment.any_patient(&resource, &mut |id| id == "p-1");
    assert!(may_mention || !is_about, "a line was passed over that is in the patient's compartment");
    drop(deletions(resource.json()));
    let _moment = recorded(&resource);
    assert!(!provenance_targets(&resource, &Bases::any(), &mut |_| false));
    if let Ok(elements) = Elements::parse(&["id".to_owned(), "status".to_owned()], FhirVersion::R4) {
        let mut reduced = Vec::new();
        if elements.apply(&resource, &mut reduced) {
            assert!(Resource::read(&reduced, &mut Outline::default()).is_ok(), "a reduced resource is none");
        }
    }
}
