//! The definitions that a package holds, as JSON trees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::TableError;

/// The definitions of one FHIR version.
pub(super) struct Package {
    /// `hl7.fhir.r5.core@5.0.0`.
    pub(super) name: String,
    /// `5.0.0`.
    pub(super) version: String,
    /// Resource types and data types, by name; no profiles.
    pub(super) structures: BTreeMap<String, Value>,
    /// In the order of their file names.
    pub(super) parameters: Vec<Value>,
    /// By canonical URL.
    pub(super) value_sets: BTreeMap<String, Value>,
    /// The CompartmentDefinition of Patient.
    pub(super) patient_compartment: Value,
}

impl Package {
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
                package.take_structure(read_json(&folder.join(file))?);
            } else if file.starts_with("SearchParameter-") {
                package.take_parameter(read_json(&folder.join(file))?);
            } else if file.starts_with("ValueSet-") {
                let value_set = read_json(&folder.join(file))?;
                package.value_sets.insert(text(&value_set, "url").to_owned(), value_set);
            }
        }
        Ok(package)
    }

    /// The resource types that a resource can have.
    pub(super) fn concrete_types(&self) -> BTreeSet<String> {
        let concrete = |structure: &Value| text(structure, "kind") == "resource" && structure.get("abstract") == Some(&Value::Bool(false));
        self.structures.iter().filter(|(_, structure)| concrete(structure)).map(|(name, _)| name.clone()).collect()
    }

    fn take_structure(&mut self, structure: Value) {
        let is_type = text(&structure, "derivation") != "constraint" && text(&structure, "kind") != "logical";
        if is_type {
            self.structures.insert(text(&structure, "name").to_owned(), structure);
        }
    }

    /// Examples lie among the definitions; they carry no version, or one of their own. The parameters of the extension
    /// packs of R4 and R4B are no part of the published list of search parameters, and the extensions they name do
    /// not exist under these URLs.
    fn take_parameter(&mut self, parameter: Value) {
        let url = text(&parameter, "url");
        let is_of_a_pack = url.contains("-extensions-") || url.contains("-genetic-");
        if text(&parameter, "version") == self.version && !is_of_a_pack {
            self.parameters.push(parameter);
        }
    }
}

/// The string member `name`; empty where there is none.
pub(super) fn text<'a>(json: &'a Value, name: &str) -> &'a str {
    json.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of the array member `name`; none where there is none.
pub(super) fn list<'a>(json: &'a Value, name: &str) -> &'a [Value] {
    json.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings of the array member `name`.
pub(super) fn texts<'a>(json: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    list(json, name).iter().filter_map(Value::as_str)
}

fn read_json(file: &Path) -> Result<Value, TableError> {
    let bytes = fs::read(file).map_err(|cause| TableError::Unreadable { file: file.to_owned(), cause })?;
    serde_json::from_slice(&bytes).map_err(|cause| TableError::NotJson { file: file.to_owned(), cause })
}
