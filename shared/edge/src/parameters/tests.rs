use super::*;

fn headers(content_type: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
    headers
}

fn read(body: &str) -> Result<Vec<(String, String)>, RequestError> {
    parse_parameters_body(&headers("application/fhir+json"), &Body::from(body))
}

fn items(items: &str) -> Result<Vec<(String, String)>, RequestError> {
    read(&format!(r#"{{"resourceType":"Parameters","parameter":[{items}]}}"#))
}

fn rejection(body: &str) -> (u16, String) {
    let error = read(body).unwrap_err();
    (error.status, error.expression.unwrap())
}

// Holds: K3, A1
#[test]
fn every_supported_value_type_becomes_the_text_of_a_query() {
    for (value, text) in [
        (r#""valueString":"Patient,Observation""#, "Patient,Observation"),
        (r#""valueCode":"Patient""#, "Patient"),
        (r#""valueId":"p-1""#, "p-1"),
        (r#""valueUri":"Observation?status=final""#, "Observation?status=final"),
        (r#""valueUrl":"https://x""#, "https://x"),
        (r#""valueCanonical":"https://x|1""#, "https://x|1"),
        (r#""valueMarkdown":"m""#, "m"),
        (r#""valueInstant":"2020-01-01T00:00:00+01:00""#, "2020-01-01T00:00:00+01:00"),
        (r#""valueDateTime":"2020-01""#, "2020-01"),
        (r#""valueDate":"2020-01-01""#, "2020-01-01"),
        (r#""valueBoolean":true"#, "true"),
        (r#""valueBoolean": false"#, "false"),
        (r#""valueInteger":-7"#, "-7"),
        (r#""valuePositiveInt":10000"#, "10000"),
        (r#""valueUnsignedInt":0"#, "0"),
        (r#""valueInteger64":"9""#, "9"),
        (r#""valueReference":{"display":"A","reference":"Patient/1","type":"Patient"}"#, "Patient/1"),
        (r#""valueString":"\u0050\"\n""#, "P\"\n"),
    ] {
        let found = items(&format!(r#"{{"name":"n",{value}}}"#)).unwrap();
        assert_eq!(found, [("n".to_owned(), text.to_owned())], "{value}");
        let found = items(&format!(r#"{{{value},"id":"x","extension":[{{"url":"u"}}],"_valueString":null,"name":"n"}}"#)).unwrap();
        assert_eq!(found, [("n".to_owned(), text.to_owned())], "{value}");
    }
}

#[test]
fn parameters_keep_their_order_and_their_repeats() {
    let found = items(r#"{"name":"b","valueString":"1"},{"name":"a","valueString":"2"},{"name":"b","valueString":"1"}"#).unwrap();
    assert_eq!(found.iter().map(|(name, value)| format!("{name}{value}")).collect::<Vec<_>>(), ["b1", "a2", "b1"]);
}

#[test]
fn an_empty_body_and_an_empty_resource_have_no_parameters() {
    for body in ["", " \r\n\t", r#"{"resourceType":"Parameters"}"#, r#"{"resourceType":"Parameters","id":"x","meta":{},"parameter":[]}"#] {
        assert_eq!(read(body), Ok(vec![]), "{body}");
    }
    assert_eq!(parse_parameters_body(&HeaderMap::new(), &Body::Empty), Ok(vec![]));
}

#[test]
fn only_fhir_json_and_json_are_accepted_in_utf_8() {
    let body = Body::from(r#"{"resourceType":"Parameters"}"#);
    for media in [
        "application/fhir+json",
        "application/json",
        "Application/FHIR+JSON; charset=UTF-8",
        "application/json; charset=\"utf-8\"",
        "application/json;fhirVersion=4.0",
    ] {
        assert!(parse_parameters_body(&headers(media), &body).is_ok(), "{media}");
    }
    let others = ["application/x-www-form-urlencoded", "application/fhir+xml", "text/plain", "*/*", ""];
    for media in others.into_iter().chain(["application/fhir+json; charset=iso-8859-1", "application/json;Charset=\"UTF-16\""]) {
        assert_eq!(parse_parameters_body(&headers(media), &body).unwrap_err().status, 415, "{media}");
    }
    assert_eq!(parse_parameters_body(&HeaderMap::new(), &body).unwrap_err().status, 415);
    let mut compressed = headers("application/fhir+json");
    compressed.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
    assert_eq!(parse_parameters_body(&compressed, &body).unwrap_err().status, 415);
}

#[test]
fn a_body_that_is_not_a_parameters_resource_is_rejected() {
    for (body, expression) in [
        ("{", "Parameters"),
        ("nonsense", "Parameters"),
        ("[]", "Parameters"),
        ("\"Parameters\"", "Parameters"),
        (r#"{"resourceType":"Parameters"} x"#, "Parameters"),
        (r#"{"resourceType":"Patient"}"#, "Parameters.resourceType"),
        (r#"{"parameter":[]}"#, "Parameters.resourceType"),
        (r#"{"resourceType":["Parameters"]}"#, "Parameters"),
        (r#"{"resourceType":"Parameters","parameter":{}}"#, "Parameters"),
        (r#"{"resourceType":"Parameters","parameter":[],"parameter":[]}"#, "Parameters"),
    ] {
        assert_eq!(rejection(body), (400, expression.to_owned()), "{body}");
    }
    assert_eq!(parse_parameters_body(&headers("application/json"), &Body::from(b"{\"\xff\":1}".to_vec())).unwrap_err().status, 400);
    // Also where the string does not matter.
    let text = b"{\"resourceType\":\"Parameters\",\"language\":\"\xff\"}".to_vec();
    assert!(parse_parameters_body(&headers("application/json"), &Body::from(text)).unwrap_err().text.contains("not UTF-8"));
}

#[test]
fn an_invalid_parameter_is_named_by_its_position() {
    let sound = r#"{"name":"_type","valueString":"Patient"}"#;
    for wrong in [
        "7",
        "null",
        "[]",
        "{}",
        r#"{"name":"_type"}"#,
        r#"{"valueString":"Patient"}"#,
        r#"{"name":7,"valueString":"Patient"}"#,
        r#"{"name":"a","name":"b","valueString":"x"}"#,
        r#"{"name":"a","valueString":7}"#,
        r#"{"name":"a","valueString":["x"]}"#,
        r#"{"name":"a","valueString":null}"#,
        r#"{"name":"a","valueString":{"reference":"x"}}"#,
        r#"{"name":"a","valueBoolean":"true"}"#,
        r#"{"name":"a","valueInteger":1.5}"#,
        r#"{"name":"a","valueInteger":"1"}"#,
        r#"{"name":"a","valueReference":"Patient/1"}"#,
        r#"{"name":"a","valueReference":{"display":"x"}}"#,
        r#"{"name":"a","valueReference":{"reference":7}}"#,
        r#"{"name":"a","valueQuantity":{"value":1}}"#,
        r#"{"name":"a","valueString":"x","valueCode":"y"}"#,
        r#"{"name":"a","part":[{"name":"b","valueString":"x"}]}"#,
        r#"{"name":"a","resource":{"resourceType":"Patient"}}"#,
        r#"{"name":"a","valueString":"x","nonsense":1}"#,
    ] {
        let error = items(&[sound, sound, wrong, sound].join(",")).unwrap_err();
        assert_eq!((error.status, error.expression.as_deref()), (400, Some("Parameters.parameter[2]")), "{wrong}");
        assert!(error.text.contains("Parameters.parameter[2]"), "{}", error.text);
    }
}

#[test]
fn an_error_repeats_nothing_of_the_body() {
    for body in [
        r#"{"resourceType":"secret"}"#,
        r#"{"resourceType":"Parameters","parameter":["secret"]}"#,
        r#"{"resourceType":"Parameters","parameter":[{"name":"secret","valueBoolean":"secret"}]}"#,
        r#"{"resourceType":"Parameters","secret":secret}"#,
        r#"{"resourceType":"Parameters","parameter":[{"name":{"secret":1}}]}"#,
    ] {
        assert!(!read(body).unwrap_err().text.contains("secret"), "{body}");
    }
}

#[test]
fn a_body_with_too_many_bytes_or_parameters_is_rejected() {
    let long = format!(r#"{{"resourceType":"Parameters","id":"{}"}}"#, "x".repeat(10_000_000));
    assert_eq!(read(&long).unwrap_err().status, 413);
    let many = vec![r#"{"name":"a","valueId":"1"}"#; 100_001].join(",");
    assert_eq!(items(&many).unwrap_err().status, 413);
    assert_eq!(items(&many[..many.len() - 27]).unwrap().len(), 100_000);
    // A value with a thousand levels exceeds the nesting limit of the JSON parser.
    let deep = format!(r#"{{"name":"a","extension":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    assert_eq!(items(&deep).unwrap_err().status, 400);
}
