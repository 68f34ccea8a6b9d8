use super::*;

use crate::request::IgnoredParameter;

const DAY: &str = "2025-01-01T00:00:00Z";

struct At(Millis);

impl crate::ports::Clock for At {
    fn now(&self) -> Millis {
        self.0
    }
}

async fn first_look(
    lake: &Lake,
    level: Level,
    patients: &[&str],
    is_lenient: bool,
    patience: Duration,
) -> Result<Option<IgnoredParameter>, ExportError> {
    let (job, bases) = (job(), Bases::any());
    let request = ExportRequest { level, patients: named(patients), ..ExportRequest::default() };
    let patients: Vec<String> = patients.iter().map(ToString::to_string).collect();
    let terms = LookUpTerms { patience, ..LookUpTerms::default() };
    let subjects = Subjects { job: &job, request: &request, patients: &patients, bases: &bases };
    sent(subjects.first_look(lake, &At(NOW), terms, is_lenient)).await
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
async fn what_is_there_is_accepted() {
    for (level, patients) in [
        (Level::System, &[][..]),
        (Level::AllPatients, &[]),
        (Level::AllPatients, &["p0", "p4"]),
        (Level::OnePatient("p3".into()), &[]),
        (Level::Group("g".into()), &[]),
        (Level::Group("g".into()), &["p1"]),
    ] {
        assert_eq!(first_look(&lake(), level, patients, false, MINUTE).await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    for level in [Level::OnePatient("p9".into()), Level::Group("p0".into())] {
        for is_lenient in [false, true] {
            assert!(matches!(first_look(&lake(), level.clone(), &[], is_lenient, MINUTE).await, Err(ExportError::NotFound(_))));
        }
    }
}

// Holds: P60
#[tokio::test]
async fn strangers_are_refused_or_left_out_as_the_client_prefers() {
    let strangers = ["p0", "x1", "x2", "x3", "x4"];
    for (level, place) in [(Level::Group("g".into()), "not in the group"), (Level::AllPatients, "not known here")] {
        let Err(ExportError::Refused(refusal)) = first_look(&lake(), level.clone(), &strangers, false, MINUTE).await else { panic!() };
        assert_eq!((refusal.status, refusal.expression.as_deref()), (400, Some("patient")));
        let told = first_look(&lake(), level, &strangers, true, MINUTE).await.unwrap().unwrap();
        assert_eq!((told.parameter.as_str(), &told.text), ("patient", &refusal.text));
        assert_eq!(told.text, format!("of 5 patients named by `patient`, 4 are {place}: Patient/x1, Patient/x2, Patient/x3 and 1 more"));
    }
}

#[tokio::test]
async fn a_group_with_a_filter_that_cannot_be_used_is_refused() {
    let Err(ExportError::Refused(refusal)) = first_look(&lake(), Level::Group("filtered".into()), &[], true, MINUTE).await else {
        panic!()
    };
    assert_eq!(refusal.status, 422);
    assert!(refusal.text.contains("shoe-size"), "{}", refusal.text);
}

#[tokio::test]
async fn what_cannot_be_seen_in_time_is_left_to_the_plan() {
    for level in [Level::OnePatient("p9".into()), Level::Group("p0".into()), Level::Group("filtered".into())] {
        assert_eq!(first_look(&lake(), level, &["x"], false, Duration::ZERO).await.unwrap(), None);
    }
}
