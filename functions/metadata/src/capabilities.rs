//! The CapabilityStatement. What it lists is what the code reads: types, search parameters and operations come from the
//! tables and constants that exports are resolved with.

use headrace_core::vocab::clock::Millis;
use headrace_edge::config::{AccessControl, Offer};
use headrace_fhir::{IG_VERSION, ResourceType, supported_parameters};
use serde::Serialize;

use crate::operations::{OPERATIONS, Operation};

/// The groups that a lake may hold besides lists of members: those that say by searches who belongs to them.
const COHORT_PROFILE: &str = "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/bulk-cohort-group";

/// A CapabilityStatement of R4, R4B or R5: its members are of the shape that all three share.
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
    operation: Vec<Offered>,
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

/// Where tokens are given out. Superseded by `.well-known/smart-configuration`; some clients know nothing else.
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
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    supported_profile: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interaction: Vec<Interaction>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    search_param: Vec<SearchParam>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    operation: Vec<Offered>,
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
    kind: &'static str,
}

#[derive(Debug, Serialize)]
struct Offered {
    name: &'static str,
    definition: String,
}

/// Where a deployment is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The FHIR base.
    pub base: String,
    /// Where tokens are given out, if they are.
    pub token_url: Option<String>,
}

/// The statement, as JSON text.
///
/// * `at`: where this deployment is reached.
/// * `since`: when this process began to offer what it says.
/// * Bulk Data Access, "Server Capability Documentation".
pub fn statement(at: &At, offer: &Offer, since: Millis) -> Result<String, serde_json::Error> {
    let base = at.base.as_str();
    let statement = CapabilityStatement {
        resource_type: "CapabilityStatement",
        name: "Headrace",
        title: "FHIR Bulk Data export",
        status: "active",
        date: since.instant(),
        kind: "instance",
        instantiates: ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"],
        software: Software { name: "Headrace", version: env!("CARGO_PKG_VERSION") },
        implementation: Implementation { description: "Serverless FHIR Bulk Data export over NDJSON files", url: base },
        fhir_version: offer.version.as_str(),
        format: ["application/fhir+json", "json"],
        implementation_guide: [format!("http://hl7.org/fhir/uv/bulkdata/ImplementationGuide/hl7.fhir.uv.bulkdata|{IG_VERSION}")],
        rest: [Rest {
            mode: "server",
            documentation: documentation(offer),
            security: security(&offer.access, at.token_url.as_deref()),
            resource: offer.version.types().iter().map(|kind| resource(kind, base, offer)).collect(),
            operation: offered(None, base),
        }],
    };
    serde_json::to_string(&statement)
}

/// Every type of the version can be exported, and every parameter that is listed can stand in a `_typeFilter`. Types
/// without interactions are not served otherwise. The guide's extension `operation-not-supported` is for the reverse,
/// what a server's REST API knows and its exports do not: here there is no such type and no such parameter.
fn resource(kind: ResourceType, base: &str, offer: &Offer) -> Resource {
    let interactions: &[&'static str] = match kind.as_str() {
        "Group" | "OperationDefinition" => &["read", "search-type"],
        _ => &[],
    };
    Resource {
        kind: kind.as_str(),
        supported_profile: if kind.as_str() == "Group" { vec![COHORT_PROFILE] } else { Vec::new() },
        interaction: interactions.iter().map(|code| Interaction { code }).collect(),
        search_param: supported_parameters(offer.version, kind)
            .into_iter()
            .map(|parameter| SearchParam { name: parameter.code, definition: parameter.definition, kind: parameter.kind.as_str() })
            .collect(),
        operation: offered(Some(kind.as_str()), base),
    }
}

/// The operations on a type, by the name in the URL and, as test suites look for it, by the name in the guide.
fn offered(kind: Option<&str>, base: &str) -> Vec<Offered> {
    let here = OPERATIONS.iter().filter(|operation| operation.on.map(|(kind, _)| kind) == kind);
    let names = |operation: &Operation| if operation.is_standard { vec!["export", operation.id] } else { vec!["export"] };
    let mut offered = Vec::new();
    for operation in here {
        let mut names = names(operation);
        names.dedup();
        offered.extend(names.into_iter().map(|name| Offered { name, definition: operation.definition(base) }));
    }
    offered
}

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
        AccessControl::None => (None, "None: whoever reaches this server may export."),
    };
    Security { extension: token_url.map(|url| [uris(url)]), cors: false, service, description }
}

/// What the guide wants to be documented, in its order.
fn documentation(offer: &Offer) -> String {
    let referenced = if offer.adds_referenced {
        "At the levels of patients and groups, the practitioners, organizations, locations, medications and devices that \
         exported resources refer to are exported with them."
    } else {
        "At the levels of patients and groups, resources outside the patients' compartments are not exported."
    };
    let new_members = if offer.adds_new_members {
        "With `_since`, all resources of a group's member who joined after that time are exported."
    } else {
        "With `_since`, a group's member who joined after that time is treated as every other."
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
        offer.file_bytes / 1_000_000
    )
}
