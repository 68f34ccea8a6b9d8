use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::chain::{AuditFileName, Day, Head, LineHash};
use super::*;
use crate::access::{Origin, Who};
use crate::job::anonymization::{Anonymization, ConfigName};
use crate::output::file::Content;
use crate::request::{ExportRequest, JobKey, Level, Parameter};

mod broken;

const AT: Millis = Millis(1_769_846_400_001);

fn job() -> JobId {
    JobId::from_random([0xa5; 16])
}

fn agent() -> Agent {
    let origin = Origin { address: Some("192.0.2.1".to_owned()), request_id: Some("JKJaXmPLvHcESHA=".to_owned()) };
    Agent { who: Who::Caller(Caller("registry".to_owned())), origin }
}

fn entry(deed: Deed, verdict: Verdict) -> AuditEntry {
    AuditEntry::new("0123456789abcdef0123456789abcdef".to_owned(), AT, deed, agent(), verdict)
}

fn hand_out() -> AuditEntry {
    let mut entry = entry(Deed::HandOut, Verdict::Done);
    let part = Part { name: OutputFileName::parse("Patient-1.ndjson").unwrap(), content: Content { bytes: 815, lines: 7, crc64: 0 } };
    entry.about_part((&job(), &Caller("registry".to_owned())), &part);
    entry
}

fn refused_kick_off() -> AuditEntry {
    let asked = [
        ("_type", "Patient,Observation,Anna"),
        ("_since", "1961-04-17"),
        ("anna", "x"),
        ("patient", "Patient/anna"),
        ("_container", "place-1"),
    ];
    let order = Order::tried(&Level::OnePatient("anna".into()), &asked.map(|(name, value)| (name.to_owned(), value.to_owned())));
    AuditEntry { order: Some(order), issue: Some(IssueCode::Forbidden), ..entry(Deed::KickOff, Verdict::Refused(403)) }
}

/// A record of each deed, done and refused, with as much and as little in it as there can be.
fn every_entry() -> Vec<AuditEntry> {
    let mut entries = vec![hand_out(), refused_kick_off()];
    for deed in Deed::ALL {
        for verdict in [Verdict::Done, Verdict::Refused(404)] {
            for who in [agent().who, Who::Unknown, Who::Service] {
                let bare = AuditEntry { agent: Agent { who, origin: Origin::default() }, ..entry(deed, verdict) };
                let group = Some("cohort-7".to_owned());
                let full = AuditEntry { agent: agent(), group, issue: Some(IssueCode::NotFound), ..hand_out() };
                entries.extend([bare, AuditEntry { deed, verdict, ..full }]);
            }
        }
    }
    let request = ExportRequest { level: Level::Group("cohort-7".into()), types: Some(BTreeSet::new()), ..ExportRequest::default() };
    let job = Job::accepted(job(), Caller("registry".to_owned()), request, AT);
    entries.push(AuditEntry::of_kick_off(agent(), &job));
    entries
}

fn head() -> Head {
    Head { sequence: 6, hash: LineHash::of(b"before"), ..Head::begin(Day::of(AT)) }
}

fn line(entry: &AuditEntry) -> String {
    let (bytes, _) = head().lines(std::slice::from_ref(entry)).unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_record_survives_the_job_table() {
    for entry in every_entry() {
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<AuditEntry>(&text).unwrap(), entry, "{text}");
    }
}

#[test]
fn names_of_deeds_levels_and_issues_survive_their_text() {
    for deed in Deed::ALL {
        assert_eq!(serde_json::from_value::<Deed>(json!(deed)).unwrap(), deed);
    }
    for level in OrderLevel::ALL {
        assert_eq!(serde_json::from_value::<OrderLevel>(json!(level)).unwrap(), level);
    }
    for code in IssueCode::ALL {
        assert_eq!(serde_json::from_value::<IssueCode>(json!(code)).unwrap(), code);
    }
    assert!(serde_json::from_value::<Deed>(json!("hand_out")).is_err());
}

