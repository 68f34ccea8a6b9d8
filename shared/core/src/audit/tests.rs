use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::chain::{AuditFileName, ChainHead, Day, LineHash};
use super::summary::valid_group_id;
use super::writer::write_lines;
use super::*;
use crate::access::{Actor, Agent, Origin};
use crate::job::Job;
use crate::job::file::{FileSummary, OutputFile, OutputFileName};
use crate::request::{AnonymizationConfig, ConfigName};
use crate::request::{EncryptionKey, ExportRequest, Parameter};
use crate::vocab::clock::Millis;
use crate::vocab::ids::{Caller, JobId};
use crate::vocab::level::Level;
use crate::vocab::outcome::IssueCode;

mod tampering;

const AT: Millis = Millis(1_769_846_400_001);

fn job() -> JobId {
    JobId::from_random([0xa5; 16])
}

fn agent() -> Agent {
    let origin = Origin { address: Some("192.0.2.1".to_owned()), request_id: Some("JKJaXmPLvHcESHA=".to_owned()), schedule: None };
    Agent { actor: Actor::Caller(Caller("registry".to_owned())), origin }
}

fn record(action: AuditAction, outcome: AuditOutcome) -> AuditRecord {
    AuditRecord::new("0123456789abcdef0123456789abcdef".to_owned(), AT, action, agent(), outcome)
}

fn download_record() -> AuditRecord {
    let mut record = record(AuditAction::Download, AuditOutcome::Succeeded);
    let file =
        OutputFile { name: OutputFileName::parse("Patient-1.ndjson").unwrap(), summary: FileSummary { bytes: 815, lines: 7, crc64: 0 } };
    record.set_output_file((&job(), &Caller("registry".to_owned())), &file);
    record
}

