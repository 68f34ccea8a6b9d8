use proptest::prelude::*;

use super::*;

/// Generates texts that resemble queries.
fn texts() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        4 => prop::sample::select(vec![
            "Observation?", "Patient?", "code=", "date=", "value-quantity=", "subject:Patient=", "identifier:of-type=", "_id=",
            "code-value-quantity=", "name:contains=", "&", "=", ",", "$", "|", "\\", "%", "%2C", "%zz", ":", ":not", ":missing=", ".",
            "ge", "ap", "2020", "-01", "T10:00", "9e99999", "http://example.org/", "urn:uuid:", "/", "true", "é", "\u{0}", "#",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ];
    prop::collection::vec(word, 0..12).prop_map(|words| words.concat())
}

const OBSERVATION: &str = r#""code":{"coding":[{"system":"s","code":"c"}],"text":"é"},"subject":{"reference":"Patient/1"},"effectiveDateTime":"2020-01-01","valueQuantity":{"value":1e5,"code":"mg"},"component":[{"code":{"text":"x"}},null,7,"x"]"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_causes_a_panic(text in texts()) {
        for piece in split_queries(&text) {
            for version in FhirVersion::ALL {
                match Query::parse(piece, version, now()) {
                    Ok(query) => {
                        is_found(&query, &resource(query.resource_type.as_str(), OBSERVATION));
                        is_found(&query, &resource(query.resource_type.as_str(), r#""code":[],"subject":1,"effectiveDateTime":{},"valueQuantity":"","name":7"#));
                    }
                    Err(error) => prop_assert!(!error.to_string().is_empty()),
                }
            }
        }
    }

    #[test]
    fn splitting_loses_nothing_and_is_idempotent(text in texts()) {
        let queries = split_queries(&text);
        for query in &queries {
            prop_assert_eq!(split_queries(query), vec![*query]);
        }
        let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace() && *c != ',').collect::<String>();
        prop_assert_eq!(bare(&queries.concat()), bare(&text));
    }

    #[test]
    fn not_is_the_complement_of_a_match(codes in prop::collection::vec("[abc]", 0..3), wanted in prop::collection::vec("[abc]", 1..3)) {
        let codings: Vec<_> = codes.iter().map(|code| format!(r#"{{"code":"{code}"}}"#)).collect();
        let line = resource("Observation", &format!(r#""code":{{"coding":[{}]}}"#, codings.join(",")));
        let wanted = wanted.join(",");
        let is = |text: String| is_found(&query(&text), &line);
        prop_assert_ne!(is(format!("Observation?code={wanted}")), is(format!("Observation?code:not={wanted}")));
    }

    #[test]
    fn a_date_is_either_equal_or_not_equal(found in "20[0-3][0-9]-0[1-9](-1[0-9](T1[0-9]:30:00Z)?)?", wanted in "20[0-3][0-9](-0[1-9])?") {
        let line = resource("Observation", &format!(r#""effectiveDateTime":"{found}""#));
        let is = |prefix: &str| is_found(&query(&format!("Observation?date={prefix}{wanted}")), &line);
        prop_assert_ne!(is("eq"), is("ne"));
        // All dates within a partial date start with its text.
        prop_assert_eq!(is("eq"), found.starts_with(&wanted));
        prop_assert_eq!(is("ge"), is("eq") || is("gt"));
        prop_assert_eq!(is("le"), is("eq") || is("lt"));
        prop_assert_eq!(is(""), is("eq"));
    }

    #[test]
    fn trailing_zeros_in_a_resource_do_not_affect_a_match(value in -1_000_000_i64..1_000_000, zeros in 0_usize..6, wanted in -1_000_000_i64..1_000_000) {
        let decimal = |value: i64| format!("{}{}.{:02}", if value < 0 { "-" } else { "" }, value.abs() / 100, value.abs() % 100);
        let text = format!("{}{}", decimal(value), "0".repeat(zeros));
        let line = resource("Observation", &format!(r#""valueQuantity":{{"value":{text}}}"#));
        let is = |prefix: &str| is_found(&query(&format!("Observation?value-quantity={prefix}{}", decimal(wanted))), &line);
        prop_assert_eq!(is("eq"), value == wanted);
        prop_assert_eq!(is("ne"), value != wanted);
        prop_assert_eq!((is("gt"), is("lt")), (value > wanted, value < wanted));
        prop_assert_eq!((is("ge"), is("le")), (value >= wanted, value <= wanted));
    }
}
