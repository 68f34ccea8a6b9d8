//! The semantics of FHIR that an export needs: compartments, references, groups, deletions, provenance, `_elements`.

pub(crate) mod bundle_patients;
pub mod compartment;
pub mod deletion;
pub mod elements;
pub mod group;
pub mod id;
pub mod mention;
pub mod provenance;
pub mod reference;
