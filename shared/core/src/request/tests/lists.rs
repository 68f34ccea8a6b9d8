use super::*;

// Holds: K5, A8
#[test]
fn type_lists_may_be_joined_or_repeated() {
    let joined = accepted(&[("_type", "Patient, Observation")]);
    let repeated = accepted(&[("_type", "Observation"), ("_type", "Patient"), ("_type", "Patient")]);
    assert_eq!(joined, repeated);
    assert_eq!(joined.types, Some(kinds(&["Observation", "Patient"])));
}

#[test]
fn types_are_those_of_the_lakes_version() {
    let policy = |version| Policy { version, ..Policy::default() };
    // SubscriptionTopic came with R4B, Transport with R5; R5 dropped Media.
    for (name, r4, r4b, r5) in [
        ("SubscriptionTopic", false, true, true),
        ("Transport", false, false, true),
        ("Media", true, true, false),
        ("Patient", true, true, true),
    ] {
        for (version, is_known) in [(FhirVersion::R4, r4), (FhirVersion::R4b, r4b), (FhirVersion::R5, r5)] {
            let resolved = ExportRequest::resolve(&asked(&[("_type", name)]), &policy(version), &Reach::default(), NOW);
            assert_eq!(resolved.is_ok(), is_known, "{name} {version}");
        }
    }
}

// Holds: P32, A8
#[test]
fn what_is_no_type_is_refused_with_its_name() {
    for value in ["Pet", "patient", "DomainResource", "", "Patient,,Observation", "Patient,", "*", "Pa\0tient"] {
        assert_eq!(refused_with(&[("_type", value)]), by("_type"), "{value}");
    }
    let refusal = resolve(&asked(&[("_type", "Patient,Pet")])).unwrap_err();
    assert_eq!(refusal.code, IssueCode::NotSupported);
    assert!(refusal.text.contains("`Pet`") && refusal.text.contains("4.0.1"), "{}", refusal.text);
}

// Holds: P40, P41, A9
#[test]
fn filters_come_one_by_parameter_or_as_a_list() {
    let (one, other) = ("Observation?status=final", "Condition?clinical-status=active");
    let list = format!("{one},{other}");
    for parameters in [&[("_typeFilter", one), ("_typeFilter", other)][..], &[("_typeFilter", list.as_str())]] {
        assert_eq!(accepted(parameters).type_filters, [one, other]);
    }
}

// Holds: P45, B13
#[test]
fn a_comma_within_a_query_ends_no_query_encoded_or_not() {
    for query in ["Observation?status=final,amended", "Observation?status=final%2Camended"] {
        assert_eq!(accepted(&[("_typeFilter", query)]).type_filters, [query]);
    }
}

#[test]
fn a_filter_needs_no_type_but_must_not_contradict_it() {
    let filter = ("_typeFilter", "Observation?status=final");
    assert_eq!(accepted(&[filter]).types, None);
    assert!(resolve(&asked(&[("_type", "Patient,Observation"), filter])).is_ok());
    let refusal = resolve(&asked(&[("_type", "Patient"), filter])).unwrap_err();
    assert!(refusal.text.contains("Observation") && refusal.text.contains("_type"), "{}", refusal.text);
}

// Holds: P44, P42, P43
#[test]
fn filters_that_cannot_be_answered_are_refused() {
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
        assert_eq!(refused_with(&[("_typeFilter", query)]), by("_typeFilter"), "{query}");
    }
}

#[test]
fn a_filters_values_are_not_shown_back() {
    for query in ["Patient?birthdate=secret", "Patient?nonsense=secret", "Observation?value-quantity=secret|x"] {
        let refusal = resolve(&asked(&[("_typeFilter", query)])).unwrap_err();
        assert!(!refusal.text.contains("secret"), "{}", refusal.text);
    }
}

#[test]
fn more_filters_than_a_worker_should_match_are_too_costly() {
    let few = vec![("_typeFilter", "Patient?gender=male"); 200];
    assert_eq!(accepted(&few).type_filters.len(), 200);
    let many = vec![("_typeFilter", "Patient?gender=male"); 201];
    assert_eq!(resolve(&asked(&many)).unwrap_err().code, IssueCode::TooCostly);
    let long = format!("Patient?name={}", "x".repeat(100_000));
    assert_eq!(resolve(&asked(&[("_typeFilter", &long)])).unwrap_err().code, IssueCode::TooCostly);
}

#[test]
fn elements_are_kept_as_they_were_named() {
    let request = accepted(&[("_elements", "id, Patient.name"), ("_elements", "Observation.value")]);
    assert_eq!(request.elements, ["id", "Patient.name", "Observation.value"]);
}

// Holds: P50
#[test]
fn only_root_elements_that_exist_can_be_chosen() {
    for value in ["", "id,", "Patient.name.family", "Patient.wheels", "wheels", "Pet.name", "Patient.", ".name"] {
        assert_eq!(refused_with(&[("_elements", value)]), by("_elements"), "{value}");
    }
}

#[test]
fn lists_beyond_any_use_are_too_costly() {
    for (name, value) in [("_type", "Patient"), ("_elements", "id"), ("includeAssociatedData", "_deleted")] {
        let list = vec![value; 100_000].join(",");
        let refusal = resolve(&asked(&[(name, &list)])).unwrap_err();
        assert_eq!((refusal.status, refusal.code, refusal.expression.as_deref()), (400, IssueCode::TooCostly, Some(name)));
    }
}

#[test]
fn associated_data_is_one_of_four_values() {
    let all = "LatestProvenanceResources,RelevantProvenanceResources,_history,_deleted";
    assert_eq!(accepted(&[("includeAssociatedData", all)]).associated, BTreeSet::from(Associated::ALL));
    let repeated = accepted(&[("includeAssociatedData", "_history"), ("includeAssociatedData", "_deleted")]);
    assert_eq!(repeated.associated, [Associated::History, Associated::Deleted].into());
    for value in ["", "_custom", "latestProvenanceResources", "_history,"] {
        assert_eq!(refused_with(&[("includeAssociatedData", value)]), by("includeAssociatedData"), "{value}");
    }
}

#[test]
fn history_goes_with_no_filter_and_deletions_do() {
    let filter = ("_typeFilter", "Observation?status=final");
    assert_eq!(refused_with(&[filter, ("includeAssociatedData", "_history")]), by("includeAssociatedData"));
    assert!(resolve(&asked(&[filter, ("includeAssociatedData", "_deleted")])).is_ok());
}
