use super::*;

const NAMES: &str = r#""name":[{"family":"Carreño-Quiñones","given":["Éve","María José"],"prefix":["Dr."]},{"text":"Straße \"9\""}]"#;

#[test]
fn a_string_matches_as_a_prefix_without_case_and_accents() {
    let found = [
        "family=carreno",
        "family=CARREÑO",
        "given=eve",
        "given=e%CC%81ve",
        "given=maria",
        "name=dr.",
        "name=Eve",
        "name=strasse",
        r#"name=STRASSE "9"#,
        "given=x,mar",
    ];
    assert_found("Patient", NAMES, &found, &["family=quinones", "given=jose", "family=carrenos", "name=x"]);
}

#[test]
fn contains_matches_anywhere_and_exact_matches_every_byte() {
    let found = ["family:contains=QUINON", "given:contains=jose", "given:exact=Éve", "name:exact=Dr."];
    let missed = ["family:contains=z", "given:exact=Eve", "given:exact=éve", "given:exact=É", "family:exact=Carreño"];
    assert_found("Patient", NAMES, &found, &missed);
}

#[test]
fn an_address_matches_any_of_its_parts_except_its_use() {
    let members = r#""address":[{"use":"home","line":["3 Main St"],"city":"Łódź","postalCode":"02134","country":"PL"}]"#;
    let found = ["address=3 main", "address=021", "address-city=Łodz", "address-postalcode=02134", "address-country=pl"];
    assert_found("Patient", members, &found, &["address=home", "address-city=x", "address-state=pl"]);
}

#[test]
fn a_comma_in_a_string_is_escaped_and_a_single_percent_sign_is_literal() {
    let members = r#""name":"Smith, Jones & Co 100%""#;
    let found = [r"name=smith\, jones", "name=x,smith", "name:contains=%26 Co", "name:contains=100%"];
    assert_found("Organization", members, &found, &[r"name=smith\,jones"]);
}
