//! Conditions of rules: the FHIRPath of Microsoft's tool, whose engine is the one of Firely's SDK.

use super::*;

/// Returns the paths of the values that a rule removes from a resource.
fn removed(path: &str, resource: &str) -> Vec<String> {
    let deidentifier = deidentifier(&configuration(&[[path, r#""method":"redact""#]], ""));
    let explanation = deidentifier.explain(resource.as_bytes(), None).unwrap_or_else(|failure| panic!("{path}: {failure}"));
    explanation.steps.into_iter().filter(|step| step.after.is_none()).map(|step| step.element_path).collect()
}

/// Returns a Patient with these members.
fn patient(members: &str) -> String {
    format!(r#"{{"resourceType":"Patient","id":"p",{members}}}"#)
}

/// Returns an Observation with these members.
fn observation(members: &str) -> String {
    format!(r#"{{"resourceType":"Observation","id":"o",{members}}}"#)
}

/// Returns true if a condition is true for a resource: a rule with it selects the id.
fn holds(condition: &str, resource: &str) -> bool {
    !removed(&format!("Resource.where({condition}).id"), resource).is_empty()
}

#[test]
fn the_left_operand_can_decide_alone() {
    let text = observation(r#""valueString":"x""#);
    for condition in
        ["value is integer and value < 5", "(value is string or value < 5).not()", "(value is integer implies value < 5).not()"]
    {
        assert!(!holds(condition, &text), "{condition}");
    }
    assert!(holds("value is string or value < 5", &text));
    assert!(holds("value is integer implies value < 5", &text));
    assert!(holds("value is integer and value < 5", &observation(r#""valueInteger":3"#)));
    // The right operand is evaluated if the left one does not decide.
    let failing = deidentifier(&configuration(&[["Observation.where(value < 5 and value is integer).id", r#""method":"redact""#]], ""));
    assert!(failing.explain(text.as_bytes(), None).is_err());
    // A missing left operand does not decide, except for xor.
    assert!(holds("active or name.exists()", &patient(r#""name":[{"family":"A"}]"#)));
    assert!(!holds("(active and name.exists()).exists()", &patient(r#""name":[{"family":"A"}]"#)));
    assert!(holds("(active xor name.given < 5).empty()", &patient(r#""name":[{"given":["A"]}]"#)));
}

#[test]
fn a_missing_item_is_not_in_a_collection() {
    let names = patient(r#""name":[{"family":"A"},{"use":"usual","family":"B"},{"use":"old","family":"C"}]"#);
    let path = "Patient.name.where((use in ('official'|'usual')).not()).family";
    assert_eq!(removed(path, &names), ["Patient.name[0].family", "Patient.name[2].family"]);
    assert!(holds("(name.given contains {}).not()", &names));
}

#[test]
fn items_are_distinct_by_value_except_where_a_rule_selects_elements() {
    let equal = patient(r#""gender":"male","name":[{"given":["A","A"]}]"#);
    for condition in [
        "name.given.distinct().count() = 1",
        "(name.given | name.given).count() = 1",
        "name.given.union(name.given).count() = 1",
        "name.given.isDistinct().not()",
        "name.given.combine(name.given).count() = 4",
        "name.given.intersect('A').count() = 1",
        "name.given.exclude('B').count() = 2",
        "name.given.subsetOf('A' | 'B')",
        "('A').supersetOf(name.given)",
        "(1 | 1.0).count() = 2",
        "(1.0 | 1.00).count() = 1",
        "1 in (1.0)",
    ] {
        assert!(holds(condition, &equal), "{condition}");
    }
    assert!(holds("name.given.combine(name.given).count() = 2", &patient(r#""name":[{"given":["A"]}]"#)));
    assert_eq!(removed("Patient.where(name.given.distinct().count()=1).gender", &equal), ["Patient.gender"]);
    // Both elements are removed, although they are equal.
    for path in ["Patient.name.given | Patient.name.given", "Patient.name.given.distinct()", "Patient.name.given.intersect('A')"] {
        assert_eq!(removed(path, &equal), ["Patient.name[0].given[0]", "Patient.name[0].given[1]"], "{path}");
    }
    // A position counts distinct values.
    assert_eq!(removed("Patient.name.given.distinct()[1]", &equal), Vec::<String>::new());
}

#[test]
fn equivalence_ignores_order_case_diacritics_and_digits_that_one_side_does_not_have() {
    let jo = patient(r#""name":[{"given":["Jo","Al"],"family":"Müller"}],"maritalStatus":{"text":"Old  Lace"}"#);
    for (condition, expected) in [
        ("name.given ~ ('Al'|'Jo')", true),
        ("name.given ~ ('Al'|'Jo'|'X')", false),
        ("name.given ~ 'Al'", false),
        ("name.family ~ 'muller'", true),
        ("name.family ~ 'MÜLLER'", true),
        ("name.family !~ 'muller'", false),
        ("name.family = 'muller'", false),
        ("'straße' ~ 'STRASSE'", true),
        ("maritalStatus.text ~ 'old\t\tlace'", true),
        ("{} ~ {}", true),
        ("{} ~ 1", false),
        ("5.49 ~ 5.5", true),
        ("5.44 ~ 5.5", false),
        ("5 ~ 5.4", true),
        ("5 = 5.0", true),
        ("1.000000001 = 1.000000002", true),
        ("'1' = 1", false),
        ("@2001-02-03 ~ @2001", false),
    ] {
        assert_eq!(holds(condition, &jo), expected, "{condition}");
    }
    let measured = observation(r#""valueQuantity":{"value":5.49,"code":"mg"},"component":[{"valueQuantity":{"value":1,"code":"g"}}]"#);
    for (condition, expected) in [
        ("value ~ 5.5 'mg'", true),
        ("value.value ~ 5.5", true),
        ("value > 5 'mg'", true),
        ("value > 0.005 'g'", true),
        ("value > 5", false),
        ("value > 5 'mL'", false),
        ("value < component.value", true),
        ("component.value = 1000 'mg'", true),
        ("value + 1 'mg' > 6 'mg'", true),
    ] {
        // Quantities are compared with all their digits, also by `~`.
        let expected = expected && condition != "value ~ 5.5 'mg'";
        assert_eq!(holds(condition, &measured), expected, "{condition}");
    }
}

#[test]
fn all_is_unknown_if_an_unknown_condition_comes_before_a_false_one() {
    let names = patient(r#""name":[{"use":"official","family":"A"},{"family":"B"}]"#);
    let rules = [["Patient.where(name.all(use='official').not()).name", r#""method":"keep""#], ["Patient.name", r#""method":"redact""#]];
    let output = deidentify(&deidentifier(&configuration(&rules, "")), &names).unwrap();
    assert!(!output.contains("official") && !output.contains("\"B\""), "{output}");
    assert!(holds("name.all(use='official').empty()", &names));
    assert!(holds("name.all(use='old') = false", &names));
    assert!(holds("name.all(family.exists())", &names));
    assert!(holds("contact.all(name.exists())", &names), "of nothing, all is true");
}

#[test]
fn dates_move_by_amounts_of_time() {
    // Today is 2026-11-21, noon.
    for (birth_date, condition, expected) in [
        ("1930-01-01", "birthDate < today() - 89 years", true),
        ("1937-11-21", "birthDate < today() - 89 years", false),
        ("1937-11-20", "birthDate < today() - 89 years", true),
        ("1937", "birthDate < today() - 89 years", false),
        ("1936", "birthDate < today() - 89 years", true),
        ("2026-11-20", "birthDate + 1 day = today()", true),
        ("2026-11-20", "birthDate < now()", true),
        ("2026-10-21", "birthDate + 1 month = today()", true),
        ("2026-11-07", "birthDate >= today() - 2 weeks", true),
        ("2026-11-07", "now() > @2026-11-21T11:00:00Z and now() = @2026-11-21T13:00:00+01:00", true),
        ("2026-11-07", "timeOfDay() = @T12:00:00", true),
        ("2026-11-07", "today().toString() = '2026-11-21'", true),
        ("2026-11-07", "birthDate.toString().matches('^2026')", true),
        ("2001-01-01Z", "birthDate = @2001-01-01", true),
    ] {
        assert_eq!(holds(condition, &patient(&format!(r#""birthDate":"{birth_date}""#))), expected, "{birth_date} {condition}");
    }
}

#[test]
fn functions_of_booleans_repetition_and_totals_are_evaluated() {
    let patient = patient(
        r#""active":true,"name":[{"family":"A","given":["x","yy"]}],"telecom":[{"rank":2},{"rank":3}],"birthDate":"2001-02-03",
        "_birthDate":{"extension":[{"url":"http://a","valueCode":"c"}]},"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/x"}]"#,
    );
    for condition in [
        "name.select(family.exists()).allTrue()",
        "name.given.select($this = 'x').anyTrue()",
        "name.given.select($this = 'x').allTrue().not()",
        "name.given.select($this = 'x').anyFalse()",
        "name.given.select($this = 'z').allFalse()",
        "({}).allTrue()",
        "telecom.rank.aggregate($this + $total, 0) = 5",
        "repeat(children()).count() = descendants().distinct().count()",
        "(1).repeat(iif($this < 5, $this + 1, {})).count() = 4",
        "birthDate.extension('http://a').value = 'c'",
        "birthDate.extension.exists() and birthDate.trace('x').exists()",
        "extension(%`ext-x`).exists()",
        "extension.where(url = %'ext-x').exists()",
        "name.family.where(%resource.active).exists()",
        "name.family.where(%context.name.given contains 'x' and %rootResource.active).exists()",
        "name.given.join(',') = 'x,yy'",
        "'a-b'.split('-').count() = 2",
        "name.given.any($this.length() = 2)",
        "'ab'.toChars().last() = 'b'",
        "'5'.convertsToInteger() and 'x'.convertsToInteger().not() and '5 \\'mg\\''.toQuantity() = 5 'mg'",
        "(2).power(3) = 8 and (16).sqrt() = 4 and (100).log(10) = 2 and (0).exp() = 1 and (1).ln() = 0",
        "%sct = 'http://snomed.info/sct' and %loinc.startsWith('http') and %ucum.exists()",
        "5 is Integer and (5 is integer).not() and today() is Date and now() is DateTime",
    ] {
        assert!(holds(condition, &patient), "{condition}");
    }
    let nested = r#"{"resourceType":"Questionnaire","item":[{"linkId":"1","text":"a","item":[{"linkId":"2","text":"a"}]}]}"#;
    assert_eq!(removed("Questionnaire.repeat(item).text", nested), ["Questionnaire.item[0].text", "Questionnaire.item[0].item[0].text"]);
    let contained = r#"{"resourceType":"Patient","active":true,"contained":[{"resourceType":"Organization","name":"O"}]}"#;
    assert_eq!(removed("Organization.where(%rootResource.active).name", contained), ["Patient.contained[0].name"]);
    assert_eq!(removed("Organization.where(%resource.active).name", contained), Vec::<String>::new());
    // An expression that yields new values for ever ends with an error.
    let endless = deidentifier(&configuration(&[["Patient.where((1).repeat($this + 1).exists()).name", r#""method":"redact""#]], ""));
    assert!(endless.explain(contained.as_bytes(), None).unwrap_err().to_string().contains("repeats without end"));
}

#[test]
fn cases_can_use_extensions_types_and_the_resource() {
    let cases = r#""method":"generalize","cases":{"$this.extension.exists()":"'extended'","%resource.active and $this is string":"'active'"},"otherValues":"keep""#;
    let deidentifier =
        deidentifier(&configuration(&[["Patient.name.family.extension", r#""method":"keep""#], ["Patient.name.family", cases]], ""));
    let family = |members: &str, name: &str| {
        let output = deidentify(&deidentifier, &format!(r#"{{"resourceType":"Patient"{members},"name":[{name}]}}"#)).unwrap();
        parse_json(&output)["name"][0]["family"].as_str().unwrap().to_owned()
    };
    assert_eq!(family("", r#"{"family":"A","_family":{"extension":[{"url":"x"}]}}"#), "extended");
    assert_eq!(family(r#","active":true"#, r#"{"family":"A"}"#), "active");
    assert_eq!(family(r#","active":false"#, r#"{"family":"A"}"#), "A");
}

#[test]
fn an_operand_with_members_fails_instead_of_being_ignored() {
    let deidentifier = deidentifier(&configuration(&[["Patient.where(name < 5).id", r#""method":"redact""#]], ""));
    let failure = deidentify(&deidentifier, &patient(r#""name":[{"family":"A"}]"#)).unwrap_err().to_string();
    assert!(failure.contains("needs a value but finds an element without one"), "{failure}");
}

#[test]
fn the_year_of_a_date_with_an_offset_remains() {
    let rules = [["Patient.birthDate", r#""method":"redact""#]];
    let deidentifier = deidentifier(&configuration(&rules, r#""enablePartialDatesForRedact":true"#));
    for date in ["2001-01-01Z", "2001-01-01", "2001", "2001-01+02:00"] {
        let output = deidentify(&deidentifier, &patient(&format!(r#""birthDate":"{date}""#))).unwrap();
        assert_eq!(parse_json(&output)["birthDate"], "2001", "{date}");
    }
}

#[test]
fn unsupported_functions_are_rejected_when_the_file_is_parsed_and_documented() {
    let documented = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/de-identification.md")).unwrap();
    for name in crate::deid::fhirpath::UNSUPPORTED_FUNCTIONS {
        let config = configuration(&[[&format!("Patient.name.where({name}())"), r#""method":"redact""#]], "");
        let error = DeidConfig::parse(config.as_bytes(), FhirVersion::R4).unwrap_err().to_string();
        assert!(error.contains(&format!("the function {name}() is not supported")), "{error}");
        assert!(documented.contains(&format!("`{name}`")), "{name} is not in docs/de-identification.md");
    }
}
