use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Splits a text that arrives in chunks of `chunk_bytes`. Returns the texts of the entries and the headers.
fn split(text: &[u8], chunk_bytes: usize, limit_bytes: usize) -> Result<(Vec<String>, Vec<BundleHeader>), BundleError> {
    let mut splitter = BundleSplitter::new(limit_bytes);
    let (mut entries, mut headers) = (Vec::new(), Vec::new());
    for chunk in text.chunks(chunk_bytes) {
        splitter.push(chunk);
        while let Some(part) = splitter.next_part()? {
            match part {
                BundlePart::Entry { offset, text: entry } => {
                    let start = usize::try_from(offset).unwrap();
                    assert_eq!(&text[start..start + entry.len()], entry, "the offset is that of the entry");
                    entries.push(String::from_utf8(entry.to_vec()).unwrap());
                }
                BundlePart::End { header, .. } => headers.push(header),
            }
        }
    }
    splitter.finish()?;
    Ok((entries, headers))
}

const PAGE: &str = r#"{
  "link": [{"relation": "self", "url": "https://h/Patient?a=b"}, {"relation": "next", "url": "https://h?x=[1]&y={}"}],
  "entry": [
    {"fullUrl": "https://h/Patient/1", "resource": {"resourceType": "Patient", "id": "1", "x": 1.10}, "search": {"mode": "match"}},
    {"resource": {"resourceType": "OperationOutcome", "issue": []}, "search": {"mode": "outcome"}},
    {"fullUrl": "urn:uuid:a", "request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=a|b"}, "resource": {"a": "}\\\""}},
    {"request": {"method": "DELETE", "url": "Patient/2"}, "response": {"status": "204", "lastModified": "2026-01-31T08:00:00Z"}}
  ],
  "total": 17, "type": "searchset", "id": "b", "meta": {"lastUpdated": "2026-01-31T09:00:00Z"}, "timestamp": "2026-01-31T10:00:00Z",
  "resourceType": "Bundle"
}"#;

