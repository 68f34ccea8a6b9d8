//! Entries of a Bundle that name their patients by full URLs of other entries.

use super::*;
use crate::deid::streaming::{DatePatient, deidentify_streaming};

pub(super) const DATE: &str = "2015-02-07";

/// Returns a de-identifier that moves dates by patients, for a lake with its own base URL.
pub(super) fn date_shifter() -> Deidentifier {
    let shifts = ["nodesByType('date')", "nodesByType('dateTime')"].map(|path| [path, r#""method":"dateShift""#]);
    let hashes = ["Resource.id", "nodesByType('Reference').reference"].map(|path| [path, r#""method":"cryptoHash""#]);
    let config = configuration(&[hashes, shifts].concat(), r#""dateShiftKey":"k","dateShiftScope":"patient""#);
    deidentifier(&config).with_base_urls(BaseUrls::only(["https://example.org".to_owned()]))
}

/// Returns a Bundle of entries.
pub(super) fn bundle(id: &str, entries: &[String]) -> String {
    format!(r#"{{"resourceType":"Bundle","id":"{id}","type":"transaction","entry":[{}]}}"#, entries.join(","))
}

/// Returns an entry with a Patient. Its `fullUrl` follows the resource.
pub(super) fn patient(full_url: &str, members: &str) -> String {
    format!(r#"{{"resource":{{"resourceType":"Patient",{members}"birthDate":"{DATE}"}},"fullUrl":"{full_url}"}}"#)
}

/// Returns an entry with an Observation about a patient.
fn observation(members: &str, subject: &str) -> String {
    let subject = format!(r#""subject":{{"reference":"{subject}"}}"#);
    format!(
        r#"{{"fullUrl":"urn:uuid:0","resource":{{"resourceType":"Observation",{members}{subject},"status":"final","effectiveDateTime":"{DATE}"}}}}"#
    )
}

/// Returns the date to which the dates of a patient, or of a resource without one, move.
pub(super) fn moved_by(deidentifier: &Deidentifier, id: &str) -> Value {
    let patient = format!(r#"{{"resourceType":"Patient","id":"{id}","birthDate":"{DATE}"}}"#);
    parse_json(&deidentify(deidentifier, &patient).unwrap())["birthDate"].clone()
}

/// Returns the output, which must be the same by both engines and with and without validation. `patient` is that of the resource.
pub(super) fn output_of_all_ways(deidentifier: &Deidentifier, resource: &str, patient: Option<&str>) -> Value {
    let [mut streamed, mut by_tree, mut unvalidated] = [Vec::new(), Vec::new(), Vec::new()];
    deidentify_streaming(&deidentifier.engine, resource, DatePatient::Given(patient), &mut streamed).unwrap();
    deidentifier.deidentify_with_tree(resource.as_bytes(), patient, &mut by_tree).unwrap();
    assert!(deidentifier.deidentify_valid(resource.as_bytes(), &mut unvalidated));
    let [streamed, by_tree, unvalidated] = [streamed, by_tree, unvalidated].map(|out| parse_json(&String::from_utf8(out).unwrap()));
    assert_eq!(streamed, by_tree);
    assert_eq!(streamed, unvalidated);
    streamed
}

/// Asserts that the resources of a Bundle's entries move by these ids.
fn assert_moved(deidentifier: &Deidentifier, bundle: &Value, ids: &[&str]) {
    let entries = bundle["entry"].as_array().unwrap();
    assert_eq!(entries.len(), ids.len());
    for (index, (entry, id)) in entries.iter().zip(ids).enumerate() {
        let resource = &entry["resource"];
        let date = ["birthDate", "effectiveDateTime"].iter().find_map(|name| resource.get(*name)).unwrap();
        assert_eq!(*date, moved_by(deidentifier, id), "entry {index}: {resource}");
    }
}

#[test]
fn entries_of_a_transaction_move_with_the_patient_whose_full_url_they_name() {
    let deidentifier = date_shifter();
    let entries = [
        observation(r#""id":"o","#, "urn:uuid:1"),
        patient("urn:uuid:1", r#""id":"p","#),
        patient("https://other.org/r4/Patient/q", r#""id":"q","#),
        observation(r#""id":"o","#, "https://other.org/r4/Patient/q"),
        observation(r#""id":"o","#, "https://other.org/r4/Patient/q/_history/3"),
        patient("urn:oid:1.2.3", r#""id":"r","#),
        observation("", "urn:oid:1.2.3"),
        patient("Patient/new", r#""id":"s","#),
        observation(r#""id":"o","#, "Patient/new"),
        observation(r#""id":"o","#, "Patient/p"),
    ];
    let output = output_of_all_ways(&deidentifier, &bundle("b", &entries), None);
    assert_moved(&deidentifier, &output, &["p", "p", "q", "q", "q", "r", "r", "s", "s", "p"]);
}

#[test]
fn an_address_that_is_no_full_url_of_a_patient_names_no_patient() {
    let deidentifier = date_shifter();
    let group = r#"{"fullUrl":"urn:uuid:2","resource":{"resourceType":"Group","id":"g","type":"person","actual":true}}"#.to_owned();
    let observations = ["urn:uuid:2", "urn:uuid:3", "https://other.org/Patient/p"].map(|subject| observation(r#""id":"o","#, subject));
    let entries = [&observations[..], &[patient("urn:uuid:1", r#""id":"p","#)]].concat();
    assert_moved(&deidentifier, &output_of_all_ways(&deidentifier, &bundle("b", &entries), None), &["o", "o", "o", "p"]);
    let with_group = parse_json(&deidentify(&deidentifier, &bundle("b", &[group, observations[0].clone()])).unwrap());
    assert_eq!(with_group["entry"][1]["resource"]["effectiveDateTime"], moved_by(&deidentifier, "o"));
}

#[test]
fn entries_about_a_patient_without_an_id_move_with_the_bundle_like_the_patient() {
    let deidentifier = date_shifter();
    let entries = [observation(r#""id":"o","#, "urn:uuid:1"), patient("urn:uuid:1", ""), observation("", "urn:uuid:1")];
    assert_moved(&deidentifier, &output_of_all_ways(&deidentifier, &bundle("b", &entries), None), &["b", "b", "b"]);
}

#[test]
fn a_full_url_counts_only_in_its_own_bundle() {
    let deidentifier = date_shifter();
    let inner = bundle(
        "c",
        &[observation(r#""id":"o","#, "urn:uuid:1"), patient("urn:uuid:1", r#""id":"q","#), observation(r#""id":"n","#, "urn:uuid:2")],
    );
    let entries = [
        format!(r#"{{"resource":{inner}}}"#),
        observation(r#""id":"o","#, "urn:uuid:1"),
        patient("urn:uuid:1", r#""id":"p","#),
        patient("urn:uuid:2", r#""id":"r","#),
    ];
    let mut output = output_of_all_ways(&deidentifier, &bundle("b", &entries), None);
    let inner = output["entry"].as_array_mut().unwrap().remove(0);
    assert_moved(&deidentifier, &inner["resource"], &["q", "q", "n"]);
    assert_moved(&deidentifier, &output, &["p", "p", "r"]);
}
