use super::*;

fn probability(text: &str) -> String {
    format!(r#""prediction":[{{"probabilityDecimal":{text}}}]"#)
}

fn quantity(members: &str) -> String {
    format!(r#""valueQuantity":{{{members}}}"#)
}

#[test]
fn the_digits_of_a_number_determine_its_precision() {
    let cases = [
        ("100", "99.5", true),
        ("100", "100.499", true),
        ("100", "100.5", false),
        ("100", "99.49", false),
        ("100.00", "100.004", true),
        ("100.00", "100.01", false),
        ("1e2", "149", true),
        ("1e2", "50", true),
        ("1e2", "150", false),
        ("0.10", "0.1", true),
        ("0.10", "0.1049", true),
        ("-5", "-5.4", true),
        ("-5", "-4.5", false),
        ("5", "5.0000000000000000000000001", true),
        ("5.40e-1", "0.54", true),
    ];
    for (wanted, found, expected) in cases {
        let line = resource("RiskAssessment", &probability(found));
        let text = format!("RiskAssessment?probability={wanted}");
        assert_eq!(is_found(&query(&text), &line), expected, "{text} {found}");
        let text = format!("RiskAssessment?probability=ne{wanted}");
        assert_eq!(is_found(&query(&text), &line), !expected, "{text} {found}");
    }
}

#[test]
fn comparisons_treat_the_number_as_exact() {
    let found = ["probability=gt0.79", "probability=ge0.8", "probability=ge0.80000", "probability=le0.8", "probability=lt0.81"];
    let missed = ["probability=gt0.8", "probability=lt0.8", "probability=ge0.8000001", "probability=sa0.8", "probability=eb0.8"];
    assert_found("RiskAssessment", &probability("0.8"), &found, &missed);
    assert_found("RiskAssessment", &probability("0.8"), &["probability=sa0.7", "probability=eb0.9"], &["probability=sa0.9"]);
}

#[test]
fn approximately_allows_a_tenth_either_way() {
    for (number, expected) in [("90", true), ("110", true), ("89.9", false), ("110.1", false)] {
        let line = resource("RiskAssessment", &probability(number));
        assert_eq!(is_found(&query("RiskAssessment?probability=ap100"), &line), expected, "{number}");
    }
}

#[test]
fn decimals_that_binary_floats_cannot_represent_match() {
    assert_found(
        "RiskAssessment",
        &probability("0.3"),
        &["probability=ge0.3", "probability=le0.3"],
        &["probability=lt0.29999999999999999999999"],
    );
    let large = "9007199254740993";
    assert_found("RiskAssessment", &probability(large), &["probability=gt9007199254740992"], &["probability=9007199254740992"]);
}

#[test]
fn a_range_is_compared_as_a_whole() {
    let range = r#""prediction":[{"probabilityRange":{"low":{"value":10},"high":{"value":20}}}]"#;
    let found = ["probability=gt15", "probability=lt15", "probability=ap15", "probability=sa9", "probability=eb21", "probability=ge20"];
    let missed = ["probability=15", "probability=gt20", "probability=lt10", "probability=sa10", "probability=eb20"];
    assert_found("RiskAssessment", range, &found, &missed);
    let open = r#""prediction":[{"probabilityRange":{"low":{"value":10}}}]"#;
    assert_found("RiskAssessment", open, &["probability=gt1000000", "probability=sa9"], &["probability=lt10", "probability=eb1000"]);
}

#[test]
fn a_quantity_matches_by_system_and_code_or_by_code_or_unit() {
    let dose = quantity(r#""value":5.4,"unit":"milligram","system":"http://unitsofmeasure.org","code":"mg""#);
    let found = [
        "value-quantity=5.4",
        "value-quantity=5.4|http://unitsofmeasure.org|mg",
        "value-quantity=5.4||mg",
        "value-quantity=5.4||milligram",
        "value-quantity=5.40||mg",
        "value-quantity=5.4|http://unitsofmeasure.org|",
        "value-quantity=5||mg",
        "value-quantity=gt5||mg",
        "value-quantity=le5.4|http://unitsofmeasure.org|mg",
        "value-quantity=1||g,5.4||mg",
    ];
    let missed = [
        "value-quantity=5.4||g",
        "value-quantity=5.4|http://other.org|mg",
        "value-quantity=5.3||mg",
        "value-quantity=5.4|http://unitsofmeasure.org|milligram",
        "value-quantity=lt5.4||mg",
    ];
    assert_found("Observation", &dose, &found, &missed);
}

#[test]
fn a_comparator_stands_for_all_values_that_it_allows() {
    let below = quantity(r#""value":5,"comparator":"<","code":"mg""#);
    assert_found(
        "Observation",
        &below,
        &["value-quantity=lt5", "value-quantity=gt4.9", "value-quantity=eb5", "value-quantity=ne5"],
        &["value-quantity=5", "value-quantity=gt5", "value-quantity=ge5", "value-quantity=sa1"],
    );
    let from = quantity(r#""value":60,"comparator":">=""#);
    assert_found("Observation", &from, &["value-quantity=ge60", "value-quantity=le60", "value-quantity=gt1000"], &["value-quantity=lt60"]);
    let above = quantity(r#""value":60,"comparator":">""#);
    assert_found("Observation", &above, &["value-quantity=sa60", "value-quantity=gt60"], &["value-quantity=le60", "value-quantity=60"]);
}

#[test]
fn money_matches_by_its_currency() {
    let members = r#""totalGross":{"value":48,"currency":"EUR"}"#;
    let found = ["totalgross=48", "totalgross=48||EUR", "totalgross=48|urn:iso:std:iso:4217|EUR", "totalgross=gt40||EUR"];
    assert_found("Invoice", members, &found, &["totalgross=48||USD", "totalgross=48|http://unitsofmeasure.org|EUR", "totalgross=47"]);
}

#[test]
fn a_range_of_quantities_matches_by_unit() {
    let members = r#""useContext":[{"code":{"code":"age"},"valueRange":{"low":{"value":18,"code":"a"},"high":{"value":65,"code":"a"}}}]"#;
    let found = ["context-quantity=gt30||a", "context-quantity=lt30", "context-quantity=sa17"];
    assert_found("ActivityDefinition", members, &found, &["context-quantity=gt30||mo", "context-quantity=30", "context-quantity=gt65"]);
}

#[test]
fn sampled_data_matches_by_its_least_and_greatest_value() {
    // 2.0 + 0.5 * (-4 … 10) = 0 … 7
    let members = r#""valueSampledData":{"origin":{"value":2.0,"code":"mV"},"period":10,"factor":0.5,"dimensions":1,"data":"2 -4 E 10 3"}"#;
    let found = ["value-quantity=gt6.9||mV", "value-quantity=lt0.1", "value-quantity=ge7", "value-quantity=ap5"];
    assert_found(
        "Observation",
        members,
        &found,
        &["value-quantity=gt7", "value-quantity=lt0", "value-quantity=3", "value-quantity=gt1||V"],
    );
}

#[test]
fn an_invalid_number_in_a_resource_never_matches() {
    let members = quantity(r#""unit":"mg""#);
    assert_found(
        "Observation",
        &members,
        &["value-quantity:missing=false"],
        &["value-quantity=ne5", "value-quantity=ge0", "value-quantity=lt9"],
    );
}
