//! Expectations written by hand from the pages of the specification.

use super::*;

/// Asserts the type of an element in every version.
fn assert_type(path: &str, expected: &str) {
    for version in FhirVersion::ALL {
        assert_eq!(type_at(version, path).as_deref(), Some(expected), "{version} {path}");
    }
}

#[test]
fn elements_have_the_types_that_the_specification_gives() {
    assert_type("Patient.birthDate", "date");
    assert_type("Patient.name", "HumanName[]");
    assert_type("Patient.name.given", "string[]");
    assert_type("Patient.name.period.start", "dateTime");
    assert_type("Patient.address.postalCode", "string");
    assert_type("Patient.contact", "BackboneElement[]");
    assert_type("Patient.contact.name", "HumanName");
    assert_type("Patient.meta.lastUpdated", "instant");
    assert_type("Patient.text.div", "xhtml");
    assert_type("Observation.component.code.coding.system", "uri");
    assert_type("Observation.subject.identifier.assigner.display", "string");
    assert_type("MedicationRequest.dosageInstruction.timing.repeat.boundsPeriod.end", "dateTime");
    assert_type("Timing.repeat", "Element");
    assert_type("Extension.url", "uri");
}

#[test]
fn a_choice_is_one_element_with_several_names() {
    let type_definitions = FhirVersion::R4.type_definitions();
    let observation = type_definitions.by_name("Observation").unwrap();
    let quantity = type_definitions.member(observation, "valueQuantity").unwrap();
    assert_eq!((quantity.name, quantity.element, quantity.is_list), ("valueQuantity", "value", false));
    assert_eq!(quantity.definition, type_definitions.by_name("Quantity").unwrap());
    let types = type_definitions.members(observation).filter(|member| member.element == "value");
    let mut types: Vec<_> = types.map(|member| type_definitions.name(member.definition)).collect();
    types.sort_unstable();
    let expected =
        ["CodeableConcept", "Period", "Quantity", "Range", "Ratio", "SampledData", "boolean", "dateTime", "integer", "string", "time"];
    assert_eq!(types, expected);
    for no_member in ["value", "value[x]", "valueAddress", "valuequantity", "valuedateTime"] {
        assert_eq!(type_definitions.member(observation, no_member), None, "{no_member}");
    }
    assert_type("Patient.deceasedDateTime", "dateTime");
    assert_type("Extension.valueAddress.period", "Period");
    assert_type("Extension.valueBase64Binary", "base64Binary");
}

#[test]
fn an_element_defined_by_reference_has_the_members_of_the_other() {
    assert_type("Questionnaire.item.item.item.linkId", "string");
    assert_type("Bundle.entry.link.url", "uri");
    assert_type("Parameters.parameter.part.part.valueHumanName.family", "string");
    assert_type("Observation.component.referenceRange.low", "Quantity");
    for version in FhirVersion::ALL {
        let type_definitions = version.type_definitions();
        let item = type_definitions.member(type_definitions.by_name("Questionnaire").unwrap(), "item").unwrap();
        assert_eq!(type_definitions.member(item.definition, "item"), Some(item));
        assert_eq!(type_definitions.kind(item.definition), TypeKind::Backbone);
    }
}

#[test]
fn a_resource_within_a_resource_may_be_of_any_type() {
    for version in FhirVersion::ALL {
        let type_definitions = version.type_definitions();
        let is_resource = |path: &str, name: &str| {
            let path = path.split('.').collect::<Vec<_>>();
            let start = type_definitions.by_name(path[0]).unwrap();
            let at = path[1..].iter().fold(start, |at, name| type_definitions.member(at, name).unwrap().definition);
            let member = type_definitions.member(at, name).unwrap();
            assert_eq!(type_definitions.name(member.definition) == "Resource", member.is_resource);
            member.is_resource
        };
        assert!(is_resource("Patient", "contained"));
        assert!(is_resource("Bundle.entry", "resource"));
        assert!(is_resource("Bundle.entry.response", "outcome"));
        assert!(is_resource("Parameters.parameter.part", "resource"));
        assert!(!is_resource("Patient", "managingOrganization"));
        // Not every resource is a DomainResource.
        for plain in ["Bundle", "Binary", "Parameters"] {
            assert_eq!(type_definitions.member(type_definitions.by_name(plain).unwrap(), "contained"), None);
        }
    }
}

