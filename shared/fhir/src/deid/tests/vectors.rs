//! Cases of the tool that the format comes from. They are no part of this repository; where they do not lie beside the
//! checkout, the cases of our own in the other tests are what holds the rules.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

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
        let written = apply(&ready(&config), &input);
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
