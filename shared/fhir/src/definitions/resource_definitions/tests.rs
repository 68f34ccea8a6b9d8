use std::collections::BTreeSet;

use super::*;

mod independent;

fn resource_type(name: &str) -> ResourceType {
    ResourceType::parse(name).unwrap()
}

#[test]
fn the_compartment_of_r4_has_its_66_types() {
    assert_eq!(FhirVersion::R4.patient_compartment_types().iter().count(), 66);
    assert_eq!(FhirVersion::R4b.patient_compartment_types(), FhirVersion::R4.patient_compartment_types());
    assert_eq!(FhirVersion::R5.patient_compartment_types().iter().count(), 73);
}

#[test]
fn compartment_paths_are_those_of_the_compartment_definition() {
    let paths = |version: FhirVersion, name| version.patient_compartment(resource_type(name));
    assert_eq!(paths(FhirVersion::R4, "AllergyIntolerance"), Some(vec!["patient", "recorder", "asserter"]));
    assert_eq!(paths(FhirVersion::R4, "Appointment"), Some(vec!["participant[].actor"]));
    assert_eq!(paths(FhirVersion::R4, "Patient"), Some(vec!["link[].other"]));
    for outside in ["Device", "Location", "Medication", "Organization", "Practitioner", "Task"] {
        assert_eq!(paths(FhirVersion::R4, outside), None, "{outside}");
    }
    assert!(paths(FhirVersion::R5, "Task").is_some());
}

#[test]
fn a_parameter_matches_its_definition() {
    let code = FhirVersion::R4.search_parameter(resource_type("Observation"), "code").unwrap();
    assert_eq!((code.param_type, code.definition.as_str()), (SearchParamType::Token, "http://hl7.org/fhir/SearchParameter/clinical-code"));
    assert_eq!(code.paths, [ParameterPath { path: "code", element_type: "CodeableConcept", system: None }]);
    let status = FhirVersion::R4.search_parameter(resource_type("Observation"), "status").unwrap();
    assert_eq!(status.paths[0].system, Some("http://hl7.org/fhir/observation-status"));
    let both = FhirVersion::R4.search_parameter(resource_type("Observation"), "combo-code-value-quantity").unwrap();
    assert_eq!(both.paths.iter().map(|path| path.path).collect::<Vec<_>>(), ["", "component[]"]);
    assert_eq!(
        both.components.iter().map(|component| component.param_type).collect::<Vec<_>>(),
        [SearchParamType::Token, SearchParamType::Quantity]
    );
    // The value set of the element includes two code systems.
    let intent = FhirVersion::R4.search_parameter(resource_type("Task"), "intent").unwrap();
    assert_eq!(intent.paths[0].system, None);
    let id = FhirVersion::R5.search_parameter(resource_type("Patient"), "_id").unwrap();
    assert_eq!((id.definition.as_str(), id.paths[0].path), ("http://hl7.org/fhir/SearchParameter/Resource-id", "id"));
    let deceased = FhirVersion::R4.search_parameter(resource_type("Patient"), "deceased").unwrap();
    assert_eq!(deceased.support, ParameterSupport::Deceased);
    let subject = FhirVersion::R4.search_parameter(resource_type("Observation"), "subject").unwrap();
    assert_eq!(subject.targets, ["Device", "Group", "Location", "Patient"].map(resource_type));
    assert_eq!(FhirVersion::R4.search_parameter(resource_type("Observation"), "nothing"), None);
}

#[test]
fn root_elements_have_their_choices_and_mandatory_flags() {
    let elements = FhirVersion::R4.root_elements(resource_type("Observation"));
    let mandatory: BTreeSet<_> = elements.iter().filter(|element| element.is_mandatory).map(|element| element.name).collect();
    assert_eq!(mandatory, BTreeSet::from(["code", "status"]));
    let value = elements.iter().find(|element| element.name == "value").unwrap();
    assert!(value.members.contains(&"valueQuantity") && value.members.contains(&"valueDateTime") && value.members.len() == 11);
    assert!(["id", "meta", "text", "contained"].iter().all(|name| elements.iter().any(|element| element.name == *name)));
}

