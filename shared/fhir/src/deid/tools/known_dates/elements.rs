//! The elements whose date is near the moment at which a system wrote, released or sent a resource, and those whose date is public or
//! conventional.
//!
//! The dates of events, such as `effective`, `performed` and `AdverseEvent.date`, are not among them, although some events are recorded
//! at once: a shift protects these dates. All dates of definitions, products and catalogues are public, see `published_types`. Only those in
//! data types, which other resources have, too, are in the list.

/// Elements with dates that readers know, as `Owner.element`. The owner is a resource type, the path of an element in a resource type, or
/// a data type. The element is a date, a Period of two dates, or a choice of them. Those that only R5 defines are among them.
pub(super) const KNOWN_ELEMENTS: &[&str] = &[
    // The server sets it at each change of a resource.
    "Resource.meta.lastUpdated",
    "Meta.lastUpdated",
    "Bundle.entry.response.lastModified",
    // The client names the last version that it has read.
    "Bundle.entry.request.ifModifiedSince",
    // A system assembles the Bundle.
    "Bundle.timestamp",
    // A system records the resource, or the entry in it.
    "AdverseEvent.recordedDate",
    "AllergyIntolerance.recordedDate",
    "AuditEvent.occurred",
    "AuditEvent.period",
    "AuditEvent.recorded",
    "ChargeItem.enteredDate",
    "Condition.recordedDate",
    "Consent.verification.verificationDate",
    "DetectedIssue.mitigation.date",
    "DeviceUseStatement.recordedOn",
    "FamilyMemberHistory.date",
    "Immunization.recorded",
    "List.date",
    "List.entry.date",
    "MedicationAdministration.recorded",
    "MedicationDispense.recorded",
    "NutritionIntake.recorded",
    "Procedure.recorded",
    "Provenance.occurred",
    "Provenance.recorded",
    // Somebody makes a statement, which is recorded as it is made.
    "Annotation.time",
    "ClinicalImpression.date",
    "Consent.date",
    "Consent.dateTime",
    "Contract.issued",
    "Contract.term.issued",
    "DeviceUsage.dateAsserted",
    "MedicationStatement.dateAsserted",
    "QuestionnaireResponse.authored",
    // A system creates a document or a file, or somebody signs it.
    "Attachment.creation",
    "Composition.attester.time",
    "Composition.date",
    "DocumentManifest.created",
    "DocumentReference.attester.time",
    "DocumentReference.date",
    "Signature.when",
    // A system releases a result.
    "DiagnosticReport.issued",
    "GuidanceResponse.occurrenceDateTime",
    "ImagingSelection.issued",
    "ImmunizationEvaluation.date",
    "ImmunizationRecommendation.date",
    "MeasureReport.date",
    "Media.issued",
    "Observation.issued",
    // A system creates a request, a plan or an appointment, or changes its state.
    "Appointment.cancellationDate",
    "Appointment.created",
    "Basic.created",
    "CarePlan.created",
    "CommunicationRequest.authoredOn",
    "DeviceRequest.authoredOn",
    "Goal.statusDate",
    "MedicationDispense.statusChanged",
    "MedicationRequest.authoredOn",
    "MedicationRequest.dispenseRequest.validityPeriod",
    "MedicationRequest.statusChanged",
    "NutritionOrder.dateTime",
    "RequestGroup.authoredOn",
    "RequestOrchestration.authoredOn",
    "ServiceRequest.authoredOn",
    "SupplyRequest.authoredOn",
    "Task.authoredOn",
    "Task.lastModified",
    "Transport.authoredOn",
    "Transport.lastModified",
    "VerificationResult.statusDate",
    "VisionPrescription.created",
    "VisionPrescription.dateWritten",
    // A system sends or receives a message.
    "Communication.received",
    "Communication.sent",
    // A system creates the message of a payment, or an account of costs.
    "Claim.created",
    "ClaimResponse.created",
    "CoverageEligibilityRequest.created",
    "CoverageEligibilityResponse.created",
    "EnrollmentRequest.created",
    "EnrollmentResponse.created",
    "ExplanationOfBenefit.created",
    "Invoice.creation",
    "Invoice.date",
    "PaymentNotice.created",
    "PaymentReconciliation.created",
    // A payer pays, on the same day to many.
    "ClaimResponse.payment.date",
    "Contract.term.asset.valuedItem.paymentDate",
    "ExplanationOfBenefit.payment.date",
    "PaymentNotice.paymentDate",
    "PaymentReconciliation.allocation.date",
    "PaymentReconciliation.detail.date",
    "PaymentReconciliation.paymentDate",
    // A period begins or ends with a year, a quarter or a month.
    "Account.servicePeriod",
    "Claim.billablePeriod",
    "ClaimResponse.preAuthPeriod",
    "Consent.period",
    "Consent.provision.dataPeriod",
    "Consent.provision.period",
    "Contract.applies",
    "Contract.term.applies",
    "Coverage.costToBeneficiary.exception.period",
    "Coverage.period",
    "CoverageEligibilityRequest.serviced",
    "CoverageEligibilityResponse.insurance.benefitPeriod",
    "CoverageEligibilityResponse.serviced",
    "ExplanationOfBenefit.benefitPeriod",
    "ExplanationOfBenefit.billablePeriod",
    "ExplanationOfBenefit.preAuthRefPeriod",
    "MeasureReport.period",
    "PaymentReconciliation.period",
    // A date is printed on a product or published, or is a holiday. Days of expiry are mostly the last of a month.
    "Device.expirationDate",
    "Device.manufactureDate",
    "HealthcareService.notAvailable.during",
    "Immunization.education.publicationDate",
    "Immunization.expirationDate",
    "Medication.batch.expirationDate",
    "PractitionerRole.notAvailable.during",
];

