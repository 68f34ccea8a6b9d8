//! Requests of principals with restricted permissions.

use super::*;
use crate::access::{Client, ClientKeys, Scopes};
use crate::vocab::ids::Caller;

fn permissions(text: &str) -> Permissions {
    let (scopes, rejected) = Scopes::parse(text, FhirVersion::R4);
    assert!(rejected.is_empty(), "{rejected:?}");
    Permissions { scopes, ..Permissions::default() }
}

fn client() -> Client {
    Client::new(Caller("c".into()), ClientKeys::External, Scopes::Everything, Millis(0))
}

fn resolve_with(permissions: &Permissions, kick_off: &RawKickOff) -> Result<ExportRequest, RequestError> {
    ExportRequest::resolve(kick_off, &ExportPolicy::default(), permissions, NOW).map(|resolved| resolved.request)
}

/// Checks that a kick-off is rejected for insufficient scopes, and returns the text of the error.
fn out_of_scope(permissions: &Permissions, kick_off: &RawKickOff) -> String {
    let error = resolve_with(permissions, kick_off).unwrap_err();
    assert!(error.is_insufficient_scope() && error.code == IssueCode::Forbidden, "{error:?}");
    error.text
}

// Holds: P33, R1
#[test]
fn without_type_the_request_is_for_all_readable_types() {
    let some = permissions("system/Patient.rs system/Observation.rs system/Practitioner.rs");
    for level in [Level::System, Level::AllPatients, group_level()] {
        let request = resolve_with(&some, &kick_off_at(level, STRICT, &[])).unwrap();
        assert_eq!((request.types, request.scope_queries), (Some(types(&["Observation", "Patient", "Practitioner"])), vec![]));
    }
    assert_eq!(resolve_with(&permissions("system/*.rs"), &kick_off(&[])).unwrap().types, None);
    let listed = resolve_with(&some, &kick_off(&[("_type", "Patient")])).unwrap();
    assert_eq!(listed.types, Some(types(&["Patient"])));
}

#[test]
fn a_request_without_any_readable_type_is_rejected() {
    let others = permissions("system/Practitioner.rs system/Organization.rs");
    assert!(resolve_with(&others, &kick_off(&[])).is_ok());
    // Practitioners can be members.
    assert!(resolve_with(&others, &kick_off_at(group_level(), STRICT, &[])).is_ok());
    for level in [Level::AllPatients, Level::OnePatient("p".into())] {
        out_of_scope(&others, &kick_off_at(level, STRICT, &[]));
    }
    out_of_scope(&permissions(""), &kick_off(&[]));
}

