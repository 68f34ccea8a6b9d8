//! Tests of the lake module. After a change of a generator, write the committed files again with `lake sample` and `lake broken`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use serde_json::Value;
use tempfile::tempdir;

use super::*;

/// Returns the decompressed contents of every file.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |file: PathBuf| {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut compression::open(&dir.join(&file)).unwrap(), &mut bytes).unwrap();
        (file, bytes)
    };
    files(dir).unwrap().into_iter().map(read).collect()
}

fn write_lake(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn parsed(dir: &Path) -> Vec<Value> {
    lines(dir).unwrap().iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Returns `Type/id` of a resource.
fn name(resource: &Value) -> String {
    format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap())
}

/// Collects the values of all members named `reference`.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("reference").and_then(Value::as_str));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn assert_references_resolve(resources: &[Value]) {
    let names: BTreeSet<String> = resources.iter().map(name).collect();
    assert_eq!(names.len(), resources.len(), "ids are unique per type");
    for resource in resources {
        let mut found = Vec::new();
        references(resource, &mut found);
        for reference in found {
            let resolves = match (reference.strip_prefix('#'), reference.strip_prefix("urn:uuid:")) {
                (Some(inner), _) => resource["contained"].as_array().unwrap().iter().any(|it| it["id"] == inner),
                (_, Some(id)) => names.iter().any(|name| name.split_once('/').unwrap().1 == id),
                (None, None) => names.contains(reference.split("/_history/").next().unwrap()),
            };
            assert!(resolves, "{reference} in {}", name(resource));
        }
    }
}

#[test]
fn the_committed_sample_equals_the_generators_output() {
    let dir = tempdir().unwrap();
    sample::write(dir.path()).unwrap();
    let (generated, committed) = (contents(dir.path()), contents(&sample_lake_dir()));
    assert_eq!(generated.keys().collect::<Vec<_>>(), committed.keys().collect::<Vec<_>>());
    for (file, bytes) in &generated {
        assert!(committed[file] == *bytes, "{} differs: run `lake sample`", file.display());
    }
}

#[test]
fn the_generator_writes_identical_compressed_bytes_each_time() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    sample::write(one.path()).unwrap();
    sample::write(two.path()).unwrap();
    for file in files(one.path()).unwrap() {
        assert!(fs::read(one.path().join(&file)).unwrap() == fs::read(two.path().join(&file)).unwrap());
    }
}

#[test]
fn the_sample_is_small_and_its_resources_are_valid() {
    let resources = parsed(&sample_lake_dir());
    assert!((350..=450).contains(&resources.len()), "{} resources", resources.len());
    let kinds: BTreeSet<&str> = resources.iter().map(|it| it["resourceType"].as_str().unwrap()).collect();
    assert_eq!(kinds.len(), 15);
    for resource in &resources {
        let updated = resource["meta"]["lastUpdated"].as_str().unwrap();
        assert!(("2023".."2026-07").contains(&updated), "{updated}");
        assert!(resource["meta"]["versionId"].is_string());
    }
    assert_references_resolve(&resources);
    let names = files(&sample_lake_dir()).unwrap();
    let size = |file: &PathBuf| fs::metadata(sample_lake_dir().join(file)).unwrap().len();
    assert!(names.iter().map(size).sum::<u64>() < 600_000);
}

#[test]
fn the_sample_covers_every_layout() {
    let files = contents(&sample_lake_dir());
    let ends = |end: &str| files.keys().filter(|file| file.to_str().unwrap().ends_with(end)).count();
    assert!(ends(".ndjson") > 0 && ends(".ndjson.gz") > 0 && ends(".ndjson.zst") > 0);
    assert!(files.keys().any(|file| file.starts_with("type=Condition")));
    assert!(!files[Path::new("Organization.ndjson")].ends_with(b"\n"));
    assert!(files[Path::new("Practitioner.ndjson")].ends_with(b"\r\n"));
    let mixed = &files[Path::new("other/mixed.ndjson")];
    let kinds: BTreeSet<String> = mixed
        .split(|byte| *byte == b'\n')
        .filter_map(|line| ResourceHead::parse(line)?.resource_type.map(|kind| kind.0.into_owned()))
        .collect();
    assert!(kinds.len() > 4, "{kinds:?}");
}

#[test]
fn the_sample_contains_values_that_a_faulty_export_would_change() {
    let all = lines(&sample_lake_dir()).unwrap().join(&b'\n');
    let text = String::from_utf8(all).unwrap();
    for needle in ["\":1.10,", "\":7.0,", "5.0E-1", "7.44744700000000012", "\\u00e9 \\/", "é", "水門", "🌊", "+01:00\""] {
        assert!(text.contains(needle), "{needle}");
    }
}

#[test]
fn the_committed_broken_lake_equals_the_generators_output() {
    let dir = tempdir().unwrap();
    broken::write(dir.path()).unwrap();
    assert_eq!(contents(dir.path()), contents(&broken_lake_dir()));
}

