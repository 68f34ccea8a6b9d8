//! FHIR semantics over raw JSON bytes: no I/O, no async.
//!
//! A resource is a line of bytes here, never a tree: [`head`] takes one streaming pass over it and keeps the few
//! members that an export asks about.

mod head;
mod instant;
mod json;
mod path;
mod resource;
mod resource_type;
mod search;
mod skim;
mod tables;
mod version;

pub use head::{Head, NotAResource, head};
pub use instant::{Instant, InvalidInstant};
pub use json::{Items, Json, Members, Shape};
pub use path::Path;
pub use resource::{Outline, Resource};
pub use resource_type::{ResourceType, TypeSet};
pub use search::{Fault, Query, QueryError, TypeFilter, TypeFilters, Word, split_queries, supported_parameters};
pub use tables::{Component, Element, ParameterKind, SearchParameter, Support, TypedPath};
pub use version::FhirVersion;

/// The version of FHIR Bulk Data Access that this workspace implements. The guide's versions disagree on kick-off
/// verbs and manifest fields; 2.0.0 clients are served unchanged.
pub const IG_VERSION: &str = "3.0.0";
