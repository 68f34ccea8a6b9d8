//! A record as a FHIR AuditEvent (R4), the line of an audit file. Its members stand in one order, so that a record has one
//! text.

use serde::Serialize;

use super::chain::Head;
use super::log::listed;
use super::{AuditEntry, Deed, Verdict};
use crate::access::Who;

/// The extension that chains lines: `sequence`, a line's number, and `previous`, the hash of the line before it.
pub const CHAIN: &str = "urn:headrace:audit:chain";

/// The extension that holds the gateway's name of the request.
pub const REQUEST: &str = "urn:headrace:audit:request";

/// The system of [`Deed::as_str`].
pub const DEED: &str = "urn:headrace:audit:deed";

/// The system of the names of exports.
pub const JOB: &str = "urn:headrace:job";

/// The system of the names of files within an export.
pub const FILE: &str = "urn:headrace:file";

const EVENT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
const SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";

/// An AuditEvent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent<'a> {
    resource_type: &'static str,
    id: &'a str,
    extension: Vec<Extension<'a>>,
    #[serde(rename = "type")]
    kind: Coding,
    subtype: [Coding; 2],
    action: &'static str,
    recorded: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome_desc: Option<String>,
    agent: [Agent<'a>; 1],
    source: Source,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entity: Vec<Entity<'a>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Extension<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<[Link<'a>; 2]>,
    url: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_string: Option<&'a str>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Link<'a> {
    url: &'static str,
    /// A FHIR integer ends at 2,147,483,647.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_decimal: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_string: Option<&'a super::chain::LineHash>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Coding {
    system: &'static str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
struct Agent<'a> {
    who: Reference<'a>,
    requestor: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Network<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct Reference<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    identifier: Option<Identifier<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
struct Identifier<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'static str>,
    value: &'a str,
}

#[derive(Clone, Debug, Serialize)]
struct Network<'a> {
    address: &'a str,
    /// 2: an IP address.
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct Source {
    observer: Reference<'static>,
    #[serde(rename = "type")]
    kind: [Coding; 1],
}

#[derive(Clone, Debug, Serialize)]
struct Entity<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<EntityName>,
    #[serde(rename = "type")]
    kind: Coding,
    role: Coding,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    detail: Vec<Detail<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct EntityName {
    identifier: OwnIdentifier,
}

#[derive(Clone, Debug, Serialize)]
struct OwnIdentifier {
    system: &'static str,
    value: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    value_string: std::borrow::Cow<'a, str>,
}

impl<'a> AuditEvent<'a> {
    /// The line that follows `head`.
    pub fn of(entry: &'a AuditEntry, head: &'a Head) -> Self {
        let sequence = Link { url: "sequence", value_decimal: Some(head.sequence + 1), value_string: None };
        let previous = Link { url: "previous", value_decimal: None, value_string: Some(&head.hash) };
        let mut extension = vec![Extension { extension: Some([sequence, previous]), url: CHAIN, value_string: None }];
        let request = entry.agent.origin.request_id.as_deref().filter(|id| !id.is_empty());
        extension.extend(request.map(|id| Extension { extension: None, url: REQUEST, value_string: Some(id) }));
        let (kind, interaction, action) = sorted(entry);
        Self {
            resource_type: "AuditEvent",
            id: &entry.id,
            extension,
            kind,
            subtype: [interaction, Coding { system: DEED, code: entry.deed.as_str(), display: None }],
            action,
            recorded: entry.at.instant(),
            outcome: outcome(entry),
            outcome_desc: described(entry),
            agent: [agent(entry)],
            source: Source {
                observer: Reference { identifier: None, display: Some("Headrace") },
                kind: [Coding { system: SOURCE_TYPE, code: "4", display: Some("Application Server") }],
            },
            entity: entities(entry),
        }
    }
}

