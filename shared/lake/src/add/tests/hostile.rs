use serde_json::json;

use super::*;

/// Returns the error of adding one file.
fn refusal(name: &str, content: &[u8]) -> String {
    let folder = Folder::new();
    folder.write("first.json", br#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"p"}}]}"#);
    folder.write(name, content);
    let error = folder.add().expect_err(name).to_string();
    assert!(folder.objects().is_empty(), "{name}: nothing is added");
    let staging = fs::read_dir(folder.lake().join("_headrace/staging"));
    assert_eq!(staging.map_or(0, Iterator::count), 0, "{name}: nothing stays");
    assert!(error.contains(&format!("`{name}`")), "the error names the file: {error}");
    error
}

#[test]
fn a_file_that_is_not_a_bundle_is_refused_by_name_and_position() {
    for (name, content, words) in [
        ("x.json", &b"garbage"[..], "byte 0"),
        ("x.json", b"\xff\xfe{\0", "byte 0"),
        ("x.json", br#"{"resourceType":"Patient","id":"p"}"#, "not a Bundle"),
        ("x.json", br#"{"resourceType":"Bundle","entry":[{"resource":{"#, "truncated"),
        ("x.json", br#"{"resourceType":"Bundle","entry":[{"resource":{"a":tru}}]}"#, "byte 5"),
        ("x.json", br#"{"resourceType":"Bundle","entry":[{"fullUrl":{}}]}"#, "byte 34"),
        ("sub/x.json", br#"{"resourceType":"Bundle","entry":[],"entry":[]}"#, "twice"),
        ("x.ndjson", b"{\"resourceType\":\"Bundle\"}\n{\"resourceType\":\"Bundle\"", "truncated"),
        ("x.json", b"", "truncated"),
    ] {
        if content.is_empty() {
            continue;
        }
        let error = refusal(name, content);
        assert!(error.contains(words), "`{words}` is not in: {error}");
    }
}

#[test]
fn more_deletions_than_can_wait_for_the_time_of_their_bundle_are_refused() {
    let deletions = vec![r#"{"request":{"method":"DELETE","url":"Patient/1"}}"#; 100_001].join(",");
    let bundle = |time: &str| format!(r#"{{"resourceType":"Bundle",{time}"entry":[{deletions}]}}"#);
    assert!(refusal("x.json", bundle("").as_bytes()).contains("without a time"));
}

#[cfg(unix)]
#[test]
fn files_of_a_lake_can_be_read_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    folder.write("b.json", br#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"p"}}]}"#);
    folder.add().unwrap();
    for entry in WalkDir::new(folder.lake()).into_iter().map(Result::unwrap) {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{}", entry.path().display());
    }
}

#[test]
fn a_truncated_or_corrupt_compressed_file_is_refused() {
    let bundle = json!({ "resourceType": "Bundle", "entry": vec![json!({ "resource": { "resourceType": "Patient", "id": "p" } }); 999] });
    for (name, ending) in [("x.json.gz", "gz"), ("x.json.zst", "zst")] {
        let folder = Folder::new();
        folder.write(name, bundle.to_string().as_bytes());
        let stored = fs::read(folder.input().join(name)).unwrap();
        for (damage, words) in [(stored[..stored.len() / 2].to_vec(), "truncated"), (b"not compressed at all".to_vec(), "corrupt")] {
            fs::write(folder.input().join(name), damage).unwrap();
            let error = folder.add().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(words), "{ending}: {error}");
            assert!(folder.objects().is_empty());
        }
    }
}

#[test]
fn an_entry_that_does_not_fit_into_a_line_is_refused_and_a_long_bundle_is_not() {
    let long = format!(
        r#"{{"resourceType":"Bundle","entry":[{{"resource":{{"resourceType":"Binary","id":"b","data":"{}"}}}}]}}"#,
        "A".repeat(65 << 20)
    );
    assert!(refusal("long.json", long.as_bytes()).contains("more than 67108864 bytes"));
    let folder = Folder::new();
    let data = "A".repeat(9 << 20);
    let entry = |number: u32| format!(r#"{{"resource":{{"resourceType":"Binary","id":"b{number}","data":"{data}"}}}}"#);
    let entries: Vec<String> = (0..9).map(entry).collect();
    folder.write("long.json", format!(r#"{{"resourceType":"Bundle","entry":[{}]}}"#, entries.join(",")).as_bytes());
    assert_eq!(folder.add().unwrap().resource_count(), 9);
}

#[test]
fn resources_that_no_lake_can_have_are_left_out_with_their_position() {
    let folder = Folder::new();
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let entries = [
        r#"{"resource":{"resourceType":"Patient","id":"p"}}"#.to_owned(),
        r#"{"resource":{"resourceType":"Patient","id":"../../etc/passwd"}}"#.to_owned(),
        r#"{"resource":{"resourceType":"Watermill","id":"w"}}"#.to_owned(),
        r#"{"resource":{"resourceType":"../Patient","id":"w"}}"#.to_owned(),
        format!(r#"{{"resource":{{"resourceType":"Patient","id":"d","x":{deep}}}}}"#),
        format!(r#"{{"resource":{deep}}}"#),
    ];
    let bundle = format!(r#"{{"resourceType":"Bundle","entry":[{}]}}"#, entries.join(","));
    folder.write("b.json", bundle.as_bytes());
    let report = folder.add().unwrap();
    assert_eq!((report.resource_count(), report.is_complete()), (2, false));
    let unusable = &report.left_out[&LeftOutReason::UnusableId];
    let offset = bundle.find(&entries[1]).unwrap() as u64;
    assert_eq!(
        unusable.examples,
        [LeftOutExample { file: "b.json".to_owned(), position: InputPosition::Byte(offset), detail: String::new() }]
    );
    assert_eq!(report.left_out[&LeftOutReason::InvalidResource].count, 3);
    for object in folder.objects() {
        assert!(object.starts_with("Patient/"), "{object}");
    }
}

#[test]
fn ids_that_break_the_rules_of_fhir_are_added_and_told_with_their_position() {
    let entries = [
        r#"{"resource":{"resourceType":"Patient","id":"p"}}"#.to_owned(),
        format!(r#"{{"resource":{{"resourceType":"Patient","id":"{}"}}}}"#, "a".repeat(65)),
        r#"{"resource":{"resourceType":"Group","id":"a_b"}}"#.to_owned(),
    ];
    let bundle = format!(r#"{{"resourceType":"Bundle","entry":[{}]}}"#, entries.join(","));
    // The second id is not read by the fast parser of heads.
    let lines = "{\"resourceType\":\"Patient\",\"id\":\"p\"}\n{\"resourceType\":\"Group\",\t\"id\":\"a_b\"}\n";
    for (name, content, expected) in [
        (
            "b.json",
            bundle.as_str(),
            vec![
                (InputPosition::Byte(bundle.find(&entries[1]).unwrap() as u64), "Patient"),
                (InputPosition::Byte(bundle.find(&entries[2]).unwrap() as u64), "Group"),
            ],
        ),
        ("l.ndjson", lines, vec![(InputPosition::Line(2), "Group")]),
    ] {
        let folder = Folder::new();
        folder.write(name, content.as_bytes());
        let report = folder.add().unwrap();
        assert!(report.left_out.is_empty(), "{report:?}");
        let example = |(position, kind): &(InputPosition, &str)| LeftOutExample {
            file: name.to_owned(),
            position: *position,
            detail: (*kind).to_owned(),
        };
        let examples: Vec<_> = expected.iter().map(example).collect();
        assert_eq!((report.irregular_ids.count, &report.irregular_ids.examples), (examples.len() as u64, &examples));
    }
}

#[test]
fn a_patch_and_a_deletion_that_names_no_resource_are_told_by_name() {
    let folder = Folder::new();
    let patch = r#"{"request":{"method":"PATCH","url":"Patient/p"}}"#;
    folder.write("b.json", format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{patch}]}}"#).as_bytes());
    let report = folder.add().unwrap();
    assert_eq!((report.left_out[&LeftOutReason::Patch].count, report.is_complete()), (1, false));
    let folder = Folder::new();
    let delete = |url: &str| format!(r#"{{"request":{{"method":"DELETE","url":"{url}"}}}}"#);
    let deletions =
        format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{},{}]}}"#, delete("Patient/p"), delete("Patient?x=1"));
    folder.write("d.ndjson", format!("{deletions}\n").as_bytes());
    let report = folder.add().unwrap();
    assert_eq!((report.deletions, report.left_out[&LeftOutReason::UnknownDeletion].count, report.is_complete()), (1, 1, false));
}

#[test]
fn an_input_without_data_and_one_that_is_the_lake_are_refused() {
    let folder = Folder::new();
    folder.write("notes.txt", b"x");
    assert!(matches!(folder.add(), Err(AddError::NoFiles(_))));
    folder.write("b.json", br#"{"resourceType":"Bundle"}"#);
    let progress = Arc::new(Progress::default());
    for lake in [folder.input(), folder.input().join("lake"), folder.0.path().to_owned()] {
        assert!(matches!(add(&folder.input(), &lake, &folder.settings(), &progress), Err(AddError::Nested { .. })), "{}", lake.display());
    }
    assert!(matches!(add(&folder.input().join("none"), &folder.lake(), &folder.settings(), &progress), Err(AddError::Listing { .. })));
}
