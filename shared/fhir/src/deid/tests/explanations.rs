//! Explanations of single resources: they belong to the output of an export, however the resource is formatted.

use super::*;

/// Returns the explanation of a resource by a configuration for each kind of treatment.
fn explain(line: &str) -> DeidExplanation {
    let rules = [
        ["Resource.id", r#""method":"cryptoHash""#],
        ["Patient.name.family", r#""method":"redact""#],
        ["Patient.birthDate", r#""method":"dateShift""#],
    ];
    deidentifier(&configuration(&rules, "")).explain(line.as_bytes(), None).unwrap()
}

#[test]
fn an_explanation_is_exact_however_the_resource_is_formatted() {
    for line in [
        r#"{"resourceType": "Patient", "id": "p", "name": [{"family": "Mill", "given": ["A"]}], "birthDate": "2001-02-03"}"#,
        r#"{"id":"p","birthDate":"2001-02-03","active":true,"resourceType":"Patient"}"#,
        r#"{"resourceType":"Patient","id":"p","name":[{"given":["\u00e9\/"],"use":"usual"}],"gender":"m\u0061le"}"#,
        r#"{ "meta" : {"security" : [ {"code" : "x"} ]} , "resourceType" : "Patient" , "id" : "p" , "multipleBirthInteger" : 2 }"#,
        r#"{"resourceType":"Patient","id":"p","extension":[{"url":"u","valueDecimal":1.50},{"url": "v", "valueDecimal": 1E2}]}"#,
        "{\n\t\"resourceType\": \"Patient\",\r\n\t\"id\": \"p\"\n}",
        r#"{"n\u0061me":[{"family":"Mill"}],"id":"p","resourceType":"Patient"}"#,
    ] {
        assert!(explain(line).is_exact, "{line}");
    }
}

#[test]
fn values_that_no_rule_selects_keep_their_bytes_in_both_engines() {
    let values = [r#""\u00e9\/ x""#, "1.50", "1E2"];
    let members = format!(
        r#""text": {{"id":{}}}, "extension": [{{"url": "u", "valueDecimal": {}}}, {{"url":"v","valueDecimal":{}}}]"#,
        values[0], values[1], values[2]
    );
    // An escape in a name is left to the tree engine.
    for id in [r#""id":"p""#, r#""i\u0064":"p""#] {
        let output = String::from_utf8(explain(&format!(r#"{{"resourceType":"Patient",{id},{members}}}"#)).output).unwrap();
        assert!(values.iter().all(|value| output.contains(value)), "{output}");
    }
}

#[test]
fn an_output_that_says_something_else_is_not_explained() {
    let explained = br#"{"resourceType":"Patient","active":true,"name":[{"use":"usual"}]}"#;
    let is_exact = |output: &str| DeidExplanation::new(StepRecorder::default(), output.as_bytes().to_vec(), explained).is_exact;
    assert!(is_exact(r#"{"name": [{"use": "usu\u0061l"}], "active": true, "resourceType": "Patient"}"#));
    assert!(!is_exact(r#"{"resourceType":"Patient","active":true,"name":[{"use":"usual","family":"Mill"}]}"#));
    assert!(!is_exact(r#"{"resourceType":"Patient","active":true}"#));
    assert!(!is_exact(r#"{"resourceType":"Patient","active":false,"name":[{"use":"usual"}]}"#));
}
