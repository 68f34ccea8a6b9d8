//! The rule that applies to an element: order, prefixes, nested resources; and the security labels.

use serde_json::json;

use super::*;

/// Applies rules, each a path and its settings, to a resource.
fn with_rules(rules: &[[&str; 2]], parameters: &str, resource: &str) -> Value {
    parse_json(&deidentify(&deidentifier(&configuration(rules, parameters)), resource).unwrap())
}

const REDACT: &str = r#""method":"redact""#;
const KEEP: &str = r#""method":"keep""#;
const HASH: &str = r#""method":"cryptoHash""#;
const SHIFT: &str = r#""method":"dateShift""#;

/// Removes the `meta` of a resource.
fn without_meta(mut resource: Value) -> Value {
    resource.as_object_mut().unwrap().remove("meta");
    resource
}

/// Returns the codes in `meta.security`.
fn codes(resource: &Value) -> Vec<&str> {
    resource["meta"]["security"]
        .as_array()
        .map(|codings| codings.iter().map(|coding| coding["code"].as_str().unwrap()).collect())
        .unwrap_or_default()
}

#[test]
fn the_first_rule_that_selects_an_element_applies() {
    let resource = r#"{"resourceType":"Patient","name":[{"use":"usual","family":"A"}]}"#;
    let redacted = with_rules(&[["Patient.name", REDACT], ["Patient.name.use", KEEP]], "", resource);
    assert_eq!(without_meta(redacted), json!({ "resourceType": "Patient" }));
    let kept = with_rules(&[["Patient.name.use", KEEP], ["Patient.name", REDACT]], "", resource);
    assert_eq!(without_meta(kept), json!({ "resourceType": "Patient", "name": [{ "use": "usual" }] }));
}

#[test]
fn keep_protects_everything_in_an_element() {
    let resource = r#"{"resourceType":"Patient","contact":[{"name":{"family":"A","_family":{"id":"f"}}}]}"#;
    let kept = with_rules(&[["Patient.contact", KEEP], ["nodesByType('string')", REDACT]], "", resource);
    assert_eq!(kept, parse_json(resource));
}

#[test]
fn a_rule_applies_to_its_resource_type_or_to_all() {
    let resource = r#"{"resourceType":"Patient","id":"p","language":"de","active":true}"#;
    for (path, is_removed) in [
        ("Patient.language", true),
        ("Resource.language", true),
        ("DomainResource.language", true),
        ("language", true),
        ("Observation.language", false),
    ] {
        let output = with_rules(&[[path, REDACT]], "", resource);
        assert_eq!(output.get("language").is_none(), is_removed, "{path}");
        assert_eq!(output["active"], true, "{path}");
    }
}

#[test]
fn a_path_of_a_type_alone_selects_the_whole_resource() {
    let output = with_rules(
        &[["Patient.id", KEEP], ["Patient", REDACT]],
        "",
        r#"{"resourceType":"Patient","id":"p","active":true,"name":[{"text":"x"}]}"#,
    );
    assert_eq!(without_meta(output), json!({ "resourceType": "Patient", "id": "p" }));
}

#[test]
fn nodes_by_type_and_by_name_select_at_every_depth() {
    let resource = r#"{"resourceType":"Questionnaire","date":"2020-01-02","item":[{"linkId":"1","item":[{"linkId":"2","item":[{"linkId":"3","text":"deep"}]}]}],
        "useContext":[{"code":{"code":"x"},"valueQuantity":{"value":1.50}}]}"#.replace("\n        ", "");
    let by_name = with_rules(&[["nodesByName('linkId')", REDACT]], "", &resource);
    assert_eq!(by_name["item"], json!([{ "item": [{ "item": [{ "text": "deep" }] }] }]));
    let by_type = with_rules(&[["nodesByType('Quantity').value", REDACT], ["nodesByType('dateTime')", REDACT]], "", &resource);
    assert_eq!((by_type.get("useContext"), by_type.get("date")), (Some(&json!([{ "code": { "code": "x" } }])), None));
}

// A base type does not select the types derived from it.
#[test]
fn nodes_by_type_selects_the_exact_type() {
    let resource = r#"{"resourceType":"Condition","onsetAge":{"value":20,"unit":"a"}}"#;
    assert_eq!(with_rules(&[["nodesByType('Quantity')", REDACT]], "", resource), parse_json(resource));
    assert_eq!(with_rules(&[["nodesByType('Age')", REDACT]], "", resource).get("onsetAge"), None);
}

