//! Parses the text of a version's type definitions.

use super::{MemberDefinition, Section, TypeDefinition};

/// A section whose members have not been parsed. Types refer to each other, so all names must be known first.
struct UnparsedSection {
    name: &'static str,
    base: &'static str,
    body: &'static str,
}

/// Parses the sections of a text and keeps their order.
pub(super) fn sections(text: &'static str) -> Vec<Section> {
    let unparsed: Vec<_> = text.split("\n\n").filter_map(split_heading).collect();
    unparsed.iter().map(|section| parse_section(section, &unparsed)).collect()
}

/// Splits the text of a section into its heading and its body.
fn split_heading(text: &'static str) -> Option<UnparsedSection> {
    let (heading, body) = text.split_once('\n').unwrap_or((text, ""));
    let (name, base) = heading.strip_prefix('[')?.split_once(']')?;
    Some(UnparsedSection { name, base: base.trim_start(), body })
}

/// Parses the members of a section.
fn parse_section(unparsed: &UnparsedSection, all: &[UnparsedSection]) -> Section {
    let mut section = Section { name: unparsed.name, base: find_type(unparsed.base, all), members: Vec::new(), excluded: None };
    for line in unparsed.body.lines() {
        match line.strip_prefix('-') {
            Some(name) => section.excluded = Some(name),
            None => section.members.extend(parse_members(line, all).into_iter().flatten()),
        }
    }
    section.members.sort_unstable_by_key(|member| member.name);
    section
}

/// Parses the members that a line defines: one, or one for each type of a choice.
fn parse_members(line: &'static str, all: &[UnparsedSection]) -> Option<impl Iterator<Item = MemberDefinition>> {
    let (element, types) = line.split_once(' ')?;
    let (element, is_list) = element.strip_suffix("[]").map_or((element, false), |element| (element, true));
    let choice = element.strip_suffix("[x]");
    let members = types.split(' ').filter_map(move |word| {
        let (name, definition) = match choice {
            Some(element) => (word, find_choice_type(word.strip_prefix(element)?, all)?),
            None => (element, find_type(word, all)?),
        };
        Some(MemberDefinition { name, element: choice.unwrap_or(element), definition, is_list, is_resource: word == "Resource" })
    });
    Some(members)
}

/// Finds the type with this name.
fn find_type(name: &str, all: &[UnparsedSection]) -> Option<TypeDefinition> {
    TypeDefinition::from_index(all.binary_search_by_key(&name, |section| section.name).ok()?)
}

/// Finds the type at the end of a choice's JSON name: `Quantity`, or `dateTime` for `DateTime`.
fn find_choice_type(name: &str, all: &[UnparsedSection]) -> Option<TypeDefinition> {
    find_type(name, all).or_else(|| {
        let mut letters = name.chars();
        let first = letters.next()?.to_ascii_lowercase();
        find_type(&format!("{first}{}", letters.as_str()), all)
    })
}
