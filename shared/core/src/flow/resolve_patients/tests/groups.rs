use super::*;

const DAY: &str = "2025-01-01T00:00:00Z";

#[tokio::test]
async fn only_current_members_of_a_group_are_selected() {
    let mut group = group("g", DAY, &[]);
    group["member"] = json!([
        { "entity": { "reference": "Patient/a" } },
        { "entity": { "reference": "https://elsewhere.example/fhir/Patient/b/_history/3" } },
        { "entity": { "reference": "Patient/inactive" }, "inactive": true },
        { "entity": { "reference": "Patient/gone" }, "period": { "end": "2026-01-30" } },
        { "entity": { "reference": "Patient/to-come" }, "period": { "start": "2026-02-01" } },
        { "entity": { "reference": "Patient/today" }, "period": { "start": "2026-01-31", "end": "2026-01-31" } },
        { "entity": { "reference": "Practitioner/5" } },
        { "entity": { "identifier": { "value": "7" } } },
    ]);
    // None of the members has a resource in the lake.
    let found = selected(resolve_group_in(&Lake::default().with("Group.ndjson", [group]), "g").await);
    let ids = ["a", "b", "inactive", "gone", "to-come", "today", "5", "g"];
    assert_eq!(members_of(&found, &ids), (vec!["a", "b", "today"], 2));
    let kind = |name| ResourceType::parse(name).unwrap();
    assert!(found.patient_set.contains_other(kind("Practitioner"), "5") && found.patient_set.contains_other(kind("Group"), "g"));
    assert_eq!((found.unresolved_members, found.missing.len()), (1, 0));
}

#[tokio::test]
async fn a_group_absent_from_the_lake_is_not_found() {
    let lake = Lake::default().with(
        "Group.ndjson",
        [
            group("other", DAY, &["Patient/a"]),
            group("later", "2026-01-31T08:00:01Z", &["Patient/a"]),
            group("deleted", DAY, &["Patient/a"]),
            deletion("Group/deleted", DAY),
            json!({ "resourceType": "Patient", "id": "g" }),
            json!({ "resourceType": "List", "id": "g", "title": "Group" }),
        ],
    );
    for id in ["g", "later", "deleted", "", "GROUP", "Group/other"] {
        assert!(matches!(resolve_group_in(&lake, id).await, ResolvedPatients::NoSuchGroup), "{id}");
    }
    assert!(matches!(resolve_group_in(&Lake::default(), "g").await, ResolvedPatients::NoSuchGroup));
}

// Holds: R7
#[tokio::test]
async fn an_empty_group_has_an_empty_patient_set() {
    let lake = Lake::default().with("Group.ndjson", [group("g", DAY, &[]), json!({ "resourceType": "Group", "id": "bare" })]);
    for id in ["g", "bare"] {
        assert!(selected(resolve_group_in(&lake, id).await).patient_set.is_empty(), "{id}");
    }
}

#[tokio::test]
async fn the_newest_version_of_a_group_counts_in_any_object() {
    let old = || group("g", "2024-01-01T00:00:00Z", &["Patient/old"]);
    let new = || group("g", "2025-01-01T00:00:00Z", &["Patient/new"]);
    let later = || group("g", "2026-02-01T00:00:00Z", &["Patient/later"]);
    for [one, two, three] in [[old(), new(), later()], [later(), new(), old()], [new(), later(), old()]] {
        let lake = Lake::default().with("Group/1.ndjson", [one]).with("Group/2.ndjson", [two, three]);
        assert_eq!(members_of(&selected(resolve_group_in(&lake, "g").await), &["old", "new", "later"]), (vec!["new"], 1));
    }
}

#[tokio::test]
async fn a_deleted_group_is_not_found_until_it_is_written_again() {
    let old = group("g", "2024-01-01T00:00:00Z", &["Patient/old"]);
    let new = group("g", "2025-01-01T00:00:00Z", &["Patient/new"]);
    let of = |at: &str| deletion("Group/g", at);
    let between = Lake::default().with("Group.ndjson", [new.clone(), old.clone()]).with("deleted-1.ndjson", [of("2024-06-01")]);
    assert_eq!(members_of(&selected(resolve_group_in(&between, "g").await), &["old", "new"]), (vec!["new"], 1));
    let after = Lake::default().with("Group.ndjson", [new.clone(), old.clone()]).with("Group/deleted-1.ndjson", [of("2025-06-01")]);
    assert!(matches!(resolve_group_in(&after, "g").await, ResolvedPatients::NoSuchGroup));
    let to_come = Lake::default().with("Group.ndjson", [new, old, of("2026-06-01")]);
    assert_eq!(members_of(&selected(resolve_group_in(&to_come, "g").await), &["old", "new"]), (vec!["new"], 1));
}