#[test]
fn every_type_has_ids_and_extensions() {
    assert_type("Patient.id", "id");
    assert_type("Bundle.id", "id");
    assert_type("Patient.name.id", "string");
    assert_type("Patient.contact.id", "string");
    assert_type("Extension.id", "string");
    assert_type("Patient.extension.extension.valueCode", "code");
    assert_type("Patient.name.extension", "Extension[]");
    assert_type("Patient.contact.modifierExtension", "Extension[]");
    assert_type("Timing.repeat.extension", "Extension[]");
    // The members of `_birthDate`.
    assert_type("Patient.birthDate.id", "string");
    assert_type("Patient.birthDate.extension.valueDateTime", "dateTime");
    for version in FhirVersion::ALL {
        for nothing in ["Patient.resourceType", "Patient._birthDate", "Patient.birthDate.value", "Patient.name.modifierExtension"] {
            assert_eq!(type_at(version, nothing), None, "{version} {nothing}");
        }
        // "The xhtml type cannot have extensions."
        assert_eq!((type_at(version, "xhtml.extension"), type_at(version, "xhtml.id").as_deref()), (None, Some("string")));
    }
}

#[test]
fn a_type_is_a_specialisation_of_its_bases() {
    for version in FhirVersion::ALL {
        let type_definitions = version.type_definitions();
        let is_a = |name: &str, base: &str| type_definitions.is_a(type_definitions.by_name(name).unwrap(), base);
        for (name, base) in [
            ("Patient", "Patient"),
            ("Patient", "DomainResource"),
            ("Patient", "Resource"),
            ("Bundle", "Resource"),
            ("Age", "Quantity"),
            ("Duration", "Quantity"),
            ("Quantity", "Element"),
            ("id", "string"),
            ("code", "string"),
            ("markdown", "string"),
            ("canonical", "uri"),
            ("url", "uri"),
            ("positiveInt", "integer"),
            ("dateTime", "Element"),
            ("Timing", "Element"),
        ] {
            assert!(is_a(name, base), "{version} {name} {base}");
        }
        for (name, base) in [
            ("Bundle", "DomainResource"),
            ("Patient", "Element"),
            ("Quantity", "Age"),
            ("instant", "dateTime"),
            ("uri", "string"),
            ("Money", "Quantity"),
        ] {
            assert!(!is_a(name, base), "{version} {name} {base}");
        }
        let contact = type_definitions.member(type_definitions.by_name("Patient").unwrap(), "contact").unwrap().definition;
        assert!(type_definitions.is_a(contact, "BackboneElement") && type_definitions.is_a(contact, "Element"));
        assert_eq!((type_definitions.kind(contact), type_definitions.name(contact)), (TypeKind::Backbone, "BackboneElement"));
    }
}

#[test]
fn each_type_has_its_kind() {
    for version in FhirVersion::ALL {
        let type_definitions = version.type_definitions();
        let kinds = [
            (TypeKind::Resource, &["Patient", "Bundle", "Resource", "DomainResource"][..]),
            (TypeKind::Complex, &["HumanName", "Element", "BackboneElement", "Extension", "Age", "Narrative"]),
            (TypeKind::Primitive, &["dateTime", "string", "xhtml", "base64Binary"]),
        ];
        for (kind, names) in kinds {
            for name in names {
                assert_eq!(type_definitions.kind(type_definitions.by_name(name).unwrap()), kind, "{version} {name}");
            }
        }
    }
}

#[test]
fn the_versions_define_different_types() {
    let by_version = |path: &str| FhirVersion::ALL.map(|version| type_at(version, path));
    let of = |types: [&str; 3]| types.map(|name| (!name.is_empty()).then(|| name.to_owned()));
    assert_eq!(by_version("Encounter.class"), of(["Coding", "Coding", "CodeableConcept[]"]));
    assert_eq!(by_version("Encounter.period"), of(["Period", "Period", ""]));
    assert_eq!(by_version("Encounter.actualPeriod"), of(["", "", "Period"]));
    assert_eq!(by_version("MedicationRequest.medication"), of(["", "", "CodeableReference"]));
    assert_eq!(by_version("MedicationRequest.medicationCodeableConcept"), of(["CodeableConcept", "CodeableConcept", ""]));
    assert_eq!(by_version("Attachment.size"), of(["unsignedInt", "unsignedInt", "integer64"]));
    assert_eq!(by_version("Procedure.performedAge"), of(["Age", "Age", ""]));
    assert_eq!(by_version("Consent.provision.provision.period"), of(["Period", "Period", "Period"]));
}
