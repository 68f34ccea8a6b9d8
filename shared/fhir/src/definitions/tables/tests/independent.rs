//! Our tables against the independent ones. Every difference has a rule here, and nothing else may differ:
//!
//! * Ours leave out paths to what the parameter is never compared with (`performedString` for a date, the types of an
//!   extension's value but a string's), and parameters of which nothing is left. That concerns `Bundle?composition` and
//!   `message`, whose value is the resource itself, and composites whose definition gives a part the wrong kind
//!   (`DocumentReference?relationship` has its two parts swapped).
//! * Ours do not compile what compares in a way of its own: phonetic, `near`, `_in`, special.
//! * Ours keep parameters without an expression, marked as not compiled.
//! * Ours choose the concept or the reference of a CodeableReference.
//! * Ours read R4's `DateTime` in `Observation?code-value-date` as `dateTime`.
//! * Ours name the parts for which R5 has no definition, and say `id` where FHIRPath says `System.String`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::kind;
use crate::independent::{members, table};
use crate::{FhirVersion, ParameterKind, ResourceType, SearchParameter, Support, TypedPath};

/// The elements of an array; none where it is missing.
fn items<'a>(json: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    json.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(json: &'a Value, name: &str) -> &'a str {
    json[name].as_str().unwrap()
}

#[test]
fn compartments_are_the_same() {
    for version in FhirVersion::ALL {
        let Some(theirs) = table("patient-compartment", version) else { return };
        let theirs = members(&theirs["members"]).map(|(name, paths)| {
            let paths: Vec<_> = paths.as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
            (kind(name), paths)
        });
        let ours = version.types().iter().filter_map(|kind| Some((kind, version.patient_compartment(kind)?)));
        assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>(), "{version}");
    }
}

#[test]
fn types_and_their_members_are_the_same() {
    for version in FhirVersion::ALL {
        let Some(theirs) = table("types", version) else { return };
        let concrete = members(&theirs["kind"]).filter(|(_, what)| *what == "R").filter_map(|(name, _)| ResourceType::named(name));
        assert!(concrete.eq(version.types().iter()), "{version}");
        for kind in version.types().iter() {
            let mut expected = BTreeSet::new();
            for (name, what) in members(&theirs["elements"][kind.as_str()]) {
                match name.strip_suffix("[x]") {
                    None => drop(expected.insert(name.to_owned())),
                    Some(stem) => expected.extend(what.as_str().unwrap().split('|').map(|what| {
                        let (first, rest) = what.split_at(1);
                        format!("{stem}{}{rest}", first.to_uppercase())
                    })),
                }
            }
            let ours = version.elements(kind).into_iter().flat_map(|element| element.members).map(str::to_owned);
            assert_eq!(ours.collect::<BTreeSet<_>>(), expected, "{version} {kind}");
        }
    }
}

/// What a kind of parameter meets in the definitions and is never compared with.
fn is_never_compared(kind: &str, with: &str) -> bool {
    let types: &[&str] = match kind {
        "token" => &["Attachment", "Quantity", "Range", "Reference", "date"],
        "reference" => &["Attachment", "BackboneElement", "CodeableConcept", "Resource", "code", "string"],
        "date" => &["Age", "Range", "string"],
        "string" => &["Identifier"],
        "special" => return true,
        _ => &[],
    };
    types.contains(&with)
}

/// Their paths as ours should be.
fn expected(kind: &str, theirs: &Value) -> BTreeSet<(String, String)> {
    let mut paths = BTreeSet::new();
    for theirs in items(theirs, "paths") {
        let (path, ends_in) = (text(theirs, "p"), text(theirs, "y"));
        let is_odd_extension = path.contains("[?url=") && !["string", "markdown", "HumanName", "Address"].contains(&ends_in);
        if is_never_compared(kind, ends_in) || is_odd_extension {
            continue;
        }
        paths.insert(match (ends_in, kind) {
            ("http://hl7.org/fhirpath/System.String", _) => (path.to_owned(), "id".to_owned()),
            ("CodeableReference", "token") => (format!("{path}.concept"), "CodeableConcept".to_owned()),
            ("CodeableReference", _) => (format!("{path}.reference"), "Reference".to_owned()),
            _ => (path.to_owned(), ends_in.to_owned()),
        });
    }
    paths
}

fn own(paths: &[TypedPath]) -> BTreeSet<(String, String)> {
    paths.iter().map(|path| (path.path.to_owned(), path.ends_in.to_owned())).collect()
}

fn compare(ours: &SearchParameter, theirs: &Value) {
    let kind = text(theirs, "t");
    assert_eq!(ours.kind.as_str(), kind);
    let targets: BTreeSet<_> = items(theirs, "target").filter_map(|name| ResourceType::named(name.as_str()?)).collect();
    assert_eq!(ours.targets.iter().copied().collect::<BTreeSet<_>>(), targets);
    if theirs.get("fhirpath").is_some() {
        let support = if ours.code == "deceased" { Support::Deceased } else { Support::NotCompiled };
        assert_eq!(ours.support, support);
        return;
    }
    let is_of_its_own = ["phonetic", "near", "_in"].contains(&ours.code);
    let parts: Vec<_> = items(theirs, "components").collect();
    let lacks_a_part = parts.iter().any(|part| expected(text(part, "t"), part).is_empty());
    if is_of_its_own || lacks_a_part || expected(kind, theirs).is_empty() {
        assert_eq!(ours.support, Support::NotCompiled);
        return;
    }
    assert_eq!(own(&ours.paths), expected(kind, theirs));
    assert_eq!(ours.components.len(), parts.len());
    for (ours_part, part) in ours.components.iter().zip(parts) {
        let (code, kind) = (text(part, "code"), text(part, "t"));
        let is_undefined = kind == "?";
        assert!(if is_undefined { code.ends_with(&format!("-{}", ours_part.code)) } else { code == ours_part.code });
        assert!(is_undefined || kind == ours_part.kind.as_str());
        let mut expected = expected(kind, part);
        if ours.code == "code-value-date" && ours_part.kind == ParameterKind::Date {
            expected.insert(("valueDateTime".to_owned(), "dateTime".to_owned()));
        }
        assert_eq!(own(&ours_part.paths), expected);
    }
}

#[test]
fn search_parameters_differ_only_by_rule() {
    for version in FhirVersion::ALL {
        let Some(table) = table("search-params", version) else { return };
        for (name, theirs) in members(&table["types"]) {
            for ours in version.search_parameters(kind(name)) {
                println!("{version} {name} {}", ours.code); // says where a failure is
                match theirs.get(ours.code) {
                    Some(theirs) => compare(&ours, theirs),
                    None => assert_eq!(ours.support, Support::NotCompiled),
                }
            }
            for (code, _) in members(theirs) {
                assert!(version.search_parameter(kind(name), code).is_some(), "{version} {name} {code}");
            }
        }
    }
}
