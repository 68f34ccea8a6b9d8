//! Compares our definitions with independently derived ones. They may differ only by these rules:
//!
//! * Ours omit paths to elements that the parameter is never compared with (`performedString` for a date, all types but strings
//!   for the value of an extension), and parameters that then have no path. Those are `Bundle?composition` and `message`, whose
//!   value is the resource itself, and composites whose definition gives a component the wrong type
//!   (`DocumentReference?relationship` has its two components swapped).
//! * Ours do not support parameters with their own rules of comparison: phonetic, `near`, `_in`, special.
//! * Ours keep parameters without an expression, marked as unsupported.
//! * Ours choose the concept or the reference of a CodeableReference.
//! * Ours read R4's `DateTime` in `Observation?code-value-date` as `dateTime`.
//! * Ours name the components for which R5 has no definition, and use `id` for FHIRPath's `System.String`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::resource_type;
use crate::definitions::{FhirVersion, ParameterPath, ParameterSupport, ResourceType, SearchParamType, SearchParameter};
use crate::independent::{members, table};

/// Returns the elements of an array, and none if it is missing.
fn items<'a>(json: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    json.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(json: &'a Value, name: &str) -> &'a str {
    json[name].as_str().unwrap()
}

#[test]
fn compartments_agree() {
    for version in FhirVersion::ALL {
        let Some(theirs) = table("patient-compartment", version) else { return };
        let theirs = members(&theirs["members"]).map(|(name, paths)| {
            let paths: Vec<_> = paths.as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
            (resource_type(name), paths)
        });
        let ours = version.types().iter().filter_map(|resource_type| Some((resource_type, version.patient_compartment(resource_type)?)));
        assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>(), "{version}");
    }
}

#[test]
fn types_and_their_members_agree() {
    for version in FhirVersion::ALL {
        let Some(theirs) = table("types", version) else { return };
        let concrete = members(&theirs["kind"]).filter(|(_, what)| *what == "R").filter_map(|(name, _)| ResourceType::parse(name));
        assert!(concrete.eq(version.types().iter()), "{version}");
        for resource_type in version.types().iter() {
            let mut expected = BTreeSet::new();
            for (name, what) in members(&theirs["elements"][resource_type.as_str()]) {
                match name.strip_suffix("[x]") {
                    None => drop(expected.insert(name.to_owned())),
                    Some(stem) => expected.extend(what.as_str().unwrap().split('|').map(|what| {
                        let (first, rest) = what.split_at(1);
                        format!("{stem}{}{rest}", first.to_uppercase())
                    })),
                }
            }
            let ours = version.root_elements(resource_type).into_iter().flat_map(|element| element.members).map(str::to_owned);
            assert_eq!(ours.collect::<BTreeSet<_>>(), expected, "{version} {resource_type}");
        }
    }
}

/// Returns true if the definitions contain this element type for parameters of this type, but no value is compared with it.
fn is_never_compared(param_type: &str, element_type: &str) -> bool {
    let types: &[&str] = match param_type {
        "token" => &["Attachment", "Quantity", "Range", "Reference", "date"],
        "reference" => &["Attachment", "BackboneElement", "CodeableConcept", "Resource", "code", "string"],
        "date" => &["Age", "Range", "string"],
        "string" => &["Identifier"],
        "special" => return true,
        _ => &[],
    };
    types.contains(&element_type)
}

/// Returns the paths that our definitions should have, from those of the independent ones.
fn expected(kind: &str, theirs: &Value) -> BTreeSet<(String, String)> {
    let mut paths = BTreeSet::new();
    for theirs in items(theirs, "paths") {
        let (path, element_type) = (text(theirs, "p"), text(theirs, "y"));
        let is_odd_extension = path.contains("[?url=") && !["string", "markdown", "HumanName", "Address"].contains(&element_type);
        if is_never_compared(kind, element_type) || is_odd_extension {
            continue;
        }
        paths.insert(match (element_type, kind) {
            ("http://hl7.org/fhirpath/System.String", _) => (path.to_owned(), "id".to_owned()),
            ("CodeableReference", "token") => (format!("{path}.concept"), "CodeableConcept".to_owned()),
            ("CodeableReference", _) => (format!("{path}.reference"), "Reference".to_owned()),
            _ => (path.to_owned(), element_type.to_owned()),
        });
    }
    paths
}

fn own(paths: &[ParameterPath]) -> BTreeSet<(String, String)> {
    paths.iter().map(|path| (path.path.to_owned(), path.element_type.to_owned())).collect()
}

fn compare(ours: &SearchParameter, theirs: &Value) {
    let kind = text(theirs, "t");
    assert_eq!(ours.param_type.as_str(), kind);
    let targets: BTreeSet<_> = items(theirs, "target").filter_map(|name| ResourceType::parse(name.as_str()?)).collect();
    assert_eq!(ours.targets.iter().copied().collect::<BTreeSet<_>>(), targets);
    if theirs.get("fhirpath").is_some() {
        let support = if ours.code == "deceased" { ParameterSupport::Deceased } else { ParameterSupport::Unsupported };
        assert_eq!(ours.support, support);
        return;
    }
    let is_of_its_own = ["phonetic", "near", "_in"].contains(&ours.code);
    let parts: Vec<_> = items(theirs, "components").collect();
    let lacks_a_part = parts.iter().any(|part| expected(text(part, "t"), part).is_empty());
    if is_of_its_own || lacks_a_part || expected(kind, theirs).is_empty() {
        assert_eq!(ours.support, ParameterSupport::Unsupported);
        return;
    }
    assert_eq!(own(&ours.paths), expected(kind, theirs));
    assert_eq!(ours.components.len(), parts.len());
    for (ours_part, part) in ours.components.iter().zip(parts) {
        let (code, kind) = (text(part, "code"), text(part, "t"));
        let is_undefined = kind == "?";
        assert!(if is_undefined { code.ends_with(&format!("-{}", ours_part.code)) } else { code == ours_part.code });
        assert!(is_undefined || kind == ours_part.param_type.as_str());
        let mut expected = expected(kind, part);
        if ours.code == "code-value-date" && ours_part.param_type == SearchParamType::Date {
            expected.insert(("valueDateTime".to_owned(), "dateTime".to_owned()));
        }
        assert_eq!(own(&ours_part.paths), expected);
    }
}

#[test]
fn search_parameters_differ_only_by_the_rules_above() {
    for version in FhirVersion::ALL {
        let Some(table) = table("search-params", version) else { return };
        for (name, theirs) in members(&table["types"]) {
            for ours in version.search_parameters(resource_type(name)) {
                println!("{version} {name} {}", ours.code); // says where a failure is
                match theirs.get(ours.code) {
                    Some(theirs) => compare(&ours, theirs),
                    None => assert_eq!(ours.support, ParameterSupport::Unsupported),
                }
            }
            for (code, _) in members(theirs) {
                assert!(version.search_parameter(resource_type(name), code).is_some(), "{version} {name} {code}");
            }
        }
    }
}
