//! Rejected queries and their messages.

use super::*;

fn assert_error(text: &str, expected: &str) {
    let message = query_error(text).to_string();
    assert!(message.contains(expected), "{text}: {message}");
}

// Holds: P43
#[test]
fn a_query_must_name_a_type_of_the_version() {
    for text in ["", "Patient", "active=true", "?active=true", "Patient&active=true"] {
        assert_eq!(query_error(text), QueryError::NoType, "{text}");
    }
    assert_error("Patiant?active=true", "FHIR 4.0.1 has no resource type `Patiant`");
    assert_error("patient?active=true", "`patient`");
    assert_error("Resource?_id=1", "`Resource`");
    assert_error("Transport?_id=1", "`Transport`");
    assert!(Query::parse("Transport?_id=1", FhirVersion::R5, now()).is_ok());
}

#[test]
fn an_unknown_parameter_is_reported_with_similar_ones() {
    assert_error("Patient?status=active", "Patient has no search parameter `status` in FHIR 4.0.1");
    assert_error("Observation?categry=laboratory", "similar ones are category");
    assert_error("Patient?birthDate=2020", "birthdate");
    assert_error("Patient?_ID=1", "_id");
    assert_error("Patient?qwertyuiop=1", "CapabilityStatement");
}

// Holds: P42
#[test]
fn result_parameters_are_rejected_by_name() {
    let names = [
        "_sort",
        "_count",
        "_include",
        "_revinclude",
        "_summary",
        "_elements",
        "_contained",
        "_containedType",
        "_total",
        "_score",
        "_format",
        "_pretty",
        "_include:iterate",
    ];
    for name in names {
        let error = query_error(&format!("Patient?{name}=x"));
        assert!(matches!(error, QueryError::ResultParameter { .. }), "{name}");
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
    }
}

// Holds: P43
#[test]
fn parameters_that_need_other_resources_are_rejected_by_name() {
    for name in ["_text", "_content", "_filter", "_list", "_query", "_type"] {
        assert!(matches!(query_error(&format!("Patient?{name}=x")), QueryError::NotSupported { .. }), "{name}");
        assert_error(&format!("Patient?{name}=x"), &format!("`{name}`"));
    }
    assert_error("Location?near=1|2", "`near`");
    for name in ["subject.name", "subject:Patient.name", "patient.organization.name"] {
        assert!(matches!(query_error(&format!("Observation?{name}=x")), QueryError::Chained { .. }), "{name}");
        assert_error(&format!("Observation?{name}=x"), name);
    }
    assert!(matches!(query_error("Patient?_has:Observation:patient:code=1"), QueryError::Has { .. }));
    for modifier in ["in", "not-in", "above", "below"] {
        assert_error(
            &format!("Observation?code:{modifier}=http://example.org/vs"),
            &format!("code:{modifier} needs a terminology service"),
        );
    }
}

#[test]
fn a_modifier_must_be_supported_by_the_parameter() {
    for name in
        ["code:exact", "code:of-type", "date:not", "subject:Nobody", "subject:Practitioner", "value-quantity:text", "code:", "code:NOT"]
    {
        let error = query_error(&format!("Observation?{name}=1"));
        assert!(matches!(error, QueryError::Modifier { .. }), "{name}: {error}");
    }
    assert!(matches!(query_error("Patient?gender:text=x"), QueryError::Modifier { .. }));
    assert!(matches!(query_error("Observation?code-value-quantity:missing=true"), QueryError::Modifier { .. }));
    assert_error("Observation?code:exact=1", "code has no modifier `exact`; it has `missing` and `not`");
}

