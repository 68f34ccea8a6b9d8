//! Remarks about dates that readers know, about keys and increments, and the hashes of deleted resources.

use super::*;

/// Parses a configuration.
fn parse(rules: &[[&str; 2]], parameters: &str) -> DeidConfig {
    DeidConfig::parse(configuration(rules, parameters).as_bytes(), FhirVersion::R4).unwrap()
}

const REDACT: &str = r#""method":"redact""#;
const KEEP: &str = r#""method":"keep""#;
const SHIFT: &str = r#""method":"dateShift""#;

/// Returns the remarks about known dates, as `name reason`.
fn known_dates(rules: &[[&str; 2]], parameters: &str) -> Vec<String> {
    let remarks = parse(rules, parameters).lint();
    let known = remarks.iter().filter(|remark| remark.code == DeidRemarkCode::KnownDate);
    known.map(|remark| format!("{} {}", remark.code_and_rule(), remark.reason)).collect()
}

#[test]
fn dates_that_readers_know_must_not_move_with_others() {
    let patient = r#""dateShiftScope":"patient""#;
    let all: [[&str; 2]; 3] = [["nodesByType('date')", SHIFT], ["nodesByType('dateTime')", SHIFT], ["nodesByType('instant')", SHIFT]];
    for parameters in ["", patient, r#""dateShiftFixedOffsetInDays":3"#] {
        let found = known_dates(&all, parameters);
        let moved = |found: &String, rule: &str, element: &str| {
            found.starts_with(rule) && found.contains(element) && found.contains("moves together")
        };
        assert!(found.iter().any(|found| moved(found, "known-date:3 ", "Resource.meta.lastUpdated")), "{found:?}");
        assert!(found.iter().any(|found| moved(found, "known-date:1 ", "Basic.created")), "{found:?}");
        assert!(found.iter().any(|found| moved(found, "known-date:2 ", "AdverseEvent.recordedDate")), "{found:?}");
    }
    // Redacted before, they tell nothing.
    let redacted = known_date_rules();
    let redacted: Vec<[&str; 2]> = redacted.iter().map(|path| [path.as_str(), REDACT]).collect();
    assert_eq!(known_dates(&[&redacted[..], &all[..]].concat(), patient), Vec::<String>::new());
    // Nothing else is shifted by the resource: nothing to learn.
    assert_eq!(known_dates(&[["Resource.meta.lastUpdated", SHIFT]], ""), Vec::<String>::new());
}

#[test]
fn each_known_date_that_moves_with_others_is_named() {
    for (path, named) in [
        ("DocumentReference.date", "DocumentReference.date"),
        ("DocumentManifest.created", "DocumentManifest.created"),
        ("Task.lastModified", "Task.lastModified"),
        ("Composition.date", "Composition.date"),
        ("Composition.attester.time", "Composition.attester.time"),
        ("Condition.recordedDate", "Condition.recordedDate"),
        ("Observation.issued", "Observation.issued"),
        ("Bundle.entry.response.lastModified", "Bundle.entry.response.lastModified"),
        ("nodesByType('Signature').when", "nodesByType('Signature').when"),
        ("Condition.note.time", "nodesByType('Annotation').time"),
        ("DiagnosticReport.presentedForm", "nodesByType('Attachment').creation"),
        ("Provenance", "Provenance.recorded"),
        ("Provenance.occurred", "Provenance.occurred"),
        ("Immunization.expirationDate", "Immunization.expirationDate"),
        ("Coverage.period.end", "Coverage.period"),
        ("Claim.billablePeriod", "Claim.billablePeriod"),
        ("CoverageEligibilityRequest.serviced", "CoverageEligibilityRequest.serviced"),
        ("Goal.statusDate", "Goal.statusDate"),
        ("Contract.term.issued", "Contract.term.issued"),
        ("Contract.term.asset.valuedItem.paymentDate", "Contract.term.asset.valuedItem.paymentDate"),
        ("Task.input.value", "nodesByType('Meta').lastUpdated"),
    ] {
        // Another date of each type moves with it.
        let found = known_dates(&[[path, SHIFT], ["nodesByType('Identifier').period", SHIFT], ["nodesByType('Period')", SHIFT]], "");
        assert!(found.iter().any(|found| found.starts_with("known-date:1 ") && found.contains(named)), "{path}: {found:?}");
    }
    // The date of an event is what a shift protects.
    for path in ["AdverseEvent.date", "Media.created", "Observation.effective", "Encounter.period"] {
        let found = known_dates(&[[path, SHIFT], ["nodesByType('Period')", SHIFT]], "");
        assert!(!found.iter().any(|found| found.starts_with("known-date:1 ")), "{path}: {found:?}");
    }
}

