use super::*;

use crate::request::IgnoredParameter;

const DAY: &str = "2025-01-01T00:00:00Z";

struct At(Millis);

impl crate::ports::Clock for At {
    fn now(&self) -> Millis {
        self.0
    }
}

async fn precheck(
    lake: &Lake,
    level: Level,
    patients: &[&str],
    is_lenient: bool,
    time_limit: Duration,
) -> Result<Option<IgnoredParameter>, ExportError> {
    let (job, bases) = (job(), BaseUrls::any());
    let request = ExportRequest { level, patients: named(patients), ..ExportRequest::default() };
    let patients: Vec<String> = patients.iter().map(ToString::to_string).collect();
    let settings = PatientResolutionSettings { time_limit, ..PatientResolutionSettings::default() };
    let resolver = PatientResolver { job: &job, request: &request, patients: &patients, bases: &bases };
    sent(resolver.precheck(lake, (&At(NOW), NOW), settings, is_lenient)).await
}

const MINUTE: Duration = Duration::from_secs(60);

fn lake() -> Lake {
    let mut filtered = group("filtered", DAY, &["Patient/a"]);
    filtered["modifierExtension"] = json!([{
        "url": "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter",
        "valueExpression": { "language": "application/x-fhir-query", "expression": "Patient?shoe-size=12" }
    }]);
    (0..5)
        .fold(Lake::default(), |lake, at| lake.with(&format!("Patient/{at}.ndjson"), [patient(&format!("p{at}"), DAY)]))
        .with("Group.ndjson", [group("g", DAY, &["Patient/p0", "Patient/p1"]), filtered])
}

#[tokio::test]
async fn existing_groups_and_patients_are_accepted() {
    for (level, patients) in [
        (Level::System, &[][..]),
        (Level::AllPatients, &[]),
        (Level::AllPatients, &["p0", "p4"]),
        (Level::OnePatient("p3".into()), &[]),
        (Level::Group("g".into()), &[]),
        (Level::Group("g".into()), &["p1"]),
    ] {
        assert_eq!(precheck(&lake(), level, patients, false, MINUTE).await.unwrap(), None);
    }
}

#[tokio::test]
async fn unknown_groups_and_patients_are_not_found() {
    for level in [Level::OnePatient("p9".into()), Level::Group("p0".into())] {
        for is_lenient in [false, true] {
            assert!(matches!(precheck(&lake(), level.clone(), &[], is_lenient, MINUTE).await, Err(ExportError::NotFound(_))));
        }
    }
}

// Holds: P60
#[tokio::test]
async fn missing_patients_are_rejected_or_ignored_as_the_client_prefers() {
    let unknown = ["p0", "x1", "x2", "x3", "x4"];
    for (level, problem) in [(Level::Group("g".into()), "not in the group"), (Level::AllPatients, "not known here")] {
        let Err(ExportError::Rejected(error)) = precheck(&lake(), level.clone(), &unknown, false, MINUTE).await else { panic!() };
        assert_eq!((error.status, error.expression.as_deref()), (400, Some("patient")));
        let ignored = precheck(&lake(), level, &unknown, true, MINUTE).await.unwrap().unwrap();
        assert_eq!((ignored.parameter.as_str(), &ignored.text), ("patient", &error.text));
        assert_eq!(
            ignored.text,
            format!("of 5 patients named by `patient`, 4 are {problem}: Patient/x1, Patient/x2, Patient/x3 and 1 more")
        );
    }
}

#[tokio::test]
async fn a_group_with_an_unusable_filter_is_rejected() {
    let Err(ExportError::Rejected(error)) = precheck(&lake(), Level::Group("filtered".into()), &[], true, MINUTE).await else { panic!() };
    assert_eq!(error.status, 422);
    assert!(error.text.contains("shoe-size"), "{}", error.text);
}

#[tokio::test]
async fn a_resolution_that_takes_too_long_is_left_to_the_plan() {
    for level in [Level::OnePatient("p9".into()), Level::Group("p0".into()), Level::Group("filtered".into())] {
        assert_eq!(precheck(&lake(), level, &["x"], false, Duration::ZERO).await.unwrap(), None);
    }
}
