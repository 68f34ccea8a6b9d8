use super::*;

// Holds: P1, A6
#[test]
fn all_names_of_ndjson_are_accepted_even_with_a_space_for_the_plus() {
    for name in ["application/fhir+ndjson", "application/fhir ndjson", "application/ndjson", "ndjson"] {
        assert_eq!(resolved(&[("_outputFormat", name)]), ExportRequest::default(), "{name}");
    }
}

// Holds: P2, P14, P80, P90
#[test]
fn invalid_values_are_rejected_by_parameter_name() {
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
            assert_eq!(rejection_of(&[(name, value)]), bad_request(name), "{name}={value}");
        }
    }
}

#[test]
fn a_repeated_single_value_is_rejected_even_if_equal() {
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
        assert!(resolve(&kick_off(&[(name, value)])).is_ok(), "{name}");
        assert_eq!(rejection_of(&[(name, value), (name, value)]), bad_request(name));
    }
}

// Holds: A13
#[test]
fn till_is_an_alias_of_until() {
    let until = resolved(&[("_until", "2020-01-01T00:00:00Z")]).until;
    assert_eq!(until, Instant::parse("2020").ok());
    assert_eq!(resolved(&[("_till", "2020-01-01T01:00:00+01:00")]).until, until);
    assert_eq!(resolved(&[("_till", "2020-01-01"), ("_until", "2020")]).until, until);
    assert_eq!(rejection_of(&[("_till", "2020-01-01"), ("_until", "2020-01-02")]), bad_request("_till"));
}

#[test]
fn an_empty_interval_is_rejected() {
    assert_eq!(rejection_of(&[("_since", "2020-01-02"), ("_until", "2020-01-01")]), bad_request("_until"));
    assert_eq!(rejection_of(&[("_since", "2020-01-01"), ("_until", "2020-01-01")]), bad_request("_until"));
    assert!(resolve(&kick_off(&[("_since", "2020-01-01"), ("_until", "2020-01-02")])).is_ok());
    // The transaction time is the upper limit then.
    assert!(resolve(&kick_off(&[("_until", "2999-01-01")])).is_ok());
}

// Holds: A10
#[test]
fn configured_containers_exclude_all_others() {
    let policy = ExportPolicy { containers: Some([Container::parse("research").unwrap()].into()), ..ExportPolicy::default() };
    let resolve_with = |name| ExportRequest::resolve(&kick_off(&[("_container", name)]), &policy, &Permissions::default(), NOW);
    assert!(resolve_with("research").is_ok());
    assert_eq!(resolve_with("other").unwrap_err().code, IssueCode::Forbidden);
}

// Holds: A13
#[test]
fn format_is_a_configured_layout_or_fhir_json() {
    let layouts = FolderLayout::parse_list("by-day=<timestamp>/<id>; flat = <id>").unwrap();
    let policy = ExportPolicy { layouts, ..ExportPolicy::default() };
    let layout = |name| {
        ExportRequest::resolve(&kick_off(&[("_format", name)]), &policy, &Permissions::default(), NOW)
            .map(|resolved| resolved.request.layout)
    };
    assert_eq!(layout("by-day"), Ok(FolderLayout::parse("<timestamp>/<id>")));
    assert_eq!(layout("flat"), Ok(FolderLayout::parse("<id>")));
    for name in ["json", "application/json", "application/fhir+json", "application/fhir json"] {
        assert_eq!(layout(name), Ok(None), "{name}");
    }
    assert!(layout("weekly").unwrap_err().text.contains("by-day, flat"));
}

#[test]
fn invalid_layouts_are_rejected_with_their_text() {
    for text in ["a", "a=", "=<id>", "a=b", "a=../<id>", "a=/<id>", "a=<id>;a=<id>", "json=<id>", "a b=<id>", "a=<id>/x y"] {
        assert!(FolderLayout::parse_list(text).is_err(), "{text}");
    }
    assert!(FolderLayout::parse_list("a=<id>;b=nope").unwrap_err().to_string().contains("`b=nope`"));
    assert_eq!(FolderLayout::parse_list(" ; ").unwrap().len(), 0);
}