#[test]
fn what_the_client_says_of_a_patient_is_not_kept() {
    let entry = refused_kick_off();
    let kept = serde_json::to_string(&entry).unwrap() + &line(&entry);
    for secret in ["anna", "Anna", "1961"] {
        assert!(!kept.contains(secret), "{kept}");
    }
    for known in ["Observation,Patient", "_type,_since,patient,_container", "place-1", r#""level","valueString":"patient""#] {
        assert!(kept.contains(known), "{known} is missing in {kept}");
    }
}

/// By name alone: what the file says, and which key it is, is nothing for the records.
#[test]
fn an_accepted_request_tells_whether_it_is_de_identified_and_encrypted_otherwise() {
    let asked = Anonymization { config: ConfigName::parse("study.json").unwrap(), etag: Some("\"1\"".to_owned()) };
    let key = JobKey { name: "trial".to_owned(), arn: "arn:aws:kms:eu-central-1:111122223333:key/1".to_owned() };
    let request = ExportRequest { anonymization: Some(asked), encryption_key: Some(key), ..ExportRequest::default() };
    let told: BTreeSet<&str> = Order::of(&request).parameters.into_iter().map(Parameter::as_str).collect();
    assert_eq!(told, BTreeSet::from(["_anonymizationConfig", "_anonymizationConfigEtag", "_encryptionKey"]));
}

#[test]
fn what_cannot_be_a_groups_id_is_not_kept() {
    assert_eq!(order::group(&Level::Group("cohort-7".into())).as_deref(), Some("cohort-7"));
    for level in [Level::Group("Anna Okonlind".into()), Level::Group("..".into()), Level::OnePatient("p-1".into()), Level::System] {
        assert_eq!(order::group(&level), None);
    }
}

