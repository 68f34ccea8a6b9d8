use super::*;

const DAY: &str = "2025-01-01T00:00:00Z";

fn filtered(id: &str, kind: &str, members: Option<&[&str]>, filters: &[&str]) -> Value {
    let mut group = group(id, DAY, members.unwrap_or_default());
    group["type"] = json!(kind);
    if members.is_none() {
        group.as_object_mut().unwrap().remove("member");
        group["actual"] = json!(false);
    }
    let extension = |filter: &&str| {
        json!({
            "url": "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter",
            "valueExpression": { "language": "application/x-fhir-query", "expression": filter }
        })
    };
    group["modifierExtension"] = filters.iter().map(extension).collect();
    group
}

fn person(id: &str, gender: &str) -> Value {
    json!({ "resourceType": "Patient", "id": id, "meta": { "lastUpdated": DAY }, "gender": gender })
}

fn condition(id: &str, changed: &str, patient: &str, code: &str) -> Value {
    json!({
        "resourceType": "Condition", "id": id, "meta": { "lastUpdated": changed },
        "code": { "coding": [{ "code": code }] }, "subject": { "reference": format!("Patient/{patient}") }
    })
}

fn lake() -> Lake {
    Lake::default()
        .with("Patient.ndjson", [person("ann", "female"), person("eve", "female"), person("bob", "male"), person("gone", "female")])
        .with(
            "Condition.ndjson",
            [
                condition("1", DAY, "ann", "asthma"),
                condition("2", DAY, "bob", "asthma"),
                condition("3", "2025-02-01", "eve", "flu"),
                condition("3", DAY, "eve", "asthma"),
                condition("4", DAY, "eve", "gout"),
                condition("5", DAY, "eve", "asthma"),
                condition("5", "2026-02-01", "eve", "flu"),
                condition("6", DAY, "eve", "croup"),
                condition("6", "2025-03-01", "bob", "croup"),
            ],
        )
        .with("Practitioner.ndjson", [json!({ "resourceType": "Practitioner", "id": "dr", "gender": "female" })])
        .with("deleted-1.ndjson", [deletion("Patient/gone", DAY), deletion("Condition/4", "2025-04-01")])
}

async fn members(group: Value) -> Vec<&'static str> {
    let lake = lake().with("Group.ndjson", [group]);
    let found = found(group_in(&lake, "g").await);
    let (members, others) = on_it(&found, &["ann", "eve", "bob", "gone", "new"]);
    // The group itself.
    assert_eq!(others, usize::from(!members.is_empty()));
    members
}

// Holds: G4
#[tokio::test]
async fn a_filter_on_patients_brings_those_who_match() {
    assert_eq!(members(filtered("g", "person", None, &["Patient?gender=female"])).await, ["ann", "eve"]);
    assert_eq!(members(filtered("g", "person", None, &["Patient?gender=other"])).await, [""; 0]);
    assert_eq!(members(filtered("g", "person", None, &["Patient?"])).await, ["ann", "eve", "bob"]);
}

#[tokio::test]
async fn a_filter_on_another_type_brings_the_patients_whose_resource_matches_now() {
    // Eve's third condition is no longer asthma; her fifth still is, for its change lies ahead.
    assert_eq!(members(filtered("g", "person", None, &["Condition?code=asthma"])).await, ["ann", "eve", "bob"]);
    assert_eq!(members(filtered("g", "person", None, &["Condition?code=gout"])).await, [""; 0], "it was deleted");
    assert_eq!(members(filtered("g", "person", None, &["Condition?code=croup"])).await, ["bob"], "it was moved to him");
    assert_eq!(members(filtered("g", "person", None, &["Condition?code=flu"])).await, ["eve"]);
}

// Holds: G3
#[tokio::test]
async fn several_filters_are_met_all_together() {
    assert_eq!(members(filtered("g", "person", None, &["Condition?code=asthma", "Patient?gender=female"])).await, ["ann", "eve"]);
    assert_eq!(members(filtered("g", "person", None, &["Condition?code=asthma", "Condition?code=croup"])).await, ["bob"]);
    assert_eq!(members(filtered("g", "person", None, &["Practitioner?gender=female", "Patient?gender=female"])).await, [""; 0]);
}

// Holds: G4
#[tokio::test]
async fn a_filter_narrows_the_list_of_members_where_there_is_one() {
    let listed = Some(&["Patient/bob", "Patient/ann", "Patient/new"][..]);
    assert_eq!(members(filtered("g", "person", listed, &["Condition?code=asthma"])).await, ["ann", "bob"]);
    assert_eq!(members(filtered("g", "person", listed, &["Condition?code=asthma", "Patient?gender=female"])).await, ["ann"]);
    assert_eq!(members(filtered("g", "person", listed, &["Condition?code=croup"])).await, ["bob"]);
    assert_eq!(members(filtered("g", "person", Some(&["Patient/eve"]), &["Condition?code=croup"])).await, [""; 0], "it was moved to bob");
    assert_eq!(members(filtered("g", "person", Some(&[]), &["Patient?gender=female"])).await, [""; 0], "an empty list stays empty");
}

#[tokio::test]
async fn a_filter_counts_for_the_groups_within_its_group() {
    let outer = filtered("g", "person", Some(&["Group/inner", "Patient/bob"]), &["Patient?gender=female"]);
    let lake = lake().with("Group.ndjson", [outer, filtered("inner", "person", None, &["Condition?code=asthma"])]);
    assert_eq!(on_it(&found(group_in(&lake, "g").await), &["ann", "eve", "bob"]), (vec!["ann", "eve"], 1));
    let outer = filtered("g", "person", Some(&["Group/inner", "Patient/eve"]), &[]);
    let lake = super::filters::lake()
        .with("Group.ndjson", [outer, filtered("inner", "person", Some(&["Patient/bob", "Patient/ann"]), &["Patient?gender=male"])]);
    assert_eq!(on_it(&found(group_in(&lake, "g").await), &["ann", "eve", "bob"]), (vec!["eve", "bob"], 1));
}

#[tokio::test]
async fn practitioners_are_filtered_by_what_they_are() {
    let kind = ResourceType::named("Practitioner").unwrap();
    for (gender, is_member) in [("female", true), ("male", false)] {
        let lake = lake().with("Group.ndjson", [filtered("g", "practitioner", None, &[&format!("Practitioner?gender={gender}")])]);
        assert_eq!(found(group_in(&lake, "g").await).roster.contains_other(kind, "dr"), is_member);
    }
}

// Holds: G3
#[tokio::test]
async fn a_filter_that_cannot_be_used_is_refused_by_name() {
    for (kind, filter, word) in [
        ("person", "Patient?shoe-size=12", "shoe-size"),
        ("person", "Patient?_has:Observation:patient:code=1", "_has"),
        ("person", "Patient?_sort=name", "_sort"),
        ("person", "Organization?name=x", "Organization"),
        ("person", "Observation", "Observation"),
        ("practitioner", "Observation?code=1", "Observation"),
        ("device", "Patient?gender=female", "Patient"),
    ] {
        let lake = lake().with("Group.ndjson", [filtered("g", kind, None, &[filter])]);
        let LookedUp::Undecidable(reason) = group_in(&lake, "g").await else { panic!("{filter}") };
        assert!(reason.contains("member-filter") && reason.contains(word), "{reason}");
    }
}
