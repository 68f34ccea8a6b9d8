//! Elements of StructureDefinitions, with their JSON names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::package::{Package, list, text};

/// Extension that names the FHIR type of a FHIRPath type.
const FHIR_TYPE: &str = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type";

/// Elements of all types.
pub(super) struct Elements {
    /// Elements by definition path, such as `Observation.component.value[x]`.
    by_path: BTreeMap<String, Element>,
    /// Base type of each type, such as `uri` for `canonical`.
    bases: BTreeMap<String, String>,
}

/// Element of a type.
pub(super) struct Element {
    pub(super) is_list: bool,
    pub(super) is_mandatory: bool,
    /// True if the base type has the element and this type prohibits it.
    pub(super) is_prohibited: bool,
    /// FHIR types. A choice such as `value[x]` has several.
    pub(super) types: Vec<String>,
    /// Definition path of the element whose children this element has (`contentReference`).
    pub(super) content_reference: Option<String>,
    /// Code system of the element's required binding, if there is only one.
    system: Option<String>,
}

/// Member of a JSON object, with its type.
pub(super) struct Member<'a> {
    /// JSON name, such as `valueQuantity`.
    pub(super) name: String,
    /// FHIR type, such as `Quantity`.
    pub(super) fhir_type: &'a str,
    pub(super) is_list: bool,
    /// Definition path below which its elements are defined.
    pub(super) definition_path: String,
    /// Code system of a `code`, if only one is allowed.
    pub(super) system: Option<&'a str>,
}

/// Element at the root of a resource.
pub(super) struct RootElement<'a> {
    pub(super) name: &'a str,
    pub(super) is_mandatory: bool,
    /// JSON names of a choice. Empty for other elements.
    pub(super) choices: Vec<String>,
}

impl Elements {
    /// Reads the elements of all types in a package.
    pub(super) fn from_package(package: &Package) -> Self {
        let (mut by_path, mut bases) = (BTreeMap::new(), BTreeMap::new());
        for (name, structure) in &package.structures {
            if let Some((_, base)) = text(structure, "baseDefinition").rsplit_once('/') {
                bases.insert(name.clone(), base.to_owned());
            }
            let snapshot = structure.get("snapshot").map_or(&[][..], |snapshot| list(snapshot, "element"));
            // The value of a primitive is the JSON value itself, not an element.
            let value = (text(structure, "kind") == "primitive-type").then(|| format!("{name}.value"));
            for definition in snapshot.iter().filter(|definition| Some(text(definition, "path")) != value.as_deref()) {
                by_path.insert(text(definition, "path").to_owned(), Element::from_definition(package, structure, definition));
            }
        }
        Self { by_path, bases }
    }

    /// Returns true if the type is `ancestor` or derived from it. Like in FHIRPath casts, a canonical is a uri.
    pub(super) fn is_subtype(&self, fhir_type: &str, ancestor: &str) -> bool {
        // R4's Observation-code-value-date names the type `DateTime`.
        let is_ancestor = |fhir_type: &str| fhir_type.eq_ignore_ascii_case(ancestor);
        is_ancestor(fhir_type) || self.bases.get(fhir_type).is_some_and(|base| self.is_subtype(base, ancestor))
    }

