//! Resource types of the Patient compartment and the paths of their references to patients.

use std::collections::{BTreeMap, BTreeSet};

use super::TableError;
use super::package::{Package, list, text, texts};
use super::parameters::{Parameter, ParameterSupport, Parameters};

/// Returns the paths of references to a patient, by resource type. Other types are never in the compartment.
pub(super) fn members(
    package: &Package,
    parameters: &Parameters,
    types: &BTreeSet<String>,
) -> Result<BTreeMap<String, Vec<String>>, TableError> {
    let mut members = BTreeMap::new();
    for resource in list(&package.patient_compartment, "resource") {
        let kind = text(resource, "code");
        if !types.contains(kind) {
            return Err(TableError::Unexpected(format!("{kind} of the compartment is not a resource type")));
        }
        let mut paths = Vec::new();
        // In R5, `{def}` stands for the patient itself.
        for code in texts(resource, "param").filter(|code| *code != "{def}") {
            let parameter = parameters.get(kind).and_then(|parameters| parameters.get(code));
            let Some(reference_paths) = parameter.and_then(reference_paths) else {
                return Err(TableError::Unexpected(format!("the compartment names {kind}?{code}, which has no paths")));
            };
            for path in reference_paths {
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

/// Returns the paths of the parameter's references. Their restriction to patients (`<Patient>`) is removed, because the compartment
/// compares ids. Canonicals are left out: they never refer to a patient.
fn reference_paths(parameter: &Parameter) -> Option<Vec<String>> {
    let ParameterSupport::Compiled { paths, components: _ } = &parameter.support else { return None };
    let references = paths.iter().filter(|path| path.fhir_type == "Reference");
    Some(references.map(|path| path.path.trim_end_matches("<Patient>").to_owned()).collect())
}
