use proptest::prelude::*;

use super::*;
use crate::head::MemberIndex;

const NOW: &str = "2026-01-31T12:00:00Z";

fn parse(group: &str) -> Result<GroupMembers, GroupError> {
    let line = format!(r#"{{"resourceType":"Group","id":"g","type":"person","actual":true{group}}}"#);
    let mut member_index = MemberIndex::default();
    let resource = Resource::parse(line.as_bytes(), &mut member_index).unwrap();
    GroupMembers::parse(&resource, &BaseUrls::any(), Instant::parse(NOW).unwrap())
}

fn names(group_members: &GroupMembers) -> Vec<String> {
    group_members.members.iter().map(|member| format!("{}/{}", member.resource_type, member.id)).collect()
}

fn member(id: &str, more: &str) -> String {
    format!(r#"{{"entity":{{"reference":"Patient/{id}"}}{more}}}"#)
}

fn filter(language: &str, expression: &str) -> String {
    format!(r#"{{"url":"{MEMBER_FILTER}","valueExpression":{{"language":"{language}","expression":"{expression}"}}}}"#)
}

#[test]
fn members_of_all_types_are_listed() {
    let group_members = parse(
        r#","member":[{"entity":{"reference":"Patient/b"}},{"entity":{"reference":"https://example.org/fhir/Patient/a"}},
        {"entity":{"reference":"Practitioner/1"}},{"entity":{"reference":"Device/2"},"inactive":false},{"entity":{"reference":"Group/h"}}]"#,
    )
    .unwrap();
    assert_eq!(names(&group_members), ["Device/2", "Group/h", "Patient/a", "Patient/b", "Practitioner/1"]);
    assert_eq!(group_members.membership, MembershipBasis::Enumerated);
    let patients: Vec<_> = group_members.of_type(ResourceType::PATIENT).map(|member| member.id.as_str()).collect();
    assert_eq!(patients, ["a", "b"]);
}

#[test]
fn inactive_members_and_members_outside_their_period_are_left_out() {
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
        // A period that ends with a date includes the whole day, month or year.
        (r#","period":{"end":"2026-01-31"}"#, true),
        (r#","period":{"end":"2026-01-30"}"#, false),
        (r#","period":{"end":"2026-01"}"#, true),
        (r#","period":{"end":"2025-12"}"#, false),
        (r#","period":{"end":"2026"}"#, true),
        (r#","period":{"end":"2025"}"#, false),
        (r#","period":{"start":"2020","end":"2030"}"#, true),
        (r#","period":{"start":"2020"},"inactive":true"#, false),
    ] {
        let group_members = parse(&format!(r#","member":[{}]"#, member("a", more))).unwrap();
        assert_eq!(!group_members.members.is_empty(), is_member, "{more}");
        assert_eq!(group_members.membership, MembershipBasis::Enumerated, "{more}");
    }
}

#[test]
fn a_period_that_ends_with_a_month_includes_its_last_day() {
    for (month, last) in [("2024-02", "2024-02-29"), ("2026-02", "2026-02-28"), ("2026-04", "2026-04-30"), ("2026-12", "2026-12-31")] {
        let expected = Instant::parse(&format!("{last}T23:59:59.999999999Z")).ok();
        assert_eq!((last_instant(month), last_instant(last)), (expected, expected), "{month}");
    }
}

#[test]
fn a_duplicate_member_has_the_earliest_start() {
    let start = |text: &str| format!(r#","period":{{"start":"{text}"}}"#);
    let twice = |one: &str, other: &str| parse(&format!(r#","member":[{},{}]"#, member("a", one), member("a", other))).unwrap().members;
    let (early, late) = (start("2020-05-01"), start("2025-01-01"));
    for (one, other, joined) in [(&early, &late, Some("2020-05-01")), (&late, &early, Some("2020-05-01")), (&late, &String::new(), None)] {
        let members = twice(one, other);
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].joined_at, joined.and_then(|text| Instant::parse(text).ok()));
    }
}

#[test]
fn members_without_a_local_reference_are_counted() {
    let group_members = parse(
        r##","member":[{"entity":{"identifier":{"value":"9"}}},{"entity":{"reference":"#p"}},{},{"entity":{"reference":"Patient/a"}},
        {"entity":{"reference":"urn:uuid:1"},"inactive":true}]"##,
    )
    .unwrap();
    assert_eq!((names(&group_members), group_members.unresolved), (vec!["Patient/a".to_owned()], 3));
}

#[test]
fn filters_are_all_kept_in_order() {
    let filters = [filter(QUERY_LANGUAGE, "Patient?gender=female"), filter(QUERY_LANGUAGE, "Condition?code=1&category=a,b")].join(",");
    let group_members = parse(&format!(r#","modifierExtension":[{filters}]"#)).unwrap();
    assert_eq!(group_members.filters, ["Patient?gender=female", "Condition?code=1&category=a,b"]);
    assert_eq!(group_members.membership, MembershipBasis::Filters);
}

#[test]
fn an_empty_member_list_does_not_apply_its_filter_to_all_patients() {
    for list in ["[]".to_owned(), format!("[{}]", member("a", r#","inactive":true"#))] {
        let group_members =
            parse(&format!(r#","member":{list},"modifierExtension":[{}]"#, filter(QUERY_LANGUAGE, "Patient?active=true"))).unwrap();
        assert_eq!((group_members.membership, group_members.members.len()), (MembershipBasis::Enumerated, 0));
    }
}

#[test]
fn a_group_without_members_is_unspecified_or_defined_by_characteristics() {
    for (group, membership) in [
        ("", MembershipBasis::Unspecified),
        (r#","member":null"#, MembershipBasis::Unspecified),
        (r#","membership":"enumerated""#, MembershipBasis::Unspecified),
        (r#","membership":"definitional""#, MembershipBasis::Characteristics),
        (r#","characteristic":[{"code":{"text":"gender"},"valueBoolean":true,"exclude":true}]"#, MembershipBasis::Characteristics),
    ] {
        assert_eq!(parse(group).unwrap().membership, membership, "{group}");
    }
    let line = br#"{"resourceType":"Group","id":"g","type":"person","actual":false}"#;
    let mut member_index = MemberIndex::default();
    let resource = Resource::parse(line, &mut member_index).unwrap();
    let group_members = GroupMembers::parse(&resource, &BaseUrls::any(), Instant::parse(NOW).unwrap());
    assert_eq!(group_members.map(|parsed| parsed.membership), Ok(MembershipBasis::Characteristics));
}

#[test]
fn an_excluding_characteristic_does_not_remove_a_listed_member() {
    let group = format!(r#","characteristic":[{{"code":{{"text":"x"}},"exclude":true}}],"member":[{}]"#, member("a", ""));
    assert_eq!(names(&parse(&group).unwrap()), ["Patient/a"]);
}

#[test]
fn an_invalid_element_that_can_change_the_members_is_an_error_with_its_position() {
    let members = |second: &str| format!(r#","member":[{},{}]"#, member("SECRET", ""), member("SECRET", second));
    let extensions = |second: &str| format!(r#","modifierExtension":[{},{second}]"#, filter(QUERY_LANGUAGE, "Patient"));
    for (group, error) in [
        (members(r#","inactive":"SECRET""#), GroupError::Inactive(2)),
        (members(r#","period":{"end":"SECRET"}"#), GroupError::Period(2)),
        (members(r#","period":{"start":7}"#), GroupError::Period(2)),
        (members(r#","modifierExtension":[{"url":"https://SECRET"}]"#), GroupError::UnknownMemberModifier(2)),
        (extensions(r#"{"url":"https://SECRET","valueBoolean":true}"#), GroupError::UnknownModifier(2)),
        (extensions(&filter("text/cql", "SECRET")), GroupError::Filter(2)),
        (extensions(&filter(QUERY_LANGUAGE, "")), GroupError::Filter(2)),
        (extensions(&format!(r#"{{"url":"{MEMBER_FILTER}","valueString":"SECRET"}}"#)), GroupError::Filter(2)),
    ] {
        assert_eq!(parse(&group), Err(error), "{group}");
        assert!(!format!("{error} {error:?}").contains("SECRET") && error.to_string().contains('2'), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_group_with_elements_of_other_json_types_has_no_members(
        name in prop::sample::select(&["member", "modifierExtension", "characteristic", "membership"][..]),
        value in prop::sample::select(&["null", "7", "\"x\"", "[]", "[null]", "[[]]", "{}", "[{}]", r#"{"entity":[],"period":[]}"#][..]),
        inner in prop::sample::select(&["entity", "period", "inactive", "url", "valueExpression"][..]),
    ) {
        for group in [format!(r#","{name}":{value}"#), format!(r#","{name}":[{{"{inner}":{value}}}]"#)] {
            prop_assert!(parse(&group).is_ok_and(|parsed| parsed.members.is_empty()) || parse(&group).is_err(), "{}", group);
        }
    }
}
