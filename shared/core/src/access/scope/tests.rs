use headrace_fhir::definitions::{FhirVersion, ResourceType};
use headrace_fhir::instant::Instant;
use proptest::prelude::*;

use super::*;

const V: FhirVersion = FhirVersion::R4;

fn scopes(text: &str) -> Scopes {
    let (scopes, rejected) = Scopes::parse(text, V);
    assert!(rejected.is_empty(), "{rejected:?}");
    scopes
}

fn granted(requested: &str, registered: &str) -> Option<String> {
    Scopes::grant(requested, &scopes(registered), V).map(|granted| granted.text)
}

fn resource_type(name: &str) -> ResourceType {
    ResourceType::parse(name).unwrap()
}

// Holds: SEC-A12
#[test]
fn scopes_are_granted_in_the_requested_syntax_and_never_for_writing() {
    for (requested, text) in [
        ("system/Patient.read", "system/Patient.read"),
        ("system/Patient.rs", "system/Patient.rs"),
        ("system/Patient.*", "system/Patient.read"),
        ("system/Patient.cruds", "system/Patient.rs"),
        ("system/Patient.crus system/Patient.rds", "system/Patient.rs"),
        ("system/*.*", "system/*.read"),
        ("system/*.read", "system/*.read"),
        ("system/*.cruds", "system/*.rs"),
        ("system/Patient.rs system/Patient.read", "system/Patient.read system/Patient.rs"),
        ("system/*.read system/Patient.rs", "system/*.read system/Patient.rs"),
        ("system/Patient.read system/Patient.read system/Patient.write", "system/Patient.read"),
        ("openid fhirUser launch system/Patient.rs", "system/Patient.rs"),
        ("  system/Observation.rs\tsystem/Patient.rs ", "system/Observation.rs system/Patient.rs"),
        ("system/Observation.rs?category=laboratory", "system/Observation.rs?category=laboratory"),
        ("system/Observation.rs?status=final&code=1&&status=final", "system/Observation.rs?code=1&status=final"),
        ("system/Observation.rs?code=1 system/Observation.rs?code=1&status=final", "system/Observation.rs?code=1"),
        ("system/Observation.rs?code=2 system/Observation.rs?code=1", "system/Observation.rs?code=1 system/Observation.rs?code=2"),
        ("system/Observation.rs?code=2 system/Observation.rs", "system/Observation.rs"),
    ] {
        assert_eq!(granted(requested, "system/*.rs").as_deref(), Some(text), "{requested}");
    }
}

// The public test suite sends some of these scopes and expects them to be rejected.
// Holds: SEC-A14
#[test]
fn unsupported_scopes_are_not_granted() {
    let writes = ["c", "cu", "cud", "u", "ud", "d", "r", "s", "cr", "sr", "rr", "ruc", "xyz", "write", "", "Read", "rs.read"];
    let writes: Vec<String> = writes.iter().map(|action| format!("system/Patient.{action}")).collect();
    let others = [
        "",
        " ",
        "launch fhirUser",
        "openid",
        "offline_access",
        "patient/Patient.read user/*.rs patient/*.*",
        "system/UnknownResource.read",
        "system/patient.read",
        "system/Patient",
        "system/.read",
        "system/*",
        "system/",
        "System/Patient.read",
        "system/*.write",
        "system/*.cud",
        "system/Transport.rs",
        "system/Patient.read?gender=male",
        "system/*.rs?_lastUpdated=gt2020",
        "system/Patient.rs?",
        "system/Patient.rs?&",
        "system/Patient.rs?gender",
        "system/Patient.rs?shoe-size=12",
        "system/Patient.rs?gender:in=http://example.org/some",
        "system/Patient.rs?organization.name=a",
        "system/Patient.rs?_has:Observation:patient:code=1",
        "system/Patient.rs?_filter=a",
        "system/Patient.rs?name=\"a\"",
        "system/Patient.rs?name=\u{e4}",
        "system/Patient.rs?birthdate=soon",
    ];
    for requested in writes.iter().map(String::as_str).chain(others) {
        assert_eq!(granted(requested, "system/*.rs"), None, "{requested}");
    }
}

