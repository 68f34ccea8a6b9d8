use super::*;

// Holds: P1, A6
#[test]
fn the_three_names_of_ndjson_are_accepted_also_with_a_lost_plus() {
    for name in ["application/fhir+ndjson", "application/fhir ndjson", "application/ndjson", "ndjson"] {
        assert_eq!(accepted(&[("_outputFormat", name)]), ExportRequest::default(), "{name}");
    }
}

// Holds: P2, P14, P80, P90
#[test]
fn values_that_cannot_be_right_are_refused_by_name() {
    for (name, values) in [
        ("_since", &["0000-60-01T30:70:80+05:00", "yesterday", "", "2999-01-01", "2020-01-01\0", "2020-01-01T"][..]),
        ("_until", &["", "2020-13-01", "tomorrow"]),
        ("_till", &["", "2020-02-30"]),
        ("_outputFormat", &["application/xml", "", "text/html", "x-custom", "NDJSON"]),
        ("_container", &["..", "../etc", "%2e%2e", "a/b", "Upper", "ab", "", "a\0b", "..\\..", "ａｂｃ"]),
        ("_format", &["", "xml", "application/fhir+xml", "../json", "unknown"]),
        ("organizeOutputBy", &["", "patient", "Observation", "Patient,Observation"]),
        ("allowPartialManifests", &["", "yes", "1", "True"]),
        ("_isParallel", &["", "no"]),
        ("_maxCount", &["", "0", "-1", "+5", "ten", "1.5", "99999999999999999999999"]),
    ] {
        for value in values {
            assert_eq!(refused_with(&[(name, value)]), by(name), "{name}={value}");
        }
    }
}

#[test]
fn a_singleton_given_twice_is_refused_even_with_equal_values() {
    for (name, value) in [
        ("_since", "2020-01-01"),
        ("_until", "2020-01-01"),
        ("_till", "2020-01-01"),
        ("organizeOutputBy", "Patient"),
        ("allowPartialManifests", "true"),
        ("_container", "cohort"),
        ("_outputFormat", "ndjson"),
        ("_format", "json"),
        ("_maxCount", "1"),
        ("_isParallel", "true"),
    ] {
        assert!(resolve(&asked(&[(name, value)])).is_ok(), "{name}");
        assert_eq!(refused_with(&[(name, value), (name, value)]), by(name));
    }
}

// Holds: A13
#[test]
fn till_is_another_name_of_until() {
    let until = accepted(&[("_until", "2020-01-01T00:00:00Z")]).until;
    assert_eq!(until, Instant::parse("2020").ok());
    assert_eq!(accepted(&[("_till", "2020-01-01T01:00:00+01:00")]).until, until);
    assert_eq!(accepted(&[("_till", "2020-01-01"), ("_until", "2020")]).until, until);
    assert_eq!(refused_with(&[("_till", "2020-01-01"), ("_until", "2020-01-02")]), by("_till"));
}

#[test]
fn an_interval_that_holds_no_moment_is_refused() {
    assert_eq!(refused_with(&[("_since", "2020-01-02"), ("_until", "2020-01-01")]), by("_until"));
    assert_eq!(refused_with(&[("_since", "2020-01-01"), ("_until", "2020-01-01")]), by("_until"));
    assert!(resolve(&asked(&[("_since", "2020-01-01"), ("_until", "2020-01-02")])).is_ok());
    // The export's own time bounds it then.
    assert!(resolve(&asked(&[("_until", "2999-01-01")])).is_ok());
}

// Holds: A10
#[test]
fn an_allow_list_closes_all_other_containers() {
    let policy = Policy { containers: Some([Container::parse("research").unwrap()].into()), ..Policy::default() };
    let ask = |name| ExportRequest::resolve(&asked(&[("_container", name)]), &policy, &Reach::default(), NOW);
    assert!(ask("research").is_ok());
    assert_eq!(ask("other").unwrap_err().code, IssueCode::Forbidden);
}

// Holds: A13
#[test]
fn format_is_a_layout_of_the_operator_or_fhirs_json() {
    let layouts = Layout::parse_named("by-day=<timestamp>/<id>; flat = <id>").unwrap();
    let policy = Policy { layouts, ..Policy::default() };
    let layout = |name| {
        ExportRequest::resolve(&asked(&[("_format", name)]), &policy, &Reach::default(), NOW).map(|resolved| resolved.request.layout)
    };
    assert_eq!(layout("by-day"), Ok(Layout::parse("<timestamp>/<id>")));
    assert_eq!(layout("flat"), Ok(Layout::parse("<id>")));
    for name in ["json", "application/json", "application/fhir+json", "application/fhir json"] {
        assert_eq!(layout(name), Ok(None), "{name}");
    }
    assert!(layout("weekly").unwrap_err().text.contains("by-day, flat"));
}

#[test]
fn layouts_that_cannot_hold_an_export_are_refused_with_their_text() {
    for text in ["a", "a=", "=<id>", "a=b", "a=../<id>", "a=/<id>", "a=<id>;a=<id>", "json=<id>", "a b=<id>", "a=<id>/x y"] {
        assert!(Layout::parse_named(text).is_err(), "{text}");
    }
    assert!(Layout::parse_named("a=<id>;b=nope").unwrap_err().to_string().contains("`b=nope`"));
    assert_eq!(Layout::parse_named(" ; ").unwrap().len(), 0);
}

