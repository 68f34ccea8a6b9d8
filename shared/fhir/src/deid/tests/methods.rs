//! What each method does to a value, and what its own laws are.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const ALL_PARTIAL: &str = r#""enablePartialDatesForRedact":true,"enablePartialAgesForRedact":true,"enablePartialZipCodesForRedact":true,
    "restrictedZipCodeTabulationAreas":["036"],"dateShiftKey":"k","cryptoHashKey":"h","encryptKey":"0123456789abcdef""#;

/// A resource with one rule for one of its elements.
fn under(path: &str, settings: &str, resource: &str) -> Value {
    parsed(&apply(&ready(&configuration(&[[path, settings]], ALL_PARTIAL)), resource).unwrap())
}

/// The birth date of a patient after a method.
fn birth_date(settings: &str, date: &str) -> Option<String> {
    let patient = format!(r#"{{"resourceType":"Patient","id":"p","birthDate":"{date}"}}"#);
    under("Patient.birthDate", settings, &patient).get("birthDate").map(|date| date.as_str().unwrap().to_owned())
}

#[test]
fn redacting_leaves_the_year_unless_it_tells_an_age_over_89() {
    let redact = r#""method":"REDACT""#;
    for (date, left) in [
        ("2001-02-03", Some("2001")),
        ("2001-02", Some("2001")),
        ("2001", Some("2001")),
        // On 2026-11-21 somebody born on 1936-11-22 is 89.
        ("1936-11-22", Some("1936")),
        ("1936-11-21", None),
        ("no date", None),
        ("", None),
    ] {
        assert_eq!(birth_date(redact, date).as_deref(), left, "{date}");
    }
}

#[test]
fn redacting_leaves_ages_up_to_89() {
    for (age, is_left) in [("89", true), ("23.50", true), ("89.5", false), ("90", false), ("1e1", true)] {
        let left = under(
            "nodesByType('Age')",
            r#""method":"redact""#,
            &format!(r#"{{"resourceType":"Condition","onsetAge":{{"value":{age},"unit":"a"}}}}"#),
        );
        let expected = is_left.then(|| json!({ "value": parsed(age) }));
        assert_eq!(left.get("onsetAge"), expected.as_ref(), "{age}");
    }
}

#[test]
fn redacting_leaves_the_area_of_a_zip_code() {
    for (code, left) in [("02138", "02100"), ("03601", "00000"), ("02138-1234", "02100-0000"), ("AB1 2CD", "AB1 0CD")] {
        let address = format!(r#"{{"resourceType":"Patient","address":[{{"postalCode":"{code}","city":"X"}}]}}"#);
        assert_eq!(under("Patient.address", r#""method":"redact""#, &address)["address"], json!([{ "postalCode": left }]), "{code}");
    }
}

#[test]
fn without_the_settings_nothing_is_left() {
    let resource = r#"{"resourceType":"Patient","birthDate":"2001-02-03","address":[{"postalCode":"02138"}]}"#;
    let left = parsed(&apply(&ready(&configuration(&[["Patient", r#""method":"redact""#]], "")), resource).unwrap());
    assert_eq!(left.as_object().unwrap().keys().collect::<Vec<_>>(), ["meta", "resourceType"]);
}

#[test]
fn dates_that_tell_no_day_or_too_high_an_age_are_redacted_instead_of_shifted() {
    let shift = r#""method":"dateShift""#;
    for (date, left) in [("2001-02", Some("2001")), ("2001", Some("2001")), ("1920-02-03", None), ("1920", None)] {
        assert_eq!(birth_date(shift, date).as_deref(), left, "{date}");
    }
}

/// By the formula: 131 times what came before and the next byte, of "p" and the key "k", modulo 101, less 50.
#[test]
fn dates_move_by_the_formula_and_their_times_are_zeros() {
    let days = ((112 % 101) * 131 + 107) % 101 - 50;
    assert_eq!(days, -17);
    assert_eq!(birth_date(r#""method":"dateShift""#, "2001-02-03").as_deref(), Some("2001-01-17"));
    let resource = r#"{"resourceType":"Observation","id":"p","issued":"2015-02-18T13:28:17.12345+05:00"}"#;
    assert_eq!(under("Observation.issued", r#""method":"dateShift""#, resource)["issued"], "2015-02-01T00:00:00.00000+05:00");
}

#[test]
fn a_fixed_number_of_days_wins_over_the_key() {
    let rules = [["nodesByType('date')", r#""method":"dateShift""#]];
    let deidentifier = ready(&configuration(&rules, r#""dateShiftKey":"k","dateShiftFixedOffsetInDays":-3"#));
    let left = parsed(&apply(&deidentifier, r#"{"resourceType":"Patient","id":"p","birthDate":"2001-01-02"}"#).unwrap());
    assert_eq!(left["birthDate"], "2000-12-30");
}

#[test]
fn in_patient_scope_all_resources_of_a_patient_move_alike() {
    let rules = [["Resource.id", r#""method":"cryptoHash""#], ["nodesByType('dateTime')", r#""method":"dateShift""#]];
    let deidentifier = ready(&configuration(&rules, r#""dateShiftScope":"patient""#));
    let moved = |id: &str, patient: Option<&str>| {
        let resource = format!(r#"{{"resourceType":"Observation","id":"{id}","effectiveDateTime":"2015-02-07"}}"#);
        let mut out = Vec::new();
        deidentifier.apply(resource.as_bytes(), patient, &mut out).unwrap();
        parsed(std::str::from_utf8(&out).unwrap())["effectiveDateTime"].clone()
    };
    let days: std::collections::BTreeSet<_> = (0..20).map(|id| moved(&id.to_string(), Some("p1")).to_string()).collect();
    assert_eq!(days.len(), 1);
    // Without a patient, by the id that it came with.
    assert_eq!(moved("x", None), moved("y", Some("x")));
    assert!((0..20).any(|id| moved(&id.to_string(), None) != moved("x", Some("p1"))));
}

#[test]
fn a_decimal_keeps_the_digits_that_the_rule_asks_for() {
    let perturbed = |value: &str, settings: &str| {
        let resource = format!(r#"{{"resourceType":"Observation","valueQuantity":{{"value":{value},"unit":"kg"}}}}"#);
        let left = apply(&ready(&configuration(&[["Observation.value", settings]], "")), &resource).unwrap();
        left.split_once(r#""value":"#).unwrap().1.split_once(',').unwrap().0.to_owned()
    };
    assert_eq!(perturbed("5.234", r#""method":"perturb","span":0"#), "5.23");
    assert_eq!(perturbed("5.234", r#""method":"perturb","span":0,"roundTo":0"#), "5");
    assert_eq!(perturbed("0.1000000000000000055", r#""method":"perturb","span":0,"roundTo":28"#), "0.1000000000000000055");
    assert_eq!(perturbed("-0.001", r#""method":"perturb","span":0"#), "0.00");
    assert_eq!(perturbed("1e3", r#""method":"perturb","span":0"#), "1000");
}

#[test]
fn whole_numbers_stay_whole_and_within_their_types() {
    let settings = r#""method":"perturb","span":1000,"roundTo":5"#;
    for resource in 0..50 {
        let resource = format!(
            r#"{{"resourceType":"Observation","id":"{resource}","valueSampledData":{{"dimensions":1,"period":1}},"component":[{{"valueInteger":7}}]}}"#
        );
        let left = under("Observation.value.dimensions", settings, &resource);
        assert!(left["valueSampledData"]["dimensions"].as_u64().is_some_and(|number| number >= 1), "{left}");
        let left = under("Observation.component.value", settings, &resource);
        assert!(left["component"][0]["valueInteger"].is_i64(), "{left}");
    }
}

#[test]
fn noise_leaves_alone_what_is_no_number() {
    let resource = r#"{"resourceType":"Observation","valueQuantity":{"value":7,"unit":"kg"},"status":"final"}"#;
    let left = under("Observation", r#""method":"perturb","span":0,"roundTo":0"#, resource);
    assert_eq!((&left["valueQuantity"], &left["status"]), (&json!({ "value": 7, "unit": "kg" }), &json!("final")));
}

#[test]
fn a_ciphertext_opens_with_the_key_and_gives_the_value() {
    use aes::Aes128;
    use base64::Engine as _;
    use cbc::cipher::block_padding::Pkcs7;
    use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
    let left = under("Patient.name.family", r#""method":"encrypt""#, r#"{"resourceType":"Patient","id":"p","name":[{"family":"Ä\n\"b"}]}"#);
    let secret = base64::engine::general_purpose::STANDARD.decode(left["name"][0]["family"].as_str().unwrap()).unwrap();
    let (iv, text) = secret.split_at(16);
    let open = cbc::Decryptor::<Aes128>::new_from_slices(b"0123456789abcdef", iv).unwrap();
    assert_eq!(open.decrypt_padded_vec::<Pkcs7>(text).unwrap(), "Ä\n\"b".as_bytes());
}

#[test]
fn two_places_with_one_value_have_two_ciphertexts() {
    let left = under("Patient.name.given", r#""method":"encrypt""#, r#"{"resourceType":"Patient","id":"p","name":[{"given":["A","A"]}]}"#);
    assert_ne!(left["name"][0]["given"][0], left["name"][0]["given"][1]);
}

#[test]
fn a_value_or_a_whole_element_is_substituted() {
    let resource =
        r#"{"resourceType":"Patient","name":[{"use":"usual","family":"A","given":["B","C"]}],"active":true,"multipleBirthInteger":2}"#;
    assert_eq!(under("Patient.name.family", r#""method":"substitute","replaceWith":"X\"Y""#, resource)["name"][0]["family"], "X\"Y");
    // Values that JSON writes without quotes stay so.
    let left = under("Patient.multipleBirth | Patient.active", r#""method":"substitute","replaceWith":"0""#, resource);
    assert_eq!((&left["multipleBirthInteger"], &left["active"]), (&json!(0), &json!("0")));
    let replacement = r#""method":"substitute","replaceWith":{"family":"X","given":["Y"],"period":{"start":"2020"}}"#;
    let left = under("Patient.name", replacement, resource);
    assert_eq!(left["name"], json!([{ "family": "X", "given": ["Y"], "period": { "start": "2020" } }]));
    // The object may be written as a string; nothing takes everything away.
    let left = under("Patient.name", r#""method":"substitute","replaceWith":" {\"text\":\"X\"} ""#, resource);
    assert_eq!(left["name"], json!([{ "text": "X" }]));
    assert_eq!(under("Patient.name", r#""method":"substitute","replaceWith":null"#, resource).get("name"), None);
}

#[test]
fn what_an_earlier_rule_touched_stays_in_what_is_substituted() {
    let resource = r#"{"resourceType":"Patient","name":[{"use":"usual","family":"A","given":["B","C"]}]}"#;
    let rules = [["Patient.name.use", r#""method":"keep""#], ["Patient.name", r#""method":"substitute","replaceWith":{"family":"X"}"#]];
    let left = parsed(&apply(&ready(&configuration(&rules, "")), resource).unwrap());
    assert_eq!(left["name"], json!([{ "use": "usual", "family": "X" }]));
}

#[test]
fn an_empty_string_in_a_replacement_is_nothing() {
    let resource = r#"{"resourceType":"Patient","name":[{"use":"usual","family":"A","period":{"end":"2020"}}]}"#;
    let replacement = r#""method":"substitute","replaceWith":{"use":"","text":"X","period":{"start":"2021","end":" "}}"#;
    assert_eq!(under("Patient.name", replacement, resource)["name"], json!([{ "text": "X", "period": { "start": "2021" } }]));
}

/// The tool that the format comes from hashes what its language writes: `True`.
#[test]
fn booleans_are_hashed_with_a_capital() {
    for (boolean, text) in [("true", "True"), ("false", "False")] {
        let resource = format!(r#"{{"resourceType":"Patient","active":{boolean},"language":"{text}"}}"#);
        let left = under("Patient.active | Patient.language", r#""method":"cryptoHash""#, &resource);
        assert_eq!(left["active"], left["language"]);
        assert_eq!(left["active"].as_str().map(str::len), Some(64));
    }
}

/// They are no part of a value, neither for methods nor for conditions.
#[test]
fn blanks_around_a_value_are_nothing() {
    let patient = |code: &str| format!(r#"{{"resourceType":"Patient","id":"p","address":[{{"postalCode":"{code}","city":"B"}}]}}"#);
    for (path, settings) in [
        ("Patient.address.postalCode", r#""method":"redact""#),
        ("Patient.address.postalCode", r#""method":"cryptoHash""#),
        ("Patient.address.postalCode", r#""method":"encrypt""#),
        ("Patient.address.postalCode", r#""method":"generalize","cases":{"$this = '03601'":"$this.substring(0, 4)"}"#),
        ("Patient.address.where(postalCode = '03601')", r#""method":"redact""#),
    ] {
        assert_eq!(under(path, settings, &patient(r" 03601\n")), under(path, settings, &patient("03601")), "{path} {settings}");
    }
}

#[test]
fn the_first_case_that_holds_gives_the_new_value() {
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
        under("Patient.gender", &settings, r#"{"resourceType":"Patient","gender":"male","id":"x"}"#).get("gender").cloned()
    };
    assert_eq!(gender(r#"{"$this in ('female' | 'male')":"'known'"}"#, "redact"), Some(json!("known")));
    assert_eq!(gender(r#"{"$this = 'female'":"'f'"}"#, "keep"), Some(json!("male")));
    assert_eq!(gender(r#"{"$this = 'female'":"'f'"}"#, "Redact"), None);
    assert_eq!(gender(r#"{"$this.matches('^m')":"{}"}"#, "keep"), None);
    assert_eq!(gender(r#"{"false":"'x'", "true":"$this.upper() & '!'"}"#, "keep"), Some(json!("MALE!")));
}

/// A year and a day of it are neither before nor after each other, and a condition counts unless it is false.
#[test]
fn cases_take_what_they_cannot_tell() {
    let cases = |cases: &str| format!(r#""method":"generalize","cases":{cases}"#);
    let dates =
        cases(r#"{"$this >= @1980-01-01 and $this < @1990-01-01":"@1980","$this = @2005":"@2005-01-01","$this ~ @2015":"@2015-01-01"}"#);
    for (date, left) in [
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
        assert_eq!(birth_date(&dates, date).as_deref(), left, "{date}");
    }
    let moment = cases(
        r#"{"$this >= @1980-01-01T00:00:00Z and $this <= @1990-01-01T00:00:00+08:00":"@1980","$this = @2005-01-01T00:00:00+08:00":"@2005"}"#,
    );
    for (date, left) in [
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
            under("Observation.effective", &moment, &observation).get("effectiveDateTime"),
            left.map(Value::from).as_ref(),
            "{date}"
        );
    }
    let time = cases(r#"{"$this >= @T12:00:00 and $this < @T18:00:00":"@T12:00:00"}"#);
    for (time_of_day, left) in [("13:45:02", Some("12:00:00")), ("18:00:01", None), ("02:00:00", None)] {
        let observation = format!(r#"{{"resourceType":"Observation","valueTime":"{time_of_day}"}}"#);
        assert_eq!(under("Observation.value", &time, &observation).get("valueTime"), left.map(Value::from).as_ref(), "{time_of_day}");
    }
}

#[test]
fn values_are_computed_and_patterns_replaced() {
    let cases = |cases: &str| format!(r#""method":"generalize","cases":{cases}"#);
    let number = |settings: &str, value: &str| {
        let left = under("Observation.value", settings, &format!(r#"{{"resourceType":"Observation","valueInteger":{value}}}"#));
        left.get("valueInteger").map(Value::to_string)
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

/// As .NET reads it: digits end a group's number, and what is no group is text.
#[test]
fn a_replacement_names_groups() {
    let replaced = |pattern: &str, replacement: &str| {
        let settings = format!(
            r#""method":"generalize","cases":{{"true":"$this.replaceMatches('{pattern}', '{replacement}')"}}"#,
            pattern = pattern.replace('\\', r"\\\\")
        );
        let patient = r#"{"resourceType":"Patient","address":[{"postalCode":"98052"}]}"#;
        under("Patient.address.postalCode", &settings, patient)["address"][0]["postalCode"].as_str().unwrap().to_owned()
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
fn what_fails_says_where_and_why_and_shows_nothing() {
    let patient = r#"{"resourceType":"Patient","id":"secret","gender":"secret","name":[{"family":"secret"}]}"#;
    for (path, settings, reason) in [
        (
            "Patient.name",
            r#""method":"generalize","cases":{"true":"'x'"}"#,
            "rule 1 (generalize `Patient.name`) at Patient.name[0]: generalize works on single values only",
        ),
        (
            "Patient.gender",
            r#""method":"generalize","cases":{"$this > 5":"'x'"}"#,
            "rule 1 (generalize `Patient.gender`) at Patient.gender: the expression compares a string with an integer",
        ),
        (
            "Patient.gender",
            r#""method":"substitute","replaceWith":{"a":1}"#,
            "rule 1 (substitute `Patient.gender`) at Patient.gender: replaceWith does not fit: it is an object",
        ),
        (
            "Patient.name",
            r#""method":"substitute","replaceWith":{"secret":1}"#,
            "replaceWith does not fit: it has members that are not those of the element",
        ),
        ("Patient", r#""method":"shred""#, "rule 1 (shred `Patient`) at Patient: no such method"),
    ] {
        let failure = apply(&ready(&configuration(&[[path, settings]], "")), patient).unwrap_err();
        assert!(failure.to_string().contains(reason), "{failure}");
        assert!(!failure.to_string().contains("secret"), "{failure}");
        assert_eq!(failure.ends, DeidEnds::Job);
    }
}

#[test]
fn a_resource_that_fails_ends_the_job_or_is_emptied_or_left_out() {
    let config = |errors: &str| {
        format!(
            r#"{{"processingErrors":"{errors}","fhirPathRules":[{{"path":"Patient.gender","method":"generalize","cases":{{"$this > 5":"'x'"}}}}]}}"#
        )
    };
    let patient = br#"{"resourceType":"Patient","id":"p","gender":"male"}"#;
    let mut out = b"before".to_vec();
    assert_eq!(ready(&config("raise")).apply(patient, None, &mut out).unwrap_err().ends, DeidEnds::Job);
    assert_eq!(ready(&config("quarantine")).apply(patient, None, &mut out).unwrap_err().ends, DeidEnds::Resource);
    assert_eq!(out, b"before");
    assert!(matches!(ready(&config("skip")).apply(patient, None, &mut out).unwrap(), Applied::Emptied(_)));
    let emptied = parsed(std::str::from_utf8(&out[6..]).unwrap());
    let label = json!({ "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "REDACTED", "display": "redacted" });
    assert_eq!(emptied, json!({ "resourceType": "Patient", "meta": { "security": [label] } }));
}

#[test]
fn what_is_no_resource_of_the_version_is_refused() {
    let deep =
        format!(r#"{{"resourceType":"Questionnaire","item":{}{}}}"#, r#"[{"item":"#.repeat(200), "[]".to_owned() + &"}]".repeat(200));
    for (resource, reason) in [
        ("", "the resource is no JSON object"),
        ("[]", "the resource is no JSON object"),
        (r#"{"resourceType":"Patient","id":"p""#, "the resource is no JSON object"),
        (r#"{"id":"p"}"#, "no resourceType"),
        (r#"{"resourceType":"Secret"}"#, "no resourceType"),
        (r#"{"resourceType":"Patient","id":"p","secret":1}"#, "at Patient: there is a member that FHIR 4.0"),
        (r#"{"resourceType":"Patient","id":"p","name":"secret"}"#, "another JSON type"),
        (r#"{"resourceType":"Patient","id":"p","active":true,"active":false}"#, "a member stands there twice"),
        (deep.as_str(), "nested more than 100 times"),
    ] {
        let failure = apply(&ready(&configuration(&[], "")), resource).unwrap_err().to_string();
        assert!(failure.contains(reason), "{failure}");
        assert!(!failure.to_lowercase().contains("secret"), "{failure}");
    }
}

/// Texts as they come in names and identifiers.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![".{1,12}", "[a-zA-Z0-9.-]{1,64}"].prop_filter("blanks are no value", |text| !text.trim().is_empty())
}

fn dates() -> impl Strategy<Value = String> {
    (1940..2026, 1..=12, 1..=28).prop_map(|(year, month, day)| format!("{year:04}-{month:02}-{day:02}"))
}

fn patient(id: &str, name: &str, date: &str) -> String {
    json!({ "resourceType": "Patient", "id": id, "name": [{ "family": name }], "birthDate": date, "multipleBirthInteger": 2 }).to_string()
}

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
    /// A slice that is done again, by whatever worker, gives the same bytes; with another job it gives others.
    #[test]
    fn done_again_it_is_the_same(id in "[a-z0-9]{1,64}", name in texts(), born in dates()) {
        let config = configuration(&EVERY_METHOD, "");
        let resource = patient(&id, &name, &born);
        let once = apply(&ready(&config), &resource).unwrap();
        prop_assert_eq!(&once, &apply(&ready(&config), &resource).unwrap());
        let other = Deidentification::read(config.as_bytes(), FhirVersion::R4).unwrap().with(&JobTerms { key: [8; 32], today: TODAY });
        let other = parsed(&apply(&other, &resource).unwrap());
        prop_assert_ne!(&parsed(&once)["id"], &other["id"]);
        prop_assert_ne!(&parsed(&once)["name"], &other["name"]);
    }

    #[test]
    fn hashed_ids_and_references_still_join(id in "[A-Za-z0-9.-]{1,64}", base in select_base(), version in prop::option::of("[0-9]{1,3}")) {
        let deidentifier = ready(&configuration(&EVERY_METHOD, ""));
        let version = version.map(|version| format!("/_history/{version}")).unwrap_or_default();
        let reference = format!("{base}Patient/{id}{version}");
        let observation = json!({ "resourceType": "Observation", "id": "o", "subject": { "reference": reference } }).to_string();
        let hashed = parsed(&apply(&deidentifier, &patient(&id, "A", "2001-02-03")).unwrap())["id"].as_str().unwrap().to_owned();
        prop_assert!(hashed.len() == 64 && hashed.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let expected = format!("{base}Patient/{hashed}{version}");
        prop_assert_eq!(&parsed(&apply(&deidentifier, &observation).unwrap())["subject"]["reference"], &expected);
    }

    #[test]
    fn dates_move_by_at_most_fifty_days_and_together(id in "[a-z]{1,9}", other in "[a-z]{1,9}", one in dates(), two in dates()) {
        let deidentifier = ready(&configuration(&EVERY_METHOD, r#""dateShiftScope":"patient""#));
        let moved = |id: &str, born: &str| {
            let mut out = Vec::new();
            deidentifier.apply(patient(id, "A", born).as_bytes(), Some("p"), &mut out).unwrap();
            date(&parsed(std::str::from_utf8(&out).unwrap())["birthDate"])
        };
        let (before_one, before_two) = (date(&json!(one)), date(&json!(two)));
        let (after_one, after_two) = (moved(&id, &one), moved(&other, &two));
        prop_assert_eq!(after_one - before_one, after_two - before_two);
        prop_assert!((after_one - before_one).whole_days().abs() <= 50);
    }

    #[test]
    fn noise_stays_within_half_the_span(value in -1_000_000_i64..1_000_000, span in 0_u32..1000, places in 0_u32..6, id in "[a-z]{1,9}") {
        let written = rust_decimal::Decimal::new(value, 3);
        let settings = format!(r#""method":"perturb","span":{span},"roundTo":{places}"#);
        let resource = format!(r#"{{"resourceType":"Observation","id":"{id}","valueQuantity":{{"value":{written}}}}}"#);
        let left = apply(&ready(&configuration(&[["nodesByType('Quantity')", &settings]], "")), &resource).unwrap();
        let text = left.split_once(r#""value":"#).unwrap().1.split_once('}').unwrap().0;
        let moved: rust_decimal::Decimal = text.parse().unwrap();
        prop_assert!(moved.scale() <= places);
        // Half of the span, and what rounding adds.
        let bound = rust_decimal::Decimal::from(span) / rust_decimal::Decimal::TWO + rust_decimal::Decimal::new(5, places + 1);
        prop_assert!((moved - written).abs() <= bound, "{} {}", written, moved);
    }

    /// Done to its own result, redaction finds nothing more to do.
    #[test]
    fn what_is_redacted_is_redacted(name in texts(), born in dates(), code in "[0-9]{5}(-[0-9]{4})?") {
        let rules = [["Patient.name | Patient.birthDate | Patient.address", r#""method":"redact""#]];
        let deidentifier = ready(&configuration(&rules, ALL_PARTIAL));
        let resource = json!({ "resourceType": "Patient", "name": [{ "text": name }], "birthDate": born, "address": [{ "postalCode": code, "city": "X" }] });
        let once = apply(&deidentifier, &resource.to_string()).unwrap();
        prop_assert_eq!(parsed(&apply(&deidentifier, &once).unwrap()), parsed(&once));
    }
}

fn select_base() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "http://example.org/fhir/", "https://example.org:8443/r4/"])
}
