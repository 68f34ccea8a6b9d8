use super::*;

const DAY: &str = "2025-01-01T00:00:00Z";

#[tokio::test]
async fn a_groups_members_are_those_who_belong_to_it_now() {
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
    // Not one of the members has a resource.
    let found = found(group_in(&Lake::default().with("Group.ndjson", [group]), "g").await);
    let ids = ["a", "b", "inactive", "gone", "to-come", "today", "5", "g"];
    assert_eq!(on_it(&found, &ids), (vec!["a", "b", "today"], 2));
    let kind = |name| ResourceType::named(name).unwrap();
    assert!(found.roster.contains_other(kind("Practitioner"), "5") && found.roster.contains_other(kind("Group"), "g"));
    assert_eq!((found.unresolved, found.absent.len()), (1, 0));
}

#[tokio::test]
async fn a_group_that_the_lake_lacks_is_unknown() {
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
        assert!(matches!(group_in(&lake, id).await, LookedUp::NoSuchGroup), "{id}");
    }
    assert!(matches!(group_in(&Lake::default(), "g").await, LookedUp::NoSuchGroup));
}

// Holds: R7
#[tokio::test]
async fn an_empty_group_is_an_export_of_nobody() {
    let lake = Lake::default().with("Group.ndjson", [group("g", DAY, &[]), json!({ "resourceType": "Group", "id": "bare" })]);
    for id in ["g", "bare"] {
        assert!(found(group_in(&lake, id).await).roster.is_empty(), "{id}");
    }
}

#[tokio::test]
async fn the_newest_version_of_a_group_decides_wherever_it_lies() {
    let old = || group("g", "2024-01-01T00:00:00Z", &["Patient/old"]);
    let new = || group("g", "2025-01-01T00:00:00Z", &["Patient/new"]);
    let later = || group("g", "2026-02-01T00:00:00Z", &["Patient/later"]);
    for [one, two, three] in [[old(), new(), later()], [later(), new(), old()], [new(), later(), old()]] {
        let lake = Lake::default().with("Group/1.ndjson", [one]).with("Group/2.ndjson", [two, three]);
        assert_eq!(on_it(&found(group_in(&lake, "g").await), &["old", "new", "later"]), (vec!["new"], 1));
    }
}

#[tokio::test]
async fn a_deletion_ends_a_group_until_it_is_written_again() {
    let old = group("g", "2024-01-01T00:00:00Z", &["Patient/old"]);
    let new = group("g", "2025-01-01T00:00:00Z", &["Patient/new"]);
    let of = |at: &str| deletion("Group/g", at);
    let between = Lake::default().with("Group.ndjson", [new.clone(), old.clone()]).with("deleted-1.ndjson", [of("2024-06-01")]);
    assert_eq!(on_it(&found(group_in(&between, "g").await), &["old", "new"]), (vec!["new"], 1));
    let after = Lake::default().with("Group.ndjson", [new.clone(), old.clone()]).with("Group/deleted-1.ndjson", [of("2025-06-01")]);
    assert!(matches!(group_in(&after, "g").await, LookedUp::NoSuchGroup));
    let to_come = Lake::default().with("Group.ndjson", [new, old, of("2026-06-01")]);
    assert_eq!(on_it(&found(group_in(&to_come, "g").await), &["old", "new"]), (vec!["new"], 1));
}

#[tokio::test]
async fn groups_within_groups_count_also_where_they_contain_each_other() {
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
        let found = found(group_in(&lake, id).await);
        assert_eq!(on_it(&found, &["1", "2", "3", "4"]), (members.to_vec(), 1), "{id}");
        assert_eq!(found.unresolved, unresolved);
        let kind = ResourceType::named("Group").unwrap();
        let groups = ["a", "b", "c", "d"].map(|group| found.roster.contains_other(kind, group));
        assert_eq!(groups, ["a", "b", "c", "d"].map(|group| group == id), "only the group that was asked for");
    }
}

#[tokio::test]
async fn groups_too_deep_within_each_other_are_refused() {
    let groups = |depth: usize| {
        let next = |at: usize| if at == depth { "Patient/p".to_owned() } else { format!("Group/{}", at + 1) };
        Lake::default().with("Group.ndjson", (1..=depth).map(|at| group(&at.to_string(), DAY, &[&next(at)])))
    };
    assert_eq!(on_it(&found(group_in(&groups(10), "1").await), &["p"]), (vec!["p"], 1));
    assert!(matches!(group_in(&groups(11), "1").await, LookedUp::Undecidable(reason) if reason.contains("10 deep")));
}

#[tokio::test]
async fn who_joined_after_since_is_known_through_all_groups() {
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
    let since = headrace_fhir::Instant::parse("2025-01-01").ok();
    let request = ExportRequest { level: Level::Group("outer".into()), since, ..ExportRequest::default() };
    let roster = found(look_up_in(&lake, &request, &[]).await).roster;
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
        assert_eq!((roster.contains_patient(id), roster.joined_late(id)), (true, is_late), "{id}");
    }
}

#[tokio::test]
async fn a_group_that_names_nobody_or_cannot_be_read_is_refused() {
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
        let LookedUp::Undecidable(reason) = group_in(&lake, "g").await else { panic!("{word}") };
        assert!(reason.contains(word) && !reason.contains("secret"), "{reason}");
    }
}

#[tokio::test]
async fn a_hundred_thousand_members_are_found_at_once() {
    let members: Vec<String> = (0..100_000).map(|id| format!("Patient/{id:08}-0000-4000-8000-000000000000")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    let lake = Lake::default().with("Group.ndjson", (0..20).map(|id| group(&id.to_string(), DAY, &members)));
    let begin = Stopwatch::now();
    let found = found(group_in(&lake, "7").await);
    let file = found.roster.write();
    println!("{:?} for a group of 100,000 among 20, {} bytes", begin.elapsed(), file.len());
    assert_eq!((found.roster.patients(), found.roster.len()), (100_000, 100_001));
    assert!(file.len() < 1_700_000);
    assert!(found.roster.contains_patient("00099999-0000-4000-8000-000000000000"));
}
