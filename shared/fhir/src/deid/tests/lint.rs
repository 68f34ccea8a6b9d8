//! What is said of a configuration before it meets data, and what is told of its work.

use super::*;

fn read(rules: &[[&str; 2]], parameters: &str) -> Deidentification {
    Deidentification::read(configuration(rules, parameters).as_bytes(), FhirVersion::R4).unwrap()
}

fn lint(rules: &[[&str; 2]]) -> Vec<String> {
    read(rules, "").lint().iter().map(DeidFault::to_string).collect()
}

const REDACT: &str = r#""method":"redact""#;
const KEEP: &str = r#""method":"keep""#;

#[test]
fn rules_that_select_nothing_are_told_with_what_was_meant() {
    for (path, reason) in [
        (
            "HealthcareService.notAvaliable.description",
            "there is no element `notAvaliable` where the path looks for it; did you mean `notAvailable`?",
        ),
        ("Observation.valueQuantity", "a choice is named without its type: `value`"),
        ("nodesByType('HumanNames')", "nothing there is of the type `HumanNames`; did you mean `HumanName`?"),
        ("nodesByName('familly')", "no element there is named `familly`; did you mean `family`?"),
        ("Observation.value as Age", "nothing there is of the type `Age`"),
        ("Patient.contact.Gender", "nothing there is of the type `Gender`; did you mean `gender`?"),
        ("Patient.name.where(use = 'usual').xyzzy", "there is no element `xyzzy` where the path looks for it"),
    ] {
        let found = lint(&[[path, REDACT]]);
        assert!(matches!(&found[..], [found] if found.contains(reason)), "{path}: {found:?}");
    }
}

#[test]
fn rules_for_extensions_only_are_told_where_extensions_are_left_alone() {
    let rules = [["Patient.extension.value", REDACT], ["Patient.extension", REDACT]];
    let found = read(&rules, r#""rulesInExtensions":false"#).lint();
    let expected = "rule 1 (`Patient.extension.value`): what it selects lies in extensions, and rulesInExtensions is false";
    assert_eq!(found.iter().map(DeidFault::to_string).collect::<Vec<_>>(), [expected]);
}

#[test]
fn rules_that_come_too_late_are_told() {
    let late = "rule 2 (`Patient.name.use`): earlier rules touch all that it selects; it does nothing";
    assert_eq!(lint(&[["Patient.name", REDACT], ["Patient.name.use", KEEP]]), [late]);
    assert_eq!(lint(&[["nodesByType('HumanName')", REDACT], ["Patient.name.use", KEEP]]), [late]);
    assert_eq!(lint(&[["Patient.name.use", KEEP], ["Patient.name", REDACT]]), Vec::<String>::new());
    // Of a condition nobody knows whether it holds.
    assert_eq!(lint(&[["Patient.name.where(use = 'usual')", REDACT], ["Patient.name", KEEP]]), Vec::<String>::new());
    assert_eq!(lint(&[["Patient.name", KEEP], ["Patient.name.where(use = 'usual')", REDACT]]).len(), 1);
}

#[test]
fn references_that_show_hashed_ids_are_told() {
    let hash = r#""method":"cryptoHash""#;
    let found = lint(&[["Resource.id", hash]]);
    assert!(matches!(&found[..], [found] if found.contains("still show them")), "{found:?}");
    let found = lint(&[["Patient.link", KEEP], ["Resource.id", hash], ["nodesByType('Reference').reference", hash]]);
    assert!(matches!(&found[..], [found] if found.starts_with("rule 1 (`Patient.link`): it keeps references in Patient")), "{found:?}");
    assert_eq!(lint(&[["Resource.id", hash], ["nodesByType('Reference').reference", hash]]), Vec::<String>::new());
}

#[test]
fn elements_that_no_rule_touches_are_told() {
    let kind = ResourceType::named("Patient").unwrap();
    let untouched = |rules: &[[&str; 2]], parameters: &str| -> Vec<(String, &str)> {
        read(rules, parameters).untouched(kind).into_iter().map(|element| (element.path, element.type_name)).collect()
    };
    let found = untouched(
        &[["nodesByType('HumanName').family", REDACT], ["Patient.birthDate", REDACT], ["Patient.deceased as dateTime", REDACT]],
        "",
    );
    let has = |path: &str, type_name: &str| found.contains(&(path.to_owned(), type_name));
    assert!(
        has("Patient.maritalStatus", "CodeableConcept") && has("Patient.name.given", "string") && has("Patient.contact.gender", "code"),
        "{found:?}"
    );
    assert!(has("Patient.deceasedBoolean", "boolean") && has("Patient.multipleBirth", "boolean"), "{found:?}");
    for path in
        ["Patient.birthDate", "Patient.name", "Patient.name.family", "Patient.deceasedDateTime", "Patient.contact", "Patient.contained"]
    {
        assert!(found.iter().all(|(found, _)| found != path), "{path}");
    }
    assert_eq!(untouched(&[["Patient", KEEP]], ""), []);
    assert_eq!(untouched(&[], r#""unnamedElements":"drop""#), []);
}

#[test]
fn each_step_is_told_with_what_was_there_and_what_is() {
    let rules = [
        ["Patient.name.use", KEEP],
        ["Patient.name", REDACT],
        ["Patient.birthDate", REDACT],
        ["Patient.photo", r#""method":"substitute","replaceWith":{"title":"t"}"#],
    ];
    let deidentifier = read(&rules, r#""enablePartialDatesForRedact":true"#).with(&terms());
    let resource = br#"{"resourceType":"Patient","name":[{"use":"usual","family":"A"}],"birthDate":"2001-02-03","photo":[{"url":"u"}]}"#;
    let told = deidentifier.explain(resource, None).unwrap();
    let steps: Vec<_> =
        told.steps.iter().map(|step| (step.rule, step.place.as_str(), step.before.as_deref(), step.after.as_deref())).collect();
    assert_eq!(
        steps,
        [
            (1, "Patient.name[0].use", Some(r#""usual""#), Some(r#""usual""#)),
            (2, "Patient.name[0].family", Some(r#""A""#), None),
            (3, "Patient.birthDate", Some(r#""2001-02-03""#), Some(r#""2001""#)),
            (4, "Patient.photo[0]", Some(r#"{"url":"u"}"#), Some(r#"{"title":"t"}"#)),
        ]
    );
    let mut applied = Vec::new();
    deidentifier.apply(resource, None, &mut applied).unwrap();
    assert_eq!(parsed(std::str::from_utf8(&told.after).unwrap()), parsed(std::str::from_utf8(&applied).unwrap()));
}
