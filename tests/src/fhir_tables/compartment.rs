//! Which types belong to the compartment of a patient, and by which paths.

use std::collections::{BTreeMap, BTreeSet};

use super::TableError;
use super::package::{Package, list, text, texts};
use super::parameters::{Parameter, Parameters, Support};

/// The paths to references to a patient, by type. A type that is missing is never a member.
pub(super) fn members(
    package: &Package,
    parameters: &Parameters,
    types: &BTreeSet<String>,
) -> Result<BTreeMap<String, Vec<String>>, TableError> {
    let mut members = BTreeMap::new();
    for resource in list(&package.patient_compartment, "resource") {
        let kind = text(resource, "code");
        if !types.contains(kind) {
            return Err(TableError::Unexpected(format!("{kind} of the compartment is no resource type")));
        }
        let mut paths = Vec::new();
        // R5 writes `{def}` for the patient itself.
        for code in texts(resource, "param").filter(|code| *code != "{def}") {
            let parameter = parameters.get(kind).and_then(|parameters| parameters.get(code));
            let Some(found) = parameter.and_then(references) else {
                return Err(TableError::Unexpected(format!("the compartment names {kind}?{code}, which has no paths")));
            };
            for path in found {
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
        if !paths.is_empty() {
            members.insert(kind.to_owned(), paths);
        }
    }
    Ok(members)
}

/// What a search by the parameter narrows to patients (`<Patient>`), the compartment does by comparing ids. A canonical
/// never names a patient.
fn references(parameter: &Parameter) -> Option<Vec<String>> {
    let Support::Compiled { paths, components: _ } = &parameter.support else { return None };
    let references = paths.iter().filter(|path| path.kind == "Reference");
    Some(references.map(|path| path.path.trim_end_matches("<Patient>").to_owned()).collect())
}
