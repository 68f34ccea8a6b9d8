//! Definitions of a FHIR package as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::TableError;

/// Definitions of one FHIR version.
pub(super) struct Package {
    /// Package name and version, such as `hl7.fhir.r5.core@5.0.0`.
    pub(super) name: String,
    /// FHIR version, such as `5.0.0`.
    pub(super) version: String,
    /// StructureDefinitions of resource types and data types, by name. Profiles are left out.
    pub(super) structures: BTreeMap<String, Value>,
    /// SearchParameters in the order of their file names.
    pub(super) parameters: Vec<Value>,
    /// ValueSets by canonical URL.
    pub(super) value_sets: BTreeMap<String, Value>,
    /// CompartmentDefinition of Patient.
    pub(super) patient_compartment: Value,
}

impl Package {
    /// Reads the definitions in the folder of an unpacked package: its structures, search parameters, value sets and Patient compartment.
    pub(super) fn read(folder: &Path) -> Result<Self, TableError> {
        let about = read_json(&folder.join("package.json"))?;
        let (name, version) = (text(&about, "name"), text(&about, "version"));
        let mut package = Self {
            name: format!("{name}@{version}"),
            version: version.to_owned(),
            structures: BTreeMap::new(),
            parameters: Vec::new(),
            value_sets: BTreeMap::new(),
            patient_compartment: read_json(&folder.join("CompartmentDefinition-patient.json"))?,
        };
        let unreadable = |cause| TableError::Unreadable { file: folder.to_owned(), cause };
        let mut files = BTreeSet::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            files.insert(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
        }
        for file in files.iter().filter(|file| file.ends_with(".json")) {
            if file.starts_with("StructureDefinition-") {
                package.add_structure(read_json(&folder.join(file))?);
            } else if file.starts_with("SearchParameter-") {
                package.add_parameter(read_json(&folder.join(file))?);
            } else if file.starts_with("ValueSet-") {
                let value_set = read_json(&folder.join(file))?;
                package.value_sets.insert(text(&value_set, "url").to_owned(), value_set);
            }
        }
        Ok(package)
    }

    /// Returns the resource types that are not abstract.
    pub(super) fn concrete_types(&self) -> BTreeSet<String> {
        let concrete = |structure: &Value| text(structure, "kind") == "resource" && structure.get("abstract") == Some(&Value::Bool(false));
        self.structures.iter().filter(|(_, structure)| concrete(structure)).map(|(name, _)| name.clone()).collect()
    }

    /// Adds the definition of a type. Profiles and logical models are left out.
    fn add_structure(&mut self, structure: Value) {
        let is_type = text(&structure, "derivation") != "constraint" && text(&structure, "kind") != "logical";
        if is_type {
            self.structures.insert(text(&structure, "name").to_owned(), structure);
        }
    }

    /// Adds a search parameter if it belongs to the version.
    ///
    /// Examples among the definitions have no version or another one. The parameters of the extension packs of R4 and R4B are not part
    /// of the published list of search parameters, and their extensions do not exist under the given URLs.
    fn add_parameter(&mut self, parameter: Value) {
        let url = text(&parameter, "url");
        let is_in_extension_pack = url.contains("-extensions-") || url.contains("-genetic-");
        if text(&parameter, "version") == self.version && !is_in_extension_pack {
            self.parameters.push(parameter);
        }
    }
}

/// Returns the string member `name`, or an empty string.
pub(super) fn text<'a>(json: &'a Value, name: &str) -> &'a str {
    json.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the elements of the array member `name`, or an empty slice.
pub(super) fn list<'a>(json: &'a Value, name: &str) -> &'a [Value] {
    json.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns the strings of the array member `name`.
pub(super) fn texts<'a>(json: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    list(json, name).iter().filter_map(Value::as_str)
}

/// Reads and parses a JSON file.
fn read_json(file: &Path) -> Result<Value, TableError> {
    let bytes = fs::read(file).map_err(|cause| TableError::Unreadable { file: file.to_owned(), cause })?;
    serde_json::from_slice(&bytes).map_err(|cause| TableError::NotJson { file: file.to_owned(), cause })
}