#[test]
fn nested_resources_have_rules_and_labels_of_their_own() {
    let bundle = r#"{"resourceType":"Bundle","id":"b","entry":[{"fullUrl":"urn:x","resource":{"resourceType":"Patient","id":"p","active":true,
        "contained":[{"resourceType":"Organization","id":"o","name":"N"}]}},{"resource":{"resourceType":"Observation","id":"v","status":"final"}}]}"#
        .replace("\n        ", "");
    let output = with_rules(&[["Organization.name", REDACT], ["Bundle.entry", SHIFT], ["Patient.active", HASH]], "", &bundle);
    let patient = &output["entry"][0]["resource"];
    assert_eq!(patient["contained"], json!([{ "resourceType": "Organization", "id": "o" }]), "contained resources have no labels");
    // The labels of a resource include those of its nested resources.
    assert_eq!(codes(patient), ["REDACTED", "CRYTOHASH"]);
    assert_eq!(codes(&output), ["REDACTED", "CRYTOHASH"]);
    assert_eq!(codes(&output["entry"][1]["resource"]), Vec::<&str>::new());
}

// A rule applies down to nested resources, but not inside them.
#[test]
fn a_rule_for_an_element_does_not_apply_to_nested_resources() {
    let bundle = r#"{"resourceType":"Bundle","type":"searchset","entry":[{"fullUrl":"urn:x","resource":{"resourceType":"Patient","id":"p","active":true}}]}"#;
    let output = with_rules(&[["Bundle.entry", REDACT]], "", bundle);
    assert_eq!(output["entry"], json!([{ "resource": { "resourceType": "Patient", "id": "p", "active": true } }]));
    let output = with_rules(&[["Bundle", REDACT]], "", bundle);
    assert_eq!(
        without_meta(output),
        json!({ "resourceType": "Bundle", "entry": [{ "resource": { "resourceType": "Patient", "id": "p", "active": true } }] })
    );
}

// Later rules do not change what a rule has inserted, including resources.
#[test]
fn later_rules_do_not_change_substituted_resources() {
    let bundle = r#"{"resourceType":"Bundle","entry":[{"fullUrl":"urn:x","resource":{"resourceType":"Patient","id":"p","active":true}}]}"#;
    let settings = r#""method":"substitute","replaceWith":{"resource":{"resourceType":"Patient","id":"example"}}"#;
    let output = with_rules(&[["Bundle.entry", settings], ["Patient", REDACT]], "", bundle);
    assert_eq!(output["entry"], json!([{ "resource": { "resourceType": "Patient", "id": "example" } }]));
}

// An element without a value after an earlier rule still exists for the paths of later rules, and equals no value.
#[test]
fn later_rules_see_emptied_elements() {
    let resource = r#"{"resourceType":"Patient","name":[{"use":"old","family":"A"},{"family":"B"}]}"#;
    for (path, expected) in [
        ("Patient.name.where(use.exists()).family", json!([{ "family": "B" }])),
        ("Patient.name.where(use = 'old').family", json!([{ "family": "A" }, { "family": "B" }])),
        ("Patient.name.where(use != 'usual').family", json!([{ "family": "B" }])),
    ] {
        assert_eq!(with_rules(&[["Patient.name.use", REDACT], [path, REDACT]], "", resource)["name"], expected, "{path}");
    }
}

#[test]
fn empty_elements_are_removed_with_parents_that_become_empty() {
    let resource = r#"{"resourceType":"Patient","contact":[{"name":{"family":"A"}},{"name":{"family":"B"},"gender":"male"}],"birthDate":"2001-02-03","_birthDate":{"extension":[{"url":"u","valueDate":"2001-02-03"}]}}"#;
    let output = with_rules(
        &[["nodesByType('HumanName')", REDACT], ["nodesByType('date')", REDACT], ["nodesByType('Extension')", REDACT]],
        "",
        resource,
    );
    assert_eq!(without_meta(output), json!({ "resourceType": "Patient", "contact": [{ "gender": "male" }] }));
}

#[test]
fn lists_of_primitives_stay_aligned_with_their_extensions() {
    let resource = r#"{"resourceType":"Patient","name":[{"given":["A",null,"C"],"_given":[null,{"id":"b"},{"id":"c"}]}]}"#;
    let output = with_rules(&[["Patient.name.given.where($this = 'A')", REDACT]], "", resource);
    assert_eq!(output["name"], json!([{ "given": [null, "C"], "_given": [{ "id": "b" }, { "id": "c" }] }]));
    let output = with_rules(&[["Patient.name.given.id", REDACT]], "", resource);
    assert_eq!(output["name"], json!([{ "given": ["A", "C"] }]));
}

