//! The streaming engine and the tree engine must write the same.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::deid::streaming::{DatePatient, deidentify_streaming};
use crate::deid::tree::NoObserver;
use crate::head::{MemberIndex, Resource};
use crate::semantics::compartment::PatientCompartment;

const PATHS: [&str; 50] = [
    "nodesByType('Extension')",
    "nodesByType('HumanName')",
    "nodesByType('HumanName').family",
    "nodesByType('Address').postalCode",
    "nodesByType('Address')",
    "nodesByType('Quantity')",
    "nodesByType('Age')",
    "nodesByType('Period').start",
    "nodesByType('Reference').reference",
    "nodesByType('date')",
    "nodesByType('dateTime')",
    "nodesByType('decimal')",
    "nodesByType('string')",
    "nodesByType('code')",
    "nodesByType('BackboneElement')",
    "nodesByName('value')",
    "nodesByName('period').end",
    "nodesByName('text')",
    "Resource",
    "Resource.id",
    "Resource.meta",
    "Resource.meta.security.code",
    "Patient",
    "Patient.name",
    "Patient.name.given",
    "Patient.birthDate",
    "Patient.contact.name | Patient.contact.telecom",
    "Patient.contact.nodesByType('Period')",
    "Patient.nodesByName('use')",
    "Patient.extension.value",
    "Observation.value",
    "Observation.value as Quantity",
    "Observation.value.Quantity.value",
    "Observation.value.ofType(Period).start",
    "Observation.component",
    "Observation.component.value.value",
    "Observation.children().children()",
    "Observation.subject",
    "(Observation.value as Quantity).value",
    "DomainResource.text",
    "Observation.component.select(code | value)",
    "Patient.where(gender in ('male' | 'other')).name",
    "Patient.where(gender = 'female').nodesByType('Period')",
    "Observation.where(status in ('final')).component.value",
    "Resource.where(status = 'final').id",
    "Patient.name.where(given.distinct().count() = 1 or family ~ 'muller').given",
    "Patient.where(birthDate < today() - 30 years).name.combine(contact.name)",
    "Observation.where(value is Quantity and value > 5 'kg').value",
    "Resource.repeat(children()).where($this is date)",
    "Patient.name.where(period.start.toString().split('-').count() = 3 xor use in ('official' | 'old')) | Patient.birthDate",
];

const METHODS: [&str; 14] = [
    r#""method":"redact""#,
    r#""method":"redact""#,
    r#""method":"keep""#,
    r#""method":"dateShift""#,
    r#""method":"cryptoHash""#,
    r#""method":"encrypt""#,
    r#""method":"perturb","span":6"#,
    r#""method":"perturb","span":0.5,"rangeType":"proportional","roundTo":1"#,
    r#""method":"substitute","replaceWith":"1990-01-01""#,
    r#""method":"substitute","replaceWith":{}"#,
    r#""method":"generalize","cases":{"$this.toString().length() > 4":"'long'"},"otherValues":"keep""#,
    r#""method":"generalize","cases":{"true":"$this"}"#,
    r#""method":"generalize","cases":{"$this is code":"'code'","$this.extension.exists() or %resource.id = 'p1'":"'x'"},"otherValues":"keep""#,
    r#""method":"generalize","cases":{"$this ~ 'male' or $this.toString() > now().toString()":"today().toString()"}"#,
];