fn rejected_kick_off() -> AuditRecord {
    let parameters = [
        ("_type", "Patient,Observation,Anna"),
        ("_since", "1961-04-17"),
        ("anna", "x"),
        ("patient", "Patient/anna"),
        ("_container", "anna-1961"),
    ];
    let export = ExportSummary::from_rejected(
        &Level::OnePatient("anna".into()),
        &parameters.map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    AuditRecord { export: Some(export), issue: Some(IssueCode::Forbidden), ..record(AuditAction::KickOff, AuditOutcome::Rejected(403)) }
}

/// Returns records of each action, succeeded and rejected, with all optional fields and with none.
fn all_records() -> Vec<AuditRecord> {
    let mut records = vec![download_record(), rejected_kick_off()];
    for action in AuditAction::ALL {
        for outcome in [AuditOutcome::Succeeded, AuditOutcome::Rejected(404)] {
            for actor in [agent().actor, Actor::Unknown, Actor::Service] {
                let bare = AuditRecord { agent: Agent { actor, origin: Origin::default() }, ..record(action, outcome) };
                let group = Some("cohort-7".to_owned());
                let full = AuditRecord { agent: agent(), group, issue: Some(IssueCode::NotFound), ..download_record() };
                records.extend([bare, AuditRecord { action, outcome, ..full }]);
            }
        }
    }
    let request = ExportRequest { level: Level::Group("cohort-7".into()), types: Some(BTreeSet::new()), ..ExportRequest::default() };
    let job = Job::accepted(job(), Caller("registry".to_owned()), request, AT);
    records.push(AuditRecord::from_kick_off(agent(), &job));
    records
}

fn head() -> ChainHead {
    ChainHead { sequence: 6, hash: LineHash::digest(b"before"), ..ChainHead::new(Day::from_millis(AT)) }
}

fn line(record: &AuditRecord) -> String {
    let (bytes, _) = write_lines(&head(), std::slice::from_ref(record)).unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_record_round_trips_through_the_job_table() {
    for record in all_records() {
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<AuditRecord>(&text).unwrap(), record, "{text}");
    }
}

#[test]
fn codes_of_actions_levels_and_issues_round_trip() {
    for action in AuditAction::ALL {
        assert_eq!(serde_json::from_value::<AuditAction>(json!(action)).unwrap(), action);
    }
    for level in SummaryLevel::ALL {
        assert_eq!(serde_json::from_value::<SummaryLevel>(json!(level)).unwrap(), level);
    }
    for code in IssueCode::ALL {
        assert_eq!(serde_json::from_value::<IssueCode>(json!(code)).unwrap(), code);
    }
    assert!(serde_json::from_value::<AuditAction>(json!("kick_off")).is_err());
}

#[test]
fn patient_data_in_a_rejected_request_is_not_recorded() {
    let record = rejected_kick_off();
    let kept = serde_json::to_string(&record).unwrap() + &line(&record);
    for secret in ["anna", "Anna", "1961"] {
        assert!(!kept.contains(secret), "{kept}");
    }
    for known in ["Observation,Patient", "_type,_since,patient,_container", r#""level","valueString":"patient""#] {
        assert!(kept.contains(known), "{known} is missing in {kept}");
    }
}

#[test]
fn a_summary_names_the_de_identification_and_encryption_parameters_without_their_values() {
    let requested = AnonymizationConfig::new(ConfigName::parse("study.json").unwrap(), Some("\"1\"".to_owned()));
    let key = EncryptionKey { name: "trial".to_owned(), arn: "arn:aws:kms:eu-central-1:111122223333:key/1".to_owned() };
    let request = ExportRequest { anonymization: Some(requested), encryption_key: Some(key), ..ExportRequest::default() };
    let names: BTreeSet<&str> = ExportSummary::from_request(&request).parameters.into_iter().map(Parameter::as_str).collect();
    assert_eq!(names, BTreeSet::from(["_anonymizationConfig", "_anonymizationConfigEtag", "_encryptionKey"]));
}

#[test]
fn a_group_id_that_is_not_a_valid_id_is_not_recorded() {
    assert_eq!(valid_group_id(&Level::Group("cohort-7".into())).as_deref(), Some("cohort-7"));
    for level in [Level::Group("Anna Okonlind".into()), Level::Group("..".into()), Level::OnePatient("p-1".into()), Level::System] {
        assert_eq!(valid_group_id(&level), None);
    }
}

#[test]
fn a_line_is_an_audit_event_with_a_fixed_order_of_members() {
    let previous = LineHash::digest(b"before");
    let expected = format!(
        concat!(
            r#"{{"resourceType":"AuditEvent","id":"0123456789abcdef0123456789abcdef","extension":[{{"extension":[{{"url":"sequence","valueDecimal":7}},"#,
            r#"{{"url":"previous","valueString":"{}"}}],"url":"urn:headrace:audit:chain"}},"#,
            r#"{{"url":"urn:headrace:audit:request","valueString":"JKJaXmPLvHcESHA="}}],"#,
            r#""type":{{"system":"http://terminology.hl7.org/CodeSystem/audit-event-type","code":"rest","display":"RESTful Operation"}},"#,
            r#""subtype":[{{"system":"http://hl7.org/fhir/restful-interaction","code":"operation","display":"operation"}},"#,
            r#"{{"system":"urn:headrace:audit:action","code":"download"}}],"action":"R","recorded":"2026-01-31T08:00:00.001Z","outcome":"0","#,
            r#""agent":[{{"who":{{"identifier":{{"value":"registry"}}}},"requestor":true,"network":{{"address":"192.0.2.1","type":"2"}}}}],"#,
            r#""source":{{"observer":{{"display":"Headrace"}},"type":[{{"system":"http://terminology.hl7.org/CodeSystem/security-source-type","code":"4","display":"Application Server"}}]}},"#,
            r#""entity":[{{"what":{{"identifier":{{"system":"urn:headrace:job","value":"{}"}}}},"#,
            r#""type":{{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"2","display":"System Object"}},"#,
            r#""role":{{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"20","display":"Job"}},"detail":[{{"type":"owner","valueString":"registry"}}]}},"#,
            r#"{{"what":{{"identifier":{{"system":"urn:headrace:file","value":"Patient-1.ndjson"}}}},"#,
            r#""type":{{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"2","display":"System Object"}},"#,
            r#""role":{{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"3","display":"Report"}},"detail":[{{"type":"size-bytes","valueString":"815"}}]}}]}}"#,
            "\n"
        ),
        previous,
        job()
    );
    assert_eq!(line(&download_record()), expected);
}

#[test]
fn the_event_shows_action_and_outcome() {
    let codes = |record: &AuditRecord| {
        let event: Value = serde_json::from_str(&line(record)).unwrap();
        ["action", "outcome", "outcomeDesc"].map(|name| event[name].as_str().unwrap_or_default().to_owned()).join(" ")
    };
    assert_eq!(codes(&record(AuditAction::KickOff, AuditOutcome::Succeeded)), "E 0 ");
    assert_eq!(codes(&rejected_kick_off()), "E 4 403 forbidden");
    assert_eq!(
        codes(&AuditRecord { issue: Some(IssueCode::Timeout), ..record(AuditAction::Fail, AuditOutcome::Succeeded) }),
        "E 8 timeout"
    );
    assert_eq!(codes(&record(AuditAction::Cancel, AuditOutcome::Succeeded)), "D 0 ");
    assert_eq!(codes(&record(AuditAction::Expire, AuditOutcome::Succeeded)), "D 0 ");
    assert_eq!(codes(&record(AuditAction::Poll, AuditOutcome::Rejected(404))), "R 4 404");
}

/// The elements of AuditEvent in FHIR R4 (hl7.org/fhir/R4/auditevent.html) that this service uses: path, whether it is
/// required, and its datatype. A `*` marks a repeating element.
const R4: [(&str, bool, Datatype); 37] = [
    ("id", false, Datatype::Id),
    ("extension*", false, Datatype::Element),
    ("extension*.url", true, Datatype::Uri),
    ("extension*.valueString", false, Datatype::Text),
    ("extension*.extension*", false, Datatype::Element),
    ("extension*.extension*.url", true, Datatype::Uri),
    ("extension*.extension*.valueDecimal", false, Datatype::Number),
    ("extension*.extension*.valueString", false, Datatype::Text),
    ("type", true, Datatype::Coding),
    ("subtype*", false, Datatype::Coding),
    ("action", false, Datatype::OneOf(&["C", "R", "U", "D", "E"])),
    ("recorded", true, Datatype::Instant),
    ("outcome", false, Datatype::OneOf(&["0", "4", "8", "12"])),
    ("outcomeDesc", false, Datatype::Text),
    ("agent*", true, Datatype::Element),
    ("agent*.who", false, Datatype::Element),
    ("agent*.who.identifier", false, Datatype::Element),
    ("agent*.who.identifier.value", false, Datatype::Text),
    ("agent*.who.display", false, Datatype::Text),
    ("agent*.requestor", true, Datatype::Boolean),
    ("agent*.network", false, Datatype::Element),
    ("agent*.network.address", false, Datatype::Text),
    ("agent*.network.type", false, Datatype::OneOf(&["1", "2", "3", "4", "5"])),
    ("source", true, Datatype::Element),
    ("source.observer", true, Datatype::Element),
    ("source.observer.display", false, Datatype::Text),
    ("source.type*", false, Datatype::Coding),
    ("entity*", false, Datatype::Element),
    ("entity*.what", false, Datatype::Element),
    ("entity*.what.identifier", false, Datatype::Element),
    ("entity*.what.identifier.system", false, Datatype::Uri),
    ("entity*.what.identifier.value", false, Datatype::Text),
    ("entity*.type", false, Datatype::Coding),
    ("entity*.role", false, Datatype::Coding),
    ("entity*.detail*", false, Datatype::Element),
    ("entity*.detail*.type", true, Datatype::Text),
    ("entity*.detail*.valueString", true, Datatype::Text),
];

#[derive(Clone, Copy)]
enum Datatype {
    Id,
    Uri,
    Text,
    Number,
    Boolean,
    Instant,
    Coding,
    Element,
    OneOf(&'static [&'static str]),
}

