//! Checks of a configuration without data, and explanations of a resource.

use super::*;

/// Parses a configuration.
fn parse(rules: &[[&str; 2]], parameters: &str) -> DeidConfig {
    DeidConfig::parse(configuration(rules, parameters).as_bytes(), FhirVersion::R4).unwrap()
}

/// Returns the issues of rules.
fn lint(rules: &[[&str; 2]]) -> Vec<String> {
    parse(rules, "").lint().iter().map(DeidRemark::to_string).collect()
}

const REDACT: &str = r#""method":"redact""#;
const KEEP: &str = r#""method":"keep""#;

#[test]
fn rules_that_select_nothing_are_reported_with_a_suggestion() {
    for (path, reason) in [
        (
            "HealthcareService.notAvaliable.description",
            "there is no element `notAvaliable` at this point of the path; did you mean `notAvailable`?",
        ),
        ("Observation.valueQuantity", "name a choice without its type: `value`"),
        ("nodesByType('HumanNames')", "no element has the type `HumanNames`; did you mean `HumanName`?"),
        ("nodesByName('familly')", "no element has the name `familly`; did you mean `family`?"),
        ("Observation.value as Age", "no element has the type `Age`"),
        ("Patient.contact.Gender", "no element has the type `Gender`; did you mean `gender`?"),
        ("Patient.name.where(use = 'usual').xyzzy", "there is no element `xyzzy` at this point of the path"),
    ] {
        let found = lint(&[[path, REDACT]]);
        assert!(matches!(&found[..], [found] if found.contains(reason)), "{path}: {found:?}");
    }
}

#[test]
fn rules_for_extensions_only_are_reported_if_rules_skip_extensions() {
    let rules = [["Patient.extension.value", REDACT], ["Patient.extension", REDACT]];
    let found = parse(&rules, r#""rulesInExtensions":false"#).lint();
    let expected = "error [selects-nothing] rule 1 (`Patient.extension.value`): the rule selects only elements in extensions, and rulesInExtensions is false; remove the rule or the setting";
    assert_eq!(found.iter().map(DeidRemark::to_string).collect::<Vec<_>>(), [expected]);
}

#[test]
fn rules_that_earlier_rules_leave_without_effect_are_reported() {
    let late = "error [no-effect] rule 2 (`Patient.name.use`): the rule has no effect: earlier rules apply to every element that it selects; move the rule before the rules that select the same elements";
    assert_eq!(lint(&[["Patient.name", REDACT], ["Patient.name.use", KEEP]]), [late]);
    assert_eq!(lint(&[["nodesByType('HumanName')", REDACT], ["Patient.name.use", KEEP]]), [late]);
    assert_eq!(lint(&[["Patient.name.use", KEEP], ["Patient.name", REDACT]]), Vec::<String>::new());
    // A rule with a condition applies to an element only in some resources.
    assert_eq!(lint(&[["Patient.name.where(use = 'usual')", REDACT], ["Patient.name", KEEP]]), Vec::<String>::new());
    assert_eq!(lint(&[["Patient.name", KEEP], ["Patient.name.where(use = 'usual')", REDACT]]).len(), 1);
}

#[test]
fn references_that_reveal_hashed_ids_are_reported() {
    let hash = r#""method":"cryptoHash""#;
    let found = lint(&[["Resource.id", hash]]);
    assert!(matches!(&found[..], [found] if found.contains("still reveal them")), "{found:?}");
    let found = lint(&[["Patient.link", KEEP], ["Resource.id", hash], ["nodesByType('Reference').reference", hash]]);
    assert!(
        matches!(&found[..], [found] if found.starts_with("error [revealing-references] rule 1 (`Patient.link`): the rule keeps references in Patient")),
        "{found:?}"
    );
    assert_eq!(lint(&[["Resource.id", hash], ["nodesByType('Reference').reference", hash]]), Vec::<String>::new());
}

#[test]
fn elements_that_no_rule_applies_to_are_listed() {
    let patient = ResourceType::PATIENT;
    let untouched = |rules: &[[&str; 2]], parameters: &str| -> Vec<(String, &str)> {
        parse(rules, parameters).untouched_elements(patient).into_iter().map(|element| (element.path, element.type_name)).collect()
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
fn each_step_is_explained_with_the_values_before_and_after() {
    let rules = [
        ["Patient.name.use", KEEP],
        ["Patient.name", REDACT],
        ["Patient.birthDate", REDACT],
        ["Patient.photo", r#""method":"substitute","replaceWith":{"title":"t"}"#],
    ];
    let deidentifier = parse(&rules, r#""enablePartialDatesForRedact":true"#).for_job(&job());
    let resource = br#"{"resourceType":"Patient","name":[{"use":"usual","family":"A"}],"birthDate":"2001-02-03","photo":[{"url":"u"}]}"#;
    let explanation = deidentifier.explain(resource, None).unwrap();
    let steps: Vec<_> = explanation
        .steps
        .iter()
        .map(|step| (step.rule_number, step.element_path.as_str(), step.before.as_deref(), step.after.as_deref()))
        .collect();
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
    deidentifier.deidentify(resource, None, &mut applied).unwrap();
    assert_eq!(parse_json(std::str::from_utf8(&explanation.output).unwrap()), parse_json(std::str::from_utf8(&applied).unwrap()));
}