#[test]
fn every_line_of_every_definition_file_is_parsed() {
    for version in FhirVersion::ALL {
        for resource_type in version.types().iter() {
            let parameters = version.search_parameters(resource_type);
            let codes = version.lines(resource_type).filter_map(|(_, line)| line.strip_prefix('?')?.split(' ').next());
            assert!(parameters.iter().map(|parameter| parameter.code).eq(codes.collect::<BTreeSet<_>>()), "{version} {resource_type}");
            for parameter in &parameters {
                let is_empty = parameter.paths.is_empty();
                assert_eq!(is_empty, parameter.support == ParameterSupport::Unsupported, "{version} {resource_type} {}", parameter.code);
                assert_eq!(version.search_parameter(resource_type, parameter.code).as_ref(), Some(parameter));
            }
            let others = version.lines(resource_type).filter(|(_, line)| !line.starts_with(['?', '.', '@'])).count();
            assert_eq!(others, 0, "{version} {resource_type}");
        }
    }
}

/// Returns the element types that a parameter of this type is compared with (FHIR search, "Search Parameter Types").
fn comparable_types(param_type: SearchParamType) -> &'static [&'static str] {
    match param_type {
        SearchParamType::Token => {
            &["CodeableConcept", "Coding", "ContactPoint", "Identifier", "boolean", "canonical", "code", "id", "string", "uri"]
        }
        SearchParamType::String => &["Address", "HumanName", "markdown", "string"],
        SearchParamType::Reference => &["Reference", "canonical", "uri"],
        SearchParamType::Date => &["Period", "Timing", "date", "dateTime", "instant"],
        SearchParamType::Number => &["Range", "decimal", "integer", "unsignedInt"],
        SearchParamType::Quantity => &["Age", "Duration", "Money", "Quantity", "Range", "SampledData"],
        SearchParamType::Uri => &["canonical", "uri", "url"],
        SearchParamType::Composite | SearchParamType::Special => &[],
    }
}

#[test]
fn a_path_leads_to_a_type_that_the_parameter_is_compared_with() {
    for version in FhirVersion::ALL {
        let parameters = version.types().iter().flat_map(|resource_type| version.search_parameters(resource_type));
        for parameter in parameters.filter(|parameter| parameter.support != ParameterSupport::Deceased) {
            let of_components = parameter.components.iter().map(|part| (part.param_type, &part.paths));
            let own = (parameter.param_type != SearchParamType::Composite).then_some((parameter.param_type, &parameter.paths));
            for (param_type, paths) in of_components.chain(own) {
                for path in paths {
                    assert!(comparable_types(param_type).contains(&path.element_type), "{version} {} {}", parameter.definition, path.path);
                    assert!(!path.path.is_empty() && (path.system.is_none() || path.element_type == "code"));
                }
            }
            let is_composite = parameter.param_type == SearchParamType::Composite && parameter.support == ParameterSupport::Paths;
            assert_eq!(is_composite, parameter.components.len() >= 2, "{version} {}", parameter.definition);
        }
    }
}

/// Formats a parameter as its line in the definition file, without the leading `?` and the canonical URL.
fn definition_line(version: FhirVersion, parameter: &SearchParameter) -> String {
    let paths = |paths: &[ParameterPath]| {
        let one = |path: &ParameterPath| {
            let at = if path.path.is_empty() { "." } else { path.path };
            format!("{at} {}{}", path.element_type, path.system.map(|system| format!(" {system}")).unwrap_or_default())
        };
        paths.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let mut line = format!("{} {}", parameter.code, parameter.param_type.as_str());
    line += match parameter.support {
        ParameterSupport::Paths => "",
        ParameterSupport::Deceased => " !deceased",
        ParameterSupport::Unsupported => " !",
    };
    if !parameter.paths.is_empty() {
        line += &format!(" = {}", paths(&parameter.paths));
    }
    for part in &parameter.components {
        line += &format!(" & {} {} = {}", part.code, part.param_type.as_str(), paths(&part.paths));
    }
    let others = version.types().iter().filter(|target| !parameter.targets.contains(target)).map(|target| format!(" -{target}"));
    match parameter.targets.len() {
        0 => line,
        few if few < 90 => line + " >" + &parameter.targets.iter().map(|target| format!(" {target}")).collect::<String>(),
        _ => line + " > *" + &others.collect::<String>(),
    }
}

#[test]
fn a_parsed_parameter_holds_everything_of_its_line() {
    for version in FhirVersion::ALL {
        for resource_type in version.types().iter() {
            for (_, text) in version.lines(resource_type).filter(|(section, _)| *section == resource_type.as_str()) {
                let Some(text) = text.strip_prefix('?') else { continue };
                let without_definition: Vec<_> = text.split(' ').filter(|word| !word.starts_with('@')).collect();
                let parameter = version.search_parameter(resource_type, without_definition[0]).unwrap();
                assert_eq!(definition_line(version, &parameter), without_definition.join(" "), "{version} {resource_type}");
            }
        }
    }
}
