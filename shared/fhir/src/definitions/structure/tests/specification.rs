//! What the specification's pages say of single types, written down by hand.

use super::*;

/// In every version.
fn is(path: &str, expected: &str) {
    for version in FhirVersion::ALL {
        assert_eq!(at(version, path).as_deref(), Some(expected), "{version} {path}");
    }
}

#[test]
fn elements_have_the_types_of_their_pages() {
    is("Patient.birthDate", "date");
    is("Patient.name", "HumanName[]");
    is("Patient.name.given", "string[]");
    is("Patient.name.period.start", "dateTime");
    is("Patient.address.postalCode", "string");
    is("Patient.contact", "BackboneElement[]");
    is("Patient.contact.name", "HumanName");
    is("Patient.meta.lastUpdated", "instant");
    is("Patient.text.div", "xhtml");
    is("Observation.component.code.coding.system", "uri");
    is("Observation.subject.identifier.assigner.display", "string");
    is("MedicationRequest.dosageInstruction.timing.repeat.boundsPeriod.end", "dateTime");
    is("Timing.repeat", "Element");
    is("Extension.url", "uri");
}

#[test]
fn a_choice_is_one_element_under_several_names() {
    let structures = FhirVersion::R4.structures();
    let observation = structures.named("Observation").unwrap();
    let quantity = structures.member(observation, "valueQuantity").unwrap();
    assert_eq!((quantity.name, quantity.element, quantity.is_list), ("valueQuantity", "value", false));
    assert_eq!(quantity.definition, structures.named("Quantity").unwrap());
    let types = structures.members(observation).filter(|member| member.element == "value");
    let mut types: Vec<_> = types.map(|member| structures.name(member.definition)).collect();
    types.sort_unstable();
    let expected =
        ["CodeableConcept", "Period", "Quantity", "Range", "Ratio", "SampledData", "boolean", "dateTime", "integer", "string", "time"];
    assert_eq!(types, expected);
    for no_member in ["value", "value[x]", "valueAddress", "valuequantity", "valuedateTime"] {
        assert_eq!(structures.member(observation, no_member), None, "{no_member}");
    }
    is("Patient.deceasedDateTime", "dateTime");
    is("Extension.valueAddress.period", "Period");
    is("Extension.valueBase64Binary", "base64Binary");
}

#[test]
fn an_element_that_repeats_another_has_its_members() {
    is("Questionnaire.item.item.item.linkId", "string");
    is("Bundle.entry.link.url", "uri");
    is("Parameters.parameter.part.part.valueHumanName.family", "string");
    is("Observation.component.referenceRange.low", "Quantity");
    for version in FhirVersion::ALL {
        let structures = version.structures();
        let item = structures.member(structures.named("Questionnaire").unwrap(), "item").unwrap();
        assert_eq!(structures.member(item.definition, "item"), Some(item));
        assert_eq!(structures.kind(item.definition), Kind::Inner);
    }
}

#[test]
fn where_a_resource_stands_any_may_stand() {
    for version in FhirVersion::ALL {
        let structures = version.structures();
        let is_resource = |path: &str, name: &str| {
            let path = path.split('.').collect::<Vec<_>>();
            let start = structures.named(path[0]).unwrap();
            let at = path[1..].iter().fold(start, |at, name| structures.member(at, name).unwrap().definition);
            let member = structures.member(at, name).unwrap();
            assert_eq!(structures.name(member.definition) == "Resource", member.is_resource);
            member.is_resource
        };
        assert!(is_resource("Patient", "contained"));
        assert!(is_resource("Bundle.entry", "resource"));
        assert!(is_resource("Bundle.entry.response", "outcome"));
        assert!(is_resource("Parameters.parameter.part", "resource"));
        assert!(!is_resource("Patient", "managingOrganization"));
        // Not every resource is a DomainResource.
        for plain in ["Bundle", "Binary", "Parameters"] {
            assert_eq!(structures.member(structures.named(plain).unwrap(), "contained"), None);
        }
    }
}

#[test]
fn ids_and_extensions_are_everywhere() {
    is("Patient.id", "id");
    is("Bundle.id", "id");
    is("Patient.name.id", "string");
    is("Patient.contact.id", "string");
    is("Extension.id", "string");
    is("Patient.extension.extension.valueCode", "code");
    is("Patient.name.extension", "Extension[]");
    is("Patient.contact.modifierExtension", "Extension[]");
    is("Timing.repeat.extension", "Extension[]");
    // What `_birthDate` holds.
    is("Patient.birthDate.id", "string");
    is("Patient.birthDate.extension.valueDateTime", "dateTime");
    for version in FhirVersion::ALL {
        for nothing in ["Patient.resourceType", "Patient._birthDate", "Patient.birthDate.value", "Patient.name.modifierExtension"] {
            assert_eq!(at(version, nothing), None, "{version} {nothing}");
        }
        // "The xhtml type cannot have extensions."
        assert_eq!((at(version, "xhtml.extension"), at(version, "xhtml.id").as_deref()), (None, Some("string")));
    }
}

#[test]
fn a_type_is_what_it_specialises() {
    for version in FhirVersion::ALL {
        let structures = version.structures();
        let is_a = |name: &str, base: &str| structures.is_a(structures.named(name).unwrap(), base);
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
        let contact = structures.member(structures.named("Patient").unwrap(), "contact").unwrap().definition;
        assert!(structures.is_a(contact, "BackboneElement") && structures.is_a(contact, "Element"));
        assert_eq!((structures.kind(contact), structures.name(contact)), (Kind::Inner, "BackboneElement"));
    }
}

#[test]
fn kinds_are_told_apart() {
    for version in FhirVersion::ALL {
        let structures = version.structures();
        let kinds = [
            (Kind::Resource, &["Patient", "Bundle", "Resource", "DomainResource"][..]),
            (Kind::Complex, &["HumanName", "Element", "BackboneElement", "Extension", "Age", "Narrative"]),
            (Kind::Primitive, &["dateTime", "string", "xhtml", "base64Binary"]),
        ];
        for (kind, names) in kinds {
            for name in names {
                assert_eq!(structures.kind(structures.named(name).unwrap()), kind, "{version} {name}");
            }
        }
    }
}

#[test]
fn versions_differ() {
    let by_version = |path: &str| FhirVersion::ALL.map(|version| at(version, path));
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
