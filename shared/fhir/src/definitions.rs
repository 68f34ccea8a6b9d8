//! The definitions of FHIR R4, R4B and R5: resource types, element types, search parameters, compartments.

mod resource_definitions;
mod resource_type;
mod type_definitions;
mod version;

pub use resource_definitions::{CompositeComponent, ParameterPath, ParameterSupport, RootElement, SearchParamType, SearchParameter};
pub use resource_type::{ResourceType, TypeSet};
pub use type_definitions::{MemberDefinition, TypeDefinition, TypeDefinitions, TypeKind};
pub use version::FhirVersion;