/// Generates configurations.
fn configurations() -> impl Strategy<Value = String> {
    let rule = (select(&PATHS[..]), select(&METHODS[..])).prop_map(|(path, method)| format!(r#"{{"path":"{path}",{method}}}"#));
    let zones = select(vec!["utc", "keep"]);
    let parameters = (any::<[bool; 5]>(), select(vec!["resource", "patient"]), zones, select(vec!["raise", "skip"]));
    (prop::collection::vec(rule, 0..9), parameters).prop_map(|(rules, (flags, scope, zone, errors))| {
        let [dates, ages, zip_codes, extensions, drops] = flags;
        let unnamed = if drops { "drop" } else { "keep" };
        let parameters = format!(
            r#"{{"dateShiftKey":"k","dateShiftScope":"{scope}","dateShiftTimeZone":"{zone}","enablePartialDatesForRedact":{dates},"enablePartialAgesForRedact":{ages},
            "enablePartialZipCodesForRedact":{zip_codes},"rulesInExtensions":{extensions},"unnamedElements":"{unnamed}"}}"#
        );
        format!(r#"{{"processingErrors":"{errors}","fhirPathRules":[{}],"parameters":{parameters}}}"#, rules.join(","))
    })
}

/// Generates an object with some of the members in any order.
fn object_of(members: Vec<String>) -> impl Strategy<Value = String> + Clone {
    let all = 0..=members.len();
    subsequence(members, all).prop_shuffle().prop_map(|members| format!("{{{}}}", members.join(",")))
}

/// Generates an object with some of the members in any order.
fn object(members: &[&str]) -> impl Strategy<Value = String> + Clone {
    object_of(members.iter().map(|member| (*member).to_owned()).collect())
}

/// Generates a resource with some of the members in any order.
fn resource(type_name: &'static str, members: Vec<(&'static str, BoxedStrategy<String>)>) -> BoxedStrategy<String> {
    let member = |(name, values): (&'static str, BoxedStrategy<String>)| values.prop_map(move |value| format!(r#""{name}":{value}"#));
    let members: Vec<_> = members.into_iter().map(|values| prop::option::weighted(0.6, member(values)).boxed()).collect();
    let members = members.prop_map(|members| members.into_iter().flatten().collect::<Vec<_>>()).prop_shuffle();
    members
        .prop_map(move |members| {
            format!(r#"{{"resourceType":"{type_name}"{}}}"#, members.iter().map(|member| format!(",{member}")).collect::<String>())
        })
        .boxed()
}

/// Adds a member to an object.
fn with_member(object: &str, member: &str) -> String {
    let open = object.strip_suffix('}').unwrap();
    let comma = if open == "{" { "" } else { "," };
    format!("{open}{comma}{member}}}")
}

/// Generates a Period.
fn period() -> BoxedStrategy<String> {
    object(&[r#""start":"2001-02-03T04:05:06.7Z""#, r#""end":"2002""#, r#""_end":{"id":"x"}"#, r#""id":"p""#]).boxed()
}

/// Generates an Extension.
fn extension() -> BoxedStrategy<String> {
    select(vec![
        r#"{"url":"http://x","valueDecimal":1.50}"#,
        r#"{"url":"http://x","extension":[{"url":"y","valueDate":"1900-01-02"},{"url":"z","valueReference":{"reference":"Patient/1"}}]}"#,
        r#"{"url":"http://x","valuePeriod":{"start":"2001-02-03"}}"#,
        r#"{"url":"http://x","valueReference":{"reference":"Patient/q","identifier":{"period":{"start":"2001-02-03"}}}}"#,
        r#"{"url":"http://x","valueUri":"Patient/q/_history/2"}"#,
        r#"{}"#,
    ])
    .prop_map(str::to_owned)
    .boxed()
}

/// Generates an array of up to two items.
fn list(item: BoxedStrategy<String>) -> BoxedStrategy<String> {
    prop::collection::vec(item, 0..3).prop_map(|items| format!("[{}]", items.join(","))).boxed()
}

/// Generates one of several values.
fn fixed(values: &[&'static str]) -> BoxedStrategy<String> {
    select(values.to_vec()).prop_map(str::to_owned).boxed()
}

/// Generates a Meta.
fn meta() -> BoxedStrategy<String> {
    let security = [r#"[{"code":"REDACTED"}]"#, r#"[]"#, r#"[{"system":"s","code":"perturbed"}]"#];
    let rest = object(&[r#""versionId":"1""#, r#""lastUpdated":"2020-01-02T03:04:05Z""#]);
    (rest, fixed(&security)).prop_map(|(rest, security)| with_member(&rest, &format!(r#""security":{security}"#))).boxed()
}

/// Generates a Quantity.
fn quantity() -> BoxedStrategy<String> {
    object(&[r#""value":12.340"#, r#""unit":"kg""#, r#""code":"kg""#, r#""extension":[{"url":"http://x","valueDecimal":7.0}]"#]).boxed()
}

/// Generates a Patient.
fn patients() -> BoxedStrategy<String> {
    let names =
        object(&[r#""use":"official""#, r#""family":"Müller \"x\"""#, r#""given":["A","Bernhard"]"#, r#""_given":[null,{"id":"g"}]"#]);
    let names = (names, period()).prop_map(|(name, period)| with_member(&name, &format!(r#""period":{period}"#))).boxed();
    let contact = (names.clone(), period()).prop_map(|(name, period)| format!(r#"{{"name":{name},"period":{period}}}"#)).boxed();
    let address = object(&[r#""postalCode":"20301-1830""#, r#""city":"Bern""#, r#""line":["1 Way"]"#, r#""state":"BE""#]).boxed();
    resource(
        "Patient",
        vec![
            ("id", fixed(&[r#""p1""#, r#""p\u0032""#])),
            ("meta", meta()),
            ("text", fixed(&[r#"{"status":"generated","div":"<div>x</div>"}"#])),
            ("extension", list(extension())),
            ("name", prop_oneof![list(names.clone()), names].boxed()),
            ("gender", fixed(&[r#""male""#, r#"" female\t""#, r#""f\u0065male""#])),
            ("_gender", extension().prop_map(|extension| format!(r#"{{"extension":[{extension}]}}"#)).boxed()),
            ("birthDate", fixed(&[r#""1920-01-02""#, r#""2001-02-03""#, r#""2001-02""#])),
            ("_birthDate", extension().prop_map(|extension| format!(r#"{{"extension":[{extension}]}}"#)).boxed()),
            ("address", list(address)),
            ("contact", list(contact)),
            ("multipleBirthInteger", fixed(&["2"])),
            ("contained", list(observations(0))),
        ],
    )
}

/// Generates an Observation.
fn observations(depth: usize) -> BoxedStrategy<String> {
    let component = (quantity(), fixed(&[r#"{"text":"code"}"#]))
        .prop_map(|(value, code)| format!(r#"{{"code":{code},"valueQuantity":{value}}}"#))
        .boxed();
    let mut members = vec![
        ("id", fixed(&[r#""o1""#])),
        ("meta", meta()),
        ("status", fixed(&[r#""final""#, r#""preliminary""#])),
        ("subject", fixed(&[r#"{"reference":"Patient/p1","display":"P"}"#, r#"{"reference":"urn:uuid:1"}"#])),
        ("effectiveDateTime", fixed(&[r#""2015-02-07T13:28:17-05:00""#, r#""1901""#])),
        ("component", list(component)),
    ];
    members.push(if depth == 0 { ("valueQuantity", quantity()) } else { ("valuePeriod", period()) });
    resource("Observation", members)
}

/// Generates a Bundle of Patients and Observations.
fn bundles() -> BoxedStrategy<String> {
    let full_url = fixed(&["", r#""fullUrl":"urn:uuid:1","#, r#""fullUrl":"https://x.org/r4/Patient/p1","#]);
    let resource_of_entry = prop_oneof![patients(), observations(0)];
    let entry = (full_url, resource_of_entry).prop_map(|(full_url, resource)| format!(r#"{{{full_url}"resource":{resource}}}"#)).boxed();
    resource("Bundle", vec![("id", fixed(&[r#""b""#])), ("timestamp", fixed(&[r#""2020-01-02T03:04:05Z""#])), ("entry", list(entry))])
}

/// Generates a Patient, an Observation or a Bundle of them.
fn resources() -> BoxedStrategy<String> {
    prop_oneof![patients(), observations(0), observations(1), bundles()].boxed()
}

/// Returns JSON in a form that does not depend on the order of members.
fn canonical(text: &[u8]) -> String {
    fn write(json: JsonValue<'_>, out: &mut String) {
        match json.json_type() {
            JsonType::Object => {
                let mut members: Vec<_> = json.members().collect();
                members.sort_by(|(left, _), (right, _)| left.cmp(right));
                for (name, value) in members {
                    *out += &format!("{{{name}:");
                    write(value, out);
                    out.push('}');
                }
            }
            JsonType::Array => {
                out.push('[');
                json.items().for_each(|item| {
                    write(item, out);
                    out.push(',');
                });
                out.push(']');
            }
            JsonType::String | JsonType::Number | JsonType::Boolean | JsonType::Null => *out += json.as_str(),
        }
    }
    let mut out = String::new();
    let text = std::str::from_utf8(text).unwrap();
    serde_json::from_str::<IgnoredAny>(text).unwrap();
    write(JsonValue::from_valid(text), &mut out);
    out
}

/// Returns the outputs of the streaming engine and of the tree engine; `None` if an engine fails.
pub(super) fn outputs_of_both_engines(config: &str, resource: &str) -> [Option<String>; 2] {
    outputs_in_version(FhirVersion::R4, config, resource)
}

/// Returns the outputs of both engines for a version of FHIR.
fn outputs_in_version(version: FhirVersion, config: &str, resource: &str) -> [Option<String>; 2] {
    let deidentifier = DeidConfig::parse(config.as_bytes(), version).unwrap().for_job(&job());
    let (mut streamed, mut by_tree) = (Vec::new(), Vec::new());
    let can_stream = deidentify_streaming(&deidentifier.engine, resource, DatePatient::Given(Some("p1")), &mut streamed).is_ok();
    let is_valid = deidentifier.write_with_tree(resource.as_bytes(), Some("p1"), &mut NoObserver, &mut by_tree).is_ok();
    [(can_stream, streamed), (is_valid, by_tree)].map(|(has_output, text)| has_output.then(|| canonical(&text)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn both_engines_write_the_same(config in configurations(), resource in resources()) {
        let [streamed, by_tree] = outputs_of_both_engines(&config, &resource);
        // The streaming engine leaves unusual resources to the tree engine.
        prop_assert!(streamed.is_none() || streamed == by_tree, "{config}\n{resource}\n{streamed:?}\n{by_tree:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    // A line break inside of a resource is left to the tree engine.
    #[test]
    fn an_explanation_of_a_resource_with_spaces_is_exact(config in configurations(), resource in resources(), gap in select(vec![" ", "\n"])) {
        let spaced = JsonValue::from_valid(&resource).to_pretty().replace('\n', gap);
        if let Ok(explanation) = deidentifier(&config).explain(spaced.as_bytes(), Some("p1")) {
            prop_assert!(explanation.is_exact, "{config}\n{spaced}\n{}", String::from_utf8_lossy(&explanation.output));
        }
    }
}

/// Texts that break JSON or FHIR.
const FRAGMENTS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0041",
    "null",
    "true",
    "1",
    "01",
    "1.",
    "-",
    " ",
    "\n",
    "\u{7f}",
    "é",
    "{}",
    "[]",
    "\"id\":\"x\",",
    "\"_id\":{},",
    "\"resourceType\":\"Patient\",",
];

/// Generates a resource in which some parts are replaced by fragments.
fn broken_resources() -> impl Strategy<Value = String> {
    let change = (any::<prop::sample::Index>(), 0_usize..6, select(&FRAGMENTS[..]));
    (resources(), prop::collection::vec(change, 1..4)).prop_map(|(mut text, changes)| {
        for (at, length, fragment) in changes {
            let offsets: Vec<usize> = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
            let begin = at.index(offsets.len());
            let end = (begin + length).min(offsets.len() - 1);
            text.replace_range(offsets[begin]..offsets[end], fragment);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    // The streaming engine accepts nothing that the tree engine rejects.
    #[test]
    fn the_streaming_engine_is_as_strict_as_the_tree_engine(config in configurations(), resource in broken_resources()) {
        let [streamed, by_tree] = outputs_of_both_engines(&config, &resource);
        prop_assert!(streamed.is_none() || streamed == by_tree, "{config}\n{resource}\n{streamed:?}\n{by_tree:?}");
    }

    #[test]
    fn a_failure_leaves_no_output(config in configurations(), resource in broken_resources()) {
        let mut out = b"before".to_vec();
        let failed = deidentifier(&config).deidentify(resource.as_bytes(), Some("p1"), &mut out).is_err();
        prop_assert!(out.starts_with(b"before") && (!failed || out.len() == 6));
    }
}

// Otherwise the tests above would compare nothing.
#[test]
fn the_streaming_engine_handles_ordinary_resources() {
    let config = r#"{"fhirPathRules":[{"path":"nodesByType('Extension')","method":"redact"},{"path":"Resource.id","method":"cryptoHash"},
        {"path":"nodesByType('HumanName').use","method":"keep"},{"path":"nodesByType('HumanName')","method":"redact"},
        {"path":"nodesByType('date')","method":"dateShift"},{"path":"Observation.value","method":"perturb","span":1}]}"#;
    for resource in [
        r#"{"resourceType":"Patient","id":"1","meta":{"versionId":"1"},"extension":[{"url":"x","valueCode":"M"}],"name":[{"use":"usual","family":"A"}],
            "birthDate":"2001-02-03","_birthDate":{"extension":[{"url":"x","valueDateTime":"2001-02-03T00:00:00Z"}]}}"#,
        r#"{"resourceType":"Observation","id":"1","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.5},"contained":[{"resourceType":"Patient","birthDate":"2001-02-03"}]}"#,
    ] {
        let resource = resource.replace("\n            ", "");
        let [streamed, by_tree] = outputs_of_both_engines(config, &resource);
        assert!(streamed.is_some());
        assert_eq!(streamed, by_tree);
    }
}

/// Returns an Encounter with a status, and with another Encounter inside it.
fn encounter(status: &str) -> String {
    let nested = r#"{"resourceType":"Encounter","id":"e2","status":"finished","period":{"end":"2020-02-03"}}"#;
    let period = r#"{"start":"2020-02-03T04:05:06Z","_start":{"extension":[{"url":"x","valueDateTime":"2020-02-03"}]}}"#;
    format!(
        r#"{{"resourceType":"Encounter","contained":[{nested}],"id":"e","period":{period}{status},"statusHistory":[{{"status":"planned","period":{period}}}]}}"#
    )
}

#[test]
fn the_streaming_engine_decides_conditions_about_a_code_of_the_resource() {
    let redact = r#""method":"redact""#;
    let shift = ["nodesByType('dateTime')", r#""method":"dateShift""#];
    let ongoing = "Encounter.where(status in ('planned' | 'in-progress')).nodesByType('dateTime')";
    let config = |rules: &[[&str; 2]]| configuration(rules, r#""dateShiftKey":"k""#);
    for (status, is_redacted) in [
        (r#","status":"planned""#, true),
        (r#","status":" in-progress""#, true),
        (r#","status":"pl\u0061nned","_status":{"id":"x"}"#, true),
        (r#","status":"finished""#, false),
        (r#","_status":{"id":"x"}"#, false),
        ("", false),
    ] {
        let [streamed, by_tree] = outputs_of_both_engines(&config(&[[ongoing, redact], shift]), &encounter(status));
        assert!(streamed.is_some() && streamed == by_tree, "{status}\n{streamed:?}\n{by_tree:?}");
        let output = by_tree.unwrap();
        assert_eq!(output.matches("T00:00:00Z").count(), if is_redacted { 0 } else { 2 }, "{status}: {output}");
        assert_eq!(output.matches("{end:").count(), 1, "{status}: the contained Encounter is finished: {output}");
    }
    // Two rules with one condition, and rules with several.
    let finished = ["Encounter.where(status = 'finished').period.end", redact];
    let planned = ["Encounter.where(status = 'planned').id", r#""method":"cryptoHash""#];
    for status in ["planned", "in-progress", "finished"] {
        let resource = encounter(&format!(r#","status":"{status}""#));
        let rules = [[ongoing, redact], [ongoing, redact], finished, planned, shift];
        let [streamed, by_tree] = outputs_of_both_engines(&config(&rules), &resource);
        assert!(streamed.is_some() && streamed == by_tree, "{status}\n{streamed:?}\n{by_tree:?}");
    }
}

#[test]
fn a_condition_about_a_code_that_an_earlier_rule_changes_needs_the_tree() {
    let resource = encounter(r#","status":"planned""#);
    let ongoing = ["Encounter.where(status = 'planned').nodesByType('dateTime')", r#""method":"redact""#];
    for (path, settings, can_stream) in [
        ("Encounter.status", r#""method":"redact""#, false),
        ("nodesByType('code')", r#""method":"cryptoHash""#, false),
        ("nodesByName('status')", r#""method":"redact""#, false),
        ("Encounter", r#""method":"redact""#, false),
        ("Encounter.status", r#""method":"keep""#, true),
        ("Encounter.statusHistory", r#""method":"redact""#, true),
    ] {
        let config = configuration(&[[path, settings], ongoing], "");
        let [streamed, by_tree] = outputs_of_both_engines(&config, &resource);
        assert_eq!(streamed.is_some(), can_stream, "{path} {settings}");
        assert!(by_tree.is_some() && (streamed.is_none() || streamed == by_tree), "{path} {settings}\n{streamed:?}\n{by_tree:?}");
    }
}

#[test]
fn the_streaming_engine_handles_all_types_of_the_samples() {
    let of_conditions = ["Encounter", "EpisodeOfCare", "Procedure", "MedicationAdministration", "Appointment"];
    for (name, version, added) in [
        ("study", FhirVersion::R4, None),
        ("safe-harbor", FhirVersion::R4, None),
        ("study-r4b", FhirVersion::R4b, None),
        ("study-r5", FhirVersion::R5, Some("EncounterHistory")),
    ] {
        let path = format!("{}/../../tests/samples/anonymization/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let config = std::fs::read_to_string(path).unwrap();
        let types = version.types().iter().map(|kind| (kind.as_str(), ""));
        let with_status = |status| of_conditions.into_iter().chain(added).map(move |kind| (kind, status));
        let ongoing = with_status(r#","status":"in-progress""#).chain(with_status(r#","status":"booked""#));
        for (kind, status) in types.chain(ongoing).chain(with_status(r#","status":"finished""#)) {
            let resource = format!(r#"{{"resourceType":"{kind}","id":"MRN-1"{status},"meta":{{"versionId":"1"}}}}"#);
            let [streamed, by_tree] = outputs_in_version(version, &config, &resource);
            assert!(streamed.is_some() && streamed == by_tree, "{name}: {resource}\n{streamed:?}\n{by_tree:?}");
        }
    }
}

#[test]
fn both_engines_move_the_dates_of_an_entry_by_its_own_patient() {
    let date = "2015-02-07";
    let contained = format!(r#""contained":[{{"resourceType":"Patient","id":"q","birthDate":"{date}"}}]"#);
    let observation = |id: &str, subject: &str| {
        format!(r#"{{"resourceType":"Observation",{id}{subject}"status":"final",{contained},"effectiveDateTime":"{date}"}}"#)
    };
    let subject = |id: &str| format!(r#""subject":{{"reference":"Patient/{id}"}},"#);
    let resources = [
        format!(r#"{{"resourceType":"Patient","id":"q","birthDate":"{date}"}}"#),
        observation(r#""id":"o","#, &subject("p")),
        observation("", &subject("q")),
        observation(r#""id":"p","#, ""),
        // The subject counts, although another patient's id comes first in sort order.
        observation(r#""id":"n","performer":[{"reference":"Patient/a"}],"#, &subject("q")),
    ];
    let patients = ["q", "p", "q", "p", "q"];
    let entries: Vec<_> = resources.iter().map(|resource| format!(r#"{{"resource":{resource}}}"#)).collect();
    let identifier = format!(r#""identifier":{{"period":{{"start":"{date}"}}}}"#);
    let bundle = format!(r#"{{"resourceType":"Bundle","id":"b","entry":[{}],{identifier}}}"#, entries.join(","));
    let hash = ["Resource.id", r#""method":"cryptoHash""#];
    let references = ["nodesByType('Reference').reference", r#""method":"cryptoHash""#];
    let shifts = ["date", "dateTime"].map(|name| format!("nodesByType('{name}')"));
    let shifts = shifts.iter().map(|path| [path.as_str(), r#""method":"dateShift""#]);
    let config = configuration(
        &[hash, references].into_iter().chain(shifts).collect::<Vec<_>>(),
        r#""dateShiftKey":"k","dateShiftScope":"patient""#,
    );
    let deidentifier = deidentifier(&config);
    // A Patient alone shows how far the dates of a patient move.
    let moved = |id: &str| {
        let patient = format!(r#"{{"resourceType":"Patient","id":"{id}","birthDate":"{date}"}}"#);
        let mut out = Vec::new();
        deidentifier.deidentify(patient.as_bytes(), Some(id), &mut out).unwrap();
        parse_json(&String::from_utf8(out).unwrap())["birthDate"].clone()
    };
    assert_ne!(moved("p"), moved("q"));
    let [mut streamed, mut by_tree] = [Vec::new(), Vec::new()];
    deidentify_streaming(&deidentifier.engine, &bundle, DatePatient::Given(None), &mut streamed).unwrap();
    deidentifier.deidentify_with_tree(bundle.as_bytes(), None, &mut by_tree).unwrap();
    assert_eq!(canonical(&streamed), canonical(&by_tree));
    assert!(deidentifier.explain(bundle.as_bytes(), None).unwrap().is_exact, "the preview shows the same");
    let output = parse_json(&String::from_utf8(streamed).unwrap());
    for (entry, patient) in output["entry"].as_array().unwrap().iter().zip(patients) {
        let resource = &entry["resource"];
        let dates = [&resource["birthDate"], &resource["effectiveDateTime"], &resource["contained"][0]["birthDate"]];
        let moved = moved(patient);
        assert!(dates.iter().all(|date| date.is_null() || **date == moved), "{patient}: {resource}");
    }
    assert_eq!(output["identifier"]["period"]["start"], moved("b"), "the dates of the Bundle follow its entries, and move by its own id");
}

/// Returns a configuration that moves dates by patients.
fn shifting_by_patient() -> String {
    configuration(&[["nodesByType('dateTime')", r#""method":"dateShift""#]], r#""dateShiftKey":"k","dateShiftScope":"patient""#)
}

/// Returns the output for a resource with the patient that the validated resource names, as an export finds it.
fn deidentify_with_first_patient(deidentifier: &Deidentifier, resource: &str) -> Option<Vec<u8>> {
    let mut index = MemberIndex::default();
    let parsed = Resource::parse(resource.as_bytes(), &mut index).ok()?;
    let patient = PatientCompartment::new(FhirVersion::R4, BaseUrls::any()).first_patient(&parsed);
    let mut out = Vec::new();
    deidentifier.deidentify(resource.as_bytes(), patient.as_deref(), &mut out).ok()?;
    Some(out)
}

proptest! {
    #[test]
    fn a_line_that_was_not_validated_moves_by_the_same_patient(resource in prop_oneof![resources(), broken_resources()]) {
        let deidentifier = deidentifier(&shifting_by_patient());
        let mut out = Vec::new();
        if deidentifier.deidentify_valid(resource.as_bytes(), &mut out) {
            prop_assert_eq!(Some(out), deidentify_with_first_patient(&deidentifier, &resource));
        }
    }
}

#[test]
fn a_line_that_was_not_validated_moves_by_the_first_of_its_patients() {
    let deidentifier = deidentifier(&shifting_by_patient());
    let observation = |members: &str| format!(r#"{{"resourceType":"Observation","id":"o","effectiveDateTime":"2015-02-07"{members}}}"#);
    let moved = |members: &str| {
        let (resource, mut out) = (observation(members), Vec::new());
        assert!(deidentifier.deidentify_valid(resource.as_bytes(), &mut out), "{members}");
        assert_eq!(Some(&out), deidentify_with_first_patient(&deidentifier, &resource).as_ref(), "{members}");
        parse_json(&String::from_utf8(out).unwrap())["effectiveDateTime"].clone()
    };
    let of_patient = moved(r#","subject":{"reference":"Patient/p"}"#);
    assert_eq!(of_patient, moved(r#","performer":[{"reference":"Patient/q"},{"reference":"https://x.org/r4/Patient/p"}]"#));
    assert_eq!(of_patient, moved(r#","subject":{"reference":"Patient\/p"}"#));
    assert_eq!(of_patient, moved(r#","subject":{"reference":"Patient/p "}"#), "the hash is that of the patient, too");
    assert_ne!(of_patient, moved(""));
    assert_ne!(of_patient, moved(r#","specimen":{"reference":"Patient/p"}"#));
}

#[test]
fn references_to_patients_elsewhere_do_not_move_the_dates_of_an_entry() {
    let config = shifting_by_patient();
    let observation =
        r#"{"resourceType":"Observation","id":"o","subject":{"reference":"https://other.org/Patient/p"},"effectiveDateTime":"2015-02-07"}"#;
    let bundle = format!(r#"{{"resourceType":"Bundle","id":"b","entry":[{{"resource":{observation}}}]}}"#);
    let moved = |bases: BaseUrls, resource: &str, pointer: &str| {
        let deidentifier = deidentifier(&config).with_base_urls(bases);
        parse_json(&deidentify(&deidentifier, resource).unwrap()).pointer(pointer).unwrap().clone()
    };
    let own = BaseUrls::only(["https://example.org".to_owned()]);
    let in_bundle = "/entry/0/resource/effectiveDateTime";
    assert_eq!(moved(own.clone(), &bundle, in_bundle), moved(own, observation, "/effectiveDateTime"), "by its id");
    assert_ne!(moved(BaseUrls::any(), &bundle, in_bundle), moved(BaseUrls::any(), observation, "/effectiveDateTime"), "by the patient");
}

/// A Bundle with the ids of a patient in addresses, before and after the patient itself.
const BUNDLE: &str = r#"{"resourceType":"Bundle","id":"b","type":"transaction-response","link":[{"relation":"self","url":"https://x.org/r4/Patient/MRN-1"},{"relation":"next","url":"https://x.org/r4/Patient?_id=MRN-1"}],"entry":[{"link":[{"relation":"z","url":"Patient/MRN-1"}],"fullUrl":"https://x.org/r4/Patient/MRN-1","resource":{"resourceType":"Patient","id":"MRN-1"},"request":{"method":"PUT","url":"Patient/MRN-1","ifNoneExist":"identifier=http://h.example|MRN-1"},"response":{"status":"200","location":"https://x.org/r4/Patient/MRN-1/_history/2"}}]}"#;

#[test]
fn both_engines_hide_the_ids_in_the_addresses_of_bundles_like_those_of_resources() {
    let written = |rules: &[[&str; 2]], parameters: &str| {
        let config = configuration(rules, parameters);
        let [streamed, by_tree] = outputs_of_both_engines(&config, BUNDLE);
        // A substituted id is left to the tree.
        assert_eq!(streamed.is_some(), !config.contains("substitute"), "{config}");
        assert!(streamed.is_none() || streamed == by_tree, "{config}\n{streamed:?}\n{by_tree:?}");
        parse_json(&deidentify(&deidentifier(&config), BUNDLE).unwrap())
    };
    let (hash, redact, keep) = (r#""method":"cryptoHash""#, r#""method":"redact""#, r#""method":"keep""#);
    let key = r#""cryptoHashKey":"0123456789abcdef0123456789abcdef""#;
    let hashed = written(&[["Resource.id", hash]], key);
    let entry = &hashed["entry"][0];
    let id = entry["resource"]["id"].as_str().unwrap();
    assert_eq!(id.len(), 64);
    assert_eq!(entry["fullUrl"], format!("https://x.org/r4/Patient/{id}"));
    assert_eq!(entry["request"]["url"], format!("Patient/{id}"));
    assert_eq!(entry["request"]["ifNoneExist"].as_str().map(str::len), Some(64), "the search names the patient, so all of it is hashed");
    assert_eq!(entry["response"]["location"], format!("https://x.org/r4/Patient/{id}/_history/2"));
    assert_eq!((&entry["link"][0]["url"], &hashed["link"][0]["url"]), (&entry["request"]["url"], &entry["fullUrl"]));
    assert!(!hashed.to_string().contains("MRN-1"), "{hashed}");
    for (rules, parameters) in [
        (&[["Resource.id", redact]][..], ""),
        (&[["Patient", redact]], ""),
        (&[["Patient.id", r#""method":"substitute","replaceWith":"x""#]], ""),
        (&[["Patient.id", hash]], r#""unnamedElements":"drop""#),
        (&[["Bundle.entry.fullUrl", redact], ["Resource.id", hash]], key),
    ] {
        let bundle = written(rules, parameters);
        assert!(!bundle.to_string().contains("MRN-1"), "{rules:?}: {bundle}");
    }
    // Rules of the file come first, and nothing changes if no rule hides ids.
    for rules in [&[["Bundle.entry.fullUrl", keep], ["Resource.id", hash]][..], &[["Patient.name", redact]], &[["Bundle.id", hash]]] {
        assert_eq!(written(rules, key)["entry"][0]["fullUrl"], "https://x.org/r4/Patient/MRN-1", "{rules:?}");
    }
}

#[test]
fn both_engines_hide_ids_in_the_values_of_parameters_and_tasks_like_those_of_resources() {
    let task = r#"{"resourceType":"Task","id":"t","input":[{"valueId":"MRN-1"},{"valueCode":"x"}],"output":[{"valueId":"MRN-1"}]}"#;
    let part = r#"{"name":"b","part":[{"name":"c","valueId":"MRN-1"}]}"#;
    let nested = r#"{"name":"r","resource":{"resourceType":"Patient","id":"MRN-1"}}"#;
    let parameters = format!(r#"{{"resourceType":"Parameters","id":"p","parameter":[{{"name":"a","valueId":"MRN-1"}},{part},{nested}]}}"#);
    let written = |rules: &[[&str; 2]], resource: &str| {
        let config = configuration(rules, r#""cryptoHashKey":"0123456789abcdef0123456789abcdef""#);
        let [streamed, by_tree] = outputs_of_both_engines(&config, resource);
        assert!(streamed.is_some() && streamed == by_tree, "{config}\n{streamed:?}\n{by_tree:?}");
        parse_json(&deidentify(&deidentifier(&config), resource).unwrap())
    };
    let (hash, redact, keep) = (r#""method":"cryptoHash""#, r#""method":"redact""#, r#""method":"keep""#);
    let ids = ["Resource.id", hash];
    let (hashed_task, hashed) = (written(&[ids], task), written(&[ids], &parameters));
    let id = &hashed["parameter"][2]["resource"]["id"];
    assert_eq!(id.as_str().unwrap().len(), 64);
    for value in [
        &hashed["parameter"][0]["valueId"],
        &hashed["parameter"][1]["part"][0]["valueId"],
        &hashed_task["input"][0]["valueId"],
        &hashed_task["output"][0]["valueId"],
    ] {
        assert_eq!(value, id);
    }
    assert_eq!(hashed_task["input"][1]["valueCode"], "x");
    assert!(!written(&[["Resource.id", redact]], task).to_string().contains("MRN-1"));
    // Rules of the file come first, and nothing changes if no rule hides ids.
    for rules in [&[["Task.input", keep], ids][..], &[["Patient.name", redact]]] {
        assert_eq!(written(rules, task)["input"][0]["valueId"], "MRN-1", "{rules:?}");
    }
    let config = DeidConfig::parse(configuration(&[ids], "").as_bytes(), FhirVersion::R4).unwrap();
    let coverage = config.coverage(ResourceType::parse("Task").unwrap()).unwrap();
    let treatment = |path: &str| coverage.elements.iter().find(|element| element.path == path).map(|element| element.treatment);
    assert_eq!(treatment("Task.input.valueId"), Some(DeidTreatment::Hashed));
}

#[test]
fn ids_that_a_condition_may_hide_are_hidden_in_the_addresses_of_bundles() {
    let config = configuration(&[["Patient.where(active).id", r#""method":"cryptoHash""#]], "");
    let bundle = deidentify(&deidentifier(&config), BUNDLE).unwrap();
    assert_eq!(bundle.matches("MRN-1").count(), 1, "only the id of the Patient, for which the condition is false: {bundle}");
}

#[test]
fn both_engines_remove_the_ids_of_values_that_a_rule_changes() {
    let patient = r#"{"resourceType":"Patient","id":"p","birthDate":"2001-02-03","_birthDate":{"id":"secret"},"gender":"male","_gender":{"id":"secret"}}"#;
    let observation =
        r#"{"resourceType":"Observation","id":"o","valueQuantity":{"id":"kept","value":72,"_value":{"id":"secret"}},"status":"final"}"#;
    let generalize = r#""method":"generalize","cases":{"$this = 'female'":"'x'"},"otherValues":"keep""#;
    for (resource, path, settings) in [
        (patient, "Patient.birthDate | Patient.gender", r#""method":"dateShift""#),
        (patient, "Patient.birthDate | Patient.gender", r#""method":"redact""#),
        (patient, "Patient.birthDate | Patient.gender", r#""method":"cryptoHash""#),
        (patient, "Patient.birthDate | Patient.gender", generalize),
        (observation, "Observation.value", r#""method":"perturb","span":2"#),
        (observation, "Observation.value.value", r#""method":"perturb","span":2"#),
    ] {
        let config = configuration(&[[path, settings]], "");
        let [streamed, by_tree] = outputs_of_both_engines(&config, resource);
        let by_tree = by_tree.unwrap();
        assert!(streamed.is_none_or(|streamed| streamed == by_tree), "{config}: {by_tree}");
        assert!(!by_tree.contains("secret"), "{config}: {by_tree}");
        assert_eq!(by_tree.contains("kept"), resource.contains("kept"), "a Quantity itself stays");
    }
    let [_, by_tree] = outputs_of_both_engines(&configuration(&[["Patient.birthDate", r#""method":"keep""#]], ""), patient);
    assert!(by_tree.unwrap().contains("secret"));
}
