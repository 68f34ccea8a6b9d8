//! The elements that structure definitions define, with the names that JSON gives them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::package::{Package, list, text};

/// The extension that says which FHIR type a FHIRPath type stands for.
const FHIR_TYPE: &str = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type";

/// What the types are made of.
pub(super) struct Elements {
    /// Every element of every type, by its path in the definition: `Observation.component.value[x]`.
    by_path: BTreeMap<String, Element>,
    /// The type that a type specialises: `uri` for `canonical`.
    bases: BTreeMap<String, String>,
}

pub(super) struct Element {
    pub(super) is_list: bool,
    pub(super) is_mandatory: bool,
    /// The base has it, the type has not.
    pub(super) is_prohibited: bool,
    /// Several for a choice such as `value[x]`.
    pub(super) types: Vec<String>,
    /// Whose children this element has, when a contentReference says so.
    pub(super) same_as: Option<String>,
    /// The one code system that a required binding allows.
    system: Option<String>,
}

/// A member of a JSON object, of one type.
pub(super) struct Member<'a> {
    /// `valueQuantity`.
    pub(super) name: String,
    /// `Quantity`.
    pub(super) kind: &'a str,
    pub(super) is_list: bool,
    /// The path below which its own elements are defined.
    pub(super) inside: String,
    /// The system of its code, if it is a `code` and only one system is allowed.
    pub(super) system: Option<&'a str>,
}

/// An element at the root of a resource.
pub(super) struct RootElement<'a> {
    pub(super) name: &'a str,
    pub(super) is_mandatory: bool,
    /// The JSON names of a choice; empty where the JSON name is the element's own.
    pub(super) choices: Vec<String>,
}

impl Elements {
    pub(super) fn of(package: &Package) -> Self {
        let (mut by_path, mut bases) = (BTreeMap::new(), BTreeMap::new());
        for (name, structure) in &package.structures {
            if let Some((_, base)) = text(structure, "baseDefinition").rsplit_once('/') {
                bases.insert(name.clone(), base.to_owned());
            }
            let snapshot = structure.get("snapshot").map_or(&[][..], |snapshot| list(snapshot, "element"));
            // The value of a primitive is what stands in JSON: no element of its own.
            let value = (text(structure, "kind") == "primitive-type").then(|| format!("{name}.value"));
            for definition in snapshot.iter().filter(|definition| Some(text(definition, "path")) != value.as_deref()) {
                by_path.insert(text(definition, "path").to_owned(), Element::of(package, structure, definition));
            }
        }
        Self { by_path, bases }
    }

    /// Whether `kind` is `ancestor` or specialises it, the way FHIRPath casts: a canonical is a uri.
    pub(super) fn is_a(&self, kind: &str, ancestor: &str) -> bool {
        // R4 spells a type of Observation-code-value-date `DateTime`.
        let is_it = |kind: &str| kind.eq_ignore_ascii_case(ancestor);
        is_it(kind) || self.bases.get(kind).is_some_and(|base| self.is_a(base, ancestor))
    }

