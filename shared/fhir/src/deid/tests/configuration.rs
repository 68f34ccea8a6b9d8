//! What is read of a file, and what is refused.

use super::*;

fn faults(config: &str) -> Vec<String> {
    match Deidentification::read(config.as_bytes(), FhirVersion::R4) {
        Ok(_) => Vec::new(),
        Err(DeidErrors(faults)) => faults.iter().map(DeidFault::to_string).collect(),
    }
}

fn warnings(config: &str) -> Vec<String> {
    Deidentification::read(config.as_bytes(), FhirVersion::R4).unwrap().warnings().iter().map(DeidFault::to_string).collect()
}

#[test]
fn every_fault_of_a_file_is_told_with_its_rule() {
    let rules = [
        ["Patient.name", r#""method":"perturb""#],
        ["Patient.name.trace('x')", r#""method":"redact""#],
        ["Patient.birthDate", r#""method":"perturb","span":-1,"roundTo":29,"rangeType":"wide""#],
        ["Patient.gender", r#""method":"generalize","cases":{"$this ==":"1"}"#],
        ["Patient.gender", r#""method":"generalize"}"#.trim_end_matches('}')],
        ["Patient.gender", r#""method":"generalize","cases":{"$this.system = 'x'":"1"},"otherValues":"drop""#],
        ["Patient.gender", r#""method":"substitute""#],
        ["", r#""method":"redact""#],
    ];
    let found = faults(&configuration(
        &rules,
        r#""encryptKey":"short","dateShiftScope":"world","unnamedElements":"burn","dateShiftFixedOffsetInDays":1.5"#,
    ));
    let expected = [
        "rule 1 (`Patient.name`): perturb needs a span",
        "rule 2 (`Patient.name.trace('x')`): the function trace() is not supported",
        "rule 3 (`Patient.birthDate`): span is no number of 0 or more",
        "rule 3 (`Patient.birthDate`): roundTo is no whole number from 0 to 28",
        "rule 3 (`Patient.birthDate`): rangeType is neither fixed nor proportional",
        "rule 4 (`Patient.gender`): the condition of case 1 cannot be used",
        "rule 5 (`Patient.gender`): generalize needs cases",
        "rule 6 (`Patient.gender`): the condition of case 1 follows a path",
        "rule 6 (`Patient.gender`): otherValues is neither redact nor keep",
        "rule 7 (`Patient.gender`): substitute needs a replaceWith",
        "rule 8: a rule needs a path and a method",
        "encryptKey has 5 bytes; AES takes 16, 24 or 32",
        "dateShiftScope is none of resource, patient, file and folder",
        "dateShiftFixedOffsetInDays is no whole number of days",
        "unnamedElements is neither keep nor drop",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for wanted in expected {
        assert!(found.iter().any(|found| found.starts_with(wanted)), "{wanted}\n{found:#?}");
    }
}

#[test]
fn a_file_is_json_of_at_most_a_megabyte() {
    for (config, reason) in [
        ("", "not valid JSON"),
        ("[]", "no JSON object"),
        (r#"{"fhirPathRules":{}}"#, "fhirPathRules is missing"),
        (r#"{"fhirPathRules":[],"fhirPathRules":[]}"#, "stands twice"),
        (r#"{"fhirPathRules":[],"parameters":[]}"#, "parameters is no object"),
        (r#"{"fhirPathRules":[],"processingErrors":"ignore"}"#, "processingErrors is none of"),
        (r#"{"fhirPathRules":[],"fhirVersion":"Stu3"}"#, "fhirVersion `Stu3` is not that of the data, which is FHIR 4.0"),
        (&" ".repeat(1024 * 1024 + 1), "at most 1048576 are read"),
    ] {
        assert!(faults(config).iter().any(|fault| fault.contains(reason)), "{reason}: {:?}", faults(config));
    }
    let config = "\u{feff}{ // rules\n \"fhirPathRules\": [ {\"path\": \"Patient\", \"method\": \"keep\",}, ], /* end */ }";
    assert_eq!(faults(config), Vec::<String>::new());
}

/// `null` stands for a key, a list or a version that is not given, and is none of a few words.
#[test]
fn null_is_no_word() {
    for (members, parameters) in [
        (r#""processingErrors":null"#, ""),
        (r#""processingErrors":"""#, ""),
        ("", r#""dateShiftScope":null"#),
        ("", r#""dateShiftScope":"""#),
        ("", r#""enablePartialDatesForRedact":null"#),
        ("", r#""unnamedElements":null"#),
    ] {
        let comma = if members.is_empty() { "" } else { "," };
        let config = format!(r#"{{{members}{comma}"fhirPathRules":[],"parameters":{{{parameters}}}}}"#);
        assert_eq!(faults(&config).len(), 1, "{config}");
    }
    for settings in [
        r#""method":"perturb","span":1,"rangeType":null"#,
        r#""method":"perturb","span":1,"roundTo":null"#,
        r#""method":"perturb","span":null"#,
        r#""method":"generalize","cases":{},"otherValues":null"#,
        r#""method":null"#,
    ] {
        assert_eq!(faults(&configuration(&[["Patient.birthDate", settings]], "")).len(), 1, "{settings}");
    }
    let unset = r#""dateShiftKey":null,"encryptKey":null,"dateShiftFixedOffsetInDays":null,"restrictedZipCodeTabulationAreas":null"#;
    assert_eq!(faults(&configuration(&[], unset)), Vec::<String>::new());
    assert_eq!(faults(r#"{"fhirVersion":null,"fhirPathRules":[],"parameters":null}"#), Vec::<String>::new());
}

#[test]
fn restricted_areas_may_be_numbers() {
    let config = configuration(
        &[["Patient.address", r#""method":"redact""#]],
        r#""enablePartialZipCodesForRedact":true,"restrictedZipCodeTabulationAreas":[203]"#,
    );
    let left = apply(&ready(&config), r#"{"resourceType":"Patient","address":[{"postalCode":"20301"}]}"#).unwrap();
    assert!(left.contains(r#""postalCode":"00000""#), "{left}");
}

#[test]
fn what_does_nothing_is_warned_of() {
    let config = r#"{"processingError":"skip","fhirPathRules":[{"path":"Persona.name","method":"redact"},{"path":"Patient.name","method":"hash"},
        {"path":"Patient.id","method":"cryptoHash","key":"x"}],"parameters":{"dateShiftScope":"file","dateshiftkey":"k"}}"#;
    let found = warnings(config);
    for wanted in [
        "the member `processingError` of the file is not known and does nothing; `processingErrors` is read",
        "rule 1 (`Persona.name`): FHIR 4.0",
        "rule 2 (`Patient.name`): there is no method `hash`",
        "rule 3 (`Patient.id`): the setting `key` is not one of cryptoHash and does nothing",
        "an export knows neither files nor folders",
    ] {
        assert!(found.iter().any(|found| found.starts_with(wanted)), "{wanted}\n{found:#?}");
    }
}

#[test]
fn a_job_brings_the_keys_that_rules_use_and_the_file_has_not() {
    let wants = |rules: &[[&str; 2]], parameters: &str| {
        Deidentification::read(configuration(rules, parameters).as_bytes(), FhirVersion::R4).unwrap().wants()
    };
    let all = [
        ["Patient.id", r#""method":"cryptoHash""#],
        ["Patient.birthDate", r#""method":"dateShift""#],
        ["Patient.name", r#""method":"encrypt""#],
    ];
    assert_eq!(wants(&all, ""), ["cryptoHashKey", "dateShiftKey", "encryptKey"]);
    assert_eq!(wants(&all, r#""cryptoHashKey":"x","encryptKey":"0123456789abcdef""#), ["dateShiftKey"]);
    assert_eq!(wants(&all[..2], r#""dateShiftFixedOffsetInDays":3"#), ["cryptoHashKey"]);
    assert_eq!(wants(&[["Patient", r#""method":"redact""#]], ""), Vec::<&str>::new());
}

#[test]
fn keys_are_not_shown() {
    let rules = [["Patient.id", r#""method":"cryptoHash""#]];
    let read = Deidentification::read(
        configuration(&rules, r#""cryptoHashKey":"secret","encryptKey":"secretsecretsecr""#).as_bytes(),
        FhirVersion::R4,
    )
    .unwrap();
    assert!(!format!("{read:?}").contains("secret"));
    let shown = format!("{:?}", read.with(&terms()));
    assert!(!shown.contains("secret") && !shown.contains("115, 101, 99"), "{shown}");
}

#[test]
fn a_choice_as_its_definition_spells_it_is_told_before_it_selects_nothing() {
    let told = faults(&configuration(&[["Observation.value[x]", r#""method":"redact""#]], ""));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("rule 1 (`Observation.value[x]`): a choice is named without [x]"), "{told:?}");
}