// Holds: SEC-A14
#[test]
fn the_registered_part_of_a_long_list_is_granted() {
    let asked = "AllergyIntolerance Binary CarePlan CareTeam Condition Device DiagnosticReport DocumentReference Encounter Immunization Location \
                 Medication MedicationDispense MedicationRequest Observation Organization Patient Practitioner PractitionerRole Procedure \
                 ServiceRequest";
    let each: Vec<String> = asked.split_ascii_whitespace().map(|name| format!("system/{name}.read")).collect();
    assert_eq!(each.len(), 21);
    assert_eq!(granted(&each.join(" "), "system/*.rs"), Some(each.join(" ")));
    assert_eq!(
        granted(&each.join(" "), "system/Patient.rs system/Binary.rs system/Basic.rs").as_deref(),
        Some("system/Binary.read system/Patient.read")
    );
    assert_eq!(granted(&each.join(" "), "system/Basic.rs"), None);
}

// Holds: SEC-A11
#[test]
fn never_more_than_the_registered_scopes_is_granted() {
    for (requested, registered, text) in [
        ("system/*.rs", "system/Patient.rs system/Encounter.rs", "system/Encounter.rs system/Patient.rs"),
        ("system/*.*", "system/Patient.rs", "system/Patient.read"),
        ("system/Observation.rs?code=1", "system/Observation.rs", "system/Observation.rs?code=1"),
        ("system/Observation.rs", "system/Observation.rs?code=1", "system/Observation.rs?code=1"),
        ("system/Observation.rs?code=1", "system/Observation.rs?status=final", "system/Observation.rs?code=1&status=final"),
        ("system/Observation.rs?code=1&status=final", "system/Observation.rs?code=1", "system/Observation.rs?code=1&status=final"),
        ("system/*.rs", "system/Observation.rs?code=1 system/Patient.rs", "system/Observation.rs?code=1 system/Patient.rs"),
        // SMART 1.0 syntax cannot express a query.
        ("system/*.read", "system/Observation.rs?code=1 system/Patient.rs", "system/Patient.read system/Observation.rs?code=1"),
    ] {
        assert_eq!(granted(requested, registered).as_deref(), Some(text), "{requested} of {registered}");
    }
    assert_eq!(Scopes::grant("system/*.rs", &Scopes::none(), V), None);
}

#[test]
fn types_depend_on_the_fhir_version() {
    for (name, versions) in [("Transport", [false, false, true]), ("Media", [true, true, false])] {
        let allowed =
            FhirVersion::ALL.map(|version| Scopes::parse(&format!("system/{name}.rs"), version).0.allows_type(resource_type(name)));
        assert_eq!(allowed, versions, "{name}");
    }
}

#[test]
fn each_rejected_scope_is_reported_with_its_reason_and_without_values() {
    let text = "launch system/Dog.rs system/Patient.write system/Patient.rs?shoe-size=secret system/Patient.read?name=secret system/Patient.rs?name=a";
    let (parsed, rejected) = Scopes::parse(text, V);
    assert_eq!(parsed.to_string(), "system/Patient.rs?name=a");
    let texts: Vec<String> = rejected.iter().map(ToString::to_string).collect();
    for (text, words) in texts.iter().zip([
        ["`launch`", "system/*.rs"],
        ["`system/Dog.rs`", "4.0.1"],
        ["`system/Patient.write`", ".rs or .read"],
        ["`system/Patient.rs`", "no search parameter `shoe-size`"],
        ["`system/Patient.read`", "a query needs a scope of one type that ends in .rs"],
    ]) {
        assert!(words.iter().all(|word| text.contains(word)) && !text.contains("secret"), "{text}");
    }
    assert_eq!(texts.len(), 5);
}

