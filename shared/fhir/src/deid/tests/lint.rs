//! Checks of a configuration without data, and explanations of a resource.

use super::*;

/// Parses a configuration.
fn parse(rules: &[[&str; 2]], parameters: &str) -> DeidConfig {
    DeidConfig::parse(configuration(rules, parameters).as_bytes(), FhirVersion::R4).unwrap()
}

/// Returns the issues of rules.
fn lint(rules: &[[&str; 2]]) -> Vec<String> {
    parse(rules, "").lint().iter().map(DeidRemark::to_string).collect()
}

const REDACT: &str = r#""method":"redact""#;
const KEEP: &str = r#""method":"keep""#;

#[test]
fn rules_that_select_nothing_are_reported_with_a_suggestion() {
    for (path, reason) in [
        (
            "HealthcareService.notAvaliable.description",
            "there is no element `notAvaliable` at this point of the path; did you mean `notAvailable`?",
        ),
        ("Observation.valueQuantity", "name a choice without its type: `value`"),
        ("nodesByType('HumanNames')", "no element has the type `HumanNames`; did you mean `HumanName`?"),
        ("nodesByName('familly')", "no element has the name `familly`; did you mean `family`?"),
        ("Observation.value as Age", "no element has the type `Age`; use a type that an element at this point of the path can have"),
        ("Patient.contact.Gender", "no element has the type `Gender`; did you mean `gender`?"),
        ("Patient.name.FAMILY", "no element has the type `FAMILY`; did you mean `family`?"),
        (
            "Patient.name | Observation.value",
            "the rule is for Patient, so `Observation` at this point of the path selects nothing; write a rule of its own for Observation",
        ),
        ("Patient.name | Patients.name", "no element has the type `Patients`; did you mean `Patient`?"),
        ("Patient.name.where(use = 'usual').xyzzy", "there is no element `xyzzy` at this point of the path"),
    ] {
        let found = lint(&[[path, REDACT]]);
        assert!(matches!(&found[..], [found] if found.contains(reason)), "{path}: {found:?}");
    }
}

