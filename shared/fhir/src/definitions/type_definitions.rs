//! Type definitions: every element of every FHIR type, at every depth.
//!
//! The text files in `structures/` are generated from the published definitions (`.ci/fhir/tables.sh`). The first use of a version
//! parses its file. A section starts with the line `[Type] Base`, or `[Patient.contact] BackboneElement` for an element that
//! is defined in place. It lists the elements that the base does not have:
//!
//! * `birthDate date`; `name[] HumanName` for a list; `contact[] Patient.contact` for an element whose members are those of
//!   a section. A section can refer to itself: `item[] Questionnaire.item`;
//! * `value[x] valueQuantity …`: a choice, as its JSON names: the name of the element and the capitalised name of the type;
//! * `-extension`: an element of the base that this type does not have.
//!
//! Sections are ordered by name. The value of a primitive type is not an element here, because it has no name in JSON.

mod parse;

use std::sync::OnceLock;

use crate::definitions::{FhirVersion, ResourceType};

/// A type of a FHIR version: a resource type, a datatype, a primitive type or the type of a backbone element.
///
/// An index of two bytes into the [`TypeDefinitions`] that returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeDefinition(u16);

impl TypeDefinition {
    /// Creates the definition of the section at `index`.
    fn from_index(index: usize) -> Option<Self> {
        u16::try_from(index).ok().map(Self)
    }
}

/// The kind of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TypeKind {
    /// A resource type such as `Patient`, or one of the abstract types `Resource` and `DomainResource`.
    Resource,
    /// A datatype with members, or an abstract base of datatypes: `HumanName`, `Element`.
    Complex,
    /// The type of an element that is defined in place, based on BackboneElement or Element: `Patient.contact`.
    Backbone,
    /// A primitive type, a plain value in JSON: `dateTime`.
    Primitive,
}

/// A member of a JSON object and the type of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberDefinition {
    /// The JSON name: `valueQuantity`.
    pub name: &'static str,
    /// The name of the element, without the type of a choice: `value`.
    pub element: &'static str,
    /// The type of the value, or of each item of the list.
    pub definition: TypeDefinition,
    /// True if the JSON value is an array.
    pub is_list: bool,
    /// True if the value is a resource of any type, as in `contained` and `Bundle.entry.resource`. The definition is then
    /// `Resource`, and `resourceType` in the JSON tells the actual type.
    pub is_resource: bool,
}

/// The types of a FHIR version.
#[derive(Debug)]
pub struct TypeDefinitions {
    /// Ordered by name.
    sections: Vec<Section>,
}

impl FhirVersion {
    /// Returns the types that this version defines, and their members.
    pub fn type_definitions(self) -> &'static TypeDefinitions {
        static R4: OnceLock<TypeDefinitions> = OnceLock::new();
        static R4B: OnceLock<TypeDefinitions> = OnceLock::new();
        static R5: OnceLock<TypeDefinitions> = OnceLock::new();
        let definitions = match self {
            Self::R4 => &R4,
            Self::R4b => &R4B,
            Self::R5 => &R5,
        };
        definitions.get_or_init(|| TypeDefinitions { sections: parse::sections(text(self)) })
    }
}

/// Returns the text of the version's definition file.
fn text(version: FhirVersion) -> &'static str {
    match version {
        FhirVersion::R4 => include_str!("../../structures/r4.txt"),
        FhirVersion::R4b => include_str!("../../structures/r4b.txt"),
        FhirVersion::R5 => include_str!("../../structures/r5.txt"),
    }
}

impl TypeDefinitions {
    /// Returns the type with this case-sensitive name, such as `Patient`, `HumanName` or `dateTime`. Abstract types are
    /// included. The types of backbone elements have no names.
    pub fn by_name(&self, type_name: &str) -> Option<TypeDefinition> {
        let index = self.sections.binary_search_by_key(&type_name, |section| section.name);
        if type_name.contains('.') { None } else { TypeDefinition::from_index(index.ok()?) }
    }

    /// Returns the definition of a resource type; `None` if this version does not define it.
    pub fn of_resource(&self, resource_type: ResourceType) -> Option<TypeDefinition> {
        self.by_name(resource_type.as_str())
    }

    /// Returns the name of a type: `HumanName`, `dateTime`. The name of a backbone element's type is `BackboneElement` or
    /// `Element`.
    pub fn name(&self, definition: TypeDefinition) -> &'static str {
        self.lineage(definition).map(|section| section.name).find(|name| !name.contains('.')).unwrap_or_default()
    }

    /// Returns the kind of a type.
    pub fn kind(&self, definition: TypeDefinition) -> TypeKind {
        match self.section(definition).map_or("", |section| section.name) {
            backbone if backbone.contains('.') => TypeKind::Backbone,
            primitive if primitive.starts_with(|letter: char| letter.is_ascii_lowercase()) => TypeKind::Primitive,
            _ if self.is_a(definition, "Resource") => TypeKind::Resource,
            _ => TypeKind::Complex,
        }
    }

    /// Returns true if the type is `base` or a specialisation of it: an Age is a Quantity, an id is a string, a Patient is a
    /// DomainResource and a Resource, the type of a backbone element is a BackboneElement or an Element.
    pub fn is_a(&self, definition: TypeDefinition, base: &str) -> bool {
        self.lineage(definition).any(|section| section.name == base)
    }

    /// Returns the member with this JSON name. Neither `resourceType` nor names such as `_birthDate` are members; the latter
    /// hold the `id` and the `extension` of the type of `birthDate`.
    pub fn member(&self, definition: TypeDefinition, json_name: &str) -> Option<MemberDefinition> {
        for section in self.lineage(definition) {
            if let Ok(index) = section.members.binary_search_by_key(&json_name, |member| member.name) {
                return section.members.get(index).copied();
            }
            if section.excluded == Some(json_name) {
                return None;
            }
        }
        None
    }

    /// Returns all members: those of the type itself by name, then those of its base types.
    pub fn members(&self, definition: TypeDefinition) -> impl Iterator<Item = MemberDefinition> {
        let inherited = self.lineage(definition).flat_map(|section| section.members.iter().copied());
        // A type may exclude a member of its base.
        inherited.filter(move |member| self.member(definition, member.name).is_some())
    }

    /// Returns all types, including those of backbone elements.
    pub fn definitions(&self) -> impl Iterator<Item = TypeDefinition> {
        (0..).map(TypeDefinition).take(self.sections.len())
    }

    /// Returns the section of a type.
    fn section(&self, definition: TypeDefinition) -> Option<&Section> {
        self.sections.get(usize::from(definition.0))
    }

    /// Returns the section of a type and those of its base types.
    fn lineage(&self, definition: TypeDefinition) -> impl Iterator<Item = &Section> {
        std::iter::successors(self.section(definition), |section| self.section(section.base?))
    }
}

/// The part of the definitions that describes one type.
#[derive(Debug)]
struct Section {
    /// `Patient` or `Patient.contact`.
    name: &'static str,
    /// The base type, whose members are inherited.
    base: Option<TypeDefinition>,
    /// The members that the base does not have, ordered by JSON name.
    members: Vec<MemberDefinition>,
    /// The member of the base that this type does not have.
    excluded: Option<&'static str>,
}

#[cfg(test)]
mod tests;