#[test]
fn an_encryption_key_is_a_configured_one_and_its_arn_is_not_revealed() {
    let keys =
        "trial = arn:aws:kms:eu-central-1:111122223333:key/CANARY-1;  registry=arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-2";
    let policy = ExportPolicy { keys: EncryptionKey::parse_list(keys).unwrap(), ..ExportPolicy::default() };
    let resolve_with = |names: &[&str]| {
        let parameters: Vec<_> = names.iter().map(|name| ("_encryptionKey", *name)).collect();
        ExportRequest::resolve(&kick_off(&parameters), &policy, &Permissions::default(), NOW)
            .map(|resolved| resolved.request.encryption_key)
    };
    let arn = |name| resolve_with(&[name]).unwrap().unwrap().arn;
    assert_eq!(arn("trial"), "arn:aws:kms:eu-central-1:111122223333:key/CANARY-1");
    assert_eq!(arn("registry"), "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-2");
    assert_eq!(resolve_with(&[]), Ok(None));
    for names in [&["other"][..], &[""], &["Trial"], &["arn:aws:kms:eu-central-1:111122223333:key/CANARY-1"], &["trial", "trial"]] {
        let error = resolve_with(names).unwrap_err();
        assert_eq!((error.status, error.expression.as_deref()), (400, Some("_encryptionKey")), "{names:?}");
        assert!(!error.text.contains("CANARY") && !error.text.contains("arn:"), "{error}");
    }
    assert!(resolve_with(&["other"]).unwrap_err().text.contains("registry, trial"));
    assert!(resolve(&kick_off(&[("_encryptionKey", "trial")])).unwrap_err().text.contains("offers no keys"));
}

#[test]
fn aliases_and_invalid_keys_are_rejected_with_their_text() {
    let key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    assert!(EncryptionKey::parse_list(&format!("a={key};b={key}")).is_ok());
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
        assert!(EncryptionKey::parse_list(&text).is_err(), "{text}");
    }
    assert!(EncryptionKey::parse_list(&format!("a={key};b=nope")).unwrap_err().to_string().contains("`b=nope`"));
}

#[test]
fn unsupported_de_identification_is_rejected_and_never_ignored() {
    for name in ["_anonymizationConfigCollectionReference", "_anonymizationConfigLocation", "_AnonymizationConfig"] {
        for prefer in [STRICT, LENIENT] {
            assert_eq!(rejection(&kick_off_at(Level::System, prefer, &[(name, "x")])), bad_request(name));
        }
    }
}

// Holds: A12
#[test]
fn a_de_identified_export_requires_a_configuration_and_a_container() {
    let resolve = |parameters: &[(&str, &str)]| {
        let kick_off = kick_off_at(Level::System, LENIENT, parameters);
        ExportRequest::resolve(&kick_off, &ExportPolicy::default(), &Permissions::default(), NOW).map(|resolved| resolved.request)
    };
    let kick_off = |tag| [("_container", "study"), ("_anonymizationConfig", "safe.json"), ("_anonymizationConfigEtag", tag)];
    for tag in ["0x8D", "\"0x8D\""] {
        let request = resolve(&kick_off(tag)).unwrap();
        assert_eq!(request.anonymization.unwrap().etag.as_deref(), Some("\"0x8D\""));
    }
    for (parameters, blamed) in [
        (&[("_anonymizationConfig", "safe.json")][..], "_container"),
        (&[("_container", "study"), ("_anonymizationConfigEtag", "x")], "_anonymizationConfigEtag"),
        (&[("_container", "study"), ("_anonymizationConfig", "../safe.json")], "_anonymizationConfig"),
        (&[("_container", "study"), ("_anonymizationConfig", "")], "_anonymizationConfig"),
        (&kick_off(""), "_anonymizationConfigEtag"),
        (&kick_off("a\"b"), "_anonymizationConfigEtag"),
    ] {
        assert_eq!(resolve(parameters).unwrap_err().expression.as_deref(), Some(blamed), "{parameters:?}");
    }
}

#[test]
fn the_url_of_a_de_identified_export_is_shown_without_ids_and_queries() {
    let url =
        "https://h/fhir/Patient/p-1/$export?_type=Patient&patient=Patient/p-1&_typeFilter=Patient%3Fidentifier=p-1&_since=2024&%5Ftype=p-1";
    let kick_off = ExportRequest { level: Level::OnePatient("p-1".into()), ..ExportRequest::default() };
    assert_eq!(kick_off.redacted_url(url, "https://h/fhir"), url);
    let deidentified = |level| ExportRequest { level, anonymization: Some(anonymization()), ..ExportRequest::default() };
    let shown = deidentified(Level::OnePatient("p-1".into())).redacted_url(url, "https://h/fhir");
    assert_eq!(shown, "https://h/fhir/Patient/-/$export?_type=Patient&_since=2024");
    let shown = deidentified(Level::Group("g-1".into())).redacted_url("https://h/fhir/Group/g%2D1/$export", "https://h/fhir");
    assert_eq!(shown, "https://h/fhir/Group/-/$export");
    assert_eq!(deidentified(Level::System).redacted_url("https://h/fhir/$export", "https://h/fhir"), "https://h/fhir/$export");
}
