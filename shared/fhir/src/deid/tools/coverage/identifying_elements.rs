//! The elements that tell who or where somebody is, or which thing belongs to somebody, without having the type Identifier.

/// Primitive elements that identify, as `Owner.element`. The owner is a resource type, the path of an element in a resource type, or a data
/// type. Those that only R5 defines are among them.
const IDENTIFYING_ELEMENTS: &[&str] = &[
    // Names of users and machines, and what they looked for.
    "AuditEvent.agent.altId",
    "AuditEvent.agent.name",
    "AuditEvent.agent.network",
    "AuditEvent.agent.network.address",
    "AuditEvent.entity.name",
    "AuditEvent.entity.query",
    "AuditEvent.source.site",
    // Numbers of insurances and payments.
    "Claim.insurance.preAuthRef",
    "ClaimResponse.item.reviewOutcome.preAuthRef",
    "ClaimResponse.preAuthRef",
    "Coverage.class.value",
    "Coverage.dependent",
    "Coverage.network",
    "Coverage.subscriberId",
    "CoverageEligibilityResponse.preAuthRef",
    "ExplanationOfBenefit.insurance.preAuthRef",
    "ExplanationOfBenefit.item.reviewOutcome.preAuthRef",
    "ExplanationOfBenefit.preAuthRef",
    "PaymentReconciliation.accountNumber",
    "PaymentReconciliation.referenceNumber",
    // Numbers of devices and batches.
    "Device.distinctIdentifier",
    "Device.lotNumber",
    "Device.serialNumber",
    "Device.udiCarrier.carrierAIDC",
    "Device.udiCarrier.carrierHRF",
    "Device.udiCarrier.deviceIdentifier",
    "Device.url",
    "Immunization.lotNumber",
    "InventoryItem.instance.lotNumber",
    "Medication.batch.lotNumber",
    // Places.
    "Location.alias",
    "Location.description",
    "Location.name",
    "Location.position.altitude",
    "Location.position.latitude",
    "Location.position.longitude",
    // UIDs of images, and the addresses of sequences in other systems.
    "ImagingSelection.frameOfReferenceUid",
    "ImagingSelection.instance.uid",
    "ImagingSelection.seriesUid",
    "ImagingSelection.studyUid",
    "ImagingStudy.series.instance.uid",
    "ImagingStudy.series.uid",
    "MolecularSequence.repository.datasetId",
    "MolecularSequence.repository.readsetId",
    "MolecularSequence.repository.url",
    "MolecularSequence.repository.variantsetId",
    // Messages and systems.
    "Composition.url",
    "Contract.url",
    "DocumentManifest.source",
    "Endpoint.address",
    "Endpoint.header",
    "MessageHeader.destination.endpoint",
    "MessageHeader.response.identifier",
    "MessageHeader.source.endpoint",
    "Meta.source",
    "Subscription.channel.endpoint",
    "Subscription.channel.header",
    "Subscription.endpoint",
];

/// Returns true for an element that identifies somebody, a thing or a place.
///
/// * `owner`: the resource type or data type that has the element, or the path of the element in it that has the element.
pub(super) fn is_identifying(owner: &str, element: &str) -> bool {
    IDENTIFYING_ELEMENTS.iter().any(|known| known.rsplit_once('.') == Some((owner, element)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::{FhirVersion, TypeDefinitions, TypeKind};

    /// Returns true if a version defines the element with a primitive type, or with a choice that has one.
    fn is_primitive(definitions: &TypeDefinitions, path: &str) -> bool {
        let mut owners: Vec<_> = path.split('.').next().and_then(|owner| definitions.by_name(owner)).into_iter().collect();
        for name in path.split('.').skip(1) {
            let members = owners.into_iter().flat_map(|owner| definitions.members(owner));
            owners = members.filter(|member| member.element == name).map(|member| member.definition).collect();
        }
        owners.into_iter().any(|definition| definitions.kind(definition) == TypeKind::Primitive)
    }

    #[test]
    fn each_identifying_element_is_a_primitive_in_some_version_of_fhir() {
        let versions = [FhirVersion::R4, FhirVersion::R4b, FhirVersion::R5].map(FhirVersion::type_definitions);
        let is_undefined = |path: &&&str| !versions.iter().any(|definitions| is_primitive(definitions, path));
        assert_eq!(IDENTIFYING_ELEMENTS.iter().filter(is_undefined).collect::<Vec<_>>(), Vec::<&&str>::new());
    }
}
