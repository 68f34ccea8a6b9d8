//! The definitions of FHIR: resource types, element types, search parameters.

pub(crate) mod resource_type;
pub(crate) mod structure;
pub(crate) mod tables;
pub(crate) mod version;
