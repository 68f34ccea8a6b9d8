use super::*;
use crate::json::name_table::{HasName, NameTable};

mod independent;
mod specification;

impl HasName for MemberDefinition {
    fn name(&self) -> &'static str {
        self.name
    }
}

/// Returns the type at the end of a path of JSON names: `HumanName[]` for a list.
fn type_at(version: FhirVersion, path: &str) -> Option<String> {
    let type_definitions = version.type_definitions();
    let mut names = path.split('.');
    let mut definition = type_definitions.by_name(names.next()?)?;
    let mut brackets = "";
    for name in names {
        let member = type_definitions.member(definition, name)?;
        definition = member.definition;
        brackets = if member.is_list { "[]" } else { "" };
    }
    Some(format!("{}{brackets}", type_definitions.name(definition)))
}

#[test]
fn every_line_of_every_definition_file_is_parsed_once() {
    for version in FhirVersion::ALL {
        let type_definitions = version.type_definitions();
        let names: Vec<_> = type_definitions.sections.iter().map(|section| section.name).collect();
        assert!(names.is_sorted_by(|one, other| one < other), "{version}");
        let text = text(version);
        let mut names_in_text = Vec::new();
        let (mut members, mut members_in_text) = (0, 0);
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix('[') {
                Some(heading) => {
                    let (name, base) = heading.split_once(']').unwrap();
                    names_in_text.push(name);
                    let section = &type_definitions.sections[names.binary_search(&name).unwrap()];
                    let parsed_base = section.base.and_then(|base| type_definitions.section(base)).map(|base| base.name);
                    assert_eq!(parsed_base, Some(base.trim()).filter(|base| !base.is_empty()), "{version} {name}");
                }
                None if line == "-extension" => {}
                None => members_in_text += if line.contains("[x] ") { line.split(' ').count() - 1 } else { 1 },
            }
        }
        for section in &type_definitions.sections {
            assert!(section.members.is_sorted_by(|one, other| one.name < other.name), "{version} {}", section.name);
            members += section.members.len();
        }
        assert_eq!(names, names_in_text, "{version}");
        assert_eq!(members, members_in_text, "{version}");
    }
}

#[test]
fn every_member_of_every_type_is_found_by_its_name_exactly_once() {
    for version in FhirVersion::ALL {
        let type_definitions = version.type_definitions();
        for definition in type_definitions.definitions() {
            let members: Vec<_> = type_definitions.members(definition).collect();
            for (index, member) in members.iter().enumerate() {
                assert_eq!(type_definitions.member(definition, member.name).as_ref(), Some(member), "{version}");
                assert!(members[..index].iter().all(|other| other.name != member.name), "{version} {}", member.name);
                let is_resource = type_definitions.kind(member.definition) == TypeKind::Resource;
                assert_eq!(is_resource, member.is_resource, "{version} {}", member.name);
            }
        }
    }
}

#[test]
fn every_type_is_found_by_its_name_except_those_of_backbone_elements() {
    for version in FhirVersion::ALL {
        let type_definitions = version.type_definitions();
        for definition in type_definitions.definitions() {
            let found = type_definitions.by_name(type_definitions.name(definition)).unwrap();
            match type_definitions.kind(definition) {
                TypeKind::Backbone => {
                    assert!(found != definition && ["BackboneElement", "Element"].contains(&type_definitions.name(definition)))
                }
                TypeKind::Resource | TypeKind::Complex | TypeKind::Primitive => assert_eq!(found, definition),
            }
        }
        for resource_type in ResourceType::all() {
            let is_defined = type_definitions.of_resource(resource_type).is_some();
            assert_eq!(is_defined, version.types().contains(resource_type), "{version} {resource_type}");
        }
        for unknown in ["", "patient", "Patient.contact", "System.String", "Nothing"] {
            assert_eq!(type_definitions.by_name(unknown), None, "{version} {unknown}");
        }
    }
}

/// Compares with the resource definitions, which other code derives from the same packages.
#[test]
fn root_elements_agree_with_the_resource_definitions() {
    for version in FhirVersion::ALL {
        let type_definitions = version.type_definitions();
        for resource_type in version.types().iter() {
            let mut ours: Vec<_> = type_definitions
                .members(type_definitions.of_resource(resource_type).unwrap())
                .map(|member| (member.name, member.element))
                .collect();
            let elements = version.root_elements(resource_type);
            let mut others: Vec<_> = elements.iter().flat_map(|element| element.members.iter().map(|name| (*name, element.name))).collect();
            ours.sort_unstable();
            others.sort_unstable();
            assert_eq!(ours, others, "{version} {resource_type}");
        }
    }
}

#[test]
fn a_name_table_finds_every_member_of_every_type_and_nothing_else() {
    for version in FhirVersion::ALL {
        let type_definitions = version.type_definitions();
        for definition in type_definitions.definitions() {
            let members: Vec<_> = type_definitions.members(definition).collect();
            let table = NameTable::new(members.iter().copied());
            for member in &members {
                assert_eq!(table.get(member.name).map(HasName::name), Some(member.name));
                for other in ["", &member.name[1..], &format!("{}x", member.name), &member.name.to_ascii_uppercase()] {
                    let is_member = members.iter().any(|member| member.name == other);
                    assert_eq!(table.get(other).is_some(), is_member, "{other}");
                }
            }
        }
    }
}
