use serde_json::{Value, json};

use super::*;

/// Returns an item of a table.
fn item(key: &str, version: u64, status: &str, more: &Value) -> Value {
    let mut item = json!({
        "id": { "S": key },
        "vid": { "N": version.to_string() },
        "resourceType": { "S": "Patient" },
        "documentStatus": { "S": status },
        "lockEndTs": { "N": "1769846400000" },
        "meta": { "M": { "versionId": { "S": version.to_string() }, "lastUpdated": { "S": "2026-01-31T07:00:00.000Z" } } },
    });
    item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    item
}

/// Writes a table's export with data files of these lines.
fn write_table(folder: &Folder, files: &[Vec<Value>]) {
    let mut list = String::new();
    for (number, lines) in files.iter().enumerate() {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        folder.write(&format!("AWSDynamoDB/01-a/data/f{number}.json.gz"), text.as_bytes());
        list +=
            &format!("{}\n", json!({ "itemCount": lines.len(), "dataFileS3Key": format!("p/AWSDynamoDB/01-a/data/f{number}.json.gz") }));
    }
    folder.write("AWSDynamoDB/01-a/manifest-files.json", list.as_bytes());
    let items: usize = files.iter().map(Vec::len).sum();
    let summary = json!({ "exportTime": "2026-02-01T00:00:00.5Z", "outputFormat": "DYNAMODB_JSON", "itemCount": items });
    folder.write("AWSDynamoDB/01-a/manifest-summary.json", summary.to_string().as_bytes());
}

fn full(item: Value) -> Value {
    json!({ "Item": item })
}

