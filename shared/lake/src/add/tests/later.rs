//! Additions to a lake that has data already: nothing goes back in time, and references find what is there.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The time of the first addition: 2026-11-29T10:30:00Z.
const NOW: u64 = 1_795_948_200_000;

fn bundle(resources: &[Value]) -> String {
    let entries: Vec<Value> = resources.iter().map(|resource| json!({ "resource": resource })).collect();
    json!({ "resourceType": "Bundle", "type": "collection", "entry": entries }).to_string()
}

/// Returns a patient with a reference that no resource of the input has.
fn patient(id: &str, family: &str) -> Value {
    let reference = json!({ "reference": "Practitioner?identifier=http://h/ids|9" });
    json!({ "resourceType": "Patient", "id": id, "name": [{ "family": family }], "generalPractitioner": [reference] })
}

fn practitioner(id: &str) -> Value {
    json!({ "resourceType": "Practitioner", "id": id, "identifier": [{ "system": "http://h/ids", "value": "9" }] })
}

#[test]
fn a_file_that_was_added_before_never_replaces_a_correction() {
    let folder = Folder::new();
    folder.write("all/p.json", bundle(&[patient("p", "Old")]).as_bytes());
    folder.write("all/q.json", bundle(&[patient("q", "Other")]).as_bytes());
    folder.add_part("all", NOW);
    folder.write("correction/p.json", bundle(&[patient("p", "Gigi")]).as_bytes());
    folder.add_part("correction", NOW + 100_000);
    folder.write("all/r.json", bundle(&[patient("r", "New")]).as_bytes());
    let report = folder.add_part("all", NOW + 200_000);
    assert_eq!((report.resource_count(), report.files_added_before, report.rewritten), (1, 2, 0));
    assert_eq!(folder.newest()["Patient/p"]["name"][0]["family"], "Gigi");
    // The same holds when an addition resolves the references: the correction is written again, and not the old resource.
    folder.write("all/s.json", bundle(&[practitioner("x")]).as_bytes());
    let report = folder.add_part("all", NOW + 300_000);
    assert_eq!((report.resource_count(), report.files_added_before, report.rewritten), (1, 3, 3));
    let newest = folder.newest();
    assert_eq!(newest["Patient/p"]["name"][0]["family"], "Gigi");
    for id in ["p", "q", "r"] {
        assert_eq!(newest[&format!("Patient/{id}")]["generalPractitioner"][0]["reference"], "Practitioner/x", "{id}");
    }
    assert!(folder.add_part("all", NOW + 400_000).is_repeat);
    assert_eq!(folder.newest(), newest);
}

#[test]
fn a_new_file_alone_refers_to_resources_of_the_lake() {
    let folder = Folder::new();
    let (uuid, id) = ("urn:uuid:00000000-0000-4000-8000-0000000000A1", "00000000-0000-4000-8000-0000000000a1");
    folder.write("hospital/h.json", bundle(&[practitioner("x"), json!({ "resourceType": "Organization", "id": id })]).as_bytes());
    folder.add_part("hospital", NOW);
    let mut resource = patient("p", "New");
    resource["managingOrganization"] = json!({ "reference": uuid });
    folder.write("day/p.json", bundle(&[resource]).as_bytes());
    let report = folder.add_part("day", NOW + 100_000);
    assert_eq!((report.references.resolved, report.references.unresolved(), report.is_complete()), (2, 0, true));
    let newest = folder.newest();
    let added = &newest["Patient/p"];
    assert_eq!(added["generalPractitioner"][0]["reference"], "Practitioner/x");
    assert_eq!(added["managingOrganization"]["reference"], format!("Organization/{id}"));
}

#[test]
fn only_the_newest_version_of_a_resource_in_the_lake_is_found() {
    let folder = Folder::new();
    let day = |resource: Value, day: u32| {
        let mut resource = resource;
        resource["meta"] = json!({ "lastUpdated": format!("2026-01-{day:02}T00:00:00Z") });
        resource
    };
    let mut without = practitioner("a");
    without["identifier"] = json!([]);
    let deletion =
        json!({ "request": { "method": "DELETE", "url": "Practitioner/c" }, "response": { "lastModified": "2026-01-03T00:00:00Z" } });
    folder.write("old/a.json", bundle(&[day(practitioner("a"), 1), day(without, 2)]).as_bytes());
    folder.write("old/c.json", bundle(&[day(practitioner("c"), 1)]).as_bytes());
    folder.write("old/d.json", json!({ "resourceType": "Bundle", "type": "history", "entry": [deletion] }).to_string().as_bytes());
    folder.write("old/p.json", bundle(&[patient("p", "Old")]).as_bytes());
    let report = folder.add_part("old", NOW);
    // In one input the resource and its deletion are both known by their names.
    assert_eq!(report.references.resolved, 1);
    folder.write("day/q.json", bundle(&[patient("q", "New")]).as_bytes());
    let report = folder.add_part("day", NOW + 100_000);
    assert_eq!((report.references.unknown_identifiers, report.rewritten), (1, 0), "the lake has no such practitioner any more");
    folder.write("next/b.json", bundle(&[day(practitioner("b"), 4)]).as_bytes());
    let report = folder.add_part("next", NOW + 200_000);
    assert_eq!(report.rewritten, 1);
    assert_eq!(folder.newest()["Patient/q"]["generalPractitioner"][0]["reference"], "Practitioner/b");
}

