//! The semantics of FHIR that an export needs.

pub(crate) mod compartment;
pub(crate) mod deletion;
pub(crate) mod elements;
pub(crate) mod group;
pub(crate) mod instant;
pub(crate) mod mention;
pub(crate) mod provenance;
pub(crate) mod reference;