#[tokio::test]
async fn nested_groups_are_resolved_even_if_they_contain_each_other() {
    let lake = Lake::default().with(
        "Group.ndjson",
        [
            group("a", DAY, &["Patient/1", "Group/b", "Group/absent"]),
            group("b", DAY, &["Patient/2", "Group/c", "Group/a"]),
            group("c", DAY, &["Patient/3", "Group/c", "Group/a"]),
            group("d", DAY, &["Patient/4", "Group/a"]),
        ],
    );
    for (id, members, unresolved) in [("a", &["1", "2", "3"][..], 1), ("c", &["1", "2", "3"], 1), ("d", &["1", "2", "3", "4"], 1)] {
        let found = selected(resolve_group_in(&lake, id).await);
        assert_eq!(members_of(&found, &["1", "2", "3", "4"]), (members.to_vec(), 1), "{id}");
        assert_eq!(found.unresolved_members, unresolved);
        let kind = ResourceType::GROUP;
        let groups = ["a", "b", "c", "d"].map(|group| found.patient_set.contains_other(kind, group));
        assert_eq!(groups, ["a", "b", "c", "d"].map(|group| group == id), "only the requested group");
    }
}

#[tokio::test]
async fn groups_nested_too_deeply_are_rejected() {
    let groups = |depth: usize| {
        let next = |at: usize| if at == depth { "Patient/p".to_owned() } else { format!("Group/{}", at + 1) };
        Lake::default().with("Group.ndjson", (1..=depth).map(|at| group(&at.to_string(), DAY, &[&next(at)])))
    };
    assert_eq!(members_of(&selected(resolve_group_in(&groups(10), "1").await), &["p"]), (vec!["p"], 1));
    assert!(matches!(resolve_group_in(&groups(11), "1").await, ResolvedPatients::Undecidable(reason) if reason.contains("10 deep")));
}

#[tokio::test]
async fn late_joiners_are_recognized_through_nested_groups() {
    let member = |of: &str, start: &str| json!({ "entity": { "reference": of }, "period": { "start": start } });
    let mut outer = group("outer", DAY, &["Patient/always"]);
    outer["member"].as_array_mut().unwrap().extend([
        member("Patient/early", "2024-12-31"),
        member("Patient/late", "2025-01-02"),
        member("Group/new", "2025-01-02"),
        member("Group/old", "2020"),
    ]);
    let mut new = group("new", DAY, &["Patient/through-new", "Patient/both"]);
    new["member"].as_array_mut().unwrap().push(member("Patient/late-through-new", "2025-06-01"));
    let mut old = group("old", DAY, &["Patient/through-old", "Patient/both"]);
    old["member"].as_array_mut().unwrap().push(member("Patient/late-through-old", "2025-06-01"));
    let lake = Lake::default().with("Group.ndjson", [outer, new, old]);
    let since = headrace_fhir::instant::Instant::parse("2025-01-01").ok();
    let request = ExportRequest { level: Level::Group("outer".into()), since, ..ExportRequest::default() };
    let patient_set = selected(resolve_in(&lake, &request, &[]).await).patient_set;
    for (id, is_late) in [
        ("always", false),
        ("early", false),
        ("late", true),
        ("through-new", true),
        ("late-through-new", true),
        ("through-old", false),
        ("late-through-old", true),
        ("both", false),
    ] {
        assert_eq!((patient_set.contains_patient(id), patient_set.joined_after_since(id)), (true, is_late), "{id}");
    }
}

#[tokio::test]
async fn a_group_without_named_or_readable_members_is_rejected() {
    let with = |name: &str, value: Value| {
        let mut group = json!({ "resourceType": "Group", "id": "g", "type": "person", "actual": true });
        group[name] = value;
        Lake::default().with("Group.ndjson", [group])
    };
    for (lake, word) in [
        (with("characteristic", json!([{ "code": { "text": "tall" } }])), "characteristics"),
        (with("actual", json!(false)), "characteristics"),
        (with("modifierExtension", json!([{ "url": "http://example.org/not" }])), "modifierExtension 1"),
        (with("member", json!([{ "entity": { "reference": "Patient/secret-id" }, "inactive": "yes" }])), "member 1"),
        (with("member", json!([{ "entity": { "reference": "Patient/secret-id" }, "period": { "end": "soon" } }])), "member 1"),
    ] {
        let ResolvedPatients::Undecidable(reason) = resolve_group_in(&lake, "g").await else { panic!("{word}") };
        assert!(reason.contains(word) && !reason.contains("secret"), "{reason}");
    }
}

#[tokio::test]
async fn a_group_of_a_hundred_thousand_members_is_resolved() {
    let members: Vec<String> = (0..100_000).map(|id| format!("Patient/{id:08}-0000-4000-8000-000000000000")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    let lake = Lake::default().with("Group.ndjson", (0..20).map(|id| group(&id.to_string(), DAY, &members)));
    let begin = Stopwatch::now();
    let found = selected(resolve_group_in(&lake, "7").await);
    let file = found.patient_set.to_bytes();
    println!("{:?} for a group of 100,000 among 20, {} bytes", begin.elapsed(), file.len());
    assert_eq!((found.patient_set.patient_count(), found.patient_set.len()), (100_000, 100_001));
    assert!(file.len() < 1_700_000);
    assert!(found.patient_set.contains_patient("00099999-0000-4000-8000-000000000000"));
}