#[test]
fn an_encryption_key_is_one_that_the_operator_offers_and_only_its_name_is_told() {
    let keys =
        "trial = arn:aws:kms:eu-central-1:111122223333:key/CANARY-1;  registry=arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-2";
    let policy = Policy { keys: JobKey::parse_named(keys).unwrap(), ..Policy::default() };
    let ask = |names: &[&str]| {
        let parameters: Vec<_> = names.iter().map(|name| ("_encryptionKey", *name)).collect();
        ExportRequest::resolve(&asked(&parameters), &policy, &Reach::default(), NOW).map(|resolved| resolved.request.encryption_key)
    };
    let arn = |name| ask(&[name]).unwrap().unwrap().arn;
    assert_eq!(arn("trial"), "arn:aws:kms:eu-central-1:111122223333:key/CANARY-1");
    assert_eq!(arn("registry"), "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-2");
    assert_eq!(ask(&[]), Ok(None));
    for names in [&["other"][..], &[""], &["Trial"], &["arn:aws:kms:eu-central-1:111122223333:key/CANARY-1"], &["trial", "trial"]] {
        let refusal = ask(names).unwrap_err();
        assert_eq!((refusal.status, refusal.expression.as_deref()), (400, Some("_encryptionKey")), "{names:?}");
        assert!(!refusal.text.contains("CANARY") && !refusal.text.contains("arn:"), "{refusal}");
    }
    assert!(ask(&["other"]).unwrap_err().text.contains("registry, trial"));
    assert!(resolve(&asked(&[("_encryptionKey", "trial")])).unwrap_err().text.contains("offers no keys"));
}

#[test]
fn keys_that_could_be_another_tomorrow_or_none_are_refused_with_their_text() {
    let key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    assert!(JobKey::parse_named(&format!("a={key};b={key}")).is_ok());
    for text in [
        "a".to_owned(),
        "a=".to_owned(),
        format!("={key}"),
        format!("a={key};a={key}"),
        format!("a b={key}"),
        format!("a={key}/x"),
        "a=1234abcd-12ab-34cd-56ef-1234567890ab".to_owned(),
        "a=arn:aws:kms:eu-central-1:111122223333:alias/trial".to_owned(),
        "a=arn:aws:kms:eu-central-1:1111:key/k".to_owned(),
        "a=arn:aws:kms::111122223333:key/k".to_owned(),
        "a=arn:aws:s3:eu-central-1:111122223333:key/k".to_owned(),
        "a=arn:aws:kms:eu-central-1:111122223333:key/".to_owned(),
    ] {
        assert!(JobKey::parse_named(&text).is_err(), "{text}");
    }
    assert!(JobKey::parse_named(&format!("a={key};b=nope")).unwrap_err().to_string().contains("`b=nope`"));
}

#[test]
fn de_identification_is_refused_and_never_forgotten() {
    for name in ["_anonymizationConfigCollectionReference", "_anonymizationConfigLocation", "_AnonymizationConfig"] {
        for prefer in ["respond-async", "respond-async, handling=lenient"] {
            assert_eq!(refused(&ask(Level::System, prefer, &[(name, "x")])), by(name));
        }
    }
}

// Holds: A12
#[test]
fn a_de_identified_export_names_its_configuration_and_a_container() {
    let resolve = |parameters: &[(&str, &str)]| {
        let asked = ask(Level::System, "respond-async, handling=lenient", parameters);
        ExportRequest::resolve(&asked, &Policy::default(), &Reach::default(), NOW).map(|resolved| resolved.request)
    };
    let asked = |tag| [("_container", "study"), ("_anonymizationConfig", "safe.json"), ("_anonymizationConfigEtag", tag)];
    for tag in ["0x8D", "\"0x8D\""] {
        let request = resolve(&asked(tag)).unwrap();
        assert_eq!(request.anonymization.unwrap().etag.as_deref(), Some("\"0x8D\""));
    }
    for (parameters, blamed) in [
        (&[("_anonymizationConfig", "safe.json")][..], "_container"),
        (&[("_container", "study"), ("_anonymizationConfigEtag", "x")], "_anonymizationConfigEtag"),
        (&[("_container", "study"), ("_anonymizationConfig", "../safe.json")], "_anonymizationConfig"),
        (&[("_container", "study"), ("_anonymizationConfig", "")], "_anonymizationConfig"),
        (&asked(""), "_anonymizationConfigEtag"),
        (&asked("a\"b"), "_anonymizationConfigEtag"),
        (&[("_container", "study"), ("_anonymizationConfig", "safe.json"), ("includeAssociatedData", "_deleted")], "includeAssociatedData"),
    ] {
        assert_eq!(resolve(parameters).unwrap_err().expression.as_deref(), Some(blamed), "{parameters:?}");
    }
}

#[test]
fn the_url_of_a_de_identified_export_is_shown_without_what_names_patients() {
    let url =
        "https://h/fhir/Patient/p-1/$export?_type=Patient&patient=Patient/p-1&_typeFilter=Patient%3Fidentifier=p-1&_since=2024&%5Ftype=p-1";
    let asked = ExportRequest { level: Level::OnePatient("p-1".into()), ..ExportRequest::default() };
    assert_eq!(asked.shown_url(url, "https://h/fhir"), url);
    let deidentified = |level| ExportRequest { level, anonymization: Some(anonymization()), ..ExportRequest::default() };
    let shown = deidentified(Level::OnePatient("p-1".into())).shown_url(url, "https://h/fhir");
    assert_eq!(shown, "https://h/fhir/Patient/-/$export?_type=Patient&_since=2024");
    let shown = deidentified(Level::Group("g-1".into())).shown_url("https://h/fhir/Group/g%2D1/$export", "https://h/fhir");
    assert_eq!(shown, "https://h/fhir/Group/-/$export");
    assert_eq!(deidentified(Level::System).shown_url("https://h/fhir/$export", "https://h/fhir"), "https://h/fhir/$export");
}
