use proptest::prelude::*;

use super::*;

#[test]
fn a_hostile_name_is_shown_back_short_and_printable() {
    let name = "\u{0}\n".repeat(1000);
    let refusal = resolve(&asked(&[(name.as_str(), "")])).unwrap_err();
    assert!(refusal.text.len() < 600 && !refusal.text.contains('\n'), "{}", refusal.text);
    assert!(refusal.expression.unwrap().len() < 300);
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
    fn whatever_is_asked_is_answered_and_what_is_accepted_can_be_stored(
        headers in prop::collection::vec("application/[a-z+]{0,12}(;q=[0-9.]{0,3})?|(respond-async|handling=lenient|[,;=\"\\\\]){0,6}|\\PC{0,12}", 0..3),
        parameters in parameters(),
        level in levels(),
        manner in 0..3,
    ) {
        let polite = ask(level, if manner == 0 { "respond-async" } else { "respond-async, handling=lenient" }, &[]);
        let asked = if manner == 2 { Asked { accept: headers.clone(), prefer: headers, parameters, ..polite } } else { Asked { parameters, ..polite } };
        match resolve(&asked) {
            Ok(Resolved { request, patients, .. }) => {
                prop_assert_eq!(request.patients.map(|count| count as usize), asked_patients(&request, &patients));
                prop_assert!(patients.is_sorted());
                let stored = serde_json::to_string(&request).unwrap();
                prop_assert_eq!(serde_json::from_str::<ExportRequest>(&stored).unwrap(), request);
            }
            Err(refusal) => {
                prop_assert!((400..500).contains(&refusal.status));
                prop_assert!(!refusal.text.is_empty() && refusal.text.len() < 1_000, "{}", refusal.text);
                prop_assert!(refusal.expression.is_some());
            }
        }
    }

    /// Lenient handling accepts whatever strict handling does, and reads it the same way.
    #[test]
    fn lenience_changes_nothing_about_a_sound_request(parameters in parameters(), level in levels()) {
        let strict = Asked { parameters, ..ask(level, "respond-async", &[]) };
        let lenient = Asked { prefer: vec!["respond-async, handling=lenient".into()], ..strict.clone() };
        if let Ok(resolved) = resolve(&strict) {
            let again = resolve(&lenient).unwrap();
            prop_assert_eq!((again.request, again.patients), (resolved.request, resolved.patients));
        }
    }
}

/// As many as were named, unless none was.
fn asked_patients(request: &ExportRequest, patients: &[String]) -> Option<usize> {
    request.patients.is_some().then_some(patients.len())
}