#[test]
fn an_invalid_value_is_reported_by_position_and_not_quoted() {
    for (text, position, error) in [
        ("Patient?birthdate=soon", 1, ValueError::NotADate),
        ("Patient?birthdate=2020,20-01", 2, ValueError::NotADate),
        ("Patient?birthdate=ge", 1, ValueError::NotADate),
        ("Patient?birthdate=2020-02-30", 1, ValueError::NotADate),
        ("Patient?birthdate=xx2020", 1, ValueError::NotADate),
        ("RiskAssessment?probability=many", 1, ValueError::NotANumber),
        ("Observation?value-quantity=5|mg", 1, ValueError::NotAQuantity),
        ("Observation?value-quantity=mg", 1, ValueError::NotAQuantity),
        ("Observation?code=|", 1, ValueError::NotAToken),
        ("Observation?code=a|b|c", 1, ValueError::NotAToken),
        ("Observation?code=a,,b", 2, ValueError::Empty),
        ("Observation?code=a,", 2, ValueError::Empty),
        (r"Observation?code=a\b", 1, ValueError::Backslash),
        (r"Observation?code=a\", 1, ValueError::Backslash),
        ("Patient?name=Andr%E9", 1, ValueError::NotUtf8),
        ("Patient?active=yes", 1, ValueError::NotABoolean),
        ("Patient?deceased=yes", 1, ValueError::NotABoolean),
        ("Patient?active:missing=yes", 1, ValueError::NotABoolean),
        ("Patient?active:missing=true,false", 2, ValueError::OneTooMany),
        ("Patient?identifier:of-type=MR|1", 1, ValueError::NotOfType),
        ("Observation?subject=Patiant/1", 1, ValueError::NotAReference),
        ("Observation?subject:Patient=Group/1", 1, ValueError::NotAReference),
        ("Observation?subject=Patient/", 1, ValueError::NotAReference),
        ("Observation?subject=a/Patient/1", 1, ValueError::NotAReference),
        ("Observation?code-value-quantity=a", 1, ValueError::Parts(2)),
        ("Observation?code-value-quantity=a$", 1, ValueError::Parts(2)),
        ("Observation?code-value-quantity=a$1$2", 1, ValueError::Parts(2)),
        ("Observation?code-value-quantity=a$b", 1, ValueError::NotAQuantity),
    ] {
        let actual = query_error(text);
        let QueryError::Value { position: actual_position, error: actual, .. } = actual else { panic!("{text}: {actual}") };
        assert_eq!((actual_position, actual), (position, error), "{text}");
    }
    assert_error("Patient?birthdate=2020,secret", "Patient: value 2 of search parameter birthdate is not a date such as 2026");
    for text in ["Patient?birthdate=secret", "Patient?active=secret", "Observation?subject=secret/1", "Observation?code=secret|b|c"] {
        assert!(!query_error(text).to_string().contains("secret"), "{text}");
    }
}

#[test]
fn a_parameter_needs_a_value() {
    for text in ["Patient?active", "Patient?active=", "Patient?=true", "Patient?gender=male&active"] {
        assert!(matches!(query_error(text), QueryError::Form { .. }), "{text}");
    }
}

#[test]
fn a_query_beyond_the_limits_is_rejected() {
    let query = |text: &str| Query::parse(text, FhirVersion::R4, now()).map(|_| ());
    let clauses = |count: usize| format!("Patient?{}", vec!["_id=1"; count].join("&"));
    assert_eq!(query(&clauses(100)), Ok(()));
    assert_eq!(query(&clauses(101)), Err(QueryError::TooManyClauses));
    let values = |count: usize| format!("Patient?_id={}", vec!["1"; count].join(","));
    assert_eq!(query(&values(1_000)), Ok(()));
    assert_eq!(query(&values(1_001)), Err(QueryError::TooManyValues));
    let long = |count: usize| format!("Patient?name={}", "x".repeat(count - "Patient?name=".len()));
    assert_eq!(query(&long(8_192)), Ok(()));
    assert_eq!(query(&long(8_193)), Err(QueryError::TooLong));
}

#[test]
fn a_message_truncates_names_and_escapes_control_characters() {
    let message = query_error(&format!("Patient?{}\n\u{1b}[2J=1", "x".repeat(500))).to_string();
    assert!(message.len() < 300 && !message.contains('\n') && !message.contains('\u{1b}'), "{message}");
    let message = query_error("Patient?a\n\u{1b}b=1").to_string();
    assert!(message.contains(r"`a\n\u{1b}b`"), "{message}");
}
