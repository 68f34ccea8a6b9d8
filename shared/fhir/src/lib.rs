//! FHIR semantics over raw JSON bytes: no I/O, no async.
//!
//! A resource is a line of bytes here, never a tree: [`head`] takes one streaming pass over it and keeps the few
//! members that an export asks about.

mod definitions;
mod deid;
mod head;
#[cfg(test)]
mod independent;
mod json;
mod search;
mod semantics;

pub use definitions::resource_type::{ResourceType, TypeSet};
pub use definitions::structure::{Definition, Kind, Structures, TypedMember};
pub use definitions::tables::{Component, Element, ParameterKind, SearchParameter, Support, TypedPath};
pub use definitions::version::FhirVersion;
pub use deid::{
    Applied, DeidEnds, DeidErrors, DeidFailure, DeidFault, DeidProblem, DeidStep, Deidentification, Deidentifier, Explanation, FailedRule,
    JobTerms, Untouched,
};
pub use head::peek::{Peek, peek};
pub use head::resource::{Outline, Resource};
pub use head::{Head, NotAResource, head};
pub use json::path::Path;
pub use json::{Items, Json, Members, Shape};
pub use search::{Fault, Query, QueryError, TypeFilter, TypeFilters, Word, split_queries, supported_parameters};
pub use semantics::compartment::PatientCompartment;
pub use semantics::deletion::{Deletion, Deletions, deletion_line, deletions};
pub use semantics::elements::{Elements, ElementsError};
pub use semantics::group::{GroupError, GroupMembers, Member, Membership};
pub use semantics::instant::{Instant, InvalidInstant};
pub use semantics::mention::may_mention_patient;
pub use semantics::provenance::{provenance_targets, recorded};
pub use semantics::reference::{Bases, LocalReference, any_reference, local_reference};

/// The version of FHIR Bulk Data Access that this workspace implements. The guide's versions disagree on kick-off
/// verbs and manifest fields; 2.0.0 clients are served unchanged.
pub const IG_VERSION: &str = "3.0.0";
