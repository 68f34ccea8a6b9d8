//! The test cases of Microsoft's tool. They are not part of this repository. These tests do nothing if the cases are not
//! beside the checkout; the other tests then verify the rules.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::deid::config::{Method, Parameters, PerturbSettings};
use crate::deid::fhirpath::parse_decimal;
use crate::deid::methods::{
    AgeLimit, DateShiftKey, GeneralizedValue, Hasher, ShiftedDate, encrypt, generalize, perturb, redact, shift_date,
};
use crate::deid::primitive::PrimitiveContext;

/// Returns the folder of the cases, if it exists.
fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/anonymizer");
    folder.is_dir().then_some(folder)
}

/// Reads a file of the cases, if they exist.
fn read(name: &str) -> Option<String> {
    Some(fs::read_to_string(folder()?.join(name)).unwrap())
}

/// Returns the array in a member.
fn list<'v>(json: &'v Value, name: &str) -> &'v [Value] {
    json[name].as_array().unwrap()
}

#[test]
fn resources_are_de_identified_as_expected() {
    let Some(manifest) = read("manifest.json") else { return };
    let cases = parse_json(&manifest);
    for case in list(&cases, "cases") {
        let [input, config] = ["input", "config"].map(|name| read(case[name].as_str().unwrap()).unwrap());
        // A byte order mark belongs to the file, not to the line.
        let written = deidentify(&deidentifier(&config), input.trim_start_matches('\u{feff}'));
        match case["expected"].as_str() {
            Some(expected) => assert_eq!(parse_json(&written.unwrap()), parse_json(&read(expected).unwrap()), "{case}"),
            None => assert!(written.is_err(), "{case}"),
        }
    }
}

#[test]
fn configurations_are_accepted_or_rejected_as_expected() {
    let Some(manifest) = read("manifest.json") else { return };
    for case in list(&parse_json(&manifest), "configs") {
        let config = read(case["config"].as_str().unwrap()).unwrap();
        let result = DeidConfig::parse(config.as_bytes(), FhirVersion::R4);
        assert_eq!(result.is_ok(), case["valid"].as_bool().unwrap(), "{case} {:?}", result.err().map(|error| error.to_string()));
    }
}

/// Returns the unit vectors, if they exist.
fn vectors() -> Option<Value> {
    Some(parse_json(&read("unit/unit-vectors.json")?))
}

