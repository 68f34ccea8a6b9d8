//! The types of a version as plans ask for them: every member and what stands there, looked up once.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::FhirVersion;
use crate::definitions::structure::{Definition, Kind, TypedMember};

/// A type.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) members: Vec<TypedMember>,
}

/// Every type of a version, by its definition.
pub(super) type Shapes = HashMap<Definition, Shape>;

/// The types of a version.
pub(super) fn shapes(version: FhirVersion) -> &'static Shapes {
    static R4: OnceLock<Shapes> = OnceLock::new();
    static R4B: OnceLock<Shapes> = OnceLock::new();
    static R5: OnceLock<Shapes> = OnceLock::new();
    let shapes = match version {
        FhirVersion::R4 => &R4,
        FhirVersion::R4b => &R4B,
        FhirVersion::R5 => &R5,
    };
    shapes.get_or_init(|| {
        let structures = version.structures();
        let shape = |of| Shape { name: structures.name(of), kind: structures.kind(of), members: structures.members(of).collect() };
        structures.definitions().map(|of| (of, shape(of))).collect()
    })
}