#[test]
fn a_line_is_an_audit_event_whose_members_stand_in_one_order() {
    let previous = LineHash::of(b"before");
    let expected = format!(
        concat!(
            r#"{{"resourceType":"AuditEvent","id":"0123456789abcdef0123456789abcdef","extension":[{{"extension":[{{"url":"sequence","valueDecimal":7}},"#,
            r#"{{"url":"previous","valueString":"{}"}}],"url":"urn:headrace:audit:chain"}},"#,
            r#"{{"url":"urn:headrace:audit:request","valueString":"JKJaXmPLvHcESHA="}}],"#,
            r#""type":{{"system":"http://terminology.hl7.org/CodeSystem/audit-event-type","code":"rest","display":"RESTful Operation"}},"#,
            r#""subtype":[{{"system":"http://hl7.org/fhir/restful-interaction","code":"operation","display":"operation"}},"#,
            r#"{{"system":"urn:headrace:audit:deed","code":"hand-out"}}],"action":"R","recorded":"2026-01-31T08:00:00.001Z","outcome":"0","#,
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
    assert_eq!(line(&hand_out()), expected);
}

#[test]
fn outcome_and_action_tell_what_became_of_it() {
    let told = |entry: &AuditEntry| {
        let event: Value = serde_json::from_str(&line(entry)).unwrap();
        ["action", "outcome", "outcomeDesc"].map(|name| event[name].as_str().unwrap_or_default().to_owned()).join(" ")
    };
    assert_eq!(told(&entry(Deed::KickOff, Verdict::Done)), "E 0 ");
    assert_eq!(told(&refused_kick_off()), "E 4 403 forbidden");
    assert_eq!(told(&AuditEntry { issue: Some(IssueCode::Timeout), ..entry(Deed::Fail, Verdict::Done) }), "E 8 timeout");
    assert_eq!(told(&entry(Deed::Cancel, Verdict::Done)), "D 0 ");
    assert_eq!(told(&entry(Deed::Expire, Verdict::Done)), "D 0 ");
    assert_eq!(told(&entry(Deed::Poll, Verdict::Refused(404))), "R 4 404");
}

/// The elements of AuditEvent in FHIR R4 (hl7.org/fhir/R4/auditevent.html) that this service uses: path, whether it must be
/// there, and what it holds. `*` behind a path: several.
const R4: [(&str, bool, Kind); 37] = [
    ("id", false, Kind::Id),
    ("extension*", false, Kind::Element),
    ("extension*.url", true, Kind::Uri),
    ("extension*.valueString", false, Kind::Text),
    ("extension*.extension*", false, Kind::Element),
    ("extension*.extension*.url", true, Kind::Uri),
    ("extension*.extension*.valueDecimal", false, Kind::Number),
    ("extension*.extension*.valueString", false, Kind::Text),
    ("type", true, Kind::Coding),
    ("subtype*", false, Kind::Coding),
    ("action", false, Kind::OneOf(&["C", "R", "U", "D", "E"])),
    ("recorded", true, Kind::Instant),
    ("outcome", false, Kind::OneOf(&["0", "4", "8", "12"])),
    ("outcomeDesc", false, Kind::Text),
    ("agent*", true, Kind::Element),
    ("agent*.who", false, Kind::Element),
    ("agent*.who.identifier", false, Kind::Element),
    ("agent*.who.identifier.value", false, Kind::Text),
    ("agent*.who.display", false, Kind::Text),
    ("agent*.requestor", true, Kind::Boolean),
    ("agent*.network", false, Kind::Element),
    ("agent*.network.address", false, Kind::Text),
    ("agent*.network.type", false, Kind::OneOf(&["1", "2", "3", "4", "5"])),
    ("source", true, Kind::Element),
    ("source.observer", true, Kind::Element),
    ("source.observer.display", false, Kind::Text),
    ("source.type*", false, Kind::Coding),
    ("entity*", false, Kind::Element),
    ("entity*.what", false, Kind::Element),
    ("entity*.what.identifier", false, Kind::Element),
    ("entity*.what.identifier.system", false, Kind::Uri),
    ("entity*.what.identifier.value", false, Kind::Text),
    ("entity*.type", false, Kind::Coding),
    ("entity*.role", false, Kind::Coding),
    ("entity*.detail*", false, Kind::Element),
    ("entity*.detail*.type", true, Kind::Text),
    ("entity*.detail*.valueString", true, Kind::Text),
];

#[derive(Clone, Copy)]
enum Kind {
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

impl Kind {
    fn takes(self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            Self::Id => {
                text.is_some_and(|id| (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)))
            }
            Self::Uri | Self::Text => text.is_some_and(|text| !text.is_empty() && text.trim() == text),
            Self::Number => value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::Instant => text.is_some_and(|text| text.len() == 24 && headrace_fhir::Instant::parse(text).is_ok()),
            Self::Coding => value.as_object().is_some_and(|coding| {
                let named = |name: &str| coding.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
                named("system") && named("code") && coding.keys().all(|name| ["system", "code", "display"].contains(&name.as_str()))
            }),
            Self::Element => value.as_object().is_some_and(|element| !element.is_empty()),
            Self::OneOf(codes) => text.is_some_and(|text| codes.contains(&text)),
        }
    }
}

/// Walks an element; what it should not have, or lacks.
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
            faults.push(format!("{path} is not several"));
        }
        for one in several.map_or_else(|| std::slice::from_ref(member), Vec::as_slice) {
            if !kind.takes(one) {
                faults.push(format!("{path} is {one}"));
            }
            if matches!(kind, Kind::Element) {
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
    for entry in every_entry() {
        let event: Value = serde_json::from_str(&line(&entry)).unwrap();
        assert_eq!(event["resourceType"], "AuditEvent");
        assert_eq!(faults("", &event), Vec::<String>::new(), "{event}");
    }
    // The list itself catches what is wrong.
    let wrong = json!({ "resourceType": "AuditEvent", "type": { "code": "rest" }, "agent": [], "recorded": "2026", "patient": 1 });
    let expected = ["agent* is not several", "patient is unknown", "recorded is 2026", "type is {\"code\":\"rest\"}", "source is missing"];
    assert_eq!(faults("", &wrong).join("; ").replace('"', ""), expected.join("; ").replace('"', ""));
}

#[test]
fn files_are_named_by_day_and_first_record() {
    let name = AuditFileName { day: Day::parse("2026-01-31").unwrap(), first: 42 };
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
    let head = Head::begin(Day::parse("2026-01-31").unwrap());
    assert_eq!(head.clone().on(Day::parse("2026-01-30").unwrap()), head);
    assert_eq!(head.on(Day::parse("2026-02-01").unwrap()).day.to_string(), "2026-02-01");
}