#[test]
fn scopes_beyond_the_limits_are_not_granted() {
    let codes = |count: u32| (0..count).map(|code| format!("system/Observation.rs?code={code}")).collect::<Vec<_>>().join(" ");
    let queries = |text: &str| Scopes::parse(text, V).0.queries_for(resource_type("Observation")).count();
    assert_eq!((queries(&codes(20)), queries(&codes(21))), (20, 20));
    assert_eq!(Scopes::parse(&codes(21), V).1.len(), 1);
    // All combinations would be 400 queries. The type is then not granted at all, instead of in part.
    let tags = codes(20).replace("code=", "_tag=");
    assert_eq!(granted(&codes(20), &tags), None);
    let (requested, registered) = (format!("{} system/Patient.rs", codes(20)), format!("{tags} system/Patient.rs"));
    assert_eq!(granted(&requested, &registered).as_deref(), Some("system/Patient.rs"));

    let long = |bytes: usize| format!("system/Patient.rs?name={}", "a".repeat(bytes - "name=".len()));
    assert!(granted(&long(2_000), "system/*.rs").is_some());
    assert_eq!(granted(&long(2_001), "system/*.rs"), None);
    assert_eq!(granted(&long(2_000), "system/Patient.rs?gender=male"), None, "together they are too long");
    let many = |count: u32| format!("system/Patient.rs?{}", (0..count).map(|n| format!("name={n}&")).collect::<String>());
    assert!(granted(&many(50), "system/*.rs").is_some());
    assert_eq!(granted(&many(51), "system/*.rs"), None);
    assert_eq!(granted(&format!("system/Patient.rs {}", " ".repeat(16 << 10)), "system/*.rs"), None);
}

