//! Which rule is whose: order, prefixes, resources within, labels.

use serde_json::json;

use super::*;

/// A resource under rules of `[path, settings]`, with `parameters`.
fn under(rules: &[[&str; 2]], parameters: &str, resource: &str) -> Value {
    parsed(&apply(&ready(&configuration(rules, parameters)), resource).unwrap())
}

const REDACT: &str = r#""method":"redact""#;
const KEEP: &str = r#""method":"keep""#;
const HASH: &str = r#""method":"cryptoHash""#;
const SHIFT: &str = r#""method":"dateShift""#;

fn without_meta(mut resource: Value) -> Value {
    resource.as_object_mut().unwrap().remove("meta");
    resource
}

fn codes(resource: &Value) -> Vec<&str> {
    resource["meta"]["security"]
        .as_array()
        .map(|codings| codings.iter().map(|coding| coding["code"].as_str().unwrap()).collect())
        .unwrap_or_default()
}

#[test]
fn the_first_rule_that_touches_an_element_wins() {
    let resource = r#"{"resourceType":"Patient","name":[{"use":"usual","family":"A"}]}"#;
    let redacted = under(&[["Patient.name", REDACT], ["Patient.name.use", KEEP]], "", resource);
    assert_eq!(without_meta(redacted), json!({ "resourceType": "Patient" }));
    let kept = under(&[["Patient.name.use", KEEP], ["Patient.name", REDACT]], "", resource);
    assert_eq!(without_meta(kept), json!({ "resourceType": "Patient", "name": [{ "use": "usual" }] }));
}

#[test]
fn keep_holds_all_that_is_in_an_element() {
    let resource = r#"{"resourceType":"Patient","contact":[{"name":{"family":"A","_family":{"id":"f"}}}]}"#;
    let kept = under(&[["Patient.contact", KEEP], ["nodesByType('string')", REDACT]], "", resource);
    assert_eq!(kept, parsed(resource));
}

#[test]
fn a_rule_is_for_its_type_or_for_all() {
    let resource = r#"{"resourceType":"Patient","id":"p","language":"de","active":true}"#;
    for (path, gone) in [
        ("Patient.language", true),
        ("Resource.language", true),
        ("DomainResource.language", true),
        ("language", true),
        ("Observation.language", false),
    ] {
        let left = under(&[[path, REDACT]], "", resource);
        assert_eq!(left.get("language").is_none(), gone, "{path}");
        assert_eq!(left["active"], true, "{path}");
    }
}

#[test]
fn a_type_alone_is_the_whole_resource() {
    let left = under(
        &[["Patient.id", KEEP], ["Patient", REDACT]],
        "",
        r#"{"resourceType":"Patient","id":"p","active":true,"name":[{"text":"x"}]}"#,
    );
    assert_eq!(without_meta(left), json!({ "resourceType": "Patient", "id": "p" }));
}

#[test]
fn elements_are_found_by_type_and_by_name_at_every_depth() {
    let resource = r#"{"resourceType":"Questionnaire","date":"2020-01-02","item":[{"linkId":"1","item":[{"linkId":"2","item":[{"linkId":"3","text":"deep"}]}]}],
        "useContext":[{"code":{"code":"x"},"valueQuantity":{"value":1.50}}]}"#.replace("\n        ", "");
    let by_name = under(&[["nodesByName('linkId')", REDACT]], "", &resource);
    assert_eq!(by_name["item"], json!([{ "item": [{ "item": [{ "text": "deep" }] }] }]));
    let by_type = under(&[["nodesByType('Quantity').value", REDACT], ["nodesByType('dateTime')", REDACT]], "", &resource);
    assert_eq!((by_type.get("useContext"), by_type.get("date")), (Some(&json!([{ "code": { "code": "x" } }])), None));
}

/// A type is not found by what it specialises.
#[test]
fn types_are_told_apart_exactly() {
    let resource = r#"{"resourceType":"Condition","onsetAge":{"value":20,"unit":"a"}}"#;
    assert_eq!(under(&[["nodesByType('Quantity')", REDACT]], "", resource), parsed(resource));
    assert_eq!(under(&[["nodesByType('Age')", REDACT]], "", resource).get("onsetAge"), None);
}

#[test]
fn resources_within_are_resources_of_their_own() {
    let bundle = r#"{"resourceType":"Bundle","id":"b","entry":[{"fullUrl":"urn:x","resource":{"resourceType":"Patient","id":"p","active":true,
        "contained":[{"resourceType":"Organization","id":"o","name":"N"}]}},{"resource":{"resourceType":"Observation","id":"v","status":"final"}}]}"#
        .replace("\n        ", "");
    let left = under(&[["Organization.name", REDACT], ["Bundle.entry", SHIFT], ["Patient.active", HASH]], "", &bundle);
    let patient = &left["entry"][0]["resource"];
    assert_eq!(patient["contained"], json!([{ "resourceType": "Organization", "id": "o" }]), "what is contained is not labelled");
    // What was done further within is told further out as well.
    assert_eq!(codes(patient), ["REDACTED", "CRYTOHASH"]);
    assert_eq!(codes(&left), ["REDACTED", "CRYTOHASH"]);
    assert_eq!(codes(&left["entry"][1]["resource"]), Vec::<&str>::new());
}

