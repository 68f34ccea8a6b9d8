use super::*;

// Holds: K5, A8
#[test]
fn types_can_be_listed_or_repeated() {
    let joined = resolved(&[("_type", "Patient, Observation")]);
    let repeated = resolved(&[("_type", "Observation"), ("_type", "Patient"), ("_type", "Patient")]);
    assert_eq!(joined, repeated);
    assert_eq!(joined.types, Some(types(&["Observation", "Patient"])));
}

#[test]
fn types_are_those_of_the_lakes_fhir_version() {
    let policy = |version| ExportPolicy { version, ..ExportPolicy::default() };
    // SubscriptionTopic came with R4B, Transport with R5; R5 dropped Media.
    for (name, r4, r4b, r5) in [
        ("SubscriptionTopic", false, true, true),
        ("Transport", false, false, true),
        ("Media", true, true, false),
        ("Patient", true, true, true),
    ] {
        for (version, is_known) in [(FhirVersion::R4, r4), (FhirVersion::R4b, r4b), (FhirVersion::R5, r5)] {
            let resolved = ExportRequest::resolve(&kick_off(&[("_type", name)]), &policy(version), &Permissions::default(), NOW);
            assert_eq!(resolved.is_ok(), is_known, "{name} {version}");
        }
    }
}

// Holds: P32, A8
#[test]
fn an_unknown_type_is_rejected_by_name() {
    for value in ["Pet", "patient", "DomainResource", "", "Patient,,Observation", "Patient,", "*", "Pa\0tient"] {
        assert_eq!(rejection_of(&[("_type", value)]), bad_request("_type"), "{value}");
    }
    let error = resolve(&kick_off(&[("_type", "Patient,Pet")])).unwrap_err();
    assert_eq!(error.code, IssueCode::NotSupported);
    assert!(error.text.contains("`Pet`") && error.text.contains("4.0.1"), "{}", error.text);
}

// Holds: P40, P41, A9
#[test]
fn filters_can_be_repeated_or_listed() {
    let (one, other) = ("Observation?status=final", "Condition?clinical-status=active");
    let list = format!("{one},{other}");
    for parameters in [&[("_typeFilter", one), ("_typeFilter", other)][..], &[("_typeFilter", list.as_str())]] {
        assert_eq!(resolved(parameters).type_filters, [one, other]);
    }
}

// Holds: P45, B13
#[test]
fn a_comma_inside_a_query_does_not_end_it() {
    for query in ["Observation?status=final,amended", "Observation?status=final%2Camended"] {
        assert_eq!(resolved(&[("_typeFilter", query)]).type_filters, [query]);
    }
}

#[test]
fn a_filter_does_not_need_type_but_must_not_contradict_it() {
    let filter = ("_typeFilter", "Observation?status=final");
    assert_eq!(resolved(&[filter]).types, None);
    assert!(resolve(&kick_off(&[("_type", "Patient,Observation"), filter])).is_ok());
    let error = resolve(&kick_off(&[("_type", "Patient"), filter])).unwrap_err();
    assert!(error.text.contains("Observation") && error.text.contains("_type"), "{}", error.text);
}

// Holds: P44, P42, P43
#[test]
fn unsupported_filters_are_rejected() {
    for query in [
        "Patient?status=active",
        "Patient?_sort=name",
        "Patient?_elements=id",
        "Observation?patient.name=x",
        "Patient?_has:Observation:patient:code=1",
        "Observation?code:in=http://example.org/vs",
        "Observation?date=soon",
        "Observation?status",
        "Pet?name=x",
        "status=final",
        "?status=final",
        "",
    ] {
        assert_eq!(rejection_of(&[("_typeFilter", query)]), bad_request("_typeFilter"), "{query}");
    }
}

#[test]
fn errors_do_not_quote_the_values_of_a_filter() {
    for query in ["Patient?birthdate=secret", "Patient?nonsense=secret", "Observation?value-quantity=secret|x"] {
        let error = resolve(&kick_off(&[("_typeFilter", query)])).unwrap_err();
        assert!(!error.text.contains("secret"), "{}", error.text);
    }
}

#[test]
fn too_many_or_too_long_filters_are_too_costly() {
    let few = vec![("_typeFilter", "Patient?gender=male"); 200];
    assert_eq!(resolved(&few).type_filters.len(), 200);
    let many = vec![("_typeFilter", "Patient?gender=male"); 201];
    assert_eq!(resolve(&kick_off(&many)).unwrap_err().code, IssueCode::TooCostly);
    let long = format!("Patient?name={}", "x".repeat(100_000));
    assert_eq!(resolve(&kick_off(&[("_typeFilter", &long)])).unwrap_err().code, IssueCode::TooCostly);
}

#[test]
fn elements_are_kept_as_written() {
    let request = resolved(&[("_elements", "id, Patient.name"), ("_elements", "Observation.value")]);
    assert_eq!(request.elements, ["id", "Patient.name", "Observation.value"]);
}

// Holds: P50
#[test]
fn only_existing_root_elements_are_accepted() {
    for value in ["", "id,", "Patient.name.family", "Patient.wheels", "wheels", "Pet.name", "Patient.", ".name"] {
        assert_eq!(rejection_of(&[("_elements", value)]), bad_request("_elements"), "{value}");
    }
}

#[test]
fn excessively_long_lists_are_too_costly() {
    for (name, value) in [("_type", "Patient"), ("_elements", "id"), ("includeAssociatedData", "_deleted")] {
        let list = vec![value; 100_000].join(",");
        let error = resolve(&kick_off(&[(name, &list)])).unwrap_err();
        assert_eq!((error.status, error.code, error.expression.as_deref()), (400, IssueCode::TooCostly, Some(name)));
    }
}

#[test]
fn associated_data_has_four_values() {
    let all = "LatestProvenanceResources,RelevantProvenanceResources,_history,_deleted";
    assert_eq!(resolved(&[("includeAssociatedData", all)]).associated_data, BTreeSet::from(AssociatedData::ALL));
    let repeated = resolved(&[("includeAssociatedData", "_history"), ("includeAssociatedData", "_deleted")]);
    assert_eq!(repeated.associated_data, [AssociatedData::History, AssociatedData::Deleted].into());
    for value in ["", "_custom", "latestProvenanceResources", "_history,"] {
        assert_eq!(rejection_of(&[("includeAssociatedData", value)]), bad_request("includeAssociatedData"), "{value}");
    }
}

#[test]
fn history_excludes_filters_and_deletions_do_not() {
    let filter = ("_typeFilter", "Observation?status=final");
    assert_eq!(rejection_of(&[filter, ("includeAssociatedData", "_history")]), bad_request("includeAssociatedData"));
    assert!(resolve(&kick_off(&[filter, ("includeAssociatedData", "_deleted")])).is_ok());
}