#[test]
fn labels_are_written_once_and_in_order() {
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
    let output = with_rules(&rules, r#""enablePartialZipCodesForRedact":true"#, &resource);
    assert_eq!(codes(&output), ["CRYTOHASH", "REDACTED", "ABSTRED", "MASKED", "PERTURBED", "SUBSTITUTED", "GENERALIZED"]);
    let systems = output["meta"]["security"].as_array().unwrap().iter().map(|coding| coding.get("system").and_then(Value::as_str));
    let value_system = Some("http://terminology.hl7.org/CodeSystem/v3-ObservationValue");
    assert!(systems.eq([Some("x"), value_system, value_system, value_system, None, None, None]));
}

#[test]
fn elements_without_a_rule_are_copied_byte_for_byte() {
    let resource = r#"{ "resourceType" : "Observation", "id":"o" ,"status":"fi\u006eal","valueQuantity":{"value":1.5000,"unit":"µg"},"subject":{"reference":"Patient/1"}}"#;
    assert_eq!(deidentify(&deidentifier(&configuration(&[["Patient.name", REDACT]], "")), resource).unwrap(), resource);
    let output =
        deidentify(&deidentifier(&configuration(&[["Observation.subject", REDACT], ["nodesByType('Quantity').unit", KEEP]], "")), resource)
            .unwrap();
    assert!(output.contains(r#""valueQuantity":{"value":1.5000,"unit":"µg"}"#), "{output}");
    assert!(output.contains(r#""status":"fi\u006eal""#), "{output}");
}

#[test]
fn unnamed_elements_can_be_dropped() {
    let resource =
        r#"{"resourceType":"Patient","id":"p","birthDate":"2001-02-03","address":[{"postalCode":"12345"}],"gender":"male","active":true}"#;
    let parameters = r#""unnamedElements":"drop","enablePartialDatesForRedact":true,"enablePartialZipCodesForRedact":true"#;
    let output = with_rules(&[["Patient.id", HASH], ["Patient.gender", KEEP]], parameters, resource);
    assert_eq!(
        output.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["resourceType", "id", "gender", "meta"].iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    assert_eq!(codes(&output), ["REDACTED", "CRYTOHASH"]);
}

#[test]
fn rules_can_skip_extensions() {
    let resource = r#"{"resourceType":"Patient","extension":[{"url":"u","valueDate":"2001-02-03"}],"birthDate":"2001-02-03"}"#;
    let rules = [["nodesByType('date')", REDACT]];
    assert_eq!(with_rules(&rules, "", resource).get("extension"), Some(&json!([{ "url": "u" }])));
    let output = with_rules(&rules, r#""rulesInExtensions":false"#, resource);
    assert_eq!((output.get("extension"), output.get("birthDate")), (Some(&json!([{ "url": "u", "valueDate": "2001-02-03" }])), None));
    // A rule for the extension itself still applies.
    let output = with_rules(&[["Patient.extension", REDACT]], r#""rulesInExtensions":false"#, resource);
    assert_eq!(output.get("extension"), None);
}

#[test]
fn dates_move_by_the_id_that_the_resource_has_when_their_rule_applies() {
    let resource = r#"{"resourceType":"Patient","id":"p","birthDate":"2001-02-03"}"#;
    let parameters = r#""dateShiftKey":"k","cryptoHashKey":"h""#;
    let moved = |rules: &[[&str; 2]]| with_rules(rules, parameters, resource)["birthDate"].clone();
    let by_old = moved(&[["nodesByType('date')", SHIFT], ["Resource.id", HASH]]);
    let by_new = moved(&[["Resource.id", HASH], ["nodesByType('date')", SHIFT]]);
    let hashed = with_rules(&[["Resource.id", HASH]], parameters, resource)["id"].as_str().unwrap().to_owned();
    assert_eq!(by_old, moved(&[["nodesByType('date')", SHIFT]]));
    let renamed = resource.replace(r#""id":"p""#, &format!(r#""id":"{hashed}""#));
    assert_eq!(by_new, with_rules(&[["nodesByType('date')", SHIFT]], parameters, &renamed)["birthDate"]);
    assert_ne!(by_old, by_new);
}

// The id of the root determines the offset, also for nested resources.
#[test]
fn all_dates_of_a_bundle_move_alike() {
    let entry = |id: &str| format!(r#"{{"resource":{{"resourceType":"Patient","id":"{id}","birthDate":"2001-02-03"}}}}"#);
    let bundle = format!(r#"{{"resourceType":"Bundle","id":"b","entry":[{},{}]}}"#, entry("p"), entry("q"));
    let output = with_rules(&[["nodesByType('date')", SHIFT]], r#""dateShiftKey":"k""#, &bundle);
    assert_eq!(output["entry"][0]["resource"]["birthDate"], output["entry"][1]["resource"]["birthDate"]);
}
