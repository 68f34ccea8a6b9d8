//! Writer of the tables of search parameters. `shared/fhir/src/definitions/resource_definitions.rs` reads them and documents their format.

use std::collections::{BTreeMap, BTreeSet};

use super::TableError;
use super::compile::TypedPath;
use super::elements::Elements;
use super::package::Package;
use super::parameters::{Component, Parameter, ParameterSupport, Parameters};

const DEFINITIONS: &str = "http://hl7.org/fhir/SearchParameter/";

/// Formats the table of root elements, search parameters and compartment paths of each resource type.
pub(super) fn write(
    package: &Package,
    elements: &Elements,
    types: &BTreeSet<String>,
    parameters: &Parameters,
    compartment: &BTreeMap<String, Vec<String>>,
) -> Result<String, TableError> {
    let mut lines = vec![
        format!("# FHIR {}, derived from the CC0 package {}.", package.version, package.name),
        "# Written by .ci/fhir/tables.sh; shared/fhir/src/definitions/resource_definitions.rs explains the form.".to_owned(),
    ];
    let bases = ["Resource", "DomainResource"].into_iter().map(str::to_owned);
    for kind in bases.chain(types.iter().cloned()) {
        let base = match kind.as_str() {
            "Resource" => None,
            "DomainResource" => Some("Resource"),
            _ if elements.members(&kind, "contained").is_empty() => Some("Resource"),
            _ => Some("DomainResource"),
        };
        lines.push(String::new());
        lines.push(base.map_or_else(|| format!("[{kind}]"), |base| format!("[{kind}] {base}")));
        lines.extend(compartment.get(&kind).map(|paths| format!("@Patient {}", paths.join(" "))));
        for element in elements.root_elements(&kind, base) {
            let mark = if element.is_mandatory { "!" } else { "" };
            let choices: String = element.choices.iter().map(|choice| format!(" {choice}")).collect();
            lines.push(format!(".{}{mark}{choices}", element.name));
        }
        for parameter in parameters.get(&kind).into_iter().flat_map(BTreeMap::values) {
            lines.push(parameter_line(parameter, &kind, types)?);
        }
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// Formats the line of a search parameter in the section of type `kind`.
fn parameter_line(parameter: &Parameter, kind: &str, types: &BTreeSet<String>) -> Result<String, TableError> {
    let mut line = format!("?{} {}", parameter.code, parameter.kind);
    let Some(definition) = parameter.definition.strip_prefix(DEFINITIONS) else {
        return Err(TableError::Unexpected(format!("{} is not below {DEFINITIONS}", parameter.definition)));
    };
    if definition != format!("{kind}-{}", parameter.code.trim_start_matches('_')) {
        line += &format!(" @{definition}");
    }
    line += &match &parameter.support {
        ParameterSupport::Compiled { paths, components } => {
            format!(" = {}{}", paths_text(paths), components.iter().map(component_text).collect::<String>())
        }
        ParameterSupport::Deceased { paths } => format!(" !deceased = {}", paths_text(paths)),
        ParameterSupport::Unsupported => " !".to_owned(),
    };
    if !parameter.targets.is_empty() {
        line += &format!(" > {}", targets_text(&parameter.targets, types));
    }
    Ok(line)
}

/// Formats a component of a composite.
fn component_text(component: &Component) -> String {
    format!(" & {} {} = {}", component.code, component.kind, paths_text(&component.paths))
}

/// Formats paths with their types and code systems.
fn paths_text(paths: &[TypedPath]) -> String {
    let text = paths.iter().map(|path| {
        let at = if path.path.is_empty() { "." } else { &path.path };
        let system = path.system.as_ref().map(|system| format!(" {system}")).unwrap_or_default();
        format!("{at} {}{system}", path.fhir_type)
    });
    text.collect::<Vec<_>>().join(", ")
}

/// Formats target types: `Patient Group`, or for most types the missing ones: `* -Parameters`.
fn targets_text(targets: &BTreeSet<String>, types: &BTreeSet<String>) -> String {
    let missing: Vec<&String> = types.difference(targets).collect();
    if missing.len() < targets.len() {
        missing.into_iter().fold("*".to_owned(), |text, kind| format!("{text} -{kind}"))
    } else {
        targets.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}
