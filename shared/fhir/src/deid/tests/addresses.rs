//! Addresses of resources outside of references, and the versions in references.

use super::engine_agreement::outputs_of_both_engines;
use super::*;

const KEY: &str = r#""cryptoHashKey":"0123456789abcdef0123456789abcdef""#;
const KEEP: &str = r#""method":"keep""#;
const HASHED_IDS: [&str; 2] = ["Resource.id", r#""method":"cryptoHash""#];
const HASHED_REFERENCES: [&str; 2] = ["nodesByType('Reference').reference", r#""method":"cryptoHash""#];

/// Returns the output of both engines, which must be the same.
fn written(rules: &[[&str; 2]], resource: &str) -> Value {
    let config = configuration(rules, KEY);
    let [streamed, by_tree] = outputs_of_both_engines(&config, resource);
    assert!(streamed.is_some() && streamed == by_tree, "{config}\n{streamed:?}\n{by_tree:?}");
    assert!(deidentifier(&config).explain(resource.as_bytes(), None).unwrap().is_exact, "the preview shows the same");
    parse_json(&deidentify(&deidentifier(&config), resource).unwrap())
}

/// Returns the hash of the id `MRN-1`.
fn hashed_id() -> String {
    written(&[HASHED_IDS], r#"{"resourceType":"Patient","id":"MRN-1"}"#)["id"].as_str().unwrap().to_owned()
}

const TASK: &str = r#"{"resourceType":"Task","id":"t","instantiatesUri":"https://x.org/r4/ServiceRequest/template","input":[{"valueUri":"Patient/MRN-1"},{"valueUrl":"https://x.org/r4/Patient/MRN-1"},{"valueCanonical":"Patient/MRN-1"}],"output":[{"valueUri":"Patient?identifier=MRN-1"},{"extension":[{"url":"x","valueId":"MRN-1"},{"url":"y","valueUri":"Patient/MRN-1"}]}]}"#;

#[test]
fn both_engines_hide_the_ids_in_addresses_like_those_in_references() {
    let (id, task) = (hashed_id(), written(&[HASHED_IDS], TASK));
    let relative = format!("Patient/{id}");
    assert_eq!(task["instantiatesUri"], "https://x.org/r4/ServiceRequest/template", "the name of a definition");
    assert_eq!(task["input"][0]["valueUri"], relative);
    assert_eq!(task["input"][1]["valueUrl"], format!("https://x.org/r4/{relative}"));
    assert_eq!(task["input"][2]["valueCanonical"], relative);
    assert_eq!(task["output"][0]["valueUri"].as_str().map(str::len), Some(64), "a search is hashed as a whole");
    assert_eq!(task["output"][1]["extension"][0]["valueId"], id);
    assert_eq!(task["output"][1]["extension"][1]["valueUri"], relative);
    for resource in [
        r#"{"resourceType":"MessageHeader","id":"m","response":{"identifier":"MRN-1","code":"ok"}}"#,
        r#"{"resourceType":"Subscription","id":"s","criteria":"Observation?patient=Patient/MRN-1"}"#,
        r#"{"resourceType":"AuditEvent","id":"a","entity":[{"query":"UGF0aWVudC9NUk4tMQ=="}]}"#,
        r#"{"resourceType":"QuestionnaireResponse","id":"q","item":[{"answer":[{"valueUri":"Patient/MRN-1"}]}]}"#,
        r#"{"resourceType":"DocumentReference","id":"d","content":[{"attachment":{"url":"Binary/MRN-1"}}]}"#,
        r#"{"resourceType":"Parameters","id":"p","parameter":[{"name":"x","valueUri":"Patient/MRN-1"},{"name":"y","part":[{"name":"z","valueUrl":"/Patient/MRN-1"}]}]}"#,
        r#"{"resourceType":"Observation","id":"o","contained":[{"resourceType":"Patient","photo":[{"url":"Binary/MRN-1"}]}]}"#,
    ] {
        let output = written(&[HASHED_IDS], resource).to_string();
        assert!(!output.contains("MRN-1") && !output.contains("UGF0aWVudC9NUk4tMQ"), "{output}");
        assert!(output.contains("CRYTOHASH"), "{output}");
        let redacted = written(&[["Resource.id", r#""method":"redact""#]], resource).to_string();
        assert!(!redacted.contains("MRN-1"), "{redacted}");
    }
}

const EXTENDED_GENDER: &str = r#"{"resourceType":"Patient","id":"p","gender":"male","_gender":{"id":"g","extension":[{"url":"a","valueReference":{"reference":"Patient/MRN-1","display":"x"}},{"url":"b","valueId":"MRN-1"},{"url":"c","valueUri":"Patient/MRN-1"},{"url":"d","extension":[{"url":"e","valueReference":{"reference":"Patient/MRN-1"}}]},{"url":"f","valueCode":"x"}]}}"#;

#[test]
fn a_rule_that_keeps_a_value_does_not_keep_the_ids_in_its_extensions() {
    let id = hashed_id();
    let reference = format!("Patient/{id}");
    for rule in [["Patient.gender", KEEP], ["nodesByType('code')", KEEP], ["Patient.gender", r#""method":"dateShift""#]] {
        let output = written(&[rule, HASHED_IDS, HASHED_REFERENCES], EXTENDED_GENDER);
        let extensions = &output["_gender"]["extension"];
        assert_eq!(extensions[0]["valueReference"]["reference"], reference, "{rule:?}");
        assert_eq!(extensions[0]["valueReference"]["display"], "x", "{rule:?}: all else is kept");
        assert_eq!(extensions[1]["valueId"], id, "{rule:?}");
        assert_eq!(extensions[2]["valueUri"], reference, "{rule:?}");
        assert_eq!(extensions[3]["extension"][0]["valueReference"]["reference"], reference, "{rule:?}");
        assert_eq!((&output["gender"], &extensions[4]["valueCode"]), (&"male".into(), &"x".into()), "{rule:?}");
    }
    let redacted = written(&[["Patient.gender", KEEP], ["Resource.id", r#""method":"redact""#]], EXTENDED_GENDER).to_string();
    assert!(!redacted.contains("MRN-1") && redacted.contains("male"), "{redacted}");
    let dropped = configuration(&[["Patient.gender", KEEP], HASHED_IDS], &format!(r#"{KEY},"unnamedElements":"drop""#));
    let [streamed, by_tree] = outputs_of_both_engines(&dropped, EXTENDED_GENDER);
    assert!(streamed.as_ref().is_some_and(|output| !output.contains("MRN-1")) && streamed == by_tree, "{streamed:?}\n{by_tree:?}");
    // Rules that name the extensions or references decide first.
    for path in ["Patient.gender.extension", "nodesByType('Reference').reference"] {
        let kept = written(&[[path, KEEP], ["Patient.gender", KEEP], HASHED_IDS], EXTENDED_GENDER);
        assert_eq!(kept["_gender"]["extension"][0]["valueReference"]["reference"], "Patient/MRN-1", "{path}");
    }
    assert_eq!(written(&[["Patient.gender", KEEP]], EXTENDED_GENDER), parse_json(EXTENDED_GENDER), "no rule hides ids");
    // A rule for the element around the value covers what is in its extensions, in whatever order it selects the two.
    let contact = r#"{"resourceType":"Patient","id":"p","contact":[{"gender":"male","_gender":{"extension":[{"url":"a","valueReference":{"reference":"Patient/MRN-1"}}]}}]}"#;
    for path in ["Patient.contact.gender | Patient.contact", "Patient.contact | Patient.contact.gender", "Patient.contact"] {
        let kept = written(&[[path, KEEP], HASHED_IDS], contact);
        assert_eq!(kept["contact"], parse_json(contact)["contact"], "{path}");
    }
}

#[test]
fn a_preview_shows_what_becomes_of_an_id_beside_a_kept_value_once() {
    let config = configuration(&[["Patient.gender", KEEP], HASHED_IDS], KEY);
    let resource = EXTENDED_GENDER.replacen(r#""valueUri":"Patient/MRN-1""#, r#""valueUri":"http://x.org/page""#, 1);
    let steps = deidentifier(&config).explain(resource.as_bytes(), None).unwrap().steps;
    let steps_of = |path: &str| -> Vec<(usize, bool)> {
        let of_path = steps.iter().filter(|step| step.element_path == path);
        of_path.map(|step| (step.rule_number, step.before == step.after)).collect()
    };
    let hidden = steps_of("Patient.gender.extension[0].valueReference.reference");
    assert!(matches!(hidden[..], [(rule, false)] if rule > 2), "{hidden:?}");
    assert_eq!(steps_of("Patient.gender.extension[2].valueUri"), [(1, true)], "no address");
    assert_eq!(steps_of("Patient.gender"), [(1, true)]);
}

#[test]
fn names_of_definitions_and_other_urls_stay() {
    for resource in [
        r#"{"resourceType":"Provenance","id":"p","implicitRules":"http://x.org/Patient/rules","policy":["http://x.org/Consent/policy"]}"#,
        r#"{"resourceType":"CarePlan","id":"c","instantiatesCanonical":["http://x.org/PlanDefinition/1"],"instantiatesUri":["http://x.org/Group/1"]}"#,
    ] {
        assert_eq!(written(&[["Patient.id", r#""method":"cryptoHash""#]], resource), parse_json(resource));
    }
    let observation = r#"{"resourceType":"Observation","id":"o","meta":{"profile":["http://hl7.org/fhir/StructureDefinition/bp"],"source":"https://x.org/feed"},"extension":[{"url":"http://x.org/StructureDefinition/1","valueUri":"http://x.org/CodeSystem/1"}],"code":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203"}]},"subject":{"type":"Patient"}}"#;
    assert_eq!(written(&[["Patient.id", r#""method":"cryptoHash""#]], observation), parse_json(observation));
}

// Nothing tells it from the address of a Medication, whose id would get out. Hashed alike, both still join.
#[test]
fn a_definition_under_the_name_of_a_type_that_is_none_is_hashed_alike_wherever_it_stands() {
    let url = "http://x.org/Medication/MRN-1";
    let plan = written(&[HASHED_IDS], &format!(r#"{{"resourceType":"PlanDefinition","id":"p","url":"{url}"}}"#));
    let task = written(&[HASHED_IDS], &format!(r#"{{"resourceType":"Task","id":"t","input":[{{"valueCanonical":"{url}"}}]}}"#));
    let response = written(&[HASHED_IDS], &format!(r#"{{"resourceType":"QuestionnaireResponse","id":"q","questionnaire":"{url}"}}"#));
    let hashed = format!("http://x.org/Medication/{}", hashed_id());
    for address in [&plan["url"], &task["input"][0]["valueCanonical"], &response["questionnaire"]] {
        assert_eq!(*address, hashed);
    }
    for questionnaire in ["http://x.org/Questionnaire/phq-9|2.0", "http://x.org/SubscriptionTopic/admission", "http://x.org/valueset/1"] {
        let resource = format!(r#"{{"resourceType":"QuestionnaireResponse","id":"q","questionnaire":"{questionnaire}"}}"#);
        assert_eq!(written(&[HASHED_IDS], &resource)["questionnaire"], questionnaire);
    }
}

#[test]
fn a_rule_that_shifts_or_perturbs_an_element_leaves_no_ids_in_it() {
    let id = hashed_id();
    let extensions = r#""extension":[{"url":"a","valueReference":{"reference":"Patient/MRN-1"}},{"url":"b","valueId":"MRN-1"},{"url":"c","valueUri":"Patient/MRN-1"}]"#;
    let encounter = format!(r#"{{"resourceType":"Encounter","id":"e","period":{{"start":"2020-01-02",{extensions}}}}}"#);
    let subject = r#""subject":{"reference":"Patient/MRN-1"}"#;
    let observation = format!(r#"{{"resourceType":"Observation","id":"o",{subject},"valueQuantity":{{"value":7,{extensions}}}}}"#);
    let (shift, perturb) = (r#""method":"dateShift""#, r#""method":"perturb","span":2"#);
    for (rule, resource) in [
        (["Encounter.period", shift], &encounter),
        (["Encounter.period.start | Encounter.period", shift], &encounter),
        (["Encounter", shift], &encounter),
        (["Observation.value", perturb], &observation),
        (["Observation", perturb], &observation),
    ] {
        let output = written(&[HASHED_REFERENCES, rule, HASHED_IDS], resource);
        assert!(!output.to_string().contains("MRN-1"), "{rule:?}: {output}");
        let element = if rule[0].starts_with("Encounter") { &output["period"] } else { &output["valueQuantity"] };
        assert_eq!((&element["extension"][1]["valueId"], element["extension"].as_array().map(Vec::len)), (&id.clone().into(), Some(3)));
        let alone = written(&[rule, HASHED_IDS], resource).to_string();
        assert_eq!(
            alone.contains("MRN-1"),
            rule[0] == "Observation.value",
            "{rule:?}: only the subject is outside of the element: {alone}"
        );
    }
}

#[test]
fn the_address_of_a_contained_resource_hides_its_id_and_still_resolves() {
    let id = hashed_id();
    let response = r##"{"resourceType":"QuestionnaireResponse","id":"q","contained":[{"resourceType":"Questionnaire","id":"MRN-1"}],"questionnaire":"#MRN-1"}"##;
    let response = written(&[HASHED_IDS], response);
    assert_eq!((&response["contained"][0]["id"], &response["questionnaire"]), (&id.clone().into(), &format!("#{id}").into()));
    let definition = r##"{"resourceType":"StructureDefinition","id":"s","snapshot":{"element":[{"id":"Observation.value","contentReference":"#Observation.value"}]}}"##;
    assert_eq!(written(&[HASHED_IDS], definition)["snapshot"], parse_json(definition)["snapshot"], "the name of an element");
}

#[test]
fn ids_in_transports_subscriptions_and_uuids_are_hidden() {
    let uuid = "53fefa32-fcbb-4ff8-8a92-55ee120877b7";
    let rules = DeidConfig::parse(configuration(&[HASHED_IDS], KEY).as_bytes(), FhirVersion::R5).unwrap().for_job(&job());
    for resource in [
        r#"{"resourceType":"Transport","id":"t","input":[{"valueId":"MRN-1"}],"output":[{"valueId":"MRN-1"}]}"#.to_owned(),
        r#"{"resourceType":"Subscription","id":"s","filterBy":[{"value":"Patient/MRN-1"}]}"#.to_owned(),
        format!(r#"{{"resourceType":"Task","id":"t","input":[{{"valueUuid":"urn:uuid:{uuid}"}}]}}"#),
    ] {
        let explanation = rules.explain(resource.as_bytes(), None).unwrap();
        let output = String::from_utf8(explanation.output).unwrap();
        assert!(explanation.is_exact && !output.contains("MRN-1") && !output.contains(uuid), "{output}");
    }
}

// In R5 a Composition has the elements of a definition.
#[test]
fn the_address_of_a_composition_hides_its_id_in_each_version() {
    for version in FhirVersion::ALL {
        let config = DeidConfig::parse(configuration(&[HASHED_IDS], KEY).as_bytes(), version).unwrap().for_job(&job());
        let task = r#"{"resourceType":"Task","id":"t","input":[{"valueUri":"https://x.org/r4/Composition/MRN-1"}]}"#;
        assert!(!deidentify(&config, task).unwrap().contains("MRN-1"), "{version}");
    }
}

#[test]
fn rules_of_the_file_decide_about_addresses_first() {
    let keep = written(&[["Task.input", r#""method":"keep""#], HASHED_IDS], TASK);
    assert_eq!(keep["input"][0]["valueUri"], "Patient/MRN-1");
    assert_ne!(keep["output"][0]["valueUri"], "Patient?identifier=MRN-1");
    let hashed = written(&[["nodesByType('uri')", r#""method":"cryptoHash""#], HASHED_IDS], TASK);
    assert_eq!(hashed["input"][0]["valueUri"].as_str().map(str::len), Some(64));
    assert_eq!(written(&[["Patient.name", r#""method":"redact""#]], TASK), parse_json(TASK), "no rule hides ids");
}

#[test]
fn addresses_of_every_form_hide_ids() {
    let uuid = "53fefa32-fcbb-4ff8-8a92-55ee120877b7";
    for (address, begin) in [
        ("https://x.org/r4/Patient/MRN-1/", ""),
        ("./Patient/MRN-1", ""),
        ("r4/Patient/MRN-1", ""),
        ("//x.org/Patient/MRN-1", ""),
        ("ftp://x.org/Patient/MRN-1", ""),
        ("Patient/MRN-1/$everything", ""),
        ("https://x.org/r4/Patient/MRN-1/_history", ""),
        ("https://x.org/r4/Patient/MRN-1/Observation", ""),
        ("https://x.org/r4/?_type=Patient&identifier=MRN-1", ""),
        ("?identifier=MRN-1", ""),
        ("Patient%2FMRN-1", ""),
        ("http://x.org/patient/MRN-1", ""),
        ("PATIENT/MRN-1", ""),
        ("patient?identifier=MRN-1", ""),
        ("https://x.org/library/fhir/Patient/MRN-1/$everything", ""),
        ("urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7", "urn:uuid:"),
    ] {
        let task = format!(r#"{{"resourceType":"Task","id":"t","input":[{{"valueUri":"{address}"}}]}}"#);
        let hashed = written(&[HASHED_IDS], &task)["input"][0]["valueUri"].as_str().unwrap().to_owned();
        assert!(hashed.len() == begin.len() + 64 && hashed.starts_with(begin), "{address}: {hashed}");
        let redacted = written(&[["Resource.id", r#""method":"redact""#]], &task).to_string();
        assert!(!redacted.contains("MRN-1") && !redacted.contains(uuid), "{redacted}");
    }
}

#[test]
fn references_have_no_version_if_rules_hide_versions() {
    let observation = r#"{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/MRN-1/_history/7"},"focus":[{"reference":"https://x.org/r4/Device/MRN-1/_history/7"}]}"#;
    let of = |versions: &[[&str; 2]]| written(&[&[HASHED_IDS, HASHED_REFERENCES][..], versions].concat(), observation);
    let id = hashed_id();
    for path in ["Resource.meta.versionId", "Resource.meta", "nodesByType('Meta').versionId", "nodesByType('Meta')"] {
        let output = of(&[[path, r#""method":"redact""#]]);
        assert_eq!(output["subject"]["reference"], format!("Patient/{id}"), "{path}");
        assert_eq!(output["focus"][0]["reference"], format!("https://x.org/r4/Device/{id}"), "{path}");
    }
    assert_eq!(of(&[])["subject"]["reference"], format!("Patient/{id}/_history/7"));
    let of_patients = of(&[["Patient.meta.versionId", r#""method":"redact""#]]);
    assert_eq!(of_patients["subject"]["reference"], format!("Patient/{id}"));
    assert_eq!(of_patients["focus"][0]["reference"], format!("https://x.org/r4/Device/{id}/_history/7"));
    let kept = of(&[["Resource.meta.versionId", r#""method":"keep""#], ["Resource.meta", r#""method":"redact""#]]);
    assert_eq!(kept["subject"]["reference"], format!("Patient/{id}/_history/7"));
}
