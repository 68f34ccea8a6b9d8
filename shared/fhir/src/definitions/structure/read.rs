//! Reads the text of a version's structures.

use super::{Definition, Section, TypedMember};

/// A section that is not yet read: types refer to each other, so their names come first.
struct Outline {
    name: &'static str,
    base: &'static str,
    body: &'static str,
}

/// The sections of a text, in its order.
pub(super) fn sections(text: &'static str) -> Vec<Section> {
    let outlines: Vec<_> = text.split("\n\n").filter_map(outline).collect();
    outlines.iter().map(|outline| section(outline, &outlines)).collect()
}

fn outline(text: &'static str) -> Option<Outline> {
    let (heading, body) = text.split_once('\n').unwrap_or((text, ""));
    let (name, base) = heading.strip_prefix('[')?.split_once(']')?;
    Some(Outline { name, base: base.trim_start(), body })
}

fn section(outline: &Outline, all: &[Outline]) -> Section {
    let mut section = Section { name: outline.name, base: find(outline.base, all), members: Vec::new(), without: None };
    for line in outline.body.lines() {
        match line.strip_prefix('-') {
            Some(name) => section.without = Some(name),
            None => section.members.extend(members(line, all).into_iter().flatten()),
        }
    }
    section.members.sort_unstable_by_key(|member| member.name);
    section
}

/// The members that a line stands for: several for a choice.
fn members(line: &'static str, all: &[Outline]) -> Option<impl Iterator<Item = TypedMember>> {
    let (element, types) = line.split_once(' ')?;
    let (element, is_list) = element.strip_suffix("[]").map_or((element, false), |element| (element, true));
    let choice = element.strip_suffix("[x]");
    let members = types.split(' ').filter_map(move |word| {
        let (name, definition) = match choice {
            Some(stem) => (word, capitalised(word.strip_prefix(stem)?, all)?),
            None => (element, find(word, all)?),
        };
        Some(TypedMember { name, element: choice.unwrap_or(element), definition, is_list, is_resource: word == "Resource" })
    });
    Some(members)
}

fn find(name: &str, all: &[Outline]) -> Option<Definition> {
    Definition::at(all.binary_search_by_key(&name, |outline| outline.name).ok()?)
}

/// The type at the end of a choice's name: `Quantity`, or `dateTime` for `DateTime`.
fn capitalised(name: &str, all: &[Outline]) -> Option<Definition> {
    find(name, all).or_else(|| {
        let mut letters = name.chars();
        let first = letters.next()?.to_ascii_lowercase();
        find(&format!("{first}{}", letters.as_str()), all)
    })
}