// Two of them reveal the shifts of all known ids, also if each resource moves by itself.
#[test]
fn each_date_of_a_definition_or_a_product_that_moves_is_named_by_its_type() {
    for (path, named) in [
        ("ValueSet.compose.lockedDate", "ValueSet.nodesByType('date')"),
        ("ValueSet.expansion.timestamp", "ValueSet.nodesByType('dateTime')"),
        ("CapabilityStatement.software", "CapabilityStatement.nodesByType('dateTime')"),
        ("CatalogEntry.validityPeriod", "CatalogEntry.nodesByType('dateTime')"),
        ("CodeSystem.concept.property.value", "CodeSystem.nodesByType('dateTime')"),
        ("MedicinalProductAuthorization.procedure.date", "MedicinalProductAuthorization.nodesByType('dateTime')"),
        ("PlanDefinition.action.timing", "PlanDefinition.nodesByType('dateTime')"),
        ("StructureDefinition.snapshot.element.fixed", "StructureDefinition.nodesByType('instant')"),
        ("SubstanceSpecification.code.statusDate", "SubstanceSpecification.nodesByType('dateTime')"),
    ] {
        for parameters in ["", r#""dateShiftScope":"patient""#] {
            let found = known_dates(&[[path, SHIFT], ["Encounter.period", SHIFT]], parameters);
            assert!(matches!(&found[..], [found] if found.starts_with("known-date:1 ") && found.contains(named)), "{path}: {found:?}");
        }
        // Nothing about a patient moves.
        assert_eq!(known_dates(&[[path, SHIFT]], ""), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn short_keys_and_shifted_increments_are_remarked() {
    let hash = [["Resource.id", r#""method":"cryptoHash""#]];
    let names = |remarks: Vec<DeidRemark>| remarks.iter().map(DeidRemark::code_and_rule).collect::<Vec<_>>();
    assert_eq!(names(parse(&hash, r#""cryptoHashKey":"secret""#).key_remarks()), ["weak-key"]);
    for parameters in ["", r#""cryptoHashKey":"0123456789abcdef0123456789abcdef""#] {
        assert_eq!(names(parse(&hash, parameters).key_remarks()), Vec::<String>::new());
    }
    let shift = [["Patient.birthDate", SHIFT]];
    assert_eq!(names(parse(&shift, r#""dateShiftScope":"patient""#).increment_remarks()), ["shifted-increment"]);
    assert_eq!(names(parse(&[hash[0], shift[0]], "").increment_remarks()), Vec::<String>::new());
    assert_eq!(names(parse(&shift, "").increment_remarks()), ["shifted-increment"], "several increments have the resource");
    assert_eq!(names(parse(&hash, r#""dateShiftScope":"patient""#).increment_remarks()), Vec::<String>::new());
}

#[test]
fn full_exports_with_lasting_keys_and_shifted_dates_are_remarked_because_they_can_be_compared() {
    let rules = [["Resource.id", r#""method":"cryptoHash""#], ["Patient.birthDate", SHIFT]];
    let names = |rules: &[[&str; 2]], parameters: &str| {
        parse(rules, parameters).lasting_key_remarks().iter().map(DeidRemark::code_and_rule).collect::<Vec<_>>()
    };
    let hash_key = r#""cryptoHashKey":"0123456789abcdef0123456789abcdef""#;
    let patient = r#""dateShiftScope":"patient""#;
    for key in [hash_key, r#""dateShiftKey":"k""#] {
        assert_eq!(names(&rules, &format!("{patient},{key}")), ["shifted-increment"], "{key}");
        assert_eq!(names(&rules, key), Vec::<String>::new(), "each resource moves by itself");
    }
    assert_eq!(names(&rules, patient), Vec::<String>::new(), "each export has its own pseudonyms and shifts");
    let unused = format!(r#"{patient},"encryptKey":"0123456789abcdef""#);
    assert_eq!(names(&rules, &unused), Vec::<String>::new(), "no rule uses the key");
    let fixed = r#""dateShiftFixedOffsetInDays":20"#;
    assert_eq!(names(&rules, fixed), ["shifted-increment"], "the offset is the same for ever");
    for scope in ["", patient] {
        assert_eq!(names(&rules[1..], scope), ["shifted-increment"], "ids are kept, so that shifts of several exports can be averaged");
    }
    assert_eq!(names(&rules[1..], r#""dateShiftKey":"k""#), Vec::<String>::new(), "each resource keeps a shift of its own");
    assert_eq!(names(&rules[..1], &format!("{patient},{hash_key}")), Vec::<String>::new(), "no date moves");
}

#[test]
fn shifts_are_equal_in_each_export_that_has_any_lasting_key() {
    let rules = [["Resource.id", r#""method":"cryptoHash""#], ["Patient.birthDate", SHIFT]];
    let dates = |rules: &[[&str; 2]], parameters: &str| -> std::collections::BTreeSet<String> {
        let nights = (0..20).map(|night| {
            let job = DeidJobContext { key: [night; 32], today: TODAY, time: NOON };
            let patient = r#"{"resourceType":"Patient","id":"p-1","birthDate":"1980-05-05"}"#;
            let output = parse_json(&deidentify(&parse(rules, parameters).for_job(&job), patient).unwrap());
            output["birthDate"].as_str().unwrap().to_owned()
        });
        nights.collect()
    };
    let (hash_key, encrypt_key) = (r#""cryptoHashKey":"0123456789abcdef0123456789abcdef""#, r#""encryptKey":"0123456789abcdef""#);
    for scope in ["", r#""dateShiftScope":"patient","#] {
        let of_key = |key: &str| dates(&rules, &format!("{scope}{key}"));
        assert_eq!(of_key(hash_key).len(), 1, "{scope}: the mean of several exports would be the true date");
        assert!(of_key(encrypt_key).len() > 5, "{scope}: no rule uses the key, so that no two exports can be compared");
        assert_eq!(dates(&rules[1..], &format!("{scope}{encrypt_key}")).len(), 1, "{scope}: ids stay, so that they can");
    }
}

#[test]
fn deletions_are_reported_by_the_hash_of_the_id_if_every_id_is_hashed_with_a_lasting_key() {
    let hash = r#""method":"cryptoHash""#;
    let key = r#""cryptoHashKey":"0123456789abcdef0123456789abcdef""#;
    let job = job();
    let hashed_id = |rules: &[[&str; 2]], parameters: &str| parse(rules, parameters).for_job(&job).hashed_id(ResourceType::PATIENT, "p-1");
    let hashed = hashed_id(&[["Resource.id", hash]], key).unwrap();
    let mut out = Vec::new();
    let resource = br#"{"resourceType":"Patient","active":true,"id":"p-1"}"#;
    parse(&[["Resource.id", hash]], key).for_job(&job).deidentify(resource, None, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains(&format!(r#""id":"{hashed}""#)), "{hashed}");
    for rules in [
        &[["Resource.id", KEEP], ["Resource.id", hash]][..],
        &[["Patient.where(active).id", hash]],
        &[["Patient.where(active)", KEEP], ["Resource.id", hash]],
        &[["Patient", REDACT], ["Resource.id", hash]],
        &[["Observation.id", hash]],
    ] {
        assert_eq!(hashed_id(rules, key), None, "{rules:?}");
    }
    assert_eq!(hashed_id(&[["Resource.id", hash]], ""), None, "the key changes with each export");
    assert_eq!(hashed_id(&[["Patient.where(active).name", REDACT], ["Resource.id", hash]], key).as_deref(), Some(&*hashed));
}
