use proptest::prelude::*;

use super::*;
use crate::arbitrary::cases;

const NOW: Millis = Millis(1_769_846_400_000);

fn asked(query: &[(&str, &str)]) -> Asked {
    Asked {
        level: Level::System,
        accept: vec!["application/fhir+json".into()],
        prefer: vec!["respond-async".into()],
        parameters: query.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
    }
}

fn resolve(query: &[(&str, &str)]) -> Result<ExportRequest, Refusal> {
    ExportRequest::resolve(&asked(query), &Policy::default(), NOW)
}

fn refused(asked: &Asked) -> (u16, Option<String>) {
    let refusal = ExportRequest::resolve(asked, &Policy::default(), NOW).unwrap_err();
    (refusal.status, refusal.expression)
}

#[test]
fn a_bare_request_asks_for_everything() {
    assert_eq!(resolve(&[]), Ok(ExportRequest::default()));
}

#[test]
fn type_lists_may_be_joined_or_repeated() {
    let joined = resolve(&[("_type", "Patient,Observation")]).unwrap();
    let repeated = resolve(&[("_type", "Observation"), ("_type", "Patient")]).unwrap();
    assert_eq!(joined, repeated);
    assert_eq!(joined.types.map(|types| types.len()), Some(2));
}

#[test]
fn the_three_names_of_ndjson_are_accepted_also_with_a_lost_plus() {
    for name in ["application/fhir+ndjson", "application/fhir ndjson", "application/ndjson", "ndjson"] {
        assert!(resolve(&[("_outputFormat", name)]).is_ok(), "{name}");
    }
}

#[test]
fn what_clients_send_as_accept_is_understood() {
    for accept in
        ["application/fhir+json", "application/fhir+json, */*;q=0.1", "application/fhir+json, */*; q=0.1", "*/*", "Application/FHIR+JSON"]
    {
        let asked = Asked { accept: vec![accept.into()], ..asked(&[]) };
        assert!(ExportRequest::resolve(&asked, &Policy::default(), NOW).is_ok(), "{accept}");
    }
}

#[test]
fn an_accept_that_cannot_be_served_is_406_and_a_missing_one_400() {
    for accept in ["text/html", "application/fhir+xml", "application/fhir+json;q=0"] {
        assert_eq!(refused(&Asked { accept: vec![accept.into()], ..asked(&[]) }), (406, Some("Accept".into())), "{accept}");
    }
    assert_eq!(refused(&Asked { accept: vec![], ..asked(&[]) }), (400, Some("Accept".into())));
}

#[test]
fn prefer_may_hold_more_than_respond_async_but_not_less() {
    for prefer in [vec!["respond-async,handling=lenient"], vec!["handling=lenient", "respond-async"], vec!["Respond-Async"]] {
        let asked = Asked { prefer: prefer.iter().map(|p| (*p).into()).collect(), ..asked(&[]) };
        assert!(ExportRequest::resolve(&asked, &Policy::default(), NOW).is_ok(), "{prefer:?}");
    }
    for prefer in [vec![], vec!["handling=lenient".to_owned()], vec!["respond-asynchronously".to_owned()]] {
        assert_eq!(refused(&Asked { prefer, ..asked(&[]) }), (400, Some("Prefer".into())));
    }
}

#[test]
fn every_other_parameter_and_level_is_named_in_its_refusal() {
    for name in ["_typeFilter", "_elements", "patient", "includeAssociatedData", "_until", "_anonymizationConfig", "foo"] {
        let (status, expression) = refused(&asked(&[(name, "x")]));
        assert_eq!((status, expression.as_deref()), (400, Some(name)));
    }
    for level in [Level::AllPatients, Level::OnePatient("p".into()), Level::Group("g".into())] {
        let refusal = ExportRequest::resolve(&Asked { level, ..asked(&[]) }, &Policy::default(), NOW).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (400, IssueCode::NotSupported));
    }
}

#[test]
fn values_that_cannot_be_right_are_refused_by_name() {
    for (name, value) in [
        ("_type", "Pet"),
        ("_type", "patient"),
        ("_type", ""),
        ("_type", "Patient,,Observation"),
        ("_since", "0000-60-01T30:70:80+05:00"),
        ("_since", "yesterday"),
        ("_since", ""),
        ("_since", "2999-01-01"),
        ("_outputFormat", "application/xml"),
        ("_outputFormat", ""),
        ("_outputFormat", "text/html"),
        ("_container", ".."),
        ("_container", "../etc"),
        ("_container", "%2e%2e"),
        ("_container", "a/b"),
        ("_container", "Upper"),
        ("_container", "ab"),
        ("_container", ""),
    ] {
        let (status, expression) = refused(&asked(&[(name, value)]));
        assert_eq!((status, expression.as_deref()), (400, Some(name)), "{value}");
    }
}

#[test]
fn a_singleton_given_twice_is_refused_even_with_equal_values() {
    for (name, value) in [("_since", "2020-01-01"), ("_container", "cohort"), ("_outputFormat", "ndjson")] {
        assert_eq!(refused(&asked(&[(name, value), (name, value)])), (400, Some(name.into())));
    }
}

#[test]
fn an_allow_list_closes_all_other_containers() {
    let policy = Policy { containers: Some([Container::parse("research").unwrap()].into()) };
    let ask = |name| ExportRequest::resolve(&asked(&[("_container", name)]), &policy, NOW);
    assert!(ask("research").is_ok());
    assert_eq!(ask("other").unwrap_err().code, IssueCode::Forbidden);
}

#[test]
fn a_hostile_name_is_shown_back_short_and_printable() {
    let name = "\u{0}\n".repeat(1000);
    let refusal = resolve(&[(name.as_str(), "")]).unwrap_err();
    assert!(refusal.text.len() < 400 && !refusal.text.contains('\n'), "{}", refusal.text);
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn whatever_is_asked_is_answered_and_what_is_accepted_can_be_stored(
        headers in prop::collection::vec("application/[a-z+]{0,12}(;q=[0-9.]{0,3})?|\\PC{0,12}", 0..3),
        parameters in prop::collection::vec(
            (prop_oneof![prop::sample::select(vec!["_type", "_since", "_container", "_outputFormat"]).prop_map(str::to_owned), "\\PC{0,8}"],
             prop_oneof!["\\PC{0,40}", "(Patient|Group|,| ){1,5}", "[0-9]{4}(-[0-9]{2}){0,2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}[Z+-][0-9:]{0,5})?", "[a-z0-9-]{1,64}"]), 0..4),
        is_polite in any::<bool>(),
    ) {
        let polite = asked(&[]);
        let accept = if is_polite { polite.accept } else { headers.clone() };
        let prefer = if is_polite { polite.prefer } else { headers };
        match ExportRequest::resolve(&Asked { level: Level::System, accept, prefer, parameters }, &Policy::default(), NOW) {
            Ok(request) => {
                let stored = serde_json::to_string(&request).unwrap();
                prop_assert_eq!(serde_json::from_str::<ExportRequest>(&stored).unwrap(), request);
            }
            Err(refusal) => {
                prop_assert!((400..500).contains(&refusal.status));
                prop_assert!(!refusal.text.is_empty() && refusal.text.len() < 600, "{}", refusal.text);
            }
        }
    }
}
