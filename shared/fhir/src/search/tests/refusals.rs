//! What is refused, and that the message says so.

use super::*;

fn assert_refused(text: &str, said: &str) {
    let message = refusal(text).to_string();
    assert!(message.contains(said), "{text}: {message}");
}

// Holds: P43
#[test]
fn a_query_must_name_a_type_of_the_version() {
    for text in ["", "Patient", "active=true", "?active=true", "Patient&active=true"] {
        assert_eq!(refusal(text), QueryError::NoType, "{text}");
    }
    assert_refused("Patiant?active=true", "FHIR 4.0.1 has no resource type `Patiant`");
    assert_refused("patient?active=true", "`patient`");
    assert_refused("Resource?_id=1", "`Resource`");
    assert_refused("Transport?_id=1", "`Transport`");
    assert!(Query::parse("Transport?_id=1", FhirVersion::R5, now()).is_ok());
}

#[test]
fn a_parameter_that_the_type_does_not_have_is_named_with_its_likes() {
    assert_refused("Patient?status=active", "Patient has no search parameter `status` in FHIR 4.0.1");
    assert_refused("Observation?categry=laboratory", "similar ones are category");
    assert_refused("Patient?birthDate=2020", "birthdate");
    assert_refused("Patient?_ID=1", "_id");
    assert_refused("Patient?qwertyuiop=1", "CapabilityStatement");
}

// Holds: P42
#[test]
fn result_parameters_are_refused_by_name() {
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
        let refused = refusal(&format!("Patient?{name}=x"));
        assert!(matches!(refused, QueryError::ResultParameter { .. }), "{name}");
        assert!(refused.to_string().contains(&format!("`{name}`")), "{refused}");
    }
}

// Holds: P43
#[test]
fn what_one_resource_cannot_answer_is_refused_by_name() {
    for name in ["_text", "_content", "_filter", "_list", "_query", "_type"] {
        assert!(matches!(refusal(&format!("Patient?{name}=x")), QueryError::NotSupported { .. }), "{name}");
        assert_refused(&format!("Patient?{name}=x"), &format!("`{name}`"));
    }
    assert_refused("Location?near=1|2", "`near`");
    for name in ["subject.name", "subject:Patient.name", "patient.organization.name"] {
        assert!(matches!(refusal(&format!("Observation?{name}=x")), QueryError::Chained { .. }), "{name}");
        assert_refused(&format!("Observation?{name}=x"), name);
    }
    assert!(matches!(refusal("Patient?_has:Observation:patient:code=1"), QueryError::Has { .. }));
    for modifier in ["in", "not-in", "above", "below"] {
        assert_refused(
            &format!("Observation?code:{modifier}=http://example.org/vs"),
            &format!("code:{modifier} needs a terminology service"),
        );
    }
}

#[test]
fn a_modifier_must_be_one_of_the_parameters() {
    for name in
        ["code:exact", "code:of-type", "date:not", "subject:Nobody", "subject:Practitioner", "value-quantity:text", "code:", "code:NOT"]
    {
        let refused = refusal(&format!("Observation?{name}=1"));
        assert!(matches!(refused, QueryError::Modifier { .. }), "{name}: {refused}");
    }
    assert!(matches!(refusal("Patient?gender:text=x"), QueryError::Modifier { .. }));
    assert!(matches!(refusal("Observation?code-value-quantity:missing=true"), QueryError::Modifier { .. }));
    assert_refused("Observation?code:exact=1", "code has no modifier `exact`; it has `missing` and `not`");
}

#[test]
fn a_value_that_cannot_be_read_is_counted_and_not_quoted() {
    for (text, place, fault) in [
        ("Patient?birthdate=soon", 1, Fault::NotADate),
        ("Patient?birthdate=2020,20-01", 2, Fault::NotADate),
        ("Patient?birthdate=ge", 1, Fault::NotADate),
        ("Patient?birthdate=2020-02-30", 1, Fault::NotADate),
        ("Patient?birthdate=xx2020", 1, Fault::NotADate),
        ("RiskAssessment?probability=many", 1, Fault::NotANumber),
        ("Observation?value-quantity=5|mg", 1, Fault::NotAQuantity),
        ("Observation?value-quantity=mg", 1, Fault::NotAQuantity),
        ("Observation?code=|", 1, Fault::NotAToken),
        ("Observation?code=a|b|c", 1, Fault::NotAToken),
        ("Observation?code=a,,b", 2, Fault::Empty),
        ("Observation?code=a,", 2, Fault::Empty),
        (r"Observation?code=a\b", 1, Fault::Backslash),
        (r"Observation?code=a\", 1, Fault::Backslash),
        ("Patient?name=Andr%E9", 1, Fault::NotUtf8),
        ("Patient?active=yes", 1, Fault::NotABoolean),
        ("Patient?deceased=yes", 1, Fault::NotABoolean),
        ("Patient?active:missing=yes", 1, Fault::NotABoolean),
        ("Patient?active:missing=true,false", 2, Fault::OneTooMany),
        ("Patient?identifier:of-type=MR|1", 1, Fault::NotOfType),
        ("Observation?subject=Patiant/1", 1, Fault::NotAReference),
        ("Observation?subject:Patient=Group/1", 1, Fault::NotAReference),
        ("Observation?subject=Patient/", 1, Fault::NotAReference),
        ("Observation?subject=a/Patient/1", 1, Fault::NotAReference),
        ("Observation?code-value-quantity=a", 1, Fault::Parts(2)),
        ("Observation?code-value-quantity=a$", 1, Fault::Parts(2)),
        ("Observation?code-value-quantity=a$1$2", 1, Fault::Parts(2)),
        ("Observation?code-value-quantity=a$b", 1, Fault::NotAQuantity),
    ] {
        let refused = refusal(text);
        let QueryError::Value { place: found_place, fault: found, .. } = refused else { panic!("{text}: {refused}") };
        assert_eq!((found_place, found), (place, fault), "{text}");
    }
    assert_refused("Patient?birthdate=2020,secret", "Patient: value 2 of search parameter birthdate is not a date such as 2026");
    for text in ["Patient?birthdate=secret", "Patient?active=secret", "Observation?subject=secret/1", "Observation?code=secret|b|c"] {
        assert!(!refusal(text).to_string().contains("secret"), "{text}");
    }
}

#[test]
fn a_parameter_has_a_value() {
    for text in ["Patient?active", "Patient?active=", "Patient?=true", "Patient?gender=male&active"] {
        assert!(matches!(refusal(text), QueryError::Form { .. }), "{text}");
    }
}

#[test]
fn what_would_be_slow_is_refused() {
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
fn a_message_shows_little_of_a_name_and_nothing_that_moves_the_cursor() {
    let message = refusal(&format!("Patient?{}\n\u{1b}[2J=1", "x".repeat(500))).to_string();
    assert!(message.len() < 300 && !message.contains('\n') && !message.contains('\u{1b}'), "{message}");
    let message = refusal("Patient?a\n\u{1b}b=1").to_string();
    assert!(message.contains(r"`a\n\u{1b}b`"), "{message}");
}