#[test]
fn rules_for_extensions_only_are_reported_if_rules_skip_extensions() {
    let rules = [["Patient.extension.value", REDACT], ["Patient.extension", REDACT]];
    let found = parse(&rules, r#""rulesInExtensions":false"#).lint();
    let expected = "error [selects-nothing] rule 1 (`Patient.extension.value`): the rule selects only elements in extensions, and rulesInExtensions is false; remove the rule or the setting";
    assert_eq!(found.iter().map(DeidRemark::to_string).collect::<Vec<_>>(), [expected]);
}

#[test]
fn rules_that_earlier_rules_leave_without_effect_are_reported() {
    let late = "error [no-effect] rule 2 (`Patient.name.use`): the rule has no effect: earlier rules apply to every element that it selects; move the rule before the rules that select the same elements";
    assert_eq!(lint(&[["Patient.name", REDACT], ["Patient.name.use", KEEP]]), [late]);
    assert_eq!(lint(&[["nodesByType('HumanName')", REDACT], ["Patient.name.use", KEEP]]), [late]);
    assert_eq!(lint(&[["Patient.name.use", KEEP], ["Patient.name", REDACT]]), Vec::<String>::new());
    // A rule with a condition applies to an element only in some resources.
    assert_eq!(lint(&[["Patient.name.where(use = 'usual')", REDACT], ["Patient.name", KEEP]]), Vec::<String>::new());
    assert_eq!(lint(&[["Patient.name", KEEP], ["Patient.name.where(use = 'usual')", REDACT]]).len(), 1);
}

#[test]
fn references_that_reveal_hashed_ids_are_reported() {
    let hash = r#""method":"cryptoHash""#;
    let found = lint(&[["Resource.id", hash]]);
    assert!(matches!(&found[..], [found] if found.contains("references still reveal them, such as those in ")), "{found:?}");
    let found = lint(&[["Patient.link", KEEP], ["Resource.id", hash], ["nodesByType('Reference').reference", hash]]);
    assert!(
        matches!(&found[..], [found] if found.starts_with("error [revealing-references] rule 1 (`Patient.link`): the rule keeps references in Patient")),
        "{found:?}"
    );
    assert_eq!(lint(&[["Resource.id", hash], ["nodesByType('Reference').reference", hash]]), Vec::<String>::new());
}

#[test]
fn a_rule_with_a_condition_hides_no_reference_for_certain() {
    let found = |rules: &[[&str; 2]]| -> Vec<String> {
        let revealing = |remark: &DeidRemark| remark.code == DeidRemarkCode::RevealingReferences;
        parse(rules, "").lint().iter().filter(|remark| revealing(remark)).map(DeidRemark::to_string).collect()
    };
    let (ids, references) = (["Resource.id", HASH], ["nodesByType('Reference').reference", HASH]);
    for path in [
        "nodesByType('Reference').where(type = 'Patient').reference",
        "nodesByType('Reference').where(display.exists()).reference",
        "nodesByType('Reference').reference.first()",
    ] {
        let found = found(&[ids, [path, HASH]]);
        assert!(matches!(&found[..], [found] if found.contains("references still reveal them")), "{path}: {found:?}");
    }
    // A rule with a condition can keep what a later rule would hide.
    let kept = found(&[["Observation.subject.where(display.exists())", KEEP], ids, references]);
    assert!(matches!(&kept[..], [found] if found.contains("rule 1 ") && found.contains("keeps references in Observation")), "{kept:?}");
    let unhashed = found(&[["Resource.where(language.exists()).id", HASH], references]);
    assert!(matches!(&unhashed[..], [found] if found.contains("rule 1 ") && found.contains("other ids of ")), "{unhashed:?}");
    for rules in [
        &[["Resource.where(language.exists()).id", HASH], ids, references][..],
        &[["Patient.where(active).id", HASH], ["Resource.id", REDACT], references],
        &[["nodesByType('Reference').where(display.exists())", REDACT], ids, references],
    ] {
        assert_eq!(found(rules), Vec::<String>::new(), "{rules:?}");
    }
    // References reveal ids that are removed, too.
    let redacted = found(&[["Resource.id", REDACT]]);
    assert!(matches!(&redacted[..], [found] if found.contains("references still reveal them")), "{redacted:?}");
    assert_eq!(found(&[["Resource.id", REDACT], ["nodesByType('Reference')", REDACT]]), Vec::<String>::new());
    // Addresses of Bundles are hashed with ids, unless a rule keeps them.
    let kept = found(&[["Bundle.entry.request", KEEP], ids, references]);
    let is_address = |found: &String| found.contains("rule 1 ") && found.contains("keeps addresses in Bundle");
    assert!(kept.iter().any(is_address), "{kept:?}");
}

/// Returns the remarks about ids that references and other elements reveal.
fn codes_of_ids(rules: &[[&str; 2]]) -> Vec<String> {
    let remarks = parse(rules, "").lint();
    remarks.iter().filter(|remark| remark.code == DeidRemarkCode::RevealingReferences).map(DeidRemark::to_string).collect()
}

#[test]
fn a_kept_code_reveals_no_id_and_a_kept_value_of_the_type_id_does() {
    let (ids, references) = (["Resource.id", HASH], ["nodesByType('Reference').reference", HASH]);
    for path in ["Patient.where(gender = 'male').language", "Patient.gender", "Patient.birthDate"] {
        assert_eq!(lint(&[[path, KEEP], ids, references]), Vec::<String>::new(), "{path}");
    }
    // A rule for a value does not cover its extensions. One for an element around it does.
    let both = [ids, references];
    for rule in [["nodesByType('code')", KEEP], ["nodesByType('date')", SHIFT], ["nodesByType('Coding').system", KEEP]] {
        assert_eq!(codes_of_ids(&[&[rule][..], &both].concat()), Vec::<String>::new(), "{rule:?}");
    }
    for path in ["nodesByType('Coding')", "Patient.gender.extension"] {
        let found = codes_of_ids(&[&[[path, KEEP], ["Patient.gender", KEEP]][..], &both].concat());
        assert!(matches!(&found[..], [found] if found.contains("rule 1 ")), "{path}: {found:?}");
    }
    for path in ["Task.input", "Task.output.value", "Parameters.parameter", "nodesByType('id')"] {
        let found = lint(&[ids, ["nodesByType('Reference')", REDACT], [path, KEEP]]);
        assert!(
            found.iter().any(|found| found.contains("rule 3 ") && found.contains("keeps values of the type id in ")),
            "{path}: {found:?}"
        );
    }
}

#[test]
fn references_that_are_hashed_and_ids_that_stay_are_reported() {
    let references = ["nodesByType('Reference').reference", HASH];
    let found = lint(&[references]);
    assert!(
        matches!(&found[..], [found] if found.contains("[revealing-references] rule 1 ") && found.contains("hash Resource.id too")),
        "{found:?}"
    );
    assert_eq!(lint(&[["nodesByType('Reference').reference", REDACT]]), Vec::<String>::new(), "nothing is joined");
    for settings in [r#""method":"encrypt""#, r#""method":"substitute","replaceWith":"x""#] {
        let found = lint(&[["Resource.id", settings]]);
        assert!(found.iter().any(|found| found.contains("references still reveal them")), "{settings}: {found:?}");
    }
}

#[test]
fn a_kept_search_or_conditional_url_of_a_bundle_is_reported_by_its_rule() {
    let (ids, references) = (["Resource.id", HASH], ["nodesByType('Reference').reference", HASH]);
    let found = |rules: &[[&str; 2]]| lint(&[rules, &[ids, references]].concat());
    let search =
        "error [revealing-references] rule 1 (`Bundle.entry.request.ifNoneExist`): the rule keeps searches (`ifNoneExist`) in Bundle";
    let kept = found(&[["Bundle.entry.request.ifNoneExist", KEEP]]);
    assert!(matches!(&kept[..], [found] if found.starts_with(search)), "{kept:?}");
    for path in ["Bundle.entry.request", "Bundle.entry.request.where(method = 'POST')", "nodesByName('ifNoneExist')"] {
        let kept = found(&[[path, KEEP]]);
        assert!(kept.iter().any(|found| found.contains("rule 1 ") && found.contains("keeps searches")), "{path}: {kept:?}");
    }
    // A conditional update or deletion has its search in the URL, which is an address.
    let kept = found(&[["Bundle.entry.request.url", KEEP]]);
    assert!(matches!(&kept[..], [found] if found.contains("keeps addresses in Bundle")), "{kept:?}");
    // The number of a version identifies nobody.
    for path in ["Bundle.entry.request.ifMatch", "Bundle.entry.request.ifNoneMatch", "Bundle.entry.response.etag"] {
        assert_eq!(found(&[[path, KEEP]]), Vec::<String>::new(), "{path}");
    }
    assert_eq!(found(&[["Bundle.entry.request.ifNoneExist", REDACT]]), Vec::<String>::new());
}

#[test]
fn a_rule_with_a_condition_hides_no_date_for_certain() {
    let known = known_date_rules();
    let of_others = known.iter().filter(|path| *path != "nodesByType('Meta').lastUpdated");
    let redacted: Vec<[&str; 2]> = of_others.map(|path| [path.as_str(), REDACT]).collect();
    let shifts = ["date", "dateTime", "instant"].map(|name| format!("nodesByType('{name}')"));
    let with = |first: [&str; 2], shifts: &[&str]| {
        let rules: Vec<_> = redacted.iter().copied().chain([first]).chain(shifts.iter().map(|path| [*path, SHIFT])).collect();
        codes(&rules, r#""dateShiftScope":"patient""#)
    };
    let all: Vec<&str> = shifts.iter().map(String::as_str).collect();
    let last_updated = ["nodesByType('Meta').lastUpdated", REDACT];
    assert_eq!(with(last_updated, &all), []);
    let conditional = with(["Resource.meta.where(versionId = '1').lastUpdated", REDACT], &all);
    assert!(matches!(conditional[..], [(_, "known-date")]), "{conditional:?}");
    let shifted = with(last_updated, &["nodesByType('date')", "nodesByType('dateTime').where($this > @2000)", "nodesByType('instant')"]);
    assert_eq!(shifted, [(0, "true-date")]);
    let kept = codes(
        &[
            ["nodesByName('dayOfWeek')", REDACT],
            ["Observation.where(status = 'final').effective", KEEP],
            ["nodesByType('instant')", REDACT],
            ["nodesByType('date')", SHIFT],
            ["nodesByType('dateTime')", SHIFT],
        ],
        UTC,
    );
    assert_eq!(kept, [(0, "true-date"), (4, "known-date"), (5, "known-date")]);
}

#[test]
fn the_coverage_counts_a_rule_with_a_condition_only_if_it_keeps() {
    let rules =
        [["Patient.name.where(use = 'official')", KEEP], ["Patient.name", REDACT], ["Patient.gender.where($this = 'male')", REDACT]];
    let (_, found) = coverage(&rules, "");
    for expected in [("Patient.name", DeidTreatment::KeptByRule, Some(1)), ("Patient.gender", DeidTreatment::KeptUnnamed, None)] {
        assert!(found.contains(&(expected.0.to_owned(), expected.1, expected.2)), "{expected:?}: {found:#?}");
    }
    let (identifiers, _) = coverage(&[["Patient.where(active).id", REDACT]], "");
    assert!(identifiers.identifiers_beside_id.contains(&"Patient.identifier".to_owned()));
    let untouched = parse(&rules, "").untouched_elements(ResourceType::PATIENT);
    assert!(untouched.iter().any(|element| element.path == "Patient.gender"), "{untouched:?}");
}

#[test]
fn elements_that_no_rule_applies_to_are_listed() {
    let patient = ResourceType::PATIENT;
    let untouched = |rules: &[[&str; 2]], parameters: &str| -> Vec<(String, &str)> {
        parse(rules, parameters).untouched_elements(patient).into_iter().map(|element| (element.path, element.type_name)).collect()
    };
    let found = untouched(
        &[["nodesByType('HumanName').family", REDACT], ["Patient.birthDate", REDACT], ["Patient.deceased as dateTime", REDACT]],
        "",
    );
    let has = |path: &str, type_name: &str| found.contains(&(path.to_owned(), type_name));
    assert!(
        has("Patient.maritalStatus", "CodeableConcept") && has("Patient.name.given", "string") && has("Patient.contact.gender", "code"),
        "{found:?}"
    );
    assert!(has("Patient.deceasedBoolean", "boolean") && has("Patient.multipleBirth", "choice"), "{found:?}");
    for path in
        ["Patient.birthDate", "Patient.name", "Patient.name.family", "Patient.deceasedDateTime", "Patient.contact", "Patient.contained"]
    {
        assert!(found.iter().all(|(found, _)| found != path), "{path}");
    }
    assert_eq!(untouched(&[["Patient", KEEP]], ""), []);
    assert_eq!(untouched(&[], r#""unnamedElements":"drop""#), []);
}

#[test]
fn each_step_is_explained_with_the_values_before_and_after() {
    let rules = [
        ["Patient.name.use", KEEP],
        ["Patient.name", REDACT],
        ["Patient.birthDate", REDACT],
        ["Patient.photo", r#""method":"substitute","replaceWith":{"title":"t"}"#],
    ];
    let deidentifier = parse(&rules, r#""enablePartialDatesForRedact":true"#).for_job(&job());
    let resource = br#"{"resourceType":"Patient","name":[{"use":"usual","family":"A"}],"birthDate":"2001-02-03","photo":[{"url":"u"}]}"#;
    let explanation = deidentifier.explain(resource, None).unwrap();
    let steps: Vec<_> = explanation
        .steps
        .iter()
        .map(|step| (step.rule_number, step.element_path.as_str(), step.before.as_deref(), step.after.as_deref()))
        .collect();
    assert_eq!(
        steps,
        [
            (1, "Patient.name[0].use", Some(r#""usual""#), Some(r#""usual""#)),
            (2, "Patient.name[0].family", Some(r#""A""#), None),
            (3, "Patient.birthDate", Some(r#""2001-02-03""#), Some(r#""2001""#)),
            (4, "Patient.photo[0]", Some(r#"{"url":"u"}"#), Some(r#"{"title":"t"}"#)),
        ]
    );
    let mut applied = Vec::new();
    deidentifier.deidentify(resource, None, &mut applied).unwrap();
    assert_eq!(parse_json(std::str::from_utf8(&explanation.output).unwrap()), parse_json(std::str::from_utf8(&applied).unwrap()));
}

/// Returns the codes of the remarks about rules, each with the number of its rule.
fn codes(rules: &[[&str; 2]], parameters: &str) -> Vec<(usize, &'static str)> {
    parse(rules, parameters).lint().iter().map(|remark| (remark.rule_number.unwrap_or_default(), remark.code.as_str())).collect()
}

const SHIFT: &str = r#""method":"dateShift""#;
const PERTURB: &str = r#""method":"perturb","span":5"#;
const HASH: &str = r#""method":"cryptoHash""#;
const UTC: &str = r#""dateShiftTimeZone":"utc""#;

#[test]
fn methods_that_cannot_change_the_selected_elements_are_errors() {
    let mut wrong = Vec::new();
    for (path, settings, code) in [
        ("Patient.name", SHIFT, "partly-acts"),
        ("Patient.id", SHIFT, "cannot-act"),
        ("Patient.gender", SHIFT, "cannot-act"),
        ("nodesByType('Address').city", SHIFT, "cannot-act"),
        ("Patient", SHIFT, "partly-acts"),
        ("Patient.contact", SHIFT, "partly-acts"),
        ("Observation.status", PERTURB, "cannot-act"),
        ("Patient.birthDate", PERTURB, "cannot-act"),
        ("Patient.name", PERTURB, "cannot-act"),
        ("Observation.value", PERTURB, "partly-acts"),
        ("Observation.value as Quantity", r#""method":"perturb","span":0"#, "cannot-act"),
        // Half of the span is less than half of the last place.
        ("Observation.value as Quantity", r#""method":"perturb","span":0.001"#, "cannot-act"),
        ("Observation.value as Quantity", r#""method":"perturb","span":1,"roundTo":0"#, "cannot-act"),
        ("Patient.multipleBirth as integer", r#""method":"perturb","span":0.5"#, "cannot-act"),
        ("Patient.multipleBirth as integer", r#""method":"perturb","span":1,"roundTo":3"#, "cannot-act"),
        ("Observation.value", r#""method":"perturb","span":0.5"#, "partly-acts"),
        ("Patient.name", r#""method":"generalize","cases":{"true":"'x'"}"#, "may-fail"),
        // A date of birth can have an extension with the time.
        ("Patient.birthDate", r#""method":"generalize","cases":{"true":"@1990"}"#, "may-fail"),
        ("Patient.gender", r#""method":"substitute","replaceWith":{"text":"x"}"#, "may-fail"),
        ("Patient.name", r#""method":"substitute","replaceWith":"x""#, "may-fail"),
        ("Patient.name", r#""method":"substitute","replaceWith":{"famly":"x"}"#, "may-fail"),
        ("Patient.birthDate", r#""method":"substitute","replaceWith":"unknown""#, "invalid-result"),
        ("Patient.active", r#""method":"substitute","replaceWith":"maybe""#, "invalid-result"),
        ("Patient.id", r#""method":"substitute","replaceWith":"a b""#, "invalid-result"),
        ("Patient.birthDate", HASH, "invalid-result"),
        ("nodesByType('Period')", HASH, "invalid-result"),
        ("Patient.id", r#""method":"encrypt""#, "invalid-result"),
    ] {
        // Other tests check that a whole Patient contains `meta.lastUpdated`, that a single date reveals those that it leaves, and that
        // references reveal ids.
        let is_other = |code: &str| matches!(code, "known-date" | "true-date" | "revealed-shift" | "revealing-references");
        let found: Vec<_> = codes(&[[path, settings]], "").into_iter().filter(|(_, code)| !is_other(code)).collect();
        if found != [(1, code)] {
            wrong.push(format!("{path} {settings}: {found:?}, expected {code}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    for (path, settings) in [
        ("Observation.effective", SHIFT),
        ("nodesByType('Period')", SHIFT),
        ("nodesByType('dateTime')", SHIFT),
        ("Observation.value as Quantity", PERTURB),
        ("nodesByType('Age')", PERTURB),
        ("Observation.value as Quantity", r#""method":"perturb","span":0.02"#),
        ("Patient.multipleBirth as integer", r#""method":"perturb","span":0.5,"rangeType":"proportional""#),
        ("Patient.multipleBirth as integer", PERTURB),
        ("Patient.name", r#""method":"substitute","replaceWith":{"family":"x"}"#),
        ("Patient.birthDate", r#""method":"substitute","replaceWith":"1990""#),
        ("Patient.name.family", r#""method":"encrypt""#),
        ("Group.name", HASH),
    ] {
        let is_other = |code: &str| matches!(code, "known-date" | "true-date" | "revealed-shift");
        let found: Vec<_> = codes(&[[path, settings]], "").into_iter().filter(|(_, code)| !is_other(code)).collect();
        assert_eq!(found, [], "{path} {settings}");
    }
}

#[test]
fn elements_that_a_method_protects_from_a_later_rule_are_errors() {
    let extensions = ["nodesByType('Extension')", REDACT];
    for (rules, path, later) in [
        (&[["Patient.birthDate", SHIFT], extensions][..], "Patient.birthDate.extension", 2),
        (&[["Observation.value as Quantity", PERTURB], ["nodesByName('unit')", REDACT]], "Observation.valueQuantity.unit", 2),
        (&[["Observation.value.where(value > 5)", PERTURB], ["nodesByType('dateTime')", SHIFT]], "Observation.valueDateTime", 2),
    ] {
        let found = parse(rules, "").lint();
        let shields = found.iter().find(|remark| remark.code == DeidRemarkCode::Shields);
        let shields = shields.unwrap_or_else(|| panic!("{rules:?}: {found:?}"));
        assert!(shields.reason.contains(path) && shields.reason.contains(&format!("rule {later}")), "{shields}");
        assert_eq!((shields.severity, shields.rule_number), (DeidRemarkSeverity::Error, Some(1)));
    }
    let narrow = ["Observation.component.value as integer", r#""method":"perturb","span":0.5"#];
    let found = codes(&[narrow, ["Observation.component", REDACT]], "");
    assert_eq!(found, [(1, "cannot-act"), (1, "shields")]);
    assert_eq!(codes(&[extensions, ["Patient.birthDate", SHIFT]], ""), []);
    assert_eq!(codes(&[["Observation.value as Quantity", PERTURB], ["nodesByName('unit')", KEEP]], ""), []);
}

#[test]
fn conditions_with_unknown_names_and_impossible_comparisons_are_reported() {
    let mut wrong = Vec::new();
    for (path, code, reason) in [
        ("Patient.name.where(use2='official')", "unknown-name", "did you mean `use`?"),
        ("Patient.name.where(use='official' and famly.exists())", "unknown-name", "did you mean `family`?"),
        ("Patient.where(name.where(nme.exists()).exists()).id", "unknown-name", "`nme`"),
        ("Patient.name.where(%resource.gendr = 'male')", "unknown-name", "did you mean `gender`?"),
        ("Patient.name.where($this.given.all(lenght = 1))", "unknown-name", "`lenght`"),
        ("Observation.where(valueQuantity.exists()).value", "unknown-name", "name a choice without its type: `value`"),
        ("Observation.where(value is Quantit).value", "unknown-name", "did you mean `Quantity`?"),
        ("Observation.where(value is Address).value", "condition", "never has"),
        ("Patient.where(nodesByType('HumanNam').exists()).id", "unknown-name", "did you mean `HumanName`?"),
        ("Patient.where(nodesByName('famly').exists()).id", "unknown-name", "did you mean `family`?"),
        ("Patient.where(birthDate = '2001-02-03').name", "condition", "compares a date with a text"),
        ("Patient.where(birthDate > 2001).name", "may-fail", "compares a date with a number"),
        ("Patient.where(gender = true).name", "condition", "compares a text with a boolean"),
        ("Patient.where(gender in ('male' | 5)).name", "", ""),
        ("Patient.where(telecom.rank > 1).gender", "may-fail", "a single value of `rank`"),
        ("Patient.where(1 < telecom.rank).gender", "may-fail", "a single value of `rank`"),
        ("Patient.where(name.given.startsWith('A')).gender", "may-fail", "a single value of `given`"),
        ("Patient.where(name.family.not()).gender", "may-fail", "a single value of `family`"),
        ("Patient.where(name.family in ('Smith' | 'x')).gender", "may-fail", "a single value of `family`"),
        ("Patient.where(('Smith' | 'x') contains name.family).gender", "may-fail", "a single value of `family`"),
        ("Patient.where(name.family & 'x' = 'Ax').gender", "may-fail", "a single value of `family`"),
        ("Patient.where(name.given is string).gender", "may-fail", "a single value of `given`"),
        ("Patient.identifier.where(type.coding.code in ('MR' | 'SS')).value", "may-fail", "a single value of `code`"),
        ("Patient.where(name.first().given.first().startsWith('A')).gender", "", ""),
        ("Patient.where(name.take(1).family[0].startsWith('A')).gender", "", ""),
        ("Patient.where(name.given.exists($this.startsWith('A'))).gender", "", ""),
        ("Patient.where(name.given.select($this.startsWith('A')).anyTrue()).gender", "", ""),
        ("Patient.where(name.given = 'Al').gender", "", ""),
        ("Patient.name.where(given.first() in ('Al' | 'Bo')).family", "", ""),
        ("Patient.name.where('official')", "condition", "counts as true"),
        ("Patient.name.where(given.count())", "condition", "counts as true"),
        ("Patient.name.exists(use = 'usual') | Patient.id", "", ""),
        ("Patient.name | Patient.nme", "selects-nothing", "did you mean `name`?"),
        ("Patient.name.union(Patient.telecm)", "selects-nothing", "did you mean `telecom`?"),
        ("Patient.select(name | contact.name.famly)", "selects-nothing", "did you mean `family`?"),
        ("Resource.where(meta.lastUpdate > @2020).id", "unknown-name", "did you mean `lastUpdated`?"),
    ] {
        let Ok(config) = DeidConfig::parse(configuration(&[[path, REDACT]], "").as_bytes(), FhirVersion::R4) else {
            assert!(path.contains("exists(use"), "{path}");
            continue;
        };
        let found = config.lint();
        let texts: Vec<String> = found.iter().map(DeidRemark::to_string).collect();
        match code {
            "" if texts.is_empty() => {}
            _ if found.len() == 1 && found[0].code.as_str() == code && texts[0].contains(reason) => {}
            _ => wrong.push(format!("{path}: {texts:?}, expected {code} {reason}")),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    // Conditions that exist in the wild.
    for path in [
        "Patient.name.where(use='official').family",
        "Patient.telecom.where(system in ('phone' | 'email')).value",
        "Observation.where(code.coding.where(system = %loinc and code = '8302-2').exists()).value",
        "Patient.where(birthDate < today() - 89 years).birthDate",
        "Resource.where(meta.security.code = 'R').id",
        "Patient.contained.where($this is Organization).name",
        "Patient.contact.where(relationship.coding.exists(code = 'C')).name",
        "Patient.extension.where(url = 'http://x' and value is Reference)",
        "Questionnaire.repeat(item).where(type = 'text').text",
        "Observation.component.where(value is integer and value < 5).value",
        "Bundle.entry.where(fullUrl.startsWith('urn:uuid:')).fullUrl",
        "Observation.where(value > 5 'mg').value",
        "Patient.identifier.where(type.coding.where(code in ('MR' | 'SS')).exists() or system.contains('ssn')).value",
    ] {
        assert_eq!(codes(&[[path, REDACT]], ""), [], "{path}");
    }
    let extensions = ["nodesByType('Extension')", REDACT];
    let case = r#""method":"generalize","cases":{"$this.system = 'x'":"'y'"}"#;
    assert_eq!(codes(&[extensions, ["Patient.gender", case]], ""), [(2, "unknown-name")]);
    let case = r#""method":"generalize","cases":{"$this > '2010'":"@2010"}"#;
    assert_eq!(codes(&[extensions, ["Patient.birthDate", case]], ""), [(2, "may-fail")]);
    let case = r#""method":"generalize","cases":{"$this > 1":"'many'"},"otherValues":"keep""#;
    assert_eq!(codes(&[extensions, ["Patient.telecom.rank", case]], ""), [(2, "invalid-result")]);
    let case = r#""method":"generalize","cases":{"$this > 1":"0"}"#;
    assert_eq!(codes(&[extensions, ["Patient.telecom.rank", case]], ""), [(2, "invalid-result")]);
    let case = r#""method":"generalize","cases":{"$this > 1":"2"}"#;
    assert_eq!(codes(&[extensions, ["Patient.telecom.rank", case]], ""), []);
    let case = r#""method":"generalize","cases":{"true":"'unknown'"}"#;
    assert_eq!(codes(&[extensions, ["Patient.birthDate", case]], ""), [(2, "invalid-result")]);
    let case = r#""method":"generalize","cases":{"true":"%resource.name.family"}"#;
    assert_eq!(codes(&[extensions, ["Patient.gender", case]], ""), [(2, "may-fail")]);
    let case = r#""method":"generalize","cases":{"$this = 'male'":"'x'","true":"%resource.name.family.first()"}"#;
    assert_eq!(codes(&[extensions, ["Patient.gender", case]], ""), []);
}

#[test]
fn conditions_with_a_constant_result_are_reported() {
    let mut wrong = Vec::new();
    for condition in [
        "false",
        "{}",
        "1 = 2",
        "'a' = 'b'",
        "{} = {}",
        "true and false",
        "use = 'old' and false",
        "given.count() < 0",
        "0 > given.count()",
        "use.exists() and use.empty()",
        "use.exists() and use.exists().not()",
        "use = 'official' and 'nickname' = use",
        "given.exists() and use = 'old' and use = 'usual'",
        "(false or false) and use.exists()",
    ] {
        let found = parse(&[[format!("Patient.name.where({condition})").as_str(), REDACT]], "").lint();
        let is_expected = |remark: &DeidRemark| {
            (remark.code, remark.severity) == (DeidRemarkCode::Condition, DeidRemarkSeverity::Error) && remark.reason.contains("never true")
        };
        if !matches!(&found[..], [remark] if is_expected(remark)) {
            wrong.push(format!("{condition}: {found:?}"));
        }
    }
    for condition in ["true", "1 = 1", "use = 'old' or true", "given.count() >= 0", "false implies use.exists()"] {
        let found = parse(&[[format!("Patient.name.where({condition})").as_str(), REDACT]], "").lint();
        if !matches!(&found[..], [remark] if remark.code == DeidRemarkCode::Condition && remark.reason.contains("always true")) {
            wrong.push(format!("{condition}: {found:?}"));
        }
    }
    for condition in ["use = 'old' or use = 'usual'", "use = 'old' and given = 'usual'", "given.count() > 0", "today() > @2020-01-01"] {
        let found = codes(&[[format!("Patient.name.where({condition})").as_str(), REDACT]], "");
        if !found.is_empty() {
            wrong.push(format!("{condition}: {found:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(codes(&[["Patient.where(true)", KEEP], ["Patient.name", REDACT]], ""), [(1, "condition")]);
    assert_eq!(codes(&[["nodesByType('Resource')", REDACT]], ""), [(1, "selects-nothing")]);
}

#[test]
fn expressions_that_fail_for_each_value_are_errors() {
    let mut wrong = Vec::new();
    for path in [
        "Patient.where(birthDate < today() - 90 'a').name",
        "Patient.where(birthDate < today() - 90).name",
        "Patient.where(birthDate < today() - 1 'kg').name",
        "Patient.where(birthDate < today() - '90').name",
        "Patient.where(birthDate - 90 < today()).name",
        "Patient.name.where(family + 1 = 'x')",
        "Patient.where(birthDate.abs() > 1).name",
        "Patient.where(birthDate.select($this + 'a').exists()).name",
        "Patient.name.where(-family = 'x')",
    ] {
        let found = parse(&[[path, REDACT]], "").lint();
        let is_failure = |remark: &DeidRemark| (remark.code, remark.severity) == (DeidRemarkCode::MayFail, DeidRemarkSeverity::Error);
        if !found.iter().any(is_failure) {
            wrong.push(format!("{path}: {found:?}"));
        }
    }
    for path in [
        "Patient.where(birthDate < today() - 90 years).name",
        "Patient.name.where(family + 'x' = 'Ax')",
        "Patient.telecom.where(rank + 1 > 2)",
        "Patient.where(birthDate.toString().startsWith('19')).name",
        "Patient.telecom.where(rank.abs() > 1)",
    ] {
        let found = codes(&[[path, REDACT]], "");
        if !found.is_empty() {
            wrong.push(format!("{path}: {found:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_generalization_that_changes_nothing_is_an_error() {
    let extensions = ["nodesByType('Extension')", REDACT];
    for (settings, expected) in [
        (r#""cases":{},"otherValues":"keep""#, &[(2, "cannot-act")][..]),
        (r#""cases":{"false":"'x'"},"otherValues":"keep""#, &[(2, "cannot-act")]),
        (r#""cases":{"1 = 2":"'x'"},"otherValues":"keep""#, &[(2, "cannot-act")]),
        (r#""cases":{"true":"$this"}"#, &[(2, "cannot-act")]),
        (r#""cases":{"$this = 'male'":"$this"},"otherValues":"keep""#, &[(2, "cannot-act")]),
        (r#""cases":{"$this = 'male'":"$this"}"#, &[]),
        (r#""cases":{"{}":"'x'"},"otherValues":"keep""#, &[]),
        (r#""cases":{}"#, &[]),
    ] {
        let method = format!(r#""method":"generalize",{settings}"#);
        assert_eq!(codes(&[extensions, ["Patient.gender", method.as_str()]], ""), expected, "{settings}");
    }
    let keeps = [["Patient.gender", r#""method":"generalize","cases":{"true":"$this"}"#]];
    let (_, found) = coverage(&keeps, "");
    assert!(found.contains(&("Patient.gender".to_owned(), DeidTreatment::KeptByMethod, Some(1))), "{found:#?}");
}

#[test]
fn a_replacement_with_values_of_other_types_is_reported() {
    for (path, replacement, expected) in [
        ("Observation.value as Quantity", r#"{"value":"abc"}"#, &[(1, "invalid-result")][..]),
        ("Observation.value as Quantity", r#"{"value":"5"}"#, &[(1, "invalid-result")]),
        ("Patient.name", r#"{"period":{"start":"yesterday"}}"#, &[(1, "invalid-result")]),
        ("Patient.gender", r#""""#, &[(1, "invalid-result")]),
        // FHIR has no empty elements.
        ("Patient.maritalStatus", r#"{"text":""}"#, &[(1, "invalid-result")]),
        ("Patient.maritalStatus", r#"{"text":"x","coding":[]}"#, &[(1, "invalid-result")]),
        ("Patient.maritalStatus", r#"{"text":"x","coding":[{}]}"#, &[(1, "invalid-result")]),
        ("Patient.name", r#"{"family":"x","period":{}}"#, &[(1, "invalid-result")]),
        ("Patient.contact", r#"{"name":{"family":"x","period":{}}}"#, &[(1, "invalid-result")]),
        ("Patient.maritalStatus", "{}", &[]),
        ("Patient.maritalStatus", r#"{"coding":[{"code":"x"}]}"#, &[]),
        ("Observation.value as Quantity", r#"{"value":5.5,"unit":"kg"}"#, &[]),
        ("Patient.name", r#"{"family":"x","period":{"start":"2020"}}"#, &[]),
        ("Patient.gender", "null", &[]),
    ] {
        let method = format!(r#""method":"substitute","replaceWith":{replacement}"#);
        assert_eq!(codes(&[[path, method.as_str()]], ""), expected, "{path} {replacement}");
    }
}

#[test]
fn a_file_that_changes_nothing_is_an_error() {
    assert_eq!(codes(&[], ""), [(0, "no-rules")]);
    assert_eq!(codes(&[["Resource", KEEP]], ""), [(0, "no-rules")]);
    assert_eq!(codes(&[["Patient", KEEP], ["Observation", KEEP]], ""), [(0, "no-rules")]);
    assert_eq!(codes(&[], r#""unnamedElements":"drop""#), []);
    assert_eq!(codes(&[["Resource", KEEP]], r#""unnamedElements":"drop""#), [(1, "no-rules")]);
    assert_eq!(codes(&[["Patient.id", KEEP]], r#""unnamedElements":"drop""#), []);
    assert_eq!(codes(&[["Patient.birthDate", SHIFT]], r#""dateShiftFixedOffsetInDays":0"#), [(0, "setting")]);
    assert_eq!(codes(&[["Patient.id", KEEP]], r#""unnamedElement":"drop""#), [(0, "unknown-setting"), (0, "no-rules")]);
}

#[test]
fn a_known_date_that_moves_with_others_is_reported() {
    let shifts = [["nodesByType('instant')", SHIFT], ["nodesByType('dateTime')", SHIFT], ["nodesByType('date')", SHIFT]];
    let found = codes(&[&[["nodesByName('dayOfWeek')", REDACT]], &shifts[..]].concat(), UTC);
    assert_eq!(found, [(2, "known-date"), (3, "known-date"), (4, "known-date")]);
    let redacted = known_date_rules();
    let mut rules: Vec<[&str; 2]> = redacted.iter().map(|path| [path.as_str(), REDACT]).collect();
    rules.extend(shifts);
    assert_eq!(codes(&rules, UTC), []);
}

/// Returns the reasons of the remarks about what reveals a shift, for R4 or R5.
fn revealed_shifts(version: FhirVersion, rules: &[[&str; 2]], parameters: &str) -> Vec<String> {
    let remarks = DeidConfig::parse(configuration(rules, parameters).as_bytes(), version).unwrap().lint();
    remarks.into_iter().filter(|remark| remark.code == DeidRemarkCode::RevealedShift).map(|remark| remark.reason).collect()
}

#[test]
fn time_zones_that_shifted_times_keep_are_reported() {
    let time = ["Observation.issued", SHIFT];
    for (rule, parameters, count) in [
        (time, "", 1),
        (time, r#""dateShiftFixedOffsetInDays":3"#, 1),
        (time, r#""dateShiftScope":"patient","dateShiftTimeZone":"keep""#, 1),
        (time, r#""dateShiftScope":"patient""#, 0),
        (time, UTC, 0),
        (["Patient.birthDate", SHIFT], "", 0),
    ] {
        // Days of the week are the business of another test.
        let found = revealed_shifts(FhirVersion::R4, &[rule, ["nodesByName('dayOfWeek')", REDACT]], parameters);
        assert!(found.len() == count && found.iter().all(|found| found.contains("time zone")), "{parameters}: {found:?}");
    }
}

#[test]
fn days_of_the_week_beside_shifted_dates_are_reported() {
    let by_patient = r#""dateShiftScope":"patient""#;
    let shift = ["nodesByType('dateTime')", SHIFT];
    let found = revealed_shifts(FhirVersion::R4, &[shift], by_patient);
    assert!(matches!(&found[..], [found] if found.contains(".repeat.dayOfWeek") && found.contains("by 7")), "{found:?}");
    let found = revealed_shifts(FhirVersion::R5, &[shift, ["nodesByType('Timing')", REDACT]], by_patient);
    assert!(matches!(&found[..], [found] if found.contains("Appointment.recurrenceTemplate.monthlyTemplate.dayOfWeek")), "{found:?}");
    let rules = [
        ["Appointment.recurrenceTemplate", REDACT],
        ["nodesByName('dayOfWeek')", REDACT],
        ["Task.nodesByName('daysOfWeek')", REDACT],
        shift,
    ];
    assert_eq!(revealed_shifts(FhirVersion::R5, &rules, by_patient), Vec::<String>::new());
}

#[test]
fn years_of_true_dates_beside_dates_that_move_together_are_reported() {
    let rules = [["nodesByName('dayOfWeek')", REDACT], ["Resource.meta.lastUpdated", REDACT], ["nodesByType('dateTime')", SHIFT]];
    let partial = r#""enablePartialDatesForRedact":true,"dateShiftTimeZone":"utc""#;
    let found = revealed_shifts(FhirVersion::R4, &rules, &format!(r#"{partial},"dateShiftScope":"patient""#));
    assert!(
        matches!(&found[..], [found] if found.starts_with("Account.meta.lastUpdated, ") && found.contains("keeps its year")),
        "{found:?}"
    );
    assert_eq!(revealed_shifts(FhirVersion::R4, &rules, partial), Vec::<String>::new(), "a resource has few years");
    assert_eq!(revealed_shifts(FhirVersion::R4, &rules, r#""dateShiftScope":"patient""#), Vec::<String>::new());
}

#[test]
fn a_true_date_beside_shifted_dates_is_reported() {
    let remarks = |rules: &[[&str; 2]], parameters: &str| {
        let remarks = parse(rules, parameters).lint();
        remarks.into_iter().filter(|remark| remark.code == DeidRemarkCode::TrueDate).map(|remark| remark.reason).collect::<Vec<_>>()
    };
    let instants = ["nodesByType('instant')", REDACT];
    let shift = ["Encounter.period.start", SHIFT];
    let found = remarks(&[shift], "");
    assert!(found.len() == 1 && found[0].contains("Encounter.period.end") && !found[0].contains("Observation"), "{found:?}");
    // All dates of a patient move together, also those of other types.
    let found = remarks(&[shift, ["Encounter.period.end", SHIFT]], r#""dateShiftScope":"patient""#);
    assert!(found.len() == 1 && found[0].contains("Account.servicePeriod.start"), "{found:?}");
    // A date of birth is not an event of a visit. But beside all visits of a child it is that of the first one.
    assert_eq!(remarks(&[["Patient.birthDate", SHIFT]], ""), Vec::<String>::new());
    let others = [["Patient.birthDate", KEEP], instants, ["nodesByType('dateTime')", SHIFT], ["nodesByType('date')", SHIFT]];
    let found = remarks(&others, r#""dateShiftScope":"patient""#);
    assert!(matches!(&found[..], [found] if found.starts_with("Patient.birthDate stays")), "{found:?}");
    assert_eq!(remarks(&others, ""), Vec::<String>::new());
    // A goal is set on the day of a visit, whatever the type of the element is.
    let found = remarks(&[["Goal.meta.lastUpdated", SHIFT]], "");
    assert!(found.len() == 1 && found[0].contains("Goal.start"), "{found:?}");
    assert_eq!(remarks(&[["nodesByType('date')", SHIFT]], "").len(), 1, "all other times stay");
    assert_eq!(remarks(&[instants, ["nodesByType('dateTime')", SHIFT]], "").len(), 1, "dates stay");
    let all = [instants, ["nodesByType('dateTime')", SHIFT], ["nodesByType('date')", SHIFT]];
    assert_eq!(remarks(&all, r#""dateShiftScope":"patient""#), Vec::<String>::new());
}

/// Parses a sample.
fn sample(name: &str, version: FhirVersion) -> DeidConfig {
    let path = format!("{}/../../tests/samples/anonymization/{name}.json", env!("CARGO_MANIFEST_DIR"));
    DeidConfig::parse(&std::fs::read(path).unwrap(), version).unwrap()
}

#[test]
fn the_shipped_samples_have_no_remarks() {
    for (name, version) in
        [("safe-harbor", FhirVersion::R4), ("study", FhirVersion::R4), ("study-r4b", FhirVersion::R4b), ("study-r5", FhirVersion::R5)]
    {
        assert_eq!(sample(name, version).lint(), [], "{name}");
    }
}

#[test]
fn the_two_samples_for_a_study_differ_only_in_what_one_version_of_fhir_does_not_define() {
    let rules =
        |config: &DeidConfig| config.config.rules.iter().map(|rule| format!("{} {}", rule.path, rule.method_name)).collect::<Vec<_>>();
    let (r4, r5) = (sample("study", FhirVersion::R4), sample("study-r5", FhirVersion::R5));
    for (config, other, version) in [(&r4, &r5, FhirVersion::R5), (&r5, &r4, FhirVersion::R4)] {
        let rules_of_other = rules(other);
        for rule in rules(config).iter().filter(|rule| !rules_of_other.contains(rule)) {
            let (path, _) = rule.rsplit_once(' ').unwrap();
            let alone = DeidConfig::parse(configuration(&[[path, REDACT]], "").as_bytes(), version).unwrap().lint();
            assert!(alone.iter().any(|remark| remark.code == DeidRemarkCode::SelectsNothing), "{version} {path}: {alone:?}");
        }
    }
}

#[test]
fn the_first_configuration_of_the_page_is_the_sample_for_a_study() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let page = std::fs::read_to_string(format!("{root}/docs/de-identification.md")).unwrap();
    let sample = std::fs::read_to_string(format!("{root}/tests/samples/anonymization/study.json")).unwrap();
    let first = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(first, Some(sample.as_str()));
}

/// Returns the coverage of Patient as pairs of a path and a treatment.
fn coverage(rules: &[[&str; 2]], parameters: &str) -> (DeidCoverage, Vec<(String, DeidTreatment, Option<usize>)>) {
    let coverage = parse(rules, parameters).coverage(ResourceType::PATIENT).unwrap();
    let pairs = coverage.elements.iter().map(|element| (element.path.clone(), element.treatment, element.rule_number)).collect();
    (coverage, pairs)
}

#[test]
fn the_coverage_shows_what_happens_to_each_element() {
    let rules = [
        ["Patient.name.use", KEEP],
        ["Patient.name", REDACT],
        ["Resource.id", HASH],
        ["Patient.birthDate", SHIFT],
        ["Patient.multipleBirth as integer", PERTURB],
        ["Patient.gender", r#""method":"generalize","cases":{"true":"'x'"}"#],
        ["Patient.address", REDACT],
        ["Patient.telecom.where(system = 'phone')", REDACT],
        ["Patient.contact.period", r#""method":"substitute","replaceWith":{}"#],
        ["Patient.contact.name.family", r#""method":"encrypt""#],
    ];
    let (coverage, found) = coverage(&rules, r#""enablePartialZipCodesForRedact":true"#);
    use DeidTreatment as T;
    for (path, treatment, rule) in [
        ("Patient.name.use", T::KeptByRule, Some(1)),
        ("Patient.name.family", T::Removed, Some(2)),
        ("Patient.id", T::Hashed, Some(3)),
        ("Patient.birthDate", T::Shifted, Some(4)),
        ("Patient.multipleBirthInteger", T::Perturbed, Some(5)),
        ("Patient.multipleBirthBoolean", T::KeptUnnamed, None),
        ("Patient.gender", T::Generalized, Some(6)),
        ("Patient.address.postalCode", T::Reduced, Some(7)),
        ("Patient.address.city", T::Removed, Some(7)),
        ("Patient.telecom", T::KeptUnnamed, None),
        ("Patient.contact.period", T::Substituted, Some(9)),
        ("Patient.contact.name.family", T::Encrypted, Some(10)),
        ("Patient.maritalStatus", T::KeptUnnamed, None),
        ("Patient.photo", T::KeptUnnamed, None),
        ("Patient.text", T::KeptUnnamed, None),
    ] {
        assert!(found.contains(&(path.to_owned(), treatment, rule)), "{path}: {found:#?}");
    }
    assert_eq!(coverage.conditional_rules, [8]);
    let identifiers = [
        "Patient.contact.organization.identifier",
        "Patient.generalPractitioner.identifier",
        "Patient.identifier",
        "Patient.link.other.identifier",
        "Patient.managingOrganization.identifier",
        "Patient.meta.source",
    ];
    assert_eq!(coverage.identifiers_beside_id, identifiers);
    let has_text = |path: &str| coverage.elements.iter().find(|element| element.path == path).map(|element| element.has_free_text);
    assert_eq!(
        [has_text("Patient.text"), has_text("Patient.photo"), has_text("Patient.maritalStatus")],
        [Some(true), Some(true), Some(false)]
    );
    // Identifiers that are removed, and an id that stays, need no remark.
    let (with_removed, _) = self::coverage(&[["nodesByType('Identifier')", REDACT], ["Resource.meta", REDACT], ["Resource.id", HASH]], "");
    let (with_id, _) = self::coverage(&[["Patient.name", REDACT]], "");
    assert!(with_removed.identifiers_beside_id.is_empty() && with_id.identifiers_beside_id.is_empty());
    let (_, dropped) = self::coverage(&[["Patient.id", KEEP]], r#""unnamedElements":"drop""#);
    assert!(
        dropped.contains(&("Patient.name".to_owned(), T::Removed, None))
            && dropped.contains(&("Patient.id".to_owned(), T::KeptByRule, Some(1)))
    );
}

#[test]
fn the_coverage_lists_numbers_uids_and_places_beside_an_id() {
    for (name, paths) in [
        ("Coverage", &["Coverage.dependent", "Coverage.subscriberId"][..]),
        ("Device", &["Device.distinctIdentifier", "Device.lotNumber", "Device.serialNumber", "Device.udiCarrier.carrierHRF"]),
        ("Location", &["Location.name", "Location.position.latitude", "Location.position.longitude"]),
        ("AuditEvent", &["AuditEvent.agent.altId", "AuditEvent.agent.name", "AuditEvent.agent.network.address", "AuditEvent.entity.name"]),
        ("ImagingStudy", &["ImagingStudy.series.instance.uid", "ImagingStudy.series.uid"]),
        ("MessageHeader", &["MessageHeader.destination.endpoint", "MessageHeader.source.endpoint"]),
    ] {
        let resource_type = ResourceType::parse(name).unwrap();
        let listed = |rules: &[[&str; 2]]| parse(rules, "").coverage(resource_type).unwrap().identifiers_beside_id;
        let found = listed(&[["Resource.id", HASH]]);
        assert!(paths.iter().all(|path| found.iter().any(|listed| listed == path)), "{found:?}");
        let of_own = |path: &&String| paths.contains(&path.as_str());
        let removed = listed(&[["Resource.id", HASH], [name, REDACT]]);
        assert_eq!(removed.iter().filter(of_own).count(), 0, "{removed:?}");
    }
}

#[test]
fn the_coverage_lists_what_a_method_cannot_change() {
    let config = parse(&[["Observation.value as Quantity", PERTURB], ["Observation.subject", SHIFT]], "");
    let coverage = config.coverage(ResourceType::parse("Observation").unwrap()).unwrap();
    let treatment = |path: &str| coverage.elements.iter().find(|element| element.path == path).map(|element| element.treatment);
    assert_eq!(treatment("Observation.valueQuantity.value"), Some(DeidTreatment::Perturbed));
    assert_eq!(treatment("Observation.valueQuantity.unit"), Some(DeidTreatment::KeptByMethod));
    assert_eq!(treatment("Observation.note"), Some(DeidTreatment::KeptUnnamed));
}

#[test]
fn the_coverage_shows_that_ids_in_the_extensions_of_kept_values_are_hidden() {
    let [reference, id] = ["reference", "id"].map(|kind| {
        let name = if kind == "id" { "valueId".to_owned() } else { format!("valueReference.{kind}") };
        format!("Patient.gender.extension.{name}")
    });
    let treatments = |rules: &[[&str; 2]]| {
        let (_, found) = coverage(rules, "");
        let treatment = |path: &str| found.iter().find(|element| element.0 == path).map(|element| element.1);
        assert_eq!(treatment(&reference), treatment(&id));
        treatment(&reference)
    };
    for rule in [KEEP, SHIFT] {
        assert_eq!(treatments(&[["Patient.gender", rule], ["Resource.id", HASH]]), Some(DeidTreatment::Hashed), "{rule}");
        assert_eq!(treatments(&[["Patient.gender", rule], ["Resource.id", REDACT]]), Some(DeidTreatment::Removed), "{rule}");
    }
    assert_eq!(treatments(&[["Patient.gender", KEEP]]), None, "no rule hides ids");
    assert_eq!(treatments(&[["Patient.gender", REDACT], ["Resource.id", HASH]]), None, "removed with the value");
    assert_eq!(treatments(&[["nodesByType('Extension')", REDACT], ["Patient.gender", KEEP], ["Resource.id", HASH]]), None);
}

#[test]
fn the_coverage_of_a_choice_has_no_single_type_and_counts_the_text_of_each() {
    let coverage = parse(&[["Observation.subject", REDACT]], "").coverage(ResourceType::parse("Observation").unwrap()).unwrap();
    let value = coverage.elements.iter().find(|element| element.path == "Observation.value").unwrap();
    assert_eq!((value.type_name, value.has_free_text), ("choice", true));
}
