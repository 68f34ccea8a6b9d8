//! The type definitions of a FHIR version with their members in memory, because compiling plans reads them often.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::definitions::{FhirVersion, MemberDefinition, TypeDefinition, TypeKind};

/// A type with its members.
#[derive(Debug)]
pub(in crate::deid) struct LoadedType {
    pub(in crate::deid) name: &'static str,
    pub(in crate::deid) kind: TypeKind,
    pub(in crate::deid) members: Vec<MemberDefinition>,
}

/// The types of a FHIR version.
pub(in crate::deid) type LoadedTypes = HashMap<TypeDefinition, LoadedType>;

/// Returns the types of a FHIR version. They are loaded once per process.
pub(super) fn loaded_types(version: FhirVersion) -> &'static LoadedTypes {
    static R4: OnceLock<LoadedTypes> = OnceLock::new();
    static R4B: OnceLock<LoadedTypes> = OnceLock::new();
    static R5: OnceLock<LoadedTypes> = OnceLock::new();
    let types = match version {
        FhirVersion::R4 => &R4,
        FhirVersion::R4b => &R4B,
        FhirVersion::R5 => &R5,
    };
    types.get_or_init(|| {
        let type_definitions = version.type_definitions();
        let load = |definition| LoadedType {
            name: type_definitions.name(definition),
            kind: type_definitions.kind(definition),
            members: type_definitions.members(definition).collect(),
        };
        type_definitions.definitions().map(|definition| (definition, load(definition))).collect()
    })
}
