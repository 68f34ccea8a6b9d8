//! What FHIR's definitions say about types: search parameters, compartments, root elements.
//!
//! The tables are texts that a generator of ours writes from the published definitions (`.ci/fhir/tables.sh`). The
//! first question to a version finds its sections; of them, only that of the type in question is read. A section is a line
//! `[Type] Base`, and
//!
//! * `@Patient path …`: where the Patient compartment looks;
//! * `.element`, `.element!` if mandatory, `.value valueQuantity …` with the names of a choice;
//! * `?code kind @definition = path type system, … & component kind = path type > target …`: a search parameter. Without
//!   `@definition` that is `Type-code`; `!` stands where a parameter's expression is no path; `> * -Type` is all but these.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::{FhirVersion, ResourceType, TypeSet};

/// Below this lie the definitions of search parameters.
const DEFINITIONS: &str = "http://hl7.org/fhir/SearchParameter/";

/// A search parameter of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchParameter {
    /// Its name in a query.
    pub code: &'static str,
    /// How its values are matched.
    pub kind: ParameterKind,
    /// The canonical URL of its SearchParameter.
    pub definition: String,
    /// Where it looks.
    pub paths: Vec<TypedPath>,
    /// The types that its references may lead to; empty for other kinds.
    pub targets: Vec<ResourceType>,
    /// The parts of a composite, each relative to [`Self::paths`].
    pub components: Vec<Component>,
    /// Whether paths say all that there is to it.
    pub support: Support,
}

/// How the values of a search parameter are matched (FHIR search, "Search Parameter Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParameterKind {
    /// Codes and identifiers.
    Token,
    /// Text.
    String,
    /// References.
    Reference,
    /// Moments and periods.
    Date,
    /// Numbers.
    Number,
    /// Numbers with units.
    Quantity,
    /// URIs.
    Uri,
    /// Several in one.
    Composite,
    /// As its definition says.
    Special,
}

impl ParameterKind {
    /// Every kind.
    pub const ALL: [Self; 9] =
        [Self::Token, Self::String, Self::Reference, Self::Date, Self::Number, Self::Quantity, Self::Uri, Self::Composite, Self::Special];

    /// FHIR's code for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::String => "string",
            Self::Reference => "reference",
            Self::Date => "date",
            Self::Number => "number",
            Self::Quantity => "quantity",
            Self::Uri => "uri",
            Self::Composite => "composite",
            Self::Special => "special",
        }
    }

    /// Reads what [`Self::as_str`] writes.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Whether the paths of a search parameter say all that there is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// They do.
    Compiled,
    /// `deceased` (of Patient; in R5 also of Person and Practitioner): true if there is a time of death, or the statement
    /// that there was one.
    Deceased,
    /// Its expression is none, or more than paths.
    NotCompiled,
}

/// A path, and what stands at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypedPath {
    /// As [`crate::Path`] reads it; empty for the resource itself.
    pub path: &'static str,
    /// The FHIR type at its end, such as `CodeableConcept`.
    pub ends_in: &'static str,
    /// The system of a bare code, by its required binding.
    pub system: Option<&'static str>,
}

/// One part of a composite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// The name of the parameter that it is.
    pub code: &'static str,
    /// How its values are matched.
    pub kind: ParameterKind,
    /// Where it looks, from the composite's own path on.
    pub paths: Vec<TypedPath>,
}

/// A root element of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its name; `value` for `value[x]`.
    pub name: &'static str,
    /// Whether every resource of the type has it.
    pub is_mandatory: bool,
    /// The names under which it stands in JSON.
    pub members: Vec<&'static str>,
}

impl FhirVersion {
    /// The types of resources that this version defines.
    pub fn types(self) -> TypeSet {
        index(self).keys().filter_map(|name| ResourceType::named(name)).collect()
    }

    /// Every search parameter of a type, its bases' included, by code.
    pub fn search_parameters(self, kind: ResourceType) -> Vec<SearchParameter> {
        let mut parameters: Vec<_> = self
            .lines(kind)
            .filter_map(|(section, line)| Some((section, line.strip_prefix('?')?)))
            .filter_map(|(section, line)| parameter(self, section, line))
            .collect();
        // Stable, so that of two with one name the type's own comes before its base's.
        parameters.sort_by_key(|parameter| parameter.code);
        parameters.dedup_by_key(|parameter| parameter.code);
        parameters
    }

    /// The search parameter of this code.
    pub fn search_parameter(self, kind: ResourceType, code: &str) -> Option<SearchParameter> {
        let wanted = |line: &&'static str| line.split(' ').next() == Some(code);
        self.lines(kind).find_map(|(section, line)| parameter(self, section, line.strip_prefix('?').filter(wanted)?))
    }