#[test]
fn objects_of_a_later_run_sort_behind_all_others_whatever_the_clock_says() {
    let folder = Folder::new();
    for (number, now) in [NOW, NOW, NOW + 5_000, NOW - 86_400_000, NOW].into_iter().enumerate() {
        let part = number.to_string();
        folder.write(&format!("{part}/p.json"), bundle(&[patient("p", &part)]).as_bytes());
        folder.add_part(&part, now);
        assert_eq!(folder.newest()["Patient/p"]["name"][0]["family"], part);
    }
    assert_eq!(folder.objects().last().map(String::as_str), Some("Patient/20261129T103005-000003.ndjson.zst"));
}

#[test]
fn a_damaged_object_of_the_lake_is_named() {
    let folder = Folder::new();
    folder.write("p.json", bundle(&[patient("p", "New")]).as_bytes());
    fs::create_dir(folder.lake()).unwrap();
    fs::write(folder.lake().join("x.ndjson.zst"), "nonsense").unwrap();
    let error = folder.add().unwrap_err();
    assert!(matches!(&error, AddError::LakeObject { object, .. } if object == "x.ndjson.zst"), "{error:?}");
    assert_eq!(folder.objects(), ["x.ndjson.zst"]);
}

#[test]
fn two_persons_with_one_id_need_attention_in_one_input_and_are_counted_in_several() {
    let folder = Folder::new();
    let entry = |family: &str| {
        let resource = json!({ "resourceType": "Patient", "name": [{ "family": family }] });
        json!({ "fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001", "resource": resource })
    };
    let of_entries = |families: &[&str]| {
        let entries: Vec<Value> = families.iter().map(|family| entry(family)).collect();
        json!({ "resourceType": "Bundle", "type": "collection", "entry": entries }).to_string()
    };
    folder.write("one/b.json", of_entries(&["Anna", "Anna", "Bert"]).as_bytes());
    let report = folder.add_part("one", NOW);
    let count = |reason| report.left_out.get(&reason).map_or(0, |left_out| left_out.count);
    assert_eq!((count(LeftOutReason::Repeated), count(LeftOutReason::Conflicting), report.is_complete()), (1, 1, false));
    assert_eq!((report.resource_count(), report.replaced), (1, 0));
    folder.write("two/b.json", of_entries(&["Carl"]).as_bytes());
    let report = folder.add_part("two", NOW + 100_000);
    assert_eq!((report.replaced, report.is_complete()), (1, true), "what was added last is newest");
    folder.write("three/b.json", format!(" {}", of_entries(&["Carl"])).as_bytes());
    assert_eq!(folder.add_part("three", NOW + 200_000).replaced, 0, "the same content");
}

#[test]
fn deletions_without_a_time_are_counted() {
    let folder = Folder::new();
    let deletion = json!({ "request": { "method": "DELETE", "url": "Patient/p" } });
    let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [deletion] });
    folder.write("bundles/b.json", bundle.to_string().as_bytes());
    folder.write("lines/deleted/b.ndjson", format!("{bundle}\n").as_bytes());
    for part in ["bundles", "lines"] {
        let report = folder.add_part(part, NOW);
        assert_eq!((report.deletions, report.deletions_without_time), (1, 1), "{part}");
    }
}

/// A version of one of several resources, with references to some of them.
#[derive(Clone, Debug)]
struct Version {
    resource: u8,
    content: u8,
    references: Vec<(u8, bool)>,
}

impl Version {
    /// Returns the entry of a Bundle.
    fn entry(&self) -> Value {
        let urn = |resource: u8| format!("urn:uuid:00000000-0000-4000-8000-{resource:012}");
        let kind = |resource: u8| if resource.is_multiple_of(2) { "Patient" } else { "Practitioner" };
        let reference = |(to, is_urn): &(u8, bool)| if *is_urn { urn(*to) } else { format!("{}?identifier=s|{to}", kind(*to)) };
        let resource = json!({
            "resourceType": kind(self.resource),
            "identifier": [{ "system": "s", "value": self.resource.to_string() }],
            "content": self.content,
            "link": self.references.iter().map(|to| json!({ "reference": reference(to) })).collect::<Vec<_>>(),
        });
        json!({ "fullUrl": urn(self.resource), "resource": resource })
    }
}

fn version() -> impl Strategy<Value = Version> {
    (0_u8..6, any::<u8>(), prop::collection::vec((0_u8..8, any::<bool>()), 0..4)).prop_map(|(resource, content, references)| Version {
        resource,
        content,
        references,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    // Files that are added together, one after the other, or each day with all earlier ones, fill the same lake.
    #[test]
    fn the_newest_resources_are_the_same_however_files_are_divided_into_additions(
        files in prop::collection::vec(prop::collection::vec(version(), 1..5), 1..5),
        clocks in prop::collection::vec(-3_i64..3, 5),
    ) {
        let [together, alone, again] = [Folder::new(), Folder::new(), Folder::new()];
        for (number, (versions, clock)) in files.iter().zip(clocks).enumerate() {
            let entries: Vec<Value> = versions.iter().map(Version::entry).collect();
            let text = json!({ "resourceType": "Bundle", "id": number.to_string(), "entry": entries }).to_string();
            let now = NOW.saturating_add_signed(clock * 1_000);
            together.write(&format!("all/{number}.json"), text.as_bytes());
            alone.write(&format!("{number}/x.json"), text.as_bytes());
            alone.add_part(&number.to_string(), now);
            again.write(&format!("all/{number}.json"), text.as_bytes());
            again.add_part("all", now);
        }
        together.add_part("all", NOW);
        let expected = together.newest();
        prop_assert_eq!(alone.newest(), expected.clone());
        prop_assert_eq!(again.newest(), expected);
    }
}
