//! The OperationDefinitions of `$export`, one per level.

use headrace_core::request::Parameter;
use headrace_edge::config::CapabilitySettings;
use headrace_fhir::IG_VERSION;
use serde_json::{Map, Value, json};

/// The base of the guide's canonical URLs.
const CANONICAL: &str = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition";

/// `$export` at one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The last segment of its URL here and, if the guide defines it, of its canonical URL.
    pub id: &'static str,
    /// The target of its URL.
    pub target: OperationTarget,
    /// True if the guide defines it.
    pub is_standard: bool,
    name: &'static str,
    description: &'static str,
}

/// The target that an operation is called on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationTarget {
    /// The whole system.
    System,
    /// A resource type.
    Type(&'static str),
    /// A single resource of a type.
    Instance(&'static str),
}

impl OperationTarget {
    /// Returns the resource type on which the operation is called. `None` for the whole system.
    pub fn resource_type(self) -> Option<&'static str> {
        match self {
            Self::System => None,
            Self::Type(resource_type) | Self::Instance(resource_type) => Some(resource_type),
        }
    }
}

/// The operations of all levels.
pub const OPERATIONS: [Operation; 4] = [
    Operation {
        id: "export",
        target: OperationTarget::System,
        is_standard: true,
        name: "Export",
        description: "Exports every resource: `[base]/$export`.",
    },
    Operation {
        id: "patient-export",
        target: OperationTarget::Type("Patient"),
        is_standard: true,
        name: "PatientExport",
        description: "Exports what is in the compartment of any patient: `[base]/Patient/$export`.",
    },
    Operation {
        id: "one-patient-export",
        target: OperationTarget::Instance("Patient"),
        is_standard: false,
        name: "OnePatientExport",
        description: "Exports what is in the compartment of one patient: `[base]/Patient/[id]/$export`.",
    },
    Operation {
        id: "group-export",
        target: OperationTarget::Instance("Group"),
        is_standard: true,
        name: "GroupExport",
        description: "Exports what is in the compartments of a group's members: `[base]/Group/[id]/$export`.",
    },
];

/// Returns the FHIR type of a parameter's value, and its documentation.
fn describe_parameter(parameter: Parameter) -> (&'static str, &'static str) {
    match parameter {
        Parameter::OutputFormat => {
            ("string", "`application/fhir+ndjson` (default), `application/ndjson` or `ndjson`: all mean newline-delimited JSON.")
        }
        Parameter::Since => (
            "instant",
            "Only resources whose `meta.lastUpdated` is later. Deletions since then are listed in the manifest's `deleted`. \
             Resources without `meta.lastUpdated` are always exported.",
        ),
        Parameter::Until => ("instant", "Only resources whose `meta.lastUpdated` is earlier."),
        Parameter::Till => ("instant", "`_until`, as Azure API for FHIR names it."),
        Parameter::Type => ("string", "Only these resource types, separated by commas."),
        Parameter::TypeFilter => (
            "string",
            "A search such as `Observation?category=laboratory`: of its type, only resources that match it are exported. \
             Several for one type: a resource must match any of them. The CapabilityStatement lists the search parameters.",
        ),
        Parameter::Elements => (
            "string",
            "Only these root elements, as `element` or `Type.element`, separated by commas; mandatory ones stay. Reduced \
             resources are tagged SUBSETTED.",
        ),
        Parameter::Patient => ("Reference", "Only what is in the compartments of these patients."),
        Parameter::IncludeAssociatedData => (
            "code",
            "`LatestProvenanceResources` or `RelevantProvenanceResources`. At the system level also `_history` (every \
             version) and `_deleted` (deletions, also without `_since`), as Azure API for FHIR has them.",
        ),
        Parameter::OrganizeOutputBy => {
            ("string", "`Patient`: files of blocks, one patient's resources each, instead of files of one type each.")
        }
        Parameter::AllowPartialManifests => (
            "boolean",
            "Whether the manifest may come in pages, each linking to the next. Without it, an export of more files than one \
             response can list fails.",
        ),
        Parameter::Container => (
            "string",
            "A named place for the files inside the server's destination, as in Azure API for FHIR: 3 to 63 characters of \
             a-z, 0-9 and the hyphen.",
        ),
        Parameter::Format => ("string", "The name of a folder layout that the operator has configured, as in Azure API for FHIR."),
        Parameter::EncryptionKey => (
            "string",
            "The name of a key that the operator offers: every file is encrypted under it. Downloads need nothing; this server decrypts. \
             This parameter is specific to this server.",
        ),
        Parameter::AnonymizationConfig => (
            "string",
            "Resources are de-identified by this configuration, the path of a file below `anonymization` in the server's destination, as in \
             Azure API for FHIR. Needs `_container`.",
        ),
        Parameter::AnonymizationConfigEtag => {
            ("string", "The entity tag of that file as its storage has it: if it has another one by now, nothing is exported.")
        }
        Parameter::MaxCount => ("integer", "Accepted for clients of Azure API for FHIR; it changes nothing."),
        Parameter::Estimate => (
            "boolean",
            "Answers at once with a Parameters resource that estimates the export, and starts nothing. A parameter of this server's own.",
        ),
        Parameter::IsParallel => ("boolean", "Accepted for clients of Azure API for FHIR; it changes nothing."),
    }
}

