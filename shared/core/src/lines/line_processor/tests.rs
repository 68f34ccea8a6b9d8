use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::deid::DeidConfig;
use headrace_fhir::instant::Instant;

use super::*;
use crate::job::{Job, JobSecret};
use crate::lines::deid::JobDeidentifier;
use crate::patients::FrameRole;
use crate::request::ExportRequest;
use crate::vocab::clock::Millis;
use crate::vocab::ids::{Caller, JobId};
use crate::vocab::lake_settings::LakeSettings;
use crate::vocab::level::Level;

fn job(level: Level) -> Job {
    let request = ExportRequest { level, is_organized_by_patient: true, ..ExportRequest::default() };
    Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), request, Millis(0))
}

/// Returns the frames of a line: role, type, patient, line.
fn frames(line: &str, level: Level) -> Vec<(FrameRole, String, String, String)> {
    let selection = Selection::new(&job(level), &LakeSettings::default(), None, None).unwrap();
    let mut processor = LineProcessor::new(selection, ReadPass::First(ReadMode::SinglePass));
    let mut log = VersionLog::new(2);
    let LineOutput::PatientCopies(copies) = processor.process(line.as_bytes(), LinePosition::new(0, 0), &mut log) else {
        return Vec::new();
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    copies
        .frames()
        .map(|(_, frame)| (frame.role, frame.resource_type.as_str().to_owned(), frame.patient.to_owned(), text(frame.text)))
        .collect()
}

#[test]
fn a_resource_is_copied_to_each_of_its_patients_once() {
    let line = r#"{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/b"},"performer":[{"reference":"Patient/a"},{"reference":"Patient/b"}]}"#;
    let frame = |patient: &str| (FrameRole::Member, "Observation".to_owned(), patient.to_owned(), line.to_owned());
    for level in [Level::System, Level::AllPatients] {
        assert_eq!(frames(line, level), [frame("a"), frame("b")]);
    }
}

#[test]
fn a_patient_is_the_patient_of_its_own_block_and_a_member_of_the_blocks_that_it_links_to() {
    let line = r#"{"resourceType":"Patient","id":"b","link":[{"other":{"reference":"Patient/a"},"type":"seealso"}]}"#;
    let frame = |role, patient: &str| (role, "Patient".to_owned(), patient.to_owned(), line.to_owned());
    assert_eq!(frames(line, Level::System), [frame(FrameRole::Member, "a"), frame(FrameRole::Patient, "b")]);
}

#[test]
fn a_resource_without_a_patient_is_counted_but_not_written() {
    let line = r#"{"resourceType":"Practitioner","id":"d"}"#;
    assert_eq!(frames(line, Level::System), [(FrameRole::NoPatient, "Practitioner".to_owned(), String::new(), String::new())]);
}

#[test]
fn a_delete_request_that_is_not_read_loses_no_other_deletion_of_its_line() {
    let entry =
        |url: &str| format!(r#"{{"request":{{"method":"DELETE","url":"{url}"}},"response":{{"lastModified":"2026-01-16T00:00:00Z"}}}}"#);
    let line = format!(
        r#"{{"resourceType":"Bundle","type":"transaction","entry":[{},{},{}]}}"#,
        entry("Patient/1"),
        entry("Observation/o1/_history/2"),
        entry("Patient/2")
    );
    let request = ExportRequest { since: Instant::parse("2026-01-15").ok(), ..ExportRequest::default() };
    let job = Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), request, Millis(0));
    let selection = Selection::new(&job, &LakeSettings::default(), None, None).unwrap();
    let mut processor = LineProcessor::new(selection, ReadPass::First(ReadMode::SinglePass));
    let mut log = VersionLog::new(2);
    let LineOutput::Deletions(text, counts) = processor.process(line.as_bytes(), LinePosition::new(0, 0), &mut log) else {
        panic!("no deletions")
    };
    assert_eq!(counts, DeletionCounts { reported: 2, unreported: 0, unread: 1 });
    let text = std::str::from_utf8(text).unwrap();
    assert!(text.contains("Patient/1") && text.contains("Patient/2") && !text.contains("o1"), "{text}");
}

/// Returns the processor of an export of everything, de-identified or not.
fn processor(config: Option<&str>, mode: ReadMode) -> LineProcessor {
    let job = Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), ExportRequest::default(), Millis(0));
    let deid = config.map(|config| {
        let config = DeidConfig::parse(config.as_bytes(), FhirVersion::R4).unwrap();
        JobDeidentifier::new(&config, JobSecret([7; 32]), Millis(0))
    });
    let selection = Selection::new(&job, &LakeSettings::default(), None, deid).unwrap();
    LineProcessor::new(selection, ReadPass::First(mode))
}

/// Processes one line. Returns the reason if it is rejected, and the records of its version.
fn rejection(processor: &mut LineProcessor, line: &[u8]) -> (Option<String>, Vec<crate::versions::record::VersionRecord>) {
    let mut log = VersionLog::new(2);
    let output = processor.process(line, LinePosition::new(0, 0), &mut log);
    let reason = if let LineOutput::Rejected(reason) = output { Some(reason) } else { None };
    (reason, log.drain_versions().collect())
}

#[test]
fn a_line_that_is_deidentified_at_once_is_validated_like_any_other() {
    let config =
        r#"{"fhirVersion":"R4","fhirPathRules":[{"path":"Patient.name","method":"redact"},{"path":"Resource.id","method":"cryptoHash"}]}"#;
    let line = r#"{"resourceType":"Patient","id":"a","meta":{"versionId":"1","lastUpdated":"2026-01-01T00:00:00Z"},"name":[{"family":"Ames","given":["B"]}],"active":true,"multipleBirthInteger":12}"#;
    for mode in [ReadMode::SinglePass, ReadMode::Optimistic, ReadMode::TwoPass] {
        let (mut plain, mut deidentified) = (processor(None, mode), processor(Some(config), mode));
        let mut check = |line: &[u8]| {
            let expected = rejection(&mut plain, line);
            assert_eq!(rejection(&mut deidentified, line), expected, "{}", String::from_utf8_lossy(line));
            expected.0.is_some()
        };
        assert!(!check(line.as_bytes()));
        for duplicate in [r#","id":"b"}"#, r#","name":[{"family":"A","family":"B"}]}"#, r#","active":false}"#, "}}", "} x", ","] {
            assert!(check(format!("{}{duplicate}", &line[..line.len() - 1]).as_bytes()), "{duplicate}");
        }
        for at in 0..line.len() {
            assert!(check(&line.as_bytes()[..at]), "cut at {at}");
            for damage in [b'"', b'\\', b'{', b'}', b'[', b',', b':', b'0', b' ', b'\n', 0xff] {
                let mut damaged = line.as_bytes().to_vec();
                damaged[at] = damage;
                check(&damaged);
            }
        }
    }
}
