use super::*;

fn preferring(prefer: &[&str]) -> Asked {
    Asked { prefer: prefer.iter().map(|value| (*value).into()).collect(), ..asked(&[]) }
}

// Holds: K10, A5
#[test]
fn what_clients_send_as_accept_is_understood() {
    for accept in
        ["application/fhir+json", "application/fhir+json, */*;q=0.1", "application/fhir+json, */*; q=0.1", "*/*", "Application/FHIR+JSON"]
    {
        assert!(resolve(&Asked { accept: vec![accept.into()], ..asked(&[]) }).is_ok(), "{accept}");
    }
}

// Holds: A5, K23
#[test]
fn an_accept_that_cannot_be_served_is_406_and_a_missing_one_400() {
    for accept in ["text/html", "application/fhir+xml", "application/fhir+json;q=0"] {
        assert_eq!(refused(&Asked { accept: vec![accept.into()], ..asked(&[]) }), (406, "Accept".into()), "{accept}");
    }
    assert_eq!(refused(&Asked { accept: vec![], ..asked(&[]) }), by("Accept"));
}

// Holds: K14
#[test]
fn respond_async_is_found_wherever_it_stands() {
    for prefer in [
        &["respond-async"][..],
        &["Respond-Async"],
        &["respond-async,handling=lenient"],
        &["handling=lenient", "respond-async"],
        &["handling=strict; foo=\"a,b\" , respond-async; wait=10"],
        &["return=minimal, respond-async=\"\""],
        &["x=\"quoted, \\\" comma\", respond-async"],
    ] {
        assert!(resolve(&preferring(prefer)).is_ok(), "{prefer:?}");
    }
}

// Holds: K11, A5
#[test]
fn without_respond_async_nothing_is_started() {
    for prefer in [
        &[][..],
        &["handling=lenient"],
        &["respond-asynchronously"],
        &["x=\"respond-async\""],
        &["x=\"a, respond-async"],
        &["respond-async=no"],
    ] {
        assert_eq!(refused(&preferring(prefer)), by("Prefer"), "{prefer:?}");
    }
}

#[test]
fn handling_is_read_in_any_spelling() {
    let is_lenient = |prefer: &[&str]| {
        let asked = Asked { parameters: vec![("foo".into(), "x".into())], ..preferring(prefer) };
        resolve(&asked).is_ok()
    };
    for prefer in [
        &["respond-async, handling=lenient"][..],
        &["respond-async", "handling=lenient"],
        &["HANDLING=Lenient, respond-async"],
        &["respond-async; x=y, handling = \"lenient\"; z"],
        &["handling=lenient, respond-async, handling=lenient"],
    ] {
        assert!(is_lenient(prefer), "{prefer:?}");
    }
    for prefer in
        [&["respond-async"][..], &["respond-async, handling=strict"], &["respond-async, handling=kind"], &["respond-async, handling"]]
    {
        assert!(!is_lenient(prefer), "{prefer:?}");
    }
}

#[test]
fn strict_and_lenient_at_once_are_refused() {
    for prefer in [&["respond-async, handling=strict, handling=lenient"][..], &["respond-async, handling=lenient", "handling=strict"]] {
        assert_eq!(refused(&preferring(prefer)), by("Prefer"));
    }
}

// Holds: K13
#[test]
fn a_separate_export_status_is_asked_for_by_its_preference() {
    let separates = |prefer: &[&str]| resolve(&preferring(prefer)).unwrap().request.separates_status;
    assert!(separates(&["respond-async,separate-export-status"]));
    assert!(separates(&["Separate-Export-Status", "respond-async"]));
    assert!(!separates(&["respond-async"]));
}