    /// The members that `name` can stand for below `inside`: several for a choice, none if nothing is called so.
    pub(super) fn members(&self, inside: &str, name: &str) -> Vec<Member<'_>> {
        let path = format!("{inside}.{name}");
        if let Some(element) = self.by_path.get(&path) {
            return self.member(&path, name.to_owned(), element).into_iter().collect();
        }
        let Some(element) = self.by_path.get(&format!("{path}[x]")) else { return Vec::new() };
        let typed = element.types.iter().map(|kind| Member {
            name: choice(name, kind),
            kind,
            is_list: element.is_list,
            inside: kind.clone(),
            system: element.system_of(kind),
        });
        typed.collect()
    }

    /// The root elements that `resource_type` has and `base` has not.
    pub(super) fn root(&self, resource_type: &str, base: Option<&str>) -> Vec<RootElement<'_>> {
        let inherited: BTreeSet<&str> = base.map(|base| self.children(base).map(|(name, _)| name).collect()).unwrap_or_default();
        let own = self.children(resource_type).filter(|(name, _)| !inherited.contains(name));
        own.map(|(name, element)| match name.strip_suffix("[x]") {
            Some(stem) => RootElement {
                name: stem,
                is_mandatory: element.is_mandatory,
                choices: element.types.iter().map(|kind| choice(stem, kind)).collect(),
            },
            None => RootElement { name, is_mandatory: element.is_mandatory, choices: Vec::new() },
        })
        .collect()
    }

    /// What has elements, with what it specialises: types by their names, elements that are defined in place by their
    /// paths.
    pub(super) fn sections(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let sections = self.by_path.iter().filter(|(path, _)| !path.contains('.') || self.children(path).next().is_some());
        sections.map(|(path, element)| (path.as_str(), self.bases.get(path).or(element.types.first()).map(String::as_str)))
    }

    /// The elements one level below `path`, by name.
    pub(super) fn children(&self, path: &str) -> impl Iterator<Item = (&str, &Element)> {
        let prefix = format!("{path}.");
        let below = self.by_path.range(prefix.clone()..).take_while(move |(path, _)| path.starts_with(&prefix));
        let skipped = path.len() + 1;
        below.filter_map(move |(path, element)| Some((path.get(skipped..)?, element))).filter(|(name, _)| !name.contains('.'))
    }

    fn member<'a>(&'a self, path: &str, name: String, element: &'a Element) -> Option<Member<'a>> {
        let (inside, kind) = match &element.same_as {
            Some(other) => (other.clone(), self.by_path.get(other)?.types.first()?),
            None => {
                let kind = element.types.first()?;
                let is_backbone = kind == "BackboneElement" || kind == "Element";
                (if is_backbone { path.to_owned() } else { kind.clone() }, kind)
            }
        };
        Some(Member { name, kind, is_list: element.is_list, inside, system: element.system_of(kind) })
    }
}

impl Element {
    fn of(package: &Package, structure: &Value, definition: &Value) -> Self {
        let binding = definition.get("binding").filter(|binding| text(binding, "strength") == "required");
        Self {
            is_list: text(definition, "max") != "1",
            is_mandatory: definition.get("min").and_then(Value::as_u64) >= Some(1),
            is_prohibited: text(definition, "max") == "0",
            types: list(definition, "type").iter().map(|kind| type_name(structure, definition, kind).to_owned()).collect(),
            // R4 writes `#Observation.referenceRange`, R5 puts the URL of the structure before the `#`.
            same_as: text(definition, "contentReference").split_once('#').map(|(_, path)| path.to_owned()),
            system: binding.and_then(|binding| only_system(package, text(binding, "valueSet"))),
        }
    }

    fn system_of(&self, kind: &str) -> Option<&str> {
        self.system.as_deref().filter(|_| kind == "code")
    }
}

/// FHIRPath's own types stand where JSON has a bare string; an extension names FHIR's type. Of ids it says now this, now
/// that: the id of a resource is a string in R4, that of a HumanName an id in R5. Here, as the specification's text has
/// it, the id of a resource is an `id` (`_id` is compared by case) and that of an element a `string`.
fn type_name<'a>(structure: &Value, definition: &Value, kind: &'a Value) -> &'a str {
    let (code, path) = (text(kind, "code"), text(definition, "path"));
    if !code.starts_with("http://hl7.org/fhirpath/System.") {
        return code;
    }
    let is_resource = text(structure, "kind") == "resource";
    match path.strip_suffix(".id") {
        Some(resource) if is_resource && !resource.contains('.') => "id",
        Some(_) => "string",
        None => {
            let stated = list(kind, "extension").iter().find(|extension| text(extension, "url") == FHIR_TYPE);
            stated.map_or(code, |extension| text(extension, "valueUrl"))
        }
    }
}

/// `valueQuantity`.
pub(super) fn choice(stem: &str, kind: &str) -> String {
    let mut letters = kind.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    stem.chars().chain(first).chain(letters).collect()
}

/// The system of a value set that includes codes of exactly one, named by its canonical URL with or without version.
fn only_system(package: &Package, value_set: &str) -> Option<String> {
    let url = value_set.split('|').next()?;
    let included = list(package.value_sets.get(url)?.get("compose")?, "include");
    let systems: BTreeSet<&str> = included.iter().map(|include| text(include, "system")).collect();
    let imports = included.iter().any(|include| include.get("valueSet").is_some());
    match (systems.len(), systems.first()) {
        (1, Some(system)) if !system.is_empty() && !imports => Some((*system).to_owned()),
        _ => None,
    }
}
