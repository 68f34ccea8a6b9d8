//! The Patient compartment: which resources are about a patient.

use std::sync::OnceLock;

use crate::semantics::elements::plain_name;
use crate::semantics::reference::{Bases, any_of};
use crate::{FhirVersion, Json, Path, Resource, ResourceType, TypeSet};

/// The Patient compartment of a version of FHIR, for a worker that asks of every line.
#[derive(Clone, Debug)]
pub struct PatientCompartment {
    version: FhirVersion,
    /// Every type, sorted. A worker meets few of them, so each is compiled when it is first met.
    paths: Vec<(ResourceType, OnceLock<Vec<Path>>)>,
    patient: Option<ResourceType>,
    bases: Bases,
}

impl PatientCompartment {
    /// The compartment of a version; absolute references count below one of `bases`.
    pub fn of(version: FhirVersion, bases: Bases) -> Self {
        let paths = ResourceType::all().map(|kind| (kind, OnceLock::new())).collect();
        Self { version, paths, patient: ResourceType::named("Patient"), bases }
    }

    /// The types that can be in the compartment, Patient among them.
    pub fn types(&self) -> TypeSet {
        self.version.patient_compartment_types().iter().chain(self.patient).collect()
    }

    /// Gives the id of every patient in whose compartment the resource is to `visit`, until that says `true`; whether it
    /// did. A patient may come more than once.
    ///
    /// * A Patient is in its own compartment, and in those of the patients that it links to.
    /// * Only literal references count: an identifier or a contained patient names no patient of the lake.
    pub fn any_patient(&self, resource: &Resource<'_>, visit: &mut impl FnMut(&str) -> bool) -> bool {
        let kind = resource.head.kind;
        if Some(kind) == self.patient && visit(&resource.id()) {
            return true;
        }
        let paths = self.paths_of(kind);
        resource.members().any(|(name, value)| {
            let name = plain_name(name);
            let mut below = paths.iter().filter(|path| path.root() == Some(&name));
            below.any(|path| path.any_below_root(value, &mut |found| self.any_patient_of(found, visit)))
        })
    }

    fn paths_of(&self, kind: ResourceType) -> &[Path] {
        let found = self.paths.binary_search_by_key(&kind, |(kind, _)| *kind).ok().and_then(|at| self.paths.get(at));
        let Some((_, paths)) = found else { return &[] };
        paths.get_or_init(|| self.version.patient_compartment(kind).into_iter().flatten().map(Path::parse).collect())
    }

    fn any_patient_of(&self, reference: Json<'_>, visit: &mut impl FnMut(&str) -> bool) -> bool {
        any_of(reference, &self.bases, &mut |named| Some(named.kind) == self.patient && visit(named.id))
    }
}

#[cfg(test)]
mod tests;
