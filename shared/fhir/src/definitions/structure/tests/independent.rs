//! Our structures against the independent ones, whose `elements` hold a type's members as `*HumanName` for a list,
//! `string|Quantity` for a choice `value[x]` and `@Patient.contact` for an inner element.
//!
//! Every difference has a rule here, and nothing else may differ:
//!
//! * Ours say `id` of a resource's id and `string` of an element's; theirs repeat what each definition says.
//! * Ours have no `value` of a primitive, and no extension of an xhtml, which allows none.
//! * Ours say nothing of a version's inner elements by name: they are compared where a member leads to them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;
use crate::independent::{members, table};

/// Their members of one type, as ours should be: the type by name in JSON, `*` before that of a list, `@` before the path of an
/// inner element.
fn expected(name: &str, kind: Option<&str>, theirs: &Value) -> BTreeMap<String, String> {
    let mut expected = BTreeMap::new();
    for (element, what) in members(theirs) {
        let what = what.as_str().unwrap();
        let is_left_out = (kind == Some("P") && element == "value") || (name == "xhtml" && element == "extension");
        match element.strip_suffix("[x]") {
            Some(stem) => expected.extend(what.split('|').map(|what| {
                let (first, rest) = what.split_at(1);
                (format!("{stem}{}{rest}", first.to_uppercase()), what.to_owned())
            })),
            None if element == "id" && kind == Some("R") => drop(expected.insert("id".to_owned(), "id".to_owned())),
            None if element == "id" => drop(expected.insert("id".to_owned(), "string".to_owned())),
            None if is_left_out => {}
            None => drop(expected.insert(element.to_owned(), what.to_owned())),
        }
    }
    expected
}

#[test]
fn every_type_has_the_same_members() {
    for version in FhirVersion::ALL {
        let Some(table) = table("types", version) else { return };
        let structures = version.structures();
        let theirs: BTreeMap<&str, &Value> = members(&table["elements"]).collect();
        let kinds: BTreeMap<&str, &str> = members(&table["kind"]).map(|(name, kind)| (name, kind.as_str().unwrap())).collect();

        let named: BTreeMap<&str, Definition> = kinds.keys().filter_map(|name| Some((*name, structures.named(name)?))).collect();
        assert!(named.keys().eq(kinds.keys()), "{version}");
        for (name, definition) in &named {
            let kind = match structures.kind(*definition) {
                Kind::Resource => "R",
                Kind::Complex => "C",
                Kind::Primitive => "P",
                Kind::Inner => "inner",
            };
            assert_eq!(kinds[name], kind, "{version} {name}");
        }

        // From each type on, into every inner element that it leads to.
        let mut to_compare: Vec<(String, Definition)> = named.into_iter().map(|(name, at)| (name.to_owned(), at)).collect();
        let mut compared: BTreeMap<String, Definition> = to_compare.iter().cloned().collect();
        while let Some((name, definition)) = to_compare.pop() {
            let expected = theirs.get(name.as_str()).map(|theirs| expected(&name, kinds.get(name.as_str()).copied(), theirs));
            let expected = expected.unwrap_or_default();
            let ours: BTreeSet<&str> = structures.members(definition).map(|member| member.name).collect();
            assert!(ours.iter().copied().eq(expected.keys().map(String::as_str)), "{version} {name}: {ours:?} {expected:?}");
            for member in structures.members(definition) {
                let what = &expected[member.name];
                assert_eq!(what.starts_with('*'), member.is_list, "{version} {name}.{}", member.name);
                let what = what.trim_start_matches('*');
                match what.strip_prefix('@') {
                    None => assert_eq!(structures.name(member.definition), what, "{version} {name}.{}", member.name),
                    Some(inner) => {
                        assert_eq!(structures.kind(member.definition), Kind::Inner, "{version} {name}.{}", member.name);
                        // The same path is the same definition, wherever one comes from.
                        match compared.insert(inner.to_owned(), member.definition) {
                            Some(before) => assert_eq!(before, member.definition, "{version} {inner}"),
                            None => to_compare.push((inner.to_owned(), member.definition)),
                        }
                    }
                }
            }
        }
        // All of theirs were met, and all of ours.
        assert_eq!(theirs.keys().filter(|name| !compared.contains_key(**name)).count(), 0, "{version}");
        let ours: BTreeSet<Definition> = compared.values().copied().collect();
        let missed = structures.definitions().filter(|definition| !ours.contains(definition));
        assert_eq!(missed.map(|definition| structures.name(definition)).collect::<Vec<_>>(), Vec::<&str>::new(), "{version}");
    }
}
