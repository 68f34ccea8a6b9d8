//! Small lake with invalid lines among valid resources.
//!
//! `tests/samples/README.md` documents the same lines. An export must contain every valid line and report every invalid one with
//! file, byte offset and reason.

use std::path::Path;

use super::compression::{CompressedFile, Compression};
use super::{LakeError, check_is_empty};

/// Invalid line of the broken lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Path of the file, relative to the lake.
    pub file: &'static str,
    /// Byte offset of the line in the file, including a byte order mark.
    pub offset: u64,
    /// Bytes of the line, without its newline.
    pub line: Vec<u8>,
    /// Description of the defect.
    pub reason: &'static str,
}

/// Lists the lines that an export must report, in the order of files and lines.
pub fn bad_lines() -> Vec<BadLine> {
    let mut bad = Vec::new();
    for (file, lines) in FILES {
        let mut offset = 0;
        for (reason, line) in *lines {
            if *reason != GOOD && *reason != BLANK {
                bad.push(BadLine { file, offset, line: line.as_bytes().to_vec(), reason });
            }
            offset += line.len() as u64 + 1;
        }
    }
    bad
}

/// Lists the lines that must be exported byte for byte, without byte order mark and CR.
pub fn good_lines() -> Vec<Vec<u8>> {
    let lines = FILES.iter().flat_map(|(_, lines)| lines.iter());
    lines.filter(|(reason, _)| *reason == GOOD).map(|(_, line)| super::trim_line(line.as_bytes()).to_vec()).collect()
}

/// Writes the broken lake into an empty folder.
pub fn write(dir: &Path) -> Result<(), LakeError> {
    check_is_empty(dir)?;
    for (name, lines) in FILES {
        let path = dir.join(name);
        let text = lines.iter().flat_map(|(_, line)| [line, "\n"]).collect::<String>();
        let mut output = CompressedFile::create(&path, Compression::Plain).map_err(LakeError::at(&path))?;
        output.write(text.as_bytes()).map_err(LakeError::at(&path))?;
        output.close().map_err(LakeError::at(&path))?;
    }
    Ok(())
}

const GOOD: &str = "good";
const BLANK: &str = "blank";

/// Defect of a line (or [`GOOD`] or [`BLANK`]), and its text.
type TaggedLine = (&'static str, &'static str);

const FILES: &[(&str, &[TaggedLine])] =
    &[("Observation/day-1.ndjson", OBSERVATIONS), ("Patient.ndjson", PATIENTS), ("mixed.ndjson", MIXED)];

const PATIENTS: &[TaggedLine] = &[
    (GOOD, "\u{feff}{\"resourceType\":\"Patient\",\"id\":\"broken-patient-1\",\"name\":[{\"family\":\"Afterbom\"}]}"),
    (BLANK, ""),
    ("ends in the middle", r#"{"resourceType":"Patient","id":"broken-patient-2","name":[{"family":"Cutsh"#),
    (GOOD, r#"{"resourceType":"Patient","id":"broken-patient-3","gender":"unknown"}"#),
    ("an array, not an object", r#"[{"resourceType":"Patient","id":"broken-patient-4"}]"#),
    ("no id", r#"{"resourceType":"Patient","name":[{"family":"Nameless"}]}"#),
    (BLANK, " \t "),
    ("an id that is a number", r#"{"resourceType":"Patient","id":5}"#),
    ("an empty id", r#"{"resourceType":"Patient","id":""}"#),
    (GOOD, "{\"resourceType\":\"Patient\",\"id\":\"broken-patient-6\",\"active\":true}\r"),
    (BLANK, "\r"),
    ("an id only further down", r#"{"resourceType":"Patient","contact":[{"id":"broken-patient-7"}]}"#),
    (GOOD, r#"{"id":"broken-patient-8","multipleBirthInteger":1,"resourceType":"Patient"}"#),
];

const OBSERVATIONS: &[TaggedLine] = &[
    ("a comment", "# exported by hand"),
    (
        GOOD,
        r#"{"resourceType":"Observation","id":"broken-observation-1","status":"final","code":{"text":"weight"},"subject":{"reference":"Patient/broken-patient-1"},"valueQuantity":{"value":1.10}}"#,
    ),
    (
        "ends in the middle, after type and id",
        r#"{"resourceType":"Observation","id":"broken-observation-2","status":"final","code":{"text":"we"#,
    ),
    (
        "two objects on one line",
        r#"{"resourceType":"Observation","id":"broken-observation-3","status":"final"}{"resourceType":"Observation","id":"broken-observation-4","status":"final"}"#,
    ),
    (
        "resourceType twice: readers disagree which one counts",
        r#"{"resourceType":"Patient","id":"broken-observation-5","resourceType":"Observation","status":"final"}"#,
    ),
    (
        GOOD,
        r#"{"resourceType":"Observation","id":"broken-observation-6","status":"final","code":{"text":"weight"},"subject":{"reference":"Patient/broken-patient-3"},"valueQuantity":{"value":7.0}}"#,
    ),
];

const MIXED: &[TaggedLine] = &[
    ("a type that FHIR R4 does not know", r#"{"resourceType":"Watermill","id":"broken-mill-1"}"#),
    ("types are spelled with capitals", r#"{"resourceType":"patient","id":"broken-patient-9"}"#),
    ("an abstract type", r#"{"resourceType":"DomainResource","id":"broken-domain-1"}"#),
    ("no resourceType", r#"{"id":"broken-nothing-1"}"#),
    ("a resourceType only further down", r#"{"id":"broken-nothing-2","contained":[{"resourceType":"Patient","id":"p"}]}"#),
    ("a resourceType that is not a string", r#"{"resourceType":["Patient"],"id":"broken-nothing-3"}"#),
    ("a number", "42"),
    ("null", "null"),
    ("a string", r#""Patient""#),
    (GOOD, r#"{ "resourceType" : "Basic", "id" : "broken-basic-1", "code" : { "text" : "the last good line" } }"#),
    ("text behind the object", r#"{"resourceType":"Basic","id":"broken-basic-2","code":{"text":"x"}},"#),
];
