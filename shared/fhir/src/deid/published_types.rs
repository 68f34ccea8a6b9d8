//! Types of resources that are published and about no patient: definitions, products, catalogues and studies.

use std::sync::LazyLock;

use crate::definitions::{FhirVersion, ResourceType, TypeSet};

/// The types of definitions in any version of FHIR. A URL such as `http://terminology.hl7.org/CodeSystem/v2-0203` is the name of one, and no id.
pub(super) static DEFINITIONS: LazyLock<TypeSet> = LazyLock::new(|| ResourceType::all().filter(|kind| is_definition(*kind)).collect());

/// The types whose resources, and with them their dates, are public in any version of FHIR.
pub(super) static PUBLISHED: LazyLock<TypeSet> = LazyLock::new(|| ResourceType::all().filter(|kind| is_published(*kind)).collect());

/// Types of products, catalogues, studies and reviews whose names do not say that they are.
const OTHER_PUBLISHED: [&str; 10] = [
    "ArtifactAssessment",
    "CatalogEntry",
    "FormularyItem",
    "Ingredient",
    "InsurancePlan",
    "InventoryItem",
    "MedicationKnowledge",
    "NutritionProduct",
    "RegulatedAuthorization",
    "ResearchStudy",
];

/// Returns true for a type that can belong to a patient.
fn is_about_patients(kind: ResourceType) -> bool {
    FhirVersion::ALL.into_iter().any(|version| version.patient_compartment(kind).is_some())
}

/// Returns true for a type of definitions.
fn is_definition(kind: ResourceType) -> bool {
    let has_context = |version: FhirVersion| version.root_elements(kind).iter().any(|element| element.name == "useContext");
    // All definitions say for which context they are. In R5 a Composition does so, too, which is a document about a patient.
    FhirVersion::ALL.into_iter().any(has_context) && !is_about_patients(kind)
}

/// Returns true for a type of definitions, products, catalogues or studies.
fn is_published(kind: ResourceType) -> bool {
    let name = kind.as_str();
    let has_name_of_product = name.starts_with("MedicinalProduct") || name.starts_with("Substance") || name.ends_with("Definition");
    let has_name = has_name_of_product || OTHER_PUBLISHED.contains(&name);
    is_definition(kind) || (has_name && !is_about_patients(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_outside_of_the_patient_compartment_is_published_or_about_people_and_places() {
        let others = ResourceType::all().filter(|kind| !is_about_patients(*kind) && !PUBLISHED.contains(*kind));
        let names: Vec<_> = others.map(ResourceType::as_str).collect();
        let expected = [
            "Binary",
            "BiologicallyDerivedProduct",
            "Bundle",
            "Device",
            "DeviceDispense",
            "DeviceMetric",
            "Endpoint",
            "EnrollmentResponse",
            "HealthcareService",
            "InventoryReport",
            "Linkage",
            "Location",
            "Medication",
            "MessageHeader",
            "OperationOutcome",
            "Organization",
            "OrganizationAffiliation",
            "Parameters",
            "PaymentNotice",
            "PaymentReconciliation",
            "Permission",
            "Practitioner",
            "PractitionerRole",
            "Slot",
            "Subscription",
            "SubscriptionStatus",
            "TestReport",
            "Transport",
            "VerificationResult",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn published_types_are_about_no_patient() {
        for name in ["ValueSet", "CodeSystem", "CatalogEntry", "MedicinalProduct", "Substance", "DeviceDefinition", "ResearchStudy"] {
            assert!(PUBLISHED.contains(ResourceType::parse(name).unwrap()), "{name}");
        }
        for name in ["Composition", "Device", "Medication", "Observation"] {
            assert!(!PUBLISHED.contains(ResourceType::parse(name).unwrap()), "{name}");
        }
    }
}
