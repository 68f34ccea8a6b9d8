//! Definitions of resource types: search parameters, compartments, root elements.
//!
//! The text files in `tables/` are generated from the published definitions (`.ci/fhir/tables.sh`). The first use of a version
//! splits its file into sections. Only the section of the requested type is parsed. A section starts with the line `[Type] Base`
//! and contains:
//!
//! * `@Patient path …`: the paths of the Patient compartment;
//! * `.element`, `.element!` if mandatory, `.value valueQuantity …` with the JSON names of a choice;
//! * `?code type @definition = path type system, … & component type = path type > target …`: a search parameter. The default
//!   of `@definition` is `Type-code`. `!` replaces the paths of an expression that paths cannot express. `!deceased` before the
//!   paths marks a parameter that is true if `deceasedBoolean` is true or `deceasedDateTime` exists. `> * -Type` means all types
//!   except those listed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::definitions::{FhirVersion, ResourceType, TypeSet};

/// The base of the canonical URLs of search parameters.
const SEARCH_PARAMETER_BASE: &str = "http://hl7.org/fhir/SearchParameter/";

/// A search parameter of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchParameter {
    /// The name in a query.
    pub code: &'static str,
    /// The type, which determines how values are matched.
    pub param_type: SearchParamType,
    /// The canonical URL of the SearchParameter.
    pub definition: String,
    /// The paths to the elements that are searched.
    pub paths: Vec<ParameterPath>,
    /// The resource types that references may point to; empty for parameters of other types.
    pub targets: Vec<ResourceType>,
    /// The components of a composite, relative to [`Self::paths`].
    pub components: Vec<CompositeComponent>,
    /// Completeness of the paths.
    pub support: ParameterSupport,
}

/// The type of a search parameter (FHIR search, "Search Parameter Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SearchParamType {
    /// Codes and identifiers.
    Token,
    /// Text.
    String,
    /// References.
    Reference,
    /// Dates, times and periods.
    Date,
    /// Numbers.
    Number,
    /// Numbers with units.
    Quantity,
    /// URIs.
    Uri,
    /// Several parameters in one.
    Composite,
    /// Matched by rules of its own.
    Special,
}

impl SearchParamType {
    /// The nine types.
    pub const ALL: [Self; 9] =
        [Self::Token, Self::String, Self::Reference, Self::Date, Self::Number, Self::Quantity, Self::Uri, Self::Composite, Self::Special];

    /// Returns FHIR's code of the parameter type, such as `token`.
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

    /// Parses FHIR's code of a parameter type, such as `token`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|param_type| param_type.as_str() == name)
    }
}

/// Completeness of the paths of a search parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterSupport {
    /// The paths express it completely.
    Paths,
    /// `deceased` of Patient, in R5 also of Person and Practitioner: true if `deceasedBoolean` is true or
    /// `deceasedDateTime` exists.
    Deceased,
    /// The parameter has no expression, or one that paths cannot express.
    Unsupported,
}

/// A path and the type of the element that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterPath {
    /// The path in the notation of [`crate::json::ElementPath`]; empty for the resource itself.
    pub path: &'static str,
    /// The FHIR type of the element, such as `CodeableConcept`.
    pub element_type: &'static str,
    /// The code system of a `code`, from its required binding.
    pub system: Option<&'static str>,
}

/// A component of a composite parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompositeComponent {
    /// The name of the component parameter.
    pub code: &'static str,
    /// The type, which determines how values are matched.
    pub param_type: SearchParamType,
    /// The paths to the elements, relative to the path of the composite.
    pub paths: Vec<ParameterPath>,
}

/// A root element of a resource type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootElement {
    /// The name of the element; `value` for `value[x]`.
    pub name: &'static str,
    /// True if every resource of the type has the element.
    pub is_mandatory: bool,
    /// The names of the JSON members.
    pub members: Vec<&'static str>,
}

impl FhirVersion {
    /// Returns the resource types that this version defines.
    pub fn types(self) -> TypeSet {
        sections(self).keys().filter_map(|name| ResourceType::parse(name)).collect()
    }

    /// Returns the search parameters of a type, inherited ones included, ordered by code.
    pub fn search_parameters(self, resource_type: ResourceType) -> Vec<SearchParameter> {
        let mut parameters: Vec<_> = self
            .lines(resource_type)
            .filter_map(|(section, line)| Some((section, line.strip_prefix('?')?)))
            .filter_map(|(section, line)| parse_search_parameter(self, section, line))
            .collect();
        // The sort is stable, so the type's own definition of a code precedes the inherited one, which is then removed.
        parameters.sort_by_key(|parameter| parameter.code);
        parameters.dedup_by_key(|parameter| parameter.code);
        parameters
    }

    /// Returns the search parameter of a type with this code.
    pub fn search_parameter(self, resource_type: ResourceType, code: &str) -> Option<SearchParameter> {
        let has_code = |line: &&'static str| line.split(' ').next() == Some(code);
        let mut lines = self.lines(resource_type);
        lines.find_map(|(section, line)| parse_search_parameter(self, section, line.strip_prefix('?').filter(has_code)?))
    }

