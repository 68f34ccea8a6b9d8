use proptest::prelude::*;

use super::*;
use crate::Outline;

const NOW: &str = "2026-01-31T12:00:00Z";

fn read(group: &str) -> Result<GroupMembers, GroupError> {
    let line = format!(r#"{{"resourceType":"Group","id":"g","type":"person","actual":true{group}}}"#);
    let mut outline = Outline::default();
    let resource = Resource::read(line.as_bytes(), &mut outline).unwrap();
    GroupMembers::read(&resource, &Bases::any(), Instant::parse(NOW).unwrap())
}

fn names(read: &GroupMembers) -> Vec<String> {
    read.members.iter().map(|member| format!("{}/{}", member.kind, member.id)).collect()
}

fn member(id: &str, more: &str) -> String {
    format!(r#"{{"entity":{{"reference":"Patient/{id}"}}{more}}}"#)
}

fn filter(language: &str, expression: &str) -> String {
    format!(r#"{{"url":"{MEMBER_FILTER}","valueExpression":{{"language":"{language}","expression":"{expression}"}}}}"#)
}

#[test]
fn members_of_every_type_are_told_apart() {
    let read = read(
        r#","member":[{"entity":{"reference":"Patient/b"}},{"entity":{"reference":"https://example.org/fhir/Patient/a"}},
        {"entity":{"reference":"Practitioner/1"}},{"entity":{"reference":"Device/2"},"inactive":false},{"entity":{"reference":"Group/h"}}]"#,
    )
    .unwrap();
    assert_eq!(names(&read), ["Device/2", "Group/h", "Patient/a", "Patient/b", "Practitioner/1"]);
    assert_eq!(read.membership, Membership::Listed);
    let patients: Vec<_> = read.of(ResourceType::named("Patient").unwrap()).map(|member| member.id.as_str()).collect();
    assert_eq!(patients, ["a", "b"]);
}

#[test]
fn whoever_is_inactive_or_out_of_their_period_is_no_member() {
    for (more, is_member) in [
        ("", true),
        (r#","inactive":true"#, false),
        (r#","inactive":false"#, true),
        (r#","period":{}"#, true),
        (r#","period":{"start":"2026-01-31T12:00:00Z"}"#, true),
        (r#","period":{"start":"2026-01-31T12:00:01Z"}"#, false),
        (r#","period":{"start":"2026-02"}"#, false),
        (r#","period":{"end":"2026-01-31T11:59:59Z"}"#, false),
        (r#","period":{"end":"2026-01-31T13:00:00+01:00"}"#, true),
        // What ends with a date ends when that day, month or year does.
        (r#","period":{"end":"2026-01-31"}"#, true),
        (r#","period":{"end":"2026-01-30"}"#, false),
        (r#","period":{"end":"2026-01"}"#, true),
        (r#","period":{"end":"2025-12"}"#, false),
        (r#","period":{"end":"2026"}"#, true),
        (r#","period":{"end":"2025"}"#, false),
        (r#","period":{"start":"2020","end":"2030"}"#, true),
        (r#","period":{"start":"2020"},"inactive":true"#, false),
    ] {
        let read = read(&format!(r#","member":[{}]"#, member("a", more))).unwrap();
        assert_eq!(!read.members.is_empty(), is_member, "{more}");
        assert_eq!(read.membership, Membership::Listed, "{more}");
    }
}

#[test]
fn the_end_of_every_month_is_its_last_day() {
    for (month, last) in [("2024-02", "2024-02-29"), ("2026-02", "2026-02-28"), ("2026-04", "2026-04-30"), ("2026-12", "2026-12-31")] {
        let expected = Instant::parse(&format!("{last}T23:59:59.999999999Z")).ok();
        assert_eq!((last_moment(month), last_moment(last)), (expected, expected), "{month}");
    }
}

#[test]
fn of_two_memberships_the_longer_counts() {
    let start = |text: &str| format!(r#","period":{{"start":"{text}"}}"#);
    let twice = |one: &str, other: &str| read(&format!(r#","member":[{},{}]"#, member("a", one), member("a", other))).unwrap().members;
    let (early, late) = (start("2020-05-01"), start("2025-01-01"));
    for (one, other, joined) in [(&early, &late, Some("2020-05-01")), (&late, &early, Some("2020-05-01")), (&late, &String::new(), None)] {
        let members = twice(one, other);
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].joined, joined.and_then(|text| Instant::parse(text).ok()));
    }
}

#[test]
fn a_member_that_names_no_resource_of_the_lake_is_counted() {
    let read = read(
        r##","member":[{"entity":{"identifier":{"value":"9"}}},{"entity":{"reference":"#p"}},{},{"entity":{"reference":"Patient/a"}},
        {"entity":{"reference":"urn:uuid:1"},"inactive":true}]"##,
    )
    .unwrap();
    assert_eq!((names(&read), read.unresolved), (vec!["Patient/a".to_owned()], 3));
}

#[test]
fn filters_are_all_kept_in_order() {
    let filters = [filter(QUERY, "Patient?gender=female"), filter(QUERY, "Condition?code=1&category=a,b")].join(",");
    let read = read(&format!(r#","modifierExtension":[{filters}]"#)).unwrap();
    assert_eq!(read.filters, ["Patient?gender=female", "Condition?code=1&category=a,b"]);
    assert_eq!(read.membership, Membership::Filtered);
}

#[test]
fn a_list_without_members_left_does_not_turn_its_filter_loose() {
    for list in ["[]".to_owned(), format!("[{}]", member("a", r#","inactive":true"#))] {
        let read = read(&format!(r#","member":{list},"modifierExtension":[{}]"#, filter(QUERY, "Patient?active=true"))).unwrap();
        assert_eq!((read.membership, read.members.len()), (Membership::Listed, 0));
    }
}

#[test]
fn a_group_that_names_nobody_is_nobody_or_a_description() {
    for (group, membership) in [
        ("", Membership::Nobody),
        (r#","member":null"#, Membership::Nobody),
        (r#","membership":"enumerated""#, Membership::Nobody),
        (r#","membership":"definitional""#, Membership::Described),
        (r#","characteristic":[{"code":{"text":"gender"},"valueBoolean":true,"exclude":true}]"#, Membership::Described),
    ] {
        assert_eq!(read(group).unwrap().membership, membership, "{group}");
    }
    let line = br#"{"resourceType":"Group","id":"g","type":"person","actual":false}"#;
    let mut outline = Outline::default();
    let resource = Resource::read(line, &mut outline).unwrap();
    let read = GroupMembers::read(&resource, &Bases::any(), Instant::parse(NOW).unwrap());
    assert_eq!(read.map(|read| read.membership), Ok(Membership::Described));
}

#[test]
fn an_excluding_characteristic_takes_no_listed_member_away() {
    let group = format!(r#","characteristic":[{{"code":{{"text":"x"}},"exclude":true}}],"member":[{}]"#, member("a", ""));
    assert_eq!(names(&read(&group).unwrap()), ["Patient/a"]);
}

#[test]
fn what_could_change_the_answer_is_refused_with_its_place() {
    let members = |second: &str| format!(r#","member":[{},{}]"#, member("SECRET", ""), member("SECRET", second));
    let extensions = |second: &str| format!(r#","modifierExtension":[{},{second}]"#, filter(QUERY, "Patient"));
    for (group, error) in [
        (members(r#","inactive":"SECRET""#), GroupError::Inactive(2)),
        (members(r#","period":{"end":"SECRET"}"#), GroupError::Period(2)),
        (members(r#","period":{"start":7}"#), GroupError::Period(2)),
        (members(r#","modifierExtension":[{"url":"https://SECRET"}]"#), GroupError::UnknownMemberModifier(2)),
        (extensions(r#"{"url":"https://SECRET","valueBoolean":true}"#), GroupError::UnknownModifier(2)),
        (extensions(&filter("text/cql", "SECRET")), GroupError::Filter(2)),
        (extensions(&filter(QUERY, "")), GroupError::Filter(2)),
        (extensions(&format!(r#"{{"url":"{MEMBER_FILTER}","valueString":"SECRET"}}"#)), GroupError::Filter(2)),
    ] {
        assert_eq!(read(&group), Err(error), "{group}");
        assert!(!format!("{error} {error:?}").contains("SECRET") && error.to_string().contains('2'), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_group_of_another_shape_has_no_members(
        name in prop::sample::select(&["member", "modifierExtension", "characteristic", "membership"][..]),
        value in prop::sample::select(&["null", "7", "\"x\"", "[]", "[null]", "[[]]", "{}", "[{}]", r#"{"entity":[],"period":[]}"#][..]),
        inner in prop::sample::select(&["entity", "period", "inactive", "url", "valueExpression"][..]),
    ) {
        for group in [format!(r#","{name}":{value}"#), format!(r#","{name}":[{{"{inner}":{value}}}]"#)] {
            prop_assert!(read(&group).is_ok_and(|read| read.members.is_empty()) || read(&group).is_err(), "{}", group);
        }
    }
}
