use proptest::prelude::*;

use super::*;
use crate::request::{Associated, Level};

const V: FhirVersion = FhirVersion::R4;

fn scopes(text: &str) -> Scopes {
    let (scopes, refused) = Scopes::of_text(text, V);
    assert!(refused.is_empty(), "{refused:?}");
    scopes
}

fn granted(requested: &str, registered: &str) -> Option<String> {
    Scopes::granted(requested, &scopes(registered), V).map(|granted| granted.text)
}

fn kind(name: &str) -> ResourceType {
    ResourceType::named(name).unwrap()
}

// Holds: SEC-A12
#[test]
fn what_is_asked_for_is_granted_in_its_own_syntax_and_never_to_write() {
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

/// Which the public test suite sends and must see refused.
// Holds: SEC-A14
#[test]
fn where_nothing_can_be_granted_nothing_is() {
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
fn of_a_long_list_what_is_registered_is_granted() {
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
fn never_more_is_granted_than_is_registered() {
    for (requested, registered, text) in [
        ("system/*.rs", "system/Patient.rs system/Encounter.rs", "system/Encounter.rs system/Patient.rs"),
        ("system/*.*", "system/Patient.rs", "system/Patient.read"),
        ("system/Observation.rs?code=1", "system/Observation.rs", "system/Observation.rs?code=1"),
        ("system/Observation.rs", "system/Observation.rs?code=1", "system/Observation.rs?code=1"),
        ("system/Observation.rs?code=1", "system/Observation.rs?status=final", "system/Observation.rs?code=1&status=final"),
        ("system/Observation.rs?code=1&status=final", "system/Observation.rs?code=1", "system/Observation.rs?code=1&status=final"),
        ("system/*.rs", "system/Observation.rs?code=1 system/Patient.rs", "system/Observation.rs?code=1 system/Patient.rs"),
        // The first syntax has no words for a query.
        ("system/*.read", "system/Observation.rs?code=1 system/Patient.rs", "system/Patient.read system/Observation.rs?code=1"),
    ] {
        assert_eq!(granted(requested, registered).as_deref(), Some(text), "{requested} of {registered}");
    }
    assert_eq!(Scopes::granted("system/*.rs", &Scopes::nothing(), V), None);
}

#[test]
fn the_types_are_those_of_the_lakes_version() {
    for (name, versions) in [("Transport", [false, false, true]), ("Media", [true, true, false])] {
        let allowed = FhirVersion::ALL.map(|version| Scopes::of_text(&format!("system/{name}.rs"), version).0.allow(kind(name)));
        assert_eq!(allowed, versions, "{name}");
    }
}

#[test]
fn each_scope_that_does_not_count_is_named_with_its_reason_and_without_values() {
    let text = "launch system/Dog.rs system/Patient.write system/Patient.rs?shoe-size=secret system/Patient.read?name=secret system/Patient.rs?name=a";
    let (read, refused) = Scopes::of_text(text, V);
    assert_eq!(read.to_string(), "system/Patient.rs?name=a");
    let said: Vec<String> = refused.iter().map(ToString::to_string).collect();
    for (said, words) in said.iter().zip([
        ["`launch`", "system/*.rs"],
        ["`system/Dog.rs`", "4.0.1"],
        ["`system/Patient.write`", ".rs or .read"],
        ["`system/Patient.rs`", "no search parameter `shoe-size`"],
        ["`system/Patient.read`", "queries go with one type and .rs"],
    ]) {
        assert!(words.iter().all(|word| said.contains(word)) && !said.contains("secret"), "{said}");
    }
    assert_eq!(said.len(), 5);
}

#[test]
fn what_is_too_long_or_too_much_is_not_granted() {
    let codes = |count: u32| (0..count).map(|code| format!("system/Observation.rs?code={code}")).collect::<Vec<_>>().join(" ");
    let queries = |text: &str| Scopes::of_text(text, V).0.queries_on(kind("Observation")).count();
    assert_eq!((queries(&codes(20)), queries(&codes(21))), (20, 20));
    assert_eq!(Scopes::of_text(&codes(21), V).1.len(), 1);
    // All combinations would be 400: not one of them is left out in silence.
    let tags = codes(20).replace("code=", "_tag=");
    assert_eq!(granted(&codes(20), &tags), None);
    let (asked, registered) = (format!("{} system/Patient.rs", codes(20)), format!("{tags} system/Patient.rs"));
    assert_eq!(granted(&asked, &registered).as_deref(), Some("system/Patient.rs"));

    let long = |bytes: usize| format!("system/Patient.rs?name={}", "a".repeat(bytes - "name=".len()));
    assert!(granted(&long(2_000), "system/*.rs").is_some());
    assert_eq!(granted(&long(2_001), "system/*.rs"), None);
    assert_eq!(granted(&long(2_000), "system/Patient.rs?gender=male"), None, "together they are too long");
    let many = |count: u32| format!("system/Patient.rs?{}", (0..count).map(|n| format!("name={n}&")).collect::<String>());
    assert!(granted(&many(50), "system/*.rs").is_some());
    assert_eq!(granted(&many(51), "system/*.rs"), None);
    assert_eq!(granted(&format!("system/Patient.rs {}", " ".repeat(16 << 10)), "system/*.rs"), None);
}

fn request(types: &[&str], limits: &[&str]) -> ExportRequest {
    ExportRequest {
        types: Some(types.iter().map(|name| kind(name)).collect()),
        limits: limits.iter().map(ToString::to_string).collect(),
        ..ExportRequest::default()
    }
}

// Holds: SEC-A16
#[test]
fn a_credential_covers_an_export_if_it_allows_all_that_this_one_holds() {
    let part = request(&["Patient", "Observation"], &["Observation?code=1&status=final"]);
    for text in [
        "system/*.read",
        "system/Patient.rs system/Observation.rs",
        "system/Patient.rs system/Observation.rs?code=1",
        "system/Patient.rs system/Observation.rs?status=final&code=1 system/Observation.rs?code=2",
    ] {
        assert!(scopes(text).cover(&part), "{text}");
    }
    for text in [
        "",
        "system/Patient.rs",
        "system/Observation.rs",
        "system/Patient.rs?name=a system/Observation.rs",
        "system/Patient.rs system/Observation.rs?code=2",
        "system/Patient.rs system/Observation.rs?code=1&status=final&_id=7",
    ] {
        assert!(!scopes(text).cover(&part), "{text}");
    }
    let whole = request(&["Observation"], &[]);
    assert!(!scopes("system/Observation.rs?code=1").cover(&whole), "no limit was set");
    let everything = ExportRequest::default();
    let each: String = ResourceType::all().filter(|kind| V.types().contains(*kind)).map(|kind| format!("system/{kind}.rs ")).collect();
    assert!(scopes("system/*.rs").cover(&everything) && scopes(&each).cover(&everything));
    assert!(!scopes(&each.replace("system/Basic.rs ", "")).cover(&everything));
    for associated in [Associated::LatestProvenanceResources, Associated::RelevantProvenanceResources] {
        let with = ExportRequest { associated: [associated].into(), ..request(&["Patient"], &[]) };
        assert!(!scopes("system/Patient.rs").cover(&with), "Provenance comes along");
        assert!(scopes("system/Patient.rs system/Provenance.rs").cover(&with));
    }
    let one = ExportRequest { level: Level::OnePatient("p".into()), ..request(&["Patient"], &[]) };
    assert!(scopes("system/Patient.rs").cover(&one));
}

/// Registrations are kept for years.
#[test]
fn the_stored_form_stays_what_it_is() {
    for (scopes, stored) in [
        (Scopes::Everything, r#""everything""#),
        (Scopes::nothing(), r#"{"only":{}}"#),
        (
            scopes("system/Patient.rs system/Observation.rs?code=2 system/Observation.rs?code=1"),
            r#"{"only":{"Observation":["code=1","code=2"],"Patient":[]}}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&scopes).unwrap(), stored);
        assert_eq!(serde_json::from_str::<Scopes>(stored).unwrap(), scopes);
    }
    // Written by hand, in no order and twice.
    let untidy: Scopes = serde_json::from_str(r#"{"only":{"Observation":["status=final&code=1","code=1"]}}"#).unwrap();
    assert_eq!(untidy.and(&untidy).to_string(), "system/Observation.rs?code=1");
}

#[test]
fn a_query_that_a_later_deployment_cannot_enforce_allows_nothing() {
    let stored: Scopes = serde_json::from_str(r#"{"only":{"Patient":["gender=male","shoe-size=12"],"Media":[],"Basic":[]}}"#).unwrap();
    let now = Instant::from_millis(0);
    let is_readable = |name, version| stored.filters_on(kind(name), version, now).is_some();
    assert_eq!([is_readable("Patient", V), is_readable("Basic", V), is_readable("Observation", V)], [false, true, false]);
    assert_eq!([is_readable("Media", V), is_readable("Media", FhirVersion::R5)], [true, false]);
}

const KINDS: [&str; 3] = ["Basic", "Observation", "Patient"];
const PARAMETERS: [&str; 3] = ["_id=1", "_tag=t", "_lastUpdated=gt2020"];

/// What one scope allows, read the plain way: whether a resource that meets these of [`PARAMETERS`] may be read.
fn allows(text: &str, name: &str, met: u8) -> bool {
    text.split(' ').any(|word| {
        let (scope, query) = word.split_once('?').unwrap_or((word, ""));
        let is_about = ["*", name].iter().any(|name| [".rs", ".read"].iter().any(|action| scope == format!("system/{name}{action}")));
        let is_met = |parameter: &str| PARAMETERS.iter().position(|known| *known == parameter).is_some_and(|at| met >> at & 1 == 1);
        is_about && query.split('&').filter(|parameter| !parameter.is_empty()).all(is_met)
    })
}

fn word() -> impl Strategy<Value = String> {
    let plain = (prop::sample::select(&KINDS), any::<bool>())
        .prop_map(|(name, first)| format!("system/{name}.{}", if first { "read" } else { "rs" }));
    let parameters = prop::collection::vec(prop::sample::select(&PARAMETERS), 1..4);
    let narrow = (prop::sample::select(&KINDS), parameters).prop_map(|(name, query)| format!("system/{name}.rs?{}", query.join("&")));
    let wild = prop::sample::select(&["system/*.read", "system/*.rs", "launch", "system/Patient.write", "system/Basic.c"]);
    prop_oneof![3 => plain, 6 => narrow, 1 => wild.prop_map(str::to_owned)]
}

fn words() -> impl Strategy<Value = String> {
    prop::collection::vec(word(), 0..6).prop_map(|words| words.join(" "))
}

/// Every resource that the scopes of these tests can tell from another.
fn resources() -> impl Iterator<Item = (&'static str, u8)> {
    KINDS.into_iter().flat_map(|name| (0..8).map(move |met| (name, met)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_both_sides_allow_is_granted_no_more_and_no_less(requested in words(), registered in words()) {
        let known = Scopes::of_text(&registered, V).0;
        let granted = Scopes::granted(&requested, &known, V);
        let text = granted.as_ref().map_or("", |granted| &granted.text);
        for (name, met) in resources() {
            prop_assert_eq!(allows(text, name, met), allows(&requested, name, met) && allows(&registered, name, met), "{} {}", text, name);
        }
        if let Some(granted) = granted {
            prop_assert_eq!(Scopes::granted(&granted.text, &known, V), Some(granted.clone()));
            prop_assert_eq!(&Scopes::of_text(&granted.text, V).0, &granted.scopes);
            prop_assert_eq!(&granted.scopes.and(&known), &granted.scopes);
            let asks_first = requested.contains(".read");
            prop_assert!(asks_first || !granted.text.contains(".read"));
        }
    }

    #[test]
    fn scopes_are_what_they_say_and_meet_in_any_order(one in words(), other in words()) {
        let (here, there) = (Scopes::of_text(&one, V).0, Scopes::of_text(&other, V).0);
        prop_assert_eq!(&here.and(&there), &there.and(&here));
        prop_assert_eq!(&Scopes::of_text(&here.to_string(), V).0, &here);
        for (name, met) in resources() {
            prop_assert_eq!(allows(&here.to_string(), name, met), allows(&one, name, met));
            prop_assert_eq!(allows(&here.and(&there).to_string(), name, met), allows(&one, name, met) && allows(&other, name, met));
        }
    }

    /// What an export was limited to is covered by whatever allows no less.
    #[test]
    fn an_export_is_covered_by_what_allows_all_of_it(limits in words(), shown in words()) {
        let (held, shown_scopes) = (Scopes::of_text(&limits, V).0, Scopes::of_text(&shown, V).0);
        for name in KINDS {
            let limits_of: Vec<String> = held.queries_on(kind(name)).map(|query| format!("{name}?{query}")).collect();
            let request = ExportRequest { limits: limits_of, ..request(&[name], &[]) };
            if held.allow(kind(name)) {
                let allows_all = (0..8).all(|met| allows(&shown, name, met) || !allows(&limits, name, met));
                prop_assert_eq!(shown_scopes.cover(&request), allows_all, "{} by {}", limits, shown);
            }
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(system/|\\PC){0,4}(Patient|\\*)?[.?&=a-z %\\\\]{0,9}\\PC{0,9}") {
        let (read, _) = Scopes::of_text(&text, V);
        prop_assert_eq!(&Scopes::of_text(&read.to_string(), V).0, &read);
    }
}