    /// Returns the paths to the references that put a resource of this type into a Patient compartment; `None` if the type is
    /// not part of it. A Patient is also in its own compartment.
    pub fn patient_compartment(self, resource_type: ResourceType) -> Option<Vec<&'static str>> {
        let paths = self.lines(resource_type).find_map(|(_, line)| line.strip_prefix("@Patient "))?;
        Some(paths.split(' ').collect())
    }

    /// Returns the types that the Patient compartment contains.
    pub fn patient_compartment_types(self) -> TypeSet {
        self.types().iter().filter(|resource_type| self.patient_compartment(*resource_type).is_some()).collect()
    }

    /// Returns the root elements of a type, inherited ones included.
    pub fn root_elements(self, resource_type: ResourceType) -> Vec<RootElement> {
        let lines = self.lines(resource_type).filter_map(|(_, line)| line.strip_prefix('.'));
        let elements = lines.map(|line| {
            let (marked_name, choices) = line.split_once(' ').unwrap_or((line, ""));
            let name = marked_name.trim_end_matches('!');
            let members = if choices.is_empty() { vec![name] } else { choices.split(' ').collect() };
            RootElement { name, is_mandatory: marked_name.ends_with('!'), members }
        });
        elements.collect()
    }

    /// Returns the text of the version's definition file.
    fn text(self) -> &'static str {
        match self {
            Self::R4 => include_str!("../../tables/r4.txt"),
            Self::R4b => include_str!("../../tables/r4b.txt"),
            Self::R5 => include_str!("../../tables/r5.txt"),
        }
    }

    /// Returns the lines of a type's section and of its base types, each with the name of its section.
    fn lines(self, resource_type: ResourceType) -> impl Iterator<Item = (&'static str, &'static str)> {
        let sections = sections(self);
        let lineage = std::iter::successors(sections.get(resource_type.as_str()), |section| sections.get(section.base));
        lineage.flat_map(|section| section.body.lines().map(move |line| (section.name, line)))
    }
}

/// The lines of one type.
struct Section {
    name: &'static str,
    /// The base type, whose lines the type inherits; empty for the root type.
    base: &'static str,
    body: &'static str,
}

impl Section {
    /// Splits the text of a section into its heading and its body.
    fn parse(text: &'static str) -> Option<Self> {
        let (heading, body) = text.split_once('\n')?;
        let (name, base) = heading.strip_prefix('[')?.split_once(']')?;
        Some(Self { name, base: base.trim(), body })
    }
}

/// Returns the sections of a version by name. The first call for a version creates the index.
fn sections(version: FhirVersion) -> &'static BTreeMap<&'static str, Section> {
    type Sections = OnceLock<BTreeMap<&'static str, Section>>;
    static R4: Sections = OnceLock::new();
    static R4B: Sections = OnceLock::new();
    static R5: Sections = OnceLock::new();
    let sections = match version {
        FhirVersion::R4 => &R4,
        FhirVersion::R4b => &R4B,
        FhirVersion::R5 => &R5,
    };
    sections.get_or_init(|| version.text().split("\n\n").filter_map(Section::parse).map(|section| (section.name, section)).collect())
}

/// Parses `code type @definition !support = paths & component > targets`.
fn parse_search_parameter(version: FhirVersion, section: &str, line: &'static str) -> Option<SearchParameter> {
    let (line, targets) = line.split_once(" > ").unwrap_or((line, ""));
    let mut parts = line.split(" & ");
    let (head, paths) = parts.next()?.split_once(" = ").map_or((line, ""), |(head, paths)| (head, paths));
    let mut words = head.split(' ');
    let (code, param_type) = (words.next()?, SearchParamType::parse(words.next()?)?);
    let (mut definition, mut support) = (None, ParameterSupport::Paths);
    for word in words {
        match word {
            "!" => support = ParameterSupport::Unsupported,
            "!deceased" => support = ParameterSupport::Deceased,
            name => definition = name.strip_prefix('@'),
        }
    }
    let definition = definition.map_or_else(
        || format!("{SEARCH_PARAMETER_BASE}{section}-{}", code.trim_start_matches('_')),
        |name| format!("{SEARCH_PARAMETER_BASE}{name}"),
    );
    let components = parts.map(parse_component).collect::<Option<Vec<_>>>()?;
    let (paths, targets) = (parse_paths(paths), parse_targets(version, targets));
    Some(SearchParameter { code, param_type, definition, paths, targets, components, support })
}

/// Parses `component type = paths`.
fn parse_component(text: &'static str) -> Option<CompositeComponent> {
    let (head, paths) = text.split_once(" = ")?;
    let (code, param_type) = head.split_once(' ')?;
    Some(CompositeComponent { code, param_type: SearchParamType::parse(param_type)?, paths: parse_paths(paths) })
}

/// Parses `path type system, …`.
fn parse_paths(text: &'static str) -> Vec<ParameterPath> {
    let paths = text.split(", ").filter_map(|path| {
        let mut words = path.split(' ');
        let (path, element_type) = (words.next()?, words.next()?);
        Some(ParameterPath { path: if path == "." { "" } else { path }, element_type, system: words.next() })
    });
    paths.collect()
}

/// Parses a list of types, or `* -Type …`: all types except those listed.
fn parse_targets(version: FhirVersion, text: &'static str) -> Vec<ResourceType> {
    let parse_list = |text: &'static str| text.split(' ').filter_map(|name| ResourceType::parse(name.trim_start_matches('-')));
    match text.strip_prefix('*') {
        None => parse_list(text).collect(),
        Some(excluded) => {
            let excluded: TypeSet = parse_list(excluded.trim_start()).collect();
            version.types().iter().filter(|resource_type| !excluded.contains(*resource_type)).collect()
        }
    }
}

#[cfg(test)]
mod tests;
