//! Requests of visitors who may not read everything.

use super::*;
use crate::access::{Client, ClientKeys, Scopes};
use crate::vocab::ids::Caller;

fn reach(text: &str) -> Reach {
    let (scopes, refused) = Scopes::of_text(text, FhirVersion::R4);
    assert!(refused.is_empty(), "{refused:?}");
    Reach { scopes, client: None }
}

fn client() -> Client {
    Client::new(Caller("c".into()), ClientKeys::Elsewhere, Scopes::Everything, Millis(0))
}

fn within(reach: &Reach, asked: &Asked) -> Result<ExportRequest, Refusal> {
    ExportRequest::resolve(asked, &Policy::default(), reach, NOW).map(|resolved| resolved.request)
}

/// What is refused for want of scopes, and what the client is told.
fn out_of_scope(reach: &Reach, asked: &Asked) -> String {
    let refusal = within(reach, asked).unwrap_err();
    assert!(refusal.is_of_scopes() && refusal.code == IssueCode::Forbidden, "{refusal:?}");
    refusal.text
}

// Holds: P33, R1
#[test]
fn without_type_the_request_is_for_exactly_what_may_be_read() {
    let some = reach("system/Patient.rs system/Observation.rs system/Practitioner.rs");
    for level in [Level::System, Level::AllPatients, group()] {
        let request = within(&some, &ask(level, "respond-async", &[])).unwrap();
        assert_eq!((request.types, request.limits), (Some(kinds(&["Observation", "Patient", "Practitioner"])), vec![]));
    }
    assert_eq!(within(&reach("system/*.rs"), &asked(&[])).unwrap().types, None);
    let listed = within(&some, &asked(&[("_type", "Patient")])).unwrap();
    assert_eq!(listed.types, Some(kinds(&["Patient"])));
}

#[test]
fn where_nothing_may_be_read_that_the_level_holds_the_request_is_refused() {
    let others = reach("system/Practitioner.rs system/Organization.rs");
    assert!(within(&others, &asked(&[])).is_ok());
    // Practitioners can be members.
    assert!(within(&others, &ask(group(), "respond-async", &[])).is_ok());
    for level in [Level::AllPatients, Level::OnePatient("p".into())] {
        out_of_scope(&others, &ask(level, "respond-async", &[]));
    }
    out_of_scope(&reach(""), &asked(&[]));
}

// Holds: SEC-A13
#[test]
fn a_type_that_may_not_be_read_is_refused_by_name_under_lenient_handling_too() {
    let some = reach("system/Patient.rs system/Observation.rs");
    for prefer in ["respond-async", "respond-async, handling=lenient"] {
        for (parameters, words) in [
            (&[("_type", "Patient,Condition,Basic")][..], ["_type", "Basic, Condition"]),
            (&[("_typeFilter", "Condition?code=1")], ["_typeFilter", "Condition"]),
            (&[("includeAssociatedData", "RelevantProvenanceResources")], ["includeAssociatedData", "Provenance"]),
            (&[("_type", "Patient"), ("includeAssociatedData", "LatestProvenanceResources")], ["includeAssociatedData", "Provenance"]),
        ] {
            let text = out_of_scope(&some, &ask(Level::System, prefer, parameters));
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
    let many = "Account,Appointment,Basic,Binary,Bundle,Claim,Condition";
    assert!(out_of_scope(&some, &asked(&[("_type", many)])).contains("Account, Appointment, Basic, Binary, Bundle and 2 more"));
    let history = within(&some, &asked(&[("includeAssociatedData", "_history,_deleted")])).unwrap();
    assert_eq!(history.types, Some(kinds(&["Observation", "Patient"])));
    let unknown = within(&some, &ask(Level::System, "respond-async, handling=lenient", &[("_type", "Dog")])).unwrap();
    assert_eq!(unknown.types, Some(kinds(&[])), "what is not supported is left out, and nothing comes in its place");
}

// Holds: SEC-A12
#[test]
fn what_scopes_say_of_single_types_is_kept_with_the_request() {
    let some = reach("system/Patient.rs system/Observation.rs?code=1 system/Observation.rs?code=2 system/Provenance.rs?_id=7");
    let limits = |parameters: &[(&str, &str)]| within(&some, &asked(parameters)).unwrap().limits;
    let (one, two, provenance) = ("Observation?code=1", "Observation?code=2", "Provenance?_id=7");
    assert_eq!(limits(&[]), [one, two, provenance]);
    assert_eq!(limits(&[("_type", "Patient")]), [""; 0]);
    assert_eq!(limits(&[("_type", "Patient"), ("includeAssociatedData", "RelevantProvenanceResources")]), [provenance]);
    let filtered = within(&some, &asked(&[("_typeFilter", "Observation?status=final")])).unwrap();
    assert_eq!((filtered.type_filters, filtered.limits.len()), (vec!["Observation?status=final".to_owned()], 3));
    let request = within(&some, &asked(&[])).unwrap();
    let stored = serde_json::to_string(&request).unwrap();
    assert_eq!(serde_json::from_str::<ExportRequest>(&stored).unwrap(), request);
    assert!(some.covers(&request) && !reach("system/Patient.rs system/Observation.rs?code=1 system/Provenance.rs").covers(&request));
}

// Holds: K7
#[test]
fn a_client_of_some_groups_exports_those_and_nothing_else() {
    let own = Reach { client: Some(Client { groups: Some(["g-1".into()].into()), ..client() }), ..Reach::default() };
    assert!(within(&own, &ask(group(), "respond-async", &[])).is_ok());
    for level in [Level::System, Level::AllPatients, Level::OnePatient("p".into()), Level::Group("g-2".into()), Level::Group("G-1".into())]
    {
        let refusal = within(&own, &ask(level.clone(), "respond-async", &[])).unwrap_err();
        assert_eq!((refusal.status, refusal.code, refusal.is_of_scopes()), (403, IssueCode::Forbidden, false), "{level:?}");
        assert!(!own.covers(&ExportRequest { level, ..ExportRequest::default() }));
    }
    assert!(own.covers(&ExportRequest { level: group(), ..ExportRequest::default() }));
    let none = Reach { client: Some(Client { groups: Some([].into()), ..client() }), ..Reach::default() };
    assert!(within(&none, &ask(group(), "respond-async", &[])).is_err());
}

#[test]
fn a_client_of_some_containers_names_those_or_none() {
    let containers = Container::parse("ours").into_iter().collect();
    let own = Reach { client: Some(Client { containers: Some(containers), ..client() }), ..Reach::default() };
    for parameters in [&[][..], &[("_container", "ours")]] {
        assert!(within(&own, &asked(parameters)).is_ok());
    }
    let refusal = within(&own, &asked(&[("_container", "theirs")])).unwrap_err();
    assert_eq!((refusal.status, refusal.expression.as_deref()), (403, Some("_container")));
}
