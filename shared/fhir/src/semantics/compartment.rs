//! The Patient compartment: the resources that belong to a patient.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::bundle_patients::BundlePatients;
use super::reference::{BaseUrls, LocalReference, visit_reference_texts};
use crate::definitions::{FhirVersion, ResourceType, TypeSet};
use crate::head::Resource;
use crate::json::{ElementPath, JsonType, JsonValue};

/// The elements that name the patient whom a resource is about, in the order in which they count.
const SUBJECT_ELEMENTS: [&str; 3] = ["patient", "subject", "beneficiary"];

/// The Patient compartment of a FHIR version, prepared for checking many resources.
#[derive(Clone, Debug)]
pub struct PatientCompartment {
    version: FhirVersion,
    /// The paths of every type, sorted by type. The paths of a type are compiled on first use, because a worker meets only few types.
    paths: Vec<(ResourceType, OnceLock<Vec<ElementPath>>)>,
    base_urls: BaseUrls,
}

impl PatientCompartment {
    /// Creates the compartment of a version. Absolute references count if they are below one of `base_urls`.
    pub fn new(version: FhirVersion, base_urls: BaseUrls) -> Self {
        let paths = ResourceType::all().map(|resource_type| (resource_type, OnceLock::new())).collect();
        Self { version, paths, base_urls }
    }

    /// Returns the types that the compartment contains, Patient included.
    pub fn types(&self) -> TypeSet {
        self.version.patient_compartment_types().iter().chain([ResourceType::PATIENT]).collect()
    }

    /// Passes the id of every patient whose compartment contains the resource to `visit`, until `visit` returns true. Returns
    /// true if it did. An id may be passed more than once.
    ///
    /// * A Patient is in its own compartment and in those of the patients that it links to.
    /// * Only literal references count. An identifier or a contained patient does not name a patient of the lake.
    pub fn visit_patients(&self, resource: &Resource<'_>, visit: &mut impl FnMut(&str) -> bool) -> bool {
        let resource_type = resource.head.resource_type;
        if resource_type == ResourceType::PATIENT && visit(&resource.id()) {
            return true;
        }
        self.visit_named_patients(resource_type, resource.members(), &BundlePatients::default(), &mut |_, id| visit(id))
    }