/// Kind, interaction and action. A token's is a login; all else is a request to the API, or what followed from one.
fn sorted(entry: &AuditEntry) -> (Coding, Coding, &'static str) {
    let rest = Coding { system: EVENT_TYPE, code: "rest", display: Some("RESTful Operation") };
    let interaction = |code| Coding { system: INTERACTION, code, display: Some(code) };
    match entry.deed {
        Deed::Token => (
            Coding { system: DICOM, code: "110114", display: Some("User Authentication") },
            Coding { system: DICOM, code: "110122", display: Some("Login") },
            "E",
        ),
        Deed::KickOff | Deed::Begin | Deed::Complete | Deed::Fail => (rest, interaction("operation"), "E"),
        Deed::Cancel | Deed::Expire => (rest, interaction("operation"), "D"),
        Deed::Poll | Deed::List | Deed::HandOut => (rest, interaction("operation"), "R"),
        Deed::Groups if entry.group.is_some() => (rest, interaction("read"), "R"),
        Deed::Groups => (rest, interaction("search-type"), "R"),
    }
}

/// FHIR `audit-event-outcome`: success, minor failure (somebody was turned away), serious failure.
fn outcome(entry: &AuditEntry) -> &'static str {
    match (entry.verdict, entry.deed) {
        (Verdict::Refused(_), _) => "4",
        (Verdict::Done, Deed::Fail) => "8",
        (
            Verdict::Done,
            Deed::Token
            | Deed::KickOff
            | Deed::Begin
            | Deed::Complete
            | Deed::Cancel
            | Deed::Expire
            | Deed::Poll
            | Deed::List
            | Deed::HandOut
            | Deed::Groups,
        ) => "0",
    }
}

fn described(entry: &AuditEntry) -> Option<String> {
    match (entry.verdict, entry.issue) {
        (Verdict::Refused(status), Some(issue)) => Some(format!("{status} {}", issue.as_str())),
        (Verdict::Refused(status), None) => Some(status.to_string()),
        (Verdict::Done, issue) => issue.map(|issue| issue.as_str().to_owned()),
    }
}

fn agent(entry: &AuditEntry) -> Agent<'_> {
    let who = match &entry.agent.who {
        Who::Caller(caller) => Reference { identifier: Some(Identifier { system: None, value: &caller.0 }), display: None },
        Who::Unknown => Reference { identifier: None, display: Some("unknown") },
        Who::Service => Reference { identifier: None, display: Some("Headrace") },
    };
    let address = entry.agent.origin.address.as_deref().filter(|address| !address.is_empty());
    Agent { who, requestor: entry.agent.who != Who::Service, network: address.map(|address| Network { address, kind: "2" }) }
}

fn entities(entry: &AuditEntry) -> Vec<Entity<'_>> {
    let named = |system, value: String| EntityName { identifier: OwnIdentifier { system, value } };
    let kind = Coding { system: ENTITY_TYPE, code: "2", display: Some("System Object") };
    let mut entities = Vec::new();
    let details = about_job(entry);
    if entry.job.is_some() || !details.is_empty() {
        let what = entry.job.as_ref().map(|job| named(JOB, job.to_string()));
        let role = Coding { system: OBJECT_ROLE, code: "20", display: Some("Job") };
        entities.push(Entity { what, kind, role, detail: details });
    }
    if let Some(file) = entry.file {
        let role = Coding { system: OBJECT_ROLE, code: "3", display: Some("Report") };
        let size = entry.size_bytes.map(|bytes| Detail { kind: "size-bytes", value_string: bytes.to_string().into() });
        entities.push(Entity { what: Some(named(FILE, file.to_string())), kind, role, detail: size.into_iter().collect() });
    }
    entities
}

/// What is told of the export, or of what was asked for; an empty text is none in FHIR.
fn about_job(entry: &AuditEntry) -> Vec<Detail<'_>> {
    let order = entry.order.as_ref();
    let details = [
        ("owner", entry.owner.as_ref().map(|owner| owner.0.as_str().into())),
        ("level", order.map(|order| order.level.as_str().into())),
        ("group", entry.group.as_deref().map(Into::into)),
        ("types", order.map(|order| listed(order.types.iter().map(|kind| kind.as_str())).into())),
        ("parameters", order.map(|order| listed(order.parameters.iter().map(|parameter| parameter.as_str())).into())),
        ("container", order.and_then(|order| order.container.as_ref()).map(|container| container.as_str().into())),
    ];
    let given = details.into_iter().filter_map(|(kind, value)| Some(Detail { kind, value_string: value? }));
    given.filter(|detail| !detail.value_string.is_empty()).collect()
}