// Holds: SEC-A13
#[test]
fn a_forbidden_type_is_rejected_by_name_even_under_lenient_handling() {
    let some = permissions("system/Patient.rs system/Observation.rs");
    for preferences in [STRICT, LENIENT] {
        for (parameters, words) in [
            (&[("_type", "Patient,Condition,Basic")][..], ["_type", "Basic, Condition"]),
            (&[("_typeFilter", "Condition?code=1")], ["_typeFilter", "Condition"]),
            (&[("includeAssociatedData", "RelevantProvenanceResources")], ["includeAssociatedData", "Provenance"]),
            (&[("_type", "Patient"), ("includeAssociatedData", "LatestProvenanceResources")], ["includeAssociatedData", "Provenance"]),
        ] {
            let text = out_of_scope(&some, &kick_off_at(Level::System, preferences, parameters));
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
    let many = "Account,Appointment,Basic,Binary,Bundle,Claim,Condition";
    assert!(out_of_scope(&some, &kick_off(&[("_type", many)])).contains("Account, Appointment, Basic, Binary, Bundle and 2 more"));
    let history = resolve_with(&some, &kick_off(&[("includeAssociatedData", "_history,_deleted")])).unwrap();
    assert_eq!(history.types, Some(types(&["Observation", "Patient"])));
    let unknown = resolve_with(&some, &kick_off_at(Level::System, LENIENT, &[("_type", "Dog")])).unwrap();
    assert_eq!(unknown.types, Some(types(&[])), "an unsupported type is ignored and not replaced");
}

// Holds: SEC-A12
#[test]
fn scope_queries_are_stored_with_the_request() {
    let some = permissions("system/Patient.rs system/Observation.rs?code=1 system/Observation.rs?code=2 system/Provenance.rs?_id=7");
    let scope_queries = |parameters: &[(&str, &str)]| resolve_with(&some, &kick_off(parameters)).unwrap().scope_queries;
    let (one, two, provenance) = ("Observation?code=1", "Observation?code=2", "Provenance?_id=7");
    assert_eq!(scope_queries(&[]), [one, two, provenance]);
    assert_eq!(scope_queries(&[("_type", "Patient")]), [""; 0]);
    assert_eq!(scope_queries(&[("_type", "Patient"), ("includeAssociatedData", "RelevantProvenanceResources")]), [provenance]);
    let filtered = resolve_with(&some, &kick_off(&[("_typeFilter", "Observation?status=final")])).unwrap();
    assert_eq!((filtered.type_filters, filtered.scope_queries.len()), (vec!["Observation?status=final".to_owned()], 3));
    let request = resolve_with(&some, &kick_off(&[])).unwrap();
    let stored = serde_json::to_string(&request).unwrap();
    assert_eq!(serde_json::from_str::<ExportRequest>(&stored).unwrap(), request);
    assert!(
        request.is_covered_by(&some)
            && !request.is_covered_by(&permissions("system/Patient.rs system/Observation.rs?code=1 system/Provenance.rs"))
    );
}

// Holds: K7
#[test]
fn a_client_with_groups_exports_only_those() {
    let own = Permissions { client: Some(Client { groups: Some(["g-1".into()].into()), ..client() }), ..Permissions::default() };
    assert!(resolve_with(&own, &kick_off_at(group_level(), STRICT, &[])).is_ok());
    for level in [Level::System, Level::AllPatients, Level::OnePatient("p".into()), Level::Group("g-2".into()), Level::Group("G-1".into())]
    {
        let error = resolve_with(&own, &kick_off_at(level.clone(), STRICT, &[])).unwrap_err();
        assert_eq!((error.status, error.code, error.is_insufficient_scope()), (403, IssueCode::Forbidden, false), "{level:?}");
        assert!(!ExportRequest { level, ..ExportRequest::default() }.is_covered_by(&own));
    }
    assert!(ExportRequest { level: group_level(), ..ExportRequest::default() }.is_covered_by(&own));
    let none = Permissions { client: Some(Client { groups: Some([].into()), ..client() }), ..Permissions::default() };
    assert!(resolve_with(&none, &kick_off_at(group_level(), STRICT, &[])).is_err());
}

#[test]
fn a_client_with_containers_names_only_those() {
    let containers = Container::parse("ours").into_iter().collect();
    let own = Permissions { client: Some(Client { containers: Some(containers), ..client() }), ..Permissions::default() };
    for parameters in [&[][..], &[("_container", "ours")]] {
        assert!(resolve_with(&own, &kick_off(parameters)).is_ok());
    }
    let error = resolve_with(&own, &kick_off(&[("_container", "theirs")])).unwrap_err();
    assert_eq!((error.status, error.expression.as_deref()), (403, Some("_container")));
}

fn request(names: &[&str], scope_queries: &[&str]) -> ExportRequest {
    ExportRequest {
        types: Some(types(names)),
        scope_queries: scope_queries.iter().map(ToString::to_string).collect(),
        ..ExportRequest::default()
    }
}

// Holds: SEC-A16
#[test]
fn permissions_cover_an_export_if_they_allow_everything_in_it() {
    let restricted = request(&["Patient", "Observation"], &["Observation?code=1&status=final"]);
    for text in [
        "system/*.read",
        "system/Patient.rs system/Observation.rs",
        "system/Patient.rs system/Observation.rs?code=1",
        "system/Patient.rs system/Observation.rs?status=final&code=1 system/Observation.rs?code=2",
    ] {
        assert!(restricted.is_covered_by(&permissions(text)), "{text}");
    }
    for text in [
        "",
        "system/Patient.rs",
        "system/Observation.rs",
        "system/Patient.rs?name=a system/Observation.rs",
        "system/Patient.rs system/Observation.rs?code=2",
        "system/Patient.rs system/Observation.rs?code=1&status=final&_id=7",
    ] {
        assert!(!restricted.is_covered_by(&permissions(text)), "{text}");
    }
    let whole = request(&["Observation"], &[]);
    assert!(!whole.is_covered_by(&permissions("system/Observation.rs?code=1")), "the export is not restricted by queries");
    let everything = ExportRequest::default();
    let each: String =
        ResourceType::all().filter(|kind| FhirVersion::R4.types().contains(*kind)).map(|kind| format!("system/{kind}.rs ")).collect();
    assert!(everything.is_covered_by(&permissions("system/*.rs")) && everything.is_covered_by(&permissions(&each)));
    assert!(!everything.is_covered_by(&permissions(&each.replace("system/Basic.rs ", ""))));
    for value in [AssociatedData::LatestProvenanceResources, AssociatedData::RelevantProvenanceResources] {
        let with_provenance = ExportRequest { associated_data: [value].into(), ..request(&["Patient"], &[]) };
        assert!(!with_provenance.is_covered_by(&permissions("system/Patient.rs")), "the export includes Provenance");
        assert!(with_provenance.is_covered_by(&permissions("system/Patient.rs system/Provenance.rs")));
    }
    let one_patient = ExportRequest { level: Level::OnePatient("p".into()), ..request(&["Patient"], &[]) };
    assert!(one_patient.is_covered_by(&permissions("system/Patient.rs")));
}