/// Returns the path, as rules write it, of an element with a known date; `None` for another element.
///
/// * `owner`: the resource type or data type that has the element, or the path of the element in it that has the element.
/// * `is_data_type`: true if the path of the owner begins with a data type.
pub(super) fn known_path(owner: &str, is_data_type: bool, element: &str) -> Option<String> {
    let is_known = KNOWN_ELEMENTS.iter().any(|known| known.rsplit_once('.') == Some((owner, element)));
    let path = || if is_data_type { format!("nodesByType('{owner}').{element}") } else { format!("{owner}.{element}") };
    is_known.then(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::{FhirVersion, ResourceType, TypeDefinitions};
    use crate::deid::published_types::PUBLISHED;

    /// Returns true if a version defines the element and one of its types has the form of a date or has two of them.
    fn is_date(definitions: &TypeDefinitions, path: &str) -> bool {
        let Some((owner, element)) = path.rsplit_once('.') else { return false };
        let mut names = owner.split('.');
        let mut definition = names.next().and_then(|owner| definitions.by_name(owner));
        for name in names {
            definition = definition.and_then(|owner| definitions.member(owner, name)).map(|member| member.definition);
        }
        let has_date = |type_name: &str| matches!(type_name, "date" | "dateTime" | "instant" | "Period");
        definition.is_some_and(|owner| {
            let mut members = definitions.members(owner).filter(|member| member.element == element);
            members.any(|member| has_date(definitions.name(member.definition)))
        })
    }

    #[test]
    fn each_known_element_is_a_date_in_some_version_of_fhir() {
        let versions = [FhirVersion::R4, FhirVersion::R4b, FhirVersion::R5].map(FhirVersion::type_definitions);
        let is_undefined = |path: &&&str| !versions.iter().any(|definitions| is_date(definitions, path));
        assert_eq!(KNOWN_ELEMENTS.iter().filter(is_undefined).collect::<Vec<_>>(), Vec::<&&str>::new());
    }

    #[test]
    fn no_date_of_a_published_type_is_listed_because_all_are_known() {
        let is_published = |path: &&&str| path.split('.').next().and_then(ResourceType::parse).is_some_and(|kind| PUBLISHED.contains(kind));
        assert_eq!(KNOWN_ELEMENTS.iter().filter(is_published).collect::<Vec<_>>(), Vec::<&&str>::new());
    }

    #[test]
    fn each_date_of_recording_in_r4_is_known() {
        // The names under which FHIR has times of systems. Reports of tests are issued by people, and the dates of a medium and of its content
        // are those of an event.
        const NAMES: [&str; 12] = [
            "recorded",
            "recordedDate",
            "recordedOn",
            "dateAsserted",
            "authored",
            "authoredOn",
            "created",
            "issued",
            "lastModified",
            "lastUpdated",
            "timestamp",
            "enteredDate",
        ];
        let definitions = FhirVersion::R4.type_definitions();
        let mut unknown = Vec::new();
        for resource_type in FhirVersion::R4.types().iter().filter(|kind| !PUBLISHED.contains(*kind)) {
            let Some(definition) = definitions.of_resource(resource_type) else { continue };
            let dates = NAMES.iter().filter(|name| definitions.member(definition, name).is_some());
            let paths = dates.map(|name| format!("{}.{name}", resource_type.as_str()));
            unknown.extend(paths.filter(|path| is_date(definitions, path) && !KNOWN_ELEMENTS.contains(&path.as_str())));
        }
        unknown.sort_unstable();
        assert_eq!(unknown, ["TestReport.issued"]);
    }

    #[test]
    fn the_page_lists_each_known_element() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/de-identification.md")).unwrap();
        let missing = KNOWN_ELEMENTS.iter().filter(|element| !page.contains(&format!("`{element}`")));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&&str>::new());
    }
}
