//! FHIR semantics over raw JSON bytes: no I/O, no async.
//!
//! A resource is a line of bytes here, never a tree: [`head`] takes one streaming pass over it and keeps the few
//! members that an export asks about.

mod compartment;
mod deid;
mod deletion;
mod elements;
mod group;
mod head;
#[cfg(test)]
mod independent;
mod instant;
mod json;
mod mention;
mod name_table;
mod path;
mod peek;
mod provenance;
mod reference;
mod resource;
mod resource_type;
mod search;
mod skim;
mod structure;
mod tables;
mod version;

pub use compartment::PatientCompartment;
pub use deid::{
    Applied, DeidEnds, DeidErrors, DeidFailure, DeidFault, DeidProblem, DeidStep, Deidentification, Deidentifier, Explanation, FailedRule,
    JobTerms, Untouched,
};
pub use deletion::{Deletion, Deletions, deletion_line, deletions};
pub use elements::{Elements, ElementsError};
pub use group::{GroupError, GroupMembers, Member, Membership};
pub use head::{Head, NotAResource, head};
pub use instant::{Instant, InvalidInstant};
pub use json::{Items, Json, Members, Shape};
pub use mention::may_mention_patient;
pub use path::Path;
pub use peek::{Peek, peek};
pub use provenance::{provenance_targets, recorded};
pub use reference::{Bases, LocalReference, any_reference, local_reference};
pub use resource::{Outline, Resource};
pub use resource_type::{ResourceType, TypeSet};
pub use search::{Fault, Query, QueryError, TypeFilter, TypeFilters, Word, split_queries, supported_parameters};
pub use structure::{Definition, Kind, Structures, TypedMember};
pub use tables::{Component, Element, ParameterKind, SearchParameter, Support, TypedPath};
pub use version::FhirVersion;

/// The version of FHIR Bulk Data Access that this workspace implements. The guide's versions disagree on kick-off
/// verbs and manifest fields; 2.0.0 clients are served unchanged.
pub const IG_VERSION: &str = "3.0.0";
