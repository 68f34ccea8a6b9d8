//! Requests of clients whose registration fixes anonymization configurations.

use super::*;
use crate::access::{Client, ClientKeys, FixedConfiguration, Scopes};
use crate::vocab::ids::Caller;

/// The parameters of a request that the client may send.
const ALLOWED: [(&str, &str); 2] = [("_container", "study"), ("_anonymizationConfig", "a.json")];

/// Returns the permissions of a client that is registered for these scopes and configurations, and has a token for `granted`.
fn reader(registered: &str, granted: &str, configurations: &[&str]) -> Permissions {
    let scopes = |text: &str| Scopes::parse(text, FhirVersion::R4).0;
    let fixed = configurations.iter().filter_map(|text| FixedConfiguration::parse(text)).collect();
    let client = Client::new(Caller("c".into()), ClientKeys::External, scopes(registered), Millis(0));
    let client = Client { anonymization_configs: Some(fixed), ..client };
    Permissions { scopes: scopes(granted).intersection(&client.scopes), client: Some(client), ..Permissions::default() }
}

fn all_of(configurations: &[&str]) -> Permissions {
    reader("system/*.rs", "system/*.rs", configurations)
}

fn resolve_with(permissions: &Permissions, kick_off: &RawKickOff) -> Result<ExportRequest, RequestError> {
    ExportRequest::resolve(kick_off, &ExportPolicy::default(), permissions, NOW).map(|resolved| resolved.request)
}

/// Returns a valid value of a parameter.
fn value_of(parameter: Parameter) -> &'static str {
    match parameter {
        Parameter::Type => "Patient",
        Parameter::TypeFilter => "Patient?family=Fam1",
        Parameter::Elements => "id",
        Parameter::Since | Parameter::Until | Parameter::Till => "2025-01-01T00:00:00Z",
        Parameter::Patient => "Patient/p2",
        Parameter::IncludeAssociatedData => "_history",
        Parameter::OrganizeOutputBy => "Patient",
        Parameter::AllowPartialManifests | Parameter::IsParallel | Parameter::Estimate => "true",
        Parameter::OutputFormat => "ndjson",
        Parameter::Container => "study",
        Parameter::Format => "json",
        Parameter::EncryptionKey => "trial",
        Parameter::AnonymizationConfig => "a.json",
        Parameter::AnonymizationConfigEtag => "x",
        Parameter::MaxCount => "7",
    }
}

/// Returns a policy with the key that [`value_of`] names.
fn policy() -> ExportPolicy {
    ExportPolicy {
        keys: EncryptionKey::parse_list("trial=arn:aws:kms:eu-central-1:111122223333:key/k-1").unwrap(),
        ..ExportPolicy::default()
    }
}

/// Checks that a kick-off is forbidden, and returns the parameter at fault and the text of the error.
fn refusal(permissions: &Permissions, kick_off: &RawKickOff) -> (String, String) {
    let error = resolve_with(permissions, kick_off).unwrap_err();
    assert_eq!((error.status, error.code), (403, IssueCode::Forbidden), "{error:?}");
    (error.expression.unwrap_or_default(), error.text)
}

// Holds: SEC-A13
#[test]
fn a_client_with_fixed_configurations_exports_with_one_of_them_only() {
    let some = all_of(&["a.json", "b.json=x"]);
    let with = |name: &str, etag: Option<&str>| {
        let etag = etag.map(|etag| ("_anonymizationConfigEtag", etag));
        kick_off(&[("_container", "study"), ("_anonymizationConfig", name)].into_iter().chain(etag).collect::<Vec<_>>())
    };
    let etag_of = |kick_off: &RawKickOff| resolve_with(&some, kick_off).unwrap().anonymization.unwrap().etag;
    assert_eq!(etag_of(&with("a.json", None)), None);
    assert_eq!(etag_of(&with("a.json", Some("y"))).as_deref(), Some("\"y\""));
    assert_eq!(etag_of(&with("b.json", None)).as_deref(), Some("\"x\""), "the ETag of the registration applies");
    assert_eq!(etag_of(&with("b.json", Some("x"))).as_deref(), Some("\"x\""));
    assert_eq!(refusal(&some, &with("b.json", Some("y"))).0, "_anonymizationConfigEtag");
    for kick_off in [kick_off(&[]), kick_off(&[("_container", "study")]), with("c.json", None), with("c.json", Some("x"))] {
        let (parameter, text) = refusal(&some, &kick_off);
        assert!(parameter == "_anonymizationConfig" && text.contains("a.json, b.json"), "{parameter}: {text}");
    }
    assert_eq!(refusal(&all_of(&[]), &kick_off(&ALLOWED)).0, "_anonymizationConfig");
    assert!(resolve_with(&Permissions { client: None, ..some }, &kick_off(&[])).is_ok(), "other callers are not restricted");
}

// Holds: SEC-A13
#[test]
fn a_client_with_fixed_configurations_selects_nothing_by_original_values() {
    let reader = all_of(&["a.json"]);
    let mut refused = BTreeSet::new();
    for parameter in Parameter::ALL {
        for preferences in [STRICT, LENIENT] {
            let mut parameters = ALLOWED.to_vec();
            if !ALLOWED.iter().any(|(name, _)| *name == parameter.as_str()) {
                parameters.push((parameter.as_str(), value_of(parameter)));
            }
            let kick_off = kick_off_at(Level::AllPatients, preferences, &parameters);
            if let Err(error) = ExportRequest::resolve(&kick_off, &policy(), &reader, NOW) {
                assert_eq!((error.status, error.expression.as_deref()), (403, Some(parameter.as_str())), "{error:?}");
                refused.insert(parameter.as_str());
            }
        }
    }
    let selecting = ["_since", "_till", "_typeFilter", "_until", "includeAssociatedData", "patient"];
    assert!(refused.iter().copied().eq(selecting), "{refused:?}");
    // Another spelling, and a value that is not valid, are refused as well.
    for parameter in [("_typefilter", "Patient?family=Fam1"), ("patient", ""), ("_typeFilter", "?")] {
        refusal(&reader, &kick_off(&[&ALLOWED[..], &[parameter]].concat()));
    }
}

