//! Configuration files that are accepted, and those that are rejected.

use super::*;

/// Returns the errors of a configuration.
fn errors(config: &str) -> Vec<String> {
    match DeidConfig::parse(config.as_bytes(), FhirVersion::R4) {
        Ok(_) => Vec::new(),
        Err(DeidConfigError(issues)) => issues.iter().map(DeidConfigIssue::to_string).collect(),
    }
}

/// Returns the remarks of parsing a valid configuration.
fn remarks(config: &str) -> Vec<String> {
    DeidConfig::parse(config.as_bytes(), FhirVersion::R4).unwrap().parsing_remarks().iter().map(DeidRemark::to_string).collect()
}

#[test]
fn every_error_of_a_file_is_reported_with_its_rule() {
    let rules = [
        ["Patient.name", r#""method":"perturb""#],
        ["Patient.name.where(memberOf('x'))", r#""method":"redact""#],
        ["Patient.birthDate", r#""method":"perturb","span":-1,"roundTo":29,"rangeType":"wide""#],
        ["Patient.gender", r#""method":"generalize","cases":{"$this ==":"1"}"#],
        ["Patient.gender", r#""method":"generalize"}"#.trim_end_matches('}')],
        ["Patient.gender", r#""method":"generalize","cases":{"$this.system = 'x'":"1"},"otherValues":"drop""#],
        ["Patient.gender", r#""method":"substitute""#],
        ["", r#""method":"redact""#],
    ];
    let found = errors(&configuration(
        &rules,
        r#""encryptKey":"short","dateShiftScope":"world","dateShiftTimeZone":"mars","unnamedElements":"burn","dateShiftFixedOffsetInDays":1.5"#,
    ));
    let expected = [
        "rule 1 (`Patient.name`): perturb needs a span",
        "rule 2 (`Patient.name.where(memberOf('x'))`): the function memberOf() is not supported",
        "rule 3 (`Patient.birthDate`): span must be a number of 0 or more",
        "rule 3 (`Patient.birthDate`): roundTo must be a whole number from 0 to 28",
        "rule 3 (`Patient.birthDate`): rangeType must be fixed or proportional",
        "rule 4 (`Patient.gender`): the condition of case 1 cannot be used",
        "rule 5 (`Patient.gender`): generalize needs cases",
        "rule 6 (`Patient.gender`): otherValues must be redact or keep",
        "rule 7 (`Patient.gender`): substitute needs a replaceWith",
        "rule 8: a rule needs a path and a method",
        "encryptKey has 5 bytes; an AES key has 16, 24 or 32",
        "dateShiftScope must be resource, patient, file or folder",
        "dateShiftTimeZone must be utc or keep",
        "dateShiftFixedOffsetInDays must be a whole number of days",
        "unnamedElements must be keep or drop",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for expected in expected {
        assert!(found.iter().any(|found| found.starts_with(expected)), "{expected}\n{found:#?}");
    }
}

#[test]
fn a_file_is_json_of_at_most_a_megabyte() {
    for (config, reason) in [
        ("", "not valid JSON"),
        ("[]", "not a JSON object"),
        (r#"{"fhirPathRules":{}}"#, "fhirPathRules must be an array"),
        (r#"{"fhirPathRules":[],"fhirPathRules":[]}"#, "occurs twice"),
        (r#"{"fhirPathRules":[],"parameters":[]}"#, "parameters must be an object"),
        (r#"{"fhirPathRules":[],"processingErrors":"ignore"}"#, "processingErrors must be raise, skip or quarantine"),
        (r#"{"fhirPathRules":[],"fhirVersion":"Stu3"}"#, "fhirVersion `Stu3` is not the version of the data, which is FHIR 4.0"),
        (&" ".repeat(1024 * 1024 + 1), "the maximum is 1048576"),
    ] {
        assert!(errors(config).iter().any(|error| error.contains(reason)), "{reason}: {:?}", errors(config));
    }
    let config = "\u{feff}{ // rules\n \"fhirPathRules\": [ {\"path\": \"Patient\", \"method\": \"keep\",}, ], /* end */ }";
    assert_eq!(errors(config), Vec::<String>::new());
}

// Null is like a missing key, list or version, but it is not a valid keyword.
#[test]
fn null_is_not_a_keyword() {
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
        assert_eq!(errors(&config).len(), 1, "{config}");
    }
    for settings in [
        r#""method":"perturb","span":1,"rangeType":null"#,
        r#""method":"perturb","span":1,"roundTo":null"#,
        r#""method":"perturb","span":null"#,
        r#""method":"generalize","cases":{},"otherValues":null"#,
        r#""method":null"#,
    ] {
        assert_eq!(errors(&configuration(&[["Patient.birthDate", settings]], "")).len(), 1, "{settings}");
    }
    let unset = r#""dateShiftKey":null,"encryptKey":null,"dateShiftFixedOffsetInDays":null,"restrictedZipCodeTabulationAreas":null"#;
    assert_eq!(errors(&configuration(&[], unset)), Vec::<String>::new());
    assert_eq!(errors(r#"{"fhirVersion":null,"fhirPathRules":[],"parameters":null}"#), Vec::<String>::new());
}

#[test]
fn restricted_areas_can_be_numbers() {
    let config = configuration(
        &[["Patient.address", r#""method":"redact""#]],
        r#""enablePartialZipCodesForRedact":true,"restrictedZipCodeTabulationAreas":[203]"#,
    );
    let output = deidentify(&deidentifier(&config), r#"{"resourceType":"Patient","address":[{"postalCode":"20301"}]}"#).unwrap();
    assert!(output.contains(r#""postalCode":"00000""#), "{output}");
}

#[test]
fn restricted_areas_that_no_zip_code_begins_with_are_errors() {
    let found = |areas: &str| {
        let parameters = format!(r#""enablePartialZipCodesForRedact":true,"restrictedZipCodeTabulationAreas":{areas}"#);
        remarks(&configuration(&[["Patient.address", r#""method":"redact""#]], &parameters))
    };
    for areas in [r#"["36"]"#, "[36]", r#"["O36"]"#, r#"["036 "]"#, r#"["036","0360"]"#] {
        let found = found(areas);
        assert!(matches!(&found[..], [found] if found.starts_with("error [setting] ")), "{areas}: {found:?}");
    }
    assert_eq!(found(r#"["036",203]"#), Vec::<String>::new());
}

#[test]
fn members_and_rules_without_effect_cause_warnings() {
    let config = r#"{"processingError":"skip","fhirPathRules":[{"path":"Persona.name","method":"redact"},{"path":"Patient.name","method":"hash"},
        {"path":"Patient.id","method":"cryptoHash","key":"x"}],"parameters":{"dateShiftScope":"file","dateshiftkey":"k"}}"#;
    let found = remarks(config);
    for expected in [
        "error [unknown-setting] the member `processingError` of the file is unknown and ignored; did you mean `processingErrors`?",
        "error [selects-nothing] rule 1 (`Persona.name`): FHIR 4.0",
        "error [unknown-method] rule 2 (`Patient.name`): the method `hash` does not exist",
        "warning [unknown-setting] rule 3 (`Patient.id`): cryptoHash has no setting `key`; it is ignored",
        "warning [setting] an export has no input files or folders",
    ] {
        assert!(found.iter().any(|found| found.starts_with(expected)), "{expected}\n{found:#?}");
    }
}

#[test]
fn keys_that_rules_use_and_the_file_leaves_empty_are_derived() {
    let wants = |rules: &[[&str; 2]], parameters: &str| {
        DeidConfig::parse(configuration(rules, parameters).as_bytes(), FhirVersion::R4).unwrap().derived_key_names()
    };
    let all = [
        ["Patient.id", r#""method":"cryptoHash""#],
        ["Patient.birthDate", r#""method":"dateShift""#],
        ["Patient.name", r#""method":"encrypt""#],
    ];
    assert_eq!(wants(&all, ""), ["cryptoHashKey", "dateShiftKey", "encryptKey"]);
    assert_eq!(wants(&all, r#""encryptKey":"0123456789abcdef""#), ["cryptoHashKey"], "the shift follows from the key that is given");
    assert_eq!(wants(&all[..2], r#""encryptKey":"0123456789abcdef""#), ["cryptoHashKey", "dateShiftKey"], "no rule uses the key");
    assert_eq!(wants(&all[..2], r#""dateShiftFixedOffsetInDays":3"#), ["cryptoHashKey"]);
    assert_eq!(wants(&[["Patient", r#""method":"redact""#]], ""), Vec::<&str>::new());
}

#[test]
fn keys_are_not_formatted_for_debugging() {
    let rules = [["Patient.id", r#""method":"cryptoHash""#]];
    let read =
        DeidConfig::parse(configuration(&rules, r#""cryptoHashKey":"secret","encryptKey":"secretsecretsecr""#).as_bytes(), FhirVersion::R4)
            .unwrap();
    assert!(!format!("{read:?}").contains("secret"));
    let shown = format!("{:?}", read.for_job(&job()));
    assert!(!shown.contains("secret") && !shown.contains("115, 101, 99"), "{shown}");
}

#[test]
fn a_choice_with_its_suffix_is_rejected() {
    let found = errors(&configuration(&[["Observation.value[x]", r#""method":"redact""#]], ""));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("rule 1 (`Observation.value[x]`): name a choice without [x]"), "{found:?}");
}
