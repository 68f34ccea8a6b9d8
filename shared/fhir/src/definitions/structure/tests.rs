use super::*;

mod independent;
mod specification;

/// The type at the end of a path of names in JSON: `HumanName[]` for a list.
fn at(version: FhirVersion, path: &str) -> Option<String> {
    let structures = version.structures();
    let mut names = path.split('.');
    let mut definition = structures.named(names.next()?)?;
    let mut brackets = "";
    for name in names {
        let member = structures.member(definition, name)?;
        definition = member.definition;
        brackets = if member.is_list { "[]" } else { "" };
    }
    Some(format!("{}{brackets}", structures.name(definition)))
}

/// Nothing in the texts is passed over, nor said twice.
#[test]
fn every_line_of_every_text_is_read() {
    for version in FhirVersion::ALL {
        let structures = version.structures();
        let names: Vec<_> = structures.sections.iter().map(|section| section.name).collect();
        assert!(names.is_sorted_by(|one, other| one < other), "{version}");
        let text = text(version);
        let mut names_in_text = Vec::new();
        let (mut members, mut members_in_text) = (0, 0);
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix('[') {
                Some(heading) => {
                    let (name, base) = heading.split_once(']').unwrap();
                    names_in_text.push(name);
                    let section = &structures.sections[names.binary_search(&name).unwrap()];
                    let base_read = section.base.and_then(|base| structures.section(base)).map(|base| base.name);
                    assert_eq!(base_read, Some(base.trim()).filter(|base| !base.is_empty()), "{version} {name}");
                }
                None if line == "-extension" => {}
                None => members_in_text += if line.contains("[x] ") { line.split(' ').count() - 1 } else { 1 },
            }
        }
        for section in &structures.sections {
            assert!(section.members.is_sorted_by(|one, other| one.name < other.name), "{version} {}", section.name);
            members += section.members.len();
        }
        assert_eq!(names, names_in_text, "{version}");
        assert_eq!(members, members_in_text, "{version}");
    }
}

#[test]
fn every_member_of_every_type_is_found_by_its_name_and_once() {
    for version in FhirVersion::ALL {
        let structures = version.structures();
        for definition in structures.definitions() {
            let members: Vec<_> = structures.members(definition).collect();
            for (index, member) in members.iter().enumerate() {
                assert_eq!(structures.member(definition, member.name).as_ref(), Some(member), "{version}");
                assert!(members[..index].iter().all(|other| other.name != member.name), "{version} {}", member.name);
                let leads_to_a_resource = structures.kind(member.definition) == Kind::Resource;
                assert_eq!(leads_to_a_resource, member.is_resource, "{version} {}", member.name);
            }
        }
    }
}

#[test]
fn every_type_is_found_by_its_name_and_an_inner_element_is_not() {
    for version in FhirVersion::ALL {
        let structures = version.structures();
        for definition in structures.definitions() {
            let found = structures.named(structures.name(definition)).unwrap();
            match structures.kind(definition) {
                Kind::Inner => assert!(found != definition && ["BackboneElement", "Element"].contains(&structures.name(definition))),
                Kind::Resource | Kind::Complex | Kind::Primitive => assert_eq!(found, definition),
            }
        }
        for kind in ResourceType::all() {
            assert_eq!(structures.of(kind).is_some(), version.types().contains(kind), "{version} {kind}");
        }
        for unknown in ["", "patient", "Patient.contact", "System.String", "Nothing"] {
            assert_eq!(structures.named(unknown), None, "{version} {unknown}");
        }
    }
}

/// The other tables, of what an export asks, are read from the same packages by other code.
#[test]
fn the_root_elements_are_those_of_the_other_tables() {
    for version in FhirVersion::ALL {
        let structures = version.structures();
        for kind in version.types().iter() {
            let mut ours: Vec<_> = structures.members(structures.of(kind).unwrap()).map(|member| (member.name, member.element)).collect();
            let elements = version.elements(kind);
            let mut others: Vec<_> = elements.iter().flat_map(|element| element.members.iter().map(|name| (*name, element.name))).collect();
            ours.sort_unstable();
            others.sort_unstable();
            assert_eq!(ours, others, "{version} {kind}");
        }
    }
}
