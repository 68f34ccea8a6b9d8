use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A resource of a generated input.
#[derive(Clone, Debug)]
struct Sample {
    kind: &'static str,
    /// The logical id, from a small range: several resources may be versions of one.
    id: Option<u8>,
    identifier: Option<u8>,
    references: Vec<SampleReference>,
}

#[derive(Clone, Debug)]
enum SampleReference {
    /// To the full URL of a resource, or of none.
    Urn(usize),
    /// By the identifier of a resource, or of none.
    Conditional(&'static str, u8),
    Literal,
    OtherSearch,
    Contained,
}

const KINDS: [&str; 4] = ["Patient", "Practitioner", "Organization", "Observation"];

fn urn(number: usize) -> String {
    format!("urn:uuid:00000000-0000-4000-8000-{number:012x}")
}

impl SampleReference {
    /// Returns the text of the reference.
    fn text(&self) -> String {
        match self {
            Self::Urn(number) => urn(*number),
            Self::Conditional(kind, identifier) => format!("{kind}?identifier=http://h/ids|{identifier}"),
            Self::Literal => "Patient/elsewhere".to_owned(),
            Self::OtherSearch => "Patient?name=x".to_owned(),
            Self::Contained => "#c".to_owned(),
        }
    }
}

impl Sample {
    /// Returns the id that the resource has in the lake.
    fn lake_id(&self, number: usize) -> String {
        self.id.map_or_else(|| urn(number).replace("urn:uuid:", ""), |id| format!("id-{id}"))
    }