impl Datatype {
    fn is_valid(self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            Self::Id => {
                text.is_some_and(|id| (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)))
            }
            Self::Uri | Self::Text => text.is_some_and(|text| !text.is_empty() && text.trim() == text),
            Self::Number => value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::Instant => text.is_some_and(|text| text.len() == 24 && headrace_fhir::instant::Instant::parse(text).is_ok()),
            Self::Coding => value.as_object().is_some_and(|coding| {
                let has = |name: &str| coding.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
                has("system") && has("code") && coding.keys().all(|name| ["system", "code", "display"].contains(&name.as_str()))
            }),
            Self::Element => value.as_object().is_some_and(|element| !element.is_empty()),
            Self::OneOf(codes) => text.is_some_and(|text| codes.contains(&text)),
        }
    }
}

/// Validates an element and its children. Returns the invalid, unknown and missing elements.
fn faults(path: &str, value: &Value) -> Vec<String> {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let mut faults = Vec::new();
    for (name, member) in value.as_object().into_iter().flatten().filter(|(name, _)| !path.is_empty() || *name != "resourceType") {
        let (single, many) = (below(name), below(name) + "*");
        let Some((path, _, kind)) = R4.iter().find(|(path, _, _)| *path == single || *path == many) else {
            faults.push(format!("{single} is unknown"));
            continue;
        };
        let several = member.as_array().filter(|_| path.ends_with('*'));
        if several.is_some_and(Vec::is_empty) || several.is_none() && path.ends_with('*') {
            faults.push(format!("{path} does not repeat"));
        }
        for one in several.map_or_else(|| std::slice::from_ref(member), Vec::as_slice) {
            if !kind.is_valid(one) {
                faults.push(format!("{path} is {one}"));
            }
            if matches!(kind, Datatype::Element) {
                faults.extend(self::faults(path, one));
            }
        }
    }
    let required =
        R4.iter().filter(|(_, is_required, _)| *is_required).map(|(path, _, _)| (path, path.rsplit_once('.').unwrap_or(("", path))));
    for (full, _) in required.filter(|(_, (parent, name))| *parent == path && value.get(name.trim_end_matches('*')).is_none()) {
        faults.push(format!("{full} is missing"));
    }
    faults
}