#[test]
fn a_bundle_is_split_into_entries_with_unchanged_resources() {
    let bundle = Bundle::parse(PAGE.as_bytes()).unwrap();
    assert_eq!(bundle.entries.len(), 4);
    let [matched, outcome, created, deleted] = &bundle.entries[..] else { panic!("four entries") };
    assert_eq!(matched.resource, Some(r#"{"resourceType": "Patient", "id": "1", "x": 1.10}"#));
    assert_eq!((matched.full_url.as_deref(), matched.search_mode.as_deref()), (Some("https://h/Patient/1"), Some("match")));
    assert!(outcome.is_outcome() && !matched.is_outcome());
    assert_eq!(created.resource, Some(r#"{"a": "}\\\""}"#));
    assert_eq!((created.method.as_deref(), created.url.as_deref()), (Some("POST"), Some("Patient")));
    assert_eq!(created.if_none_exist.as_deref(), Some("identifier=a|b"));
    assert!(deleted.is_deletion() && deleted.resource.is_none());
    assert_eq!((deleted.status.as_deref(), deleted.last_modified.as_deref()), (Some("204"), Some("2026-01-31T08:00:00Z")));
    let header = &bundle.header;
    assert_eq!((header.total, header.bundle_type.as_deref(), header.id.as_deref()), (Some(17), Some("searchset"), Some("b")));
    assert_eq!(header.last_updated.as_deref(), Some("2026-01-31T09:00:00Z"));
    assert_eq!(header.timestamp.as_deref(), Some("2026-01-31T10:00:00Z"));
    assert_eq!((bundle.link("next"), bundle.link("previous")), (Some("https://h?x=[1]&y={}"), None));
}

#[test]
fn chunks_of_any_size_give_the_same_parts() {
    let whole = split(PAGE.as_bytes(), PAGE.len(), usize::MAX).unwrap();
    for chunk_bytes in 1..40 {
        assert_eq!(split(PAGE.as_bytes(), chunk_bytes, usize::MAX), Ok(whole.clone()), "{chunk_bytes}");
    }
}

#[test]
fn a_text_may_have_several_bundles() {
    let text = "\u{feff}{\"resourceType\":\"Bundle\",\"entry\":[{},{\"a\":[]}]}\n\n {\"resourceType\":\"Bundle\",\"entry\":[]}\r\n{\"resourceType\":\"Bundle\"}";
    let (entries, headers) = split(text.as_bytes(), 3, usize::MAX).unwrap();
    assert_eq!((entries, headers.len()), (vec!["{}".to_owned(), "{\"a\":[]}".to_owned()], 3));
    assert!(Bundle::parse(text.as_bytes()).is_err(), "a page is one Bundle");
}

#[test]
fn a_text_that_is_not_a_bundle_is_rejected_with_its_position() {
    use BundleError::{InvalidMember, NotABundle, NotJson, Truncated};
    for (text, expected) in [
        ("", Truncated { offset: 0 }),
        ("[]", NotABundle { offset: 0 }),
        (" 7", NotABundle { offset: 1 }),
        ("{}", NotABundle { offset: 0 }),
        (r#"{"resourceType":"Patient","entry":[]}"#, NotABundle { offset: 16 }),
        (r#"{"resourceType":7}"#, InvalidMember { offset: 16 }),
        (r#"{"resourceType":"Bundle""#, Truncated { offset: 24 }),
        (r#"{"resourceType":"Bundle","entry":[{"#, Truncated { offset: 35 }),
        (r#"{"resourceType":"Bundle","entry":[{},]}"#, NotJson { offset: 37 }),
        (r#"{"resourceType":"Bundle","entry":[{}{}]}"#, NotJson { offset: 36 }),
        (r#"{"resourceType":"Bundle","entry":{}}"#, InvalidMember { offset: 33 }),
        (r#"{"resourceType":"Bundle","entry":[7]}"#, InvalidMember { offset: 34 }),
        (r#"{"resourceType":"Bundle","entry":[["urn:uuid:a"]]}"#, InvalidMember { offset: 34 }),
        (r#"{"resourceType":"Bundle","entry":[{"resource":{"a":01}}]}"#, NotJson { offset: 52 }),
        (r#"{"resourceType":"Bundle","entry":[{"fullUrl":7}]}"#, InvalidMember { offset: 34 }),
        (r#"{"resourceType":"Bundle","entry":[{"resource":{},"resource":{}}]}"#, InvalidMember { offset: 34 }),
        (r#"{"resourceType":"Bundle","entry":[],"entry":[]}"#, InvalidMember { offset: 36 }),
        (r#"{"resourceType":"Bundle","text":{"a" 1}}"#, NotJson { offset: 37 }),
        (r#"{"resourceType":"Bundle",}"#, NotJson { offset: 25 }),
        (r#"{"resourceType":"Bundle" "a":1}"#, NotJson { offset: 25 }),
        (r#"{"resourceType":"Bundle"}x"#, NotJson { offset: 25 }),
    ] {
        assert_eq!(Bundle::parse(text.as_bytes()).unwrap_err(), expected, "{text}");
    }
    // The parser names a byte within the string.
    let control = "{\"resourceType\":\"Bundle\",\"a\":\"\u{1}\"}";
    assert!(matches!(Bundle::parse(control.as_bytes()), Err(NotJson { offset: 29..=31 })));
}

#[test]
fn an_entry_of_any_size_is_held_only_up_to_the_limit() {
    let mut splitter = BundleSplitter::new(1_000);
    splitter.push(b"{\"resourceType\":\"Bundle\",\"entry\":[{\"resource\":{\"data\":\"");
    let mut pushed = 0;
    let error = loop {
        assert!(pushed < 3_000, "the limit was ignored");
        splitter.push(&[b'a'; 100]);
        pushed += 100;
        if let Err(error) = splitter.next_part() {
            break error;
        }
    };
    assert_eq!(error, BundleError::TooLarge { offset: 34, limit_bytes: 1_000 });
}

/// Generates a JSON value with texts that look like structure.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from), "[\\[\\]{}\",:\\\\a é]{0,6}".prop_map(Value::from)];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"\\]]{0,3}", inner, 0..3).prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn entries_are_those_of_the_json_tree(resources in prop::collection::vec(value(), 0..5), is_pretty in any::<bool>(), chunk in 1_usize..50) {
        let entries: Vec<Value> = resources.iter().map(|resource| json!({ "resource": resource, "fullUrl": "urn:uuid:x" })).collect();
        let tree = json!({ "resourceType": "Bundle", "entry": entries, "zzz": resources.first() });
        let text = if is_pretty { format!("{tree:#}") } else { tree.to_string() };
        let (texts, headers) = split(text.as_bytes(), chunk, usize::MAX).unwrap();
        let parsed: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        prop_assert_eq!((parsed, headers.len()), (entries, 1));
        let bundle = Bundle::parse(text.as_bytes()).unwrap();
        // A resource that is `null` is absent.
        let found: Vec<Value> = bundle.entries.iter().map(|entry| entry.resource.map_or(Value::Null, |text| serde_json::from_str(text).unwrap())).collect();
        prop_assert_eq!(found, resources);
    }

    #[test]
    fn damaged_text_is_rejected_or_has_the_entries_of_the_json_tree(at in any::<prop::sample::Index>(), byte in any::<u8>(), chunk in 1_usize..200) {
        let mut text = PAGE.as_bytes().to_vec();
        let at = at.index(text.len());
        text[at] = byte;
        assert!(split_any(&text, chunk).map_or(0, |(entries, _)| entries) <= 5);
        let tree = serde_json::from_slice::<Value>(&text);
        if let Ok(bundle) = Bundle::parse(&text) {
            prop_assert!(tree.is_ok());
            prop_assert_eq!(bundle.entries.len(), tree.unwrap()["entry"].as_array().map_or(0, Vec::len));
        }
    }
}

/// Splits any bytes. Returns the number of entries and of Bundles.
fn split_any(text: &[u8], chunk_bytes: usize) -> Result<(usize, usize), BundleError> {
    let mut splitter = BundleSplitter::new(usize::MAX);
    let (mut entries, mut bundles) = (0, 0);
    for chunk in text.chunks(chunk_bytes) {
        splitter.push(chunk);
        while let Some(part) = splitter.next_part()? {
            match part {
                BundlePart::Entry { .. } => entries += 1,
                BundlePart::End { .. } => bundles += 1,
            }
        }
    }
    splitter.finish()?;
    Ok((entries, bundles))
}
