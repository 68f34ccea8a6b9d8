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
    let found = selected(resolve_group_in(&lake, "g").await);
    let (members, others) = members_of(&found, &["ann", "eve", "bob", "gone", "new"]);
    // The group itself is a member of the set.
    assert_eq!(others, usize::from(!members.is_empty()));
    members
}

// Holds: G4
#[tokio::test]
async fn a_filter_on_patients_selects_matching_patients() {
    assert_eq!(members(filtered("g", "person", None, &["Patient?gender=female"])).await, ["ann", "eve"]);
    assert_eq!(members(filtered("g", "person", None, &["Patient?gender=other"])).await, [""; 0]);
    assert_eq!(members(filtered("g", "person", None, &["Patient?"])).await, ["ann", "eve", "bob"]);
}

#[tokio::test]
async fn a_filter_on_another_type_selects_the_patients_of_matching_current_resources() {
    // Eve's third condition is no longer asthma. Her fifth still is, because its change lies in the future.
    assert_eq!(members(filtered("g", "person", None, &["Condition?code=asthma"])).await, ["ann", "eve", "bob"]);
    assert_eq!(members(filtered("g", "person", None, &["Condition?code=gout"])).await, [""; 0], "it was deleted");
    assert_eq!(members(filtered("g", "person", None, &["Condition?code=croup"])).await, ["bob"], "it was changed to refer to him");
    assert_eq!(members(filtered("g", "person", None, &["Condition?code=flu"])).await, ["eve"]);
}

// Holds: G3
#[tokio::test]
async fn members_match_every_filter() {
    assert_eq!(members(filtered("g", "person", None, &["Condition?code=asthma", "Patient?gender=female"])).await, ["ann", "eve"]);
    assert_eq!(members(filtered("g", "person", None, &["Condition?code=asthma", "Condition?code=croup"])).await, ["bob"]);
    assert_eq!(members(filtered("g", "person", None, &["Practitioner?gender=female", "Patient?gender=female"])).await, [""; 0]);
}

// Holds: G4
#[tokio::test]
async fn a_filter_narrows_an_explicit_list_of_members() {
    let listed = Some(&["Patient/bob", "Patient/ann", "Patient/new"][..]);
    assert_eq!(members(filtered("g", "person", listed, &["Condition?code=asthma"])).await, ["ann", "bob"]);
    assert_eq!(members(filtered("g", "person", listed, &["Condition?code=asthma", "Patient?gender=female"])).await, ["ann"]);
    assert_eq!(members(filtered("g", "person", listed, &["Condition?code=croup"])).await, ["bob"]);
    assert_eq!(
        members(filtered("g", "person", Some(&["Patient/eve"]), &["Condition?code=croup"])).await,
        [""; 0],
        "it was changed to refer to bob"
    );
    assert_eq!(members(filtered("g", "person", Some(&[]), &["Patient?gender=female"])).await, [""; 0], "an empty list stays empty");
}

#[tokio::test]
async fn a_filter_applies_to_nested_groups() {
    let outer = filtered("g", "person", Some(&["Group/inner", "Patient/bob"]), &["Patient?gender=female"]);
    let lake = lake().with("Group.ndjson", [outer, filtered("inner", "person", None, &["Condition?code=asthma"])]);
    assert_eq!(members_of(&selected(resolve_group_in(&lake, "g").await), &["ann", "eve", "bob"]), (vec!["ann", "eve"], 1));
    let outer = filtered("g", "person", Some(&["Group/inner", "Patient/eve"]), &[]);
    let lake = super::filters::lake()
        .with("Group.ndjson", [outer, filtered("inner", "person", Some(&["Patient/bob", "Patient/ann"]), &["Patient?gender=male"])]);
    assert_eq!(members_of(&selected(resolve_group_in(&lake, "g").await), &["ann", "eve", "bob"]), (vec!["eve", "bob"], 1));
}

#[tokio::test]
async fn a_practitioner_group_is_filtered_by_practitioner_queries() {
    let kind = ResourceType::PRACTITIONER;
    for (gender, is_member) in [("female", true), ("male", false)] {
        let lake = lake().with("Group.ndjson", [filtered("g", "practitioner", None, &[&format!("Practitioner?gender={gender}")])]);
        assert_eq!(selected(resolve_group_in(&lake, "g").await).patient_set.contains_other(kind, "dr"), is_member);
    }
}

// Holds: G3
#[tokio::test]
async fn an_unusable_filter_is_rejected_by_name() {
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
        let ResolvedPatients::Undecidable(reason) = resolve_group_in(&lake, "g").await else { panic!("{filter}") };
        assert!(reason.contains("member-filter") && reason.contains(word), "{reason}");
    }
}