    /// Where resources of a type refer to the patients in whose compartments they are; `None` if they are in none. A Patient
    /// is in its own besides.
    pub fn patient_compartment(self, kind: ResourceType) -> Option<Vec<&'static str>> {
        let (_, paths) = self.lines(kind).find_map(|(section, line)| Some((section, line.strip_prefix("@Patient ")?)))?;
        Some(paths.split(' ').collect())
    }

    /// The types that can be in a patient's compartment.
    pub fn patient_compartment_types(self) -> TypeSet {
        self.types().iter().filter(|kind| self.patient_compartment(*kind).is_some()).collect()
    }

    /// The root elements of a type, its bases' included.
    pub fn elements(self, kind: ResourceType) -> Vec<Element> {
        let lines = self.lines(kind).filter_map(|(_, line)| line.strip_prefix('.'));
        let elements = lines.map(|line| {
            let (name, choices) = line.split_once(' ').unwrap_or((line, ""));
            let plain = name.trim_end_matches('!');
            let members = if choices.is_empty() { vec![plain] } else { choices.split(' ').collect() };
            Element { name: plain, is_mandatory: name.ends_with('!'), members }
        });
        elements.collect()
    }

    fn text(self) -> &'static str {
        match self {
            Self::R4 => include_str!("../../tables/r4.txt"),
            Self::R4b => include_str!("../../tables/r4b.txt"),
            Self::R5 => include_str!("../../tables/r5.txt"),
        }
    }

    /// The lines of a type's section and of its bases', each with its section's name.
    fn lines(self, kind: ResourceType) -> impl Iterator<Item = (&'static str, &'static str)> {
        let sections = index(self);
        let family = std::iter::successors(sections.get(kind.as_str()), |section| sections.get(section.base));
        family.flat_map(|section| section.body.lines().map(move |line| (section.name, line)))
    }
}

/// The lines of one type.
struct Section {
    name: &'static str,
    /// The type whose lines it has as well; empty for the root.
    base: &'static str,
    body: &'static str,
}

impl Section {
    fn read(text: &'static str) -> Option<Self> {
        let (heading, body) = text.split_once('\n')?;
        let (name, base) = heading.strip_prefix('[')?.split_once(']')?;
        Some(Self { name, base: base.trim(), body })
    }
}

/// The sections by name, found at the first question to a version: a list of targets alone asks for all of them.
fn index(version: FhirVersion) -> &'static BTreeMap<&'static str, Section> {
    type Index = OnceLock<BTreeMap<&'static str, Section>>;
    static R4: Index = OnceLock::new();
    static R4B: Index = OnceLock::new();
    static R5: Index = OnceLock::new();
    let index = match version {
        FhirVersion::R4 => &R4,
        FhirVersion::R4b => &R4B,
        FhirVersion::R5 => &R5,
    };
    index.get_or_init(|| version.text().split("\n\n").filter_map(Section::read).map(|section| (section.name, section)).collect())
}

/// Reads `code kind @definition !mark = paths & component > targets`.
fn parameter(version: FhirVersion, section: &str, line: &'static str) -> Option<SearchParameter> {
    let (line, targets) = line.split_once(" > ").unwrap_or((line, ""));
    let mut pieces = line.split(" & ");
    let (head, paths) = pieces.next()?.split_once(" = ").map_or((line, ""), |(head, paths)| (head, paths));
    let mut words = head.split(' ');
    let (code, kind) = (words.next()?, ParameterKind::named(words.next()?)?);
    let (mut definition, mut support) = (None, Support::Compiled);
    for word in words {
        match word {
            "!" => support = Support::NotCompiled,
            "!deceased" => support = Support::Deceased,
            name => definition = name.strip_prefix('@'),
        }
    }
    let definition = definition
        .map_or_else(|| format!("{DEFINITIONS}{section}-{}", code.trim_start_matches('_')), |name| format!("{DEFINITIONS}{name}"));
    let components = pieces.map(component).collect::<Option<Vec<_>>>()?;
    Some(SearchParameter { code, kind, definition, paths: typed_paths(paths), targets: targets_of(version, targets), components, support })
}

fn component(text: &'static str) -> Option<Component> {
    let (head, paths) = text.split_once(" = ")?;
    let (code, kind) = head.split_once(' ')?;
    Some(Component { code, kind: ParameterKind::named(kind)?, paths: typed_paths(paths) })
}

fn typed_paths(text: &'static str) -> Vec<TypedPath> {
    let paths = text.split(", ").filter_map(|path| {
        let mut words = path.split(' ');
        let (path, ends_in) = (words.next()?, words.next()?);
        Some(TypedPath { path: if path == "." { "" } else { path }, ends_in, system: words.next() })
    });
    paths.collect()
}

fn targets_of(version: FhirVersion, text: &'static str) -> Vec<ResourceType> {
    let named = |text: &'static str| text.split(' ').filter_map(|name| ResourceType::named(name.trim_start_matches('-')));
    match text.strip_prefix('*') {
        None => named(text).collect(),
        Some(but) => {
            let but: TypeSet = named(but.trim_start()).collect();
            version.types().iter().filter(|kind| !but.contains(*kind)).collect()
        }
    }
}

#[cfg(test)]
mod tests;
