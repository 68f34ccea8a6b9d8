use super::*;

const PRESSURE: &str = r#""code":{"coding":[{"system":"http://loinc.org","code":"85354-9"}]},"component":[{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"valueQuantity":{"value":107,"code":"mm[Hg]"}},{"code":{"coding":[{"code":"8462-4"}]},"valueQuantity":{"value":60,"code":"mm[Hg]"}}]"#;

#[test]
fn the_components_of_a_composite_match_one_element() {
    let found = [
        "component-code-value-quantity=8480-6$gt100",
        "component-code-value-quantity=http://loinc.org|8480-6$107||mm[Hg]",
        "component-code-value-quantity=8462-4$lt90",
        "component-code-value-quantity=x$1,8462-4$lt90",
        "combo-code-value-quantity=8480-6$gt100",
    ];
    let missed = [
        "component-code-value-quantity=8462-4$gt100",
        "component-code-value-quantity=8480-6$60",
        "component-code-value-quantity=85354-9$gt100",
        "code-value-quantity=8480-6$gt100",
        "combo-code-value-quantity=85354-9$gt0",
    ];
    assert_found("Observation", PRESSURE, &found, &missed);
}

#[test]
fn a_composite_can_start_at_the_resource_itself() {
    let members = r#""code":{"coding":[{"code":"a$b"}]},"valueString":"Big, red""#;
    let found = [r"code-value-string=a\$b$big\, r", "code-value-string=x$y,a\\$b$BIG"];
    assert_found("Observation", members, &found, &[r"code-value-string=a\$b$red", "code-value-string=a$big"]);
}

#[test]
fn a_use_context_pairs_its_code_with_its_value() {
    let members = r#""useContext":[{"code":{"system":"http://u","code":"focus"},"valueCodeableConcept":{"coding":[{"code":"x"}]}},{"code":{"code":"venue"},"valueCodeableConcept":{"coding":[{"code":"y"}]}}]"#;
    assert_found(
        "Questionnaire",
        members,
        &["context-type-value=focus$x", "context-type-value=http://u|focus$x"],
        &["context-type-value=focus$y"],
    );
}
