//! The effect of each method on values, and the properties of the methods.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const ALL_PARTIAL: &str = r#""enablePartialDatesForRedact":true,"enablePartialAgesForRedact":true,"enablePartialZipCodesForRedact":true,
    "restrictedZipCodeTabulationAreas":["036"],"dateShiftKey":"k","cryptoHashKey":"h","encryptKey":"0123456789abcdef""#;

/// Applies a single rule to a resource.
fn with_rule(path: &str, settings: &str, resource: &str) -> Value {
    parse_json(&deidentify(&deidentifier(&configuration(&[[path, settings]], ALL_PARTIAL)), resource).unwrap())
}

/// Returns the birth date of a patient after a method was applied to it.
fn birth_date(settings: &str, date: &str) -> Option<String> {
    birth_date_of(&deidentifier(&configuration(&[["Patient.birthDate", settings]], ALL_PARTIAL)), "p", date)
}

/// Returns the birth date of a patient that a de-identifier writes.
fn birth_date_of(deidentifier: &Deidentifier, id: &str, date: &str) -> Option<String> {
    let patient = format!(r#"{{"resourceType":"Patient","id":"{id}","birthDate":"{date}"}}"#);
    let output = parse_json(&deidentify(deidentifier, &patient).unwrap());
    output.get("birthDate").map(|date| date.as_str().unwrap().to_owned())
}

#[test]
fn redact_keeps_the_year_unless_it_can_reveal_an_age_over_89() {
    let redact = r#""method":"REDACT""#;
    for (date, expected) in [
        ("2001-02-03", Some("2001")),
        ("2001-02", Some("2001")),
        ("2001", Some("2001")),
        // On 2026-11-21 a person born on 1936-11-22 is 89, but somebody born in 1936 is 90 in the year of the export.
        ("1937-01-01", Some("1937")),
        ("1936-12-31", None),
        ("1936-11-22", None),
        ("1936", None),
        ("no date", None),
        ("", None),
    ] {
        let deidentifier = deidentifier(&configuration(&[["Patient.birthDate", redact]], r#""enablePartialDatesForRedact":true"#));
        assert_eq!(birth_date_of(&deidentifier, "p", date).as_deref(), expected, "{date}");
    }
}

const LASTING_KEY: &str = r#","dateShiftKey":"0123456789""#;

/// Returns the birth dates that exports of the nights after [`TODAY`] write. `key` is the lasting key of all of them; if it is empty, each has its
/// own.
fn birth_dates_by_night(settings: &str, key: &str, born: &str, id: &str) -> Vec<Option<String>> {
    let config = configuration(&[["Patient.birthDate", settings]], &format!(r#""enablePartialDatesForRedact":true{key}"#));
    let config = DeidConfig::parse(config.as_bytes(), FhirVersion::R4).unwrap();
    let night = |number: u8| {
        let job = DeidJobContext { key: [number; 32], today: TODAY + time::Duration::days(number.into()), time: NOON };
        birth_date_of(&config.for_job(&job), id, born)
    };
    (0..200).map(night).collect()
}

// A birth date that is gone from the 90th birthday on would tell the birthday, and with the shifted date of the night before the shift.
#[test]
fn with_lasting_keys_the_shifted_date_decides_when_a_birth_date_is_removed() {
    // Each of these dates is removed in one of the 200 nights, by whatever number of days it is shifted.
    for (id, born) in [("p", "1937-03-20"), ("q", "1937-03-21"), ("r", "1937-04-15"), ("s", "1937-05-10"), ("t", "1937-05-10")] {
        let written = birth_dates_by_night(r#""method":"dateShift""#, LASTING_KEY, born, id);
        let shifted = date(&json!(written[0].as_ref().unwrap()));
        let birthday = shifted - time::Duration::days(50);
        let first_night_without = birthday.replace_year(birthday.year() + 90).unwrap();
        let nights_with_date = written.iter().take_while(|date| date.is_some()).count();
        let removed_on = TODAY + time::Duration::days(nights_with_date.try_into().unwrap());
        assert_eq!(removed_on, first_night_without, "{id} {born} {shifted}");
        assert!(written[nights_with_date..].iter().all(Option::is_none), "not even the year remains: {written:?}");
    }
}

// Lines of exports without lasting keys are in the same order, so that a reader can join them, too.
#[test]
fn the_year_decides_when_the_year_of_a_date_is_removed() {
    for key in [LASTING_KEY, ""] {
        let redacted = |born: &str| birth_dates_by_night(r#""method":"redact""#, key, born, "p");
        // The first night is that of November 21.
        let nights_of_2026 = 41;
        for born in ["1937-01-01", "1937-06-30", "1937-12-31", "1937-05", "1937"] {
            let written = redacted(born);
            let (before, after) = written.split_at(nights_of_2026);
            assert!(before.iter().all(|year| year.as_deref() == Some("1937")) && after.iter().all(Option::is_none), "{born}: {written:?}");
        }
        assert!(redacted("1936-12-31").iter().all(Option::is_none));
    }
}

// A date that is there although it is shifted behind the limit of ages would tell that the shift is small.
#[test]
fn without_lasting_keys_the_shifted_date_decides_when_a_birth_date_is_removed() {
    for born in ["1936-11-22", "1937-01-10", "1937-02-20"] {
        for (night, written) in (0..).zip(birth_dates_by_night(r#""method":"dateShift""#, "", born, "p")) {
            let Some(written) = written else { continue };
            let today = TODAY + time::Duration::days(night);
            let birthday = date(&json!(written)) - time::Duration::days(50);
            assert!(birthday.replace_year(birthday.year() + 90).unwrap() > today, "{born} {today} {written}");
        }
    }
}

#[test]
fn noise_is_equal_in_each_export_with_lasting_keys() {
    let rules = [["Observation.value", r#""method":"perturb","span":2"#]];
    let observation = |id: &str, value: &str| {
        format!(
            r#"{{"resourceType":"Observation","id":"{id}","valueQuantity":{{"value":{value}}},"component":[{{"valueQuantity":{{"value":72}}}}]}}"#
        )
    };
    let perturbed = |parameters: &str, night: u8, id: &str, value: &str| {
        let config = DeidConfig::parse(configuration(&rules, parameters).as_bytes(), FhirVersion::R4).unwrap();
        let job = DeidJobContext { key: [night; 32], today: TODAY, time: NOON };
        parse_json(&deidentify(&config.for_job(&job), &observation(id, value)).unwrap())["valueQuantity"]["value"].to_string()
    };
    let values = |parameters: &str| (0..40).map(|night| perturbed(parameters, night, "o", "72")).collect::<std::collections::BTreeSet<_>>();
    for key in ["cryptoHashKey", "dateShiftKey", "encryptKey"] {
        let parameters = format!(r#""{key}":"0123456789abcdef""#);
        assert_eq!(values(&parameters).len(), 1, "{key}: the mean of several nights would be the true value");
        let of_others: std::collections::BTreeSet<_> = (0..40).map(|id| perturbed(&parameters, 0, &id.to_string(), "72")).collect();
        assert!(of_others.len() > 10, "{key}");
    }
    assert!(values("").len() > 10, "exports without lasting keys cannot be joined");
}

#[test]
fn redact_keeps_ages_up_to_89() {
    for (age, is_kept) in [("89", true), ("23.50", true), ("89.5", false), ("90", false), ("1e1", true)] {
        let output = with_rule(
            "nodesByType('Age')",
            r#""method":"redact""#,
            &format!(r#"{{"resourceType":"Condition","onsetAge":{{"value":{age},"unit":"a"}}}}"#),
        );
        let expected = is_kept.then(|| json!({ "value": parse_json(age) }));
        assert_eq!(output.get("onsetAge"), expected.as_ref(), "{age}");
    }
}

#[test]
fn redact_keeps_the_area_of_a_zip_code() {
    for (code, expected) in [("02138", "02100"), ("03601", "00000"), ("02138-1234", "02100-0000"), ("AB1 2CD", "AB1 0CD")] {
        let address = format!(r#"{{"resourceType":"Patient","address":[{{"postalCode":"{code}","city":"X"}}]}}"#);
        assert_eq!(
            with_rule("Patient.address", r#""method":"redact""#, &address)["address"],
            json!([{ "postalCode": expected }]),
            "{code}"
        );
    }
}

#[test]
fn redact_keeps_nothing_by_default() {
    let resource = r#"{"resourceType":"Patient","birthDate":"2001-02-03","address":[{"postalCode":"02138"}]}"#;
    let output = parse_json(&deidentify(&deidentifier(&configuration(&[["Patient", r#""method":"redact""#]], "")), resource).unwrap());
    assert_eq!(output.as_object().unwrap().keys().collect::<Vec<_>>(), ["meta", "resourceType"]);
}

#[test]
fn dates_without_a_day_or_with_an_age_over_89_are_redacted_instead_of_shifted() {
    let shift = r#""method":"dateShift""#;
    for (date, expected) in [("2001-02", Some("2001")), ("2001", Some("2001")), ("1920-02-03", None), ("1920", None)] {
        assert_eq!(birth_date(shift, date).as_deref(), expected, "{date}");
    }
}

// The formula: each byte of "p" and the key "k" is added to 131 times the sum before it, modulo 101; then 50 is subtracted.
#[test]
fn dates_move_by_the_formula_and_their_times_become_zeros() {
    let days = ((112 % 101) * 131 + 107) % 101 - 50;
    assert_eq!(days, -17);
    assert_eq!(birth_date(r#""method":"dateShift""#, "2001-02-03").as_deref(), Some("2001-01-17"));
    let resource = r#"{"resourceType":"Observation","id":"p","issued":"2015-02-18T13:28:17.12345+05:00"}"#;
    assert_eq!(with_rule("Observation.issued", r#""method":"dateShift""#, resource)["issued"], "2015-02-01T00:00:00.00000+05:00");
}

#[test]
fn a_fixed_offset_takes_precedence_over_the_key() {
    let rules = [["nodesByType('date')", r#""method":"dateShift""#]];
    let deidentifier = deidentifier(&configuration(&rules, r#""dateShiftKey":"k","dateShiftFixedOffsetInDays":-3"#));
    let output = parse_json(&deidentify(&deidentifier, r#"{"resourceType":"Patient","id":"p","birthDate":"2001-01-02"}"#).unwrap());
    assert_eq!(output["birthDate"], "2000-12-30");
}

#[test]
fn with_patient_scope_the_dates_of_all_resources_of_a_patient_move_alike() {
    let rules = [["Resource.id", r#""method":"cryptoHash""#], ["nodesByType('dateTime')", r#""method":"dateShift""#]];
    let deidentifier = deidentifier(&configuration(&rules, r#""dateShiftScope":"patient""#));
    let moved = |id: &str, patient: Option<&str>| {
        let resource = format!(r#"{{"resourceType":"Observation","id":"{id}","effectiveDateTime":"2015-02-07"}}"#);
        let mut out = Vec::new();
        deidentifier.deidentify(resource.as_bytes(), patient, &mut out).unwrap();
        parse_json(std::str::from_utf8(&out).unwrap())["effectiveDateTime"].clone()
    };
    let days: std::collections::BTreeSet<_> = (0..20).map(|id| moved(&id.to_string(), Some("p1")).to_string()).collect();
    assert_eq!(days.len(), 1);
    // Without a patient the original id of the resource determines the offset.
    assert_eq!(moved("x", None), moved("y", Some("x")));
    assert!((0..20).any(|id| moved(&id.to_string(), None) != moved("x", Some("p1"))));
}

#[test]
fn a_perturbed_decimal_is_rounded_to_the_decimal_places_of_the_rule() {
    let perturbed = |value: &str, settings: &str| {
        let resource = format!(r#"{{"resourceType":"Observation","valueQuantity":{{"value":{value},"unit":"kg"}}}}"#);
        let output = deidentify(&deidentifier(&configuration(&[["Observation.value", settings]], "")), &resource).unwrap();
        output.split_once(r#""value":"#).unwrap().1.split_once(',').unwrap().0.to_owned()
    };
    assert_eq!(perturbed("5.234", r#""method":"perturb","span":0"#), "5.23");
    assert_eq!(perturbed("5.234", r#""method":"perturb","span":0,"roundTo":0"#), "5");
    assert_eq!(perturbed("0.1000000000000000055", r#""method":"perturb","span":0,"roundTo":28"#), "0.1000000000000000055");
    assert_eq!(perturbed("-0.001", r#""method":"perturb","span":0"#), "0.00");
    assert_eq!(perturbed("1e3", r#""method":"perturb","span":0"#), "1000");
}

#[test]
fn perturbed_integers_stay_valid_for_their_types() {
    let settings = r#""method":"perturb","span":1000,"roundTo":5"#;
    for resource in 0..50 {
        let resource = format!(
            r#"{{"resourceType":"Observation","id":"{resource}","valueSampledData":{{"dimensions":1,"period":1}},"component":[{{"valueInteger":7}}]}}"#
        );
        let output = with_rule("Observation.value.dimensions", settings, &resource);
        assert!(output["valueSampledData"]["dimensions"].as_u64().is_some_and(|number| number >= 1), "{output}");
        let output = with_rule("Observation.component.value", settings, &resource);
        assert!(output["component"][0]["valueInteger"].is_i64(), "{output}");
    }
}

#[test]
fn perturb_leaves_other_values_unchanged() {
    let resource = r#"{"resourceType":"Observation","valueQuantity":{"value":7,"unit":"kg"},"status":"final"}"#;
    let output = with_rule("Observation", r#""method":"perturb","span":0,"roundTo":0"#, resource);
    assert_eq!((&output["valueQuantity"], &output["status"]), (&json!({ "value": 7, "unit": "kg" }), &json!("final")));
}

#[test]
fn a_ciphertext_can_be_decrypted_with_the_key() {
    use aes::Aes128;
    use base64::Engine as _;
    use cbc::cipher::block_padding::Pkcs7;
    use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
    let output =
        with_rule("Patient.name.family", r#""method":"encrypt""#, r#"{"resourceType":"Patient","id":"p","name":[{"family":"Ä\n\"b"}]}"#);
    let ciphertext = base64::engine::general_purpose::STANDARD.decode(output["name"][0]["family"].as_str().unwrap()).unwrap();
    let (iv, text) = ciphertext.split_at(16);
    let decryptor = cbc::Decryptor::<Aes128>::new_from_slices(b"0123456789abcdef", iv).unwrap();
    assert_eq!(decryptor.decrypt_padded_vec::<Pkcs7>(text).unwrap(), "Ä\n\"b".as_bytes());
}

#[test]
fn equal_values_in_different_elements_have_different_ciphertexts() {
    let output =
        with_rule("Patient.name.given", r#""method":"encrypt""#, r#"{"resourceType":"Patient","id":"p","name":[{"given":["A","A"]}]}"#);
    assert_ne!(output["name"][0]["given"][0], output["name"][0]["given"][1]);
}

#[test]
fn substitute_replaces_a_value_or_a_whole_element() {
    let resource =
        r#"{"resourceType":"Patient","name":[{"use":"usual","family":"A","given":["B","C"]}],"active":true,"multipleBirthInteger":2}"#;
    assert_eq!(with_rule("Patient.name.family", r#""method":"substitute","replaceWith":"X\"Y""#, resource)["name"][0]["family"], "X\"Y");
    // Values that JSON writes without quotes stay without quotes.
    let output = with_rule("Patient.multipleBirth | Patient.active", r#""method":"substitute","replaceWith":"0""#, resource);
    assert_eq!((&output["multipleBirthInteger"], &output["active"]), (&json!(0), &json!("0")));
    let replacement = r#""method":"substitute","replaceWith":{"family":"X","given":["Y"],"period":{"start":"2020"}}"#;
    let output = with_rule("Patient.name", replacement, resource);
    assert_eq!(output["name"], json!([{ "family": "X", "given": ["Y"], "period": { "start": "2020" } }]));
    // The object can be written as a string; null removes the element.
    let output = with_rule("Patient.name", r#""method":"substitute","replaceWith":" {\"text\":\"X\"} ""#, resource);
    assert_eq!(output["name"], json!([{ "text": "X" }]));
    assert_eq!(with_rule("Patient.name", r#""method":"substitute","replaceWith":null"#, resource).get("name"), None);
}

#[test]
fn substitute_keeps_elements_that_an_earlier_rule_has_processed() {
    let resource = r#"{"resourceType":"Patient","name":[{"use":"usual","family":"A","given":["B","C"]}]}"#;
    let rules = [["Patient.name.use", r#""method":"keep""#], ["Patient.name", r#""method":"substitute","replaceWith":{"family":"X"}"#]];
    let output = parse_json(&deidentify(&deidentifier(&configuration(&rules, "")), resource).unwrap());
    assert_eq!(output["name"], json!([{ "use": "usual", "family": "X" }]));
}

#[test]
fn an_empty_string_in_a_replacement_is_left_out() {
    let resource = r#"{"resourceType":"Patient","name":[{"use":"usual","family":"A","period":{"end":"2020"}}]}"#;
    let replacement = r#""method":"substitute","replaceWith":{"use":"","text":"X","period":{"start":"2021","end":" "}}"#;
    assert_eq!(with_rule("Patient.name", replacement, resource)["name"], json!([{ "text": "X", "period": { "start": "2021" } }]));
}

// Microsoft's tool hashes booleans in the notation of its language: `True`.
#[test]
fn booleans_are_hashed_with_a_capital_letter() {
    for (boolean, text) in [("true", "True"), ("false", "False")] {
        let resource = format!(r#"{{"resourceType":"Patient","active":{boolean},"language":"{text}"}}"#);
        let output = with_rule("Patient.active | Patient.language", r#""method":"cryptoHash""#, &resource);
        assert_eq!(output["active"], output["language"]);
        assert_eq!(output["active"].as_str().map(str::len), Some(64));
    }
}

// It is not part of the value, for methods and for conditions.
#[test]
fn whitespace_around_a_value_is_ignored() {
    let patient = |code: &str| format!(r#"{{"resourceType":"Patient","id":"p","address":[{{"postalCode":"{code}","city":"B"}}]}}"#);
    for (path, settings) in [
        ("Patient.address.postalCode", r#""method":"redact""#),
        ("Patient.address.postalCode", r#""method":"cryptoHash""#),
        ("Patient.address.postalCode", r#""method":"encrypt""#),
        ("Patient.address.postalCode", r#""method":"generalize","cases":{"$this = '03601'":"$this.substring(0, 4)"}"#),
        ("Patient.address.where(postalCode = '03601')", r#""method":"redact""#),
    ] {
        assert_eq!(with_rule(path, settings, &patient(r" 03601\n")), with_rule(path, settings, &patient("03601")), "{path} {settings}");
    }
}

#[test]
fn the_first_case_that_applies_determines_the_new_value() {
    let cases = |cases: &str| format!(r#""method":"generalize","cases":{cases}"#);
    let date = cases(r#"{"$this >= @2000-01-01 and $this < @2010-01-01":"@2000","$this < @2000-01-01":"'before'"}"#);
    assert_eq!(birth_date(&date, "2001-02-03").as_deref(), Some("2000"));
    assert_eq!(birth_date(&date, "1999-12-31").as_deref(), Some("before"));
    assert_eq!(birth_date(&date, "2011-01-01"), None);
    assert_eq!(
        birth_date(&cases(r#"{"$this.toString().startsWith('20')":"$this.toString().substring(0, 3) + '0'"}"#), "2019-05-06").as_deref(),
        Some("2010")
    );
    let gender = |cases: &str, others: &str| {
        let settings = format!(r#""method":"generalize","cases":{cases},"otherValues":"{others}""#);
        with_rule("Patient.gender", &settings, r#"{"resourceType":"Patient","gender":"male","id":"x"}"#).get("gender").cloned()
    };
    assert_eq!(gender(r#"{"$this in ('female' | 'male')":"'known'"}"#, "redact"), Some(json!("known")));
    assert_eq!(gender(r#"{"$this = 'female'":"'f'"}"#, "keep"), Some(json!("male")));
    assert_eq!(gender(r#"{"$this = 'female'":"'f'"}"#, "Redact"), None);
    assert_eq!(gender(r#"{"$this.matches('^m')":"{}"}"#, "keep"), None);
    assert_eq!(gender(r#"{"false":"'x'", "true":"$this.upper() & '!'"}"#, "keep"), Some(json!("MALE!")));
}

// The comparison of a year with one of its days is unknown, and a case applies unless its condition is false.
#[test]
fn a_case_with_an_unknown_condition_applies() {
    let cases = |cases: &str| format!(r#""method":"generalize","cases":{cases}"#);
    let dates =
        cases(r#"{"$this >= @1980-01-01 and $this < @1990-01-01":"@1980","$this = @2005":"@2005-01-01","$this ~ @2015":"@2015-01-01"}"#);
    for (date, expected) in [
        ("1985-06-07", Some("1980")),
        ("1980", Some("1980")),
        ("1990", Some("1980")),
        ("1990-01-01", None),
        ("2005", Some("2005-01-01")),
        ("2005-03-04", Some("2005-01-01")),
        ("2015", Some("2015-01-01")),
        // Equivalence is never unknown.
        ("2015-03-04", None),
    ] {
        assert_eq!(birth_date(&dates, date).as_deref(), expected, "{date}");
    }
    let moment = cases(
        r#"{"$this >= @1980-01-01T00:00:00Z and $this <= @1990-01-01T00:00:00+08:00":"@1980","$this = @2005-01-01T00:00:00+08:00":"@2005"}"#,
    );
    for (date, expected) in [
        ("1980-01-01T00:00:00Z", Some("1980")),
        ("1980-01-01T00:00:00+08:00", None),
        ("1980-01-01", Some("1980")),
        ("1990-01-01T00:00:00Z", None),
        ("1990-01-01T00:00:00+09:00", Some("1980")),
        ("2004-12-31T16:00:00Z", Some("2005")),
        ("2005-01-01T00:00:00Z", None),
    ] {
        let observation = format!(r#"{{"resourceType":"Observation","effectiveDateTime":"{date}"}}"#);
        assert_eq!(
            with_rule("Observation.effective", &moment, &observation).get("effectiveDateTime"),
            expected.map(Value::from).as_ref(),
            "{date}"
        );
    }
    let time = cases(r#"{"$this >= @T12:00:00 and $this < @T18:00:00":"@T12:00:00"}"#);
    for (time_of_day, expected) in [("13:45:02", Some("12:00:00")), ("18:00:01", None), ("02:00:00", None)] {
        let observation = format!(r#"{{"resourceType":"Observation","valueTime":"{time_of_day}"}}"#);
        assert_eq!(
            with_rule("Observation.value", &time, &observation).get("valueTime"),
            expected.map(Value::from).as_ref(),
            "{time_of_day}"
        );
    }
}

#[test]
fn cases_can_use_arithmetic_and_regular_expressions() {
    let cases = |cases: &str| format!(r#""method":"generalize","cases":{cases}"#);
    let number = |settings: &str, value: &str| {
        let output = with_rule("Observation.value", settings, &format!(r#"{{"resourceType":"Observation","valueInteger":{value}}}"#));
        output.get("valueInteger").map(Value::to_string)
    };
    let tens = cases(r#"{"$this >= -20 and $this < 80":"($this div 10 - 1) * 10"}"#);
    assert_eq!((number(&tens, "43"), number(&tens, "5"), number(&tens, "80")), (Some("30".to_owned()), Some("-10".to_owned()), None));
    assert_eq!(number(&cases(r#"{"$this < 5.5":"$this / 2"}"#), "5").as_deref(), Some("2.5"));
    let month = cases(
        r#"{"true":"$this.toString().replaceMatches('\\\\b(?<year>\\\\d{4})-(?<month>\\\\d{2})-(?<day>\\\\d{2})\\\\b', '${year}-${month}')"}"#,
    );
    assert_eq!(birth_date(&month, "1990-11-01").as_deref(), Some("1990-11"));
    assert_eq!(birth_date(&month, "1990").as_deref(), Some("1990"));
    assert_eq!(number(&cases(r#"{"true":"($this / 2).round() + 0"}"#), "5").as_deref(), Some("2"), "halves go to the even number");
    assert_eq!(number(&cases(r#"{"true":"($this / 100).round(1) * 100"}"#), "45").as_deref(), Some("40"));
}

// As in .NET: a group number ends at the first character that is not a digit, and a reference to a missing group is text.
#[test]
fn a_replacement_can_refer_to_groups() {
    let replaced = |pattern: &str, replacement: &str| {
        let settings = format!(
            r#""method":"generalize","cases":{{"true":"$this.replaceMatches('{pattern}', '{replacement}')"}}"#,
            pattern = pattern.replace('\\', r"\\\\")
        );
        let patient = r#"{"resourceType":"Patient","address":[{"postalCode":"98052"}]}"#;
        with_rule("Patient.address.postalCode", &settings, patient)["address"][0]["postalCode"].as_str().unwrap().to_owned()
    };
    for (pattern, replacement, expected) in [
        (r"^(\d{3}).*$", "$1xx", "980xx"),
        (r"^(\d{3}).*$", "${1}00", "98000"),
        (r"^(\d{3}).*$", "$100", "$100"),
        (r"^(?<area>\d{3})(\d).*$", "${area}-$1-$2", "980-5-980"),
        (r"^(?<area>\d{3}).*$", "$area ${other}", "$area ${other}"),
        (r"\d\d$", "[$&]$$", "980[52]$"),
        (r"\d\d$", "$", "980$"),
    ] {
        assert_eq!(replaced(pattern, replacement), expected, "{pattern} {replacement}");
    }
}

#[test]
fn a_failure_names_the_rule_and_the_element_but_no_value() {
    let patient = r#"{"resourceType":"Patient","id":"secret","gender":"secret","name":[{"family":"secret"}]}"#;
    for (path, settings, reason) in [
        (
            "Patient.name",
            r#""method":"generalize","cases":{"true":"'x'"}"#,
            "rule 1 (generalize `Patient.name`) at Patient.name[0]: generalize applies only to single values",
        ),
        (
            "Patient.gender",
            r#""method":"generalize","cases":{"$this > 5":"'x'"}"#,
            "rule 1 (generalize `Patient.gender`) at Patient.gender: the expression compares a string with an integer",
        ),
        (
            "Patient.gender",
            r#""method":"substitute","replaceWith":{"a":1}"#,
            "rule 1 (substitute `Patient.gender`) at Patient.gender: replaceWith does not fit the element: it is an object",
        ),
        (
            "Patient.name",
            r#""method":"substitute","replaceWith":{"secret":1}"#,
            "replaceWith does not fit the element: it has members that the element does not define",
        ),
        ("Patient", r#""method":"shred""#, "rule 1 (shred `Patient`) at Patient: the method does not exist"),
    ] {
        let failure = deidentify(&deidentifier(&configuration(&[[path, settings]], "")), patient).unwrap_err();
        assert!(failure.to_string().contains(reason), "{failure}");
        assert!(!failure.to_string().contains("secret"), "{failure}");
        assert_eq!(failure.scope, DeidFailureScope::Job);
    }
}

#[test]
fn processing_errors_determines_whether_a_failure_ends_the_job() {
    let config = |errors: &str| {
        format!(
            r#"{{"processingErrors":"{errors}","fhirPathRules":[{{"path":"Patient.gender","method":"generalize","cases":{{"$this > 5":"'x'"}}}}]}}"#
        )
    };
    let patient = br#"{"resourceType":"Patient","id":"p","gender":"male"}"#;
    let mut out = b"before".to_vec();
    assert_eq!(deidentifier(&config("raise")).deidentify(patient, None, &mut out).unwrap_err().scope, DeidFailureScope::Job);
    assert_eq!(deidentifier(&config("quarantine")).deidentify(patient, None, &mut out).unwrap_err().scope, DeidFailureScope::Resource);
    assert_eq!(out, b"before");
    assert!(matches!(deidentifier(&config("skip")).deidentify(patient, None, &mut out).unwrap(), Deidentified::TypeOnly(_)));
    let type_only = parse_json(std::str::from_utf8(&out[6..]).unwrap());
    let label = json!({ "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "REDACTED", "display": "redacted" });
    assert_eq!(type_only, json!({ "resourceType": "Patient", "meta": { "security": [label] } }));
}

#[test]
fn a_line_that_is_not_a_resource_of_the_version_is_rejected() {
    let deep =
        format!(r#"{{"resourceType":"Questionnaire","item":{}{}}}"#, r#"[{"item":"#.repeat(200), "[]".to_owned() + &"}]".repeat(200));
    for (resource, reason) in [
        ("", "the resource is not a JSON object"),
        ("[]", "the resource is not a JSON object"),
        (r#"{"resourceType":"Patient","id":"p""#, "the resource is not a JSON object"),
        (r#"{"id":"p"}"#, "no resourceType"),
        (r#"{"resourceType":"Secret"}"#, "no resourceType"),
        (r#"{"resourceType":"Patient","id":"p","secret":1}"#, "at Patient: a member is not defined by FHIR 4.0"),
        (r#"{"resourceType":"Patient","id":"p","name":"secret"}"#, "the JSON type of a value"),
        (r#"{"resourceType":"Patient","id":"p","active":true,"active":false}"#, "a member occurs twice"),
        (deep.as_str(), "nested more than 100 levels deep"),
    ] {
        let failure = deidentify(&deidentifier(&configuration(&[], "")), resource).unwrap_err().to_string();
        assert!(failure.contains(reason), "{failure}");
        assert!(!failure.to_lowercase().contains("secret"), "{failure}");
    }
}

/// Generates texts of names and identifiers.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![".{1,12}", "[a-zA-Z0-9.-]{1,64}"].prop_filter("a blank text is not a value", |text| !text.trim().is_empty())
}

/// Generates dates.
fn dates() -> impl Strategy<Value = String> {
    (1940..2026, 1..=12, 1..=28).prop_map(|(year, month, day)| format!("{year:04}-{month:02}-{day:02}"))
}

/// Returns a Patient.
fn patient(id: &str, name: &str, date: &str) -> String {
    json!({ "resourceType": "Patient", "id": id, "name": [{ "family": name }], "birthDate": date, "multipleBirthInteger": 2 }).to_string()
}

/// Parses a complete date.
fn date(text: &Value) -> Date {
    let parts: Vec<i32> = text.as_str().unwrap().split('-').map(|part| part.parse().unwrap()).collect();
    let month = time::Month::try_from(u8::try_from(parts[1]).unwrap()).unwrap();
    Date::from_calendar_date(parts[0], month, u8::try_from(parts[2]).unwrap()).unwrap()
}

const EVERY_METHOD: [[&str; 2]; 5] = [
    ["Patient.name", r#""method":"encrypt""#],
    ["Patient.multipleBirth", r#""method":"perturb","span":100"#],
    ["Resource.id", r#""method":"cryptoHash""#],
    ["nodesByType('Reference').reference", r#""method":"cryptoHash""#],
    ["nodesByType('date')", r#""method":"dateShift""#],
];

proptest! {
    // A slice that is repeated, by any worker, gives the same bytes. Another job gives different ones.
    #[test]
    fn output_is_reproducible_within_a_job(id in "[a-z0-9]{1,64}", name in texts(), born in dates()) {
        let config = configuration(&EVERY_METHOD, "");
        let resource = patient(&id, &name, &born);
        let first = deidentify(&deidentifier(&config), &resource).unwrap();
        prop_assert_eq!(&first, &deidentify(&deidentifier(&config), &resource).unwrap());
        let other = DeidConfig::parse(config.as_bytes(), FhirVersion::R4).unwrap().for_job(&DeidJobContext { key: [8; 32], today: TODAY, time: NOON });
        let other = parse_json(&deidentify(&other, &resource).unwrap());
        prop_assert_ne!(&parse_json(&first)["id"], &other["id"]);
        prop_assert_ne!(&parse_json(&first)["name"], &other["name"]);
    }

    #[test]
    fn hashed_references_still_match_hashed_ids(id in "[A-Za-z0-9.-]{1,64}", base in reference_base(), version in prop::option::of("[0-9]{1,3}")) {
        let deidentifier = deidentifier(&configuration(&EVERY_METHOD, ""));
        let version = version.map(|version| format!("/_history/{version}")).unwrap_or_default();
        let reference = format!("{base}Patient/{id}{version}");
        let observation = json!({ "resourceType": "Observation", "id": "o", "subject": { "reference": reference } }).to_string();
        let hashed = parse_json(&deidentify(&deidentifier, &patient(&id, "A", "2001-02-03")).unwrap())["id"].as_str().unwrap().to_owned();
        prop_assert!(hashed.len() == 64 && hashed.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let expected = format!("{base}Patient/{hashed}{version}");
        prop_assert_eq!(&parse_json(&deidentify(&deidentifier, &observation).unwrap())["subject"]["reference"], &expected);
    }

    #[test]
    fn dates_of_a_patient_move_by_the_same_number_of_days_and_at_most_50(id in "[a-z]{1,9}", other_id in "[a-z]{1,9}", first in dates(), second in dates()) {
        let deidentifier = deidentifier(&configuration(&EVERY_METHOD, r#""dateShiftScope":"patient""#));
        let moved = |id: &str, born: &str| {
            let mut out = Vec::new();
            deidentifier.deidentify(patient(id, "A", born).as_bytes(), Some("p"), &mut out).unwrap();
            date(&parse_json(std::str::from_utf8(&out).unwrap())["birthDate"])
        };
        let (first_before, second_before) = (date(&json!(first)), date(&json!(second)));
        let (first_after, second_after) = (moved(&id, &first), moved(&other_id, &second));
        prop_assert_eq!(first_after - first_before, second_after - second_before);
        prop_assert!((first_after - first_before).whole_days().abs() <= 50);
    }

    #[test]
    fn noise_stays_within_half_the_span(value in -1_000_000_i64..1_000_000, span in 0_u32..1000, places in 0_u32..6, id in "[a-z]{1,9}") {
        let written = rust_decimal::Decimal::new(value, 3);
        let settings = format!(r#""method":"perturb","span":{span},"roundTo":{places}"#);
        let resource = format!(r#"{{"resourceType":"Observation","id":"{id}","valueQuantity":{{"value":{written}}}}}"#);
        let output = deidentify(&deidentifier(&configuration(&[["nodesByType('Quantity')", &settings]], "")), &resource).unwrap();
        let text = output.split_once(r#""value":"#).unwrap().1.split_once('}').unwrap().0;
        let moved: rust_decimal::Decimal = text.parse().unwrap();
        prop_assert!(moved.scale() <= places);
        // Half of the span, plus the rounding error.
        let bound = rust_decimal::Decimal::from(span) / rust_decimal::Decimal::TWO + rust_decimal::Decimal::new(5, places + 1);
        prop_assert!((moved - written).abs() <= bound, "{} {}", written, moved);
    }

    // A second redaction changes nothing.
    #[test]
    fn redact_is_idempotent(name in texts(), born in dates(), code in "[0-9]{5}(-[0-9]{4})?") {
        let rules = [["Patient.name | Patient.birthDate | Patient.address", r#""method":"redact""#]];
        let deidentifier = deidentifier(&configuration(&rules, ALL_PARTIAL));
        let resource = json!({ "resourceType": "Patient", "name": [{ "text": name }], "birthDate": born, "address": [{ "postalCode": code, "city": "X" }] });
        let first = deidentify(&deidentifier, &resource.to_string()).unwrap();
        prop_assert_eq!(parse_json(&deidentify(&deidentifier, &first).unwrap()), parse_json(&first));
    }
}

/// Generates the base of a reference.
fn reference_base() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "http://example.org/fhir/", "https://example.org:8443/r4/"])
}
