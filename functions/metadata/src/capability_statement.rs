//! The CapabilityStatement. Its types, search parameters and operations come from the definitions that exports use.

use headrace_core::vocab::clock::Millis;
use headrace_edge::config::{AccessControl, CapabilitySettings};
use headrace_fhir::IG_VERSION;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::search::supported_parameters;
use serde::Serialize;

use crate::operation_definitions::{OPERATIONS, Operation};

/// The profile of groups that define their members by searches.
const COHORT_PROFILE: &str = "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/bulk-cohort-group";

/// A CapabilityStatement of R4, R4B or R5. Its members have the same shape in all three.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CapabilityStatement<'a> {
    resource_type: &'static str,
    name: &'static str,
    title: &'static str,
    status: &'static str,
    date: String,
    kind: &'static str,
    instantiates: [&'static str; 1],
    software: Software,
    implementation: Implementation<'a>,
    fhir_version: &'static str,
    format: [&'static str; 2],
    implementation_guide: [String; 1],
    rest: [Rest; 1],
}

#[derive(Debug, Serialize)]
struct Software {
    name: &'static str,
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct Implementation<'a> {
    description: &'static str,
    url: &'a str,
}

#[derive(Debug, Serialize)]
struct Rest {
    mode: &'static str,
    documentation: String,
    security: Security,
    resource: Vec<Resource>,
    operation: Vec<OperationLink>,
}

#[derive(Debug, Serialize)]
struct Security {
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<[OauthUris; 1]>,
    cors: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<[Service; 1]>,
    description: &'static str,
}

/// The URL of the token endpoint. Superseded by `.well-known/smart-configuration`, but some clients read only this.
#[derive(Debug, Serialize)]
struct OauthUris {
    url: &'static str,
    extension: [OauthUri; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OauthUri {
    url: &'static str,
    value_uri: String,
}

/// A CodeableConcept of `restful-security-service`.
#[derive(Debug, Serialize)]
struct Service {
    coding: [Coding; 1],
    text: &'static str,
}

#[derive(Debug, Serialize)]
struct Coding {
    system: &'static str,
    code: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    #[serde(rename = "type")]
    resource_type: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    supported_profile: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interaction: Vec<Interaction>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    search_param: Vec<SearchParam>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    operation: Vec<OperationLink>,
}

#[derive(Debug, Serialize)]
struct Interaction {
    code: &'static str,
}

#[derive(Debug, Serialize)]
struct SearchParam {
    name: &'static str,
    definition: String,
    #[serde(rename = "type")]
    param_type: &'static str,
}

/// The name of an operation and the canonical URL of its definition.
#[derive(Debug, Serialize)]
struct OperationLink {
    name: &'static str,
    definition: String,
}

/// The URLs of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentUrls {
    /// The FHIR base URL.
    pub base: String,
    /// The token endpoint. `None` if there is none or it is unknown.
    pub token_url: Option<String>,
}

/// Writes the statement as JSON text.
///
/// * `urls`: the URLs of this deployment.
/// * `started_at`: the start of this process, the `date` of the statement.
/// * Bulk Data Access, "Server Capability Documentation".
pub fn capability_statement(urls: &DeploymentUrls, settings: &CapabilitySettings, started_at: Millis) -> Result<String, serde_json::Error> {
    let base = urls.base.as_str();
    let statement = CapabilityStatement {
        resource_type: "CapabilityStatement",
        name: "Headrace",
        title: "FHIR Bulk Data export",
        status: "active",
        date: started_at.instant(),
        kind: "instance",
        instantiates: ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"],
        software: Software { name: "Headrace", version: env!("CARGO_PKG_VERSION") },
        implementation: Implementation { description: "Serverless FHIR Bulk Data export over NDJSON files", url: base },
        fhir_version: settings.version.as_str(),
        format: ["application/fhir+json", "json"],
        implementation_guide: [format!("http://hl7.org/fhir/uv/bulkdata/ImplementationGuide/hl7.fhir.uv.bulkdata|{IG_VERSION}")],
        rest: [Rest {
            mode: "server",
            documentation: documentation(settings),
            security: security(&settings.access, urls.token_url.as_deref()),
            resource: settings.version.types().iter().map(|resource_type| resource(resource_type, base, settings)).collect(),
            operation: operations(None, base),
        }],
    };
    serde_json::to_string(&statement)
}

/// Describes a resource type.
///
/// Every type of the FHIR version can be exported, and every listed parameter can be used in a `_typeFilter`. Types without
/// interactions can only be exported. The guide's extension `operation-not-supported` marks types and parameters of a server's
/// REST API that its exports do not support. There are none here.
fn resource(resource_type: ResourceType, base: &str, settings: &CapabilitySettings) -> Resource {
    let interactions: &[&'static str] = match resource_type.as_str() {
        "Group" | "OperationDefinition" => &["read", "search-type"],
        _ => &[],
    };
    Resource {
        resource_type: resource_type.as_str(),
        supported_profile: if resource_type == ResourceType::GROUP { vec![COHORT_PROFILE] } else { Vec::new() },
        interaction: interactions.iter().map(|code| Interaction { code }).collect(),
        search_param: supported_parameters(settings.version, resource_type)
            .into_iter()
            .map(|parameter| SearchParam {
                name: parameter.code,
                definition: parameter.definition,
                param_type: parameter.param_type.as_str(),
            })
            .collect(),
        operation: operations(Some(resource_type.as_str()), base),
    }
}

/// Lists the operations on a type: by the name in the URL, and by the name in the guide, which test suites look for.
fn operations(resource_type: Option<&str>, base: &str) -> Vec<OperationLink> {
    let on_type = OPERATIONS.iter().filter(|operation| operation.target.resource_type() == resource_type);
    let names = |operation: &Operation| if operation.is_standard { vec!["export", operation.id] } else { vec!["export"] };
    let mut links = Vec::new();
    for operation in on_type {
        let mut names = names(operation);
        names.dedup();
        links.extend(names.into_iter().map(|name| OperationLink { name, definition: operation.canonical_url(base) }));
    }
    links
}

/// Creates `CapabilityStatement.rest.security`, which says how requests are authenticated.
fn security(access: &AccessControl, token_url: Option<&str>) -> Security {
    let uris = |url: &str| OauthUris {
        url: "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
        extension: [OauthUri { url: "token", value_uri: url.to_owned() }],
    };
    let smart = || Service {
        coding: [Coding { system: "http://terminology.hl7.org/CodeSystem/restful-security-service", code: "SMART-on-FHIR" }],
        text: "OAuth2 using SMART-on-FHIR profile (see http://docs.smarthealthit.org)",
    };
    let (service, description) = match access {
        AccessControl::Smart(_) => (
            Some([smart()]),
            "SMART Backend Services: every request but those for this statement and for OperationDefinitions carries an access \
             token, which registered clients get at the token endpoint for an assertion that they sign. Its scopes say what is \
             exported. Exports, their status and their files belong to the client that started them.",
        ),
        AccessControl::External(_) => (
            Some([smart()]),
            "OAuth 2.0: every request but those for this statement and for OperationDefinitions carries an access token of the \
             operator's identity provider, with SMART system scopes that say what is exported. Exports, their status and their \
             files belong to the subject that started them.",
        ),
        AccessControl::AwsIam => (
            None,
            "AWS IAM: every request but those for this statement and for OperationDefinitions is signed with AWS Signature \
             Version 4 (service execute-api) by an identity that may invoke the API. There is no token endpoint. Exports, \
             their status and their files belong to the identity that started them.",
        ),
        AccessControl::None => (None, "None: everybody who can reach this server may export."),
    };
    Security { extension: token_url.map(|url| [uris(url)]), cors: false, service, description }
}

/// Writes the documentation that the guide requires, in its order.
fn documentation(settings: &CapabilitySettings) -> String {
    let referenced = if settings.adds_referenced {
        "At the levels of patients and groups, the practitioners, organizations, locations, medications and devices that \
         exported resources refer to are exported with them."
    } else {
        "At the levels of patients and groups, resources outside the patients' compartments are not exported."
    };
    let new_members = if settings.adds_new_members {
        "With `_since`, all resources of a group's member who joined after that time are exported."
    } else {
        "With `_since`, a group's member who joined after that time is treated like any other."
    };
    format!(
        "Bulk Data export, version {IG_VERSION} of the guide. Every resource type that is listed can be exported, and its \
         search parameters can be used in `_typeFilter`; types without interactions are not served in any other way.\n\n\
         * Profiles: resources are exported as they are stored; no profile is promised.\n\
         * Files: newline-delimited JSON (`_outputFormat` application/fhir+ndjson, application/ndjson or ndjson), one \
         resource type each. A new file of a type begins once the current one has reached {} MB.\n\
         * Supporting resources: {referenced}\n\
         * Levels: the system, all patients, one patient, one group. Parameters: see `[base]/OperationDefinition`.\n\
         * Groups: {new_members} Groups are read and searched, not written.\n\
         * includeAssociatedData: LatestProvenanceResources, RelevantProvenanceResources; at the system level also _history \
         and _deleted.",
        settings.file_bytes / 1_000_000
    )
}
