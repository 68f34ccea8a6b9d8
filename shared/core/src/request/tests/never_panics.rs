use proptest::prelude::*;

use super::*;

#[test]
fn a_hostile_parameter_name_is_quoted_short_and_printable() {
    let name = "\u{0}\n".repeat(1000);
    let error = resolve(&kick_off(&[(name.as_str(), "")])).unwrap_err();
    assert!(error.text.len() < 600 && !error.text.contains('\n'), "{}", error.text);
    assert!(error.expression.unwrap().len() < 300);
}

fn parameters() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        8 => prop::sample::select(Parameter::ALL.to_vec()).prop_map(|parameter| parameter.as_str().to_owned()),
        1 => "\\PC{0,8}",
    ];
    let value = prop_oneof![
        "\\PC{0,40}",
        "(Patient|Group|Observation|id|,| |[.]|/|[?]|_history|_deleted|true){1,6}",
        "(Patient|Observation)[?](status|code|date|gender|_id|name)(:not|:exact|:in)?=[a-z0-9%|,-]{0,12}",
        "[0-9]{4}(-[0-9]{2}){0,2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}[Z+-][0-9:]{0,5})?",
        "[a-z0-9-]{1,64}",
    ];
    prop::collection::vec((name, value), 0..5)
}

fn levels() -> impl Strategy<Value = Level> {
    prop_oneof![
        Just(Level::System),
        Just(Level::AllPatients),
        "\\PC{0,4}|[a-z0-9]{1,8}".prop_map(Level::OnePatient),
        "\\PC{0,4}|[a-z0-9]{1,8}".prop_map(Level::Group),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_kick_off_is_resolved_or_rejected_and_resolved_ones_can_be_stored(
        parameters in parameters(),
        level in levels(),
        is_lenient in any::<bool>(),
    ) {
        let kick_off = RawKickOff { parameters, ..kick_off_at(level, Preferences { is_lenient, ..STRICT }, &[]) };
        match resolve(&kick_off) {
            Ok(ResolvedRequest { request, patients, .. }) => {
                prop_assert_eq!(request.patients.map(|count| count as usize), expected_patients(&request, &patients));
                prop_assert!(patients.is_sorted());
                let stored = serde_json::to_string(&request).unwrap();
                prop_assert_eq!(serde_json::from_str::<ExportRequest>(&stored).unwrap(), request);
            }
            Err(error) => {
                prop_assert!((400..500).contains(&error.status));
                prop_assert!(!error.text.is_empty() && error.text.len() < 1_000, "{}", error.text);
                prop_assert!(error.expression.is_some());
            }
        }
    }

    // Lenient handling resolves a kick-off that strict handling accepts to the same request.
    #[test]
    fn lenient_handling_does_not_change_a_valid_request(parameters in parameters(), level in levels()) {
        let strict = RawKickOff { parameters, ..kick_off_at(level, STRICT, &[]) };
        let lenient = RawKickOff { preferences: LENIENT, ..strict.clone() };
        if let Ok(resolved) = resolve(&strict) {
            let again = resolve(&lenient).unwrap();
            prop_assert_eq!((again.request, again.patients), (resolved.request, resolved.patients));
        }
    }
}

/// Returns the number of patients, or `None` if the parameter is absent.
fn expected_patients(request: &ExportRequest, patients: &[String]) -> Option<usize> {
    request.patients.is_some().then_some(patients.len())
}
