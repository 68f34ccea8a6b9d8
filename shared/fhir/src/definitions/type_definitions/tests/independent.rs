//! Compares our type definitions with independently derived ones. Their `elements` write the members of a type as `*HumanName`
//! for a list, `string|Quantity` for a choice `value[x]` and `@Patient.contact` for a backbone element.
//!
//! They may differ only by these rules:
//!
//! * Ours give the id of a resource the type `id` and that of an element `string`; theirs repeat each definition.
//! * Ours have no `value` of a primitive type, and no extension of xhtml, which does not allow any.
//! * Ours do not name the types of backbone elements; they are compared through the members that lead to them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;
use crate::independent::{members, table};

/// Returns the members that our definition of a type should have, from the independent one: types by JSON name, with `*` before
/// the type of a list and `@` before the path of a backbone element.
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
        let type_definitions = version.type_definitions();
        let theirs: BTreeMap<&str, &Value> = members(&table["elements"]).collect();
        let kinds: BTreeMap<&str, &str> = members(&table["kind"]).map(|(name, kind)| (name, kind.as_str().unwrap())).collect();

        let named: BTreeMap<&str, TypeDefinition> =
            kinds.keys().filter_map(|name| Some((*name, type_definitions.by_name(name)?))).collect();
        assert!(named.keys().eq(kinds.keys()), "{version}");
        for (name, definition) in &named {
            let kind = match type_definitions.kind(*definition) {
                TypeKind::Resource => "R",
                TypeKind::Complex => "C",
                TypeKind::Primitive => "P",
                TypeKind::Backbone => "inner",
            };
            assert_eq!(kinds[name], kind, "{version} {name}");
        }

        // Starts at each type and follows its members to the types of backbone elements.
        let mut to_compare: Vec<(String, TypeDefinition)> = named.into_iter().map(|(name, at)| (name.to_owned(), at)).collect();
        let mut compared: BTreeMap<String, TypeDefinition> = to_compare.iter().cloned().collect();
        while let Some((name, definition)) = to_compare.pop() {
            let expected = theirs.get(name.as_str()).map(|theirs| expected(&name, kinds.get(name.as_str()).copied(), theirs));
            let expected = expected.unwrap_or_default();
            let ours: BTreeSet<&str> = type_definitions.members(definition).map(|member| member.name).collect();
            assert!(ours.iter().copied().eq(expected.keys().map(String::as_str)), "{version} {name}: {ours:?} {expected:?}");
            for member in type_definitions.members(definition) {
                let what = &expected[member.name];
                assert_eq!(what.starts_with('*'), member.is_list, "{version} {name}.{}", member.name);
                let what = what.trim_start_matches('*');
                match what.strip_prefix('@') {
                    None => assert_eq!(type_definitions.name(member.definition), what, "{version} {name}.{}", member.name),
                    Some(inner) => {
                        assert_eq!(type_definitions.kind(member.definition), TypeKind::Backbone, "{version} {name}.{}", member.name);
                        // The same path is the same definition, wherever one comes from.
                        match compared.insert(inner.to_owned(), member.definition) {
                            Some(before) => assert_eq!(before, member.definition, "{version} {inner}"),
                            None => to_compare.push((inner.to_owned(), member.definition)),
                        }
                    }
                }
            }
        }
        // Both sides have been compared completely.
        assert_eq!(theirs.keys().filter(|name| !compared.contains_key(**name)).count(), 0, "{version}");
        let ours: BTreeSet<TypeDefinition> = compared.values().copied().collect();
        let missed = type_definitions.definitions().filter(|definition| !ours.contains(definition));
        assert_eq!(missed.map(|definition| type_definitions.name(definition)).collect::<Vec<_>>(), Vec::<&str>::new(), "{version}");
    }
}