    /// Returns the resource with these texts of references.
    fn resource(&self, id: Option<String>, reference: impl Fn(&SampleReference) -> String) -> Value {
        let mut resource = json!({
            "resourceType": self.kind,
            "identifier": self.identifier.map(|value| json!([{ "system": "http://h/ids", "value": value.to_string() }])),
            "text": "a \" reference\": { }",
            "link": self.references.iter().map(|one| json!({ "reference": reference(one), "value": 1.5 })).collect::<Vec<_>>(),
        });
        if let Some(id) = id {
            resource["id"] = id.into();
        }
        if self.identifier.is_none() {
            resource.as_object_mut().unwrap().remove("identifier");
        }
        resource
    }
}

/// Returns the number of resources that another one with the same id and other content follows. References do not count.
fn conflicts(samples: &[Sample], places: &[(u8, u8)]) -> u64 {
    let mut sorted: Vec<usize> = (0..samples.len()).collect();
    sorted.sort_by_key(|number| (samples[*number].kind, samples[*number].lake_id(*number), places[*number], *number));
    let is_conflict = |pair: &&[usize]| {
        let [before, after] = [pair[0], pair[1]].map(|number| (&samples[number], samples[number].lake_id(number)));
        let content = |sample: &Sample| (sample.identifier, sample.references.len());
        (before.0.kind, &before.1) == (after.0.kind, &after.1) && content(before.0) != content(after.0)
    };
    sorted.windows(2).filter(is_conflict).count() as u64
}

/// Returns what the lake must have, by a simple reading of the input as a whole: sorted resources, and the numbers of references that are
/// resolved and of those that are not. Of several resources with one id the last counts, in the order of files, Bundles and entries.
fn expected(samples: &[Sample], places: &[(u8, u8)]) -> (Vec<String>, u64, u64) {
    let target = |number: usize| format!("{}/{}", samples[number].kind, samples[number].lake_id(number));
    let place = |number: usize| (places[number], number);
    let is_last = |number: usize| !(0..samples.len()).any(|other| target(other) == target(number) && place(other) > place(number));
    let last: Vec<usize> = (0..samples.len()).filter(|number| is_last(*number)).collect();
    let mut identifiers = BTreeMap::<(&str, u8), BTreeSet<String>>::new();
    for number in &last {
        if let Some(identifier) = samples[*number].identifier {
            identifiers.entry((samples[*number].kind, identifier)).or_default().insert(target(*number));
        }
    }
    let resolve = |reference: &SampleReference| match reference {
        SampleReference::Urn(number) => (*number < samples.len()).then(|| target(*number)),
        SampleReference::Conditional(kind, identifier) => {
            let found = identifiers.get(&(*kind, *identifier)).filter(|found| found.len() == 1);
            found.and_then(|found| found.first().cloned())
        }
        SampleReference::Literal | SampleReference::OtherSearch | SampleReference::Contained => None,
    };
    let of_resource = |number: &usize| {
        let sample = &samples[*number];
        sample.resource(Some(sample.lake_id(*number)), |one| resolve(one).unwrap_or_else(|| one.text())).to_string()
    };
    let mut resources: Vec<String> = last.iter().map(of_resource).collect();
    resources.sort();
    let all = || last.iter().flat_map(|number| &samples[*number].references);
    let resolved = all().filter(|one| resolve(one).is_some()).count() as u64;
    let stays = all().filter(|one| matches!(one, SampleReference::Literal | SampleReference::Contained)).count() as u64;
    (resources, resolved, all().count() as u64 - resolved - stays)
}

fn sample() -> impl Strategy<Value = Sample> {
    let reference = prop_oneof![
        4 => (0_usize..14).prop_map(SampleReference::Urn),
        3 => (prop::sample::select(&KINDS[..]), 0_u8..5).prop_map(|(kind, identifier)| SampleReference::Conditional(kind, identifier)),
        1 => Just(SampleReference::Literal),
        1 => Just(SampleReference::OtherSearch),
        1 => Just(SampleReference::Contained),
    ];
    (prop::sample::select(&KINDS[..]), prop::option::of(0_u8..6), prop::option::of(0_u8..4), prop::collection::vec(reference, 0..4))
        .prop_map(|(kind, id, identifier, references)| Sample { kind, id, identifier, references })
}

/// Writes resources as Bundles: `places` says for each its file and its Bundle in the file.
fn write_bundles(folder: &Folder, samples: &[Sample], places: &[(u8, u8)], kind: &str, is_pretty: bool) {
    let mut files = BTreeMap::<u8, BTreeMap<u8, Vec<Value>>>::new();
    for (number, (sample, (file, bundle))) in samples.iter().zip(places).enumerate() {
        let id = sample.id.map(|id| format!("id-{id}"));
        let mut entry = json!({ "fullUrl": urn(number), "resource": sample.resource(id, SampleReference::text) });
        match kind {
            "transaction" | "batch" => entry["request"] = json!({ "method": "POST", "url": sample.kind }),
            "searchset" => entry["search"] = json!({ "mode": if number % 2 == 0 { "match" } else { "include" } }),
            _ => {}
        }
        files.entry(*file).or_default().entry(*bundle).or_default().push(entry);
    }
    for (file, bundles) in files {
        let bundles: Vec<Value> =
            bundles.into_values().map(|entries| json!({ "resourceType": "Bundle", "type": kind, "entry": entries })).collect();
        let text = |bundle: &Value| if is_pretty { format!("{bundle:#}\n") } else { format!("{bundle}\n") };
        // A file of lines has one Bundle a line.
        let lines: String = bundles.iter().map(|bundle| format!("{bundle}\n")).collect();
        match (bundles.as_slice(), file % 3) {
            ([bundle], 0) => folder.write(&format!("{file}/b.json"), text(bundle).as_bytes()),
            ([bundle], 1) => folder.write(&format!("{file}.json.gz"), text(bundle).as_bytes()),
            (_, 2) => folder.write(&format!("{file}.ndjson.zst"), lines.as_bytes()),
            _ => folder.write(&format!("{file}.ndjson"), lines.as_bytes()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_lake_has_exactly_the_resources_however_they_are_divided_into_bundles(
        samples in prop::collection::vec((sample(), 0_u8..4, 0_u8..3), 1..12),
        kind in prop::sample::select(vec!["transaction", "batch", "collection", "searchset", "history", "document", "message"]),
        is_pretty in any::<bool>(),
    ) {
        let folder = Folder::new();
        let (samples, places): (Vec<Sample>, Vec<(u8, u8)>) = samples.into_iter().map(|(sample, file, bundle)| (sample, (file, bundle))).unzip();
        write_bundles(&folder, &samples, &places, kind, is_pretty);
        let report = folder.add().unwrap();
        let (resources, resolved, unresolved) = expected(&samples, &places);
        prop_assert_eq!(report.resource_count(), resources.len() as u64);
        let repeated = report.left_out.get(&LeftOutReason::Repeated).map_or(0, |left_out| left_out.count);
        let conflicting = report.left_out.get(&LeftOutReason::Conflicting).map_or(0, |left_out| left_out.count);
        prop_assert_eq!(conflicting, conflicts(&samples, &places));
        prop_assert_eq!(report.resource_count() + repeated + conflicting, samples.len() as u64);
        prop_assert_eq!(folder.resources(), resources);
        prop_assert_eq!((report.references.resolved, report.references.unresolved()), (resolved, unresolved));
        prop_assert_eq!(report.is_complete(), unresolved == 0 && conflicting == 0);
        let lines = folder.lines();
        prop_assert!(folder.add().unwrap().is_repeat, "the same input is added once");
        prop_assert_eq!(folder.lines(), lines);
    }
}

#[test]
fn numbers_and_strings_keep_their_bytes() {
    let folder = Folder::new();
    let bundle = "{\"resourceType\":\"Bundle\",\n \"entry\":[{\"fullUrl\":\"urn:uuid:p\",\n  \"resource\":{\n   \"resourceType\":\"Patient\", \"id\":\"p\",\n   \"x\": 1.10, \"y\":\"\\u00e9  \\n\",\n   \"z\":[1e2,\"urn:uuid:p\",{\"reference\":\"urn:uuid:p\"}]}},\n {\"resource\":{\"resourceType\":\"Group\", \"id\":\"g\", \"x\": 1.10 }}]}";
    folder.write("b.json", bundle.as_bytes());
    folder.add().unwrap();
    let lines: Vec<String> = folder.lines().into_iter().map(|(_, line)| line).collect();
    assert_eq!(
        lines,
        [
            r#"{"resourceType":"Group", "id":"g", "x": 1.10 }"#,
            r#"{"resourceType":"Patient","id":"p","x":1.10,"y":"\u00e9  \n","z":[1e2,"urn:uuid:p",{"reference":"Patient/p"}]}"#,
        ]
    );
}

#[test]
fn deletions_have_the_time_of_their_entry_or_of_their_bundle() {
    let folder = Folder::new();
    let delete = |url: &str| json!({ "request": { "method": "DELETE", "url": url } });
    let mut timed = delete("Patient/2");
    timed["response"] = json!({ "status": "204", "lastModified": "2026-01-02T00:00:00Z" });
    let practitioner =
        json!({ "resource": { "resourceType": "Practitioner", "id": "x", "identifier": [{ "system": "s", "value": "1" }] } });
    let entries = [
        delete("Patient/1"),
        timed,
        delete("https://h/fhir/Group/3"),
        delete("Practitioner?identifier=s|1"),
        delete("Practitioner?identifier=s|2"),
        delete("Patient/4/_history/1"),
        delete("Patient/../../x"),
        practitioner,
    ];
    let bundle = json!({ "resourceType": "Bundle", "type": "history", "entry": entries, "timestamp": "2026-01-03T00:00:00Z" });
    folder.write("b.json", bundle.to_string().as_bytes());
    let report = folder.add().unwrap();
    let deletions: BTreeSet<String> = folder
        .lines()
        .iter()
        .filter(|(folder, _)| folder == "Bundle")
        .flat_map(|(_, line)| {
            let json = headrace_fhir::json::JsonValue::from_valid(line);
            let deletions = headrace_fhir::semantics::deletion::parse_deletions(json).expect("the lake reader knows the form");
            deletions.into_iter().map(|one| format!("{}/{} {}", one.resource_type, one.id, one.deleted_at.unwrap())).collect::<Vec<_>>()
        })
        .collect();
    let expected = [
        "Group/3 2026-01-03T00:00:00Z",
        "Patient/1 2026-01-03T00:00:00Z",
        "Patient/2 2026-01-02T00:00:00Z",
        "Patient/4 2026-01-03T00:00:00Z",
        "Practitioner/x 2026-01-03T00:00:00Z",
    ];
    assert_eq!(deletions.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!((report.deletions, report.left_out[&LeftOutReason::UnknownDeletion].count), (5, 2));
}

/// Returns the entries of a history with deletions in the forms of servers, and one that may be a deletion.
fn deletions_of_servers() -> Vec<Value> {
    let event = |id: &str, request: Value, status: &str| {
        let response = json!({ "status": status, "lastModified": "2026-01-03T00:00:00Z" });
        let mut event = json!({ "fullUrl": format!("http://h/Patient/{id}"), "response": response });
        if !request.is_null() {
            event["request"] = request;
        }
        event
    };
    vec![
        event("gone", json!(null), "410"),
        event("words", json!(null), "410 Gone"),
        event("read", json!({ "method": "GET", "url": "Patient/read/_history/2" }), "410"),
        event("empty", json!(null), "204"),
        event("lower", json!({ "method": "delete", "url": "Patient/lower" }), "204"),
        event("version", json!({ "method": "DELETE", "url": "Patient/version/_history/3" }), "204"),
        event("unclear", json!(null), "200"),
        event("changed", json!({ "method": "PUT", "url": "Patient/changed" }), "200"),
    ]
}

#[test]
fn a_history_deletes_in_the_forms_that_synchronizations_know_wherever_its_type_is() {
    for text in
        [r#"{"resourceType":"Bundle","type":"history","entry":ENTRY}"#, r#"{"entry":ENTRY,"resourceType":"Bundle","type":"history"}"#]
    {
        let folder = Folder::new();
        folder.write("b.json", text.replace("ENTRY", &Value::from(deletions_of_servers()).to_string()).as_bytes());
        let report = folder.add().unwrap();
        let deleted = |id: &str| folder.lines().iter().any(|(_, line)| line.contains(&format!("Patient/{id}\"")));
        let ids = ["gone", "words", "read", "empty", "lower", "version", "unclear", "changed"];
        assert_eq!(ids.iter().filter(|id| deleted(id)).count(), 6, "{:?}", folder.lines());
        assert_eq!((report.deletions, deleted("unclear"), deleted("changed")), (6, false, false));
        assert_eq!(report.left_out[&LeftOutReason::UnclearHistory].count, 1);
        assert!(!report.is_complete(), "it needs attention");
    }
}

#[test]
fn a_response_without_a_resource_is_a_deletion_in_a_history_only() {
    let folder = Folder::new();
    let bundle =
        json!({ "resourceType": "Bundle", "type": "batch-response", "entry": [deletions_of_servers()[0], deletions_of_servers()[3]] });
    folder.write("b.json", bundle.to_string().as_bytes());
    let report = folder.add().unwrap();
    assert_eq!((report.deletions, report.left_out[&LeftOutReason::NoResource].count, report.is_complete()), (0, 2, true));
}

#[test]
fn a_version_without_meta_has_the_version_id_and_the_time_of_its_response() {
    let folder = Folder::new();
    let version = |id: &str, number: u8, meta: &str| {
        let meta = if meta.is_empty() { String::new() } else { format!(r#","meta":{meta}"#) };
        let response =
            json!({ "status": "200", "etag": format!("W/\"{number}\""), "lastModified": format!("2026-01-0{number}T00:00:00Z") });
        let resource = format!(r#"{{"resourceType":"Patient","id":"{id}"{meta},"x":{number}.10}}"#);
        format!(r#"{{"resource":{resource},"request":{{"method":"PUT","url":"Patient/{id}"}},"response":{response}}}"#)
    };
    // The newest version comes first.
    let entries = [
        version("none", 2, ""),
        version("none", 1, ""),
        version("empty", 2, "{}"),
        version("tagged", 2, r#"{"tag":[]}"#),
        version("own", 2, r#"{"versionId":"7","lastUpdated":"2025-01-01T00:00:00Z"}"#),
    ];
    folder.write("b.json", format!(r#"{{"resourceType":"Bundle","type":"history","entry":[{}]}}"#, entries.join(",")).as_bytes());
    assert!(folder.add().unwrap().is_complete());
    let newest = folder.newest();
    let meta = |id: &str| newest[&format!("Patient/{id}")]["meta"].clone();
    let of_response = json!({ "versionId": "2", "lastUpdated": "2026-01-02T00:00:00Z" });
    assert_eq!((meta("none"), meta("empty")), (of_response.clone(), of_response));
    assert_eq!(meta("tagged"), json!({ "versionId": "2", "lastUpdated": "2026-01-02T00:00:00Z", "tag": [] }));
    assert_eq!(meta("own"), json!({ "versionId": "7", "lastUpdated": "2025-01-01T00:00:00Z" }));
    assert!(folder.lines().iter().any(|(_, line)| line.contains(r#""x":2.10"#)), "numbers keep their digits");
}

#[test]
fn outcomes_of_a_search_and_responses_are_not_resources() {
    let folder = Folder::new();
    let outcome = json!({ "resource": { "resourceType": "OperationOutcome", "id": "o" }, "search": { "mode": "outcome" } });
    let patient = json!({ "resource": { "resourceType": "Patient", "id": "p" }, "search": { "mode": "match" } });
    let response = json!({ "response": { "status": "201" } });
    folder.write("b.json", json!({ "resourceType": "Bundle", "entry": [outcome, patient, response] }).to_string().as_bytes());
    folder.write("manifest.json", br#"{"transactionTime":"2026-01-01T00:00:00Z","output":[]}"#);
    let report = folder.add().unwrap();
    assert_eq!(folder.objects().len(), 1);
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.resource_count(), report.files_without_data), (1, 1));
    let counts: Vec<_> = report.left_out.iter().map(|(reason, left_out)| (*reason, left_out.count)).collect();
    assert_eq!(counts, [(LeftOutReason::SearchOutcome, 1), (LeftOutReason::NoResource, 1)]);
}

#[test]
fn only_the_operator_says_up_to_when_bundles_are_complete_and_a_watermark_never_goes_back() {
    let folder = Folder::new();
    let write = |id: &str| {
        let bundle = json!({ "resourceType": "Bundle", "entry": [{ "resource": { "resourceType": "Patient", "id": id } }] });
        folder.write(&format!("{id}.json"), bundle.to_string().as_bytes());
    };
    write("a");
    folder.add().unwrap();
    assert_eq!(folder.watermark(), None);
    let add_up_to = |time| folder.add_with(&AddSettings { complete_up_to: Some(Millis(time)), ..folder.settings() }).unwrap().watermarks;
    write("b");
    assert_eq!(add_up_to(1_700_000_000_000), [(String::new(), WatermarkChange::Written(Millis(1_700_000_000_000)))]);
    assert_eq!(folder.watermark(), Some(json!({ "completeUpTo": "2023-11-14T22:13:20.000Z" })));
    fs::write(folder.lake().join("_headrace/watermark.json"), r#"{"writers":{"lab":1},"completeUpTo":"2024-01-01T00:00:00Z"}"#).unwrap();
    write("c");
    assert_eq!(add_up_to(1_700_000_000_000), [(String::new(), WatermarkChange::KeptLater(Millis(1_704_067_200_000)))]);
    write("d");
    add_up_to(1_710_000_000_000);
    assert_eq!(folder.watermark(), Some(json!({ "writers": { "lab": 1 }, "completeUpTo": "2024-03-09T16:00:00.000Z" })));
    fs::write(folder.lake().join("_headrace/watermark.json"), "yesterday").unwrap();
    write("e");
    assert_eq!(add_up_to(1_720_000_000_000), [(String::new(), WatermarkChange::KeptInvalid)]);
}
