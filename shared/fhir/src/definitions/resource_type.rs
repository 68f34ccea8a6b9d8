//! The resource types of FHIR R4, R4B and R5.

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::json::name_table::{NameTable, Named};

/// A resource type that R4 (4.0.1), R4B (4.3.0) or R5 (5.0.0) defines.
///
/// One byte; ordered by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub struct ResourceType(u8);

impl ResourceType {
    /// The type of this exact, case-sensitive name; `None` if no version defines it.
    pub fn named(name: &str) -> Option<Self> {
        TABLE.get(name).copied()
    }

    /// The name as it stands in `resourceType`.
    pub fn as_str(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    /// Its place among [`Self::all`].
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }

    /// Every type, ordered by name.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map(Self).take(NAMES.len())
    }
}

static TABLE: LazyLock<NameTable<ResourceType>> = LazyLock::new(|| NameTable::new(ResourceType::all()));

impl Named for ResourceType {
    fn name(&self) -> &'static str {
        self.as_str()
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for ResourceType {
    type Error = &'static str;
    fn try_from(name: String) -> Result<Self, &'static str> {
        Self::named(&name).ok_or("not a resource type")
    }
}

impl From<ResourceType> for &'static str {
    fn from(kind: ResourceType) -> Self {
        kind.as_str()
    }
}

/// A set of resource types: a filter that costs one bit test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TypeSet([u64; 4]);

impl TypeSet {
    /// Whether `kind` is in the set.
    pub fn contains(&self, kind: ResourceType) -> bool {
        let (word, bit) = Self::place(kind);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// The types in the set, by name.
    pub fn iter(self) -> impl Iterator<Item = ResourceType> {
        ResourceType::all().filter(move |kind| self.contains(*kind))
    }

    fn place(kind: ResourceType) -> (usize, u64) {
        (usize::from(kind.0 / 64), 1 << (kind.0 % 64))
    }
}

impl FromIterator<ResourceType> for TypeSet {
    fn from_iter<I: IntoIterator<Item = ResourceType>>(kinds: I) -> Self {
        let mut set = Self::default();
        for kind in kinds {
            let (word, bit) = Self::place(kind);
            if let Some(bits) = set.0.get_mut(word) {
                *bits |= bit;
            }
        }
        set
    }
}

/// The union of the three versions, sorted by byte order.
/// Derived from the CC0 packages `hl7.fhir.r4.examples@4.0.1`, `hl7.fhir.r4b.core@4.3.0` and `hl7.fhir.r5.core@5.0.0`.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "Account", "ActivityDefinition", "ActorDefinition", "AdministrableProductDefinition",
    "AdverseEvent", "AllergyIntolerance", "Appointment", "AppointmentResponse",
    "ArtifactAssessment", "AuditEvent", "Basic", "Binary", "BiologicallyDerivedProduct",
    "BiologicallyDerivedProductDispense", "BodyStructure", "Bundle", "CapabilityStatement",
    "CarePlan", "CareTeam", "CatalogEntry", "ChargeItem", "ChargeItemDefinition", "Citation",
    "Claim", "ClaimResponse", "ClinicalImpression", "ClinicalUseDefinition", "CodeSystem",
    "Communication", "CommunicationRequest", "CompartmentDefinition", "Composition", "ConceptMap",
    "Condition", "ConditionDefinition", "Consent", "Contract", "Coverage",
    "CoverageEligibilityRequest", "CoverageEligibilityResponse", "DetectedIssue", "Device",
    "DeviceAssociation", "DeviceDefinition", "DeviceDispense", "DeviceMetric", "DeviceRequest",
    "DeviceUsage", "DeviceUseStatement", "DiagnosticReport", "DocumentManifest",
    "DocumentReference", "EffectEvidenceSynthesis", "Encounter", "EncounterHistory", "Endpoint",
    "EnrollmentRequest", "EnrollmentResponse", "EpisodeOfCare", "EventDefinition", "Evidence",
    "EvidenceReport", "EvidenceVariable", "ExampleScenario", "ExplanationOfBenefit",
    "FamilyMemberHistory", "Flag", "FormularyItem", "GenomicStudy", "Goal", "GraphDefinition",
    "Group", "GuidanceResponse", "HealthcareService", "ImagingSelection", "ImagingStudy",
    "Immunization", "ImmunizationEvaluation", "ImmunizationRecommendation", "ImplementationGuide",
    "Ingredient", "InsurancePlan", "InventoryItem", "InventoryReport", "Invoice", "Library",
    "Linkage", "List", "Location", "ManufacturedItemDefinition", "Measure", "MeasureReport",
    "Media", "Medication", "MedicationAdministration", "MedicationDispense", "MedicationKnowledge",
    "MedicationRequest", "MedicationStatement", "MedicinalProduct", "MedicinalProductAuthorization",
    "MedicinalProductContraindication", "MedicinalProductDefinition", "MedicinalProductIndication",
    "MedicinalProductIngredient", "MedicinalProductInteraction", "MedicinalProductManufactured",
    "MedicinalProductPackaged", "MedicinalProductPharmaceutical",
    "MedicinalProductUndesirableEffect", "MessageDefinition", "MessageHeader", "MolecularSequence",
    "NamingSystem", "NutritionIntake", "NutritionOrder", "NutritionProduct", "Observation",
    "ObservationDefinition", "OperationDefinition", "OperationOutcome", "Organization",
    "OrganizationAffiliation", "PackagedProductDefinition", "Parameters", "Patient",
    "PaymentNotice", "PaymentReconciliation", "Permission", "Person", "PlanDefinition",
    "Practitioner", "PractitionerRole", "Procedure", "Provenance", "Questionnaire",
    "QuestionnaireResponse", "RegulatedAuthorization", "RelatedPerson", "RequestGroup",
    "RequestOrchestration", "Requirements", "ResearchDefinition", "ResearchElementDefinition",
    "ResearchStudy", "ResearchSubject", "RiskAssessment", "RiskEvidenceSynthesis", "Schedule",
    "SearchParameter", "ServiceRequest", "Slot", "Specimen", "SpecimenDefinition",
    "StructureDefinition", "StructureMap", "Subscription", "SubscriptionStatus",
    "SubscriptionTopic", "Substance", "SubstanceDefinition", "SubstanceNucleicAcid",
    "SubstancePolymer", "SubstanceProtein", "SubstanceReferenceInformation",
    "SubstanceSourceMaterial", "SubstanceSpecification", "SupplyDelivery", "SupplyRequest", "Task",
    "TerminologyCapabilities", "TestPlan", "TestReport", "TestScript", "Transport", "ValueSet",
    "VerificationResult", "VisionPrescription",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_every_name_is_found() {
        assert!(NAMES.is_sorted());
        assert_eq!(ResourceType::all().count(), NAMES.len());
        for kind in ResourceType::all() {
            assert_eq!(ResourceType::named(kind.as_str()), Some(kind));
        }
    }

    #[test]
    fn names_are_case_sensitive() {
        assert!(ResourceType::named("Patient").is_some());
        assert!(ResourceType::named("patient").is_none());
        assert!(ResourceType::named("DomainResource").is_none());
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let some: Vec<_> = ResourceType::all().step_by(3).collect();
        let set: TypeSet = some.iter().copied().collect();
        for kind in ResourceType::all() {
            assert_eq!(set.contains(kind), some.contains(&kind), "{kind}");
        }
    }
}