#[test]
fn the_current_version_of_each_resource_is_added_and_deletions_are() {
    let folder = Folder::new();
    let none = json!({});
    write_table(
        &folder,
        &[
            vec![
                full(item("a", 1, "DELETED", &none)),
                full(item("b", 1, "AVAILABLE", &none)),
                full(item("c", 1, "DELETED", &none)),
                full(item("d", 1, "LOCKED", &json!({ "multipleBirthInteger": { "N": "1.10" } }))),
            ],
            vec![
                full(item("d", 2, "PENDING", &none)),
                full(item("a", 2, "AVAILABLE", &none)),
                full(item("b", 2, "AVAILABLE", &none)),
                full(item("c", 2, "DELETED", &none)),
            ],
        ],
    );
    let report = folder.add().unwrap();
    assert!(report.is_complete(), "{report:?}");
    let lines: Vec<String> = folder.lines().into_iter().map(|(_, line)| line).collect();
    let meta = |version| format!(r#""meta":{{"lastUpdated":"2026-01-31T07:00:00.000Z","versionId":"{version}"}}"#);
    assert_eq!(
        lines,
        [
            r#"{"resourceType":"Bundle","meta":{"lastUpdated":"2026-01-31T08:00:00Z"},"type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/c"}}]}"#.to_owned(),
            format!(r#"{{"resourceType":"Patient","id":"a",{}}}"#, meta(2)),
            format!(r#"{{"resourceType":"Patient","id":"b",{}}}"#, meta(2)),
            format!(r#"{{"resourceType":"Patient","id":"d",{},"multipleBirthInteger":1.10}}"#, meta(1)),
        ]
    );
    assert_eq!(report.left_out[&LeftOutReason::OldVersion].count, 3);
    assert_eq!(folder.watermark(), Some(json!({ "completeUpTo": "2026-01-31T23:59:00.500Z" })));
    assert!(folder.add().unwrap().is_repeat);
    let all = AddSettings { versions: TableVersions::All, ..folder.later_settings() };
    assert_eq!(folder.add_with(&all).unwrap().resource_count(), 7);
}

#[test]
fn an_item_at_or_before_the_watermark_is_counted_unless_the_lake_has_it() {
    let folder = Folder::new();
    write_table(&folder, &[vec![full(item("a", 1, "AVAILABLE", &json!({})))]]);
    assert!(folder.add().unwrap().late.is_empty());
    write_table(&folder, &[vec![full(item("a", 1, "AVAILABLE", &json!({}))), full(item("b", 1, "AVAILABLE", &json!({})))]]);
    let report = folder.add_with(&folder.later_settings()).unwrap();
    let late: Vec<_> = report.late.iter().map(|late| (late.folder.as_str(), late.complete_up_to.instant(), late.count())).collect();
    assert_eq!(late, [("", "2026-01-31T23:59:00.500Z".to_owned(), 1)]);
}

#[test]
fn an_incremental_export_has_changes_and_reports_items_that_were_removed() {
    let folder = Folder::new();
    let none = json!({});
    let change = |micros: &str, key: &str, new: Option<Value>, old: Option<Value>| {
        let mut line =
            json!({ "Metadata": { "WriteTimestampMicros": { "N": micros } }, "Keys": { "id": { "S": key }, "vid": { "N": "1" } } });
        for (name, image) in [("NewImage", new), ("OldImage", old)] {
            if let Some(image) = image {
                line[name] = image;
            }
        }
        line
    };
    write_table(
        &folder,
        &[vec![
            change("1769900000000000", "a", Some(item("a", 1, "DELETED", &none)), Some(item("a", 1, "AVAILABLE", &none))),
            change("1769900000000000", "b", None, Some(item("b", 2, "PENDING", &none))),
            change("1769900000000000", "c", None, Some(item("c", 1, "AVAILABLE", &none))),
            change("1769900000000000", "d", Some(item("d", 1, "AVAILABLE", &none)), None),
        ]],
    );
    folder.write(
        "AWSDynamoDB/01-a/manifest-summary.json",
        br#"{"exportFromTime":"2026-01-31T00:00:00Z","exportToTime":"2026-02-01T06:00:00Z","exportType":"INCREMENTAL_EXPORT","outputFormat":"DYNAMODB_JSON","itemCount":4}"#,
    );
    let report = folder.add().unwrap();
    assert_eq!((report.resource_count(), report.deletions, report.left_out[&LeftOutReason::RemovedItem].count), (1, 1, 1));
    assert!(!report.is_complete());
    // The time of the write and not the time at which the version was created.
    assert!(folder.lines()[0].1.contains("2026-01-31T22:53:20Z"), "{:?}", folder.lines());
    assert_eq!(folder.watermark(), None, "nobody has said what came before, and an item was removed without a deletion");
}

#[test]
fn each_tenant_has_a_lake_of_its_own() {
    let folder = Folder::new();
    let tenant = |name: &str| json!({ "_tenantId": { "S": name }, "_id": { "S": "a" } });
    write_table(&folder, &[vec![full(item("t1|a", 1, "AVAILABLE", &tenant("t1"))), full(item("t2|a", 1, "AVAILABLE", &tenant("t2")))]]);
    folder.add().unwrap();
    let folders: Vec<String> = folder.lines().into_iter().map(|(folder, _)| folder).collect();
    assert_eq!(folders, ["t1/Patient", "t2/Patient"]);
    for name in ["t1", "t2"] {
        assert!(folder.lake().join(name).join("_headrace/watermark.json").is_file());
    }
    assert_eq!(folder.watermark(), None);
    write_table(&folder, &[vec![full(item("t1|b", 1, "AVAILABLE", &json!({ "_tenantId": { "S": "t1" }, "_id": { "S": "b" } })))]]);
    assert_eq!(folder.add_with(&folder.later_settings()).unwrap().resource_count(), 1, "the lakes are continued");
    let one = Folder::new();
    write_table(&one, &[vec![full(item("t1|a", 1, "AVAILABLE", &tenant("t1"))), full(item("t2|a", 1, "AVAILABLE", &tenant("t2")))]]);
    let report = one.add_with(&AddSettings { tenant: Some("t2".to_owned()), ..one.settings() }).unwrap();
    assert_eq!((one.lines().len(), report.left_out[&LeftOutReason::OtherTenant].count), (1, 1));
    assert_eq!(one.objects()[0], "Patient/20261129T103000-000001.ndjson.zst");
    assert!(one.watermark().is_some());
}

/// Returns an item of a tenant. An empty name stands for none.
fn item_of(tenant: &str, id: &str) -> Value {
    if tenant.is_empty() {
        return full(item(id, 1, "AVAILABLE", &json!({})));
    }
    full(item(&format!("{tenant}|{id}"), 1, "AVAILABLE", &json!({ "_tenantId": { "S": tenant }, "_id": { "S": id } })))
}

#[test]
fn items_without_a_tenant_are_not_added_around_the_lakes_of_tenants() {
    let folder = Folder::new();
    write_table(&folder, &[vec![item_of("t1", "a"), item_of("", "u")]]);
    let error = folder.add().unwrap_err().to_string();
    assert!(error.contains("--tenant NAME") && folder.objects().is_empty(), "{error}");
    let rest = AddSettings { tenant: Some(String::new()), ..folder.settings() };
    assert_eq!(folder.add_with(&rest).unwrap().resource_count(), 1);
    assert_eq!(folder.objects(), ["Patient/20261129T103000-000001.ndjson.zst"]);
}

#[test]
fn tenants_are_not_added_below_a_lake_nor_anything_else_above_theirs() {
    let folder = Folder::new();
    write_table(&folder, &[vec![item_of("", "u")]]);
    folder.add().unwrap();
    write_table(&folder, &[vec![item_of("t1", "a"), item_of("t2", "a")]]);
    let error = folder.add().unwrap_err().to_string();
    assert!(error.contains("`Patient/20261129T103000-000001.ndjson.zst`"), "{error}");
    let tenants = Folder::new();
    write_table(&tenants, &[vec![item_of("t1", "a"), item_of("t2", "a")]]);
    tenants.add().unwrap();
    let objects = tenants.objects();
    let is_refused = |settings: &AddSettings| {
        let error = tenants.add_with(settings).unwrap_err();
        assert!(matches!(error, AddError::Write(WriteError::AroundLake { .. })), "{error}");
        assert_eq!(tenants.objects(), objects);
    };
    is_refused(&AddSettings { tenant: Some("t1".to_owned()), ..tenants.settings() });
    write_table(&tenants, &[vec![item_of("", "u")]]);
    is_refused(&tenants.settings());
    fs::remove_dir_all(tenants.input()).unwrap();
    tenants.write("b.json", br#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"p"}}]}"#);
    is_refused(&tenants.settings());
}

/// Returns settings that add one tenant.
fn of_tenant(tenant: &str, settings: AddSettings) -> AddSettings {
    AddSettings { tenant: Some(tenant.to_owned()), ..settings }
}

#[test]
fn a_lake_with_data_of_a_tenant_is_refused_for_another_one_by_name() {
    let folder = Folder::new();
    write_table(&folder, &[vec![item_of("t1", "p"), item_of("t2", "p")]]);
    assert_eq!(folder.add_with(&of_tenant("t1", folder.settings())).unwrap().resource_count(), 1);
    let is_refused = |settings: &AddSettings, words: [&str; 2]| {
        let lines = folder.lines();
        let error = folder.add_with(settings).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)) && error.contains("another directory"), "{error}");
        assert_eq!(folder.lines(), lines);
    };
    let others = [r#"the tenant "t1""#, r#"the tenant "t2""#];
    is_refused(&of_tenant("t2", folder.later_settings()), others);
    // An earlier program has recorded no tenant. The next addition does.
    fs::remove_file(folder.lake().join("_headrace/tenant.json")).unwrap();
    write_table(&folder, &[vec![item_of("t1", "r"), item_of("t2", "p")]]);
    assert_eq!(folder.add_with(&of_tenant("t1", folder.later_settings())).unwrap().resource_count(), 1);
    is_refused(&of_tenant("t2", folder.later_settings()), others);
    write_table(&folder, &[vec![item_of("", "p")]]);
    is_refused(&folder.later_settings(), [others[0], "data without a tenant"]);
    fs::write(folder.lake().join("_headrace/tenant.json"), "t1").unwrap();
    let error = folder.add_with(&folder.later_settings()).unwrap_err().to_string();
    assert!(error.contains("`_headrace/tenant.json`"), "{error}");
}

#[test]
fn the_lake_of_a_tenant_in_a_folder_is_refused_for_another_one() {
    let add_to = |folder: &Folder, tenant: &str| {
        let settings = of_tenant(tenant, folder.later_settings());
        add(&folder.input(), &folder.lake().join("t1"), &settings, &Arc::new(Progress::default()))
    };
    let folder = Folder::new();
    write_table(&folder, &[vec![item_of("t1", "p"), item_of("t2", "p")]]);
    folder.add().unwrap();
    let lines = folder.lines();
    let error = add_to(&folder, "t2").unwrap_err().to_string();
    assert!(error.contains(r#"the lake has data of the tenant "t1""#) && folder.lines() == lines, "{error}");
    assert!(add_to(&folder, "t1").is_ok());
    // The folders of two tenants were exchanged.
    fs::write(folder.lake().join("t1/_headrace/tenant.json"), r#"{"tenant":"t2"}"#).unwrap();
    write_table(&folder, &[vec![item_of("t1", "q"), item_of("t2", "q")]]);
    let error = folder.add_with(&folder.later_settings()).unwrap_err().to_string();
    assert!(error.contains(r#"the lake in the folder `t1` has data of the tenant "t2""#), "{error}");
}

#[test]
fn the_folder_of_a_tenant_is_a_lake_also_without_a_watermark() {
    let folder = Folder::new();
    write_table(&folder, &[vec![item_of("t1", "a"), item_of("t2", "a")]]);
    folder.write("AWSDynamoDB/01-a/manifest-summary.json", br#"{"itemCount":2}"#);
    assert!(!folder.add().unwrap().is_complete());
    for tenant in ["t1", "t2"] {
        assert!(folder.lake().join(tenant).join("_headrace/added").is_dir(), "{tenant}");
    }
}

#[test]
fn a_tenant_that_the_table_does_not_have_is_refused_with_the_names_of_the_others() {
    let folder = Folder::new();
    write_table(&folder, &[vec![item_of("t1", "a"), item_of("t2", "a")]]);
    let of_tenant = |settings: AddSettings| AddSettings { tenant: Some("T2".to_owned()), ..settings };
    let error = folder.add_with(&of_tenant(folder.settings())).unwrap_err().to_string();
    assert!(error.contains(r#""T2""#) && error.contains(r#""t1", "t2""#), "{error}");
    assert_eq!((folder.objects(), folder.watermark()), (Vec::new(), None));
    let stated = AddSettings { complete_up_to: Some(Millis(1_790_000_000_000)), ..folder.settings() };
    assert_eq!(folder.add_with(&of_tenant(stated)).unwrap().resource_count(), 0);
    assert!(folder.watermark().is_some(), "the operator says that the tenant has no changes");
}

#[test]
fn the_data_of_a_binary_is_put_into_its_resource() {
    let folder = Folder::new();
    let binary =
        |tenant: &str| json!({ "resourceType": { "S": "Binary" }, "contentType": { "S": "text/plain" }, "_tenantId": { "S": tenant } });
    let lines = vec![full(item("t|a", 2, "AVAILABLE", &binary("t"))), full(item("t|b", 1, "AVAILABLE", &binary("t")))];
    write_table(&folder, &[lines]);
    let binaries = folder.0.path().join("binaries");
    fs::create_dir_all(binaries.join("t")).unwrap();
    fs::write(binaries.join("t/a_2.txt"), "hello").unwrap();
    fs::write(binaries.join("t/a_1.txt"), "old").unwrap();
    let report = folder.add_with(&AddSettings { binaries: Some(binaries), ..folder.settings() }).unwrap();
    let lines = folder.lines();
    assert!(lines[0].1.ends_with(r#""contentType":"text/plain","data":"aGVsbG8="}"#), "{lines:?}");
    assert_eq!((lines.len(), report.left_out[&LeftOutReason::BinaryNotFound].count), (2, 1));
}

#[test]
fn a_manifest_that_does_not_match_the_files_is_refused_by_name() {
    let good = || {
        let folder = Folder::new();
        write_table(&folder, &[vec![full(item("a", 1, "AVAILABLE", &json!({})))]]);
        folder
    };
    let place = "AWSDynamoDB/01-a";
    let list = |entries: &[(&str, u64)]| -> String {
        entries.iter().map(|(key, count)| format!("{}\n", json!({ "itemCount": count, "dataFileS3Key": key }))).collect()
    };
    for (name, content, words) in [
        ("manifest-files.json", list(&[("data/f0.json.gz", 2)]), "itemCount is 1"),
        ("manifest-files.json", list(&[("../../../../etc/passwd", 1)]), "`passwd`"),
        ("manifest-files.json", list(&[("data/f0.json.gz", 1), ("data/f0.json.gz", 1)]), "twice"),
        ("manifest-files.json", list(&[]), "does not list it"),
        ("manifest-files.json", "{}\n".to_owned(), "line 1"),
        ("manifest-summary.json", "[]".to_owned(), "not a summary"),
        ("manifest-summary.json", json!({ "itemCount": 9 }).to_string(), "itemCount is 9"),
        ("manifest-summary.json", json!({ "outputFormat": "ION" }).to_string(), "DYNAMODB_JSON"),
    ] {
        let folder = good();
        folder.write(&format!("{place}/{name}"), content.as_bytes());
        let error = folder.add().unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(place), "`{words}` is not in: {error}");
        assert!(folder.objects().is_empty());
    }
    let folder = good();
    folder.write(&format!("{place}/data/f0.json.gz"), b"{\"Item\":{}}\n{\"Item\":{}}\n");
    assert!(folder.add().unwrap_err().to_string().contains("it has 2 items"));
    let folder = good();
    let tenant = json!({ "_tenantId": { "S": "../x" } });
    folder.write(&format!("{place}/data/f0.json.gz"), format!("{}\n", full(item("../x|a", 1, "AVAILABLE", &tenant))).as_bytes());
    assert!(folder.add().unwrap_err().to_string().contains("line 1"));
}

/// Returns the MD5 of a file of the input in base64.
fn md5_of(folder: &Folder, name: &str) -> String {
    use base64::Engine as _;
    use md5::Digest as _;
    let content = fs::read(folder.input().join("AWSDynamoDB/01-a").join(name)).unwrap();
    base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(content))
}

/// Writes a table of one patient, with the MD5 of each file.
fn write_table_with_checksums(id: &str) -> Folder {
    let folder = Folder::new();
    write_table(&folder, &[vec![item_of("", id)]]);
    let listed = json!({ "itemCount": 1, "md5Checksum": md5_of(&folder, "data/f0.json.gz"), "dataFileS3Key": "data/f0.json.gz" });
    folder.write("AWSDynamoDB/01-a/manifest-files.json", format!("{listed}\n").as_bytes());
    for name in ["manifest-summary", "manifest-files"] {
        let md5 = md5_of(&folder, &format!("{name}.json"));
        folder.write(&format!("AWSDynamoDB/01-a/{name}.md5"), md5.as_bytes());
    }
    folder
}

#[test]
fn files_of_a_table_that_were_changed_or_are_of_another_export_are_refused_by_name() {
    let place = "AWSDynamoDB/01-a";
    assert!(write_table_with_checksums("a").add().unwrap().is_complete());
    let other = write_table_with_checksums("b");
    for name in ["data/f0.json.gz", "manifest-summary.json", "manifest-files.json"] {
        let folder = write_table_with_checksums("a");
        let path = folder.input().join(place).join(name);
        // The data file of another export has as many items. The others get a space, which changes nothing but the bytes.
        let content = match name {
            "data/f0.json.gz" => fs::read(other.input().join(place).join(name)).unwrap(),
            _ => [fs::read(&path).unwrap(), b" ".to_vec()].concat(),
        };
        fs::write(&path, content).unwrap();
        let error = folder.add().unwrap_err().to_string();
        assert!(error.contains(&format!("`{place}/{name}`")) && error.contains("MD5"), "{error}");
        assert_eq!((folder.objects(), folder.watermark()), (Vec::new(), None));
    }
    let folder = write_table_with_checksums("a");
    folder.write(&format!("{place}/manifest-files.json"), br#"{"itemCount":1,"md5Checksum":"x","dataFileS3Key":"data/f0.json.gz"}"#);
    fs::remove_file(folder.input().join(place).join("manifest-files.md5")).unwrap();
    assert!(folder.add().unwrap_err().to_string().contains("an md5Checksum is not an MD5 in base64"));
}

/// Writes the summary of an increment.
fn write_increment(folder: &Folder, from: &str, to: &str) {
    let summary = json!({ "exportFromTime": from, "exportToTime": to, "exportType": "INCREMENTAL_EXPORT", "itemCount": 1 });
    folder.write("AWSDynamoDB/01-a/manifest-summary.json", summary.to_string().as_bytes());
}

#[test]
fn an_increment_of_a_table_moves_the_watermark_only_if_it_follows_without_a_gap() {
    let folder = Folder::new();
    let change = |id: &str| vec![json!({ "Keys": {}, "NewImage": item(id, 1, "AVAILABLE", &json!({})) })];
    write_table(&folder, &[change("early")]);
    write_increment(&folder, "2026-01-30T00:00:00Z", "2026-02-01T00:00:00Z");
    let report = folder.add().unwrap();
    assert!(matches!(report.watermarks.as_slice(), [(_, WatermarkChange::KeptBeforeGap { before: None, .. })]), "{report:?}");
    assert!(!report.is_complete() && folder.watermark().is_none());
    write_table(&folder, &[vec![full(item("a", 1, "AVAILABLE", &json!({})))]]);
    assert!(folder.add_with(&folder.later_settings()).unwrap().is_complete());
    assert_eq!(folder.watermark(), Some(json!({ "completeUpTo": "2026-01-31T23:59:00.500Z" })));
    write_table(&folder, &[change("late")]);
    write_increment(&folder, "2026-03-01T00:00:00Z", "2026-03-05T00:00:00Z");
    assert!(!folder.add().unwrap().is_complete());
    assert_eq!(folder.watermark(), Some(json!({ "completeUpTo": "2026-01-31T23:59:00.500Z" })));
    // The same files with a period that follows the lake.
    write_increment(&folder, "2026-02-01T00:00:00Z", "2026-03-05T00:00:00Z");
    let report = folder.add().unwrap();
    assert!(report.is_repeat && report.is_complete(), "{report:?}");
    assert_eq!(folder.watermark(), Some(json!({ "completeUpTo": "2026-03-04T23:59:00.000Z" })));
}

#[test]
fn a_version_that_is_committed_after_an_export_is_later_than_its_watermark() {
    let folder = Folder::new();
    let none = json!({});
    write_table(&folder, &[vec![full(item("a", 1, "AVAILABLE", &none)), full(item("b", 1, "PENDING", &none))]]);
    // All versions were made at 07:00:00. The export begins ten seconds later, and the commit of one comes after that.
    let summary = json!({ "exportTime": "2026-01-31T07:00:10Z", "itemCount": 2 });
    folder.write("AWSDynamoDB/01-a/manifest-summary.json", summary.to_string().as_bytes());
    let report = folder.add().unwrap();
    assert_eq!((report.is_complete(), report.resource_count()), (true, 1), "{report:?}");
    assert_eq!(folder.watermark(), Some(json!({ "completeUpTo": "2026-01-31T06:59:10.000Z" })), "before the version");
    write_table(&folder, &[vec![json!({ "Keys": {}, "NewImage": item("b", 1, "AVAILABLE", &none) })]]);
    write_increment(&folder, "2026-01-31T07:00:10Z", "2026-01-31T08:00:00Z");
    let report = folder.add_with(&folder.later_settings()).unwrap();
    assert_eq!((report.is_complete(), report.resource_count()), (true, 1), "increments that follow each other leave no gap: {report:?}");
    assert_eq!(folder.watermark(), Some(json!({ "completeUpTo": "2026-01-31T07:59:00.000Z" })));
}

#[test]
fn an_increment_that_does_not_say_where_it_begins_gives_no_watermark() {
    let folder = Folder::new();
    write_table(&folder, &[vec![full(item("a", 1, "AVAILABLE", &json!({})))]]);
    let summary = json!({ "exportToTime": "2026-02-01T00:00:00Z", "itemCount": 1 });
    folder.write("AWSDynamoDB/01-a/manifest-summary.json", summary.to_string().as_bytes());
    let report = folder.add().unwrap();
    assert!(report.watermark_problem.as_ref().is_some_and(|problem| problem.contains("exportFromTime")), "{report:?}");
    assert_eq!(folder.watermark(), None);
}

#[test]
fn a_deletion_after_the_year_9999_is_named_and_the_rest_is_added() {
    let folder = Folder::new();
    let lock = json!({ "lockEndTs": { "N": "253402300800000" } });
    let written = json!({ "Metadata": { "WriteTimestampMicros": { "N": "253402300800000000" } }, "Keys": {}, "NewImage": item("c", 1, "DELETED", &json!({})) });
    let items = vec![full(item("a", 1, "DELETED", &lock)), full(item("b", 1, "AVAILABLE", &lock)), written];
    write_table(&folder, &[items]);
    let report = folder.add().unwrap();
    assert_eq!((report.resource_count(), report.deletions, report.is_complete()), (1, 0, false));
    let invalid = &report.left_out[&LeftOutReason::InvalidItem];
    let positions: Vec<_> = invalid.examples.iter().map(|example| example.position).collect();
    assert_eq!(positions, [InputPosition::Line(1), InputPosition::Line(3)]);
    assert!(invalid.examples.iter().all(|example| example.detail.contains("9999")), "{invalid:?}");
    assert_eq!(folder.watermark(), None);
}

#[test]
fn a_file_that_is_not_one_of_the_export_is_refused_by_name() {
    for name in ["bundle.json", "AWSDynamoDB/01-a/patients.ndjson", "AWSDynamoDB/x.json.gz"] {
        let folder = Folder::new();
        write_table(&folder, &[vec![item_of("", "a")]]);
        folder.write(name, br#"{"resourceType":"Patient","id":"p"}"#);
        let error = folder.add().unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}`")), "{error}");
        assert!(folder.objects().is_empty());
        // The data of Binary resources may be in the same folder.
        let settings = AddSettings { binaries: Some(folder.input()), ..folder.settings() };
        assert!(folder.add_with(&settings).unwrap().is_complete(), "{name}");
    }
}
