//! A record as a FHIR AuditEvent (R4), one line of an audit file. Its members always have the same order, so that a record
//! always serializes to the same bytes.

use serde::Serialize;

use super::chain::{ChainHead, LineHash};
use super::log::join_names;
use super::record::{AuditAction, AuditOutcome, AuditRecord};
use crate::access::Actor;

/// URL of the extension that chains lines: `sequence` is the line's number, `previous` the hash of the line before it.
pub const CHAIN_EXTENSION: &str = "urn:headrace:audit:chain";

/// URL of the extension that holds the request id of the gateway.
pub const REQUEST_EXTENSION: &str = "urn:headrace:audit:request";

/// Code system of [`AuditAction::as_str`].
pub const ACTION_SYSTEM: &str = "urn:headrace:audit:action";

/// Identifier system of export jobs.
pub const JOB_SYSTEM: &str = "urn:headrace:job";

/// Identifier system of output files within an export.
pub const FILE_SYSTEM: &str = "urn:headrace:file";

const EVENT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
const SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";

/// A FHIR AuditEvent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent<'a> {
    resource_type: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
    extension: Option<[ChainPart<'a>; 2]>,
    url: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_string: Option<&'a str>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChainPart<'a> {
    url: &'static str,
    /// A decimal, since a FHIR integer ends at 2,147,483,647.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_decimal: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_string: Option<&'a LineHash>,
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
    /// `2` means IP address.
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
    what: Option<EntityReference>,
    #[serde(rename = "type")]
    kind: Coding,
    role: Coding,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    detail: Vec<Detail<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct EntityReference {
    identifier: EntityIdentifier,
}

#[derive(Clone, Debug, Serialize)]
struct EntityIdentifier {
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
    /// Converts a record to the event that follows `head` in the chain.
    pub fn new(record: &'a AuditRecord, head: &'a ChainHead) -> Self {
        let sequence = ChainPart { url: "sequence", value_decimal: Some(head.sequence + 1), value_string: None };
        let previous = ChainPart { url: "previous", value_decimal: None, value_string: Some(&head.hash) };
        Self::with_extension(record, vec![Extension { extension: Some([sequence, previous]), url: CHAIN_EXTENSION, value_string: None }])
    }

    /// Converts a record that is not sealed yet to an event, which has no place in the chain.
    pub fn unsealed(record: &'a AuditRecord) -> Self {
        Self::with_extension(record, Vec::new())
    }

    /// Converts a record to an event with these extensions, and that of the request.
    fn with_extension(record: &'a AuditRecord, mut extension: Vec<Extension<'a>>) -> Self {
        let request = record.agent.origin.request_id.as_deref().filter(|id| !id.is_empty());
        extension.extend(request.map(|id| Extension { extension: None, url: REQUEST_EXTENSION, value_string: Some(id) }));
        let (kind, interaction, action) = classify(record);
        Self {
            resource_type: "AuditEvent",
            id: &record.id,
            extension,
            kind,
            subtype: [interaction, Coding { system: ACTION_SYSTEM, code: record.action.as_str(), display: None }],
            action,
            recorded: record.at.instant(),
            outcome: outcome(record),
            outcome_desc: outcome_description(record),
            agent: [agent(record)],
            source: Source {
                observer: Reference { identifier: None, display: Some("Headrace") },
                kind: [Coding { system: SOURCE_TYPE, code: "4", display: Some("Application Server") }],
            },
            entity: entities(record),
        }
    }
}

/// Returns the AuditEvent's `type`, first `subtype` and `action`. A token request is a login. All other actions are requests
/// to the API, or their consequences.
fn classify(record: &AuditRecord) -> (Coding, Coding, &'static str) {
    let rest = Coding { system: EVENT_TYPE, code: "rest", display: Some("RESTful Operation") };
    let interaction = |code| Coding { system: INTERACTION, code, display: Some(code) };
    match record.action {
        AuditAction::Token => (
            Coding { system: DICOM, code: "110114", display: Some("User Authentication") },
            Coding { system: DICOM, code: "110122", display: Some("Login") },
            "E",
        ),
        AuditAction::KickOff | AuditAction::Estimate | AuditAction::Start | AuditAction::Complete | AuditAction::Fail => {
            (rest, interaction("operation"), "E")
        }
        AuditAction::Cancel | AuditAction::Expire => (rest, interaction("operation"), "D"),
        AuditAction::Poll | AuditAction::List | AuditAction::Download => (rest, interaction("operation"), "R"),
        AuditAction::Groups if record.group.is_some() => (rest, interaction("read"), "R"),
        AuditAction::Groups => (rest, interaction("search-type"), "R"),
    }
}

/// Returns the code of FHIR `audit-event-outcome`: success, minor failure (rejected), or serious failure (export failed).
fn outcome(record: &AuditRecord) -> &'static str {
    match (record.outcome, record.action) {
        (AuditOutcome::Rejected(_), _) => "4",
        (AuditOutcome::Succeeded, AuditAction::Fail) => "8",
        (
            AuditOutcome::Succeeded,
            AuditAction::Token
            | AuditAction::KickOff
            | AuditAction::Estimate
            | AuditAction::Start
            | AuditAction::Complete
            | AuditAction::Cancel
            | AuditAction::Expire
            | AuditAction::Poll
            | AuditAction::List
            | AuditAction::Download
            | AuditAction::Groups,
        ) => "0",
    }
}

/// Returns the HTTP status and the issue code of a rejection as one text, such as `404 not-found`. For a success, returns its issue
/// code, or `None`.
fn outcome_description(record: &AuditRecord) -> Option<String> {
    match (record.outcome, record.issue) {
        (AuditOutcome::Rejected(status), Some(issue)) => Some(format!("{status} {}", issue.as_str())),
        (AuditOutcome::Rejected(status), None) => Some(status.to_string()),
        (AuditOutcome::Succeeded, issue) => issue.map(|issue| issue.as_str().to_owned()),
    }
}

/// Returns the AuditEvent's agent: the caller, an unknown sender, or this service.
fn agent(record: &AuditRecord) -> Agent<'_> {
    let who = match &record.agent.actor {
        Actor::Caller(caller) => Reference { identifier: Some(Identifier { system: None, value: &caller.0 }), display: None },
        Actor::Unknown => Reference { identifier: None, display: Some("unknown") },
        Actor::Service => Reference { identifier: None, display: Some("Headrace") },
    };
    let address = record.agent.origin.address.as_deref().filter(|address| !address.is_empty());
    Agent { who, requestor: record.agent.actor != Actor::Service, network: address.map(|address| Network { address, kind: "2" }) }
}

