//! The resource types of FHIR R4, R4B and R5.

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::json::name_table::{HasName, NameTable};

/// A resource type that R4 (4.0.1), R4B (4.3.0) or R5 (5.0.0) defines.
///
/// One byte; ordered by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub struct ResourceType(u8);

impl ResourceType {
    /// Parses a name, case-sensitively. Returns `None` if no version of FHIR defines it.
    pub fn parse(name: &str) -> Option<Self> {
        TABLE.get(name).copied()
    }

    /// Parses a name in any letter case, as in URLs that people write. Returns `None` if no version of FHIR defines it.
    pub(crate) fn parse_ignoring_case(name: &str) -> Option<Self> {
        Self::parse(name).or_else(|| Self::all().find(|resource_type| resource_type.as_str().eq_ignore_ascii_case(name)))
    }

    /// Returns the name, as written in `resourceType`.
    pub fn as_str(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    /// Returns the position in [`Self::all`].
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }

    /// Returns the type as one byte, valid within one version of this program. [`Self::from_byte`] reads it.
    pub fn to_byte(self) -> u8 {
        self.0
    }

    /// Returns the type of [`Self::to_byte`]. `None` if there is none.
    pub fn from_byte(byte: u8) -> Option<Self> {
        (usize::from(byte) < NAMES.len()).then_some(Self(byte))
    }

    /// Returns every type, ordered by name.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map(Self).take(NAMES.len())
    }
}

static TABLE: LazyLock<NameTable<ResourceType>> = LazyLock::new(|| NameTable::new(ResourceType::all()));

impl HasName for ResourceType {
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
        Self::parse(&name).ok_or("not a resource type")
    }
}

impl From<ResourceType> for &'static str {
    fn from(resource_type: ResourceType) -> Self {
        resource_type.as_str()
    }
}

/// A set of resource types, stored as one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TypeSet([u64; 4]);