/// Registrations are stored for years, so their form must not change.
#[test]
fn the_stored_form_is_stable() {
    for (scopes, stored) in [
        (Scopes::Everything, r#""everything""#),
        (Scopes::none(), r#"{"only":{}}"#),
        (
            scopes("system/Patient.rs system/Observation.rs?code=2 system/Observation.rs?code=1"),
            r#"{"only":{"Observation":["code=1","code=2"],"Patient":[]}}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&scopes).unwrap(), stored);
        assert_eq!(serde_json::from_str::<Scopes>(stored).unwrap(), scopes);
    }
    // A form that was written by hand: not sorted, with a redundant query.
    let stored: Scopes = serde_json::from_str(r#"{"only":{"Observation":["status=final&code=1","code=1"]}}"#).unwrap();
    assert_eq!(stored.intersection(&stored).to_string(), "system/Observation.rs?code=1");
}

#[test]
fn a_query_that_cannot_be_enforced_any_more_allows_nothing() {
    let stored: Scopes = serde_json::from_str(r#"{"only":{"Patient":["gender=male","shoe-size=12"],"Media":[],"Basic":[]}}"#).unwrap();
    let now = Instant::from_millis(0);
    let is_readable = |name, version| stored.type_filters(resource_type(name), version, now).is_some();
    assert_eq!([is_readable("Patient", V), is_readable("Basic", V), is_readable("Observation", V)], [false, true, false]);
    assert_eq!([is_readable("Media", V), is_readable("Media", FhirVersion::R5)], [true, false]);
}

const KINDS: [&str; 3] = ["Basic", "Observation", "Patient"];
const PARAMETERS: [&str; 3] = ["_id=1", "_tag=t", "_lastUpdated=gt2020"];

/// Returns true if the scopes allow to read a resource of the type that matches the set `matched` of [`PARAMETERS`], a bit each.
/// An independent, simple implementation to compare with.
fn allows(text: &str, name: &str, matched: u8) -> bool {
    text.split(' ').any(|word| {
        let (scope, query) = word.split_once('?').unwrap_or((word, ""));
        let is_about = ["*", name].iter().any(|name| [".rs", ".read"].iter().any(|action| scope == format!("system/{name}{action}")));
        let is_matched = |parameter: &str| PARAMETERS.iter().position(|known| *known == parameter).is_some_and(|at| matched >> at & 1 == 1);
        is_about && query.split('&').filter(|parameter| !parameter.is_empty()).all(is_matched)
    })
}

fn word() -> impl Strategy<Value = String> {
    let plain = (prop::sample::select(&KINDS), any::<bool>())
        .prop_map(|(name, is_v1)| format!("system/{name}.{}", if is_v1 { "read" } else { "rs" }));
    let parameters = prop::collection::vec(prop::sample::select(&PARAMETERS), 1..4);
    let narrow = (prop::sample::select(&KINDS), parameters).prop_map(|(name, query)| format!("system/{name}.rs?{}", query.join("&")));
    let wild = prop::sample::select(&["system/*.read", "system/*.rs", "launch", "system/Patient.write", "system/Basic.c"]);
    prop_oneof![3 => plain, 6 => narrow, 1 => wild.prop_map(str::to_owned)]
}

fn words() -> impl Strategy<Value = String> {
    prop::collection::vec(word(), 0..6).prop_map(|words| words.join(" "))
}

/// Iterates over all resources that the scopes of these tests can distinguish.
fn resources() -> impl Iterator<Item = (&'static str, u8)> {
    KINDS.into_iter().flat_map(|name| (0..8).map(move |matched| (name, matched)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn exactly_the_intersection_of_both_sides_is_granted(requested in words(), registered in words()) {
        let known = Scopes::parse(&registered, V).0;
        let granted = Scopes::grant(&requested, &known, V);
        let text = granted.as_ref().map_or("", |granted| &granted.text);
        for (name, matched) in resources() {
            prop_assert_eq!(allows(text, name, matched), allows(&requested, name, matched) && allows(&registered, name, matched), "{} {}", text, name);
        }
        if let Some(granted) = granted {
            prop_assert_eq!(Scopes::grant(&granted.text, &known, V), Some(granted.clone()));
            prop_assert_eq!(&Scopes::parse(&granted.text, V).0, &granted.scopes);
            prop_assert_eq!(&granted.scopes.intersection(&known), &granted.scopes);
            let requests_v1 = requested.contains(".read");
            prop_assert!(requests_v1 || !granted.text.contains(".read"));
        }
    }

    #[test]
    fn scopes_round_trip_and_intersection_is_commutative(one in words(), other in words()) {
        let (left, right) = (Scopes::parse(&one, V).0, Scopes::parse(&other, V).0);
        prop_assert_eq!(&left.intersection(&right), &right.intersection(&left));
        prop_assert_eq!(&Scopes::parse(&left.to_string(), V).0, &left);
        for (name, matched) in resources() {
            prop_assert_eq!(allows(&left.to_string(), name, matched), allows(&one, name, matched));
            prop_assert_eq!(allows(&left.intersection(&right).to_string(), name, matched), allows(&one, name, matched) && allows(&other, name, matched));
        }
    }

    // Scopes cover the queries of a type exactly if they allow every resource that matches one of the queries.
    #[test]
    fn scopes_cover_queries_exactly_if_they_allow_all_matches(required in words(), offered in words()) {
        let (required_scopes, offered_scopes) = (Scopes::parse(&required, V).0, Scopes::parse(&offered, V).0);
        for name in KINDS.into_iter().filter(|name| required_scopes.allows_type(resource_type(name))) {
            let queries = required_scopes.queries_for(resource_type(name)).map(str::to_owned).collect();
            let allows_all = (0..8).all(|matched| allows(&offered, name, matched) || !allows(&required, name, matched));
            prop_assert_eq!(offered_scopes.covers(resource_type(name), &queries), allows_all, "{} by {}", required, offered);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(system/|\\PC){0,4}(Patient|\\*)?[.?&=a-z %\\\\]{0,9}\\PC{0,9}") {
        let (parsed, _) = Scopes::parse(&text, V);
        prop_assert_eq!(&Scopes::parse(&parsed.to_string(), V).0, &parsed);
    }
}