/// Returns the AuditEvent's entities: the job and the file that the record is about, as far as there are any.
fn entities(record: &AuditRecord) -> Vec<Entity<'_>> {
    let reference = |system, value: String| EntityReference { identifier: EntityIdentifier { system, value } };
    let kind = Coding { system: ENTITY_TYPE, code: "2", display: Some("System Object") };
    let mut entities = Vec::new();
    let details = job_details(record);
    if record.job.is_some() || !details.is_empty() {
        let what = record.job.as_ref().map(|job| reference(JOB_SYSTEM, job.to_string()));
        let role = Coding { system: OBJECT_ROLE, code: "20", display: Some("Job") };
        entities.push(Entity { what, kind, role, detail: details });
    }
    if let Some(file) = record.file {
        let role = Coding { system: OBJECT_ROLE, code: "3", display: Some("Report") };
        let size = record.size_bytes.map(|bytes| Detail { kind: "size-bytes", value_string: bytes.to_string().into() });
        entities.push(Entity { what: Some(reference(FILE_SYSTEM, file.to_string())), kind, role, detail: size.into_iter().collect() });
    }
    entities
}

/// Returns the details of the export or of the request. Empty texts are left out, since FHIR does not permit them.
fn job_details(record: &AuditRecord) -> Vec<Detail<'_>> {
    let export = record.export.as_ref();
    let configuration = export.and_then(|export| export.configuration.as_ref());
    let details = [
        ("owner", record.owner.as_ref().map(|owner| owner.0.as_str().into())),
        ("schedule", record.agent.origin.schedule.as_ref().map(|schedule| schedule.as_str().into())),
        ("level", export.map(|export| export.level.as_str().into())),
        ("group", record.group.as_deref().map(Into::into)),
        ("types", export.map(|export| join_names(export.types.iter().map(|kind| kind.as_str())).into())),
        ("parameters", export.map(|export| join_names(export.parameters.iter().map(|parameter| parameter.as_str())).into())),
        ("container", export.and_then(|export| export.container.as_ref()).map(|container| container.as_str().into())),
        ("transaction-time", record.export_time.map(|time| time.transaction_time.instant().into())),
        ("watermark", record.export_time.map(|time| time.watermark.as_str().into())),
        ("configuration-sha256", configuration.map(|configuration| configuration.digest.as_str().into())),
        (
            "accepted-remarks",
            configuration.map(|configuration| join_names(configuration.accepted_remarks.iter().map(String::as_str)).into()),
        ),
        (
            "rejected-remarks",
            configuration.map(|configuration| join_names(configuration.rejected_remarks.iter().map(String::as_str)).into()),
        ),
        ("requests", record.requests.map(|requests| requests.to_string().into())),
    ];
    let present = details.into_iter().filter_map(|(kind, value)| Some(Detail { kind, value_string: value? }));
    present.filter(|detail| !detail.value_string.is_empty()).collect()
}
