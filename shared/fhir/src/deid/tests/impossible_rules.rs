//! Rules and conditions that can never apply are reported.

use super::*;

/// Returns the remarks about a rule that redacts.
fn remarks(path: &str) -> Vec<DeidRemark> {
    let config = configuration(&[[path, r#""method":"redact""#]], "");
    DeidConfig::parse(config.as_bytes(), FhirVersion::R4).unwrap().lint()
}

#[test]
fn paths_to_a_further_item_of_a_single_element_are_reported() {
    for (path, part) in [
        ("Patient.birthDate[1]", "`[1]` selects nothing, because there is one `birthDate` at most"),
        ("Patient.birthDate.skip(1)", "`skip()` selects nothing"),
        ("Patient.gender.tail()", "`tail()` selects nothing"),
        ("Patient.name.where(family[1] = 'x')", "`[1]` selects nothing, because there is one `family` at most"),
        ("Patient.name.exclude(Patient.name)", "`exclude()` of the same elements selects nothing"),
        ("Patient.name.where(given.exclude(given).exists())", "`exclude()` of the same elements selects nothing"),
    ] {
        let found = remarks(path);
        let is_expected = |remark: &DeidRemark| remark.code_and_rule() == "condition:1" && remark.reason.contains(part);
        assert!(matches!(&found[..], [remark] if is_expected(remark)), "{path}: {found:?}");
    }
    for path in [
        "Patient.birthDate[0]",
        "Patient.name[1]",
        "Patient.name.skip(1)",
        "Patient.name.tail()",
        "Patient.name.given.skip(1)",
        "Patient.extension('http://x')[1]",
        "Patient.gender.exclude(maritalStatus.text)",
    ] {
        assert_eq!(remarks(path), [], "{path}");
    }
}

#[test]
fn conditions_that_no_resource_fulfils_are_reported() {
    for (path, reason) in [
        ("Patient.name.where($total = 1)", "`$total` has a value only in aggregate()"),
        ("Patient.name.where($index = -1)", "never true"),
        ("Patient.name.where(family.length() < 0)", "never true"),
        ("Patient.name.where(family = '')", "never true"),
        ("Patient.name.where('' ~ family)", "never true"),
        ("Patient.name.where(family = '' and use = 'old')", "never true"),
        ("Patient.where(multipleBirth / 0 = 1).name", "never true"),
        ("Patient.name.where(family = {})", "never true"),
    ] {
        let found = remarks(path);
        let is_expected = |remark: &DeidRemark| remark.code_and_rule() == "condition:1" && remark.reason.contains(reason);
        assert!(matches!(&found[..], [remark] if is_expected(remark)), "{path}: {found:?}");
    }
    for path in [
        "Patient.name.where($index > 0)",
        "Patient.name.where(family.length() > 0)",
        "Patient.name.where((family = '').not())",
        "Patient.name.where((family.length() < 0).not())",
        "Patient.where(name.given.aggregate($total + 1, 0) > 2).name",
        "Patient.where(multipleBirth * 0 = 1).name",
    ] {
        assert_eq!(remarks(path), [], "{path}");
    }
}

#[test]
fn single_of_several_items_may_fail() {
    let found = remarks("Patient.name.single()");
    assert!(matches!(&found[..], [remark] if remark.code_and_rule() == "may-fail" || remark.code_and_rule() == "may-fail:1"), "{found:?}");
    assert!(found[0].reason.contains("a single value of `name`"), "{found:?}");
    assert_eq!(remarks("Patient.maritalStatus.single()"), []);
}
