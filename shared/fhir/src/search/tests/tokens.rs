use super::*;

const CODED: &str = r#""code":{"coding":[{"system":"http://loinc.org","code":"8480-6","display":"Systolic blood pressure"},
    {"code":"SBP"}],"text":"Blood Pressure, upper"}"#;

fn coded() -> String {
    CODED.replace("\n    ", "")
}

#[test]
fn a_code_matches_with_any_one_or_no_system() {
    let found = ["code=8480-6", "code=http://loinc.org|8480-6", "code=SBP", "code=|SBP", "code=http://loinc.org|", "code=x,8480-6"];
    let missed = ["code=8480", "code=|8480-6", "code=http://loinc.org|SBP", "code=http://snomed.info/sct|", "code=sbp", "code=x,y"];
    assert_found("Observation", &coded(), &found, &missed);
}

#[test]
fn system_and_code_must_be_in_one_coding() {
    let two = r#""code":{"coding":[{"system":"http://a","code":"1"},{"system":"http://b","code":"2"}]}"#;
    assert_found("Observation", two, &["code=http://a|1", "code=http://b|2"], &["code=http://a|2", "code=http://b|1"]);
}

#[test]
fn not_matches_if_no_value_matches_and_if_the_element_is_absent() {
    let found = ["code:not=x", "code:not=http://snomed.info/sct|8480-6", "category:not=laboratory"];
    assert_found("Observation", &coded(), &found, &["code:not=8480-6", "code:not=SBP", "code:not=x,SBP"]);
}

#[test]
fn missing_matches_by_the_presence_of_the_element() {
    assert_found(
        "Observation",
        &coded(),
        &["code:missing=false", "category:missing=true"],
        &["code:missing=true", "category:missing=false"],
    );
    let extended = r#""_gender":{"extension":[{"url":"http://x","valueCode":"other"}]},"name":[null]"#;
    assert_found("Patient", extended, &["gender:missing=true", "name:missing=true"], &["gender:missing=false"]);
}

#[test]
fn text_matches_human_readable_text() {
    let found = ["code:text=systolic", "code:text=Blood%20press", "code:text=BLOOD"];
    assert_found("Observation", &coded(), &found, &["code:text=pressure", "code:text=8480-6"]);
    let typed = r#""identifier":[{"type":{"text":"Driver licence"},"value":"7"}]"#;
    assert_found("Patient", typed, &["identifier:text=driver"], &["identifier:text=7"]);
}

#[test]
fn an_identifier_matches_by_value_system_and_type() {
    let members = r#""identifier":[{"system":"http://mrn","value":"446053","type":{"coding":[{"system":"http://t","code":"MR"}]}},
        {"system":"http://ssn","value":"9"}]"#
        .replace('\n', "");
    let found = ["identifier=446053", "identifier=http://mrn|446053", "identifier=http://ssn|", "identifier:of-type=http://t|MR|446053"];
    let missed = ["identifier=http://ssn|446053", "identifier=|446053", "identifier:of-type=http://t|MR|9", "identifier=MR"];
    assert_found("Patient", &members, &found, &missed);
}

#[test]
fn a_contact_point_matches_by_value_and_by_system() {
    let members = r#""telecom":[{"system":"phone","value":"555","use":"home"},{"system":"email","value":"a@b.c"}]"#;
    let found = ["telecom=555", "phone=555", "email=a@b.c", "telecom=phone|555"];
    assert_found("Patient", members, &found, &["email=555", "phone=a@b.c", "telecom=email|555"]);
}

#[test]
fn a_code_has_the_system_of_its_binding() {
    let members = r#""gender":"female","active":true"#;
    let found = ["gender=female", "gender=http://hl7.org/fhir/administrative-gender|female", "gender=male,female", "active=true"];
    let missed = ["gender=Female", "gender=http://loinc.org|female", "gender=male", "active=false", "gender:not=female"];
    assert_found("Patient", members, &found, &missed);
}

#[test]
fn ids_are_compared_with_case_and_texts_without() {
    assert_found("Patient", "", &["_id=1", "_id=2,1", "_id:not=2"], &["_id=01", "_id=2"]);
    let line = r#"{"resourceType":"Library","id":"aB","version":"Draft-1"}"#;
    for (text, expected) in [("_id=aB", true), ("_id=ab", false), ("version=draft-1", true), ("version=Draft", false)] {
        assert_eq!(is_found(&query(&format!("Library?{text}")), line), expected, "{text}");
    }
}

#[test]
fn tags_and_security_labels_are_tokens() {
    let members = r#""meta":{"tag":[{"system":"http://t","code":"x"}],"security":[{"system":"http://s","code":"R"}]}"#;
    let found = ["_tag=x", "_tag=http://t|x", "_security=R", "_tag:not=y"];
    assert_found("Patient", members, &found, &["_tag=R", "_security=http://s|x"]);
}

#[test]
fn a_date_of_death_means_deceased_and_no_element_means_not_deceased() {
    let (dead, alive) = (&["deceased=true", "deceased:not=false"], &["deceased=false", "deceased:not=true"]);
    for (members, is_dead) in [
        (r#""deceasedDateTime":"2020-01-01""#, true),
        (r#""deceasedBoolean":true"#, true),
        (r#""deceasedBoolean":false"#, false),
        (r#""active":true"#, false),
    ] {
        let (found, missed): (&[&str], &[&str]) = if is_dead { (dead, alive) } else { (alive, dead) };
        assert_found("Patient", members, found, missed);
    }
    assert_found("Patient", "", &["deceased:missing=true"], &["deceased:missing=false"]);
    assert_found("Patient", r#""deceasedBoolean":false"#, &["deceased:missing=false"], &["deceased:missing=true"]);
}

#[test]
fn separators_within_a_value_are_escaped() {
    let members = r#""code":{"coding":[{"system":"http://a","code":"x,y"},{"code":"p|q"},{"code":"d$e"},{"code":"b\\c"}]}"#;
    let found = [r"code=x\,y", r"code=p\|q", r"code=d\$e", "code=d$e", r"code=b\\c", r"code=http://a|x\,y", r"code=no,x\,y"];
    assert_found("Observation", members, &found, &["code=x,y", "code=p|q"]);
}