#[test]
fn every_record_has_the_shape_of_an_r4_audit_event() {
    for record in all_records() {
        let event: Value = serde_json::from_str(&line(&record)).unwrap();
        assert_eq!(event["resourceType"], "AuditEvent");
        assert_eq!(faults("", &event), Vec::<String>::new(), "{event}");
    }
    // The list of elements detects faults.
    let wrong = json!({ "resourceType": "AuditEvent", "type": { "code": "rest" }, "agent": [], "recorded": "2026", "patient": 1 });
    let expected = ["agent* does not repeat", "patient is unknown", "recorded is 2026", "type is {\"code\":\"rest\"}", "source is missing"];
    assert_eq!(faults("", &wrong).join("; ").replace('"', ""), expected.join("; ").replace('"', ""));
}

#[test]
fn a_file_name_holds_its_day_and_the_number_of_its_first_record() {
    let name = AuditFileName { day: Day::parse("2026-01-31").unwrap(), first_sequence: 42 };
    assert_eq!(name.to_string(), "2026-01-31/0000000042.ndjson");
    assert_eq!(AuditFileName::parse(&name.to_string()), Some(name));
    for text in
        ["2026-01-31/42.ndjson", "2026-1-31/0000000042.ndjson", "2026-01-31/0000000042.json", "0000000042.ndjson", "../0000000042.ndjson"]
    {
        assert_eq!(AuditFileName::parse(text), None, "{text}");
    }
}

#[test]
fn days_never_go_back() {
    let head = ChainHead::new(Day::parse("2026-01-31").unwrap());
    assert_eq!(head.clone().advance_to(Day::parse("2026-01-30").unwrap()), head);
    assert_eq!(head.advance_to(Day::parse("2026-02-01").unwrap()).day.to_string(), "2026-02-01");
}