impl TypeSet {
    /// Returns true if `resource_type` is in the set.
    pub fn contains(&self, resource_type: ResourceType) -> bool {
        let (word, bit) = Self::bit_position(resource_type);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Returns the types in the set, ordered by name.
    pub fn iter(self) -> impl Iterator<Item = ResourceType> {
        ResourceType::all().filter(move |resource_type| self.contains(*resource_type))
    }

    /// Returns the word that holds the bit of a type, and the bit.
    fn bit_position(resource_type: ResourceType) -> (usize, u64) {
        (usize::from(resource_type.0 / 64), 1 << (resource_type.0 % 64))
    }
}

impl FromIterator<ResourceType> for TypeSet {
    fn from_iter<I: IntoIterator<Item = ResourceType>>(types: I) -> Self {
        let mut set = Self::default();
        for resource_type in types {
            let (word, bit) = Self::bit_position(resource_type);
            if let Some(bits) = set.0.get_mut(word) {
                *bits |= bit;
            }
        }
        set
    }
}

/// Defines one constant of [`ResourceType`] for each type, and the names by index.
macro_rules! resource_types {
    ($($constant:ident = $name:literal,)+) => {
        /// The position of each type in the list below.
        #[repr(u8)]
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the variants carry the names of the constants")]
        enum Index { $($constant,)+ }

        impl ResourceType {
            $(
                #[doc = concat!("The resource type `", $name, "`.")]
                pub const $constant: Self = Self(Index::$constant as u8);
            )+
        }

        const NAMES: &[&str] = &[$($name,)+];
    };
}

// The types of all three versions, in byte order. Derived from the CC0 packages `hl7.fhir.r4.examples@4.0.1`,
// `hl7.fhir.r4b.core@4.3.0` and `hl7.fhir.r5.core@5.0.0`.
resource_types! {
    ACCOUNT = "Account",
    ACTIVITY_DEFINITION = "ActivityDefinition",
    ACTOR_DEFINITION = "ActorDefinition",
    ADMINISTRABLE_PRODUCT_DEFINITION = "AdministrableProductDefinition",
    ADVERSE_EVENT = "AdverseEvent",
    ALLERGY_INTOLERANCE = "AllergyIntolerance",
    APPOINTMENT = "Appointment",
    APPOINTMENT_RESPONSE = "AppointmentResponse",
    ARTIFACT_ASSESSMENT = "ArtifactAssessment",
    AUDIT_EVENT = "AuditEvent",
    BASIC = "Basic",
    BINARY = "Binary",
    BIOLOGICALLY_DERIVED_PRODUCT = "BiologicallyDerivedProduct",
    BIOLOGICALLY_DERIVED_PRODUCT_DISPENSE = "BiologicallyDerivedProductDispense",
    BODY_STRUCTURE = "BodyStructure",
    BUNDLE = "Bundle",
    CAPABILITY_STATEMENT = "CapabilityStatement",
    CARE_PLAN = "CarePlan",
    CARE_TEAM = "CareTeam",
    CATALOG_ENTRY = "CatalogEntry",
    CHARGE_ITEM = "ChargeItem",
    CHARGE_ITEM_DEFINITION = "ChargeItemDefinition",
    CITATION = "Citation",
    CLAIM = "Claim",
    CLAIM_RESPONSE = "ClaimResponse",
    CLINICAL_IMPRESSION = "ClinicalImpression",
    CLINICAL_USE_DEFINITION = "ClinicalUseDefinition",
    CODE_SYSTEM = "CodeSystem",
    COMMUNICATION = "Communication",
    COMMUNICATION_REQUEST = "CommunicationRequest",
    COMPARTMENT_DEFINITION = "CompartmentDefinition",
    COMPOSITION = "Composition",
    CONCEPT_MAP = "ConceptMap",
    CONDITION = "Condition",
    CONDITION_DEFINITION = "ConditionDefinition",
    CONSENT = "Consent",
    CONTRACT = "Contract",
    COVERAGE = "Coverage",
    COVERAGE_ELIGIBILITY_REQUEST = "CoverageEligibilityRequest",
    COVERAGE_ELIGIBILITY_RESPONSE = "CoverageEligibilityResponse",
    DETECTED_ISSUE = "DetectedIssue",
    DEVICE = "Device",
    DEVICE_ASSOCIATION = "DeviceAssociation",
    DEVICE_DEFINITION = "DeviceDefinition",
    DEVICE_DISPENSE = "DeviceDispense",
    DEVICE_METRIC = "DeviceMetric",
    DEVICE_REQUEST = "DeviceRequest",
    DEVICE_USAGE = "DeviceUsage",
    DEVICE_USE_STATEMENT = "DeviceUseStatement",
    DIAGNOSTIC_REPORT = "DiagnosticReport",
    DOCUMENT_MANIFEST = "DocumentManifest",
    DOCUMENT_REFERENCE = "DocumentReference",
    EFFECT_EVIDENCE_SYNTHESIS = "EffectEvidenceSynthesis",
    ENCOUNTER = "Encounter",
    ENCOUNTER_HISTORY = "EncounterHistory",
    ENDPOINT = "Endpoint",
    ENROLLMENT_REQUEST = "EnrollmentRequest",
    ENROLLMENT_RESPONSE = "EnrollmentResponse",
    EPISODE_OF_CARE = "EpisodeOfCare",
    EVENT_DEFINITION = "EventDefinition",
    EVIDENCE = "Evidence",
    EVIDENCE_REPORT = "EvidenceReport",
    EVIDENCE_VARIABLE = "EvidenceVariable",
    EXAMPLE_SCENARIO = "ExampleScenario",
    EXPLANATION_OF_BENEFIT = "ExplanationOfBenefit",
    FAMILY_MEMBER_HISTORY = "FamilyMemberHistory",
    FLAG = "Flag",
    FORMULARY_ITEM = "FormularyItem",
    GENOMIC_STUDY = "GenomicStudy",
    GOAL = "Goal",
    GRAPH_DEFINITION = "GraphDefinition",
    GROUP = "Group",
    GUIDANCE_RESPONSE = "GuidanceResponse",
    HEALTHCARE_SERVICE = "HealthcareService",
    IMAGING_SELECTION = "ImagingSelection",
    IMAGING_STUDY = "ImagingStudy",
    IMMUNIZATION = "Immunization",
    IMMUNIZATION_EVALUATION = "ImmunizationEvaluation",
    IMMUNIZATION_RECOMMENDATION = "ImmunizationRecommendation",
    IMPLEMENTATION_GUIDE = "ImplementationGuide",
    INGREDIENT = "Ingredient",
    INSURANCE_PLAN = "InsurancePlan",
    INVENTORY_ITEM = "InventoryItem",
    INVENTORY_REPORT = "InventoryReport",
    INVOICE = "Invoice",
    LIBRARY = "Library",
    LINKAGE = "Linkage",
    LIST = "List",
    LOCATION = "Location",
    MANUFACTURED_ITEM_DEFINITION = "ManufacturedItemDefinition",
    MEASURE = "Measure",
    MEASURE_REPORT = "MeasureReport",
    MEDIA = "Media",
    MEDICATION = "Medication",
    MEDICATION_ADMINISTRATION = "MedicationAdministration",
    MEDICATION_DISPENSE = "MedicationDispense",
    MEDICATION_KNOWLEDGE = "MedicationKnowledge",
    MEDICATION_REQUEST = "MedicationRequest",
    MEDICATION_STATEMENT = "MedicationStatement",
    MEDICINAL_PRODUCT = "MedicinalProduct",
    MEDICINAL_PRODUCT_AUTHORIZATION = "MedicinalProductAuthorization",
    MEDICINAL_PRODUCT_CONTRAINDICATION = "MedicinalProductContraindication",
    MEDICINAL_PRODUCT_DEFINITION = "MedicinalProductDefinition",
    MEDICINAL_PRODUCT_INDICATION = "MedicinalProductIndication",
    MEDICINAL_PRODUCT_INGREDIENT = "MedicinalProductIngredient",
    MEDICINAL_PRODUCT_INTERACTION = "MedicinalProductInteraction",
    MEDICINAL_PRODUCT_MANUFACTURED = "MedicinalProductManufactured",
    MEDICINAL_PRODUCT_PACKAGED = "MedicinalProductPackaged",
    MEDICINAL_PRODUCT_PHARMACEUTICAL = "MedicinalProductPharmaceutical",
    MEDICINAL_PRODUCT_UNDESIRABLE_EFFECT = "MedicinalProductUndesirableEffect",
    MESSAGE_DEFINITION = "MessageDefinition",
    MESSAGE_HEADER = "MessageHeader",
    MOLECULAR_SEQUENCE = "MolecularSequence",
    NAMING_SYSTEM = "NamingSystem",
    NUTRITION_INTAKE = "NutritionIntake",
    NUTRITION_ORDER = "NutritionOrder",
    NUTRITION_PRODUCT = "NutritionProduct",
    OBSERVATION = "Observation",
    OBSERVATION_DEFINITION = "ObservationDefinition",
    OPERATION_DEFINITION = "OperationDefinition",
    OPERATION_OUTCOME = "OperationOutcome",
    ORGANIZATION = "Organization",
    ORGANIZATION_AFFILIATION = "OrganizationAffiliation",
    PACKAGED_PRODUCT_DEFINITION = "PackagedProductDefinition",
    PARAMETERS = "Parameters",
    PATIENT = "Patient",
    PAYMENT_NOTICE = "PaymentNotice",
    PAYMENT_RECONCILIATION = "PaymentReconciliation",
    PERMISSION = "Permission",
    PERSON = "Person",
    PLAN_DEFINITION = "PlanDefinition",
    PRACTITIONER = "Practitioner",
    PRACTITIONER_ROLE = "PractitionerRole",
    PROCEDURE = "Procedure",
    PROVENANCE = "Provenance",
    QUESTIONNAIRE = "Questionnaire",
    QUESTIONNAIRE_RESPONSE = "QuestionnaireResponse",
    REGULATED_AUTHORIZATION = "RegulatedAuthorization",
    RELATED_PERSON = "RelatedPerson",
    REQUEST_GROUP = "RequestGroup",
    REQUEST_ORCHESTRATION = "RequestOrchestration",
    REQUIREMENTS = "Requirements",
    RESEARCH_DEFINITION = "ResearchDefinition",
    RESEARCH_ELEMENT_DEFINITION = "ResearchElementDefinition",
    RESEARCH_STUDY = "ResearchStudy",
    RESEARCH_SUBJECT = "ResearchSubject",
    RISK_ASSESSMENT = "RiskAssessment",
    RISK_EVIDENCE_SYNTHESIS = "RiskEvidenceSynthesis",
    SCHEDULE = "Schedule",
    SEARCH_PARAMETER = "SearchParameter",
    SERVICE_REQUEST = "ServiceRequest",
    SLOT = "Slot",
    SPECIMEN = "Specimen",
    SPECIMEN_DEFINITION = "SpecimenDefinition",
    STRUCTURE_DEFINITION = "StructureDefinition",
    STRUCTURE_MAP = "StructureMap",
    SUBSCRIPTION = "Subscription",
    SUBSCRIPTION_STATUS = "SubscriptionStatus",
    SUBSCRIPTION_TOPIC = "SubscriptionTopic",
    SUBSTANCE = "Substance",
    SUBSTANCE_DEFINITION = "SubstanceDefinition",
    SUBSTANCE_NUCLEIC_ACID = "SubstanceNucleicAcid",
    SUBSTANCE_POLYMER = "SubstancePolymer",
    SUBSTANCE_PROTEIN = "SubstanceProtein",
    SUBSTANCE_REFERENCE_INFORMATION = "SubstanceReferenceInformation",
    SUBSTANCE_SOURCE_MATERIAL = "SubstanceSourceMaterial",
    SUBSTANCE_SPECIFICATION = "SubstanceSpecification",
    SUPPLY_DELIVERY = "SupplyDelivery",
    SUPPLY_REQUEST = "SupplyRequest",
    TASK = "Task",
    TERMINOLOGY_CAPABILITIES = "TerminologyCapabilities",
    TEST_PLAN = "TestPlan",
    TEST_REPORT = "TestReport",
    TEST_SCRIPT = "TestScript",
    TRANSPORT = "Transport",
    VALUE_SET = "ValueSet",
    VERIFICATION_RESULT = "VerificationResult",
    VISION_PRESCRIPTION = "VisionPrescription",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_sorted_and_every_name_is_found() {
        assert!(NAMES.is_sorted());
        assert_eq!(ResourceType::all().count(), NAMES.len());
        for resource_type in ResourceType::all() {
            assert_eq!(ResourceType::parse(resource_type.as_str()), Some(resource_type));
        }
        assert_eq!(ResourceType::parse("Patient"), Some(ResourceType::PATIENT));
    }

    #[test]
    fn names_are_case_sensitive_except_in_urls() {
        assert!(ResourceType::parse("patient").is_none());
        assert!(ResourceType::parse("DomainResource").is_none());
        assert_eq!(ResourceType::parse_ignoring_case("pAtient"), Some(ResourceType::PATIENT));
        assert!(ResourceType::parse_ignoring_case("patients").is_none());
    }

    #[test]
    fn a_set_contains_exactly_the_types_that_were_added() {
        let some: Vec<_> = ResourceType::all().step_by(3).collect();
        let set: TypeSet = some.iter().copied().collect();
        for resource_type in ResourceType::all() {
            assert_eq!(set.contains(resource_type), some.contains(&resource_type), "{resource_type}");
        }
    }
}