impl Operation {
    /// Returns the operation whose OperationDefinition has this id. `None` if there is none.
    pub fn from_id(id: &str) -> Option<&'static Self> {
        OPERATIONS.iter().find(|operation| operation.id == id)
    }

    /// Returns the canonical URL for the CapabilityStatement: the guide's, or the one here.
    pub fn canonical_url(&self, base: &str) -> String {
        if self.is_standard { format!("{CANONICAL}/{}", self.id) } else { self.url(base) }
    }

    /// Returns the URL of the OperationDefinition on this server.
    fn url(&self, base: &str) -> String {
        format!("{base}/OperationDefinition/{}", self.id)
    }

    /// Returns the parameters. Patients can be named at every level but the system level.
    pub fn parameters(&self) -> impl Iterator<Item = Parameter> {
        let is_system = self.target == OperationTarget::System;
        Parameter::ALL.into_iter().filter(move |parameter| *parameter != Parameter::Patient || !is_system)
    }

    /// Creates the OperationDefinition for this deployment.
    pub fn resource(&self, base: &str, settings: &CapabilitySettings) -> Value {
        let mut parameters: Vec<Value> = self.parameters().map(|parameter| parameter_definition(parameter, settings)).collect();
        parameters.push(json!({
            "name": "return", "use": "out", "min": 1, "max": "1", "type": "OperationOutcome",
            "documentation": "The body of `202 Accepted`. The header Content-Location has the URL whose answer is the manifest, once the export is complete.",
        }));
        let mut resource = members(json!({
            "resourceType": "OperationDefinition",
            "id": self.id,
            "url": self.url(base),
            "version": env!("CARGO_PKG_VERSION"),
            "name": self.name,
            "title": format!("FHIR Bulk Data Access {IG_VERSION}: $export"),
            "status": "active",
            "kind": "operation",
            "description": format!("{} Started with GET, or with POST and a Parameters resource; the headers `Accept: application/fhir+json` and `Prefer: respond-async` are required.", self.description),
            "affectsState": false,
            "code": "export",
            "system": self.target == OperationTarget::System,
            "type": matches!(self.target, OperationTarget::Type(_)),
            "instance": matches!(self.target, OperationTarget::Instance(_)),
            "parameter": parameters,
        }));
        if self.is_standard {
            resource.insert("base".to_owned(), self.canonical_url(base).into());
        }
        if let Some(resource_type) = self.target.resource_type() {
            resource.insert("resource".to_owned(), json!([resource_type]));
        }
        resource.into()
    }
}

/// Returns the members of a JSON object. Returns none for any other JSON value.
fn members(json: Value) -> Map<String, Value> {
    match json {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

/// Creates the definition of an input parameter of an operation.
fn parameter_definition(parameter: Parameter, settings: &CapabilitySettings) -> Value {
    let (value_type, text) = describe_parameter(parameter);
    let mut text = text.to_owned();
    if parameter == Parameter::Since && settings.adds_new_members {
        text.push_str(" At the level of a group, all resources of a member who joined after it.");
    }
    let max = if parameter.is_repeatable() { "*" } else { "1" };
    let json = json!({ "name": parameter.as_str(), "use": "in", "min": 0, "max": max, "type": value_type, "documentation": text });
    let mut json = members(json);
    if parameter == Parameter::Patient {
        json.insert("targetProfile".to_owned(), json!(["http://hl7.org/fhir/StructureDefinition/Patient"]));
    }
    json.into()
}

/// Creates a searchset Bundle of all OperationDefinitions.
pub fn bundle(base: &str, settings: &CapabilitySettings) -> Value {
    let entry = |operation: &Operation| json!({ "fullUrl": operation.url(base), "resource": operation.resource(base, settings), "search": { "mode": "match" } });
    json!({
        "resourceType": "Bundle",
        "type": "searchset",
        "total": OPERATIONS.len(),
        "link": [{ "relation": "self", "url": format!("{base}/OperationDefinition") }],
        "entry": OPERATIONS.iter().map(entry).collect::<Vec<_>>(),
    })
}