/// A rule goes down to the resources within and no further.
#[test]
fn a_rule_for_what_holds_resources_leaves_them_alone() {
    let bundle = r#"{"resourceType":"Bundle","type":"searchset","entry":[{"fullUrl":"urn:x","resource":{"resourceType":"Patient","id":"p","active":true}}]}"#;
    let left = under(&[["Bundle.entry", REDACT]], "", bundle);
    assert_eq!(left["entry"], json!([{ "resource": { "resourceType": "Patient", "id": "p", "active": true } }]));
    let left = under(&[["Bundle", REDACT]], "", bundle);
    assert_eq!(
        without_meta(left),
        json!({ "resourceType": "Bundle", "entry": [{ "resource": { "resourceType": "Patient", "id": "p", "active": true } }] })
    );
}

/// What a rule brings is its own, resources included.
#[test]
fn later_rules_leave_substituted_resources_alone() {
    let bundle = r#"{"resourceType":"Bundle","entry":[{"fullUrl":"urn:x","resource":{"resourceType":"Patient","id":"p","active":true}}]}"#;
    let settings = r#""method":"substitute","replaceWith":{"resource":{"resourceType":"Patient","id":"example"}}"#;
    let left = under(&[["Bundle.entry", settings], ["Patient", REDACT]], "", bundle);
    assert_eq!(left["entry"], json!([{ "resource": { "resourceType": "Patient", "id": "example" } }]));
}

/// An element that an earlier rule has emptied is still there for the paths of later ones, and equals no value.
#[test]
fn emptied_elements_are_seen_by_later_rules() {
    let resource = r#"{"resourceType":"Patient","name":[{"use":"old","family":"A"},{"family":"B"}]}"#;
    for (path, left) in [
        ("Patient.name.where(use.exists()).family", json!([{ "family": "B" }])),
        ("Patient.name.where(use = 'old').family", json!([{ "family": "A" }, { "family": "B" }])),
        ("Patient.name.where(use != 'usual').family", json!([{ "family": "B" }])),
    ] {
        assert_eq!(under(&[["Patient.name.use", REDACT], [path, REDACT]], "", resource)["name"], left, "{path}");
    }
}

#[test]
fn empty_elements_go_with_all_that_only_holds_them() {
    let resource = r#"{"resourceType":"Patient","contact":[{"name":{"family":"A"}},{"name":{"family":"B"},"gender":"male"}],"birthDate":"2001-02-03","_birthDate":{"extension":[{"url":"u","valueDate":"2001-02-03"}]}}"#;
    let left =
        under(&[["nodesByType('HumanName')", REDACT], ["nodesByType('date')", REDACT], ["nodesByType('Extension')", REDACT]], "", resource);
    assert_eq!(without_meta(left), json!({ "resourceType": "Patient", "contact": [{ "gender": "male" }] }));
}

#[test]
fn lists_of_values_and_what_stands_beside_them_stay_in_step() {
    let resource = r#"{"resourceType":"Patient","name":[{"given":["A",null,"C"],"_given":[null,{"id":"b"},{"id":"c"}]}]}"#;
    let left = under(&[["Patient.name.given.where($this = 'A')", REDACT]], "", resource);
    assert_eq!(left["name"], json!([{ "given": [null, "C"], "_given": [{ "id": "b" }, { "id": "c" }] }]));
    let left = under(&[["Patient.name.given.id", REDACT]], "", resource);
    assert_eq!(left["name"], json!([{ "given": ["A", "C"] }]));
}