    /// Returns the JSON members of the element `name` below `definition_path`: one for each type of a choice, otherwise one, and none
    /// if the element is unknown.
    pub(super) fn members(&self, definition_path: &str, name: &str) -> Vec<Member<'_>> {
        let path = format!("{definition_path}.{name}");
        if let Some(element) = self.by_path.get(&path) {
            return self.member(&path, name.to_owned(), element).into_iter().collect();
        }
        let Some(element) = self.by_path.get(&format!("{path}[x]")) else { return Vec::new() };
        let typed = element.types.iter().map(|fhir_type| Member {
            name: choice(name, fhir_type),
            fhir_type,
            is_list: element.is_list,
            definition_path: fhir_type.clone(),
            system: element.system_of(fhir_type),
        });
        typed.collect()
    }

    /// Returns the root elements of a resource type, without those of its base type.
    pub(super) fn root_elements(&self, resource_type: &str, base: Option<&str>) -> Vec<RootElement<'_>> {
        let inherited: BTreeSet<&str> = base.map(|base| self.children(base).map(|(name, _)| name).collect()).unwrap_or_default();
        let own = self.children(resource_type).filter(|(name, _)| !inherited.contains(name));
        own.map(|(name, element)| match name.strip_suffix("[x]") {
            Some(stem) => RootElement {
                name: stem,
                is_mandatory: element.is_mandatory,
                choices: element.types.iter().map(|fhir_type| choice(stem, fhir_type)).collect(),
            },
            None => RootElement { name, is_mandatory: element.is_mandatory, choices: Vec::new() },
        })
        .collect()
    }

    /// Iterates over all types and all elements with their own child elements, with their base types. Types are identified by name,
    /// elements by definition path.
    pub(super) fn sections(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let sections = self.by_path.iter().filter(|(path, _)| !path.contains('.') || self.children(path).next().is_some());
        sections.map(|(path, element)| (path.as_str(), self.bases.get(path).or(element.types.first()).map(String::as_str)))
    }

    /// Iterates over the elements one level below `path`, by name.
    pub(super) fn children(&self, path: &str) -> impl Iterator<Item = (&str, &Element)> {
        let prefix = format!("{path}.");
        let below = self.by_path.range(prefix.clone()..).take_while(move |(path, _)| path.starts_with(&prefix));
        let skipped = path.len() + 1;
        below.filter_map(move |(path, element)| Some((path.get(skipped..)?, element))).filter(|(name, _)| !name.contains('.'))
    }

    /// Returns the only JSON member of an element that is not a choice, or `None` if its type is unknown.
    fn member<'a>(&'a self, path: &str, name: String, element: &'a Element) -> Option<Member<'a>> {
        let (definition_path, fhir_type) = match &element.content_reference {
            Some(other) => (other.clone(), self.by_path.get(other)?.types.first()?),
            None => {
                let fhir_type = element.types.first()?;
                let is_backbone = fhir_type == "BackboneElement" || fhir_type == "Element";
                (if is_backbone { path.to_owned() } else { fhir_type.clone() }, fhir_type)
            }
        };
        Some(Member { name, fhir_type, is_list: element.is_list, definition_path, system: element.system_of(fhir_type) })
    }
}

impl Element {
    /// Reads an element from its ElementDefinition. `structure` is the StructureDefinition that contains it.
    fn from_definition(package: &Package, structure: &Value, definition: &Value) -> Self {
        let binding = definition.get("binding").filter(|binding| text(binding, "strength") == "required");
        Self {
            is_list: text(definition, "max") != "1",
            is_mandatory: definition.get("min").and_then(Value::as_u64) >= Some(1),
            is_prohibited: text(definition, "max") == "0",
            types: list(definition, "type").iter().map(|fhir_type| type_name(structure, definition, fhir_type).to_owned()).collect(),
            // R4 writes `#Observation.referenceRange`, R5 puts the URL of the structure before the `#`.
            content_reference: text(definition, "contentReference").split_once('#').map(|(_, path)| path.to_owned()),
            system: binding.and_then(|binding| only_system(package, text(binding, "valueSet"))),
        }
    }

    /// Returns the code system of the element if `fhir_type` is `code`.
    fn system_of(&self, fhir_type: &str) -> Option<&str> {
        self.system.as_deref().filter(|_| fhir_type == "code")
    }
}

/// Returns the FHIR type of an element.
///
/// Primitives may have FHIRPath types in definitions, and an extension names the FHIR type. That extension is inconsistent for ids:
/// the id of a resource is a `string` in R4, and the id of a HumanName an `id` in R5. This function follows the text of the
/// specification: the id of a resource is an `id`, the id of an element a `string`.
fn type_name<'a>(structure: &Value, definition: &Value, fhir_type: &'a Value) -> &'a str {
    let (code, path) = (text(fhir_type, "code"), text(definition, "path"));
    if !code.starts_with("http://hl7.org/fhirpath/System.") {
        return code;
    }
    let is_resource = text(structure, "kind") == "resource";
    match path.strip_suffix(".id") {
        Some(resource) if is_resource && !resource.contains('.') => "id",
        Some(_) => "string",
        None => {
            let stated = list(fhir_type, "extension").iter().find(|extension| text(extension, "url") == FHIR_TYPE);
            stated.map_or(code, |extension| text(extension, "valueUrl"))
        }
    }
}

/// Returns the JSON name of a choice, such as `valueQuantity`.
pub(super) fn choice(stem: &str, fhir_type: &str) -> String {
    let mut letters = fhir_type.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    stem.chars().chain(first).chain(letters).collect()
}

/// Returns the code system of a value set that includes codes of exactly one system. `value_set` is its canonical URL, with or
/// without version.
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
