//! What FHIR's types are made of: every element of every type, at every depth.
//!
//! The tables are texts that a generator of ours writes from the published definitions (`.ci/fhir/tables.sh`). The first
//! question to a version reads its text. A section is a line `[Type] Base`, or `[Patient.contact] BackboneElement` for an
//! element that is defined in place, and the elements that its base has not:
//!
//! * `birthDate date`, `name[] HumanName` for a list, `contact[] Patient.contact` where the members are a section's;
//!   `item[] Questionnaire.item` refers to a section from within;
//! * `value[x] valueQuantity …`: a choice, by its names in JSON. A type's name follows the element's, capitalised;
//! * `-extension`: what the base has and this type has not.
//!
//! Sections are ordered by name. The value of a primitive is no element here: it is what stands in JSON.

mod read;

use std::sync::OnceLock;

use crate::{FhirVersion, ResourceType};

/// A type of a FHIR version: a resource's, a datatype's, a primitive's or an inner element's.
///
/// Two bytes; of use only with the [`Structures`] that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Definition(u16);

impl Definition {
    /// That of the section at this index.
    fn at(index: usize) -> Option<Self> {
        u16::try_from(index).ok().map(Self)
    }
}

/// What sort of type a definition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `Patient`, and the abstract types `Resource` and `DomainResource`.
    Resource,
    /// A datatype with members, and what datatypes specialise: `HumanName`, `Element`.
    Complex,
    /// An element defined in place, a BackboneElement or an Element: `Patient.contact`.
    Inner,
    /// A bare value in JSON: `dateTime`.
    Primitive,
}

/// A member of a JSON object, and what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypedMember {
    /// Its name in JSON: `valueQuantity`.
    pub name: &'static str,
    /// The element's name, without the type of a choice: `value`.
    pub element: &'static str,
    /// What stands there, or in each place of the list.
    pub definition: Definition,
    /// Whether JSON has an array here.
    pub is_list: bool,
    /// Whether a resource of any type stands here, as in `contained` and `Bundle.entry.resource`. The definition is that
    /// of `Resource`; `resourceType` says which it is.
    pub is_resource: bool,
}

/// The types of a FHIR version.
#[derive(Debug)]
pub struct Structures {
    /// Ordered by name.
    sections: Vec<Section>,
}

impl FhirVersion {
    /// The types that this version defines, and their members.
    pub fn structures(self) -> &'static Structures {
        static R4: OnceLock<Structures> = OnceLock::new();
        static R4B: OnceLock<Structures> = OnceLock::new();
        static R5: OnceLock<Structures> = OnceLock::new();
        let structures = match self {
            Self::R4 => &R4,
            Self::R4b => &R4B,
            Self::R5 => &R5,
        };
        structures.get_or_init(|| Structures { sections: read::sections(text(self)) })
    }
}

fn text(version: FhirVersion) -> &'static str {
    match version {
        FhirVersion::R4 => include_str!("../../structures/r4.txt"),
        FhirVersion::R4b => include_str!("../../structures/r4b.txt"),
        FhirVersion::R5 => include_str!("../../structures/r5.txt"),
    }
}

impl Structures {
    /// The type of this exact, case-sensitive name, such as `Patient`, `HumanName` or `dateTime`; abstract types
    /// included. Inner elements have no names.
    pub fn named(&self, type_name: &str) -> Option<Definition> {
        let found = self.sections.binary_search_by_key(&type_name, |section| section.name);
        if type_name.contains('.') { None } else { Definition::at(found.ok()?) }
    }

    /// What resources of a type are made of; `None` if this version has no such type.
    pub fn of(&self, kind: ResourceType) -> Option<Definition> {
        self.named(kind.as_str())
    }

    /// The name of a type: `HumanName`, `dateTime`; of an inner element `BackboneElement` or `Element`.
    pub fn name(&self, of: Definition) -> &'static str {
        self.lineage(of).map(|section| section.name).find(|name| !name.contains('.')).unwrap_or_default()
    }

    /// What sort of type it is.
    pub fn kind(&self, of: Definition) -> Kind {
        match self.section(of).map_or("", |section| section.name) {
            inner if inner.contains('.') => Kind::Inner,
            primitive if primitive.starts_with(|letter: char| letter.is_ascii_lowercase()) => Kind::Primitive,
            _ if self.is_a(of, "Resource") => Kind::Resource,
            _ => Kind::Complex,
        }
    }

    /// Whether the type is `base` or specialises it: an Age is a Quantity, an id a string, a Patient a DomainResource and
    /// a Resource, an inner element a BackboneElement or an Element.
    pub fn is_a(&self, of: Definition, base: &str) -> bool {
        self.lineage(of).any(|section| section.name == base)
    }

    /// The member of this name in JSON. `resourceType` is none; nor is `_birthDate`, which holds the `id` and the
    /// `extension` that the type of `birthDate` has.
    pub fn member(&self, of: Definition, json_name: &str) -> Option<TypedMember> {
        for section in self.lineage(of) {
            if let Ok(index) = section.members.binary_search_by_key(&json_name, |member| member.name) {
                return section.members.get(index).copied();
            }
            if section.without == Some(json_name) {
                return None;
            }
        }
        None
    }

    /// Every member: the type's own by name, then its base's.
    pub fn members(&self, of: Definition) -> impl Iterator<Item = TypedMember> {
        let inherited = self.lineage(of).flat_map(|section| section.members.iter().copied());
        // A type may have less than its base.
        inherited.filter(move |member| self.member(of, member.name).is_some())
    }

    /// Every type and every inner element.
    pub fn definitions(&self) -> impl Iterator<Item = Definition> {
        (0..).map(Definition).take(self.sections.len())
    }

    fn section(&self, of: Definition) -> Option<&Section> {
        self.sections.get(usize::from(of.0))
    }

    /// The section of a type and those of its bases.
    fn lineage(&self, of: Definition) -> impl Iterator<Item = &Section> {
        std::iter::successors(self.section(of), |section| self.section(section.base?))
    }
}

/// One type, or one inner element.
#[derive(Debug)]
struct Section {
    /// `Patient` or `Patient.contact`.
    name: &'static str,
    /// Whose members it has as well.
    base: Option<Definition>,
    /// What the base has not; ordered by name in JSON.
    members: Vec<TypedMember>,
    /// What the base has and this type has not.
    without: Option<&'static str>,
}

#[cfg(test)]
mod tests;