#[test]
fn labels_stand_in_their_order_and_once() {
    let resource = r#"{"resourceType":"Patient","id":"p","meta":{"security":[{"system":"x","code":"CRYTOHASH"}]},"active":true,"birthDate":"2001-02-03",
        "multipleBirthInteger":3,"gender":"male","language":"de","address":[{"postalCode":"12345","city":"B"}],"photo":[{"title":"t"}]}"#
        .replace("\n        ", "");
    let rules = [
        ["Patient.gender", r#""method":"generalize","cases":{"true":"'other'"}"#],
        ["Patient.language", r#""method":"substitute","replaceWith":"en""#],
        ["Patient.multipleBirth", r#""method":"perturb","span":0"#],
        ["Patient.photo.title", r#""method":"encrypt""#],
        ["Patient.id", HASH],
        ["Patient.address", REDACT],
    ];
    let left = under(&rules, r#""enablePartialZipCodesForRedact":true"#, &resource);
    assert_eq!(codes(&left), ["CRYTOHASH", "REDACTED", "ABSTRED", "MASKED", "PERTURBED", "SUBSTITUTED", "GENERALIZED"]);
    let systems = left["meta"]["security"].as_array().unwrap().iter().map(|coding| coding.get("system").and_then(Value::as_str));
    let value_system = Some("http://terminology.hl7.org/CodeSystem/v3-ObservationValue");
    assert!(systems.eq([Some("x"), value_system, value_system, value_system, None, None, None]));
}

#[test]
fn what_no_rule_touches_stays_to_the_byte() {
    let resource = r#"{ "resourceType" : "Observation", "id":"o" ,"status":"fi\u006eal","valueQuantity":{"value":1.5000,"unit":"µg"},"subject":{"reference":"Patient/1"}}"#;
    assert_eq!(apply(&ready(&configuration(&[["Patient.name", REDACT]], "")), resource).unwrap(), resource);
    let left =
        apply(&ready(&configuration(&[["Observation.subject", REDACT], ["nodesByType('Quantity').unit", KEEP]], "")), resource).unwrap();
    assert!(left.contains(r#""valueQuantity":{"value":1.5000,"unit":"µg"}"#), "{left}");
    assert!(left.contains(r#""status":"fi\u006eal""#), "{left}");
}

#[test]
fn what_no_rule_names_can_be_dropped() {
    let resource =
        r#"{"resourceType":"Patient","id":"p","birthDate":"2001-02-03","address":[{"postalCode":"12345"}],"gender":"male","active":true}"#;
    let parameters = r#""unnamedElements":"drop","enablePartialDatesForRedact":true,"enablePartialZipCodesForRedact":true"#;
    let left = under(&[["Patient.id", HASH], ["Patient.gender", KEEP]], parameters, resource);
    assert_eq!(
        left.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["resourceType", "id", "gender", "meta"].iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    assert_eq!(codes(&left), ["REDACTED", "CRYTOHASH"]);
}

#[test]
fn rules_can_be_kept_out_of_extensions() {
    let resource = r#"{"resourceType":"Patient","extension":[{"url":"u","valueDate":"2001-02-03"}],"birthDate":"2001-02-03"}"#;
    let rules = [["nodesByType('date')", REDACT]];
    assert_eq!(under(&rules, "", resource).get("extension"), Some(&json!([{ "url": "u" }])));
    let left = under(&rules, r#""rulesInExtensions":false"#, resource);
    assert_eq!((left.get("extension"), left.get("birthDate")), (Some(&json!([{ "url": "u", "valueDate": "2001-02-03" }])), None));
    // What holds an extension takes it along.
    let left = under(&[["Patient.extension", REDACT]], r#""rulesInExtensions":false"#, resource);
    assert_eq!(left.get("extension"), None);
}

#[test]
fn dates_move_by_the_id_as_it_is_when_their_rule_comes() {
    let resource = r#"{"resourceType":"Patient","id":"p","birthDate":"2001-02-03"}"#;
    let parameters = r#""dateShiftKey":"k","cryptoHashKey":"h""#;
    let moved = |rules: &[[&str; 2]]| under(rules, parameters, resource)["birthDate"].clone();
    let by_old = moved(&[["nodesByType('date')", SHIFT], ["Resource.id", HASH]]);
    let by_new = moved(&[["Resource.id", HASH], ["nodesByType('date')", SHIFT]]);
    let hashed = under(&[["Resource.id", HASH]], parameters, resource)["id"].as_str().unwrap().to_owned();
    assert_eq!(by_old, moved(&[["nodesByType('date')", SHIFT]]));
    let renamed = resource.replace(r#""id":"p""#, &format!(r#""id":"{hashed}""#));
    assert_eq!(by_new, under(&[["nodesByType('date')", SHIFT]], parameters, &renamed)["birthDate"]);
    assert_ne!(by_old, by_new);
}

/// The hash of the root's id decides, also for what lies in other resources of a bundle.
#[test]
fn a_bundle_moves_all_its_dates_alike() {
    let entry = |id: &str| format!(r#"{{"resource":{{"resourceType":"Patient","id":"{id}","birthDate":"2001-02-03"}}}}"#);
    let bundle = format!(r#"{{"resourceType":"Bundle","id":"b","entry":[{},{}]}}"#, entry("p"), entry("q"));
    let left = under(&[["nodesByType('date')", SHIFT]], r#""dateShiftKey":"k""#, &bundle);
    assert_eq!(left["entry"][0]["resource"]["birthDate"], left["entry"][1]["resource"]["birthDate"]);
}