    /// Passes the ids of the patients that the members of a resource name to `visit`, each after the name of the member, until it returns
    /// true.
    fn visit_named_patients<'a>(
        &self,
        resource_type: ResourceType,
        mut members: impl Iterator<Item = (Cow<'a, str>, JsonValue<'a>)>,
        bundle_patients: &BundlePatients<'_>,
        visit: &mut impl FnMut(&str, &str) -> bool,
    ) -> bool {
        let paths = self.paths_of(resource_type);
        if paths.is_empty() {
            return false;
        }
        members.any(|(name, value)| {
            let mut member_paths = paths.iter().filter(|path| path.root() == Some(&name));
            let mut visit_reference =
                |reference: JsonValue<'_>| self.visit_referenced_patients(reference, bundle_patients, &mut |id| visit(&name, id));
            member_paths.any(|path| path.visit_below_root(value, &mut visit_reference))
        })
    }

    /// Returns the id of the patient whom a resource is about. For a Patient this is its own id. A resource can name other patients too,
    /// such as the performer of an Observation: `patient`, `subject` and `beneficiary` come first. Of several patients of equal rank it is
    /// the first id in sort order, so that the choice depends on nothing else.
    pub fn first_patient(&self, resource: &Resource<'_>) -> Option<String> {
        if resource.head.resource_type == ResourceType::PATIENT {
            return Some(resource.id().into_owned());
        }
        self.first_named_patient(resource.head.resource_type, resource.members(), &BundlePatients::default())
    }

    /// Returns the same as [`Self::first_patient`] for a resource inside another one, which can lack an id. It can refer to the Patients of
    /// the Bundle around it by their full URLs; the id of such a Patient is empty if the Patient has none.
    ///
    /// `json` begins with the resource. It must be valid JSON up to the end of the resource.
    pub(crate) fn first_patient_of_nested(
        &self,
        resource_type: ResourceType,
        json: JsonValue<'_>,
        bundle_patients: &BundlePatients<'_>,
    ) -> Option<String> {
        if resource_type == ResourceType::PATIENT {
            return json.member("id").and_then(JsonValue::text).map(Cow::into_owned);
        }
        self.first_named_patient(resource_type, json.members(), bundle_patients)
    }

    /// Returns the id of the patient whom an item of a repeated element names, such as a member of a Group, if it names patients and none
    /// of them is `own`. Of several it is the first id in sort order. References in the items of lists inside it are theirs.
    ///
    /// An item with a resource names none. `item` must be an element of at most `max_depth` levels; deeper references are not found.
    pub(crate) fn other_patient_of_item(
        &self,
        item: JsonValue<'_>,
        own: &str,
        bundle_patients: &BundlePatients<'_>,
        max_depth: usize,
    ) -> Option<String> {
        let mut named = BTreeSet::new();
        let is_element = self.collect_patients_of_element(item, bundle_patients, max_depth, &mut named);
        if is_element && !named.contains(own) { named.pop_first() } else { None }
    }

    /// Collects the ids of the patients that an element names by references in it. Returns false if it is a resource or has one.
    fn collect_patients_of_element(
        &self,
        element: JsonValue<'_>,
        bundle_patients: &BundlePatients<'_>,
        max_depth: usize,
        named: &mut BTreeSet<String>,
    ) -> bool {
        self.collect_referenced_patients(element, bundle_patients, named);
        let Some(max_depth) = max_depth.checked_sub(1) else { return true };
        element.members().all(|(name, value)| match value.json_type() {
            JsonType::Object => self.collect_patients_of_element(value, bundle_patients, max_depth, named),
            JsonType::Array => {
                self.collect_referenced_patients(value, bundle_patients, named);
                true
            }
            JsonType::String => name != "resourceType",
            JsonType::Number | JsonType::Boolean | JsonType::Null => true,
        })
    }

    /// Collects the ids of the patients that a Reference or an array of References names.
    fn collect_referenced_patients(&self, reference: JsonValue<'_>, bundle_patients: &BundlePatients<'_>, named: &mut BTreeSet<String>) {
        self.visit_referenced_patients(reference, bundle_patients, &mut |id| {
            if !id.is_empty() {
                named.insert(id.to_owned());
            }
            false
        });
    }

    /// Returns the id of the patient who comes first among those that the members of a resource name.
    fn first_named_patient<'a>(
        &self,
        resource_type: ResourceType,
        members: impl Iterator<Item = (Cow<'a, str>, JsonValue<'a>)>,
        bundle_patients: &BundlePatients<'_>,
    ) -> Option<String> {
        let mut first = None;
        self.visit_named_patients(resource_type, members, bundle_patients, &mut |element, id| keep_first(&mut first, element, id));
        first.map(|(_, id)| id)
    }

    /// Returns the paths of a type to its references to patients.
    fn paths_of(&self, resource_type: ResourceType) -> &[ElementPath] {
        let index = self.paths.binary_search_by_key(&resource_type, |(resource_type, _)| *resource_type);
        let Some((_, paths)) = index.ok().and_then(|index| self.paths.get(index)) else { return &[] };
        paths.get_or_init(|| self.version.patient_compartment(resource_type).into_iter().flatten().map(ElementPath::parse).collect())
    }

    /// Passes the ids of the patients that a Reference or an array of References names to `visit`, until it returns true.
    fn visit_referenced_patients(
        &self,
        reference: JsonValue<'_>,
        bundle_patients: &BundlePatients<'_>,
        visit: &mut impl FnMut(&str) -> bool,
    ) -> bool {
        visit_reference_texts(reference, &mut |text| {
            // The full URLs of a Bundle come first: one with a base URL that is not accepted still names a Patient of the Bundle.
            if let Some(id) = bundle_patients.id_of(text) {
                return visit(id);
            }
            let target = LocalReference::parse(text, &self.base_urls);
            target.is_some_and(|target| target.resource_type == ResourceType::PATIENT && visit(target.id))
        })
    }
}

/// Keeps the first of two patients: by the rank of the element that names them, then by their ids in sort order. Returns false, so that all
/// patients are visited.
fn keep_first(first: &mut Option<(usize, String)>, element: &str, id: &str) -> bool {
    let rank = rank(element);
    if first.as_ref().is_none_or(|(first_rank, first_id)| (rank, id) < (*first_rank, first_id.as_str())) {
        *first = Some((rank, id.to_owned()));
    }
    false
}

/// Returns the place of an element among those that name the patient whom a resource is about. All other elements share the last place.
fn rank(element: &str) -> usize {
    SUBJECT_ELEMENTS.iter().position(|name| *name == element).unwrap_or(SUBJECT_ELEMENTS.len())
}

#[cfg(test)]
mod tests;