// Holds: SEC-A13
#[test]
fn a_client_with_fixed_configurations_exports_no_single_patient_and_only_groups_of_its_registration() {
    let reader = all_of(&["a.json"]);
    for level in [Level::System, Level::AllPatients] {
        assert!(resolve_with(&reader, &kick_off_at(level, STRICT, &ALLOWED)).is_ok());
    }
    for level in [Level::OnePatient("p2".into()), group_level()] {
        assert_eq!(refusal(&reader, &kick_off_at(level, LENIENT, &ALLOWED)).0, "");
    }
    let client = reader.client.clone().unwrap();
    let of_group = Permissions { client: Some(Client { groups: Some(["g-1".into()].into()), ..client }), ..reader };
    assert!(resolve_with(&of_group, &kick_off_at(group_level(), STRICT, &ALLOWED)).is_ok());
    refusal(&of_group, &kick_off_at(Level::Group("g-2".into()), STRICT, &ALLOWED));
}

// Holds: SEC-A13
#[test]
fn a_client_with_fixed_configurations_cannot_narrow_its_scopes_by_a_query() {
    let registered = "system/Patient.rs system/Observation.rs?category=laboratory system/Observation.rs?category=vital-signs";
    for (granted, is_accepted) in [
        ("system/*.rs", true),
        (registered, true),
        ("system/Patient.rs", true),
        ("system/Patient.rs?family=Fam1", false),
        ("system/Patient.rs system/Observation.rs?category=laboratory", false),
        ("system/Observation.rs?category=laboratory&subject=Patient/p2 system/Observation.rs?category=vital-signs", false),
    ] {
        let result = resolve_with(&reader(registered, granted, &["a.json"]), &kick_off(&ALLOWED));
        assert_eq!(result.is_ok(), is_accepted, "{granted}");
        assert!(result.err().is_none_or(|error| error.is_insufficient_scope()), "{granted}");
    }
    let whole = reader("system/*.rs", "system/Patient.rs?family=Fam1", &["a.json"]);
    assert!(resolve_with(&whole, &kick_off(&ALLOWED)).is_err());
}

#[test]
fn a_request_of_the_operator_may_select_but_needs_a_configuration_of_the_client() {
    let operators = Permissions { is_operators_request: true, ..all_of(&["a.json"]) };
    let parameters = [&ALLOWED[..], &[("_since", "2025-01-01T00:00:00Z"), ("_typeFilter", "Patient?gender=female")]].concat();
    let request = resolve_with(&operators, &kick_off(&parameters)).unwrap();
    assert!(request.is_covered_by(&all_of(&["a.json"])), "the client sees the export");
    assert_eq!(refusal(&operators, &kick_off(&[])).0, "_anonymizationConfig");
}

// Holds: SEC-A16
#[test]
fn a_client_with_fixed_configurations_sees_no_export_without_one_of_them() {
    let clear = resolved(&[]);
    let request = resolved(&ALLOWED);
    assert!(clear.is_covered_by(&Permissions::default()) && !clear.is_covered_by(&all_of(&["a.json"])));
    assert!(request.is_covered_by(&all_of(&["a.json"])) && !request.is_covered_by(&all_of(&["b.json"])));
    assert!(!request.is_covered_by(&all_of(&["a.json=x"])), "the export did not demand the ETag");
}

#[test]
fn a_client_with_fixed_configurations_sees_only_exports_that_select_as_it_may_select_now() {
    let (reader, anybody) = (all_of(&["a.json"]), Permissions::default());
    for parameter in Parameter::ALL {
        let is_given = ALLOWED.iter().any(|(name, _)| *name == parameter.as_str());
        let added = (!is_given).then(|| (parameter.as_str(), value_of(parameter)));
        let kick_off = kick_off_at(Level::AllPatients, STRICT, &ALLOWED.into_iter().chain(added).collect::<Vec<_>>());
        let Ok(earlier) = ExportRequest::resolve(&kick_off, &policy(), &anybody, NOW) else { continue };
        let may_start = ExportRequest::resolve(&kick_off, &policy(), &reader, NOW).is_ok();
        assert_eq!(earlier.request.has_allowed_selection(&reader), may_start, "{}", parameter.as_str());
        assert!(earlier.request.has_allowed_selection(&anybody));
    }
    for (level, is_allowed) in [(Level::System, true), (Level::OnePatient("p2".into()), false), (group_level(), false)] {
        let earlier = resolve_with(&anybody, &kick_off_at(level.clone(), STRICT, &ALLOWED)).unwrap();
        assert_eq!(earlier.has_allowed_selection(&reader), is_allowed, "{level:?}");
    }
    let narrowed = "system/Patient.rs?family=Fam1";
    let token = Permissions { scopes: Scopes::parse(narrowed, FhirVersion::R4).0, ..Permissions::default() };
    let earlier = resolve_with(&token, &kick_off(&ALLOWED)).unwrap();
    assert!(!earlier.has_allowed_selection(&reader) && earlier.has_allowed_selection(&self::reader(narrowed, narrowed, &["a.json"])));
}
