//! Items of repeated elements that name other patients than the resource: their dates move by those patients.

use super::bundles::{DATE, bundle, date_shifter, moved_by, output_of_all_ways, patient};
use super::*;

/// Returns a period that begins on the date.
fn period() -> String {
    format!(r#""period":{{"start":"{DATE}"}}"#)
}

/// Returns a resource with other members.
fn resource(type_name: &str, members: &str) -> String {
    format!(r#"{{"resourceType":"{type_name}","id":"r",{members}}}"#)
}

/// Returns a Group of the people that references name.
fn group(references: &[&str]) -> String {
    let period = period();
    let member = |reference: &&str| format!(r#"{{"entity":{{"reference":"{reference}"}},{period}}}"#);
    let members: Vec<_> = references.iter().map(member).collect();
    resource("Group", &format!(r#""type":"person","actual":true,"member":[{}]"#, members.join(",")))
}

#[test]
fn each_member_of_a_group_moves_by_the_member() {
    let deidentifier = date_shifter();
    let references = ["Patient/c", "Patient/a", "https://example.org/Patient/b/_history/2", "Patient/d"];
    let output = output_of_all_ways(&deidentifier, &group(&references), Some("a"));
    for (index, id) in ["c", "a", "b", "d"].iter().enumerate() {
        assert_eq!(output["member"][index]["period"]["start"], moved_by(&deidentifier, id), "{id}");
    }
}

#[test]
fn an_item_moves_with_the_resource_unless_it_names_other_patients_only() {
    let (deidentifier, period) = (date_shifter(), period());
    let participants = [
        (r#""member":{"reference":"Practitioner/q"},"#, "p"),
        (r#""member":{"reference":"Patient/p"},"#, "p"),
        (r#""member":{"reference":"Patient/q"},"#, "q"),
        (r#""member":{"reference":"Patient/q"},"onBehalfOf":{"reference":"Patient/p"},"#, "p"),
        (r#""member":{"reference":"Patient/t"},"onBehalfOf":{"reference":"Patient/s"},"#, "s"),
        (r#""member":{"reference":"https://other.org/Patient/q"},"#, "p"),
        // References in the items of a list inside it are theirs.
        (r#""extension":[{"url":"x","valueReference":{"reference":"Patient/q"}}],"#, "p"),
        ("", "p"),
    ];
    let items: Vec<_> = participants.iter().map(|(members, _)| format!("{{{members}{period}}}")).collect();
    let members = format!(r#""subject":{{"reference":"Patient/p"}},{period},"participant":[{}]"#, items.join(","));
    let output = output_of_all_ways(&deidentifier, &resource("CareTeam", &members), Some("p"));
    assert_eq!(output["period"]["start"], moved_by(&deidentifier, "p"));
    for (index, (members, id)) in participants.iter().enumerate() {
        assert_eq!(output["participant"][index]["period"]["start"], moved_by(&deidentifier, id), "{members}");
    }
}

#[test]
fn items_of_other_elements_move_by_their_patients_too() {
    let (deidentifier, period) = (date_shifter(), period());
    let of_patient = r#"{"reference":"Patient/q"}"#;
    for (type_name, own, members, pointer) in [
        (
            "Appointment",
            "p",
            format!(r#""participant":[{{"actor":{{"reference":"Patient/p"}}}},{{"actor":{of_patient},{period}}}]"#),
            "/participant/1/period/start",
        ),
        (
            "List",
            "p",
            format!(r#""subject":{{"reference":"Patient/p"}},"entry":[{{"date":"{DATE}","item":{of_patient}}}]"#),
            "/entry/0/date",
        ),
        (
            "Composition",
            "p",
            format!(r#""subject":{{"reference":"Patient/p"}},"attester":[{{"time":"{DATE}","party":{of_patient}}}]"#),
            "/attester/0/time",
        ),
        (
            "Account",
            "p",
            format!(r#""subject":[{{"reference":"Patient/p"}}],"guarantor":[{{"party":{of_patient},{period}}}]"#),
            "/guarantor/0/period/start",
        ),
        (
            "Patient",
            "r",
            format!(
                r#""_birthDate":{{"extension":[{{"url":"x","extension":[{{"url":"y","valueReference":{{"reference":"Patient/q","identifier":{{{period}}}}}}}]}}]}}"#
            ),
            "/_birthDate/extension/0/extension/0/valueReference/identifier/period/start",
        ),
    ] {
        let output = output_of_all_ways(&deidentifier, &resource(type_name, &members), Some(own));
        assert_eq!(output.pointer(pointer), Some(&moved_by(&deidentifier, "q")), "{type_name}: {output}");
    }
}

#[test]
fn members_of_a_group_in_a_bundle_can_be_named_by_full_urls() {
    let deidentifier = date_shifter();
    let group = format!(r#"{{"resource":{}}}"#, group(&["urn:uuid:1", "urn:uuid:2", "Patient/c"]));
    let entries = [group, patient("urn:uuid:1", r#""id":"a","#), patient("urn:uuid:2", r#""id":"b","#)];
    let output = output_of_all_ways(&deidentifier, &bundle("x", &entries), None);
    for (index, id) in ["a", "b", "c"].iter().enumerate() {
        let start = &output["entry"][0]["resource"]["member"][index]["period"]["start"];
        assert_eq!(*start, moved_by(&deidentifier, id), "{id}");
    }
}

// Some servers write a list with one item without brackets.
#[test]
fn a_single_member_without_brackets_moves_by_the_member() {
    let (deidentifier, period) = (date_shifter(), period());
    let group = resource("Group", &format!(r#""member":{{"entity":{{"reference":"Patient/a"}},{period}}}"#));
    let output = parse_json(&deidentify(&deidentifier, &group).unwrap());
    assert_eq!(output["member"][0]["period"]["start"], moved_by(&deidentifier, "a"));
}
