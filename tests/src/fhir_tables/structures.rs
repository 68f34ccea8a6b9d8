//! Writer of the element tables. `shared/fhir/src/definitions/type_definitions.rs` reads them and documents their format.

use std::collections::BTreeMap;

use super::TableError;
use super::elements::{Element, Elements, choice};
use super::package::Package;

/// Formats the table of elements.
pub(super) fn write(package: &Package, elements: &Elements) -> Result<String, TableError> {
    let sections: BTreeMap<&str, Option<&str>> = elements.sections().collect();
    let mut lines = vec![
        format!("# FHIR {}, derived from the CC0 package {}.", package.version, package.name),
        "# Written by .ci/fhir/tables.sh; shared/fhir/src/definitions/type_definitions.rs explains the form.".to_owned(),
    ];
    for (section, base) in &sections {
        lines.push(String::new());
        lines.push(base.map_or_else(|| format!("[{section}]"), |base| format!("[{section}] {base}")));
        let own: BTreeMap<&str, &Element> = elements.children(section).collect();
        let inherited: BTreeMap<&str, &Element> = base.map(|base| elements.children(base).collect()).unwrap_or_default();
        if let Some(lost) = inherited.keys().find(|name| !own.contains_key(*name)) {
            return Err(TableError::Unexpected(format!("{section} says nothing of {lost}, which its base has")));
        }
        for (name, element) in own {
            match inherited.get(name) {
                None => lines.push(line(section, name, element, &sections)?),
                Some(_) if element.is_prohibited => lines.push(format!("-{name}")),
                Some(same) if same.is_list == element.is_list && same.types == element.types => {}
                Some(_) => return Err(TableError::Unexpected(format!("{section}.{name} is not what it is in {base:?}"))),
            }
        }
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// Formats the line of an element: `name[] HumanName`, or `value[x] valueQuantity …` for a choice.
fn line(section: &str, name: &str, element: &Element, sections: &BTreeMap<&str, Option<&str>>) -> Result<String, TableError> {
    let path = format!("{section}.{name}");
    if let Some(unknown) = element.types.iter().find(|kind| !sections.contains_key(kind.as_str())) {
        return Err(TableError::Unexpected(format!("{path} is of the type {unknown}, which is not defined")));
    }
    if let Some(stem) = name.strip_suffix("[x]") {
        if element.is_list {
            return Err(TableError::Unexpected(format!("{path} is a list of choices")));
        }
        return Ok(element.types.iter().fold(name.to_owned(), |line, kind| format!("{line} {}", choice(stem, kind))));
    }
    let definition_path = if sections.contains_key(path.as_str()) { Some(path.as_str()) } else { element.content_reference.as_deref() };
    let kind = match (definition_path, element.types.as_slice()) {
        (Some(definition_path), _) if sections.contains_key(definition_path) => definition_path,
        (None, [kind]) => kind,
        _ => return Err(TableError::Unexpected(format!("{path} has neither one type nor elements of its own"))),
    };
    let brackets = if element.is_list { "[]" } else { "" };
    Ok(format!("{name}{brackets} {kind}"))
}