#[test]
fn bad_lines_are_at_their_documented_offsets() {
    for bad in broken::bad_lines() {
        let file = fs::read(broken_lake_dir().join(bad.file)).unwrap();
        let start = usize::try_from(bad.offset).unwrap();
        assert!(file[start..].starts_with(&bad.line) && file[start + bad.line.len()] == b'\n', "{bad:?}");
        assert!(start == 0 || file[start - 1] == b'\n', "{bad:?}");
    }
}

#[test]
fn good_and_bad_lines_make_up_the_whole_lake() {
    let mut listed = broken::good_lines();
    assert!(listed.iter().all(|line| { ResourceHead::parse(line).is_some_and(|head| head.resource_type.is_some() && head.id.is_some()) }));
    listed.extend(broken::bad_lines().into_iter().map(|bad| bad.line));
    let mut all = lines(&broken_lake_dir()).unwrap();
    listed.sort();
    all.sort();
    assert_eq!(listed, all);
}

#[test]
fn the_readme_lists_every_bad_line() {
    let page = fs::read_to_string(sample_lake_dir().parent().unwrap().join("README.md")).unwrap();
    for bad in broken::bad_lines() {
        let row = format!("| `{}` | {} | {} |", bad.file, bad.offset, bad.reason);
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn lines_omits_byte_order_marks_line_endings_and_blank_lines() {
    let dir = tempdir().unwrap();
    write_lake(dir.path(), &[("b.ndjson", "\u{feff}{\"a\":1}\r\n\r\n  \n{\"b\":2} "), ("a/x.ndjson", "{}\n"), ("note.txt", "x")]);
    assert_eq!(lines(dir.path()).unwrap(), [b"{}".to_vec(), b"{\"a\":1}".to_vec(), b"{\"b\":2} ".to_vec()]);
}

#[test]
fn count_counts_lines_and_bytes_per_type() {
    let dir = tempdir().unwrap();
    write_lake(
        dir.path(),
        &[("a.ndjson", "{\"resourceType\":\"Basic\",\"id\":\"1\"}\r\n\nnonsense\n{\"id\":\"2\",\"resourceType\":\"Basic\"}")],
    );
    let expected = [("", Tally { lines: 1, bytes: 9 }), ("Basic", Tally { lines: 2, bytes: 68 })];
    assert_eq!(count(dir.path()).unwrap(), expected.map(|(kind, tally)| (kind.to_owned(), tally)).into());
}

#[test]
fn multiplying_by_one_copies_the_lake_unchanged() {
    for lake in [sample_lake_dir(), broken_lake_dir()] {
        let dir = tempdir().unwrap();
        multiply(&lake, dir.path(), 1, Compression::Plain).unwrap();
        let decompressed = |(file, bytes): (PathBuf, Vec<u8>)| (Compression::Plain.rename(&file), bytes);
        assert_eq!(contents(dir.path()), contents(&lake).into_iter().map(decompressed).collect());
    }
}

#[test]
fn every_copy_has_its_own_ids_and_references() {
    let (lake, dir) = (sample_lake_dir(), tempdir().unwrap());
    let written = multiply(&lake, dir.path(), 7, Compression::Plain).unwrap();
    let (before, after) = (parsed(&lake), parsed(dir.path()));
    assert_eq!((written.files, written.lines), (files(&lake).unwrap().len() as u64, 7 * before.len() as u64));
    assert_eq!(after.len(), 7 * before.len());
    assert_references_resolve(&after);
    let bare_ids: BTreeSet<&str> = after.iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(bare_ids.len(), after.len());
    // Each copy of a claim refers to the same patient as its contained coverage.
    for claim in after.iter().filter(|it| it["resourceType"] == "Claim") {
        assert_eq!(claim["patient"]["reference"], claim["contained"][0]["beneficiary"]["reference"]);
        let identifier = claim["identifier"][0]["value"].as_str().unwrap();
        assert_eq!(identifier.strip_prefix("CLM/"), claim["id"].as_str());
    }
    let total = |tallies: BTreeMap<String, Tally>| tallies.values().map(|tally| (tally.lines, tally.bytes)).collect::<Vec<_>>();
    let sevenfold = total(count(&lake).unwrap()).into_iter().map(|(lines, bytes)| (7 * lines, 7 * bytes));
    assert_eq!(total(count(dir.path()).unwrap()), sevenfold.collect::<Vec<_>>(), "all copies have the same size");
}

#[test]
fn a_copy_differs_from_the_original_only_in_its_ids() {
    let dir = tempdir().unwrap();
    multiply(&sample_lake_dir(), dir.path(), 2, Compression::Plain).unwrap();
    let mut pairs = Vec::new();
    for (file, bytes) in contents(dir.path()) {
        let text = String::from_utf8(bytes).unwrap();
        let all: Vec<String> = text.lines().map(str::to_owned).collect();
        let (originals, copies) = all.split_at(all.len() / 2);
        assert!(!originals.is_empty(), "{}", file.display());
        pairs.extend(originals.iter().cloned().zip(copies.iter().cloned()));
    }
    let id = |line: &str| ResourceHead::parse(line.as_bytes()).unwrap().id.unwrap().0.into_owned();
    let renamed: HashMap<String, String> = pairs.iter().map(|(original, copy)| (id(copy), id(original))).collect();
    assert_eq!(pairs.len(), lines(&sample_lake_dir()).unwrap().len());
    for (original, mut copy) in pairs {
        for (new, old) in &renamed {
            copy = copy.replace(new, old);
        }
        assert_eq!(copy, original);
    }
}

#[test]
fn compressed_copies_contain_the_same_lines() {
    let plain = tempdir().unwrap();
    multiply(&sample_lake_dir(), plain.path(), 3, Compression::Plain).unwrap();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let compressed = tempdir().unwrap();
        multiply(&sample_lake_dir(), compressed.path(), 3, compression).unwrap();
        assert!(files(compressed.path()).unwrap().iter().all(|file| Compression::from_path(file) == Some(compression)));
        assert!(lines(plain.path()).unwrap() == lines(compressed.path()).unwrap());
    }
}

#[test]
fn an_ambiguous_id_is_replaced_only_as_an_id_or_reference() {
    let (from, to) = (tempdir().unwrap(), tempdir().unwrap());
    let line = r#"{"resourceType":"Patient","id":"final","meta":{"versionId":"1"},"status":"final","link":{"reference":"Patient/final"},"note":"Group/final"}"#;
    let group = r#"{"resourceType":"Group","id":"1","meta":{"versionId":"1"},"reference":"Patient/final/_history/1","x":"say \nfinal"}"#;
    write_lake(from.path(), &[("a.ndjson", &format!("{line}\n{group}"))]);
    multiply(from.path(), to.path(), 2, Compression::Plain).unwrap();
    let all = parsed(to.path());
    let id = all[2]["id"].as_str().unwrap();
    assert!(id != "final" && id.len() == 5);
    assert_eq!(all[2]["link"]["reference"], format!("Patient/{id}"));
    assert_eq!([&all[2]["status"], &all[2]["note"], &all[2]["meta"]["versionId"]], ["final", "Group/final", "1"]);
    assert_ne!(all[3]["id"], "1");
    assert_eq!(all[3]["reference"], format!("Patient/{id}/_history/1"));
    assert_eq!([&all[3]["meta"]["versionId"], &all[3]["x"]], ["1", "say \nfinal"]);
}

#[test]
fn too_many_copies_of_a_short_id_are_an_error() {
    let (from, to) = (tempdir().unwrap(), tempdir().unwrap());
    write_lake(from.path(), &[("a.ndjson", r#"{"resourceType":"Patient","id":"1"}"#)]);
    assert!(matches!(multiply(from.path(), to.path(), 40, Compression::Plain), Err(LakeError::IdsExhausted(id)) if id == "1"));
    multiply(from.path(), to.path(), 30, Compression::Plain).unwrap();
    assert_references_resolve(&parsed(to.path()));
}

#[test]
fn an_empty_source_an_occupied_target_and_a_name_clash_are_errors() {
    let (from, to) = (tempdir().unwrap(), tempdir().unwrap());
    assert!(matches!(multiply(from.path(), to.path(), 2, Compression::Plain), Err(LakeError::Empty(_))));
    write_lake(from.path(), &[("a.ndjson", "{}\n"), ("b.ndjson", "")]);
    multiply(from.path(), to.path(), 2, Compression::Gzip).unwrap();
    assert!(matches!(multiply(from.path(), to.path(), 2, Compression::Plain), Err(LakeError::Occupied(_))));
    fs::copy(to.path().join("a.ndjson.gz"), from.path().join("a.ndjson.gz")).unwrap();
    let other = tempdir().unwrap();
    assert!(matches!(multiply(from.path(), other.path(), 2, Compression::Plain), Err(LakeError::SameName(_))));
}

fn assert_has_resources(lake: &Path, types: usize, resources: usize) {
    let tallies = count(lake).unwrap();
    assert_eq!((tallies.len(), tallies.values().map(|tally| tally.lines).sum::<u64>()), (types, resources as u64));
    assert_eq!(lines(lake).unwrap().len(), resources);
}

#[test]
fn the_synthea_sample_has_its_documented_resources() {
    assert_has_resources(&synthea_lake_dir(), 13, 162);
    assert_references_resolve(&parsed(&synthea_lake_dir()));
}

#[test]
#[ignore = "reads ../shared/data, which is not part of the repository"]
fn the_external_lakes_have_their_documented_resources() {
    assert_has_resources(&external_lake_dir("10-patients"), 16, 2_523);
    assert_has_resources(&external_lake_dir("100-patients"), 16, 27_861);
}
