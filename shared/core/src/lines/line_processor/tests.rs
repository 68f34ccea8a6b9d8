use super::*;
use crate::job::Job;
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
