//! Cases of the tool that the format comes from. They are no part of this repository; where they do not lie beside the
//! checkout, the cases of our own in the other tests are what holds the rules.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::deid::config::Parameters;
use crate::deid::encrypt::encrypt;
use crate::deid::fhirpath::decimal;
use crate::deid::generalize::{Generalized, generalize};
use crate::deid::hash::Hasher;
use crate::deid::leaf::Leaf;
use crate::deid::method::{Method, Perturb};
use crate::deid::perturb::perturb;
use crate::deid::redact::redact;
use crate::deid::shift::{ShiftKey, shift};

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/anonymizer");
    folder.is_dir().then_some(folder)
}

fn read(name: &str) -> Option<String> {
    Some(fs::read_to_string(folder()?.join(name)).unwrap())
}

fn list<'v>(json: &'v Value, name: &str) -> &'v [Value] {
    json[name].as_array().unwrap()
}

#[test]
fn resources_come_out_as_expected() {
    let Some(manifest) = read("manifest.json") else { return };
    let cases = parsed(&manifest);
    for case in list(&cases, "cases") {
        let [input, config] = ["input", "config"].map(|name| read(case[name].as_str().unwrap()).unwrap());
        // The mark at the beginning of a file is none of a line's.
        let written = apply(&ready(&config), input.trim_start_matches('\u{feff}'));
        match case["expected"].as_str() {
            Some(expected) => assert_eq!(parsed(&written.unwrap()), parsed(&read(expected).unwrap()), "{case}"),
            None => assert!(written.is_err(), "{case}"),
        }
    }
}

#[test]
fn configurations_are_taken_or_refused() {
    let Some(manifest) = read("manifest.json") else { return };
    for case in list(&parsed(&manifest), "configs") {
        let config = read(case["config"].as_str().unwrap()).unwrap();
        let result = Deidentification::read(config.as_bytes(), FhirVersion::R4);
        assert_eq!(result.is_ok(), case["valid"].as_bool().unwrap(), "{case} {:?}", result.err().map(|error| error.to_string()));
    }
}

fn vectors() -> Option<Value> {
    Some(parsed(&read("unit/unit-vectors.json")?))
}

fn texts(case: &Value) -> Vec<&str> {
    case.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn hasher(key: &str) -> Hasher {
    Hasher::new(key.as_bytes())
}

#[test]
fn hashes_are_the_same() {
    let Some(vectors) = vectors() else { return };
    for case in list(&vectors["hmacSha256Hex"], "cases") {
        let mut hash = String::new();
        hasher("123").hash(texts(case)[0], &mut hash);
        assert_eq!(hash, texts(case)[1]);
    }
    // Every id of the cases is shown as @ID: its hash has to be where that stands.
    for case in list(&vectors["referenceTransform"], "cases") {
        let (reference, expected) = (texts(case)[0], texts(case)[1]);
        let (before, after) = expected.split_once("@ID").unwrap();
        let id = reference.strip_prefix(before).unwrap().strip_suffix(after).unwrap();
        let (mut hashed, mut hash) = (String::new(), String::new());
        hasher("123").hash_reference(reference, &mut hashed);
        hasher("123").hash(id, &mut hash);
        assert_eq!(hashed, expected.replace("@ID", &hash));
    }
}

#[test]
fn ciphertexts_are_the_same_with_the_same_initialization_vector() {
    let Some(vectors) = vectors() else { return };
    let aes = &vectors["aesCbcPkcs7Base64IvPrefixed"];
    for case in list(aes, "decrypt") {
        let (secret, text) = (texts(case)[0], texts(case)[1]);
        let iv = *base64::Engine::decode(&base64::engine::general_purpose::STANDARD, secret).unwrap().first_chunk().unwrap();
        assert_eq!(encrypt(text, aes["key"].as_str().unwrap().as_bytes(), iv).as_deref(), Some(secret));
    }
}

fn leaf(type_name: &str, element: &str, parent: &str) -> Leaf {
    let structures = FhirVersion::R4.structures();
    Leaf::of(structures.name(structures.named(type_name).unwrap()), element, parent)
}

#[test]
fn zip_codes_and_dates_are_redacted_alike() {
    let Some(vectors) = vectors() else { return };
    let parameters = Parameters {
        partial_dates: true,
        partial_zip_codes: true,
        restricted_zip_codes: vec!["203".into(), "556".into()],
        ..Parameters::default()
    };
    for case in list(&vectors["postalCodePartial"], "cases") {
        let (left, label) = redact(leaf("string", "postalCode", "Address"), texts(case)[0], &parameters, TODAY);
        assert_eq!((left.as_deref(), label), (Some(texts(case)[1]), Label::Abstracted));
    }
    for case in list(&vectors["redactPartialDates"], "cases") {
        let (kind, date) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
        let (left, label) = redact(leaf(kind, "x", "Period"), date, &parameters, TODAY);
        assert_eq!((left.as_deref(), label), (case[2].as_str(), Label::Redacted), "{case}");
    }
}

#[test]
fn dates_are_shifted_alike() {
    let Some(vectors) = vectors() else { return };
    let vectors = &vectors["dateShift"];
    let days = ShiftKey::new(vectors["key"].as_str().unwrap()).days(vectors["prefix"].as_str().unwrap());
    assert_eq!(Some(days), vectors["offsetDays"].as_i64());
    for case in list(vectors, "cases") {
        let case = texts(case);
        // A month has no day to shift; that case is one of redaction.
        let shifted = shift(case[1], days, TODAY);
        assert_eq!(shifted.as_deref(), Some(case[2]).filter(|_| case[1].len() > 7), "{case:?}");
    }
}

#[test]
fn values_are_generalized_alike() {
    let Some(vectors) = vectors() else { return };
    let cases = list(&vectors["generalize"], "cases");
    for case in cases {
        let others = case["otherValues"].as_str().unwrap_or("redact");
        let rule = serde_json::json!({ "cases": cases[0]["expr"], "otherValues": others }).to_string();
        let Method::Generalize(how) = Method::read("generalize", Json::of_valid(&rule), &mut Vec::new(), &mut Vec::new()) else { panic!() };
        let value = case["in"].to_string();
        let out = match generalize(leaf("integer", "x", "y"), &value, &how, TODAY).unwrap() {
            Generalized::Kept => Some(value),
            Generalized::Removed => None,
            Generalized::Mapped(json) => Some(json),
        };
        assert_eq!(out, Some(case["out"].to_string()).filter(|out| out != "null"), "{case}");
    }
}

#[test]
fn noise_stays_within_its_bounds() {
    let Some(vectors) = vectors() else { return };
    for range in ["fixed", "proportional"] {
        for case in list(&vectors["perturbBounds"], range) {
            let number = |place: usize| decimal(&case[place].to_string()).unwrap();
            let how = Perturb {
                span: number(2),
                is_proportional: range == "proportional",
                round_to: u32::try_from(case[3].as_u64().unwrap()).unwrap(),
            };
            for chance in [0, 1, u64::MAX / 3, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
                let moved = perturb(case[0].as_str().unwrap(), &case[1].to_string(), &how, chance).unwrap();
                assert!((number(4)..=number(5)).contains(&decimal(&moved).unwrap()), "{case}: {moved}");
            }
        }
    }
}