/// Returns the items of an array as strings.
fn texts(case: &Value) -> Vec<&str> {
    case.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Returns a hasher with a key.
fn hasher(key: &str) -> Hasher {
    Hasher::new(key.as_bytes())
}

#[test]
fn hashes_match() {
    let Some(vectors) = vectors() else { return };
    for case in list(&vectors["hmacSha256Hex"], "cases") {
        let mut hash = String::new();
        hasher("123").write_hash(texts(case)[0], &mut hash);
        assert_eq!(hash, texts(case)[1]);
    }
    // The cases contain @ID in place of the hash of the id.
    for case in list(&vectors["referenceTransform"], "cases") {
        let (reference, expected) = (texts(case)[0], texts(case)[1]);
        let (before, after) = expected.split_once("@ID").unwrap();
        let id = reference.strip_prefix(before).unwrap().strip_suffix(after).unwrap();
        let (mut hashed, mut hash) = (String::new(), String::new());
        hasher("123").write_reference_hash(reference, &mut hashed);
        hasher("123").write_hash(id, &mut hash);
        assert_eq!(hashed, expected.replace("@ID", &hash));
    }
}

#[test]
fn ciphertexts_match_for_equal_initialization_vectors() {
    let Some(vectors) = vectors() else { return };
    let aes = &vectors["aesCbcPkcs7Base64IvPrefixed"];
    for case in list(aes, "decrypt") {
        let (ciphertext, text) = (texts(case)[0], texts(case)[1]);
        let iv = *base64::Engine::decode(&base64::engine::general_purpose::STANDARD, ciphertext).unwrap().first_chunk().unwrap();
        assert_eq!(encrypt(text, aes["key"].as_str().unwrap().as_bytes(), iv).as_deref(), Some(ciphertext));
    }
}

/// Returns the context of the primitive element `element`, which has the type `type_name`, in an element of `parent_type`.
fn context_of(type_name: &str, element: &str, parent_type: &str) -> PrimitiveContext {
    let type_definitions = FhirVersion::R4.type_definitions();
    PrimitiveContext::new(type_definitions.name(type_definitions.by_name(type_name).unwrap()), element, parent_type)
}

#[test]
fn redacted_zip_codes_and_dates_match() {
    let Some(vectors) = vectors() else { return };
    let parameters = Parameters {
        keeps_partial_dates: true,
        keeps_partial_zip_codes: true,
        restricted_zip_codes: vec!["203".into(), "556".into()],
        ..Parameters::default()
    };
    for case in list(&vectors["postalCodePartial"], "cases") {
        let (kept, label) = redact(context_of("string", "postalCode", "Address"), texts(case)[0], &parameters, AgeLimit::new(TODAY, None));
        assert_eq!((kept.as_deref(), label), (Some(texts(case)[1]), SecurityLabel::Abstracted));
    }
    for case in list(&vectors["redactPartialDates"], "cases") {
        let (type_name, date) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
        let (kept, label) = redact(context_of(type_name, "x", "Period"), date, &parameters, AgeLimit::new(TODAY, None));
        assert_eq!((kept.as_deref(), label), (case[2].as_str(), SecurityLabel::Redacted), "{case}");
    }
}

#[test]
fn shifted_dates_match() {
    let Some(vectors) = vectors() else { return };
    let vectors = &vectors["dateShift"];
    let days = DateShiftKey::new(vectors["key"].as_str().unwrap()).offset_days(vectors["prefix"].as_str().unwrap());
    assert_eq!(Some(days), vectors["offsetDays"].as_i64());
    for case in list(vectors, "cases") {
        let case = texts(case);
        // A month has no day, so it is redacted instead of shifted.
        let mut shifted = String::new();
        let is_shifted = shift_date(case[1], days, AgeLimit::new(TODAY, None), &mut shifted) == ShiftedDate::Appended;
        assert_eq!(is_shifted.then_some(shifted.as_str()), Some(case[2]).filter(|_| case[1].len() > 7), "{case:?}");
    }
}

#[test]
fn generalized_values_match() {
    let Some(vectors) = vectors() else { return };
    let cases = list(&vectors["generalize"], "cases");
    for case in cases {
        let other_values = case["otherValues"].as_str().unwrap_or("redact");
        let rule = serde_json::json!({ "cases": cases[0]["expr"], "otherValues": other_values }).to_string();
        let Method::Generalize(settings) = Method::parse("generalize", JsonValue::from_valid(&rule), &mut Vec::new(), &mut Vec::new())
        else {
            panic!()
        };
        let value = case["in"].to_string();
        let out = match generalize(context_of("integer", "x", "y"), &value, &settings, EvaluationClock { today: TODAY, time: NOON }, None)
            .unwrap()
        {
            GeneralizedValue::Kept => Some(value),
            GeneralizedValue::Removed => None,
            GeneralizedValue::Mapped(json) => Some(json),
        };
        assert_eq!(out, Some(case["out"].to_string()).filter(|out| out != "null"), "{case}");
    }
}

#[test]
fn noise_stays_within_the_expected_bounds() {
    let Some(vectors) = vectors() else { return };
    for range in ["fixed", "proportional"] {
        for case in list(&vectors["perturbBounds"], range) {
            let number = |index: usize| parse_decimal(&case[index].to_string()).unwrap();
            let settings = PerturbSettings {
                span: number(2),
                is_proportional: range == "proportional",
                round_to: u32::try_from(case[3].as_u64().unwrap()).unwrap(),
            };
            for noise in [0, 1, u64::MAX / 3, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
                let moved = perturb(case[0].as_str().unwrap(), &case[1].to_string(), &settings, noise).unwrap();
                assert!((number(4)..=number(5)).contains(&parse_decimal(&moved).unwrap()), "{case}: {moved}");
            }
        }
    }
}
